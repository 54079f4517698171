//! What the kernels of attention share: their parameters, and what a choice between them rests on.

use crate::kernel::params;
use crate::tensor::DType;

params! {
    /// Parameters of all attention kernels.
    struct AttentionParams {
        heads: u32, queries: u32, keys: u32, k_start: u32, v_start: u32,
        bias_start: u32, bias_head: u32, bias_row: u32, window: u32, groups: u32, scale: f32,
    }
}

params! {
    /// Parameters of all kernels on the way back.
    struct BackParams {
        batch: u32, heads: u32, queries: u32, keys: u32, quads: u32,
        bias_start: u32, bias_head: u32, bias_row: u32, groups: u32, scale: f32,
    }
}

/// What a choice rests on.
pub(super) struct Problem {
    /// Batch times heads.
    pub(super) heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Keys that a query sees to each side.
    pub(super) window: Option<usize>,
    /// Head width D.
    pub(super) width: usize,
    /// Storage types of q, k and v.
    pub(super) types: [DType; 3],
}
