//! Every op case against its CPU reference, on this adapter: in every way it can be computed there,
//! fused and not, in f32 and f16, bounds-checked and not. `VIT_GPU_CASES=TEXT` takes only the cases
//! whose names hold the text.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

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

const ALL: [usize; 2] = [0, 1];

/// Both, with 0 where both have a NaN.
fn without_nans(got: &HostTensor, want: &HostTensor) -> (HostTensor, HostTensor) {
    let (a, b) = (got.to_f32(), want.to_f32());
    let keep = |x: f32, y: f32| if x.is_nan() && y.is_nan() { 0.0 } else { x };
    let of = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&x, &y)| keep(x, y)).collect();
    (HostTensor::f32(got.shape(), of(&a, &b)), HostTensor::f32(want.shape(), of(&b, &a)))
}

/// Checks every case, or each of them that is `which[0]` of `which[1]`.
fn check_all(gpu: &Arc<Gpu>, options: Options, f16_tolerance: Option<f32>, which: [usize; 2]) {
    let mut failures = Vec::new();
    let only = std::env::var("VIT_GPU_CASES").unwrap_or_default();
    let cases = selftest::all().into_iter().skip(which[0]).step_by(which[1]);
    for case in cases.filter(|c| c.name.contains(&only)) {
        if !options.fuse && !fuses(gpu, &case) {
            continue;
        }
        let want = case.reference().unwrap();
        for (target, way) in case.ways(gpu.target(), &options).unwrap() {
            let name = format!("{} {:?} cpu={}", case.name, way.choices, target.cpu);
            let (got, _) = case.run(gpu, &target, way).unwrap();
            let tolerance = f16_tolerance.unwrap_or(case.tolerance);
            let (got, wanted) = if case.poisoned { without_nans(&got, &want) } else { (got, want.clone()) };
            if let Err(e) = compare(&got, &wanted, tolerance, tolerance) {
                failures.push(format!("{name}: {e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn kernels_match_the_reference() {
    let Some(gpu) = gpu() else { return };
    check_all(&gpu, Options::default(), None, ALL);
}

#[test]
fn kernels_match_the_reference_unfused() {
    let Some(gpu) = gpu() else { return };
    check_all(&gpu, Options { fuse: false, ..Options::default() }, None, ALL);
}

fn with_bounds_checks(which: [usize; 2]) {
    let Some(gpu) = open(&DeviceChoice { checked: true, ..DeviceChoice::default() }) else { return };
    check_all(&gpu, Options::default(), None, which);
}

// In two parts, which two cores share: it is the longest of all.
#[test]
fn kernels_match_the_reference_with_bounds_checks() {
    with_bounds_checks([0, 2]);
}

#[test]
fn other_kernels_match_the_reference_with_bounds_checks() {
    with_bounds_checks([1, 2]);
}

#[test]
fn kernels_match_the_reference_in_f16() {
    let Some(gpu) = gpu() else { return };
    if !gpu.target().f16 {
        eprintln!("SKIP: adapter `{}` has no f16", gpu.report().name);
        return;
    }
    // The cases' values are of order one and sums of up to 768 terms of order 30.
    check_all(&gpu, Options { precision: Precision::F16, ..Options::default() }, Some(2e-2), ALL);
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
            for (target, way) in case.ways(&target, &options).unwrap() {
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
