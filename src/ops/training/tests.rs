//! By numbers worked out here in f64, without the formulas' f32 loops.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::ops::OpDef;
use crate::tensor::{HostTensor, TensorDesc};

fn row(values: &[f32]) -> HostTensor {
    HostTensor::f32([values.len()], values.to_vec())
}

/// The result of an op, its shape by `infer`.
fn result(op: &dyn OpDef, inputs: &[&HostTensor]) -> Vec<f32> {
    let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
    op.reference(inputs, &op.infer(&descs).unwrap()).into_f32()
}

fn close(got: f32, want: f64) {
    assert!((f64::from(got) - want).abs() < 2e-6 * (1.0 + want.abs()), "{got}, not {want}");
}

#[test]
fn cross_entropy_follows_its_formula() {
    let logits = [[2.0f32, -1.0, 0.5], [0.0, 3.0, -4.0]];
    let labels = [2usize, 0];
    for smoothing in [0.0f32, 0.1, 1.0] {
        let e = f64::from(smoothing);
        let y = result(
            &CrossEntropy { smoothing },
            &[&HostTensor::f32([2, 3], logits.concat()), &HostTensor::u32([2], vec![2, 0])],
        );
        for ((y, x), label) in y.into_iter().zip(logits).zip(labels) {
            let x = x.map(f64::from);
            let sum: f64 = x.iter().map(|x| x.exp()).sum();
            let log = |i: usize| (x[i].exp() / sum).ln();
            close(y, -(1.0 - e) * log(label) - e / 3.0 * (log(0) + log(1) + log(2)));
        }
    }
}

#[test]
fn ignored_rows_are_zero_whatever_they_hold() {
    let nan = f32::NAN;
    let logits = HostTensor::f32([3, 2], vec![nan, nan, 1.0, nan, nan, 1.0]);
    let labels = HostTensor::u32([3], vec![u32::MAX, 0, 2]);
    let y = result(&CrossEntropy { smoothing: 0.1 }, &[&logits, &labels]);
    assert!(y[0] == 0.0 && y[1].is_nan() && y[2] == 0.0, "{y:?}");
    let dy = row(&[nan, 1.0, nan]);
    let dx = result(&CrossEntropyGrad { smoothing: 0.1 }, &[&logits, &labels, &dy]);
    assert_eq!([dx[0], dx[1], dx[4], dx[5]], [0.0; 4]);
    assert!(dx[2].is_nan() && dx[3].is_nan(), "{dx:?}");
}

#[test]
fn a_weight_of_zero_leaves_its_row_out() {
    let x = row(&[f32::NAN, 2.0, f32::INFINITY, 4.0]);
    assert_eq!(result(&WeightedSum, &[&x, &row(&[0.0, 0.5, -0.0, 0.25])]), [2.0]);
    assert!(result(&WeightedSum, &[&x, &row(&[1.0, 0.5, 0.0, 0.25])])[0].is_nan());
}

#[test]
fn squared_error_is_a_mean() {
    let [x, t] = [[1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 5.0, 4.5]].map(|v| HostTensor::f32([2, 2], v.to_vec()));
    assert_eq!(result(&SquaredError, &[&x, &t]), [2.0, 2.125]);
    assert_eq!(result(&SquaredErrorGrad, &[&x, &t, &row(&[1.0, 10.0])]), [0.0, 2.0, -20.0, -5.0]);
}

#[test]
fn the_factor_is_that_of_clip_grad_norm() {
    let sums = row(&[9.0, 16.0]);
    let clip = |sums: &HostTensor, max_norm: f32| result(&ClipFactor { max_norm }, &[sums]);
    close(clip(&sums, 2.0)[0], 2.0 / 5.000_001);
    assert_eq!(clip(&sums, 6.0), [1.0, 5.0, 1.0]);
    assert_eq!(clip(&sums, 0.0), [1.0, 5.0, 1.0]);
    for bad in [f32::NAN, f32::INFINITY] {
        let y = clip(&row(&[bad, 1.0]), 2.0);
        assert!(y[0] == 0.0 && !y[1].is_finite() && y[2] == 0.0, "{y:?}");
    }
}

#[test]
fn a_sum_of_squares_goes_to_its_element() {
    let left = SquareSum { index: 1 }.reference_states(&[&row(&[3.0, 4.0]), &row(&[7.0, 8.0, 9.0])]);
    assert_eq!(left, [row(&[7.0, 25.0, 9.0])]);
}

const PASS: [f32; 3] = [1.0, 1.0, 1.0];

/// One element's states after a step.
fn step(op: &dyn OpDef, states: &[f32], gradient: f32, clip: [f32; 3], rates: &HostTensor) -> Vec<f32> {
    let states: Vec<HostTensor> = states.iter().map(|&v| row(&[v])).collect();
    let others = [row(&[gradient]), row(&clip), rates.clone()];
    let inputs: Vec<&HostTensor> = states.iter().chain(&others).collect();
    let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
    assert_eq!(op.infer(&descs), Ok(TensorDesc::f32([1])));
    op.reference_states(&inputs).iter().map(|t| t.to_f32()[0]).collect()
}

#[test]
fn two_steps_of_adamw() {
    let op = AdamW::default();
    // Step 1, g = 0.5, rate 0.1: m = 0.05, v = 0.00025, so that m/c1 = 0.5 and sqrt(v/c2) = 0.5:
    // p = 1·(1 - 0.001) - 0.1 = 0.899.
    let one = step(&op, &[1.0, 0.0, 0.0], 0.5, PASS, &op.rates(0.1, 1));
    close(one[0], 0.899);
    close(one[1], 0.05);
    assert!((f64::from(one[2]) / 0.00025 - 1.0).abs() < 2e-5, "1 - 0.999 is coarse in f32: {}", one[2]);
    // Step 2, g = -1 clipped to -0.25: m = 0.9·0.05 - 0.1·0.25 = 0.02, v = 0.999·0.00025 + 0.001·0.0625
    // = 0.00031225; m/c1 = 0.02/0.19, v/c2 = 0.00031225/0.001999.
    let two = step(&op, &one, -1.0, [0.25, 4.0, 1.0], &op.rates(0.1, 2));
    close(two[0], 0.899 * 0.999 - 0.1 * (0.02 / 0.19) / ((0.000_312_25f64 / 0.001_999).sqrt() + 1e-8));
    close(two[1], 0.02);
}

#[test]
fn two_steps_of_sgd() {
    let rates = row(&[0.1, 0.0, 0.0, 0.0]);
    for nesterov in [false, true] {
        let op = Sgd { decay: 0.02, nesterov, ..Sgd::default() };
        // Step 1: g = 1 + 0.02·1 = 1.02 = buffer; p = 1 - 0.102, or with Nesterov 1 - 0.1·1.02·1.9.
        let one = step(&op, &[1.0, 0.0], 1.0, PASS, &rates);
        close(one[1], 1.02);
        let p1 = 1.0 - 0.1 * 1.02 * if nesterov { 1.9 } else { 1.0 };
        close(one[0], p1);
        // Step 2, the same gradient: g = 1 + 0.02·p, buffer = 0.9·1.02 + g.
        let two = step(&op, &one, 1.0, PASS, &rates);
        let g = 1.0 + 0.02 * p1;
        let buffer = 0.9 * 1.02 + g;
        close(two[1], buffer);
        close(two[0], p1 - 0.1 * if nesterov { g + 0.9 * buffer } else { buffer });
    }
}

#[test]
fn lion_goes_by_the_sign() {
    let op = Lion { decay: 0.5, ..Lion::default() };
    let rates = row(&[0.1, 0.0, 0.0, 0.0]);
    for (m, g, sign) in [(1.0, -3.0, 1.0), (1.0, -30.0, -1.0), (0.0, 0.0, 0.0)] {
        let left = step(&op, &[2.0, m], g, PASS, &rates);
        close(left[0], 2.0 * 0.95 - 0.1 * sign);
        close(left[1], f64::from(0.99 * m + 0.01 * g));
    }
    assert!(step(&op, &[2.0, 1.0], f32::NAN, PASS, &rates)[0].is_nan());
}

#[test]
fn nothing_changes_where_the_norm_is_not_finite() {
    let rates = row(&[0.1, 0.1, 0.1, 0.0]);
    let adamw = AdamW::default();
    let ops: [(&dyn OpDef, usize); 3] = [
        (&adamw, 3),
        (&Sgd { decay: 0.1, nesterov: true, ..Sgd::default() }, 2),
        (&Lion { decay: 0.1, ..Lion::default() }, 2),
    ];
    for (op, states) in ops {
        let before = &[3.0, 0.25, 0.5][..states];
        let clip = [0.0, f32::NAN, 0.0];
        assert_eq!(step(op, before, f32::NAN, clip, &rates), before, "{}", op.name());
    }
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let f32s = |dims: &[usize]| TensorDesc::f32(crate::tensor::Shape::new(dims));
    let labels = HostTensor::u32([3], vec![0; 3]).desc();
    let told = |op: &dyn OpDef, inputs: &[TensorDesc], part: &str| {
        let e = op.infer(inputs).unwrap_err();
        assert!(e.contains(part), "{e}");
    };
    told(&CrossEntropy { smoothing: 0.0 }, &[f32s(&[2, 5]), labels], "labels");
    told(&CrossEntropy { smoothing: 1.5 }, &[f32s(&[3, 5]), labels], "smoothing");
    told(&CrossEntropyGrad { smoothing: 0.0 }, &[f32s(&[3, 5]), labels, f32s(&[2])], "dy");
    told(&SquaredError, &[f32s(&[2, 5]), f32s(&[2, 4])], "target");
    told(&WeightedSum, &[f32s(&[2]), f32s(&[3])], "weights");
    told(&SquareSum { index: 3 }, &[f32s(&[2]), f32s(&[3])], "element 3");
    told(&ClipFactor { max_norm: -1.0 }, &[f32s(&[3])], "norm");
    let sgd = Sgd::default();
    let [p, clip, rates] = [f32s(&[2, 3]), f32s(&[3]), f32s(&[4])];
    told(&sgd, &[p, f32s(&[6]), p, clip, rates], "a state");
    told(&sgd, &[p, p, f32s(&[5]), clip, rates], "gradient");
    told(&sgd, &[p, p, f32s(&[6]), rates, clip], "clip");
}
