//! Cases with a NaN among their inputs: wherever the reference has one, so must a device. A kernel that
//! takes the larger of two numbers, or cuts one off, easily makes a number of it.

use super::case::Case;

/// Of these cases, one size each: everything that activates, compares, or adds up.
const POISONED: &[&str] = &[
    "Gelu",
    "GeluTanh",
    "QuickGelu",
    "Relu",
    "Silu",
    "Tanh",
    "Sigmoid",
    "glu Relu",
    "glu Tanh",
    "matmul Relu",
    "matmul Tanh",
    "matmul 17x33x129",
    "matmul full epilogue 17x33x129",
    "matmul of computed rows, head split 2x35x2x20 x3",
    "attention 2x3x5x7x12 causal=false bias=true",
    "attention 1x2x197x197x64 causal=true bias=false",
    "attention of computed heads 1x2x33x35x24 causal=true bias=true",
    "layer_norm 7x255",
    "rms_norm 3x257",
    "softmax 7x255",
    "mean_tokens",
    "cached attention 2x3x1x12 at 4 of 5",
    "rms norm before gated matmul 2x36x129",
    "conv 2x5x7x3 to 5, 3x3 stride 1",
    "group_norm 2x3x5x36 by 4",
    "max_pool 2x7x6x5, 3x3 stride 2",
    "nearest_code 7x8 of 50",
    "cross_entropy 7x257, 0.1",
    "cross_entropy_grad 7x257, 0.1",
    "squared_error 5x31",
    "squared_error_grad 5x31",
    "weighted_sum 257",
    "clip_factor 257",
    "square_sum of 8193, clipped to 1",
    "clipped step",
    "adamw [7, 9]",
    "sgd nesterov [7, 9]",
    "lion [7, 9]",
    "product 33x65x31 turned=true,false",
    "matmul of computed weight 33x65x31",
    "Layer norm's way back 7x255",
    "Rms norm's factors 65x36",
    "Relu's way back",
    "Tanh's way back",
    "Gelu's way back",
    "glu Silu's way back",
    "sum of 65 rows of 64",
    "scatter 70 rows of 200",
    // Some rows see it, others do not and stay numbers.
    "rows of attention 1x1x9x9x12 causal=true bias=None",
    "gradient of queries of attention 1x1x9x9x12 causal=true bias=None",
    "gradients of keys and values of attention of lengths 1x1x3x9x12 causal=false bias=None",
    "gradients of keys and values of attention 2x3x5x7x12 causal=false bias=Whole",
    "gradient of bias of attention 1x2x17x31x10 causal=true bias=Distance",
];

/// Those of some cases, poisoned.
pub(super) fn of(cases: Vec<Case>) -> impl Iterator<Item = Case> {
    cases.into_iter().filter(|c| POISONED.contains(&c.name.as_str())).map(Case::poisoned)
}

#[cfg(test)]
mod tests {
    use super::POISONED;

    #[test]
    fn each_has_a_nan_to_keep() {
        let cases: Vec<_> = crate::selftest::all().into_iter().filter(|c| c.poisoned).collect();
        assert_eq!(cases.len(), POISONED.len());
        for case in cases {
            let y = case.reference().expect("a result");
            let lost = || {
                y.as_u32().map_or_else(
                    || y.to_f32().iter().all(|v| !v.is_nan()),
                    |ids| !ids.contains(&crate::ops::NearestCode::NONE),
                )
            };
            assert!(!lost(), "{}", case.name);
        }
    }
}
