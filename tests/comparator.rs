//! No GPU. The comparator that every numeric test relies on can fail, and a skip can be forbidden.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{assert_close, compare};
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::tensor::HostTensor;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn tensor(data: &[f32]) -> HostTensor {
    HostTensor::f32([data.len()], data.to_vec())
}

#[test]
fn equal_and_nearly_equal_tensors_are_accepted() {
    let want = tensor(&[1.0, -200.0, 0.0]);
    assert_eq!(compare(&want, &want, 0.0, 0.0), Ok(0.0));
    let largest = compare(&tensor(&[1.0, -200.5, 0.25]), &want, 0.25, 0.25).unwrap();
    assert_eq!(largest, 0.25, "the difference at the element nearest to its tolerance");
    assert!(compare(&tensor(&[1.0, -200.5, 0.0]), &want, 0.0, 0.01).is_ok(), "relative");
    assert!(compare(&tensor(&[]), &tensor(&[]), 0.0, 0.0).is_ok());
}

#[test]
fn everything_else_is_refused() {
    let want = [1.0, -2.0, 0.0, 4.0];
    for (what, got, expected) in [
        ("wrong", &[1.0, -2.0, 0.01, 4.0][..], "element 2: got 0.01, want 0"),
        ("wrong at the end", &[1.0, -2.0, 0.0, 4.5], "element 3"),
        ("wrong twice: the worse one is named", &[1.01, -2.0, 0.0, -4.0], "element 3"),
        ("sign", &[1.0, 2.0, 0.0, 4.0], "element 1"),
        ("NaN first", &[NAN, -2.0, 0.0, 4.0], "element 0"),
        ("NaN after something wrong", &[1.0, -9.0, 0.0, NAN], "element 3"),
        ("infinite", &[1.0, -2.0, INF, 4.0], "element 2"),
        ("swapped", &[-2.0, 1.0, 0.0, 4.0], "element"),
        ("zeros", &[0.0; 4], "element"),
        ("short", &[1.0, -2.0, 0.0], "shape [3] instead of [4]"),
        ("long", &[1.0, -2.0, 0.0, 4.0, 0.0], "shape [5] instead of [4]"),
        ("empty", &[], "shape [0] instead of [4]"),
    ] {
        let error = compare(&tensor(got), &tensor(&want), 1e-4, 1e-4).expect_err(what);
        assert!(error.contains(expected), "{what}: expected `{expected}`: {error}");
    }
    let reshaped = tensor(&want).reshaped([2, 2]);
    assert!(compare(&reshaped, &tensor(&want), 1.0, 1.0).is_err(), "another shape of as many elements");
}

#[test]
fn a_reference_that_is_not_finite_accepts_nothing() {
    for bad in [NAN, INF, -INF] {
        for got in [NAN, INF, -INF, 0.0, 3e38] {
            let same = compare(&tensor(&[got]), &tensor(&[bad]), 1.0, 1.0);
            assert!(same.is_err(), "got {got}, want {bad}");
        }
    }
    // Nor does a tolerance of NaN, or a finite one across the whole range.
    assert!(compare(&tensor(&[1.0]), &tensor(&[2.0]), NAN, 0.0).is_err());
    assert!(compare(&tensor(&[3e38]), &tensor(&[-3e38]), 1e-4, 1e-4).is_err());
}

#[test]
#[should_panic(expected = "the case's name: element 1")]
fn the_asserting_form_names_the_case() {
    assert_close("the case's name", &tensor(&[0.0, 1.0]), &tensor(&[0.0, 2.0]), 0.1, 0.1);
}

/// Says that [`a_skip_is_loud_and_can_be_forbidden`] started this process.
const CHILD: &str = "VIT_GPU_TEST_SKIP";

#[test]
fn a_skip_is_loud_and_can_be_forbidden() {
    // A backend that this system does not have.
    let foreign = if cfg!(target_os = "macos") { "dx12" } else { "metal" };
    let choice = DeviceChoice { backends: vec![foreign.into()], ..DeviceChoice::default() };
    if std::env::var_os(CHILD).is_some() {
        assert!(common::open(&choice).is_none());
        return;
    }
    let run = |required: bool| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_skip_is_loud_and_can_be_forbidden", "--nocapture"]).env(CHILD, "1");
        child.env_remove("VIT_GPU_REQUIRE");
        if required {
            child.env("VIT_GPU_REQUIRE", "1");
        }
        let output = child.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passed, stderr) = run(false);
    assert!(passed && stderr.contains("SKIP"), "{stderr}");
    let (passed, stderr) = run(true);
    assert!(!passed && stderr.contains("a GPU test cannot run"), "{stderr}");
}
