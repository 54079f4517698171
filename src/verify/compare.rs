//! One output against its record: NaN on either side never passes, and for class scores the
//! first class must agree too.

use serde::Serialize;

use crate::tensor::HostTensor;

/// What came of one recorded output.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Of the recorded tensor.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Largest |got - want|; absent where nothing finite can be said.
    pub max_abs: Option<f32>,
    /// Largest |got - want| / |want| where |want| is above the absolute tolerance.
    pub max_rel: Option<f32>,
    /// Length of the difference as a share of the recorded tensor's, where that is what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_norm: Option<f32>,
    /// Whether the two agree.
    pub pass: bool,
    /// Why nothing was compared, or why it failed beyond numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True if nothing was compared.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

/// How near is near: |got - want| <= atol + rtol·|want|.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f32,
    /// Part relative to the recorded value.
    pub rtol: f32,
}

/// One output against its record. NaN on either side never passes.
pub fn compare(name: &str, got: &HostTensor, want: &HostTensor, tolerance: Tolerance) -> Verdict {
    let mut verdict =
        Verdict { name: name.to_owned(), shape: want.shape().dims().to_vec(), ..Verdict::default() };
    if got.shape() != want.shape() {
        verdict.reason = Some(format!("the model yields shape {}", got.shape()));
        return verdict;
    }
    let width = want.shape().width().max(1);
    let (got, want) = (got.to_f32(), want.to_f32());
    let (mut max_abs, mut max_rel, mut bad, mut worst) = (0f32, 0f32, 0usize, (0f32, 0usize));
    for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
        let difference = (g - w).abs();
        let allowed = tolerance.atol + tolerance.rtol * w.abs();
        let near = difference <= allowed;
        bad += usize::from(!near);
        let badness = if near { 0.0 } else { difference / allowed };
        if badness > worst.0 || badness.is_nan() && !worst.0.is_nan() {
            worst = (badness, i);
        }
        max_abs = if difference.is_nan() || max_abs.is_nan() { f32::NAN } else { max_abs.max(difference) };
        if w.abs() > tolerance.atol {
            max_rel = if difference.is_nan() || max_rel.is_nan() {
                f32::NAN
            } else {
                max_rel.max(difference / w.abs())
            };
        }
    }
    let finite = |x: f32| x.is_finite().then_some(x);
    (verdict.max_abs, verdict.max_rel) = (finite(max_abs), finite(max_rel));
    if bad > 0 {
        let i = worst.1;
        verdict.reason = Some(format!(
            "{bad} of {} values differ, worst at {i}: got {}, want {}",
            want.len(),
            got[i],
            want[i]
        ));
    } else if name.ends_with("logits") {
        verdict.reason = first_class(&got, &want, width, tolerance);
    }
    verdict.pass = verdict.reason.is_none();
    verdict
}

/// A gradient against its record, by the length of the difference: at most so much of the recorded length, and
/// so much of `total`, the length of all gradients together. NaN on either side never passes.
pub fn compare_norm(
    name: &str,
    got: &HostTensor,
    want: &HostTensor,
    total: f32,
    [of_norm, of_total]: [f32; 2],
) -> Verdict {
    let loose = Tolerance { atol: f32::INFINITY, rtol: 0.0 };
    let mut verdict = compare(name, got, want, loose);
    if got.shape() != want.shape() {
        return verdict;
    }
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let (got, want) = (got.to_f32(), want.to_f32());
    let pairs = got.iter().zip(&want);
    let apart = length(&mut pairs.map(|(g, w)| f64::from(*g) - f64::from(*w)));
    let recorded = length(&mut want.iter().map(|w| f64::from(*w)));
    verdict.max_rel = None;
    verdict.of_norm = Some((apart / recorded) as f32).filter(|x| x.is_finite());
    verdict.pass = apart <= f64::from(of_norm) * recorded + f64::from(of_total * total);
    verdict.reason = (!verdict.pass).then(|| format!("apart by {apart:.3e}, its length is {recorded:.3e}"));
    verdict
}

/// A sentence if the highest score of some row is another class than recorded, unless the recorded
/// first two are nearer to each other than the tolerance.
fn first_class(got: &[f32], want: &[f32], width: usize, tolerance: Tolerance) -> Option<String> {
    let first = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    got.chunks_exact(width).zip(want.chunks_exact(width)).enumerate().find_map(|(row, (g, w))| {
        let (g, best) = (first(g)?, first(w)?);
        let gap = w[best] - w[g];
        let tie = gap <= 2.0 * (tolerance.atol + tolerance.rtol * w[best].abs());
        (g != best && !tie).then(|| format!("row {row}: the first class is {g}, recorded is {best}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

    fn tensor(data: &[f32]) -> HostTensor {
        HostTensor::f32([1, data.len()], data.to_vec())
    }

    #[test]
    fn the_comparison_can_fail() {
        let want = tensor(&[1.0, -2.0, 0.0]);
        let pass = |got: &[f32]| compare("out.x", &tensor(got), &want, TOLERANCE).pass;
        assert!(pass(&[1.0, -2.0, 0.0]) && pass(&[1.0001, -2.0002, 0.00005]));
        assert!(!pass(&[1.0, -2.0, 0.001]) && !pass(&[-2.0, 1.0, 0.0]) && !pass(&[1.0, -2.0]));
        let nan = compare("out.x", &tensor(&[1.0, f32::NAN, 0.0]), &want, TOLERANCE);
        assert_eq!((nan.pass, nan.max_abs), (false, None));
        assert!(nan.reason.is_some_and(|r| r.contains("worst at 1")));
        let nan = compare("out.x", &want, &tensor(&[1.0, f32::NAN, 0.0]), TOLERANCE);
        assert!(!nan.pass);
    }

    #[test]
    fn the_first_class_must_agree() {
        let loose = Tolerance { atol: 0.02, rtol: 0.0 };
        let swapped =
            |want: &[f32], got: &[f32]| compare("out.logits", &tensor(got), &tensor(want), loose).pass;
        assert!(swapped(&[1.0, 1.03], &[1.01, 1.02]), "still the same class");
        assert!(swapped(&[1.0, 1.01], &[1.01, 1.0]), "a tie within the tolerance");
        let tight = Tolerance { atol: 0.02, rtol: 0.0 };
        assert!(first_class(&[2.0, 1.0], &[1.0, 2.0], 2, tight).is_some());
    }
}
