//! Group R for generation: extreme settings that are allowed, primers and outputs that cannot be used,
//! models that are damaged or do not belong together. `generate.rs` holds the table of flags.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Ran, golden, names, run, scratch, vit_gpu};

const LLAMAGEN: &str = "tests/golden/llamagen";

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn generate(model: &str, more: &[&str]) -> Ran {
    run(vit_gpu(["generate", "--device", "reference", "-m", model]).args(more))
}

#[test]
fn r1_extreme_settings_still_draw() {
    let folder = scratch();
    let file = folder.path().join("t.json");
    let tokens = |more: &[&str]| -> Value {
        generate(LLAMAGEN, &[&["--class", "3", "--tokens", text(&file)], more].concat()).code(0);
        let json: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
        json["samples"][0]["tokens"].clone()
    };
    let greedy = tokens(&["--temperature", "0", "--cfg-scale", "1"]);
    let seeds = ["0", "1", "18446744073709551615"].map(|seed| tokens(&["--seed", seed]));
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2] && seeds[0] != seeds[2]);
    for least in [&["--top-p", "1e-30"][..], &["--temperature", "1e-30"], &["--top-k", "1"]] {
        assert_eq!(tokens(&[least, &["--seed", "0", "--cfg-scale", "1"]].concat()), greedy, "{least:?}");
    }
    for most in [
        &["--temperature", "100"][..],
        &["--top-k", "4294967295"],
        &["--cfg-scale", "100"],
        &["--cfg-scale", "0", "--cfg-schedule", "linear"],
        &["--temperature", "100", "--cfg-scale", "100", "--top-p", "1"],
    ] {
        let drawn = tokens(&[most, &["--seed", "18446744073709551615"]].concat());
        assert_eq!(drawn.as_array().map(Vec::len), Some(4), "{most:?}: {drawn}");
    }
}

#[test]
fn r2_primers_that_cannot_be_used() {
    let folder = scratch();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let star = fs::read("assets/samples/star.png").expect("an image");
    fs::write(at("cut.png"), &star[..star.len() / 2]).expect("a file");
    fs::write(at("text.png"), "no image at all").expect("a file");
    fs::create_dir(at("folder.png")).expect("a folder");
    let before = names(folder.path());
    for (primer, says) in [
        ("cut.png", "cut.png"),
        ("text.png", "text.png"),
        ("folder.png", "folder.png"),
        ("none.png", "cannot be read"),
    ] {
        let ran =
            generate(LLAMAGEN, &["--init-image", &at(primer), "--keep-rows", "1", "-o", &at("out.png")]);
        ran.code(1).says(&["error: ", says]);
        assert_eq!(names(folder.path()), before, "{primer}");
    }
    // As many rows as there are, or more, leave nothing to draw.
    for keep in ["4", "5", "18446744073709551615"] {
        let ran = generate(
            LLAMAGEN,
            &["--init-image", "assets/samples/star.png", "--keep-rows", keep, "-o", &at("out.png")],
        );
        ran.code(2).says(&["rows to keep", "keep 1 to 3"]);
    }
    assert_eq!(names(folder.path()), before);
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = scratch();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    fs::create_dir(at("dir.png")).expect("a folder");
    fs::write(at("file"), "mine").expect("a file");
    let (inside, file) = (at("file/x.png"), at("file"));
    let before = names(folder.path());
    let dir = at("dir.png");
    // What is no name for it is a wrong command line; a place that cannot be written is not.
    let cases: [(&[&str], i32); 7] = [
        (&["-o", ""], 2),
        (&["-o", &inside], 1),
        (&["-o", "/proc/vit-gpu.png"], 1),
        (&["--animate", &dir], 1),
        (&["--entropy", &dir], 1),
        (&["--tokens", &dir], 2),
        (&["--frames-dir", &file], 1),
    ];
    for (case, code) in cases {
        let ran = generate(LLAMAGEN, &[&["--class", "1"], case].concat()).code(code).says(&["error: "]);
        assert_eq!(ran.err.matches("error: ").count(), 1, "{case:?}: {ran:#?}");
        assert_eq!(names(folder.path()), before, "{case:?}");
        assert_eq!(fs::read(&file).expect("a file"), b"mine");
    }
    // A folder that is there already is one for -o, whatever its name and with `/` or without.
    generate(LLAMAGEN, &["--class", "1", "-o", &dir]).code(0);
    assert_eq!(names(Path::new(&dir)), ["0-LABEL-1.png"]);
}

/// A copy of a golden model that a case may spoil.
fn copy(case: &str, to: &Path) -> PathBuf {
    let model = to.join("model");
    fs::create_dir(&model).expect("a folder");
    for entry in fs::read_dir(golden(case)).expect("a case").flatten() {
        if entry.file_name() != "golden.safetensors" {
            fs::copy(entry.path(), model.join(entry.file_name())).expect("a copy");
        }
    }
    model
}

fn edit(file: &Path, change: impl Fn(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    change(&mut json);
    fs::write(file, json.to_string()).expect("a file");
}

#[test]
fn models_that_are_damaged_or_do_not_belong_together() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &[&str]); 9] = [
        (
            "llamagen",
            |m| fs::remove_file(m.join("vq.safetensors")).expect("a file"),
            &["vq.safetensors", "missing"],
        ),
        ("llamagen", |m| fs::remove_file(m.join("gpt.safetensors")).expect("a file"), &["model"]),
        ("llamagen", |m| truncate(&m.join("gpt.safetensors")), &["gpt.safetensors"]),
        ("llamagen", |m| truncate(&m.join("vq.safetensors")), &["vq.safetensors"]),
        ("llamagen", |m| edit(&m.join("config.json"), |c| c["block_size"] = json!(17)), &["`block_size` 17"]),
        ("llamagen", |m| edit(&m.join("config.json"), |c| c["vocab_size"] = json!(65)), &["model"]),
        ("llamagen", |m| edit(&m.join("config.json"), |c| c["n_head"] = json!(0)), &["n_head"]),
        (
            "imagegpt",
            |m| fs::remove_file(m.join("preprocessor_config.json")).expect("a file"),
            &["preprocessor_config.json", "clusters"],
        ),
        ("imagegpt", |m| edit(&m.join("config.json"), |c| c["n_positions"] = json!(63)), &["n_positions"]),
    ];
    for (case, spoil, says) in cases {
        let folder = scratch();
        let model = copy(case, folder.path());
        spoil(&model);
        let out = folder.path().join("out.png");
        generate(text(&model), &["-o", text(&out)]).code(3).says(says);
        assert_eq!(names(folder.path()), ["model"], "{case} {says:?}");
    }
}

fn truncate(file: &Path) {
    let bytes = fs::read(file).expect("a file");
    fs::write(file, &bytes[..bytes.len() - 100]).expect("a file");
}

#[test]
fn scores_that_are_no_numbers_are_an_error_and_no_picture() {
    let folder = scratch();
    let model = copy("llamagen", folder.path());
    let file = model.join("gpt.safetensors");
    let mut bytes = fs::read(&file).expect("a file");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("a header");
    let at = json["norm.weight"]["data_offsets"][0].as_u64().expect("an offset") as usize + 8 + header;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).expect("a file");
    let (out, gif) = (folder.path().join("out.png"), folder.path().join("out.gif"));
    let arguments = ["--class", "1", "-o", text(&out), "--animate", text(&gif)];
    let ran = generate(text(&model), &arguments).code(6).says(&["scores of", "try --dtype f32"]);
    assert_eq!((ran.out.as_str(), names(folder.path())), ("", vec!["model".to_owned()]));
}
