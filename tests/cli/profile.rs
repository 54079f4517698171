//! `vit-gpu profile`: forms of output, files it writes, and what it refuses. What must hold of the
//! numbers is in `tests/profile.rs`.

use crate::common;
use crate::harness::{go, names, scratch};

#[test]
fn every_form_holds_the_same_tables() {
    if common::gpu().is_none() {
        return;
    }
    let text = go(["profile", "-r", "1", "--no-tune"]).code(0).out;
    for part in ["builtin:shapes f32, batch 1", "end to end", "roofs", "bound by", "layer.5", "embeddings"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = go(["profile", "-r", "2", "-b", "2", "--format", "json", "--no-tune"]).code(0).json();
    assert_eq!((&json["schema_version"], &json["batch"], &json["runs"]), (&1.into(), &2.into(), &2.into()));
    let launches = json["launches"].as_array().expect("launches");
    assert_eq!(json["totals"]["launches"], launches.len());
    assert!(launches.iter().all(|l| l["times_us"].as_array().is_some_and(|t| t.len() == 2)), "{json}");
    let shares: f64 =
        json["layers"].as_array().expect("layers").iter().filter_map(|l| l["share"].as_f64()).sum();
    assert!((0.5..1.5).contains(&shares), "shares of layers add up to {shares}");
    assert!(json["ceilings"]["f32"].as_f64().is_some_and(|f| f > 0.0), "{json}");

    let csv = go(["profile", "-r", "1", "--format", "csv", "--no-tune"]).code(0).out;
    let lines: Vec<&str> = csv.split("\r\n").filter(|l| !l.is_empty()).collect();
    assert!(lines[0].starts_with("table,name,kernel,calls,median_us"), "{csv}");
    assert!(lines.iter().any(|l| l.starts_with("layer,\"layer.0\"")), "{csv}");
    let markdown = go(["profile", "-r", "1", "--format", "md", "--no-tune"]).code(0).out;
    assert!(markdown.contains("| kernel | calls |") && markdown.contains("| layer | calls |"), "{markdown}");
}

#[test]
fn without_timestamps_it_says_wall_clock() {
    if common::gpu().is_none() {
        return;
    }
    let ran =
        go(["profile", "-r", "1", "--disable", "timestamps", "--no-tune"]).code(0).says(&["wall clock"]);
    assert!(ran.out.contains("Wall clock, one round"), "{ran:#?}");
    let json =
        go(["profile", "-r", "1", "--disable", "timestamps", "--format", "json", "--no-tune"]).code(0).json();
    assert_eq!(json["clock"], "wall clock");
}

#[test]
fn traces_and_pictures_are_written() {
    if common::gpu().is_none() {
        return;
    }
    let folder = scratch();
    let path = |name: &str| folder.path().join(name).into_os_string().into_string().expect("a name");
    let (trace, svg, png) = (path("t.json"), path("r.svg"), path("r.PNG"));
    go(["profile", "-q", "-r", "1", "--no-tune", "--trace", &trace, "--roofline", &svg]).code(0);
    go(["profile", "-q", "-r", "1", "--no-tune", "--roofline", &png]).code(0);
    assert_eq!(names(folder.path()), ["r.PNG", "r.svg", "t.json"]);
    let read = |path: &str| std::fs::read(path).expect("it was written");
    let trace: serde_json::Value = serde_json::from_slice(&read(&trace)).expect("a trace is JSON");
    assert!(trace["traceEvents"].as_array().is_some_and(|e| e.len() > 60));
    assert!(read(&svg).starts_with(b"<svg ") && read(&png).starts_with(b"\x89PNG"));
}

#[test]
fn what_it_refuses() {
    go(["profile", "--synthetic", "vit-q/16"]).code(2).says(&[
        "no synthetic model `vit-q/16`",
        "vit-ti",
        "14",
    ]);
    go(["profile", "-r", "0"]).code(2).says(&["--runs"]);
    go(["profile", "-b", "0"]).code(2).says(&["--batch-size"]);
    go(["profile", "--device", "reference"]).code(2).says(&["no launches to measure", "hint: "]);
    go(["profile", "--roofline", "r.gif"]).code(2).says(&["neither .svg nor .png"]);
    go(["profile", "--trace", "/no/folder/t.json"]).code(1).says(&["cannot write", "there is no folder"]);
    go(["profile", "--roofline", "/no/folder/r.svg"]).code(1).says(&["cannot write"]);
    go(["profile", "-m", "/no/such/model"]).code(3);
    if common::gpu().is_some() {
        go(["profile", "-r", "1", "-b", "65536", "--no-tune"]).code(4).says(&["needs", "the adapter allows"]);
        go(["profile", "-r", "1", "--image-size", "7x7", "--no-tune"]).code(2).says(&["7x7"]);
    }
}

#[test]
fn a_generator_is_profiled_in_its_three_parts() {
    if common::gpu().is_none() {
        return;
    }
    let folder = scratch();
    let trace = folder.path().join("t.json").to_str().expect("text").to_owned();
    let model = ["profile", "--generate", "-m", "tests/golden/llamagen", "-r", "1"];
    let json = go(model.iter().chain(&["--format", "json", "--trace", &trace])).code(0).json();
    let parts: Vec<&str> =
        json["parts"].as_array().expect("parts").iter().filter_map(|p| p["part"].as_str()).collect();
    assert_eq!(parts, ["prompt", "token", "image"]);
    assert_eq!(json["parts"][1]["profile"]["model"]["id"], "tests/golden/llamagen token");
    assert_eq!(names(folder.path()), ["t-image.json", "t-prompt.json", "t-token.json"]);
}
