//! The way back through attention without a score matrix and without atomics (Dao et al. 2022 and 2023): what
//! the gradients share. They make each weight anew from the log-sum-exp of its query's scores, which
//! [`AttentionRows`] finds once; the gradients themselves are in `gradients.rs`.
//!
//! How many keys a query sees comes with it, so that the gradients need neither lengths nor a causal rule,
//! and no kernel binds more than seven storage buffers.

use rayon::prelude::*;

use super::rules::{BiasAt, Sizes, bias_row, sizes, visible};
use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::lower::{LowerCx, Operand, to_u32};
use crate::ops::target::Target;
use crate::tensor::{HostTensor, TensorDesc};

/// What the gradients of attention need to know of each query. Operands: q (B,H,T,D), k (B,H,S,D), the
/// result y (B,T,H·D) of the attention, its gradient dy of that shape; then bias and lengths as
/// [`crate::ops::Attention`] has them. Result (B,H,T,3): the log-sum-exp of the scores of the keys that the
/// query sees, the sum of y·dy over the head's columns, and how many keys it sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionRows {
    /// A bias is added to the scaled scores.
    pub bias: bool,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// Only the first so many keys count.
    pub lengths: bool,
    /// Factor on the scores.
    pub scale: f32,
}

params! {
    /// Parameters of all kernels on the way back.
    struct BackParams {
        batch: u32, heads: u32, queries: u32, keys: u32, quads: u32,
        bias_start: u32, bias_head: u32, bias_row: u32, groups: u32, scale: f32,
    }
}

/// Numbers of a row of [`AttentionRows`].
pub(super) const ROW: usize = 3;

/// Keys that f32 counts without a gap.
const MOST_KEYS: usize = 1 << 24;

/// Quads that a lane sums up, at most: software drivers compile more variables for half a minute, and GPUs run
/// out of registers. Wider heads are shared by several workgroups.
const MOST_SUMS: usize = 32;

static QUADS: Kernel = Kernel {
    name: "attention_rows",
    source: shader!("lib/attention_quads.wgsl", "lib/attention_dy_quads.wgsl", "attention_rows.wgsl"),
    params: BackParams::FIELDS,
};
static SCALARS: Kernel = Kernel {
    name: "attention_rows_scalars",
    source: shader!("lib/attention_scalars.wgsl", "lib/attention_dy_scalars.wgsl", "attention_rows.wgsl"),
    params: BackParams::FIELDS,
};

/// How a kernel on the way back is cut, where a lane owns a row.
pub(super) struct Cut {
    /// Rows of a workgroup, and its lanes.
    pub(super) lanes: usize,
    /// Rows of the other side that are walked at a time.
    step: usize,
    /// Quads of a head that a lane sums up.
    chunk: usize,
    /// Workgroups that share a head.
    pub(super) chunks: usize,
    /// Rows that are walked are brought to workgroup memory.
    pub(super) staged: bool,
}

impl Cut {
    /// For lanes that sum up so many rows of `width`.
    pub(super) fn new(target: &Target, width: usize, sums: usize) -> Self {
        let quads = width.div_ceil(4);
        let most = if target.cpu { MOST_SUMS } else { MOST_SUMS / sums };
        let chunks = quads.div_ceil(most);
        let chunk = quads.div_ceil(chunks);
        if target.cpu {
            return Self { lanes: 16, step: 8, chunk, chunks, staged: false };
        }
        // Two tiles fill at most 16 KiB of workgroup memory.
        let step = (512 / quads).clamp(1, 16);
        Self { lanes: 64, step, chunk, chunks, staged: true }
    }

    pub(super) fn specialise(&self, variant: Variant) -> Variant {
        variant
            .with_u32("WG", self.lanes)
            .with_u32("STEP", self.step)
            .with_u32("CHUNK", self.chunk)
            .with_u32("CHUNKS", self.chunks)
    }
}

/// The types of the first four operands, read in quads or one by one, and the head width.
pub(super) fn typed(cx: &LowerCx, width: usize) -> Variant {
    let types = ["QV", "KV", "VV", "DV"].into_iter().enumerate();
    let variant = types.fold(Variant::new(), |variant, (i, name)| {
        let dtype = cx.input(i).dtype;
        if width.is_multiple_of(4) { variant.with_vec4(name, dtype) } else { variant.with_type(name, dtype) }
    });
    variant.with_u32("D", width)
}

/// Parameters for so many workgroups.
///
/// # Errors
/// [`crate::Error::Limit`] if an operand or the result is beyond 32-bit indices.
pub(super) fn back_params(
    cx: &LowerCx,
    sizes: &Sizes,
    bias: Option<BiasAt>,
    groups: usize,
    scale: f32,
) -> Result<BackParams> {
    let Sizes { b, h, t, s, d } = *sizes;
    to_u32("attention operand", (b * h * t).max(b * h * s) * d)?;
    to_u32("attention rows", b * h * t * ROW)?;
    to_u32("attention gradient", cx.output().shape.elements())?;
    let at = bias.unwrap_or_default();
    Ok(BackParams {
        batch: b as u32,
        heads: h as u32,
        queries: t as u32,
        keys: s as u32,
        quads: d.div_ceil(4) as u32,
        bias_start: at.start,
        bias_head: at.head,
        bias_row: at.row,
        groups: to_u32("attention workgroups", groups)?,
        scale,
    })
}

impl AttentionRows {
    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        arity(inputs, 4 + usize::from(self.bias) + usize::from(self.lengths))?;
        let others = [self.bias.then(|| &inputs[4]), self.lengths.then(|| &inputs[inputs.len() - 1])];
        let sizes = sizes(&inputs[0], Some(&inputs[1]), others, self.causal)?;
        let merged = [sizes.b, sizes.t, sizes.h * sizes.d];
        for (name, desc) in ["y", "dy"].into_iter().zip(&inputs[2..4]) {
            if desc.shape.dims() != merged {
                return Err(format!("{name} has shape {}, expected {merged:?}", desc.shape));
            }
        }
        if sizes.s > MOST_KEYS {
            return Err(format!("{} keys are more than f32 counts, {MOST_KEYS}", sizes.s));
        }
        Ok(sizes)
    }
}

impl OpDef for AttentionRows {
    fn name(&self) -> &'static str {
        "attention_rows"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let Sizes { b, h, t, .. } = self.sizes(inputs)?;
        Ok(TensorDesc::f32([b, h, t, ROW]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
        let sizes = self.sizes(&descs).expect("checked by infer");
        let Sizes { h, t, s, d, .. } = sizes;
        let [q, k, y, dy] = [0, 1, 2, 3].map(|i| f32s(inputs[i]));
        let lengths = self.lengths.then(|| inputs[inputs.len() - 1]);
        let mut rows = vec![0.0; out.shape.elements()];
        rows.par_chunks_mut(ROW).enumerate().for_each(|(i, row)| {
            let (bh, ti) = (i / t, i % t);
            let seen = visible(&sizes, self.causal, lengths, bh / h, ti);
            let bias = self.bias.then(|| bias_row(inputs[4], &sizes, bh % h, ti, seen));
            let keys = &k[bh * s * d..][..s * d];
            let score = |s: usize| {
                let dot = dot(&q[i * d..][..d], &keys[s * d..][..d]);
                dot * self.scale + bias.as_ref().map_or(0.0, |b| b[s])
            };
            let scores: Vec<f32> = (0..seen).map(score).collect();
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = scores.iter().map(|x| (x - top).exp()).sum();
            let at = merged(&sizes, bh, ti);
            row.copy_from_slice(&[top + sum.ln(), dot(&y[at..][..d], &dy[at..][..d]), seen as f32]);
        });
        HostTensor::f32(out.shape, rows)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        self.sizes(inputs).map_or(0, |z| 2 * (z.b * z.h * z.t * (z.s + 1) * z.d) as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = 4 + usize::from(self.bias) + usize::from(self.lengths);
        let descs: Vec<TensorDesc> = (0..count).map(|i| cx.input(i)).collect();
        let sizes = self.sizes(&descs).expect("checked by infer");
        let bias = self.bias.then(|| BiasAt::new(&descs[4], &sizes)).transpose()?;
        let lanes = if cx.target.cpu { 16 } else { 64 };
        let groups = sizes.b * sizes.h * sizes.t.div_ceil(lanes);
        let params = back_params(cx, &sizes, bias, groups, self.scale)?;
        let variant = typed(cx, sizes.d)
            .with_u32("WG", lanes)
            .with_u32("STEP", 8)
            .with_bool("BIAS", self.bias)
            .with_bool("LENGTHS", self.lengths)
            .with_bool("CAUSAL", self.causal);
        let others = [if self.bias { 4 } else { 0 }, if self.lengths { count - 1 } else { 0 }];
        let binds = [0, 1, 2, 3].into_iter().chain(others).map(|i| cx.operand(i));
        let binds: Vec<Operand> = binds.chain([cx.result()]).collect();
        let kernel = if sizes.d.is_multiple_of(4) { &QUADS } else { &SCALARS };
        cx.dispatch(kernel, variant, params, binds, groups)
    }
}

/// Where a query's row of the result begins, heads merged; by plain loops.
pub(super) fn merged(sizes: &Sizes, bh: usize, t: usize) -> usize {
    ((bh / sizes.h * sizes.t + t) * sizes.h + bh % sizes.h) * sizes.d
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
