//! The picture tokenizer by GPU timestamps, at LlamaGen's full sizes and with weights of noise.
//!
//! `cargo bench --bench vq -- [--grid HxW] [--vq8] [--encode] [--batch N] [--f16] [--runs N]`
//!
//! Prints each kind of op with its time, work and rate, then the whole: the fastest of the runs, since
//! other work on the machine only ever adds. Nothing is asserted.
#![allow(missing_docs, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use serde_json::json;
use vit_gpu::gpu::timer::Timer;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::Graph;
use vit_gpu::models::generative::vq::Vq;
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::selftest;
use vit_gpu::tensor::{DType, HostTensor, TensorDesc};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let value = |flag: &str| args.iter().skip_while(|a| *a != flag).nth(1).cloned();
    if !has("--bench") {
        println!("vq: run by `cargo bench --bench vq`");
        return Ok(());
    }
    let grid = value("--grid").unwrap_or_else(|| "16x16".to_owned());
    let (h, w) = grid.split_once('x').ok_or("--grid is not HxW")?;
    let (h, w): (usize, usize) = (h.parse()?, w.parse()?);
    let batch: usize = value("--batch").map_or(Ok(1), |n| n.parse())?;
    let runs: usize = value("--runs").map_or(Ok(3), |n| n.parse())?;
    let precision = if has("--f16") { Precision::F16 } else { Precision::F32 };
    let levels = if has("--vq8") { json!([1, 2, 2, 4]) } else { json!([1, 1, 2, 2, 4]) };
    let vq = Vq::of_config(&json!({ "ch_mult": levels }))?;

    let mut g = Graph::new();
    let (y, x) = if has("--encode") {
        let x = TensorDesc::f32([batch, h * vq.patch(), w * vq.patch(), 3]);
        let picture = g.input("x", x);
        (vq.encode(&mut g, picture)?, HostTensor::f32(x.shape, vec![0.25; x.shape.elements()]))
    } else {
        let x = TensorDesc::new(DType::U32, [batch, h * w]);
        let ids = g.input("x", x);
        (vq.decode(&mut g, ids, [h, w]), HostTensor::u32(x.shape, (0..(batch * h * w) as u32).collect()))
    };
    g.output("y", y);

    let gpu = Arc::new(Gpu::open(&DeviceChoice::default())?);
    let mut timer = Timer::new(&gpu)?;
    let plan = plan::compile(&g, gpu.target(), Options { precision, ..Options::default() })?;
    let (activations, live) = (plan.activation_bytes() as f64 / 1e6, plan.largest_live_set as f64 / 1e6);
    let weights = plan.weight_bytes() as f64 / 1e6;
    let (flops, steps) = (plan.cost().flops as f64, plan.steps.clone());
    let store = Store::new();
    store.load(&gpu, &plan, &|w, s| Ok(selftest::weight(w, s)))?;
    let mut executor = Executor::new(gpu.clone(), plan, &store)?;
    executor.time_steps(&mut timer, &[("x", &x)])?;
    let mut best: Vec<f64> = Vec::new();
    for _ in 0..runs.max(1) {
        let run = executor.time_steps(&mut timer, &[("x", &x)])?;
        let times: Vec<f64> = run.device.iter().map(|s| s.nanoseconds()).collect();
        if best.is_empty() || times.iter().sum::<f64>() < best.iter().sum() {
            best = times;
        }
    }
    let report = gpu.report();
    println!("{}, driver {}, {}, {precision}", report.name, report.driver, timer.clock().name());
    println!("\n launches         ms  GFLOP/s     GB/s  op and operands");
    let mut kinds: BTreeMap<String, (usize, f64, f64, f64)> = BTreeMap::new();
    for (step, time) in steps.iter().zip(&best) {
        let way = step.choice.as_ref().map_or("", |c| c.name);
        let kind = kinds.entry(format!("{} {} {way}", step.op, step.shapes)).or_default();
        let (flops, bytes) = (step.cost.flops as f64, step.cost.bytes as f64);
        *kind = (kind.0 + 1, kind.1 + time, kind.2 + flops, kind.3 + bytes);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (name, (count, time, flops, bytes)) in kinds {
        println!("{count:>9} {:>10.2} {:>8.2} {:>8.2}  {name}", time / 1e6, flops / time, bytes / time);
    }
    let total: f64 = best.iter().sum();
    println!("\n{:.3} s, {:.1} GFLOP, {:.2} GFLOP/s", total / 1e9, flops / 1e9, flops / total);
    println!("activations {activations:.1} MB (at least {live:.1} live at once), weights {weights:.1} MB");
    Ok(())
}
