//! Single ops by GPU timestamps: the cases of the kernel tests that `doctor` runs too, and the ops of
//! ViT-B/16 at their real sizes.
//!
//! `cargo bench --bench ops -- [FILTER...] [--gemm MxKxN]... [--conv HxWxCxN[up]]... [--batch N] [--f16]
//! [--every] [--ways] [--variant OP=NAME]... [--runs N] [--save NAME] [--compare NAME]`
//!
//! `--gemm` times matrix products of these sizes and nothing else, operands and result stored as
//! activations and weights are; `--conv` 3x3 convolutions of H x W pixels, with `up` of the picture of
//! half that size doubled, each beside the matrix product of as much work. FILTER keeps cases whose name holds one of these texts. `--every` takes all cases of the kernel
//! tests, `--ways` every way to compute each, not only the one that would be chosen, `--variant` the named one. Times are the
//! median of all runs after the warm-up, summed over a case's launches, with the median of their
//! distances from it. `--save` keeps them in `target/tmp`, `--compare` prints the ratio to those kept:
//! above 1 is faster than then, and a `*` marks what is more than the noise. Nothing is asserted.
#![allow(missing_docs, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vit_gpu::gpu::ceilings::Ceilings;
use vit_gpu::gpu::timer::{Clock, Timer};
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Value, Weight};
use vit_gpu::ops::{Act, Choices, HeadSplit, MatMul, Op, Scores, Target, Window};
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::selftest::{self, Case};
use vit_gpu::tensor::{DType, HostTensor, TensorDesc};

/// What one case took, in nanoseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Time {
    median: f64,
    /// Median of the distances from the median.
    spread: f64,
}

/// A saved run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    adapter: String,
    driver: String,
    clock: String,
    times: BTreeMap<String, Time>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if !take_flag(&mut args, "--bench") {
        println!("ops: run by `cargo bench --bench ops`");
        return Ok(());
    }
    let (every, ways) = (take_flag(&mut args, "--every"), take_flag(&mut args, "--ways"));
    let precision = if take_flag(&mut args, "--f16") { Precision::F16 } else { Precision::F32 };
    let runs: usize = take(&mut args, "--runs")?.map_or(Ok(20), |n| n.parse())?;
    let batch: usize = take(&mut args, "--batch")?.map_or(Ok(1), |n| n.parse())?;
    let mut gemms = Vec::new();
    while let Some(sizes) = take(&mut args, "--gemm")? {
        gemms.push(gemm(&sizes)?);
    }
    while let Some(sizes) = take(&mut args, "--conv")? {
        gemms.extend(conv(&sizes)?);
    }
    let mut variants = Vec::new();
    while let Some(setting) = take(&mut args, "--variant")? {
        variants.push(setting);
    }
    let choices = Choices::forced(variants.iter().map(String::as_str))?;
    let (save, compare) = (take(&mut args, "--save")?, take(&mut args, "--compare")?);
    if let Some(unknown) = args.iter().find(|a| a.starts_with("--")) {
        return Err(format!("unknown flag {unknown}").into());
    }
    let before = compare.as_deref().map(load).transpose()?;

    let gpu = Arc::new(Gpu::open(&DeviceChoice::default())?);
    let mut timer = Timer::new(&gpu)?;
    let ceilings = Ceilings::of(&mut timer, Some(&folder()), false)?.0;
    let (adapter, driver) = (gpu.report().name.clone(), gpu.report().driver.clone());
    println!("{adapter}, driver {driver}, {}, {runs} runs", timer.clock().name());
    if let Clock::Wall(reason) = timer.clock() {
        println!("wall clock: {reason}");
    }
    if let Some(before) = &before
        && (&before.adapter, &before.driver) != (&adapter, &driver)
    {
        println!("compared with a run on {} ({})", before.adapter, before.driver);
    }
    let width = if before.is_some() { "    ratio" } else { "" };
    println!("\n  median us    spread  GFLOP/s     GB/s  roofline{width}  case");

    let mut cases: Vec<Case> = selftest::all().into_iter().filter(|c| every || c.quick).collect();
    cases.extend(vit_b(batch));
    if !gemms.is_empty() {
        cases = gemms;
    }
    cases.retain(|c| args.is_empty() || args.iter().any(|filter| c.name.contains(filter.as_str())));
    let mut saved = Saved { adapter, driver, clock: timer.clock().name().to_owned(), ..Saved::default() };
    for case in &cases {
        let chosen = Options { precision, choices: choices.clone(), ..Options::default() };
        let all = if ways { case.ways(gpu.target(), &chosen)? } else { vec![(gpu.target().clone(), chosen)] };
        for (target, options) in all {
            let Timed { kernels, time, flops, bytes, matrices } =
                time(&gpu, &mut timer, case, &target, options, runs)?;
            let roof = ceilings.matrix.filter(|_| matrices).unwrap_or(ceilings.f32);
            let least = f64::max(bytes / ceilings.copy(), flops / roof) * 1e9;
            // A run in which another way is chosen is compared all the same, unless all ways are run.
            let shown = format!("{} {precision} [{kernels}]", case.name);
            let name = if ways { shown.clone() } else { format!("{} {precision}", case.name) };
            let ratio = before.as_ref().map_or(String::new(), |before| {
                before.times.get(&name).map_or("        -".to_owned(), |old| compared(*old, time))
            });
            println!(
                "{:>11.1} {:>8.1}% {:>8.2} {:>8.2} {:>8.1}%{ratio}  {shown}",
                time.median / 1e3,
                time.spread / time.median * 100.0,
                flops / time.median,
                bytes / time.median,
                least / time.median * 100.0
            );
            saved.times.insert(name, time);
        }
    }
    if let Some(name) = save {
        let file = file(&name)?;
        std::fs::write(&file, serde_json::to_string_pretty(&saved)?)?;
        println!("\nsaved as {name} in {}", file.display());
    }
    Ok(())
}

/// How much faster than then: `1.52 *`.
fn compared(old: Time, new: Time) -> String {
    let beyond = (old.median - new.median).abs() > 3.0 * (old.spread + new.spread);
    format!("{:>7.2} {}", old.median / new.median, if beyond { "*" } else { " " })
}

/// A case, timed.
struct Timed {
    kernels: String,
    time: Time,
    flops: f64,
    bytes: f64,
    /// Whether cooperative matrices compute it.
    matrices: bool,
}

fn time(
    gpu: &Arc<Gpu>,
    timer: &mut Timer,
    case: &Case,
    target: &Target,
    options: Options,
    runs: usize,
) -> Result<Timed, Box<dyn Error>> {
    let plan = plan::compile(&case.graph, target, options)?;
    let kernels: Vec<String> = plan
        .steps
        .iter()
        .map(|s| s.choice.as_ref().map_or(s.kernel.name.to_owned(), |c| c.name.to_owned()))
        .collect();
    let kernels = kernels.join(", ");
    // A matrix product stands between two others that only give its operands their storage types.
    let bare = [GEMM, CONV].iter().any(|start| case.name.starts_with(start));
    let timed = |s: &plan::Step| !bare || ["matmul", "conv2d"].contains(&s.op);
    let timed: Vec<bool> = plan.steps.iter().map(timed).collect();
    let costs = plan.steps.iter().zip(&timed).filter(|(_, timed)| **timed).map(|(s, _)| s.cost);
    let (flops, bytes) = costs.fold((0, 0), |(flops, bytes), c| (flops + c.flops, bytes + c.bytes));
    let matrices = plan.steps.iter().any(|s| s.variant.uses_matrices());
    let store = Store::new();
    store.load(gpu, &plan, &|w, s| Ok(selftest::weight(w, s)))?;
    let mut executor = Executor::new(gpu.clone(), plan, &store)?;
    let inputs = case.inputs();
    let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
    executor.time_steps(timer, &inputs)?;
    let mut sums = Vec::with_capacity(runs);
    for _ in 0..runs.max(1) {
        let run = executor.time_steps(timer, &inputs)?;
        let spans = run.device.iter().zip(&timed).filter(|(_, timed)| **timed);
        sums.push(spans.map(|(s, _)| s.nanoseconds()).sum());
    }
    let middle = median(&mut sums).max(1.0);
    let mut distances: Vec<f64> = sums.iter().map(|t| (t - middle).abs()).collect();
    let time = Time { median: middle, spread: median(&mut distances) };
    Ok(Timed { kernels, time, flops: flops as f64, bytes: bytes as f64, matrices })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How the names of bare matrix products begin.
const GEMM: &str = "gemm ";

/// A matrix product by its sizes: `MxKxN`.
fn gemm(sizes: &str) -> Result<Case, Box<dyn Error>> {
    let numbers: Vec<usize> = sizes.split('x').map(str::parse).collect::<Result<_, _>>()?;
    let &[m, k, n] = numbers.as_slice() else { return Err(format!("`{sizes}` is not MxKxN").into()) };
    if m * k * n == 0 {
        return Err(format!("`{sizes}` is empty").into());
    }
    let mut g = Graph::new();
    g.scope("gemm");
    let x = g.input("x", TensorDesc::f32([m, k]));
    let x = g.act(x, Act::Relu);
    let y = g.linear(x, Weight::tensor("w"), None, n);
    let y = g.scale(y, 1.0);
    g.output("y", y);
    Ok(Case { name: format!("{GEMM}{sizes}"), graph: g, tolerance: 0.0, quick: false, states: Vec::new() })
}

/// How the names of bare convolutions begin.
const CONV: &str = "3x3 ";

/// A matrix product and the convolution of as much work, by its sizes: `HxWxCxN`.
fn conv(sizes: &str) -> Result<[Case; 2], Box<dyn Error>> {
    let (numbers, up) = sizes.strip_suffix("up").map_or((sizes, false), |numbers| (numbers, true));
    let numbers: Vec<usize> = numbers.split('x').map(str::parse).collect::<Result<_, _>>()?;
    let &[h, w, c, n] = numbers.as_slice() else { return Err(format!("`{sizes}` is not HxWxCxN").into()) };
    let product = gemm(&format!("{}x{}x{n}", h * w, 9 * c))?;
    let mut g = Graph::new();
    g.scope("conv");
    let x = g.input("x", TensorDesc::f32(if up { [1, h / 2, w / 2, c] } else { [1, h, w, c] }));
    let x = g.act(x, Act::Relu);
    let (weight, window) = (Weight::tensor("w"), Window::same(3));
    let y = if up { g.conv2d_up(x, weight, None, n, window) } else { g.conv2d(x, weight, None, n, window) };
    let y = g.scale(y, 1.0);
    g.output("y", y);
    g.check()?;
    Ok([
        product,
        Case { name: format!("{CONV}{sizes}"), graph: g, tolerance: 0.0, quick: false, states: Vec::new() },
    ])
}

/// The ops of a layer of ViT-B/16 on `batch` pictures, and those around the layers.
fn vit_b(batch: usize) -> Vec<Case> {
    let (tokens, width, heads, hidden) = (197, 768, 12, 3072);
    let case = |name: &str, build: &dyn Fn(&mut Graph) -> Value| {
        let mut graph = Graph::new();
        graph.scope("case");
        let y = build(&mut graph);
        graph.output("y", y);
        Case {
            name: format!("vit-b batch {batch} {name}"),
            graph,
            tolerance: 0.0,
            quick: false,
            states: Vec::new(),
        }
    };
    let x = |g: &mut Graph, c: usize| g.input("x", TensorDesc::f32([batch, tokens, c]));
    let linear =
        |g: &mut Graph, x: Value, n: usize| g.linear(x, Weight::tensor("w"), Some(Weight::tensor("b")), n);
    let qkv = |g: &mut Graph| {
        let x = x(g, width);
        let w = g.weight(Weight::tensor("w"), [3 * width, width]);
        let b = g.weight(Weight::tensor("b"), [3 * width]);
        let op = MatMul { bias: true, heads: Some(HeadSplit { ways: 3, heads }), ..MatMul::default() };
        g.push(Op::MatMul(op), vec![x, w, b])
    };
    let residual = |g: &mut Graph, c: usize| {
        let x = x(g, c);
        let y = linear(g, x, width);
        let r = g.input("r", TensorDesc::f32([batch, tokens, width]));
        g.add(r, y)
    };
    vec![
        case("patchify", &|g| {
            let image = g.input("x", TensorDesc::new(DType::U8, [batch, 224, 224, 3]));
            let image = g.normalise(image, [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0]);
            g.patchify(image, [16, 16])
        }),
        case("norm", &|g| {
            let x = x(g, width);
            g.layer_norm(x, Weight::tensor("gain"), Weight::tensor("bias"), 1e-6)
        }),
        case("qkv", &qkv),
        case("attention", &|g| {
            let qkv =
                ["q", "k", "v"].map(|n| g.input(n, TensorDesc::f32([batch, heads, tokens, width / heads])));
            g.attention(qkv, Scores::scaled(0.125))
        }),
        case("projection", &|g| residual(g, width)),
        case("mlp up", &|g| {
            let x = x(g, width);
            let y = linear(g, x, hidden);
            g.act(y, Act::Gelu)
        }),
        case("mlp down", &|g| residual(g, hidden)),
        case("head", &|g| {
            let x = g.input("x", TensorDesc::f32([batch, width]));
            linear(g, x, 1000)
        }),
    ]
}

/// Where saved runs are kept.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn file(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("`{name}`: names are made of letters, digits, -, _ and .").into());
    }
    Ok(folder().join(format!("ops-{name}.json")))
}

fn load(name: &str) -> Result<Saved, Box<dyn Error>> {
    let file = file(name)?;
    let text = std::fs::read_to_string(&file)
        .map_err(|e| format!("no run was saved as {name} ({}: {e})", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn take_flag(args: &mut Vec<String>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|a| a != flag);
    args.len() < before
}

/// The value after a flag, both taken out.
fn take(args: &mut Vec<String>, flag: &str) -> Result<Option<String>, Box<dyn Error>> {
    let Some(i) = args.iter().position(|a| a == flag) else { return Ok(None) };
    args.remove(i);
    if i == args.len() {
        return Err(format!("{flag} takes a value").into());
    }
    Ok(Some(args.remove(i)))
}
