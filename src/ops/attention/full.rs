//! Softmax attention (Vaswani et al. 2017) with an online softmax (Milakov & Gimelshein 2018), so that no
//! score matrix is kept.

use rayon::prelude::*;

use super::backward::AttentionRows;
use super::gradients::{AttentionGradBias, AttentionGradKv, AttentionGradQ};
use super::problem::{AttentionParams, Problem};
use super::rules::{BiasAt, Scores, Sight, Sizes, bias_row, sizes, weights_row};
use super::variants;
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::Variant;
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::lower::{LowerCx, Operand, to_u32};
use crate::tensor::{HostTensor, TensorDesc};

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
    /// Keys further than this from the query's own place t + S - T are not seen, and nothing of them reaches
    /// the result; a query behind the keys that count looks from the last of them.
    pub window: Option<usize>,
    /// Only the first so many keys count: of what follows them nothing reaches the result. A length of 0
    /// counts as 1.
    pub lengths: bool,
    /// Factor on the scores, usually 1/sqrt(D).
    pub scale: f32,
}

impl Graph {
    /// Attention. q: (B,H,T,D), k and v: (B,H,S,D); returns (B,T,H·D).
    pub fn attention(&mut self, [q, k, v]: [Value; 3], scores: Scores) -> Value {
        let Scores { scale, bias, causal, window, lengths } = scores;
        let [biased, ragged] = [bias, lengths].map(|operand| operand.is_some());
        let op = Attention { packed: false, bias: biased, causal, window, lengths: ragged, scale };
        let inputs = [Some(q), Some(k), Some(v), bias, lengths];
        self.push(op, inputs.into_iter().flatten().collect())
    }

    /// Gradients of attention with regard to q, k, v and the bias, those that are `needed`. q: (B,H,T,D),
    /// k and v: (B,H,S,D), y and dy: (B,T,H·D).
    pub fn attention_backward(
        &mut self,
        [q, k, v]: [Value; 3],
        [y, dy]: [Value; 2],
        scores: Scores,
        needed: [bool; 4],
    ) -> [Option<Value>; 4] {
        let Scores { scale, bias, causal, lengths, window: _ } = scores;
        let op = AttentionRows { bias: bias.is_some(), causal, lengths: lengths.is_some(), scale };
        let read = [Some(q), Some(k), Some(y), Some(dy), bias, lengths];
        let rows = self.push(op, read.into_iter().flatten().collect());
        let read: Vec<Value> = [q, k, v, dy, rows].into_iter().chain(bias).collect();
        let op = AttentionGradQ { bias: bias.is_some(), scale };
        let dq = needed[0].then(|| self.push(op, read.clone()));
        let (mut dk, mut dv) = (None, None);
        if needed[1] || needed[2] {
            let both = self.push(AttentionGradKv { bias: bias.is_some(), scale }, read.clone());
            let shape = self.shape(k);
            let both = self.reshape(both, [1, 2, shape.elements()]);
            let mut part = |i: usize| {
                let part = self.slice_tokens(both, i..i + 1);
                self.reshape(part, shape)
            };
            dk = needed[1].then(|| part(0));
            dv = needed[2].then(|| part(1));
        }
        let dbias = (bias.is_some() && needed[3]).then(|| self.push(AttentionGradBias { scale }, read));
        [dq, dk, dv, dbias]
    }
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
        let sizes = sizes(
            &inputs[0],
            (!self.packed).then(|| &inputs[1]),
            others,
            [self.causal, self.window.is_some()],
        )?;
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
            let seen = Sight { causal: self.causal, window: self.window, lengths }.of(&sizes, bi, ti);
            let bias = bias.map(|b| bias_row(b, &sizes, hi, ti, seen.clone()));
            let p = weights_row(&q[q0..q0 + d], &k[k0..k0 + s * d], bias, seen.clone(), self.scale);
            for (s, p) in seen.zip(p) {
                for (i, y) in y.iter_mut().enumerate() {
                    *y += p * v[k0 + s * d + i];
                }
            }
        });
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        let keys = |s: usize| self.window.map_or(s, |w| s.min(2 * w + 1));
        self.sizes(inputs).map_or(0, |z| 4 * (z.b * z.h * z.t * keys(z.s) * z.d) as u64)
    }

    fn narrows(&self) -> bool {
        true
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        // Operands are packed by fusion, which comes after differentiation. The gradients know no windows.
        if self.packed || self.window.is_some() {
            return None;
        }
        let count = at.inputs.len();
        let bias = self.bias.then(|| at.inputs[3]);
        let lengths = self.lengths.then(|| at.inputs[count - 1]);
        let scores = Scores { scale: self.scale, bias, causal: self.causal, window: None, lengths };
        let qkv = [at.inputs[0], at.inputs[1], at.inputs[2]];
        let needed = [0, 1, 2, 3].map(|i| (i < 3 || self.bias) && at.needed[i]);
        let found = at.g.attention_backward(qkv, [at.y, at.dy], scores, needed);
        // Lengths, behind the bias, are no numbers that could change.
        let of = |i: usize| found.get(i).copied().flatten().map_or(Gradient::None, Gradient::Whole);
        Some((0..count).map(of).collect())
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
    pub(super) fn launch(
        &self,
        cx: &mut LowerCx,
        sizes: &Sizes,
        bias: Option<(usize, BiasAt)>,
        lengths: Option<usize>,
    ) -> Result<()> {
        let Sizes { b, h, t, s, d } = *sizes;
        to_u32("attention operand", cx.input(0).shape.elements().max(b * h * s * d))?;
        let types = [0, 1, 2].map(|i| cx.input(if self.packed { 0 } else { i }).dtype);
        let problem = Problem { heads: b * h, queries: t, keys: s, window: self.window, width: d, types };
        let chosen = variants::by_name(cx.choose("attention", variants::candidates(cx.target, &problem)));
        let variant = Variant::new()
            .with_type("Y", cx.output().dtype)
            .with_u32("D", d)
            .with_bool("BIAS", bias.is_some())
            .with_bool("LENGTHS", lengths.is_some())
            .with_bool("CAUSAL", self.causal)
            .with_bool("WINDOW", self.window.is_some());
        let (kernel, variant) = chosen.specialise(variant, cx.target, &problem);
        let groups = chosen.groups(&problem);
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
            // A wider one sees the same.
            window: self.window.map_or(0, |w| w.min(s) as u32),
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
