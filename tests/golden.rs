//! Every family against the activations of its original in PyTorch: tiny checkpoints with wide
//! random weights in `tests/golden/<case>/` (see `tools/`), on the CPU reference and on the GPU.
//!
//! A case holds what a hub repository would hold, `case.json`, and `golden.safetensors` with
//! `in.pixel_values`, `out.<output>`, and for other image sizes `in.pixel_values.HxW` with
//! `out.interpolated.HxW`. Outputs are compared in the order of the forward pass, so the first
//! difference named is the layer where things go wrong. `VIT_GPU_GOLDENS=<folder>` runs the cases
//! of another folder; `VIT_GPU_GOLDEN_ERRORS=1` prints the largest error of each case;
//! `VIT_GPU_EVERY_WAY=1` runs every case in every way, not only the first of each family
//! (of two families where shaders are checked, which takes drivers long to compile).

mod common;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;
use vit_gpu::Error;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::materialise::materialise;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::Graph;
use vit_gpu::models::{self, FAMILIES, Model, ModelKind};
use vit_gpu::ops::{self, Choices, Reason};
use vit_gpu::plan::{self, Plan, Precision, Step};
use vit_gpu::tensor::HostTensor;

/// |got - want| may be at most this plus this times |want|.
const TOLERANCE: f32 = 1e-4;

/// The same with activations and matrix weights stored in f16.
const F16_TOLERANCE: f32 = 2e-2;

/// Outputs of pretraining, by a mask: `tests/training.rs` and `verify` run ViT-MAE's decoder.
const NOT_PRODUCED: &[(&str, &[&str])] = &[("vit_mae", &["logits", "mask", "ids_restore", "loss"])];

/// Checkpoints that are refused as a whole (pickles); `tests/checkpoints.rs` tests how.
const REFUSED: &[&str] = &["vit_bin"];

/// The error of a runner that has nothing to say of a graph.
const NOT_TAKEN: &str = "the forced way is not taken";

/// Runs a graph with one input `image` and returns its outputs in order.
type Runner<'a> = dyn Fn(&Graph, &Checkpoint, &HostTensor) -> vit_gpu::Result<Vec<HostTensor>> + 'a;

#[test]
fn reference_agrees_with_pytorch() {
    run_all("reference", TOLERANCE, Sample::All, &|graph, checkpoint, image| {
        let load = |weight: &_, shape| materialise(weight, shape, checkpoint);
        vit_gpu::reference::run(graph, &load, &[("image", image.clone())])
    });
}

/// A runner on a GPU opened with the given options.
fn on_gpu(
    gpu: &Arc<Gpu>,
    precision: Precision,
) -> impl Fn(&Graph, &Checkpoint, &HostTensor) -> vit_gpu::Result<Vec<HostTensor>> {
    let options = plan::Options { precision, ..plan::Options::default() };
    move |graph, checkpoint, image| {
        let plan = plan::compile(graph, gpu.target(), options.clone())?;
        run_plan(gpu, plan, checkpoint, image)
    }
}

fn run_plan(
    gpu: &Arc<Gpu>,
    plan: Plan,
    checkpoint: &Checkpoint,
    image: &HostTensor,
) -> vit_gpu::Result<Vec<HostTensor>> {
    let store = Store::new();
    store.load(gpu, &plan, &|weight, shape| materialise(weight, shape, checkpoint))?;
    Executor::new(gpu.clone(), plan, &store)?.run(&[("image", image)])
}

/// Every way of computing an op, forced in turn wherever it can be taken.
fn every_way(gpu: &Arc<Gpu>, kind: &str, families: usize) {
    for (op, names) in ops::variants() {
        for name in names {
            for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::F16, F16_TOLERANCE)] {
                if precision == Precision::F16 && !gpu.target().f16 {
                    continue;
                }
                let choices = Choices::forced([format!("{op}={name}").as_str()]).expect("a listed way");
                let options = plan::Options { precision, choices, ..plan::Options::default() };
                let taken = Cell::new(0);
                run_all(
                    &format!("{op}={name} {precision} {kind}"),
                    tolerance,
                    Sample::ways(families),
                    &|graph, checkpoint, image| {
                        let plan = plan::compile(graph, gpu.target(), options.clone())?;
                        let forced =
                            |s: &&Step| s.choice.as_ref().is_some_and(|c| c.reason == Reason::Forced);
                        let here = plan.steps.iter().filter(forced).count();
                        taken.set(taken.get() + here);
                        // A plan without it is compared by the other tests.
                        if here == 0 {
                            return Err(Error::usage(NOT_TAKEN, ""));
                        }
                        run_plan(gpu, plan, checkpoint, image)
                    },
                );
                if taken.get() == 0 {
                    let adapter = &gpu.report().name;
                    eprintln!("SKIP: {op}={name} in {precision}: no model takes it on `{adapter}`");
                }
            }
        }
    }
}

#[test]
fn every_way_agrees_with_pytorch() {
    let Some(gpu) = common::gpu() else { return };
    every_way(&gpu, "unchecked", usize::MAX);
}

#[test]
fn every_way_with_bounds_checks_agrees_with_pytorch() {
    let choice = DeviceChoice { checked: true, ..DeviceChoice::default() };
    let Some(gpu) = common::open(&choice) else { return };
    every_way(&gpu, "checked", 2);
}

#[test]
fn gpu_agrees_with_pytorch() {
    let Some(gpu) = common::gpu() else { return };
    run_all("gpu", TOLERANCE, Sample::All, &on_gpu(&gpu, Precision::F32));
}

#[test]
fn gpu_with_bounds_checks_agrees_with_pytorch() {
    let choice = DeviceChoice { checked: true, ..DeviceChoice::default() };
    let Some(gpu) = common::open(&choice) else { return };
    run_all("gpu, checked", TOLERANCE, Sample::All, &on_gpu(&gpu, Precision::F32));
}

#[test]
fn gpu_in_f16_agrees_with_pytorch() {
    let Some(gpu) = common::gpu() else { return };
    if !gpu.target().f16 {
        eprintln!("SKIP: adapter `{}` has no f16", gpu.report().name);
        return;
    }
    run_all("gpu, f16", F16_TOLERANCE, Sample::All, &on_gpu(&gpu, Precision::F16));
}

/// The best class of every image.
fn best(logits: &HostTensor) -> Vec<usize> {
    let row = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    logits.to_f32().chunks(logits.shape().width()).map(row).collect()
}

/// Which cases are run.
#[derive(Clone, Copy, PartialEq)]
enum Sample {
    All,
    /// The first of each of so many families, and its last output only.
    Families(usize),
}

impl Sample {
    /// For a test that runs the cases dozens of times: `VIT_GPU_EVERY_WAY=1` runs all of them.
    fn ways(families: usize) -> Self {
        if std::env::var_os("VIT_GPU_EVERY_WAY").is_some() { Self::All } else { Self::Families(families) }
    }
}

fn run_all(origin: &str, tolerance: f32, sample: Sample, run: &Runner) {
    let root = match std::env::var_os("VIT_GPU_GOLDENS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
    };
    let mut cases = 0;
    let mut failures = Vec::new();
    let mut families = BTreeSet::new();
    for case in cases_in(&root) {
        if let Sample::Families(most) = sample
            && (families.len() >= most || !families.insert(case.family.clone()))
        {
            continue;
        }
        cases += 1;
        match case.run(tolerance, sample, run) {
            Ok(worst) if std::env::var_os("VIT_GPU_GOLDEN_ERRORS").is_some() => {
                println!("{origin:<10} {:<44} max abs error {worst:.2e}", case.name);
            }
            Ok(_) => {}
            Err(failure) => failures.push(format!("{origin} {}: {failure}", case.name)),
        }
    }
    assert!(cases > 0, "no cases in {}", root.display());
    assert!(failures.is_empty(), "{} of {cases} cases fail:\n{}", failures.len(), failures.join("\n"));
}

struct Case {
    name: String,
    folder: PathBuf,
    weights: PathBuf,
    family: String,
    config: Json,
}

/// The cases of all families that `models` knows, by name.
fn cases_in(root: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut folders: Vec<PathBuf> = entries.map(|e| e.expect("readable folder").path()).collect();
    folders.sort();
    let cases = folders.into_iter().filter_map(|folder| {
        let name = folder.file_name()?.to_string_lossy().into_owned();
        let case = read_json(&folder.join("case.json"))?;
        let family = case["family"].as_str()?.to_owned();
        if REFUSED.contains(&name.as_str())
            || !FAMILIES.iter().any(|f| f.kind() == ModelKind::Vision && f.name == family)
            // Adapters have no weights of a model: tests/lora.rs.
            || folder.join("adapter_config.json").exists()
            // Two towers: tests/dual.rs.
            || case["tensors"]["in.input_ids"].is_array()
        {
            return None;
        }
        let config =
            read_json(&folder.join("config.json")).unwrap_or_else(|| panic!("{name}: no config.json"));
        let weights = case["weights_from"].as_str().map_or(folder.clone(), |other| root.join(other));
        Some(Case { name, folder, weights, family, config })
    });
    cases.collect()
}

fn read_json(path: &Path) -> Option<Json> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

impl Case {
    /// The largest error of all outputs, or what is wrong.
    fn run(&self, tolerance: f32, sample: Sample, run: &Runner) -> Result<f32, String> {
        let checkpoint = Checkpoint::open(&self.weights, false).map_err(|e| e.to_string())?;
        let model = models::from_config(&self.config, checkpoint.index(), None)
            .and_then(models::AnyModel::vision)
            .map_err(|e| e.to_string())?;
        if !model.info().warnings.is_empty() {
            return Err(format!("warnings: {}", model.info().warnings.join("; ")));
        }
        let golden = read_golden(&self.folder.join("golden.safetensors"));
        let mut worst = 0f32;
        for (name, image) in golden.iter().filter(|(name, _)| name.starts_with("in.pixel_values")) {
            let wanted = match name.strip_prefix("in.pixel_values.") {
                None => self.outputs(model.as_ref(), &golden),
                Some(size) => {
                    let output = if !golden.contains_key("out.logits") {
                        "last_hidden_state"
                    } else if model.info().classes.is_none() {
                        "embedding"
                    } else {
                        "logits"
                    };
                    vec![(output.to_owned(), &golden[&format!("out.interpolated.{size}")])]
                }
            };
            // All outputs at once, then the last one alone: nothing in between is kept then, so the
            // plan fuses and reuses buffers as it does in use.
            let last = &wanted[wanted.len().saturating_sub(1)..];
            let all = (sample == Sample::All).then_some(wanted.as_slice());
            for wanted in all.into_iter().chain([last]) {
                let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
                let got = self.forward(model.as_ref(), &checkpoint, image, &names, run);
                if got.as_ref().is_err_and(|e| e.contains(NOT_TAKEN)) {
                    continue;
                }
                let got = got.map_err(|e| format!("{name}: {e}"))?;
                for ((output, want), got) in wanted.iter().zip(&got) {
                    let error = common::compare(got, want, tolerance, tolerance)
                        .map_err(|e| format!("{name} -> {output}: {e}"))?;
                    if output == "logits" && best(got) != best(want) {
                        return Err(format!(
                            "{name}: the best classes are {:?}, not {:?}",
                            best(got),
                            best(want)
                        ));
                    }
                    worst = worst.max(error);
                }
            }
        }
        Ok(worst)
    }

    /// The outputs that the golden has, in the order of the forward pass.
    fn outputs<'g>(
        &self,
        model: &dyn Model,
        golden: &'g BTreeMap<String, HostTensor>,
    ) -> Vec<(String, &'g HostTensor)> {
        let skipped =
            NOT_PRODUCED.iter().find(|(family, _)| *family == self.family && self.weights == self.folder);
        let mut wanted: Vec<(String, &HostTensor)> = Vec::new();
        for (name, tensor) in golden {
            let Some(output) = name.strip_prefix("out.") else { continue };
            if output.starts_with("interpolated.")
                || skipped.is_some_and(|(_, names)| names.contains(&output))
            {
                continue;
            }
            // Without a head, timm's model returns the pooled features.
            let headless = output == "logits" && model.info().classes.is_none();
            if !(headless && golden.contains_key("out.embedding")) {
                wanted.push((if headless { "embedding" } else { output }.to_owned(), tensor));
            }
        }
        let layers = |output: &str| match output.split_once('.') {
            Some((kind, layer)) => (0, layer.parse::<usize>().unwrap_or(0), kind == "hidden"),
            None => (1, 0, output.contains("logits")),
        };
        wanted.sort_by_key(|(output, _)| layers(output));
        wanted
    }

    fn forward(
        &self,
        model: &dyn Model,
        checkpoint: &Checkpoint,
        image: &HostTensor,
        outputs: &[&str],
        run: &Runner,
    ) -> Result<Vec<HostTensor>, String> {
        let mut graph = Graph::new();
        let input = graph.input("image", image.desc());
        model.build(&mut graph, input).map_err(|e| e.to_string())?;
        // Where nothing is compared (ViT-MAE's decoder), the encoder must at least run.
        let fallback = ["last_hidden_state"];
        let graph =
            graph.select(if outputs.is_empty() { &fallback } else { outputs }).map_err(|e| e.to_string())?;
        let got = run(&graph, checkpoint, image).map_err(|e| e.to_string())?;
        let finite = got.iter().all(|t| t.to_f32().iter().all(|x| x.is_finite()));
        if finite { Ok(got) } else { Err("not all results are finite".to_owned()) }
    }
}

/// All f32 tensors of a golden file.
fn read_golden(path: &Path) -> BTreeMap<String, HostTensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensors = file.tensors().into_iter().filter(|(_, view)| view.dtype() == Dtype::F32);
    tensors
        .map(|(name, view)| {
            let words = view.data().chunks_exact(4);
            let data = words.map(|b| f32::from_le_bytes(b.try_into().expect("chunks of four"))).collect();
            (name, HostTensor::f32(vit_gpu::tensor::Shape::new(view.shape()), data))
        })
        .collect()
}

#[test]
fn the_comparison_can_fail() {
    let tensor = |data: &[f32]| HostTensor::f32([data.len()], data.to_vec());
    let compare = |got: &_, want: &_| common::compare(got, want, TOLERANCE, TOLERANCE);
    let want = tensor(&[1.0, -2.0, 0.0]);
    assert_eq!(compare(&want, &want), Ok(0.0));
    assert!(compare(&tensor(&[1.0001, -2.0002, 0.00005]), &want).is_ok());
    let wrong = compare(&tensor(&[1.0, -2.0, 0.001]), &want).expect_err("0.001 is not 0");
    assert!(wrong.contains("element 2"), "{wrong}");
    assert!(compare(&tensor(&[1.0, f32::NAN, 0.0]), &want).is_err(), "NaN");
    assert!(compare(&want, &tensor(&[1.0, f32::NAN, 0.0])).is_err(), "NaN wanted");
    assert!(compare(&tensor(&[-2.0, 1.0, 0.0]), &want).is_err(), "swapped");
    assert!(compare(&tensor(&[1.0, -2.0]), &want).is_err(), "short");
}
