//! Attention of a decoder over what an encoder made of another sequence. Keys and values do not depend on
//! the decoder's tokens, so they are entered once, with the prompt, and every later step reads the cache
//! alone. Which of them count is a tensor, so that a plan serves sources of any length.

use super::cache::{Entry, Reach, attend, cache_shape, fill};
use super::rules::MAX_HEAD_WIDTH;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::def::{OpDef, arity, dims, f32s};
use crate::ops::lower::LowerCx;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Attention over a cache of another sequence. Operands: q (B,H,T,D); k and v (B',H,S,D) if they are to
/// be entered first; cache of R rows, R a multiple of B and of B' (row r has source r modulo B'); lengths
/// (R) u32, the keys that count (0 counts as 1). Query b reads row b. Result (B,T,H·D).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossAttention {
    /// k and v are operands, and are entered.
    pub enter: bool,
    /// Factor on the scores, usually 1/sqrt(D).
    pub scale: f32,
}

impl Graph {
    /// Attention over a cache of another sequence. q: (B,H,T,D), kv: k and v (B',H,S,D) if they are to be
    /// entered first, cache: [`cache_shape`], lengths: (R) u32; returns (B,T,H·D).
    pub fn cross_attention(
        &mut self,
        q: Value,
        kv: Option<[Value; 2]>,
        [cache, lengths]: [Value; 2],
        scale: f32,
    ) -> Value {
        let op = CrossAttention { enter: kv.is_some(), scale };
        let inputs = [q].into_iter().chain(kv.into_iter().flatten()).chain([cache, lengths]);
        self.push(op, inputs.collect())
    }
}

impl CrossAttention {
    /// Number of the operand that is the cache.
    fn cache(&self) -> usize {
        if self.enter { 3 } else { 1 }
    }

    fn entered(&self, inputs: &[&HostTensor]) -> HostTensor {
        let cache = inputs[self.cache()];
        if !self.enter {
            return cache.clone();
        }
        let [b, h, s, d]: [usize; 4] = dims("k", &inputs[1].desc()).expect("checked by infer");
        fill([f32s(inputs[1]), f32s(inputs[2])], [b * h, s, d], cache, 0)
    }
}

impl OpDef for CrossAttention {
    fn name(&self) -> &'static str {
        "cross_attention"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let at = self.cache();
        arity(inputs, at + 2)?;
        let [b, h, t, d] = dims("q", &inputs[0])?;
        let [_, rows, positions, _] = dims("cache", &inputs[at])?;
        let multiple = b * h > 0 && rows > 0 && rows.is_multiple_of(b * h);
        if !multiple || inputs[at].shape != cache_shape(rows, 1, positions, d) {
            return Err(format!("cache {} does not fit heads of [{b},{h},{t},{d}]", inputs[at]));
        }
        if inputs[at + 1].dtype != DType::U32 || inputs[at + 1].shape.dims() != [rows / h] {
            return Err(format!("lengths are {}, expected one u32 for each of {}", inputs[at + 1], rows / h));
        }
        if self.enter {
            let [sources, heads, s, width] = dims("k", &inputs[1])?;
            let fits = sources > 0
                && (rows / h).is_multiple_of(sources)
                && (heads, width) == (h, d)
                && s <= positions;
            if !fits || inputs[1].shape != inputs[2].shape {
                return Err(format!("k {} and v {} do not fit cache {}", inputs[1], inputs[2], inputs[at]));
            }
        }
        if d > MAX_HEAD_WIDTH {
            return Err(format!("head width {d} is above {MAX_HEAD_WIDTH}"));
        }
        Ok(TensorDesc::f32([b, t, h * d]))
    }

    fn writes(&self) -> Vec<usize> {
        if self.enter { vec![self.cache()] } else { vec![] }
    }

    fn reference(&self, inputs: &[&HostTensor], _out: &TensorDesc) -> HostTensor {
        let [b, h, t, d]: [usize; 4] = dims("q", &inputs[0].desc()).expect("checked by infer");
        let cache = self.entered(inputs);
        let positions = cache.shape().dims()[2];
        let lengths = inputs[self.cache() + 1].as_u32().expect("checked by infer");
        let mut y = Vec::with_capacity(b * t * h * d);
        for row in 0..b * t * h {
            let (bi, hi, ti) = (row / h / t, row % h, row / h % t);
            let q = &f32s(inputs[0])[((bi * h + hi) * t + ti) * d..][..d];
            let seen = (lengths[bi] as usize).clamp(1, positions);
            y.extend(attend(&cache, q, |_| bi * h + hi, seen, None, self.scale));
        }
        HostTensor::f32([b, t, h * d], y)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        if self.enter { vec![self.entered(inputs)] } else { vec![] }
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        4 * (inputs[0].shape.elements() * inputs[self.cache()].shape.dims()[2]) as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let at = self.cache();
        let sizes: [usize; 4] = dims("q", &cx.input(0)).expect("checked by infer");
        if self.enter {
            let [sources, heads, s, width]: [usize; 4] = dims("k", &cx.input(1)).expect("checked by infer");
            let sizes = [sources * heads, s, width];
            Entry { k: (1, 0), v: (2, 0), sizes, cache: at, step: None }.lower(cx)?;
        }
        Reach { sizes, cache: at, step: at + 1, cross: true, bias: None, rows: None, scale: self.scale }
            .lower(cx)
    }
}
