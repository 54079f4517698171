//! `embed` of texts and images, to standard output and to files.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Ran, names, run, scratch, vit_gpu};
use crate::tiny::Tiny;

fn embed(model: &str, more: &[&str]) -> Ran {
    run(vit_gpu(["embed", "-q", "--device", "reference", "-m", model]).args(more))
}

fn vectors(value: &Value) -> Vec<Vec<f64>> {
    let rows = value["results"].as_array().expect("rows").iter();
    let vector = |row: &Value| {
        row["embedding"].as_array().expect("a vector").iter().filter_map(Value::as_f64).collect()
    };
    rows.map(vector).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn texts_pooled_in_every_way() {
    let model = Tiny::new("bert_pretraining");
    let texts = ["--text", "the cat sat.", "--text", "a dog"];
    let all = |more: &[&str]| embed(model.at(), &[&texts[..], more].concat()).code(0).json();
    let mean = all(&[]);
    assert_eq!((&mean["model"]["pool"], &mean["model"]["normalized"]), (&"mean".into(), &false.into()));
    assert_eq!(mean["results"][1]["input"], "a dog");
    assert_eq!(vectors(&mean)[0].len(), 36);
    assert_eq!(vectors(&all(&["--pool", "mean"])), vectors(&mean));
    let others = ["cls", "pooler"].map(|pool| vectors(&all(&["--pool", pool])));
    assert!(others[0] != others[1] && others[0] != vectors(&mean));
    // The pooler ends in a tanh.
    assert!(others[1].iter().flatten().all(|x| x.abs() <= 1.0));
    let unit = vectors(&all(&["--normalize"]));
    for (unit, plain) in unit.iter().zip(&vectors(&mean)) {
        assert!((length(unit) - 1.0).abs() < 1e-6);
        let scale = length(plain);
        assert!(unit.iter().zip(plain).all(|(u, p)| (u * scale - p).abs() < 1e-5 * scale));
    }
    for case in ["gpt2", "t5_v10"] {
        let other = Tiny::new(case);
        embed(other.at(), &["--text", "the cat"]).code(0);
        embed(other.at(), &["--text", "the cat", "--pool", "cls"]).code(2).says(&["--pool mean"]);
    }
    let lines = embed(model.at(), &[&texts[..], &["--format", "jsonl"]].concat()).code(0).json_lines();
    assert_eq!(lines.len(), 2);
    embed(model.at(), &[&texts[..], &["--format", "csv"]].concat())
        .code(2)
        .says(&["json, jsonl, safetensors"]);
    embed(model.at(), &[]).code(2).says(&["no input", "--text"]);
}

#[test]
fn a_file_of_them_as_safetensors() {
    let model = Tiny::new("bert_seqcls");
    let folder = scratch();
    let list = folder.path().join("list.jsonl");
    let lines: Vec<String> =
        (0..7).map(|i| json!({"text": "the cat ".repeat(i % 3 + 1)}).to_string()).collect();
    fs::write(&list, lines.join("\n")).expect("a file");
    let (list, file) = (list.to_str().expect("text"), folder.path().join("e.safetensors"));
    let path = file.to_str().expect("text");
    let ran = embed(model.at(), &["--input", list, "-b", "3", "-o", path]).code(0);
    assert_eq!(ran.out, "");
    let bytes = fs::read(&file).expect("a file");
    let (_, about) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let about = about.metadata().clone().expect("metadata");
    assert_eq!((about["pool"].as_str(), about["normalized"].as_str()), ("mean", "false"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let inputs = tensors.tensor("inputs").expect("a tensor");
    let inputs: Vec<String> = serde_json::from_slice(inputs.data()).expect("a list");
    assert_eq!((inputs.len(), inputs[1].as_str()), (7, "the cat the cat "));
    let tensor = tensors.tensor("embeddings").expect("a tensor");
    assert_eq!(tensor.shape(), [7, 36]);
    let printed = vectors(&embed(model.at(), &["--input", list]).code(0).json());
    let stored: Vec<f32> =
        tensor.data().chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(stored, printed.concat().into_iter().map(|x| x as f32).collect::<Vec<_>>());
    embed(model.at(), &["--input", list, "-o", "/dev/full"]).code(1).says(&["cannot write /dev/full"]);
    let weights = model.file("model.safetensors");
    let ran = embed(model.at(), &["--text", "a", "-o", weights.to_str().expect("text")]).code(2);
    ran.says(&["a file of the model"]);
    assert_eq!(names(folder.path()), ["e.safetensors", "list.jsonl"]);
}

#[test]
fn what_the_folder_says_of_its_embeddings() {
    let model = Tiny::new("bert_seqcls");
    fs::create_dir(model.file("1_Pooling")).expect("a folder");
    let modules = json!([
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
    ]);
    model.write_json("modules.json", &modules);
    let cls = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false});
    model.write_json("1_Pooling/config.json", &cls);
    model.write_json("sentence_bert_config.json", &json!({"max_seq_length": 8}));
    let one = embed(model.at(), &["--text", "the cat"]).code(0).json();
    assert_eq!((&one["model"]["pool"], &one["model"]["limit"]), (&"cls".into(), &8.into()));
    assert!((length(&vectors(&one)[0]) - 1.0).abs() < 1e-6);
    let plain = embed(model.at(), &["--text", "the cat", "--pool", "cls"]).code(0).json();
    assert!((length(&vectors(&plain)[0]) - 1.0).abs() > 1e-3, "a flag stands for itself");
    let long = ["--text", "the cat sat on the mat."];
    let said = run(vit_gpu(["embed", "--device", "reference", "-m", model.at()]).args(long)).code(0);
    let said = said.says(&["texts of more than 8 tokens are cut there, as the model's folder says"]).json();
    let cut = embed(model.at(), &[&long[..], &["--truncate"]].concat()).code(0).json();
    assert_eq!(vectors(&said), vectors(&cut));
    assert_eq!(
        vectors(&cut),
        vectors(&embed(model.at(), &["--text", "the cat sat on the mat"]).code(0).json())
    );

    // The mean is on unless it is switched off, and modes are joined.
    model.write_json("1_Pooling/config.json", &json!({"pooling_mode_max_tokens": true}));
    let joined = embed(model.at(), &["--text", "the cat"]).code(0).json();
    assert_eq!((&joined["model"]["pool"], vectors(&joined)[0].len()), (&"max+mean".into(), 72));
    model.write_json("1_Pooling/config.json", &json!({"pooling_mode_gru": true}));
    embed(model.at(), &["--text", "a"]).code(3).says(&["pooling_mode_gru", "--pool"]);
    model.write("1_Pooling/config.json", "{");
    embed(model.at(), &["--text", "a"]).code(3).says(&["1_Pooling", "not valid JSON", "--pool"]);
    embed(model.at(), &["--text", "a", "--pool", "mean"]).code(0);
}

#[test]
fn what_the_folder_says_of_its_texts() {
    let model = Tiny::new("bert_seqcls");
    fs::create_dir(model.file("1_Pooling")).expect("a folder");
    let modules = json!([
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
    ]);
    let plain = |text: &str| vectors(&embed(model.at(), &["--text", text]).code(0).json()).remove(0);
    let expected = ["the dog a cat", "a cat"].map(plain);
    let small = plain("who is it");
    model.write_json("tokenizer_config.json", &json!({"do_lower_case": false}));
    assert_ne!(plain("WHO is it"), small);

    model.write_json("modules.json", &modules);
    model.write_json("1_Pooling/config.json", &json!({"pooling_mode": "mean"}));
    model.write_json("sentence_roberta_config.json", &json!({"max_seq_length": 9, "do_lower_case": true}));
    assert_eq!(plain("WHO is it"), small);
    let prompts = json!({"query": "the dog ", "passage": ""});
    let config = json!({"prompts": prompts, "default_prompt_name": "query", "truncate_dim": 8});
    model.write_json("config_sentence_transformers.json", &config);
    assert_eq!(plain("a cat"), expected[0][..8]);
    let named = |name: &str| {
        vectors(&embed(model.at(), &["--text", "a cat", "--prompt-name", name]).code(0).json()).remove(0)
    };
    assert_eq!(named("passage"), expected[1][..8]);
    assert_eq!(named(""), expected[1][..8]);
    embed(model.at(), &["--text", "a", "--prompt-name", "other"]).code(2).says(&["`other`", "`passage`"]);
    let said = run(&mut vit_gpu(["embed", "--device", "reference", "-m", model.at(), "--text", "a"])).code(0);
    said.says(&["behind the prompt `query`"]);

    // [CLS] the dog | a cat [SEP]: the prompt is left out of the mean, and joined modes are as apart.
    model.write_json("config_sentence_transformers.json", &json!({"prompts": prompts}));
    let modes = json!({"pooling_mode": ["mean", "lasttoken"], "include_prompt": false});
    model.write_json("1_Pooling/config.json", &modes);
    let without = named("passage");
    let near =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near(&without[..36], &expected[1]), "{without:?}");
    let with = named("query");
    assert!(!near(&with[..36], &expected[0]) && !near(&with[..36], &expected[1]));

    let before =
        json!([modules[0], {"type": "sentence_transformers.models.Dense", "path": "1_Pooling"}, modules[1]]);
    model.write_json("modules.json", &before);
    embed(model.at(), &["--text", "a"]).code(3).says(&["Dense", "before the pooling", "--pool"]);
}

#[test]
fn images() {
    let (star, heart) = ("assets/samples/star.png", "assets/samples/heart.png");
    let all = |more: &[&str]| embed("tests/golden/vit", &[&[star, heart][..], more].concat()).code(0).json();
    let plain = all(&[]);
    assert_eq!(plain["results"][1]["input"], heart);
    assert_eq!(plain["model"]["pool"], "embedding");
    assert_eq!(vectors(&plain), vectors(&all(&["-b", "1"])));
    let means = vectors(&all(&["--pool", "mean"]));
    assert!(means != vectors(&plain) && vectors(&all(&["--pool", "cls"])) != means);
    assert!((length(&vectors(&all(&["--normalize"]))[0]) - 1.0).abs() < 1e-6);
    embed("tests/golden/vit", &[star, "--pool", "pooler"]).code(2).says(&["pooler_output"]);
    embed("tests/golden/siglip_vision", &[star, "--pool", "cls"]).code(2).says(&["no class token"]);
    let ran = embed("tests/golden/vit", &[star, "nope.png", heart]).code(1);
    let rows = ran.says(&["nope.png"]).json()["results"].clone();
    assert!(
        rows[1]["error"].is_string() && rows[1].get("embedding").is_none() && rows[2]["embedding"].is_array()
    );
    // The same as `infer --embeddings` writes.
    let folder = scratch();
    let file = folder.path().join("e.safetensors");
    let path = file.to_str().expect("text");
    crate::harness::infer(["-q", "-m", "tests/golden/vit", star, heart, "--embeddings", path]).code(0);
    let bytes = fs::read(&file).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let data = tensors.tensor("embedding").expect("a tensor").data().to_vec();
    let stored: Vec<f32> = data.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(stored, vectors(&plain).concat().into_iter().map(|x| x as f32).collect::<Vec<_>>());
}
