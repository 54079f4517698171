//! Every op case against its CPU reference, on this adapter: in every kernel variant there,
//! fused and not, in f32 and f16, bounds-checked and not. `VIT_GPU_CASES=TEXT` takes only the cases
//! whose names hold the text.
//!
//! Most of the time goes into the driver's compiler. In f32 each kernel variant computes all its cases; what f16 and
//! checks change is the same in each of them, and six are computed. `VIT_GPU_WAYS=N` takes N everywhere,
//! `VIT_GPU_WAYS=all` all of them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{compare, gpu, open};
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::ops::{Matrices, Target};
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::selftest::{self, Case};
use vit_gpu::tensor::HostTensor;

/// True if fusion changes the launches of a case.
fn fuses(gpu: &Gpu, case: &Case) -> bool {
    let plan = |fuse| plan::compile(&case.graph, gpu.target(), Options { fuse, ..Options::default() });
    plan(true).unwrap().to_string() != plan(false).unwrap().to_string()
}

/// Both, with 0 where both have a NaN.
fn without_nans(got: &HostTensor, want: &HostTensor) -> (HostTensor, HostTensor) {
    let (a, b) = (got.to_f32(), want.to_f32());
    let keep = |x: f32, y: f32| if x.is_nan() && y.is_nan() { 0.0 } else { x };
    let of = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| keep(x, y)).collect();
    (HostTensor::f32(got.shape(), of(&a, &b)), HostTensor::f32(want.shape(), of(&b, &a)))
}

/// Cases of each kernel variant, where some will do.
const SOME: usize = 6;

/// A case, and one variant of it.
type Run<'a> = (&'a Case, Target, Options);

/// Every variant of every case, or `usual` cases of each kernel variant.
fn runs<'a>(gpu: &Gpu, cases: &'a [Case], options: &Options, usual: Option<usize>) -> Vec<Run<'a>> {
    let only = std::env::var("VIT_GPU_CASES").unwrap_or_default();
    let cases = cases.iter().filter(|c| c.name.contains(&only) && (options.fuse || fuses(gpu, c)));
    let variants = |case: &'a Case| {
        let variants = case.variants(gpu.target(), options).unwrap();
        variants.into_iter().map(move |(target, options)| (case, target, options))
    };
    let runs = cases.flat_map(variants).collect();
    let most = match std::env::var("VIT_GPU_WAYS").as_deref() {
        Ok("all") => None,
        Ok(n) => Some(n.parse().expect("VIT_GPU_WAYS is a number or all")),
        Err(_) => usual,
    };
    match most {
        Some(most) => some_of_each(runs, most),
        None => runs,
    }
}

/// So many of the runs of each kernel variant, spread over its cases, and those of kernels without variants.
fn some_of_each(runs: Vec<Run<'_>>, most: usize) -> Vec<Run<'_>> {
    let name = |way: &Options| format!("{:?}", way.choices);
    let mut of: BTreeMap<String, usize> = BTreeMap::new();
    for (_, _, way) in &runs {
        *of.entry(name(way)).or_default() += 1;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let taken = |(_, _, way): &Run<'_>| {
        let name = name(way);
        let (all, at) = (of[&name], seen.entry(name).or_default());
        *at += 1;
        // Whenever this fraction passes a whole number.
        way.choices.forced_names().next().is_none() || *at * most / all > (*at - 1) * most / all
    };
    runs.into_iter().filter(taken).collect()
}

fn check(gpu: &Arc<Gpu>, runs: &[Run<'_>], f16_tolerance: Option<f32>) {
    assert!(!runs.is_empty() || std::env::var_os("VIT_GPU_CASES").is_some(), "nothing runs");
    let mut failures = Vec::new();
    let mut want: Option<(&str, HostTensor)> = None;
    for (case, target, way) in runs {
        if want.as_ref().is_none_or(|(name, _)| *name != case.name) {
            want = Some((&case.name, case.reference().unwrap()));
        }
        let (_, want) = want.as_ref().unwrap();
        let name = format!("{} {:?} cpu={}", case.name, way.choices, target.cpu);
        let (got, _) = case.run(gpu, target, way.clone()).unwrap();
        let tolerance = f16_tolerance.unwrap_or(case.tolerance);
        let (got, wanted) = if case.poisoned { without_nans(&got, want) } else { (got, want.clone()) };
        if let Err(e) = compare(&got, &wanted, tolerance, tolerance) {
            failures.push(format!("{name}: {e}"));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn check_all(gpu: &Arc<Gpu>, options: &Options, usual: Option<usize>) {
    // The cases' values are of order one and sums of up to 768 terms of order 30.
    let f16_tolerance = (options.precision == Precision::F16).then_some(2e-2);
    let cases = selftest::all();
    check(gpu, &runs(gpu, &cases, options, usual), f16_tolerance);
}

#[test]
fn kernels_match_the_reference() {
    let Some(gpu) = gpu() else { return };
    check_all(&gpu, &Options::default(), None);
}

#[test]
fn kernels_match_the_reference_unfused() {
    let Some(gpu) = gpu() else { return };
    check_all(&gpu, &Options { fuse: false, ..Options::default() }, None);
}

#[test]
fn kernels_match_the_reference_with_bounds_checks() {
    let Some(gpu) = open(&DeviceChoice { checked: true, ..DeviceChoice::default() }) else { return };
    check_all(&gpu, &Options::default(), Some(SOME));
}

#[test]
fn kernels_match_the_reference_in_f16() {
    let Some(gpu) = gpu() else { return };
    if !gpu.target().f16 {
        eprintln!("SKIP: adapter `{}` has no f16", gpu.report().name);
        return;
    }
    check_all(&gpu, &Options { precision: Precision::F16, ..Options::default() }, Some(SOME));
}

/// Those on cooperative matrices, with bounds checks, and written for larger subgroups than run them:
/// an adapter with subgroups of several sizes may run a kernel with less than the largest, for which
/// it is written.
#[test]
fn kernels_on_matrices_match_checked_and_with_smaller_subgroups_than_the_largest() {
    for (checked, factor) in [(true, 1), (false, 2)] {
        let Some(gpu) = open(&DeviceChoice { checked, ..DeviceChoice::default() }) else { return };
        let Some(matrices) = gpu.target().matrices else {
            eprintln!("SKIP: adapter `{}` has no cooperative matrices for kernels here", gpu.report().name);
            return;
        };
        let matrices = Some(Matrices { subgroup: matrices.subgroup * factor, ..matrices });
        let target = Target { matrices, ..gpu.target().clone() };
        let options = Options { precision: Precision::F16, ..Options::default() };
        let mut ran = 0;
        for case in selftest::all().iter().filter(|c| c.name.contains("computed")) {
            let want = case.reference().unwrap();
            for (target, way) in case.variants(&target, &options).unwrap() {
                if way.choices.forced_names().all(|(_, name)| name.starts_with("coop")) {
                    let (got, _) = case.run(&gpu, &target, way).unwrap();
                    let (got, want) =
                        if case.poisoned { without_nans(&got, &want) } else { (got, want.clone()) };
                    compare(&got, &want, 2e-2, 2e-2).unwrap_or_else(|e| panic!("{}: {e}", case.name));
                    ran += 1;
                }
            }
        }
        assert!(ran > 5, "only {ran} ways ran");
    }
}

#[test]
fn many_small_submissions_give_the_same_bits_as_one() {
    let Some(gpu) = gpu() else { return };
    let case = selftest::all().into_iter().find(|c| c.name == "attention from one projection").unwrap();
    let options = Options { fuse: false, ..Options::default() };
    let run = |submit_flops: Option<u64>| {
        let plan = plan::compile(&case.graph, gpu.target(), options.clone()).unwrap();
        let store = Store::new();
        store.load(&gpu, &plan, &|w, s| Ok(selftest::weight(w, s))).unwrap();
        let mut executor = Executor::new(gpu.clone(), plan, &store).unwrap();
        if let Some(flops) = submit_flops {
            executor.set_submit_flops(flops);
        }
        let inputs = case.inputs();
        let inputs: Vec<_> = inputs.iter().map(|(name, t)| (*name, t)).collect();
        executor.run(&inputs).unwrap()
    };
    assert_eq!(run(Some(0)), run(None));
}
