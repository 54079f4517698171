//! The image tokenizer against PyTorch, on the CPU reference and on the GPU: the decoder on
//! LlamaGen's golden case, encoder and decoder on `tests/golden/vq`, whose weights are made here by the
//! rule that its `make.py` states.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value as Json;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::materialise::materialise;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Value};
use vit_gpu::models::generative::vq::Vq;
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::tensor::{DType, Elements, HostTensor, Shape, TensorDesc};

/// |got - want| may be at most this plus this times |want|.
const TOLERANCE: f32 = 1e-4;
const F16_TOLERANCE: f32 = 3e-2;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn json(file: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// A tensor of a golden file.
fn golden(case: &str, name: &str) -> HostTensor {
    let bytes = std::fs::read(folder(case).join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let shape = Shape::new(view.shape());
    match view.dtype() {
        Dtype::F32 => HostTensor::f32(shape, bytemuck::pod_collect_to_vec(view.data())),
        Dtype::I32 => HostTensor::u32(shape, bytemuck::pod_collect_to_vec(view.data())),
        Dtype::I64 => {
            let ids: Vec<i64> = bytemuck::pod_collect_to_vec(view.data());
            HostTensor::u32(shape, ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect())
        }
        other => panic!("{name} is {other:?}"),
    }
}

/// Numbers in [-1, 1) that depend on a name alone, as `make.py` makes them.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let number = |i: u64| {
        let mut x = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        (x >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count as u64).map(number).collect()
}

/// The weights of `tests/golden/vq`, written where a checkpoint can be opened.
fn made(at: &Path) -> Checkpoint {
    let shapes = json(&folder("vq").join("tensors.json"));
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = shapes
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, shape)| {
            let dims: Vec<usize> =
                shape.as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
            let mut data = noise(name, dims.iter().product());
            let factor = (2.2 / (dims[1..].iter().product::<usize>() as f64).sqrt()) as f32;
            data.iter_mut().for_each(|x| match dims.len() {
                4 => *x *= factor,
                1 if name.ends_with(".bias") => *x *= 0.1,
                1 => *x = 1.0 + *x * 0.2,
                _ => {}
            });
            (name.clone(), dims, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, dims, data)| {
        let view = TensorView::new(Dtype::F32, dims.clone(), bytemuck::cast_slice(data)).unwrap();
        (name.clone(), view)
    });
    std::fs::write(at.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    Checkpoint::open(at, false).unwrap()
}

/// Runs a graph of one input and one output on the CPU.
fn on_reference(graph: &Graph, checkpoint: &Checkpoint, input: &HostTensor) -> HostTensor {
    let load = |weight: &_, shape| materialise(weight, shape, checkpoint);
    vit_gpu::reference::run(graph, &load, &[("x", input.clone())]).unwrap().remove(0)
}

fn on_gpu(
    gpu: &Arc<Gpu>,
    precision: Precision,
    graph: &Graph,
    checkpoint: &Checkpoint,
    input: &HostTensor,
) -> HostTensor {
    let plan = plan::compile(graph, gpu.target(), Options { precision, ..Options::default() }).unwrap();
    let store = Store::new();
    store.load(gpu, &plan, &|weight, shape| materialise(weight, shape, checkpoint)).unwrap();
    Executor::new(gpu.clone(), plan, &store).unwrap().run(&[("x", input)]).unwrap().remove(0)
}

/// Every way a case is run, with its tolerance: what it is called, and the runner.
type Runner = Box<dyn Fn(&Graph, &Checkpoint, &HostTensor) -> HostTensor>;

fn runners() -> Vec<(String, f32, Runner)> {
    let mut all: Vec<(String, f32, Runner)> =
        vec![("reference".to_owned(), TOLERANCE, Box::new(on_reference))];
    for checked in [false, true] {
        let choice = DeviceChoice { checked, ..DeviceChoice::default() };
        let Some(gpu) = common::open(&choice) else { continue };
        for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::F16, F16_TOLERANCE)] {
            if precision == Precision::F16 && (checked || !gpu.target().f16) {
                continue;
            }
            let gpu = gpu.clone();
            let run = move |g: &Graph, c: &Checkpoint, x: &HostTensor| on_gpu(&gpu, precision, g, c, x);
            all.push((format!("gpu {precision} checked={checked}"), tolerance, Box::new(run)));
        }
    }
    all
}

fn graph(desc: TensorDesc, build: impl Fn(&mut Graph, Value) -> Value) -> Graph {
    let mut g = Graph::new();
    let x = g.input("x", desc);
    let y = build(&mut g, x);
    g.output("y", y);
    g.check().unwrap();
    g
}

#[test]
fn the_decoder_agrees_with_the_llamagen_golden() {
    let checkpoint = Checkpoint::open(&folder("llamagen").join("vq.safetensors"), false).unwrap();
    let vq = Vq::open(&json(&folder("llamagen/config.json")), checkpoint.index()).unwrap();
    assert_eq!((vq.codes, vq.patch(), vq.has_encoder()), (64, 2, false));
    assert!(vq.warnings.is_empty(), "{:?}", vq.warnings);
    let ids = golden("llamagen", "out.greedy_cfg2.5_class2");
    let planes = golden("llamagen", "out.image"); // (1,3,8,8)
    let planes = planes.as_f32().unwrap();
    let want: Vec<f32> = (0..planes.len()).map(|i| planes[i % 3 * 64 + i / 3]).collect();
    let want = HostTensor::f32([1, 8, 8, 3], want);
    let g = graph(TensorDesc::new(DType::U32, [1, 16]), |g, ids| vq.decode(g, ids, [4, 4]));
    for (name, tolerance, run) in runners() {
        let got = run(&g, &checkpoint, &ids);
        common::compare(&got, &want, tolerance, tolerance).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn encoder_and_decoder_agree_with_pytorch() {
    let temporary = tempfile::tempdir().unwrap();
    let checkpoint = made(temporary.path());
    let picture = golden("vq", "in.picture");
    for (kind, unit) in [("unit", true), ("plain", false)] {
        let mut config = json(&folder("vq/config.json"));
        config["codebook_l2_norm"] = unit.into();
        let vq = Vq::open(&config, checkpoint.index()).unwrap();
        assert!(vq.warnings.is_empty(), "{:?}", vq.warnings);
        let ids = golden("vq", &format!("out.ids.{kind}"));
        let encode = graph(picture.desc(), |g, x| vq.encode(g, x).unwrap());
        let decode = graph(ids.desc(), |g, x| vq.decode(g, x, [6, 10]));
        for (name, tolerance, run) in runners() {
            let got = run(&encode, &checkpoint, &picture);
            let same = |got: &HostTensor| match (got.elements(), ids.elements()) {
                (Elements::U32(a), Elements::U32(b)) => a.iter().zip(b).filter(|(a, b)| a == b).count(),
                _ => panic!("ids are u32"),
            };
            // Rounding to f16 moves a vector that lies between two codes.
            let least = if tolerance == TOLERANCE { 120 } else { 112 };
            assert!(same(&got) >= least, "{name} {kind}: {} of 120 tokens agree", same(&got));
            let got = run(&decode, &checkpoint, &ids);
            let want = golden("vq", &format!("out.picture.{kind}"));
            common::compare(&got, &want, tolerance, tolerance)
                .unwrap_or_else(|e| panic!("{name} {kind}: {e}"));
        }
    }
}

#[test]
fn the_largest_tensor_is_the_largest_of_the_plan() {
    for (levels, grid) in [(vec![1, 1, 2, 2, 4], [16, 16]), (vec![1, 2, 2, 4], [8, 24])] {
        let vq = Vq::of_config(&serde_json::json!({ "ch_mult": levels })).unwrap();
        let desc = TensorDesc::new(DType::U32, [1, grid[0] * grid[1]]);
        let g = graph(desc, |g, ids| vq.decode(g, ids, grid));
        let largest = g.nodes().iter().filter(|n| n.op.def().is_some()).map(|n| n.desc.bytes()).max();
        assert_eq!(vq.largest_tensor_bytes(grid), largest.unwrap() as u64, "{levels:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let checkpoint = made(temporary.path());
    let config = json(&folder("vq/config.json"));
    for (key, value, say) in [
        ("ch", Json::from(48), "groups"),
        ("ch_mult", Json::from(vec![0]), "ch_mult"),
        ("ch_mult", Json::from(vec![1, 1]), "shape"),
        ("z_channels", Json::from(13), "shape"),
        ("num_res_blocks", Json::from(2), "missing"),
    ] {
        let mut config = config.clone();
        config[key] = value;
        let error = Vq::open(&config, checkpoint.index()).err().unwrap().to_string();
        assert!(error.contains(say), "{key}: {error}");
    }
    let vq = Vq::open(&config, checkpoint.index()).unwrap();
    for shape in [[1, 12, 13, 3], [1, 0, 4, 3], [1, 4, 4, 1]] {
        let mut g = Graph::new();
        let x = g.input("x", TensorDesc::f32(shape));
        assert!(vq.encode(&mut g, x).is_err(), "{shape:?}");
    }
}
