//! What the host does around the device, by criterion: decoding, resizing and normalising of
//! pictures, building of graphs, fusing and planning, packing of weights, recording of launches.
//!
//! `cargo bench --bench host -- [FILTER] [--save-baseline NAME | --baseline NAME]`
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use image::{ExtendedColorType, ImageEncoder as _};
use vit_gpu::checkpoint::materialise::materialise;
use vit_gpu::generate::{Generator, Order, Request};
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Weight};
use vit_gpu::image::preprocess::Preprocess;
use vit_gpu::image::{DecodeOptions, decode_bytes};
use vit_gpu::models::{self, Model};
use vit_gpu::ops::{Guidance, Sampling, Target, WeightLayout, WeightSlot};
use vit_gpu::plan::{self, Options};
use vit_gpu::session::{self, Device, ModelSource};
use vit_gpu::synthetic::vision::Synthetic;
use vit_gpu::tensor::{DType, HostTensor, Shape, TensorDesc};

/// Soft shapes and some grain, (H,W,3).
fn pixels(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    let value = |i: u32, grain: u8| ((i / 3 % width + i / 3 / width) / 4) as u8 / 2 + grain + 40;
    (0..width * height * 3).map(|i| value(i, next())).collect()
}

fn encoded(format: &str, width: u32, height: u32) -> Vec<u8> {
    let (pixels, colour) = (pixels(width, height), ExtendedColorType::Rgb8);
    let mut out = Vec::new();
    match format {
        "jpeg" => image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 88)
            .write_image(&pixels, width, height, colour),
        _ => image::codecs::png::PngEncoder::new(&mut out).write_image(&pixels, width, height, colour),
    }
    .unwrap();
    out
}

fn pictures(c: &mut Criterion) {
    let options = DecodeOptions::default();
    let mut group = c.benchmark_group("decode");
    for (width, height) in [(640, 480), (1920, 1080)] {
        group.throughput(Throughput::Elements(u64::from(width * height)));
        for format in ["jpeg", "png"] {
            let bytes = encoded(format, width, height);
            let id = BenchmarkId::new(format, format!("{width}x{height}"));
            group.bench_with_input(id, &bytes, |b, bytes| {
                b.iter(|| decode_bytes("picture", black_box(bytes), &options).unwrap());
            });
        }
    }
    group.finish();

    let mut group = c.benchmark_group("preprocess");
    let preprocess = Preprocess::default_for("vit", [224, 224]).unwrap();
    for (width, height) in [(640, 480), (1920, 1080)] {
        let image = decode_bytes("picture", &encoded("jpeg", width, height), &options).unwrap();
        group.throughput(Throughput::Elements(u64::from(width * height)));
        let size = format!("{width}x{height}");
        group.bench_function(BenchmarkId::new("resize", &size), |b| {
            b.iter(|| preprocess.pixels(black_box(&image)).unwrap());
        });
        group.bench_function(BenchmarkId::new("resize, normalise", &size), |b| {
            b.iter(|| preprocess.tensor(black_box(&image)).unwrap());
        });
    }
    group.finish();
}

fn graph(model: &dyn Model, batch: usize) -> Graph {
    let mut g = Graph::new();
    let image = g.input("image", TensorDesc::f32([batch, 3, 224, 224]));
    model.build(&mut g, image).unwrap();
    g.select(&["logits"]).unwrap()
}

fn plans(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    for name in ["vit-b/16", "vit-l/16"] {
        let made = Synthetic::named(name).unwrap();
        let model = models::from_config(&made.config(), made.checkpoint().index(), None)
            .and_then(models::AnyModel::vision)
            .unwrap();
        group.bench_function(BenchmarkId::new("graph", name), |b| b.iter(|| graph(&*model, 8)));
        let graph = graph(&*model, 8);
        group.bench_function(BenchmarkId::new("fuse", name), |b| {
            b.iter(|| plan::fuse::fuse(black_box(&graph)).unwrap());
        });
        for (kind, target) in [("gpu", Target::portable()), ("cpu", Target::portable_cpu())] {
            group.bench_function(BenchmarkId::new(format!("fuse, compile for {kind}"), name), |b| {
                b.iter(|| plan::compile(black_box(&graph), &target, Options::default()).unwrap());
            });
        }
    }
    group.finish();
}

fn weights(c: &mut Criterion) {
    let mut group = c.benchmark_group("weights");
    group.sample_size(20);
    let checkpoint = Synthetic::named("vit-b/16").unwrap().checkpoint();
    let shape = Shape::new(&[3072, 768]);
    let weight = Weight::tensor("vit.encoder.layer.0.intermediate.dense.weight");
    group.throughput(Throughput::Bytes(3072 * 768 * 4));
    group.bench_function("materialise 3072x768", |b| {
        b.iter(|| materialise(black_box(&weight), shape, &checkpoint).unwrap());
    });
    let data = materialise(&weight, shape, &checkpoint).unwrap().to_f32();
    for layout in [WeightLayout::Table, WeightLayout::Columns] {
        for dtype in [DType::F32, DType::F16] {
            let slot = WeightSlot { weight: weight.clone(), shape, layout, dtype, parts: vec![(0, 3072)] };
            group.bench_function(format!("pack 3072x768 {layout:?} {dtype}"), |b| {
                b.iter(|| {
                    slot.pack(0, black_box(&data), &mut |_, bytes| {
                        black_box(bytes);
                    });
                });
            });
        }
    }
    group.finish();
}

/// What the host does for a run, on a device that does nothing: one element is a launch.
fn launches(c: &mut Criterion) {
    let choice = DeviceChoice { backends: vec!["noop".into()], ..DeviceChoice::default() };
    let gpu = Arc::new(Gpu::open(&choice).unwrap());
    let made = Synthetic::named("vit-b/16").unwrap();
    let checkpoint = made.checkpoint();
    let model = models::from_config(&made.config(), checkpoint.index(), None)
        .and_then(models::AnyModel::vision)
        .unwrap();
    let plan = plan::compile(&graph(&*model, 1), gpu.target(), Options::default()).unwrap();
    let store = Store::new();
    store.load(&gpu, &plan, &|w, s| materialise(w, s, &checkpoint)).unwrap();
    let mut group = c.benchmark_group("launches");
    group.throughput(Throughput::Elements(plan.steps.len() as u64));
    let image = HostTensor::f32([1, 3, 224, 224], vec![0.0; 3 * 224 * 224]);
    let mut executor = Executor::new(gpu, plan, &store).unwrap();
    group.bench_function("vit-b/16, write, record, submit, read", |b| {
        b.iter(|| executor.run(&[("image", &image)]).unwrap());
    });
    group.finish();
}

/// What the host does for a token of LlamaGen-B, guided, on a device that does nothing: the loop alone,
/// without plans, weights and prompt.
fn tokens(c: &mut Criterion) {
    let choice = DeviceChoice { backends: vec!["noop".into()], ..DeviceChoice::default() };
    let options = session::Options { device: Device::Gpu(choice), ..session::Options::default() };
    let generator = Generator::open(&ModelSource::Synthetic("llamagen-b".to_owned()), &options).unwrap();
    let guidance = Guidance { first: 4.0, last: 4.0, places: 1 };
    let request = Request {
        classes: vec![Some(207)],
        first: 0,
        sampling: Sampling { seed: 1, temperature: 1.0, top_k: 2000, top_p: 1.0, guidance },
        prime: Vec::new(),
        order: Order::Raster,
        parallel: None,
        every: 0,
    };
    let mut group = c.benchmark_group("tokens");
    group.sample_size(10);
    group.bench_function("llamagen-b, record, submit", |b| {
        b.iter_custom(|tokens| {
            let (mut time, mut done) = (Duration::ZERO, 0);
            while done < tokens {
                let stats = generator.generate(&request, &mut |_| Ok(())).unwrap().stats;
                (time, done) = (time + stats.decode, done + stats.steps as u64);
            }
            time.mul_f64(tokens as f64 / done as f64)
        });
    });
    group.finish();
}

criterion_group!(benches, pictures, plans, weights, launches, tokens);
criterion_main!(benches);
