//! Recorded training runs of every family: losses, gradients, and the weights after ten steps of AdamW, as
//! PyTorch has them; on the reference, and on this adapter with and without bounds checks.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::open;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::models;
use vit_gpu::tensor::HostTensor;
use vit_gpu::train::{AdamW, Lion, Optimizer, Recipe, Sgd, Trainer, objective};
use vit_gpu::verify::compare::{Tolerance, Verdict};
use vit_gpu::verify::images;
use vit_gpu::verify::training::verdicts;
use vit_gpu::{Device, ModelSource, Options, Session};

/// Folders of `tests/golden` that hold a recorded run.
fn recorded() -> Vec<PathBuf> {
    let all = std::fs::read_dir("tests/golden").unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all.filter(|path| path.join("training.json").exists()).collect();
    found.sort();
    assert!(found.len() >= 22, "{} recorded runs", found.len());
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

/// The whole of a small ViT on its recorded batch, by an optimizer: the loss of each step, and every parameter.
fn trained(optimizer: Optimizer, rate: f32, device: &Device) -> (Vec<f32>, Vec<Vec<u32>>) {
    let folder = Path::new("tests/golden/vit");
    let files = ModelSource::named(folder.to_str().unwrap()).read(true).unwrap();
    let file = Checkpoint::open(&folder.join("training.safetensors"), true).unwrap();
    let model = models::from_config(&files.config, files.checkpoint.index(), None).unwrap().vision().unwrap();
    let objective = objective::classes_of_images(&*model, 2, 0.0).unwrap();
    let recipe = Recipe { optimizer, ..Recipe::default() };
    let options = Options { device: device.clone(), tuning_budget: Duration::ZERO, ..Options::default() };
    let mut trainer = Trainer::open(files, &options, objective, &|_| true, &recipe).unwrap();
    let batch = [
        ("image", file.read("in.pixel_values").unwrap()),
        (objective::LABELS, file.ids("in.labels").unwrap()),
        (objective::WEIGHTS, HostTensor::f32([2], vec![0.5; 2])),
    ];
    let losses = (0..8).map(|_| trainer.step(&batch, rate).unwrap().loss).collect();
    let bits = |name: &str| trainer.parameter(name).unwrap().to_f32().iter().map(|x| x.to_bits()).collect();
    let parameters = trainer.parameters().iter().map(|p| bits(&p.name)).collect();
    (losses, parameters)
}

const OPTIMIZERS: [(Optimizer, f32); 3] = [
    (Optimizer::AdamW(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.05, scale: 1.0 }), 1e-3),
    (Optimizer::Sgd(Sgd { momentum: 0.9, decay: 1e-4, nesterov: true, scale: 1.0 }), 1e-2),
    (Optimizer::Lion(Lion { beta1: 0.9, beta2: 0.99, decay: 0.05, scale: 1.0 }), 3e-4),
];

#[test]
fn every_optimizer_lowers_the_loss() {
    for (optimizer, rate) in OPTIMIZERS {
        let (losses, _) = trained(optimizer, rate, &Device::Reference);
        assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{optimizer:?}: {losses:?}");
    }
}

#[test]
fn the_same_steps_give_the_same_bits() {
    let choice = DeviceChoice::default();
    if open(&choice).is_none() {
        return;
    }
    let device = Device::Gpu(choice);
    for (optimizer, rate) in OPTIMIZERS {
        let first = trained(optimizer, rate, &device);
        assert!(first == trained(optimizer, rate, &device), "{optimizer:?}");
        assert!(first.1 != trained(optimizer, 2.0 * rate, &device).1, "{optimizer:?}");
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
fn a_run_without_a_batch_is_refused() {
    let folder = Path::new("tests/golden/vit");
    let text = std::fs::read_to_string(folder.join("training.json")).unwrap();
    let settings = serde_json::from_str(&text).unwrap();
    let options = Options { device: Device::Reference, ..Options::default() };
    let empty = HostTensor::f32([0, 3, 32, 32], vec![]);
    let named = |name: &str, tensor: HostTensor| (name.to_owned(), tensor);
    let losses = named("losses", HostTensor::f32([11], vec![1.0; 11]));
    let file = Checkpoint::from_tensors("recorded", [named("in.pixel_values", empty), losses]).unwrap();
    let files = ModelSource::named(folder.to_str().unwrap()).read(true).unwrap();
    let error = verdicts(files, &options, &file, &settings).unwrap_err().to_string();
    assert!(error.contains("`in.pixel_values` has no elements"), "{error}");
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
