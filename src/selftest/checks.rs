//! The cases in every variant an adapter can compute, one check each, against the reference.

use std::sync::{Arc, OnceLock};

use super::quick::{F16_TOLERANCE, QUICK_F16};
use super::{Case, all};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::ops::Target;
use crate::plan::{Options, Precision};
use crate::tensor::HostTensor;

/// One case in one storage type, computed by one variant.
pub struct Check {
    /// Case, storage type and variant: `matmul 1x1x1 f32 matmul=tile64`.
    pub name: String,
    case: Arc<Referenced>,
    target: Target,
    options: Options,
    /// Largest difference allowed, absolute and relative.
    tolerance: f32,
}

/// A case, and what the reference makes of it once somebody asks.
struct Referenced {
    case: Case,
    want: OnceLock<HostTensor>,
}

/// What one check gave on one adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The check's name.
    pub name: String,
    /// Kernels that ran, in order.
    pub kernels: Vec<&'static str>,
    /// Largest absolute difference from the reference; NaN if a result is NaN or there is none.
    pub max_error: f32,
    /// The difference allowed at the worst element.
    pub tolerance: f32,
    /// Whether every element is within tolerance.
    pub pass: bool,
    /// Why there is no result at all, for example because the driver rejects the kernel.
    pub failure: Option<String>,
}

/// The checks of an adapter: the quick cases in f32 and some in f16, or `every` case in both.
///
/// # Errors
/// None that a case of [`all`] meets.
pub fn checks(target: &Target, every: bool) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for case in all().into_iter().filter(|c| every || c.quick) {
        let f32 = (Precision::F32, case.tolerance);
        let f16 = (Precision::F16, F16_TOLERANCE);
        let narrow = target.f16 && (every || QUICK_F16.contains(&case.name.as_str()));
        let case = Arc::new(Referenced { case, want: OnceLock::new() });
        for (precision, tolerance) in [f32, f16].into_iter().take(1 + usize::from(narrow)) {
            let options = Options { precision, ..Options::default() };
            for (target, options) in case.case.variants(target, &options)? {
                let name = format!("{} {precision} {}", case.case.name, variant_name(&target, &options));
                checks.push(Check { name, case: case.clone(), target, options, tolerance });
            }
        }
    }
    Ok(checks)
}

/// What sets one of [`Case::variants`] apart from the others: `matmul=tile64`.
pub fn variant_name(target: &Target, options: &Options) -> String {
    match options.choices.forced_names().next() {
        Some((op, name)) => format!("{op}={name}"),
        None => format!("as on a {}", if target.cpu { "CPU" } else { "GPU" }),
    }
}

impl Check {
    /// Runs the check; a wrong result, and a device that cannot run it, are outcomes.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and [`Error::Timeout`], after which the device runs nothing more, and what the
    /// reference may meet.
    pub fn run(&self, gpu: &Arc<Gpu>) -> Result<Outcome> {
        let want = match self.case.want.get() {
            Some(want) => want,
            None => {
                let made = self.case.case.reference()?;
                self.case.want.get_or_init(|| made)
            }
        };
        let (name, tolerance) = (self.name.clone(), self.tolerance);
        match self.case.case.run(gpu, &self.target, self.options.clone()) {
            Ok((got, kernels)) => {
                let (max_error, pass) = compare(&got.to_f32(), &want.to_f32(), tolerance);
                Ok(Outcome { name, kernels, max_error, tolerance, pass, failure: None })
            }
            Err(e @ (Error::DeviceLost { .. } | Error::Timeout { .. })) => Err(e),
            Err(e) => Ok(self.failed(&e)),
        }
    }

    /// The outcome of a check that an error has ended.
    pub fn failed(&self, e: &Error) -> Outcome {
        Outcome {
            name: self.name.clone(),
            kernels: Vec::new(),
            max_error: f32::NAN,
            tolerance: self.tolerance,
            pass: false,
            failure: Some(e.message()),
        }
    }
}

/// Runs the quick checks.
///
/// # Errors
/// As [`Check::run`].
pub fn quick(gpu: &Arc<Gpu>) -> Result<Vec<Outcome>> {
    checks(gpu.target(), false)?.iter().map(|check| check.run(gpu)).collect()
}

/// The larger of two; NaN if either is.
pub fn largest(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// The largest difference, NaN if there is one, and whether all are within tolerance. A NaN that is
/// wanted is right, and no difference.
fn compare(got: &[f32], want: &[f32], tolerance: f32) -> (f32, bool) {
    if got.len() != want.len() {
        return (f32::NAN, false);
    }
    let (mut worst, mut pass) = (0.0f32, true);
    for (g, w) in got.iter().zip(want) {
        if g.is_nan() && w.is_nan() {
            continue;
        }
        let error = (g - w).abs();
        pass &= error <= tolerance * (1.0 + w.abs());
        worst = largest(worst, error);
    }
    (worst, pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_is_never_lost() {
        assert_eq!(compare(&[1.0, 2.0], &[1.0, 2.5], 0.1), (0.5, false));
        assert_eq!(compare(&[1.0, 2.0], &[1.0, 2.5], 0.2), (0.5, true));
        for nan in [[f32::NAN, 2.0, 3.0], [1.0, f32::NAN, 3.0], [1.0, 2.0, f32::NAN]] {
            let (worst, pass) = compare(&nan, &[1.0, 2.0, 3.0], 1.0);
            assert!(worst.is_nan() && !pass);
            let (worst, pass) = compare(&[1.0, 2.0, 3.0], &nan, 1.0);
            assert!(worst.is_nan() && !pass);
            assert_eq!(compare(&nan, &nan, 0.0), (0.0, true));
        }
        assert!(!compare(&[1.0], &[1.0, 2.0], 1.0).1);
        assert!(!compare(&[f32::INFINITY], &[f32::INFINITY], 1.0).1, "their difference is no number");
    }

    #[test]
    fn checks_have_names_of_their_own() {
        for target in [Target::portable(), Target { f16: true, cpu: true, ..Target::portable() }] {
            let checks = checks(&target, true).expect("every case compiles");
            let mut names: Vec<&str> = checks.iter().map(|c| c.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), checks.len());
        }
    }
}
