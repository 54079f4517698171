//! LoRA adapters on the command line: as `--adapter`, as a model of their own, merged, and what is refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Ran, golden, run, sample, vit_gpu};

fn go(arguments: &[&str]) -> Ran {
    run(vit_gpu(arguments).args(["--device", "reference"]))
}

fn at(name: &str) -> String {
    golden(name).to_str().expect("text").to_owned()
}

fn merge(arguments: &[&str]) -> Ran {
    run(&mut vit_gpu([&["merge"], arguments].concat()))
}

fn logits(ran: &Ran) -> Value {
    ran.json_lines()[0]["logits"].clone()
}

/// Scores of an image by a model that is named so.
fn scores(model: &[&str]) -> Value {
    let star = sample("star");
    let image = [&["infer", star.to_str().expect("text"), "--format", "jsonl", "--logits"], model].concat();
    logits(&go(&image).code(0))
}

#[test]
fn an_adapter_is_named_beside_its_model_or_brings_it() {
    let (base, adapter, old) = (at("vit"), at("lora_vit"), at("lora_vit_oldnames"));
    let want = scores(&["-m", &adapter]);
    assert_ne!(want, scores(&["-m", &base]));
    assert_eq!(want, scores(&["-m", &base, "--adapter", &adapter]));
    assert_eq!(want, scores(&["-m", &base, "--adapter", &old]), "the names of transformers 4");
    go(&["verify", "-m", &base, "--adapter", &adapter]).code(0);

    let text = go(&["inspect", "-m", &adapter]).code(0).out;
    assert!(text.contains("rank 4, alpha 8, 4 weights adapted, 2 tensors replaced"), "{text}");
    let json = go(&["inspect", "-m", &base, "--adapter", &adapter, "--format", "json"]).code(0).json();
    assert_eq!(json["checkpoint"]["adapter"]["adapted"], 4, "{json}");
    let json = go(&["inspect", "-m", &base, "--format", "json"]).code(0).json();
    assert_eq!(json["checkpoint"].get("adapter"), None, "{json}");

    go(&["infer", "x.png", "-m", &adapter, "--adapter", &adapter]).code(2).says(&["is an adapter already"]);
    go(&["infer", "x.png", "-m", &base, "--adapter", &base]).code(3).says(&["no adapter_config.json"]);
    let gpt2 = at("lora_gpt2");
    go(&["infer", "x.png", "-m", &base, "--adapter", &gpt2])
        .code(3)
        .says(&["transformer.h.0.attn.c_attn", "is not in"]);
}

#[test]
fn what_is_merged_answers_as_the_adapter_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("merged");
    let merged = out.to_str().expect("text");
    let (base, adapter) = (at("vit"), at("lora_vit"));
    let ran = merge(&["-m", &base, "--adapter", &adapter, "-o", merged]).code(0);
    assert!(ran.out.contains("4 weights merged, 2 tensors replaced"), "{ran:#?}");
    assert_eq!(scores(&["-m", merged]), scores(&["-m", &adapter]));
    let mut files: Vec<String> = names(&out);
    files.sort();
    assert_eq!(files, ["config.json", "model.safetensors", "preprocessor_config.json"]);
    let golden_file = golden("lora_vit").join("golden.safetensors");
    go(&["verify", "-m", merged, "--golden", golden_file.to_str().expect("text")]).code(0);

    merge(&["-m", &adapter, "-o", merged]).code(2).says(&["is there already", "--force"]);
    merge(&["-m", &adapter, "-o", merged, "--force"]).code(0);
    merge(&["-m", &base, "-o", merged]).code(2).says(&["no adapter to merge"]);
    merge(&["-m", merged, "--adapter", &adapter, "-o", merged, "--force"])
        .code(2)
        .says(&["holds what is merged"]);
    let parent = folder.path().to_str().expect("text");
    merge(&["-m", merged, "--adapter", &adapter, "-o", parent, "--force"])
        .code(2)
        .says(&["holds what is merged"]);
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("notes.txt"), "mine").expect("a file");
    merge(&["-m", &adapter, "-o", other.to_str().expect("text"), "--force"])
        .code(2)
        .says(&["no folder of a model"]);
    let nowhere = folder.path().join("no/merged");
    merge(&["-m", &adapter, "-o", nowhere.to_str().expect("text")]).code(1);
    let mut left = names(folder.path());
    left.sort();
    assert_eq!(left, ["merged", "other"], "no draft is left");
}

#[test]
fn models_of_texts_are_merged_with_their_tokenizer() {
    let folder = tempfile::tempdir().expect("a folder");
    let toy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toys/bert-toy-mnli");
    let config: Value =
        serde_json::from_slice(&fs::read(toy.join("config.json")).expect("a file")).expect("JSON");
    let width = usize::try_from(config["hidden_size"].as_u64().expect("a number")).expect("a size");
    // A tensor of another type than the base's, and a head for four classes with names.
    let zeros = |n: usize| vit_gpu::tensor::HostTensor::f32([n], vec![0.5; n]);
    let weight = vit_gpu::tensor::HostTensor::f32([4, width], vec![0.25; 4 * width]);
    let tensors = [
        ("base_model.model.classifier.weight".to_owned(), weight),
        ("base_model.model.classifier.bias".to_owned(), zeros(4)),
    ];
    let adapter = folder.path().join("adapter");
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "modules_to_save": ["classifier"]});
    vit_gpu::checkpoint::lora::save(&adapter, &config, &tensors).expect("it is written");
    let names = json!({"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}});
    fs::write(adapter.join("config.json"), names.to_string()).expect("a file");
    let [toy, adapter] = [&toy, &adapter].map(|path| path.to_str().expect("text"));
    go(&["infer", "--text", "x", "-m", adapter]).code(3).says(&["base_model_name_or_path"]);

    let out = folder.path().join("merged");
    merge(&["-m", toy, "--adapter", adapter, "-o", out.to_str().expect("text")]).code(0);
    let text = ["--text", "Anna is in the park.", "--format", "json"];
    let ask = |model: &[&str]| go(&[&["infer"], &text[..], model].concat()).code(0).json()["results"].clone();
    let merged = ask(&["-m", out.to_str().expect("text")]);
    assert_eq!(merged, ask(&["-m", toy, "--adapter", adapter]));
    assert!(merged.to_string().contains("\"a\""), "{merged}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
