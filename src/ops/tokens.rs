//! Ranges of tokens: taken, averaged, and the mean's way back.

use std::ops::Range;

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::layout::Copy4;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// A range of tokens: (B,T,C) to (B,len,C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceTokens {
    /// Which tokens.
    pub range: Range<usize>,
}

/// Mean over a range of tokens: (B,T,C) to (B,C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeanTokens {
    /// Which tokens.
    pub range: Range<usize>,
}

/// What a mean over tokens passes back: (B,C) to (B,T,C), divided by the number of tokens that were averaged and
/// zero elsewhere. Operands: dy (B,C), and lengths (B) u32 if set: the first so many tokens were averaged then,
/// at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadTokens {
    /// Tokens T of the result.
    pub tokens: usize,
    /// Which were averaged.
    pub range: Range<usize>,
    /// Lengths say which.
    pub lengths: bool,
}

params! {
    /// Parameters of the mean kernel.
    struct MeanParams { count: u32, width: u32, tokens: u32, first: u32, length: u32 }
}

params! {
    /// Parameters of the kernel that spreads tokens.
    struct SpreadParams { count: u32, width: u32, tokens: u32, first: u32, length: u32 }
}

static MEAN: Kernel = Kernel { name: "mean", source: shader!("mean.wgsl"), params: MeanParams::FIELDS };
static SPREAD: Kernel =
    Kernel { name: "spread_tokens", source: shader!("spread_tokens.wgsl"), params: SpreadParams::FIELDS };

impl Graph {
    /// Some tokens. x: (B,T,C); returns (B,len,C).
    pub fn slice_tokens(&mut self, x: Value, range: Range<usize>) -> Value {
        self.push(SliceTokens { range }, vec![x])
    }

    /// One token. x: (B,T,C); returns (B,C).
    pub fn token(&mut self, x: Value, i: usize) -> Value {
        let all = self.shape(x).dims() == [self.shape(x).rows(), 1, self.shape(x).width()];
        let sliced = if all && i == 0 { x } else { self.slice_tokens(x, i..i + 1) };
        let dims = self.shape(sliced);
        let (batch, width) = (dims.dims()[0], dims.width());
        self.reshape(sliced, [batch, width])
    }

    /// Mean over some tokens. x: (B,T,C); returns (B,C).
    pub fn mean_tokens(&mut self, x: Value, range: Range<usize>) -> Value {
        self.push(MeanTokens { range }, vec![x])
    }

    /// The way back of [`Graph::mean_tokens`], or of [`Graph::mean_of`] with lengths (B) u32. dy: (B,C); returns
    /// (B,T,C).
    pub fn spread_tokens(
        &mut self,
        dy: Value,
        tokens: usize,
        range: Range<usize>,
        lengths: Option<Value>,
    ) -> Value {
        let op = SpreadTokens { tokens, range, lengths: lengths.is_some() };
        self.push(op, [Some(dy), lengths].into_iter().flatten().collect())
    }
}

fn checked_range(range: &Range<usize>, tokens: usize) -> Result<(), String> {
    if range.start < range.end && range.end <= tokens {
        Ok(())
    } else {
        Err(format!("tokens {}..{} of {tokens}", range.start, range.end))
    }
}

impl OpDef for SliceTokens {
    fn name(&self) -> &'static str {
        "slice_tokens"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, t, c] = dims("x", &inputs[0])?;
        checked_range(&self.range, t)?;
        Ok(TensorDesc::f32([b, self.range.len(), c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, t, c]: [usize; 3] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let pictures = f32s(inputs[0]).chunks(t * c);
        let y = pictures.flat_map(|x| &x[self.range.start * c..self.range.end * c]).copied();
        HostTensor::f32(out.shape, y.collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        Some(vec![Gradient::Tokens(self.range.clone(), at.dy)])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, t, c]: [usize; 3] = dims("x", &cx.input(0)).expect("checked by infer");
        let length = self.range.len();
        let copy = Copy4 {
            extent: [1, b, length, c],
            src: (self.range.start * c, [0, t * c, c, 1]),
            dst: (0, [0, length * c, c, 1]),
        };
        copy.lower(cx, 0)
    }
}

impl OpDef for MeanTokens {
    fn name(&self) -> &'static str {
        "mean_tokens"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, t, c] = dims("x", &inputs[0])?;
        checked_range(&self.range, t)?;
        Ok(TensorDesc::f32([b, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, t, c]: [usize; 3] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let x = f32s(inputs[0]);
        let mean = |i: usize| {
            let at = |ti: usize| x[(i / c * t + ti) * c + i % c];
            self.range.clone().map(at).sum::<f32>() / self.range.len() as f32
        };
        HostTensor::f32(out.shape, (0..out.shape.elements()).map(mean).collect())
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let tokens = at.g.shape(at.inputs[0]).dims()[1];
        Some(vec![Gradient::Whole(at.g.spread_tokens(at.dy, tokens, self.range.clone(), None))])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, t, c]: [usize; 3] = dims("x", &cx.input(0)).expect("checked by infer");
        to_u32("mean operand", b * t * c)?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("WG", LANES);
        let params = MeanParams {
            count: (b * c) as u32,
            width: c as u32,
            tokens: t as u32,
            first: self.range.start as u32,
            length: self.range.len() as u32,
        };
        cx.dispatch(&MEAN, variant, params, vec![cx.operand(0), cx.result()], (b * c).div_ceil(LANES))
    }
}

impl OpDef for SpreadTokens {
    fn name(&self) -> &'static str {
        "spread_tokens"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1 + usize::from(self.lengths))?;
        let [b, c] = dims("dy", &inputs[0])?;
        checked_range(&self.range, self.tokens)?;
        if self.lengths && (inputs[1].dtype != DType::U32 || inputs[1].shape.dims() != [b]) {
            return Err(format!("lengths are {}, expected one u32 for each of {b}", inputs[1]));
        }
        Ok(TensorDesc::f32([b, self.tokens, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, t, c]: [usize; 3] = dims("out", out).expect("infer made it");
        let dy = f32s(inputs[0]);
        let lengths = self.lengths.then(|| inputs[1].as_u32().expect("checked by infer"));
        let element = |i: usize| {
            let (b, ti) = (i / c / t, i / c % t);
            let range = lengths.map_or(self.range.clone(), |l| 0..(l[b] as usize).clamp(1, t));
            if range.contains(&ti) { dy[b * c + i % c] / range.len() as f32 } else { 0.0 }
        };
        HostTensor::f32(out.shape, (0..out.shape.elements()).map(element).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, t, c]: [usize; 3] = dims("out", &cx.output()).expect("infer made it");
        let count = cx.output().shape.elements();
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_bool("LENGTHS", self.lengths)
            .with_u32("WG", LANES);
        let params = SpreadParams {
            count: to_u32("spread elements", count)?,
            width: c as u32,
            tokens: t as u32,
            first: self.range.start as u32,
            length: self.range.len() as u32,
        };
        let binds = vec![cx.operand(0), cx.operand(usize::from(self.lengths)), cx.result()];
        cx.dispatch(&SPREAD, variant, params, binds, count.div_ceil(LANES))
    }
}
