//! What texts of different lengths in one batch need besides attention: tokens at places of their own,
//! and the mean of those that count.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Tokens of each sequence by place. Operands: x (B,T,C), places (B,M) u32; a place beyond the last token
/// is the last. Result (B,M,C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeTokens;

/// Mean of the first tokens of each sequence. Operands: x (B,T,C), lengths (B) u32, of which each counts
/// as 1 to T. Result (B,C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeanOf;

params! {
    /// Parameters of the kernel that takes tokens.
    struct TakeParams { count: u32, width: u32, tokens: u32, taken: u32 }
}

params! {
    /// Parameters of the mean of the first tokens.
    struct MeanOfParams { count: u32, width: u32, tokens: u32 }
}

static TAKE: Kernel = Kernel { name: "take", source: shader!("take.wgsl"), params: TakeParams::FIELDS };
static MEAN_OF: Kernel =
    Kernel { name: "mean_of", source: shader!("mean_of.wgsl"), params: MeanOfParams::FIELDS };

impl Graph {
    /// Tokens of each sequence by place. x: (B,T,C), places: (B,M) u32; returns (B,M,C).
    pub fn take_tokens(&mut self, x: Value, places: Value) -> Value {
        self.push(TakeTokens, vec![x, places])
    }

    /// Mean of the first tokens of each sequence. x: (B,T,C), lengths: (B) u32; returns (B,C).
    pub fn mean_of(&mut self, x: Value, lengths: Value) -> Value {
        self.push(MeanOf, vec![x, lengths])
    }
}

impl OpDef for TakeTokens {
    fn name(&self) -> &'static str {
        "take_tokens"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let ([b, t, c], [rows, m]) = (dims("x", &inputs[0])?, dims("places", &inputs[1])?);
        if inputs[1].dtype != DType::U32 || rows != b || t == 0 {
            return Err(format!("places are {}, expected u32 for each of {b} sequences", inputs[1]));
        }
        Ok(TensorDesc::f32([b, m, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, t, c]: [usize; 3] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let [_, m]: [usize; 2] = dims("places", &inputs[1].desc()).expect("checked by infer");
        let places = inputs[1].as_u32().expect("checked by infer");
        let token = |(row, place): (usize, &u32)| {
            let at = row / m * t + (*place as usize).min(t - 1);
            &f32s(inputs[0])[at * c..(at + 1) * c]
        };
        HostTensor::f32(out.shape, places.iter().enumerate().flat_map(token).copied().collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], out: &TensorDesc) -> Option<u64> {
        Some((inputs[1].bytes() + 2 * out.bytes()) as u64)
    }

    fn narrows(&self) -> bool {
        true
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let (tokens, places, dy) = (at.g.shape(at.inputs[0]).dims()[1], at.inputs[1], at.dy);
        Some(vec![at.of(0, |g| g.put_tokens(dy, places, tokens)), Gradient::None])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, t, c]: [usize; 3] = dims("x", &cx.input(0)).expect("checked by infer");
        let out = cx.output();
        to_u32("token operand", b * t * c)?;
        let variant =
            Variant::new().with_type("X", cx.input(0).dtype).with_type("Y", out.dtype).with_u32("WG", LANES);
        let params = TakeParams {
            count: to_u32("taken elements", out.shape.elements())?,
            width: c as u32,
            tokens: t as u32,
            taken: out.shape.dims()[1] as u32,
        };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&TAKE, variant, params, binds, out.shape.elements().div_ceil(LANES))
    }
}

impl OpDef for MeanOf {
    fn name(&self) -> &'static str {
        "mean_of"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [b, t, c] = dims("x", &inputs[0])?;
        if inputs[1].dtype != DType::U32 || inputs[1].shape.dims() != [b] || t == 0 {
            return Err(format!("lengths are {}, expected one u32 for each of {b}", inputs[1]));
        }
        Ok(TensorDesc::f32([b, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, t, c]: [usize; 3] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let lengths = inputs[1].as_u32().expect("checked by infer");
        let x = f32s(inputs[0]);
        let mean = |i: usize| {
            let length = (lengths[i / c] as usize).clamp(1, t);
            (0..length).map(|ti| x[(i / c * t + ti) * c + i % c]).sum::<f32>() / length as f32
        };
        HostTensor::f32(out.shape, (0..out.shape.elements()).map(mean).collect())
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let (tokens, lengths, dy) = (at.g.shape(at.inputs[0]).dims()[1], at.inputs[1], at.dy);
        Some(vec![at.of(0, |g| g.spread_tokens(dy, tokens, 0..tokens, Some(lengths))), Gradient::None])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, t, c]: [usize; 3] = dims("x", &cx.input(0)).expect("checked by infer");
        to_u32("mean operand", b * t * c)?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("WG", LANES);
        let params = MeanOfParams { count: (b * c) as u32, width: c as u32, tokens: t as u32 };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&MEAN_OF, variant, params, binds, (b * c).div_ceil(LANES))
    }
}
