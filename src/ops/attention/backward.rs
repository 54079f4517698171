//! The way back through attention without a score matrix and without atomics (Dao et al. 2022 and 2023): what
//! the gradients share. They make each weight anew from the log-sum-exp of its query's scores, which
//! [`AttentionRows`] finds once; the gradients themselves are in `gradients.rs`.
//!
//! How many keys a query sees comes with it, so that the gradients need neither lengths nor a causal rule,
//! and no kernel binds more than seven storage buffers.

use rayon::prelude::*;

use super::back_variants::{Kernels, Owned, ROWS, by_name};
use super::problem::BackParams;
use super::rules::{BiasAt, Sight, Sizes, bias_row, sizes};
use crate::error::Result;
use crate::kernel::Variant;
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::lower::{LowerCx, Operand, to_u32};
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

/// Numbers of a row of [`AttentionRows`].
pub(super) const ROW: usize = 3;

/// Keys that f32 counts without a gap.
const MOST_KEYS: usize = 1 << 24;

/// The types of the first four operands, read in quads or one by one, and the head width.
pub(super) fn typed(cx: &LowerCx, width: usize) -> Variant {
    let types = ["QV", "KV", "VV", "DV"].into_iter().enumerate();
    let variant = types.fold(Variant::new(), |variant, (i, name)| {
        let dtype = cx.input(i).dtype;
        if width.is_multiple_of(4) { variant.with_vec4(name, dtype) } else { variant.with_type(name, dtype) }
    });
    variant.with_u32("D", width)
}

/// A launch whose workgroups own rows of the queries, or of the keys.
pub(super) struct Launch {
    pub(super) kernels: &'static Kernels,
    pub(super) variant: Variant,
    pub(super) of_keys: bool,
    pub(super) sizes: Sizes,
    pub(super) bias: Option<BiasAt>,
    pub(super) scale: f32,
}

impl Launch {
    /// Chooses a variant and pushes its launch.
    ///
    /// # Errors
    /// [`crate::Error::Limit`] if an operand or the result is beyond 32-bit indices.
    pub(super) fn push(self, cx: &mut LowerCx, binds: Vec<Operand>) -> Result<()> {
        let Self { kernels, variant, of_keys, sizes, bias, scale } = self;
        let Sizes { b, h, t, s, d } = sizes;
        let (rows, others) = if of_keys { (s, t) } else { (t, s) };
        let owned = Owned { heads: b * h, rows, others, width: d };
        let chosen = by_name(cx.choose("attention_backward", kernels.candidates(cx.target, &owned)));
        let groups = chosen.groups(kernels, &owned);
        let params = back_params(cx, &sizes, bias, groups, scale)?;
        let (kernel, variant) = chosen.specialise(variant, kernels, &owned);
        cx.dispatch(kernel, variant, params, binds, groups)
    }
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
        let sizes = sizes(&inputs[0], Some(&inputs[1]), others, [self.causal, false])?;
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
            let seen = Sight { causal: self.causal, window: None, lengths }.of(&sizes, bh / h, ti).end;
            let bias = self.bias.then(|| bias_row(inputs[4], &sizes, bh % h, ti, 0..seen));
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
        let variant = typed(cx, sizes.d)
            .with_bool("BIAS", self.bias)
            .with_bool("LENGTHS", self.lengths)
            .with_bool("CAUSAL", self.causal);
        let others = [if self.bias { 4 } else { 0 }, if self.lengths { count - 1 } else { 0 }];
        let binds = [0, 1, 2, 3].into_iter().chain(others).map(|i| cx.operand(i));
        let binds: Vec<Operand> = binds.chain([cx.result()]).collect();
        let scale = self.scale;
        Launch { kernels: &ROWS, variant, of_keys: false, sizes, bias, scale }.push(cx, binds)
    }
}

/// Where a query's row of the result begins, heads merged; by plain loops.
pub(super) fn merged(sizes: &Sizes, bh: usize, t: usize) -> usize {
    ((bh / sizes.h * sizes.t + t) * sizes.h + bh % sizes.h) * sizes.d
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
