//! What the kernels of linear layers and of convolutions share: their parameters, and what a choice between
//! them rests on.

use crate::kernel::{Kernel, params};
use crate::tensor::DType;

params! {
    /// Parameters of every matmul kernel.
    struct MatMulParams {
        rows: u32, inner: u32, cols: u32, first_col: u32, total_cols: u32, stride4: u32,
        residual_rows: u32, tokens: u32, batch: u32, groups: u32,
    }
}

params! {
    /// Parameters of every convolution kernel.
    struct ConvParams {
        rows: u32, inner: u32, cols: u32, first_col: u32, total_cols: u32, stride4: u32,
        residual_rows: u32, groups: u32, depth: u32, taps: u32, kernel_width: u32, height: u32,
        width: u32, out_height: u32, out_width: u32, stride_y: u32, stride_x: u32, pad_top: u32,
        pad_left: u32, up: u32,
    }
}

/// A kernel as it computes linear layers, and as it computes convolutions.
pub(super) struct Pair {
    pub(super) linear: Kernel,
    pub(super) conv: Kernel,
}

/// What not every variant can do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Needs {
    /// A norm before the product or a cache behind it: a decode step.
    pub(super) few: bool,
    pub(super) gated: bool,
    pub(super) scale: bool,
}

/// What a choice rests on.
pub(crate) struct Problem {
    pub(crate) rows: usize,
    /// K, or the depth of one tap of a convolution.
    pub(crate) inner: usize,
    pub(crate) cols: usize,
    pub(crate) x: DType,
    pub(crate) w: DType,
    pub(crate) y: DType,
    /// The result can be written in fours: N, and D where heads are split, are multiples of 4.
    pub(crate) fours: bool,
    pub(crate) needs: Needs,
}
