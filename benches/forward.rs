//! A model folder end to end on this machine's adapter: parity with the CPU reference op by op,
//! then time, GFLOP/s and memory at several batch sizes.
//!
//! `cargo bench --bench forward -- FOLDER [BATCH ...] [--runs N] [--skip-parity]`
//!
//! Times are wall clock around a whole run (upload of pixels, one forward pass, read-back),
//! after one warm-up run; the median and the spread are printed. Nothing is asserted.
#![allow(missing_docs, reason = "a benchmark")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use vit_gpu::checkpoint::materialise::materialise;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Value};
use vit_gpu::models;
use vit_gpu::ops::Op;
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::session::{ModelSource, Session};
use vit_gpu::tensor::{HostTensor, TensorDesc};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let skip_parity = take_flag(&mut args, "--skip-parity");
    let f16 = take_flag(&mut args, "--f16");
    let runs = match args.iter().position(|a| a == "--runs") {
        Some(i) => args.drain(i..i + 2).nth(1).ok_or("--runs takes a number")?.parse()?,
        None => 5usize,
    };
    if args.is_empty() {
        println!("forward: no model folder given, nothing to do");
        return Ok(());
    }
    let folder = PathBuf::from(args.remove(0));
    let batches: Vec<usize> = if args.is_empty() {
        vec![1, 8]
    } else {
        args.iter().map(|a| a.parse()).collect::<Result<_, _>>()?
    };

    let gpu = Arc::new(Gpu::open(&DeviceChoice::default())?);
    println!("adapter {} ({}), driver {}", gpu.report().name, gpu.report().kind, gpu.report().driver);
    let session = Session::open(&ModelSource::Path(folder), &Default::default())?;
    let checkpoint = session.checkpoint();
    let config = std::fs::read_to_string(PathBuf::from(session.name()).join("config.json"))?;
    let model = models::from_config(&serde_json::from_str(&config)?, checkpoint.index(), None)
        .and_then(models::AnyModel::vision)?;
    let [h, w] = model.info().image_size.into();
    let precision = if f16 { Precision::F16 } else { Precision::F32 };
    let store = Store::new();
    let load = |weight: &_, shape| materialise(weight, shape, checkpoint);

    for batch in batches {
        let image = picture(batch, model.info().channels, h, w);
        let mut graph = Graph::new();
        let input = graph.input("image", image.desc());
        model.build(&mut graph, input)?;
        if !skip_parity {
            let graph = graph.select(&["logits"])?;
            parity(&gpu, &graph, &image, &load)?;
        }
        let graph = graph.select(&["logits"])?;
        let plan =
            plan::compile(&graph, gpu.target(), Options { precision, fuse: true, ..Options::default() })?;
        let (flops, activations, live) = (plan.cost().flops, plan.activation_bytes(), plan.largest_live_set);
        let start = Instant::now();
        store.load(&gpu, &plan, &load)?;
        let loaded = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut executor = Executor::new(gpu.clone(), plan, &store)?;
        executor.run(&[("image", &image)])?;
        let first = start.elapsed().as_secs_f64();
        let mut times = Vec::new();
        for _ in 0..runs {
            let start = Instant::now();
            executor.run(&[("image", &image)])?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!(
            "batch {batch} {precision}: median {:.1} ms ({:.1} to {:.1}, {runs} runs), {:.1} GFLOP/s, {:.2} images/s; \
             weights {:.1} MB uploaded in {loaded:.2} s, pipelines and first run {first:.2} s; \
             activations {:.2} MB (largest live set {:.2} MB); peak resident {} MB",
            median * 1e3,
            times[0] * 1e3,
            times[times.len() - 1] * 1e3,
            flops as f64 / median / 1e9,
            batch as f64 / median,
            store.bytes() as f64 / 1e6,
            activations as f64 / 1e6,
            live as f64 / 1e6,
            peak_resident_mb().map_or("unknown".to_owned(), |mb| mb.to_string()),
        );
    }
    Ok(())
}

/// Every computed value of the graph on the GPU against the same value on the reference.
fn parity(
    gpu: &Arc<Gpu>,
    graph: &Graph,
    image: &HostTensor,
    load: &(dyn Fn(&vit_gpu::graph::Weight, vit_gpu::tensor::Shape) -> vit_gpu::Result<HostTensor> + Sync),
) -> Result<(), Box<dyn std::error::Error>> {
    let mut whole = graph.clone();
    let mut names = Vec::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        if !matches!(node.op, Op::Input { .. } | Op::Weight(_)) {
            let name = format!("{i:03} {} {}", node.op.name(), node.label);
            whole.output(&name, value_at(graph, i));
            names.push(name);
        }
    }
    let plan = plan::compile(&whole, gpu.target(), Options { fuse: false, ..Options::default() })?;
    let store = Store::new();
    store.load(gpu, &plan, load)?;
    let got = Executor::new(gpu.clone(), plan, &store)?.run(&[("image", image)])?;
    let want = vit_gpu::reference::run(&whole, &|w, s| load(w, s), &[("image", image.clone())])?;
    let (mut worst, mut where_) = (0.0f32, String::new());
    let outputs = whole.outputs();
    for (((name, _), got), want) in outputs.iter().zip(&got).zip(&want) {
        for (g, w) in got.to_f32().iter().zip(want.to_f32()) {
            let badness = (g - w).abs() / (1e-4 + 1e-4 * w.abs());
            if badness.is_nan() || badness > worst {
                (worst, where_) = (badness, name.clone());
            }
        }
    }
    println!(
        "parity: {} ops of batch {} against the reference, worst {worst:.3} of the tolerance 1e-4 + 1e-4|x| ({where_})",
        names.len(),
        image.shape().dims()[0],
    );
    Ok(())
}

/// The value made by node `i`.
fn value_at(graph: &Graph, i: usize) -> Value {
    graph.value(i).expect("i is the index of a node")
}

fn picture(batch: usize, channels: usize, h: usize, w: usize) -> HostTensor {
    let desc = TensorDesc::f32([batch, channels, h, w]);
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    HostTensor::f32(desc.shape, (0..desc.shape.elements()).map(|_| next()).collect())
}

fn take_flag(args: &mut Vec<String>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|a| a != flag);
    args.len() < before
}

/// Peak resident memory of this process in MB, where the system tells.
fn peak_resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024)
}
