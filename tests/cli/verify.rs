//! `vit-gpu verify`: what passes, what fails, and what cannot be compared.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common;
use crate::harness::{Ran, golden, run, scratch, vit_gpu};

/// Folders that are refused as a whole.
const REFUSED: [&str; 1] = ["vit_bin"];

fn verify(model: &Path, more: &[&str]) -> Ran {
    let mut command = vit_gpu(["verify", "-m"]);
    run(command.arg(model).args(more))
}

/// Every golden folder with weights of its own and recorded outputs.
fn models() -> Vec<PathBuf> {
    let entries = fs::read_dir(golden("")).expect("the golden cases");
    let mut models: Vec<PathBuf> = entries
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.join("config.json").is_file() && p.join("golden.safetensors").is_file())
        .filter(|p| fs::read_dir(p).expect("a case").flatten().any(|e| is_weights(&e.path())))
        .collect();
    models.sort();
    assert!(models.len() > 15, "{models:?}");
    assert!(some().iter().all(|n| models.contains(n)), "{models:?}");
    models
}

fn is_weights(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.ends_with(".safetensors") && name != "golden.safetensors"
}

fn is_one_of(path: &Path, list: &[&str]) -> bool {
    path.file_name().is_some_and(|n| list.iter().any(|l| n == *l))
}

#[test]
fn every_golden_passes_on_the_reference() {
    goldens_pass(&models(), &["--device", "reference"]);
}

/// One of each kind: `tests/golden.rs` runs all of them there.
fn some() -> Vec<PathBuf> {
    ["vit", "timm_vit", "llamagen", "imagegpt", "bert_seqcls", "gpt2", "t5_v11"].map(golden).into()
}

#[test]
fn goldens_pass_on_the_gpu() {
    if common::gpu().is_none() {
        return;
    }
    goldens_pass(&some(), &[]);
    goldens_pass(&some(), &["--checked"]);
}

#[test]
fn goldens_pass_in_f16() {
    match common::gpu() {
        Some(gpu) if gpu.target().f16 => goldens_pass(&some(), &["--dtype", "f16"]),
        Some(_) => {
            let ran = verify(&golden("vit"), &["--dtype", "f16"]).code(4);
            ran.says(&["no f16"]);
        }
        None => {}
    }
}

fn goldens_pass(models: &[PathBuf], more: &[&str]) {
    for model in models.iter().filter(|m| !is_one_of(m, &REFUSED)) {
        // T5 does not scale its scores, so that in f16 rounding shows.
        let unscaled =
            more.contains(&"f16") && model.file_name().is_some_and(|n| n.to_string_lossy().starts_with("t5"));
        let wide: &[&str] = if unscaled { &["--atol", "8e-2", "--rtol", "8e-2"] } else { &[] };
        let arguments = [more, wide, &["--format", "json"]].concat();
        let json = verify(model, &arguments).code(0).json();
        assert_eq!(json["schema_version"], 1);
        assert_eq!(json["pass"], true, "{}", model.display());
        let outputs = json["outputs"].as_array().expect("outputs");
        assert!(!outputs.is_empty());
        for output in outputs {
            assert!(output["name"].as_str().is_some_and(|n| n.starts_with("out.")), "{output}");
            assert!(output["shape"].is_array() && output["pass"] == true, "{output}");
            assert!(output["max_abs"].is_number() && output["max_rel"].is_number(), "{output}");
        }
    }
}

#[test]
fn text_has_a_line_an_output() {
    let text = verify(&golden("vit"), &["--device", "reference"]).code(0).out;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("out.hidden.0 ") && lines[0].contains("[2,17,36]"), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("out.interpolated.48x40 ") && l.ends_with(" pass")), "{text}");
    assert!(lines[0].contains("max abs ") && lines[0].contains("max rel "), "{text}");
    assert!(lines.last().is_some_and(|l| l.starts_with("pass: 6 of 6 outputs agree")), "{text}");
}

/// A copy of a golden file with the last value of an output changed.
fn spoiled(output: &str, add: f32, folder: &Path) -> PathBuf {
    let mut bytes = fs::read(golden("vit/golden.safetensors")).expect("recorded outputs");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).expect("a header");
    let end = json[output]["data_offsets"][1].as_u64().expect("an offset") as usize + 8 + header;
    let value = f32::from_le_bytes(bytes[end - 4..end].try_into().expect("four bytes"));
    bytes[end - 4..end].copy_from_slice(&(value + add).to_le_bytes());
    let path = folder.join("spoiled.safetensors");
    fs::write(&path, bytes).expect("a file");
    path
}

#[test]
fn a_difference_fails() {
    let folder = scratch();
    let with = |path: &Path, more: &[&str]| {
        let golden_flag = ["--device", "reference", "--golden", path.to_str().expect("text")];
        verify(&golden("vit"), &[&golden_flag, more].concat())
    };
    let path = spoiled("out.hidden.1", 0.01, folder.path());
    let ran = with(&path, &[]).code(1);
    assert!(ran.out.contains("FAIL: 1 of 1224 values differ, worst at 1223"), "{ran:#?}");
    assert!(ran.out.lines().last().is_some_and(|l| l.starts_with("FAIL: 5 of 6")), "{ran:#?}");
    let json = with(&path, &["--format", "json"]).code(1).json();
    assert_eq!(json["pass"], false);
    let failed: Vec<_> =
        json["outputs"].as_array().expect("outputs").iter().filter(|o| o["pass"] == false).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["name"], "out.hidden.1");
    assert!(failed[0]["max_abs"].as_f64().is_some_and(|x| (x - 0.01).abs() < 1e-4), "{json}");
    // The tolerance decides.
    with(&path, &["--atol", "0.02"]).code(0);
    with(&spoiled("out.hidden.1", 5e-6, folder.path()), &["--atol", "1e-7", "--rtol", "0"]).code(1);
    with(&path, &["--atol", "nan"]).code(2);

    let path = spoiled("out.logits", f32::NAN, folder.path());
    let json = with(&path, &["--format", "json", "--atol", "1e30"]).code(1).json();
    assert_eq!(json["pass"], false, "NaN agrees with nothing");
}

#[test]
fn what_cannot_be_produced_fails_unless_allowed() {
    // BEiT's record against ViT-like outputs of another kind: logits exist, the rest is foreign.
    let folder = scratch();
    let bytes = fs::read(golden("vit/golden.safetensors")).expect("recorded outputs");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).expect("text");
    // Same length, so offsets hold.
    let renamed = text.replace("out.hidden.0", "out.strange0");
    let path = folder.path().join("renamed.safetensors");
    fs::write(&path, [&bytes[..8], renamed.as_bytes(), &bytes[8 + header..]].concat()).expect("a file");
    let with = |more: &[&str]| {
        let flags = ["--device", "reference", "--golden", path.to_str().expect("text")];
        verify(&golden("vit"), &[&flags, more].concat())
    };
    let ran = with(&[]).code(1);
    assert!(ran.out.contains("FAIL: this model does not produce `strange0`"), "{ran:#?}");
    let ran = with(&["--allow-missing"]).code(0);
    assert!(
        ran.out.contains("skipped: ") && ran.out.contains("pass: 5 of 5 outputs agree, 1 not produced"),
        "{ran:#?}"
    );
    let json = with(&["--allow-missing", "--format", "json"]).code(0).json();
    assert_eq!(json["outputs"].as_array().map(Vec::len), Some(6));
}

#[test]
fn a_foreign_input_is_said() {
    // What a model without a decoder should make of masked patches, nobody knows.
    let record = golden("vit_mae").join("golden.safetensors");
    let record = ["--device", "reference", "--golden", record.to_str().expect("text")];
    let ran = verify(&golden("vit"), &record).code(1);
    assert!(ran.out.contains("recorded with `in.noise`, which this model does not take"), "{ran:#?}");
    // Nothing compared is nothing verified.
    verify(&golden("vit"), &[&record[..], &["--allow-missing"]].concat())
        .code(1)
        .says(&["nothing could be compared"]);
}

#[test]
fn recorded_training_runs() {
    let model = golden("vit_patch4_gelunew");
    let ran = verify(&model, &["--device", "reference", "--training"]).code(0);
    assert!(ran.out.contains("grad.classifier.weight") && ran.out.contains("of norm"), "{ran:#?}");
    assert!(ran.out.contains("pass: 5 of 5 outputs agree"), "{ran:#?}");
    let json = verify(&model, &["--device", "reference", "--training", "--format", "json"]).code(0).json();
    assert_eq!(json["outputs"].as_array().map(Vec::len), Some(5));
    // A run of another model, one without settings, and none at all.
    let other = golden("vit").join("training.safetensors");
    let with = |file: &str| verify(&model, &["--device", "reference", "--training", file]);
    with(other.to_str().expect("text")).code(3).says(&["in.pixel_values", "16"]);
    verify(&model, &["--training", "--dtype", "f16"]).code(2).says(&["f32"]);
    let folder = scratch();
    let alone = folder.path().join("alone.safetensors");
    fs::copy(&other, &alone).expect("a copy");
    with(alone.to_str().expect("text")).code(3).says(&["alone.json", "lr, betas"]);
    with("no-such-file").code(3).says(&["no recorded outputs"]);
    verify(&golden("clip_vision"), &["--training"]).code(3).says(&["training.safetensors"]);
}

#[test]
fn records_that_are_not_there_or_damaged() {
    let folder = scratch();
    let empty = folder.path().join("empty.safetensors");
    fs::write(&empty, "").expect("a file");
    let with =
        |golden_file: &str| verify(&golden("vit"), &["--device", "reference", "--golden", golden_file]);
    with("no-such-file").code(3).says(&["no recorded outputs", "--golden"]);
    with(empty.to_str().expect("text")).code(3).says(&["empty.safetensors"]);
    with("tests/golden/vit/model.safetensors").code(3).says(&["no tensor named out.*"]);
    verify(&golden("vit_bin"), &[]).code(3).says(&["pickle"]);
    run(&mut vit_gpu(["verify"])).code(2).says(&["-m DIR"]);
    run(&mut vit_gpu(["verify", "-m", "builtin:shapes", "--device", "reference"]))
        .code(2)
        .says(&["--golden"]);
}
