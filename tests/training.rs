//! Recorded training runs of every family: losses, gradients, and the weights after ten steps of AdamW, as
//! PyTorch has them; on the reference, and on this adapter with and without bounds checks.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::open;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::verify::compare::{Tolerance, Verdict};
use vit_gpu::verify::images;
use vit_gpu::verify::training::verdicts;
use vit_gpu::{Device, ModelSource, Options, Session};

/// Folders of `tests/golden` that hold a recorded run.
fn recorded() -> Vec<PathBuf> {
    let all = std::fs::read_dir("tests/golden").unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.join("training.json").exists()).collect();
    found.sort();
    assert!(found.len() >= 18, "{} recorded runs", found.len());
    found
}

fn run(folder: &Path, device: &Device) -> Vec<Verdict> {
    let options = Options { device: device.clone(), tuning_budget: Duration::ZERO, ..Options::default() };
    let files = ModelSource::named(folder.to_str().unwrap()).read(true).unwrap();
    let file = Checkpoint::open(&folder.join("training.safetensors"), true).unwrap();
    let text = std::fs::read_to_string(folder.join("training.json")).unwrap();
    let settings = serde_json::from_str(&text).unwrap();
    verdicts(files, &options, &file, &settings).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).0
}

fn all_agree(device: &Device) {
    let mut failures = Vec::new();
    for folder in recorded() {
        let verdicts = run(&folder, device);
        // Losses, and a gradient and weights for at least a head of one layer.
        assert!(verdicts.len() >= 5, "{}: {} verdicts", folder.display(), verdicts.len());
        let failed = verdicts.iter().filter(|v| !v.pass);
        failures.extend(failed.map(|v| format!("{} {}: {:?}", folder.display(), v.name, v.reason)));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_reference_trains_as_pytorch() {
    all_agree(&Device::Reference);
}

#[test]
fn this_adapter_trains_as_pytorch() {
    let choice = DeviceChoice::default();
    if open(&choice).is_some() {
        all_agree(&Device::Gpu(choice));
    }
}

#[test]
fn this_adapter_trains_as_pytorch_with_bounds_checks() {
    let choice = DeviceChoice { checked: true, ..DeviceChoice::default() };
    if open(&choice).is_some() {
        all_agree(&Device::Gpu(choice));
    }
}

#[test]
fn the_same_steps_give_the_same_bits() {
    let choice = DeviceChoice::default();
    if open(&choice).is_none() {
        return;
    }
    let device = Device::Gpu(choice);
    for name in ["vit", "gpt2", "t5_v11"] {
        let folder = Path::new("tests/golden").join(name);
        let numbers = |verdicts: Vec<Verdict>| -> Vec<_> {
            verdicts.into_iter().map(|v| (v.name, v.max_abs, v.max_rel, v.of_norm)).collect()
        };
        let [first, second] = [0, 1].map(|_| numbers(run(&folder, &device)));
        assert_eq!(first, second, "{name}");
    }
}

#[test]
fn hidden_patches_are_painted_as_pytorch_paints_them() {
    let folder = Path::new("tests/golden/vit_mae");
    let options = Options { device: Device::Reference, ..Options::default() };
    let session = Session::open(&ModelSource::named(folder.to_str().unwrap()), &options).unwrap();
    let file = Checkpoint::open(&folder.join("golden.safetensors"), true).unwrap();
    let near = Tolerance { atol: 1e-4, rtol: 1e-4 };
    let verdicts = images::verdicts(&session, &file, near).unwrap();
    let mut names: Vec<&str> = verdicts.iter().filter(|v| v.pass).map(|v| v.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["out.ids_restore", "out.logits", "out.loss", "out.mask"]);
}

#[test]
fn another_learning_rate_is_found_out() {
    let folder = Path::new("tests/golden/vit_patch4_gelunew");
    let files = ModelSource::named(folder.to_str().unwrap()).read(true).unwrap();
    let file = Checkpoint::open(&folder.join("training.safetensors"), true).unwrap();
    let text = std::fs::read_to_string(folder.join("training.json")).unwrap();
    let mut settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    settings["lr"] = 2e-3.into();
    let options = Options { device: Device::Reference, ..Options::default() };
    let (verdicts, _) = verdicts(files, &options, &file, &settings).unwrap();
    let failed: Vec<&str> = verdicts.iter().filter(|v| !v.pass).map(|v| v.name.as_str()).collect();
    assert_eq!(failed, ["losses", "after.classifier.weight", "after.classifier.bias"]);
    settings["lr"] = "fast".into();
    let files = ModelSource::named(folder.to_str().unwrap()).read(true).unwrap();
    let error =
        vit_gpu::verify::training::verdicts(files, &options, &file, &settings).unwrap_err().to_string();
    assert!(error.contains("no number at /lr"), "{error}");
}
