//! Bad texts, bad tokenizers, models and flags that do not belong together: rows T1 to T3, R1, R2 and C of
//! the bad-input list, for commands on texts.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Ran, go, names, run, scratch, vit_gpu};
use crate::tiny::Tiny;

fn reference(model: &Tiny, command: &str, more: &[&str]) -> Ran {
    run(vit_gpu([command, "-q", "--device", "reference", "-m", model.at()]).args(more))
}

/// T1: tokenizers that are missing, damaged, or of another model.
#[test]
fn tokenizers_that_cannot_be_used() {
    type Spoil = fn(&Tiny);
    let cases: [(Spoil, &[&str]); 5] = [
        (|m| m.remove("tokenizer.json"), &["vocab.json"]),
        (|m| m.write("tokenizer.json", "{"), &["tokenizer.json", "not valid JSON"]),
        (|m| m.write("tokenizer.json", "[]"), &["tokenizer.json"]),
        (
            |m| m.write("tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}"),
            &["tokenizer.json", "empty"],
        ),
        (|m| m.edit("tokenizer.json", |t| t["model"]["vocab"]["a"] = json!(-1)), &["tokenizer.json"]),
    ];
    for (spoil, says) in cases {
        let model = Tiny::new("gpt2");
        spoil(&model);
        for (command, flags) in [
            ("generate", &["--prompt", "the cat"][..]),
            ("infer", &["--perplexity", "--text", "the cat"]),
            ("embed", &["--text", "the cat"]),
        ] {
            let ran = reference(&model, command, flags).code(3).says(says);
            assert_eq!((ran.out.as_str(), ran.err.matches("error: ").count()), ("", 1), "{ran:#?}");
        }
    }
    // A tokenizer of more tokens than the model has: texts with the others are refused, by name.
    let model = Tiny::new("gpt2");
    let more = |t: &mut Value| {
        t["model"]["vocab"]["Z"] = json!(97);
    };
    model.edit("tokenizer.json", more);
    let ran = run(vit_gpu([
        "generate",
        "--device",
        "reference",
        "-m",
        model.at(),
        "-n",
        "2",
        "--prompt",
        "the cat",
    ])
    .args(["--stats"]));
    ran.code(0).says(&["warning: the tokenizer has 98 tokens, the model 97"]);
    for (command, flags) in [
        ("generate", &["--prompt", "Z"][..]),
        ("infer", &["--perplexity", "--text", "the Z cat"]),
        ("embed", &["--text", "Z"]),
    ] {
        reference(&model, command, flags).code(2).says(&["token 97 of a vocabulary of 97", "another model"]);
    }
}

/// T2: too long, empty, awkward.
#[test]
fn texts_that_are_too_long_are_refused_or_cut() {
    let long = "the cat sat on the mat. ".repeat(20);
    let bert = Tiny::new("bert_seqcls");
    for (command, flags) in [
        ("infer", &["--text", &long][..]),
        ("infer", &["--text", "a", "--pair", &long]),
        ("embed", &["--text", &long]),
    ] {
        reference(&bert, command, flags).code(2).says(&["tokens, the model takes 40", "--truncate"]);
        reference(&bert, command, &[flags, &["--truncate"]].concat()).code(0);
    }
    let mlm = Tiny::new("bert_mlm");
    let masked = format!("[MASK] {long}");
    reference(&mlm, "infer", &["--text", &masked]).code(2).says(&["takes 40"]);
    reference(&mlm, "infer", &["--text", &masked, "--truncate"]).code(0);
    // What is cut may be the mask.
    reference(&mlm, "infer", &["--text", &format!("{long} [MASK]"), "--truncate"]).code(2).says(&["no mask"]);

    let gpt2 = Tiny::new("gpt2");
    reference(&gpt2, "generate", &["--prompt", &long])
        .code(2)
        .says(&["tokens, the model takes 48", "--truncate"]);
    let cut = reference(&gpt2, "generate", &["--prompt", &long, "--truncate", "-n", "8"]).code(0).out;
    assert!(cut.trim_end().chars().count() >= 1);
    reference(&gpt2, "generate", &["--prompt", "the cat", "-n", "48"])
        .code(2)
        .says(&["2 tokens of prompt and 48", "47 at most"]);
    reference(&gpt2, "generate", &["--prompt", "the cat", "-n", "47"]).code(0);
    let labels = ["--labels", "yes,no", "--template", "{text} {label}"];
    reference(&gpt2, "infer", &[&labels[..], &["--text", &long]].concat()).code(2).says(&["takes 48"]);
    reference(&gpt2, "infer", &[&labels[..], &["--text", &long, "--truncate"]].concat()).code(0);
    // T5 has no places to run out of.
    let t5 = Tiny::new("t5_v10");
    reference(&t5, "generate", &["--prompt", &long, "-n", "2"]).code(0);
}

#[test]
fn empty_and_awkward_texts() {
    let (bert, gpt2, t5) = (Tiny::new("bert_seqcls"), Tiny::new("gpt2"), Tiny::new("t5_v10"));
    // What an encoder puts around a text is a text; a decoder begins behind its end token.
    reference(&bert, "infer", &["--text", ""]).code(0);
    reference(&gpt2, "generate", &["--prompt", "", "-n", "3"]).code(0);
    reference(&t5, "generate", &["--prompt", "", "-n", "3"]).code(0);
    reference(&gpt2, "embed", &["--text", ""]).code(2).says(&["empty"]);
    reference(&gpt2, "infer", &["--perplexity", "--text", ""]).code(2).says(&["less than two tokens"]);

    let folder = scratch();
    let file = folder.path().join("a.jsonl");
    let texts =
        ["a\0b", "e\u{301}\u{200b}", "👩‍👩‍👧🦀", "\r\n\t", "\u{202e}x", "[MASK] </s> <|endoftext|>", "\u{1b}[2J"];
    let lines: Vec<String> = texts.iter().map(|t| json!({"text": t}).to_string()).collect();
    fs::write(&file, lines.join("\r\n")).expect("a file");
    let path = file.to_str().expect("text");
    for format in ["text", "json", "jsonl", "csv"] {
        let out = reference(&bert, "infer", &["--input", path, "--format", format]).code(0).out;
        assert!(format != "text" || !out.contains(['\u{1b}', '\0', '\u{202e}']), "{out}");
    }
    let rows = reference(&bert, "embed", &["--input", path]).code(0).json()["results"].clone();
    for (row, text) in rows.as_array().expect("rows").iter().zip(texts) {
        assert_eq!(row["input"], text);
    }
    let prompt = folder.path().join("prompt");
    fs::write(&prompt, "the\0cat 🦀\n").expect("a file");
    reference(&gpt2, "generate", &["--prompt-file", prompt.to_str().expect("text"), "-n", "3"]).code(0);
}

#[test]
fn a_text_of_a_megabyte() {
    let folder = scratch();
    let file = folder.path().join("long.txt");
    fs::write(&file, "the cat sat on the mat ".repeat(46_000)).expect("a file");
    let path = file.to_str().expect("text");
    let (gpt2, qa) = (Tiny::new("gpt2"), Tiny::new("bert_qa"));
    let start = Instant::now();
    reference(&gpt2, "generate", &["--prompt-file", path]).code(2).says(&["the model takes 48"]);
    reference(&gpt2, "generate", &["--prompt-file", path, "--truncate", "-n", "2"]).code(0);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let line = json!({"text": fs::read_to_string(&file).expect("a file")}).to_string();
    let list = folder.path().join("a.jsonl");
    fs::write(&list, format!("{line}\n{{\"text\":\"the cat\"}}\n")).expect("a file");
    let ran = reference(
        &Tiny::new("bert_seqcls"),
        "infer",
        &["--input", list.to_str().expect("text"), "--format", "jsonl"],
    )
    .code(1);
    let rows = ran.says(&["line 1", "--truncate"]).json_lines();
    assert!(rows[0]["error"].is_string() && rows[1]["predictions"].is_array());
    reference(&qa, "infer", &["--question", "who?", "--context-file", "/proc/self/mem"]).code(1);
}

/// T2: what is not UTF-8.
#[test]
fn bytes_that_are_no_text() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    fs::write(at("p"), b"the \xff cat").expect("a file");
    fs::write(at("a.jsonl"), b"{\"text\":\"the cat\"}\n{\"text\":\"\xed\xa0\x80\"}\n{\"text\":\"a\"}\n")
        .expect("a file");
    fs::write(at("b.jsonl"), "{\"text\":\"the cat\"}\n{\"text\":\"\\ud800\"}\n").expect("a file");
    let (bert, gpt2, qa) = (Tiny::new("bert_seqcls"), Tiny::new("gpt2"), Tiny::new("bert_qa"));
    reference(&gpt2, "generate", &["--prompt-file", &at("p")]).code(1).says(&["byte 5 (0xff) is not UTF-8"]);
    reference(&qa, "infer", &["--question", "a", "--context-file", &at("p")])
        .code(1)
        .says(&["byte 5 (0xff)"]);
    for (list, says) in [("a.jsonl", "not UTF-8"), ("b.jsonl", "not valid JSON")] {
        let ran = reference(&bert, "infer", &["--input", &at(list), "--format", "json"])
            .code(1)
            .says(&["line 2", says]);
        // What was answered before is not lost, and nothing is answered behind a line that is left out.
        assert_eq!(ran.json()["results"].as_array().map(Vec::len), Some(1));
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let bad = std::ffi::OsStr::from_bytes(b"the \xff cat");
        for (command, flag) in
            [("infer", "--text"), ("embed", "--text"), ("generate", "--prompt"), ("infer", "--question")]
        {
            let mut ran = vit_gpu([command, "--device", "reference", "-m", gpt2.at(), flag]);
            run(ran.arg(bad)).code(2).says(&["UTF-8"]);
        }
    }
}

#[test]
fn lists_that_cannot_be_read() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    fs::write(at("a.csv"), "id,txt\n1,a\n").expect("a file");
    fs::write(at("a.txt"), "a\n").expect("a file");
    fs::create_dir(at("d.jsonl")).expect("a folder");
    fs::write(at("none.jsonl"), "").expect("a file");
    let bert = Tiny::new("bert_seqcls");
    for (name, says) in [
        ("a.csv", "no column `text`"),
        ("a.txt", ".jsonl, .csv or .tsv"),
        ("d.jsonl", "not a regular file"),
        ("nope.jsonl", "cannot be read"),
    ] {
        for command in ["infer", "embed"] {
            reference(&bert, command, &["--input", &at(name)]).code(1).says(&[name, says]);
        }
    }
    let none = reference(&bert, "infer", &["--input", &at("none.jsonl"), "--format", "json"]).code(0).json();
    assert_eq!(none["results"], json!([]));
    let ran = reference(&bert, "embed", &["--input", &at("none.jsonl"), "-o", &at("e.safetensors")]).code(0);
    assert!(ran.out.is_empty() && !Path::new(&at("e.safetensors")).exists());
    let same = reference(&bert, "generate", &["--prompt-file", &at("a.txt"), "-o", &at("a.txt")]).code(2);
    same.says(&["would replace an input"]);
}

/// R1: settings beyond their ranges.
#[test]
fn numbers_beyond_their_ranges() {
    let model = Tiny::new("gpt2");
    let cases: [&[&str]; 13] = [
        &["--temperature", "-1"],
        &["--temperature", "NaN"],
        &["--temperature", "1e9"],
        &["--top-p", "0"],
        &["--top-p", "1.5"],
        &["--top-k", "-1"],
        &["--seed", "-1"],
        &["--seed", "18446744073709551616"],
        &["-n", "0"],
        &["-n", "-3"],
        &["--samples", "0"],
        &["--samples", "65"],
        &["-n", "99999999"],
    ];
    for case in cases {
        let ran = reference(&model, "generate", &[&["--prompt", "a"], case].concat()).code(2);
        assert_eq!((ran.out.as_str(), ran.err.matches("error: ").count()), ("", 1), "{case:?} {ran:#?}");
    }
    let max = [
        "--prompt",
        "the",
        "-n",
        "3",
        "--temperature",
        "100",
        "--top-k",
        "4294967295",
        "--seed",
        "18446744073709551615",
    ];
    reference(&model, "generate", &max).code(0);
    let greedy =
        reference(&model, "generate", &["--prompt", "the", "-n", "5", "--temperature", "0"]).code(0).out;
    assert_eq!(reference(&model, "generate", &["--prompt", "the", "-n", "5"]).out, greedy);
    assert_eq!(reference(&model, "generate", &["--prompt", "the", "-n", "5", "--top-k", "1"]).out, greedy);
}

/// R3: scores that are no numbers.
#[test]
fn scores_that_are_no_numbers() {
    let folder = scratch();
    for (case, tensor, command, flags) in [
        ("bert_seqcls", "classifier.bias", "infer", &["--text", "the cat"][..]),
        ("gpt2", "transformer.ln_f.bias", "generate", &["--prompt", "the cat"]),
        ("gpt2", "transformer.ln_f.bias", "generate", &["--prompt", "the cat", "--beams", "2"]),
        ("gpt2", "transformer.ln_f.bias", "embed", &["--text", "the cat"]),
    ] {
        let model = Tiny::new(case);
        let file = model.file("model.safetensors");
        let mut bytes = fs::read(&file).expect("a file");
        let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let json: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("a header");
        let at = json[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize + 8 + header;
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&file, bytes).expect("a file");
        let out = folder.path().join(if command == "embed" { "e.safetensors" } else { "a.txt" });
        let out = out.to_str().expect("text");
        let more = if command == "infer" { &[][..] } else { &["-o", out] };
        reference(&model, command, &[flags, more].concat()).code(6).says(&["not finite"]);
        assert!(names(folder.path()).is_empty());
        // Scores are looked at before anything is printed.
        assert_eq!(reference(&model, command, flags).code(6).out, "", "{case} {command}");
    }
}

/// C3, C5: standard output that is closed or full.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_takes_nothing() {
    let (bert, gpt2) = (Tiny::new("bert_seqcls"), Tiny::new("gpt2"));
    let full = || fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    for (command, model, flags) in [
        ("infer", &bert, &["--text", "a"][..]),
        ("infer", &bert, &["--text", "a", "--format", "json"]),
        ("embed", &bert, &["--text", "a"]),
        ("generate", &gpt2, &["--prompt", "the cat"]),
        ("generate", &gpt2, &["--prompt", "the cat", "--samples", "2", "--top-k", "3"]),
    ] {
        let ran = || {
            let mut ran = vit_gpu([command, "-q", "--device", "reference", "-m", model.at()]);
            ran.args(flags);
            ran
        };
        run(ran().stdout(full())).code(1).says(&["error: write error: No space left on device"]);
        let mut child = ran().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{command} {flags:?}"
        );
    }
    reference(&gpt2, "generate", &["--prompt", "a", "-o", "/dev/full"])
        .code(1)
        .says(&["cannot write /dev/full"]);
    let folder = scratch();
    let nowhere = folder.path().join("no/a.txt");
    reference(&gpt2, "generate", &["--prompt", "a", "-o", nowhere.to_str().expect("text")])
        .code(1)
        .says(&["no folder"]);
    go(["generate", "-m", gpt2.at(), "--prompt", "a", "-o", "a.png"]).code(2).says(&[".txt or .json"]);
}

/// C4: Ctrl-C in the middle.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_no_half_of_a_file() {
    use std::io::Read as _;
    let folder = scratch();
    let t5 = Tiny::new("t5_v10");
    // It never ends by itself.
    t5.edit("config.json", |c| c["eos_token_id"] = json!(99));
    let file = folder.path().join("a.txt");
    let mut command =
        vit_gpu(["generate", "--device", "reference", "-m", t5.at(), "--prompt", "the cat", "-n", "65536"]);
    let mut child = command
        .args(["-o", file.to_str().expect("text")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    while names(folder.path()).is_empty() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(names(folder.path())[0].ends_with(".tmp"), "the draft is there meanwhile");
    let mut err = child.stderr.take().expect("a pipe");
    let (code, took) = crate::conduct::interrupt(child);
    assert_eq!(code, Some(130));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(names(folder.path()).is_empty());
    let mut said = String::new();
    err.read_to_string(&mut said).expect("standard error");
    assert!(!said.contains("panicked"), "{said}");
}
