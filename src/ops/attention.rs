//! Softmax attention (Vaswani et al. 2017) with an online softmax (Milakov & Gimelshein 2018), so
//! that no score matrix is kept, and a second op that does write the softmax weights, for pictures.
//! The kernels are in [`ways`].

pub(crate) mod cache;
mod coop;
mod ways;

use rayon::prelude::*;

use super::lower::{LowerCx, Operand, to_u32};
use super::softmax::softmax_row;
use super::{Op, OpDef, arity, dims, f32s};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, TensorDesc};
pub use cache::{CachedAttention, cache_shape};
use ways::Problem;
pub(crate) use ways::{kernels, names};

/// Attention with heads merged in the result. Operands: q (B,H,T,D), k and v (B,H,S,D), or one
/// packed tensor (3·B,H,T,D) holding all q, then all k, then all v; then a bias (H,T,S) if set.
/// Result (B,T,H·D). D is at most 512.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// q, k and v come as one packed tensor.
    pub packed: bool,
    /// A bias is added to the scaled scores.
    pub bias: bool,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// Factor on the scores, usually 1/sqrt(D).
    pub scale: f32,
}

/// The softmax weights of attention. Operands: q (B,H,T,D), k (B,H,S,D), then a bias (H,T,S) if
/// set. Result (B,H,T,S).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionWeights {
    /// A bias is added to the scaled scores.
    pub bias: bool,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// Factor on the scores.
    pub scale: f32,
}

params! {
    /// Parameters of all attention kernels.
    struct AttentionParams {
        heads: u32, queries: u32, keys: u32, k_start: u32, v_start: u32, groups: u32, scale: f32,
    }
}

static WEIGHTS: Kernel = Kernel {
    name: "attention_weights",
    source: shader!("lib/row.wgsl", "attention_weights.wgsl"),
    params: AttentionParams::FIELDS,
};

/// Widest head the kernels keep in registers.
const MAX_HEAD_WIDTH: usize = 512;

impl Graph {
    /// Attention. q: (B,H,T,D), k and v: (B,H,S,D), bias: (H,T,S); returns (B,T,H·D).
    pub fn attention(
        &mut self,
        q: Value,
        k: Value,
        v: Value,
        bias: Option<Value>,
        causal: bool,
        scale: f32,
    ) -> Value {
        let op = Attention { packed: false, bias: bias.is_some(), causal, scale };
        self.push(Op::Attention(op), [Some(q), Some(k), Some(v), bias].into_iter().flatten().collect())
    }

    /// Softmax weights of attention. q: (B,H,T,D), k: (B,H,S,D), bias: (H,T,S); returns (B,H,T,S).
    pub fn attention_weights(
        &mut self,
        q: Value,
        k: Value,
        bias: Option<Value>,
        causal: bool,
        scale: f32,
    ) -> Value {
        let op = AttentionWeights { bias: bias.is_some(), causal, scale };
        self.push(Op::AttentionWeights(op), [Some(q), Some(k), bias].into_iter().flatten().collect())
    }
}

/// Batch, heads, queries, keys, head width.
struct Sizes {
    b: usize,
    h: usize,
    t: usize,
    s: usize,
    d: usize,
}

/// Shape rules shared by both ops; `k` is `None` for a packed operand.
fn sizes(
    q: &TensorDesc,
    k: Option<&TensorDesc>,
    bias: Option<&TensorDesc>,
    causal: bool,
) -> Result<Sizes, String> {
    let [b, h, t, d] = dims("q", q)?;
    let sizes = match k {
        None if b % 3 == 0 => Sizes { b: b / 3, h, t, s: t, d },
        None => {
            return Err(format!("packed operand has shape {}, its first dimension is no triple", q.shape));
        }
        Some(k) => {
            let [kb, kh, s, kd] = dims("k", k)?;
            if (kb, kh, kd) != (b, h, d) {
                return Err(format!("q has shape {}, k has {}", q.shape, k.shape));
            }
            Sizes { b, h, t, s, d }
        }
    };
    if causal && sizes.s < t {
        return Err(format!("{t} causal queries see only {} keys, so that the first see none", sizes.s));
    }
    if sizes.d > MAX_HEAD_WIDTH {
        return Err(format!("head width {} is above {MAX_HEAD_WIDTH}", sizes.d));
    }
    if let Some(bias) = bias
        && bias.shape.dims() != [sizes.h, sizes.t, sizes.s]
    {
        return Err(format!("bias has shape {}, expected [{h},{t},{}]", bias.shape, sizes.s));
    }
    Ok(sizes)
}

/// Softmax weights of one query row, by plain loops.
fn weights_row(q: &[f32], k: &[f32], bias: Option<&[f32]>, visible: usize, scale: f32) -> Vec<f32> {
    let d = q.len();
    let score = |s: usize| {
        let dot: f32 = q.iter().zip(&k[s * d..(s + 1) * d]).map(|(a, b)| a * b).sum();
        dot * scale + bias.map_or(0.0, |b| b[s])
    };
    let mut row: Vec<f32> = (0..visible).map(score).collect();
    softmax_row(&mut row);
    row
}

impl Attention {
    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        let qkv = if self.packed { 1 } else { 3 };
        arity(inputs, qkv + usize::from(self.bias))?;
        let bias = self.bias.then(|| &inputs[qkv]);
        let sizes = sizes(&inputs[0], (!self.packed).then(|| &inputs[1]), bias, self.causal)?;
        if !self.packed && inputs[1].shape != inputs[2].shape {
            return Err(format!("k has shape {}, v has {}", inputs[1].shape, inputs[2].shape));
        }
        Ok(sizes)
    }
}

impl OpDef for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let Sizes { b, h, t, d, .. } = self.sizes(inputs)?;
        Ok(TensorDesc::f32([b, t, h * d]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
        let Sizes { b, h, t, s, d } = self.sizes(&descs).expect("checked by infer");
        let first = f32s(inputs[0]);
        let (q, k, v) = if self.packed {
            let n = first.len() / 3;
            (&first[..n], &first[n..2 * n], &first[2 * n..])
        } else {
            (first, f32s(inputs[1]), f32s(inputs[2]))
        };
        let bias = self.bias.then(|| f32s(inputs[inputs.len() - 1]));
        let mut y = vec![0.0; b * t * h * d];
        y.par_chunks_mut(d).enumerate().for_each(|(row, y)| {
            let (bi, ti, hi) = (row / h / t, row / h % t, row % h);
            let (q0, k0) = (((bi * h + hi) * t + ti) * d, (bi * h + hi) * s * d);
            let bias = bias.map(|b| &b[(hi * t + ti) * s..][..s]);
            let visible = if self.causal { ti + 1 + s - t } else { s };
            let p = weights_row(&q[q0..q0 + d], &k[k0..k0 + s * d], bias, visible, self.scale);
            for (s, p) in p.iter().enumerate() {
                for (i, y) in y.iter_mut().enumerate() {
                    *y += p * v[k0 + s * d + i];
                }
            }
        });
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        self.sizes(inputs).map_or(0, |z| 4 * (z.b * z.h * z.t * z.s * z.d) as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let qkv = if self.packed { 1 } else { 3 };
        let descs: Vec<TensorDesc> = (0..qkv + usize::from(self.bias)).map(|i| cx.input(i)).collect();
        let Sizes { b, h, t, s, d } = self.sizes(&descs).expect("checked by infer");
        to_u32("attention operand", descs[0].shape.elements().max(h * t * s))?;
        let types = [0, 1, 2].map(|i| descs[if self.packed { 0 } else { i }].dtype);
        let problem = Problem { heads: b * h, queries: t, keys: s, width: d, types };
        let way = ways::by_name(cx.choose("attention", ways::candidates(cx.target, &problem)));
        let variant = Variant::new()
            .with_type("Y", cx.output().dtype)
            .with_u32("D", d)
            .with_bool("BIAS", self.bias)
            .with_bool("CAUSAL", self.causal);
        let (kernel, variant) = way.specialise(variant, cx.target, &problem);
        let groups = way.groups(&problem);
        let part = if self.packed { to_u32("attention operand", b * h * t * d)? } else { 0 };
        let params = AttentionParams {
            heads: h as u32,
            queries: t as u32,
            keys: s as u32,
            k_start: part,
            v_start: 2 * part,
            groups: to_u32("attention workgroups", groups)?,
            scale: self.scale,
        };
        let bind = |i: usize, cx: &LowerCx| cx.operand(if self.packed { 0 } else { i });
        let bias = cx.operand(if self.bias { qkv } else { 0 });
        let binds: Vec<Operand> = vec![bind(0, cx), bind(1, cx), bind(2, cx), bias, cx.result()];
        cx.dispatch(kernel, variant, params, binds, groups)
    }
}

impl AttentionWeights {
    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        arity(inputs, 2 + usize::from(self.bias))?;
        sizes(&inputs[0], Some(&inputs[1]), self.bias.then(|| &inputs[2]), self.causal)
    }
}

impl OpDef for AttentionWeights {
    fn name(&self) -> &'static str {
        "attention_weights"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let Sizes { b, h, t, s, .. } = self.sizes(inputs)?;
        Ok(TensorDesc::f32([b, h, t, s]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
        let Sizes { h, t, s, d, .. } = self.sizes(&descs).expect("checked by infer");
        let (q, k) = (f32s(inputs[0]), f32s(inputs[1]));
        let bias = self.bias.then(|| f32s(inputs[2]));
        let mut y = vec![0.0; out.shape.elements()];
        for (row, y) in y.chunks_mut(s).enumerate() {
            let (bh, ti) = (row / t, row % t);
            let bias = bias.map(|b| &b[(bh % h * t + ti) * s..][..s]);
            let visible = if self.causal { ti + 1 + s - t } else { s };
            let k = &k[bh * s * d..][..s * d];
            let p = weights_row(&q[row * d..][..d], k, bias, visible, self.scale);
            y[..visible].copy_from_slice(&p);
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        self.sizes(inputs).map_or(0, |z| 2 * (z.b * z.h * z.t * z.s * z.d) as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let descs: Vec<TensorDesc> = (0..2 + usize::from(self.bias)).map(|i| cx.input(i)).collect();
        let Sizes { b, h, t, s, d } = self.sizes(&descs).expect("checked by infer");
        if cx.output().shape.elements() > u32::MAX as usize {
            let need = cx.output().shape.elements() as u64;
            let what = "attention weights: 32-bit index".to_owned();
            return Err(Error::Limit { what, need, have: u64::from(u32::MAX) });
        }
        let variant = Variant::new()
            .with_type("Q", descs[0].dtype)
            .with_type("K", descs[1].dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("D", d)
            .with_bool("BIAS", self.bias)
            .with_bool("CAUSAL", self.causal)
            .with_u32("WG", super::norm::row_lanes(cx, s));
        let groups = b * h * t;
        let params = AttentionParams {
            heads: h as u32,
            queries: t as u32,
            keys: s as u32,
            k_start: 0,
            v_start: 0,
            groups: groups as u32,
            scale: self.scale,
        };
        let bias = cx.operand(if self.bias { 2 } else { 0 });
        let binds = vec![cx.operand(0), cx.operand(1), bias, cx.result()];
        cx.dispatch(&WEIGHTS, variant, params, binds, groups)
    }
}
