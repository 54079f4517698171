//! `generate` with models that write, `inspect` of all models of texts.

use std::fs;

use serde_json::Value;

use crate::harness::{Ran, go, names, run, scratch, vit_gpu};
use crate::tiny::Tiny;

fn write(model: &Tiny, more: &[&str]) -> Ran {
    run(vit_gpu(["generate", "-q", "--device", "reference", "-m", model.at()]).args(more))
}

#[test]
fn text_comes_to_standard_output_and_whole_to_a_file() {
    let model = Tiny::new("gpt2");
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let flags = ["--prompt", "the cat", "-n", "12"];
    let ran = write(&model, &flags).code(0);
    assert!(ran.out.ends_with('\n') && !ran.out.contains("the cat\n"), "{ran:?}");
    assert_eq!(write(&model, &flags).out, ran.out, "the likeliest tokens, always");
    fs::write(at("p.txt"), "\u{feff}the cat\r\n").expect("a file");
    assert_eq!(write(&model, &["--prompt-file", &at("p.txt"), "-n", "12"]).code(0).out, ran.out);
    let mut piped = vit_gpu([
        "generate",
        "-q",
        "--device",
        "reference",
        "-m",
        model.at(),
        "--prompt-file",
        "-",
        "-n",
        "12",
    ]);
    let piped = run(piped.stdin(fs::File::open(at("p.txt")).expect("a file"))).code(0);
    assert_eq!(piped.out, ran.out);

    let txt = write(&model, &[&flags[..], &["-o", &at("a.txt")]].concat()).code(0);
    assert_eq!(txt.out, "", "quiet: only the file");
    assert_eq!(fs::read_to_string(at("a.txt")).expect("a file"), ran.out);
    write(&model, &[&flags[..], &["-o", &at("a.json")]].concat()).code(0);
    let json: Value = serde_json::from_slice(&fs::read(at("a.json")).expect("a file")).expect("JSON");
    let sample = &json["samples"][0];
    assert_eq!(format!("{}\n", sample["text"].as_str().expect("text")), ran.out);
    assert_eq!((&json["prompt"], &json["timing_ms"]["prompt_tokens"]), (&"the cat".into(), &2.into()));
    let ids = sample["ids"].as_array().expect("ids").len();
    assert!(ids == 12 && sample["ended"] == "length" || sample["ended"] == "end token", "{json}");
    assert!(json.get("seed").is_none() && json.get("temperature").is_none(), "{json}");
    let stats = write(&model, &[&flags[..], &["--stats"]].concat()).code(0);
    assert_eq!(stats.out, ran.out);
    stats.says(&["tokens; prompt of 2 in", "first token after", "tokens/s"]);
    assert_eq!(names(folder.path()), ["a.json", "a.txt", "p.txt"]);
}

#[test]
fn chance_seeds_and_samples() {
    let model = Tiny::new("gpt2");
    let flags = ["--prompt", "the cat", "-n", "10", "--temperature", "1.5"];
    let seeded = |seed: &str| write(&model, &[&flags[..], &["--seed", seed]].concat()).code(0).out;
    assert_eq!(seeded("7"), seeded("7"));
    assert_ne!(seeded("7"), seeded("8"));
    let three = write(&model, &[&flags[..], &["--seed", "7", "--samples", "3"]].concat()).code(0).out;
    assert!(three.starts_with(&format!("--- 1 of 3\n{}--- 2 of 3\n", seeded("7"))), "{three}");
    assert!(three.contains("--- 3 of 3\n"), "{three}");
    write(&model, &["--prompt", "a", "--samples", "2"]).code(2).says(&["the same", "--temperature 1"]);
    let note = go([
        "generate",
        "--device",
        "reference",
        "-m",
        model.at(),
        "--prompt",
        "a",
        "-n",
        "1",
        "--top-k",
        "3",
    ]);
    note.code(0).says(&["note: seed ", "writes the same again"]);
    let note = go([
        "generate",
        "--device",
        "reference",
        "-m",
        model.at(),
        "--prompt",
        "a",
        "-n",
        "1",
        "--seed",
        "3",
    ]);
    note.code(0).says(&["--seed changes nothing"]);
}

#[test]
fn a_search_for_the_likeliest_text() {
    for case in ["gpt2", "t5_v10"] {
        let model = Tiny::new(case);
        let folder = scratch();
        let file = folder.path().join("a.json");
        let flags = [
            "--prompt",
            "the cat",
            "-n",
            "8",
            "--beams",
            "4",
            "--samples",
            "2",
            "-o",
            file.to_str().expect("text"),
        ];
        write(&model, &flags).code(0);
        let json: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
        assert_eq!((&json["beams"], &json["length_penalty"]), (&4.into(), &1.0.into()), "{json}");
        let scores: Vec<f64> =
            json["samples"].as_array().expect("two").iter().filter_map(|s| s["score"].as_f64()).collect();
        assert!(scores.len() == 2 && scores[0] >= scores[1] && scores[0] < 0.0, "{json}");
        let shown =
            write(&model, &["--prompt", "the cat", "-n", "8", "--beams", "4", "--samples", "2"]).code(0).out;
        let expected = json["samples"][0]["text"].as_str().expect("text");
        assert!(shown.starts_with(&format!("--- 1 of 2\n{expected}\n--- 2 of 2\n")), "{shown}");
        // One beam is the likeliest token each time.
        let greedy = write(&model, &["--prompt", "the cat", "-n", "8"]).code(0).out;
        assert_eq!(write(&model, &["--prompt", "the cat", "-n", "8", "--beams", "1"]).code(0).out, greedy);
    }
    let model = Tiny::new("gpt2");
    write(&model, &["--prompt", "a", "--beams", "2", "--samples", "3"]).code(2).says(&["as many --beams"]);
    write(&model, &["--prompt", "a", "--beams", "2", "--temperature", "1"]).code(2).says(&["--temperature"]);
    for bad in [
        &["--beams", "0"][..],
        &["--beams", "33"],
        &["--beams", "2", "--length-penalty", "NaN"],
        &["--length-penalty", "1"],
    ] {
        write(&model, &[&["--prompt", "a"][..], bad].concat()).code(2);
    }
}

#[test]
fn a_text_ends_before_what_stops_it() {
    let model = Tiny::new("gpt2");
    let folder = scratch();
    let file = folder.path().join("a.json");
    let path = file.to_str().expect("text");
    let whole = write(&model, &["--prompt", "the cat", "-n", "20"]).code(0).out;
    let letters: Vec<char> = whole.trim_end().chars().collect();
    let stop: String = letters[3..5].iter().collect();
    let at = whole.find(&stop).expect("it is a part");
    let ran =
        write(&model, &["--prompt", "the cat", "-n", "20", "--stop", "zzz", "--stop", &stop, "-o", path]);
    ran.code(0);
    let json: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!(json["samples"][0]["text"], whole[..at]);
    assert_eq!((&json["samples"][0]["ended"], &json["samples"][0]["stop"]), (&"stop".into(), &stop.into()));
    write(&model, &["--prompt", "a", "--stop", ""]).code(2).says(&["stop text is empty"]);
}

#[test]
fn t5_answers_and_fills_spans() {
    for case in ["t5_v10", "t5_v11"] {
        let model = Tiny::new(case);
        let prompt = ["--prompt", "the <extra_id_0> sat on <extra_id_1> mat", "-n", "30"];
        let plain = write(&model, &prompt).code(0).out;
        let special = write(&model, &[&prompt[..], &["--keep-special"]].concat()).code(0).out;
        assert!(!plain.contains("</s>") && special.len() >= plain.len(), "{plain}\n{special}");
        write(&model, &["--prompt", ""]).code(0);
    }
}

#[test]
fn inspect_shows_models_of_texts() {
    let inspect = |model: &Tiny, more: &[&str]| {
        run(vit_gpu(["inspect", "--device", "reference", "-m", model.at()]).args(more)).code(0)
    };
    let bert = Tiny::new("bert_seqcls");
    let text = inspect(&bert, &[]).out;
    for part in [
        "(bert, BertForSequenceClassification), encoder",
        "tasks          classify\n",
        "structure      2 layers, width 36, 3 heads, MLP 76",
        "vocabulary     101 tokens, 40 positions, 2 segments",
        "parameters     ",
        "classes        3 (configuration): entailment, neutral, contradiction",
        "vocab.txt, 101 tokens",
        "[MASK] 4",
        "outputs        hidden.0 to hidden.2",
        "pass           ",
        "batch          1 text of 40 tokens, for logits",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let gpt2 = Tiny::new("gpt2");
    let text = inspect(&gpt2, &["-b", "2"]).out;
    for part in [
        "decoder\n",
        "tasks          write",
        "<|endoftext|> 96",
        "\nprompt ",
        "\ntoken ",
        "; must read ",
        "2 samples",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let t5 = Tiny::new("t5_v10");
    t5.remove("tokenizer.json");
    let text = inspect(&t5, &[]).out;
    assert!(text.contains("relative positions") && text.contains("2 layers and 2 of the decoder"), "{text}");
    assert!(text.contains("tokenizer      none: "), "{text}");
    let json = inspect(&t5, &["--format", "json"]).json();
    assert_eq!((&json["kind"], &json["structure"]["decoder_layers"]), (&"encoder-decoder".into(), &2.into()));
    assert!(json.get("tokenizer").is_none());
    let json = inspect(&bert, &["--format", "json", "--outputs", "mean"]).json();
    assert_eq!(json["tokenizer"]["special"]["mask"], serde_json::json!({"token": "[MASK]", "id": 4}));
    assert_eq!(json["plans"].as_array().map(Vec::len), Some(1));
    assert!(inspect(&bert, &["--graph", "dot"]).out.starts_with("digraph"));
    let plans = inspect(&gpt2, &["--plan"]).out;
    assert!(plans.starts_with("# prompt: 24 tokens") && plans.contains("\n# token: "), "{plans}");
    let wrong =
        run(&mut vit_gpu(["inspect", "--device", "reference", "-m", bert.at(), "--image-size", "64"]));
    wrong.code(2).says(&["--image-size is for models of images"]);
}
