//! Softmax attention (Vaswani et al. 2017) with an online softmax (Milakov & Gimelshein 2018), so
//! that no score matrix is kept, and a second op that does write the softmax weights, for pictures.
//! The kernels are in [`ways`].

pub(crate) mod cache;
mod coop;
mod cross;
mod ways;

use rayon::prelude::*;

use super::lower::{LowerCx, Operand, to_u32};
use super::softmax::softmax_row;
use super::{Op, OpDef, arity, dims, f32s};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};
pub use cache::{Cache, CachedAttention, cache_shape};
pub use cross::CrossAttention;
use ways::Problem;
pub(crate) use ways::{kernels, names};

/// Attention with heads merged in the result. Operands: q (B,H,T,D), k and v (B,H,S,D), or one
/// packed tensor (3·B,H,T,D) holding all q, then all k, then all v; then a bias if set, either (H,T,S),
/// or (H,T+S-1) by the place of the key less that of the query, lowest first; then lengths (B) u32 if
/// set. Result (B,T,H·D). D is at most 512.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// q, k and v come as one packed tensor.
    pub packed: bool,
    /// A bias is added to the scaled scores.
    pub bias: bool,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// Only the first so many keys count: of what follows them nothing reaches the result. A length of 0
    /// counts as 1.
    pub lengths: bool,
    /// Factor on the scores, usually 1/sqrt(D).
    pub scale: f32,
}

/// The softmax weights of attention. Operands: q (B,H,T,D), k (B,H,S,D), then bias and lengths as
/// [`Attention`] has them. Result (B,H,T,S).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionWeights {
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
    /// Parameters of all attention kernels.
    struct AttentionParams {
        heads: u32, queries: u32, keys: u32, k_start: u32, v_start: u32,
        bias_start: u32, bias_head: u32, bias_row: u32, groups: u32, scale: f32,
    }
}

static WEIGHTS: Kernel = Kernel {
    name: "attention_weights",
    source: shader!("lib/row.wgsl", "attention_weights.wgsl"),
    params: AttentionParams::FIELDS,
};

/// Widest head the kernels keep in registers.
const MAX_HEAD_WIDTH: usize = 512;

/// What becomes of the scores q·kᵀ before the softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Factor, usually 1/sqrt(D).
    pub scale: f32,
    /// Added after it: (H,T,S), or (H,T+S-1) by the place of the key less that of the query.
    pub bias: Option<Value>,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// (B) u32: keys that count.
    pub lengths: Option<Value>,
}

impl Scores {
    /// Scaled scores of all keys.
    pub fn scaled(scale: f32) -> Self {
        Self { scale, bias: None, causal: false, lengths: None }
    }
}

impl Graph {
    /// Attention. q: (B,H,T,D), k and v: (B,H,S,D); returns (B,T,H·D).
    pub fn attention(&mut self, [q, k, v]: [Value; 3], scores: Scores) -> Value {
        let Scores { scale, bias, causal, lengths } = scores;
        let op = Attention { packed: false, bias: bias.is_some(), causal, lengths: lengths.is_some(), scale };
        let inputs = [Some(q), Some(k), Some(v), bias, lengths];
        self.push(Op::Attention(op), inputs.into_iter().flatten().collect())
    }

    /// Softmax weights of attention. q: (B,H,T,D), k: (B,H,S,D); returns (B,H,T,S).
    pub fn attention_weights(&mut self, [q, k]: [Value; 2], scores: Scores) -> Value {
        let Scores { scale, bias, causal, lengths } = scores;
        let op = AttentionWeights { bias: bias.is_some(), causal, lengths: lengths.is_some(), scale };
        let inputs = [Some(q), Some(k), bias, lengths];
        self.push(Op::AttentionWeights(op), inputs.into_iter().flatten().collect())
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
    [bias, lengths]: [Option<&TensorDesc>; 2],
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
    if let Some(bias) = bias {
        let (apart, near) = ([h, t, sizes.s], [h, t + sizes.s - 1]);
        if bias.shape.dims() != apart && bias.shape.dims() != near {
            return Err(format!("bias has shape {}, expected {apart:?} or {near:?}", bias.shape));
        }
    }
    if let Some(lengths) = lengths
        && (lengths.dtype != DType::U32 || lengths.shape.dims() != [sizes.b])
    {
        return Err(format!("lengths are {lengths}, expected one u32 for each of {}", sizes.b));
    }
    Ok(sizes)
}

/// Where the bias of head h, query t and key s lies: start + h·head + t·row + s, modulo 2^32.
#[derive(Debug, Clone, Copy, Default)]
struct BiasAt {
    start: u32,
    head: u32,
    row: u32,
}

impl BiasAt {
    /// Of a bias of [`Attention`].
    fn new(bias: &TensorDesc, sizes: &Sizes) -> Result<Self> {
        to_u32("attention bias", bias.shape.elements())?;
        Ok(match bias.shape.dims() {
            [_, columns] => Self::relative(*columns, sizes.t - 1),
            _ => Self { start: 0, head: (sizes.t * sizes.s) as u32, row: sizes.s as u32 },
        })
    }

    /// Of a table (H, columns) whose column `zero` is that of a query's own place.
    fn relative(columns: usize, zero: usize) -> Self {
        Self { start: zero as u32, head: columns as u32, row: u32::MAX }
    }

    fn of(self, h: usize, t: usize) -> usize {
        let [h, t] = [h, t].map(|n| n as u32);
        let at = self.start.wrapping_add(h.wrapping_mul(self.head)).wrapping_add(t.wrapping_mul(self.row));
        at as usize
    }
}

/// The biases of a query's keys, by plain loops: of the first `seen`.
fn bias_row(bias: &HostTensor, sizes: &Sizes, h: usize, t: usize, seen: usize) -> Vec<f32> {
    let at = BiasAt::new(&bias.desc(), sizes).expect("the reference is of sizes that fit").of(h, t);
    let row = (0..seen).map(|s| f32s(bias)[(at as u32).wrapping_add(s as u32) as usize]);
    row.collect()
}

/// How many keys query t of the b-th sequence sees.
fn visible(sizes: &Sizes, causal: bool, lengths: Option<&HostTensor>, b: usize, t: usize) -> usize {
    let length = |l: &HostTensor| l.as_u32().expect("checked by infer")[b] as usize;
    let keys = lengths.map_or(sizes.s, |l| length(l).clamp(1, sizes.s));
    if causal { keys.min(t + 1 + sizes.s - sizes.t) } else { keys }
}

/// Softmax weights of one query row, by plain loops.
fn weights_row(q: &[f32], k: &[f32], bias: Option<Vec<f32>>, visible: usize, scale: f32) -> Vec<f32> {
    let d = q.len();
    let score = |s: usize| {
        let dot: f32 = q.iter().zip(&k[s * d..(s + 1) * d]).map(|(a, b)| a * b).sum();
        dot * scale + bias.as_ref().map_or(0.0, |b| b[s])
    };
    let mut row: Vec<f32> = (0..visible).map(score).collect();
    softmax_row(&mut row);
    row
}

impl Attention {
    /// Operands before bias and lengths.
    fn qkv(&self) -> usize {
        if self.packed { 1 } else { 3 }
    }

    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        let qkv = self.qkv();
        arity(inputs, qkv + usize::from(self.bias) + usize::from(self.lengths))?;
        let others = [self.bias.then(|| &inputs[qkv]), self.lengths.then(|| &inputs[inputs.len() - 1])];
        let sizes = sizes(&inputs[0], (!self.packed).then(|| &inputs[1]), others, self.causal)?;
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
        let sizes = self.sizes(&descs).expect("checked by infer");
        let Sizes { b, h, t, s, d } = sizes;
        let first = f32s(inputs[0]);
        let (q, k, v) = if self.packed {
            let n = first.len() / 3;
            (&first[..n], &first[n..2 * n], &first[2 * n..])
        } else {
            (first, f32s(inputs[1]), f32s(inputs[2]))
        };
        let bias = self.bias.then(|| inputs[self.qkv()]);
        let lengths = self.lengths.then(|| inputs[inputs.len() - 1]);
        let mut y = vec![0.0; b * t * h * d];
        y.par_chunks_mut(d).enumerate().for_each(|(row, y)| {
            let (bi, ti, hi) = (row / h / t, row / h % t, row % h);
            let (q0, k0) = (((bi * h + hi) * t + ti) * d, (bi * h + hi) * s * d);
            let visible = visible(&sizes, self.causal, lengths, bi, ti);
            let bias = bias.map(|b| bias_row(b, &sizes, hi, ti, visible));
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

    fn narrows(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let qkv = self.qkv();
        let count = qkv + usize::from(self.bias) + usize::from(self.lengths);
        let descs: Vec<TensorDesc> = (0..count).map(|i| cx.input(i)).collect();
        let sizes = self.sizes(&descs).expect("checked by infer");
        let bias = self.bias.then(|| BiasAt::new(&descs[qkv], &sizes)).transpose()?;
        self.launch(cx, &sizes, bias.map(|at| (qkv, at)), self.lengths.then(|| count - 1))
    }
}

impl Attention {
    /// The launch for the operands of these numbers; q, k and v come first.
    fn launch(
        &self,
        cx: &mut LowerCx,
        sizes: &Sizes,
        bias: Option<(usize, BiasAt)>,
        lengths: Option<usize>,
    ) -> Result<()> {
        let Sizes { b, h, t, s, d } = *sizes;
        to_u32("attention operand", cx.input(0).shape.elements().max(b * h * s * d))?;
        let types = [0, 1, 2].map(|i| cx.input(if self.packed { 0 } else { i }).dtype);
        let problem = Problem { heads: b * h, queries: t, keys: s, width: d, types };
        let way = ways::by_name(cx.choose("attention", ways::candidates(cx.target, &problem)));
        let variant = Variant::new()
            .with_type("Y", cx.output().dtype)
            .with_u32("D", d)
            .with_bool("BIAS", bias.is_some())
            .with_bool("LENGTHS", lengths.is_some())
            .with_bool("CAUSAL", self.causal);
        let (kernel, variant) = way.specialise(variant, cx.target, &problem);
        let groups = way.groups(&problem);
        let part = if self.packed { to_u32("attention operand", b * h * t * d)? } else { 0 };
        let at = bias.map_or(BiasAt::default(), |(_, at)| at);
        let params = AttentionParams {
            heads: h as u32,
            queries: t as u32,
            keys: s as u32,
            k_start: part,
            v_start: 2 * part,
            bias_start: at.start,
            bias_head: at.head,
            bias_row: at.row,
            groups: to_u32("attention workgroups", groups)?,
            scale: self.scale,
        };
        let [k, v] = if self.packed { [0, 0] } else { [1, 2] };
        let others = [bias.map_or(0, |(operand, _)| operand), lengths.unwrap_or(0)];
        let read = [0, k, v].into_iter().chain(others).map(|i| cx.operand(i));
        let binds: Vec<Operand> = read.chain([cx.result()]).collect();
        cx.dispatch(kernel, variant, params, binds, groups)
    }
}

impl AttentionWeights {
    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        arity(inputs, 2 + usize::from(self.bias) + usize::from(self.lengths))?;
        let others = [self.bias.then(|| &inputs[2]), self.lengths.then(|| &inputs[inputs.len() - 1])];
        sizes(&inputs[0], Some(&inputs[1]), others, self.causal)
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
        let sizes = self.sizes(&descs).expect("checked by infer");
        let Sizes { h, t, s, d, .. } = sizes;
        let (q, k) = (f32s(inputs[0]), f32s(inputs[1]));
        let lengths = self.lengths.then(|| inputs[inputs.len() - 1]);
        let mut y = vec![0.0; out.shape.elements()];
        for (row, y) in y.chunks_mut(s).enumerate() {
            let (bh, ti) = (row / t, row % t);
            let visible = visible(&sizes, self.causal, lengths, bh / h, ti);
            let bias = self.bias.then(|| bias_row(inputs[2], &sizes, bh % h, ti, visible));
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
        let count = 2 + usize::from(self.bias) + usize::from(self.lengths);
        let descs: Vec<TensorDesc> = (0..count).map(|i| cx.input(i)).collect();
        let sizes = self.sizes(&descs).expect("checked by infer");
        let Sizes { b, h, t, s, d } = sizes;
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
            .with_bool("LENGTHS", self.lengths)
            .with_bool("CAUSAL", self.causal)
            .with_u32("WG", super::norm::row_lanes(cx, s));
        let groups = b * h * t;
        let at = if self.bias { BiasAt::new(&descs[2], &sizes)? } else { BiasAt::default() };
        let params = AttentionParams {
            heads: h as u32,
            queries: t as u32,
            keys: s as u32,
            k_start: 0,
            v_start: 0,
            bias_start: at.start,
            bias_head: at.head,
            bias_row: at.row,
            groups: groups as u32,
            scale: self.scale,
        };
        let others = [if self.bias { 2 } else { 0 }, if self.lengths { count - 1 } else { 0 }];
        let [bias, lengths] = others.map(|i| cx.operand(i));
        let binds = vec![cx.operand(0), cx.operand(1), bias, lengths, cx.result()];
        cx.dispatch(&WEIGHTS, variant, params, binds, groups)
    }
}
