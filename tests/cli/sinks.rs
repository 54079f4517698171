//! `--format` and `-o`: the same in every command, and files that are what their names say.

use std::fs;

use crate::harness::{go, names, scratch};
use crate::tiny::Tiny;

const STAR: &str = "assets/samples/star.png";

#[test]
fn a_document_goes_to_its_file_and_nowhere_else() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let image = ["infer", "--device", "reference", "-q", STAR];
    for (name, format) in [("a.json", "json"), ("a.jsonl", "jsonl"), ("a.csv", "csv"), ("a.txt", "text")] {
        let ran = go(image.iter().copied().chain(["-o", &at(name)])).code(0);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "{name}");
        let printed = go(image.iter().copied().chain(["--format", format])).code(0).out;
        let written = fs::read_to_string(at(name)).expect("a file");
        // Times differ.
        let head = |text: &str| text.split("timing_ms").next().unwrap_or_default().to_owned();
        assert_eq!(head(&written), head(&printed), "{name}");
    }
    go(image.iter().copied().chain(["--format", "json", "-o", &at("plain")])).code(0);
    assert!(fs::read_to_string(at("plain")).expect("a file").starts_with("{\"schema_version\""));

    go(["inspect", "--device", "reference", "-o", &at("i.json")]).code(0);
    go(["inspect", "--device", "reference", "--graph", "dot", "-o", &at("g.dot")]).code(0);
    assert!(fs::read_to_string(at("g.dot")).expect("a file").starts_with("digraph"));
    let gpt2 = Tiny::new("gpt2");
    let text = ["-m", gpt2.at(), "--device", "reference", "-q"];
    go(["embed", "--text", "a", "-o", &at("e.jsonl")].into_iter().chain(text)).code(0);
    go(["attention", "--text", "a b", "-o", &at("x.json")].into_iter().chain(text)).code(0);
    let json = go(["generate", "--prompt", "a", "-n", "2", "--format", "json"].into_iter().chain(text));
    assert!(json.code(0).json()["samples"][0]["text"].is_string());
    let all = ["a.csv", "a.json", "a.jsonl", "a.txt", "e.jsonl", "g.dot", "i.json", "plain", "x.json"];
    assert_eq!(names(folder.path()), all, "and no draft");
}

#[test]
fn old_spellings_say_what_to_write_instead() {
    let ran = go(["infer", "--device", "reference", STAR, "-o", "json"]).code(0);
    assert!(ran.json()["results"].is_array());
    ran.says(&["write --format json instead of -o json"]);
    let ran = go(["infer", "--device", "reference", "-q", STAR, "-ocsv"]).code(0);
    assert!(ran.out.starts_with("input,rank") && ran.err.is_empty(), "{ran:#?}");
    go(["infer", STAR, "-o", "json", "--format", "csv"]).code(2).says(&["-o ./json"]);

    let folder = scratch();
    let frames = folder.path().join("frames");
    let old = ["--prime", "nope.png", "--keep", "1", "--parallel", "4", "--steps"];
    go(["generate"].into_iter().chain(old).chain([frames.to_str().expect("text")]))
        .code(1)
        .says(&["nope.png: cannot be read"]);
    go(["generate", "--again", "nope.png", "--stats"]).code(1).says(&["nope.png: cannot be read"]);
    let help = go(["generate", "--help"]).code(0).out;
    for old in ["--prime", "--keep ", "--parallel", "--steps", "--again"] {
        assert!(!help.contains(old), "{old}");
    }
    let (first, common) = (help.find("Options:"), help.find("Common options:"));
    assert!(first.is_some() && first < common && help.find("--model") > common, "{help}");
}

#[test]
fn names_that_contradict_their_content_are_refused_before_any_work() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (png, json, svg, csv) = (at("x.png"), at("x.json"), at("x.svg"), at("x.csv"));
    // Opening this model would end with another exit code.
    let none = ["-m", "no/such/model"];
    for (command, says) in [
        (&["embed", "--text", "a", "-o", &png][..], "no file of this kind"),
        (&["embed", STAR, "-o", &png], "no file of this kind"),
        (&["embed", STAR, "-o", &json, "--format", "safetensors"], "the name says otherwise"),
        (&["embed", STAR, "--format", "safetensors"], "-o FILE.safetensors"),
        (&["generate", "--class", "star", "-o", &json], "no kind of image"),
        (&["generate", "--class", "star", "--tokens", &png], "json is written"),
        (&["generate", "--class", "star", "--format", "json", "-o", &png], "--format is for texts"),
        (&["tokens", STAR, "-o", &png], "json is written"),
        (&["profile", "--trace", &svg], "--trace"),
        (&["profile", "--roofline", &json], "--roofline"),
        (&["profile", "-o", &json, "--trace", &json], "name the same file"),
        (&["infer", STAR, "-o", &csv, "--format", "json"], "json is written"),
        (&["infer", STAR, "-o", &at("x")], "does not say in which format"),
        (&["infer", STAR, "--embeddings", &json], "safetensors is written"),
        (&["infer", STAR, "--attention", &svg], "png is written"),
        (&["inspect", "--plan", "-o", &json], "written as text"),
        (&["attention", STAR, "-o", &csv], "no file of this kind"),
        (&["attention", STAR, "--format", "png"], "-o FILE.png"),
        (&["bench", "-o", &svg], "no file of this kind"),
        (&["devices", "-o", &csv], "no file of this kind"),
    ] {
        let none = if command[0] == "devices" { &[][..] } else { &none };
        go(command.iter().chain(none)).code(2).says(&[says]);
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn nothing_that_is_read_or_written_is_replaced() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    fs::create_dir(at("m")).expect("scratch");
    for file in ["config.json", "model.safetensors", "preprocessor_config.json", "golden.safetensors"] {
        fs::copy(format!("tests/golden/vit/{file}"), at(&format!("m/{file}"))).expect("scratch");
    }
    fs::copy("tests/golden/vit/golden.safetensors", at("g.json")).expect("scratch");
    fs::copy("assets/samples/star.png", at("star-0.png")).expect("scratch");
    fs::write(at("list.json"), "assets/samples/star.png\n").expect("scratch");
    let read = |name: &str| fs::read(at(name)).expect("scratch");
    let before = ["m/config.json", "g.json", "star-0.png", "list.json"].map(read);
    let (model, config) = (at("m"), at("m/config.json"));
    let list = format!("@{}", at("list.json"));
    let replaced = "would replace";
    let cases: [(&[&str], &str); 8] = [
        (&["inspect", "-m", &model, "-o", &config], replaced),
        (&["verify", "-m", &model, "-o", &config], replaced),
        (&["verify", "-m", &model, "--golden", &at("g.json"), "-o", &at("g.json")], replaced),
        (&["tune", "-m", &model, "-o", &config], replaced),
        (&["bench", "-m", &model, "-o", &config], replaced),
        (&["infer", &list, "-o", &at("list.json")], replaced),
        (
            &[
                "generate",
                "--class",
                "star",
                "--init-image",
                &at("star-0.png"),
                "--keep-rows",
                "7",
                "--files",
                "-o",
                &at("star.png"),
            ],
            replaced,
        ),
        (
            &["infer", "assets/samples/star.png", "-o", &at("a.json"), "--attention", &at("a.json")],
            "name the same file",
        ),
    ];
    for (arguments, says) in cases {
        go(arguments.iter().copied().chain(["--device", "reference"])).code(2).says(&[says]);
    }
    assert_eq!(["m/config.json", "g.json", "star-0.png", "list.json"].map(read), before);
}
