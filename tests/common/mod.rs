//! What integration tests share: a GPU or a loud skip, and a comparator that can fail.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use vit_gpu::gpu::{DeviceChoice, Gpu};
use vit_gpu::tensor::HostTensor;

/// The adapter to test on, or `None` after a loud `SKIP`. `VIT_GPU_REQUIRE=1` turns a skip into a
/// failure; `VIT_GPU_CHECKED=1` runs shaders with bounds checks.
pub fn gpu() -> Option<Arc<Gpu>> {
    open(&DeviceChoice { checked: std::env::var_os("VIT_GPU_CHECKED").is_some(), ..DeviceChoice::default() })
}

/// The adapter under a particular choice, or `None` after a loud `SKIP`.
pub fn open(choice: &DeviceChoice) -> Option<Arc<Gpu>> {
    match Gpu::open(choice) {
        Ok(gpu) => Some(Arc::new(gpu)),
        Err(e) => {
            assert!(std::env::var_os("VIT_GPU_REQUIRE").is_none(), "a GPU test cannot run: {e}");
            eprintln!("SKIP: no GPU: {e}");
            None
        }
    }
}

/// Compares `got` with `want` element by element: |got - want| <= atol + rtol·|want|, so that NaN
/// fails. Returns the largest absolute difference, or a sentence about the worst element.
pub fn compare(got: &HostTensor, want: &HostTensor, atol: f32, rtol: f32) -> Result<f32, String> {
    if got.shape() != want.shape() {
        return Err(format!("shape {} instead of {}", got.shape(), want.shape()));
    }
    let (got, want) = (got.to_f32(), want.to_f32());
    let mut worst = (0.0f32, 0.0f32, 0usize);
    for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
        let difference = (g - w).abs();
        let allowed = atol + rtol * w.abs();
        // NaN in either makes the quotient NaN, which is worse than anything.
        let badness = if difference == 0.0 { 0.0 } else { difference / allowed };
        if badness.is_nan() {
            return Err(format!("element {i}: got {g}, want {w}"));
        }
        if badness > worst.0 {
            worst = (badness, difference, i);
        }
    }
    let (badness, difference, i) = worst;
    if badness <= 1.0 {
        Ok(difference)
    } else {
        Err(format!("element {i}: got {}, want {}, {badness:.1} times the tolerance", got[i], want[i]))
    }
}

/// Panics with the case's name unless [`compare`] accepts.
pub fn assert_close(case: &str, got: &HostTensor, want: &HostTensor, atol: f32, rtol: f32) {
    if let Err(e) = compare(got, want, atol, rtol) {
        panic!("{case}: {e}");
    }
}
