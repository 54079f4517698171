//! The softmax weights of attention, written out: for images of them.

use super::problem::AttentionParams;
use super::rules::{BiasAt, Scores, Sight, Sizes, bias_row, sizes, weights_row};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::lower::LowerCx;
use crate::ops::norm::row_lanes;
use crate::tensor::{HostTensor, TensorDesc};

/// The softmax weights of attention. Operands: q (B,H,T,D), k (B,H,S,D), then bias and lengths as
/// [`crate::ops::Attention`] has them. Result (B,H,T,S).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionWeights {
    /// A bias is added to the scaled scores.
    pub bias: bool,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// Keys further than this from the query's own place are not seen.
    pub window: Option<usize>,
    /// Only the first so many keys count.
    pub lengths: bool,
    /// Factor on the scores.
    pub scale: f32,
}

static WEIGHTS: Kernel = Kernel {
    name: "attention_weights",
    source: shader!("lib/row.wgsl", "attention_weights.wgsl"),
    params: AttentionParams::FIELDS,
};

impl Graph {
    /// Softmax weights of attention. q: (B,H,T,D), k: (B,H,S,D); returns (B,H,T,S).
    pub fn attention_weights(&mut self, [q, k]: [Value; 2], scores: Scores) -> Value {
        let Scores { scale, bias, causal, window, lengths } = scores;
        let [biased, ragged] = [bias, lengths].map(|operand| operand.is_some());
        let op = AttentionWeights { bias: biased, causal, window, lengths: ragged, scale };
        let inputs = [Some(q), Some(k), bias, lengths];
        self.push(op, inputs.into_iter().flatten().collect())
    }
}

impl AttentionWeights {
    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        arity(inputs, 2 + usize::from(self.bias) + usize::from(self.lengths))?;
        let others = [self.bias.then(|| &inputs[2]), self.lengths.then(|| &inputs[inputs.len() - 1])];
        sizes(&inputs[0], Some(&inputs[1]), others, [self.causal, self.window.is_some()])
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
            let sight = Sight { causal: self.causal, window: self.window, lengths };
            let seen = sight.of(&sizes, bh / h, ti);
            let bias = self.bias.then(|| bias_row(inputs[2], &sizes, bh % h, ti, seen.clone()));
            let k = &k[bh * s * d..][..s * d];
            let p = weights_row(&q[row * d..][..d], k, bias, seen.clone(), self.scale);
            y[seen].copy_from_slice(&p);
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
            .with_bool("WINDOW", self.window.is_some())
            .with_u32("WG", row_lanes(cx, s));
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
            window: self.window.map_or(0, |w| w.min(s) as u32),
            groups: groups as u32,
            scale: self.scale,
        };
        let others = [if self.bias { 2 } else { 0 }, if self.lengths { count - 1 } else { 0 }];
        let [bias, lengths] = others.map(|i| cx.operand(i));
        let binds = vec![cx.operand(0), cx.operand(1), bias, lengths, cx.result()];
        cx.dispatch(&WEIGHTS, variant, params, binds, groups)
    }
}
