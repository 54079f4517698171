//! Which cases are quick.

/// Cases that `doctor` runs: every kernel, small and a little awkward, quick to compile.
pub(super) const QUICK: &[&str] = &[
    "matmul 1x768x1001",
    "matmul full epilogue 17x33x129",
    "matmul residual in place 65x31x67",
    "matmul heads 2x5x3x12 x3",
    "attention 2x3x5x7x12 causal=true bias=false",
    "attention 2x3x5x7x12 causal=false bias=true",
    "attention 2x3x5x7x12 causal=false bias=true weights",
    "attention from one projection",
    "layer_norm 7x255",
    "rms_norm 3x257",
    "softmax 7x255",
    "Gelu",
    "glu Silu",
    "binary [2, 5, 7] [5, 7] mul=false",
    "split_heads 2x5x3x12",
    "concat_tokens",
    "mean_tokens",
    "gather",
    "matmul of computed rows, head split 2x35x2x20 x3",
    "attention of computed heads 1x2x33x35x24 causal=true bias=true",
    "patchify 2x6x10 by 3x5",
    "patchify bytes 2x6x10 by 3x5",
    "normalise",
    "cached attention 2x3x1x12 at 4 of 5",
    "projection into a cache 2x1x3x12 rotary=true bias=false",
    "rms norm before gated matmul 2x36x129",
    "embed 4x3",
    "embed in any order 4x7 at 2",
    "rotary later",
    "draw both of 1000",
    "conv 2x5x7x3 to 5, 3x3 stride 1",
    "conv 1x9x6x8 to 36, 3x3 stride 2",
    "group_norm 2x3x5x36 by 4",
    "group_norm 1x7x5x9 by 3",
    "max_pool 2x7x6x5, 3x3 stride 2",
    "nearest_code 7x8 of 50",
    "NaN in Relu",
    "NaN in Tanh",
    "NaN in GeluTanh",
    "NaN in matmul Relu",
    "NaN in matmul 17x33x129",
    "NaN in attention 2x3x5x7x12 causal=false bias=true",
    "NaN in layer_norm 7x255",
    "NaN in softmax 7x255",
    "NaN in max_pool 2x7x6x5, 3x3 stride 2",
    "NaN in nearest_code 7x8 of 50",
];

/// Those that it also runs with f16 storage, in every way there is for that.
pub(super) const QUICK_F16: &[&str] = &[
    "matmul of computed rows, head split 2x35x2x20 x3",
    "attention of computed heads 1x2x33x35x24 causal=true bias=true",
];
/// The cases' values are of order one.
pub(super) const F16_TOLERANCE: f32 = 2e-2;
