//! The only ops that move data without computing: splitting heads, joining and slicing tokens,
//! reshaping; and the mean over tokens. All moves are one strided copy kernel.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// (B,T,C) to (B,H,T,D).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitHeads {
    /// Number of heads H.
    pub heads: usize,
}

/// Tokens one after the other: operands (B,t,C) or (t,C), the latter repeated for every image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcatTokens {
    /// Batch size B of the result.
    pub batch: usize,
}

/// Rows side by side: (…, C₁) and (…, C₂) to (…, C₁+C₂).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcatWidth;

/// The same elements under another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

params! {
    /// A four-dimensional strided copy; strides and starts in elements.
    struct CopyParams {
        count: u32, n1: u32, n2: u32, n3: u32,
        src_start: u32, src0: u32, src1: u32, src2: u32, src3: u32,
        dst_start: u32, dst0: u32, dst1: u32, dst2: u32, dst3: u32,
    }
}

static COPY: Kernel = Kernel { name: "copy", source: shader!("copy.wgsl"), params: CopyParams::FIELDS };

impl Graph {
    /// (B,T,C) to (B,H,T,D), D = C/H.
    pub fn split_heads(&mut self, x: Value, heads: usize) -> Value {
        self.push(SplitHeads { heads }, vec![x])
    }

    /// Joins tokens: each operand (B,t,C) or (t,C); returns (B, sum of t, C).
    pub fn concat_tokens(&mut self, batch: usize, parts: &[Value]) -> Value {
        self.push(ConcatTokens { batch }, parts.to_vec())
    }

    /// Joins rows side by side.
    pub fn concat_width(&mut self, parts: &[Value]) -> Value {
        self.push(ConcatWidth, parts.to_vec())
    }

    /// The same elements under another shape.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> Value {
        self.push(Reshape { shape: shape.into() }, vec![x])
    }
}

/// Extent and element strides of one copy, outermost first.
pub(super) struct Copy4 {
    pub(super) extent: [usize; 4],
    pub(super) src: (usize, [usize; 4]),
    pub(super) dst: (usize, [usize; 4]),
}

impl Copy4 {
    pub(super) fn lower(&self, cx: &mut LowerCx, input: usize) -> Result<()> {
        let count: usize = self.extent.iter().product();
        to_u32("copied elements", cx.input(input).shape.elements().max(cx.output().shape.elements()))?;
        let variant = Variant::new()
            .with_type("X", cx.input(input).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("WG", LANES);
        let [_, n1, n2, n3] = self.extent.map(|n| n as u32);
        let ([src0, src1, src2, src3], [dst0, dst1, dst2, dst3]) =
            (self.src.1.map(|n| n as u32), self.dst.1.map(|n| n as u32));
        let params = CopyParams {
            count: count as u32,
            n1,
            n2,
            n3,
            src_start: self.src.0 as u32,
            src0,
            src1,
            src2,
            src3,
            dst_start: self.dst.0 as u32,
            dst0,
            dst1,
            dst2,
            dst3,
        };
        let binds = vec![cx.operand(input), cx.result()];
        cx.dispatch(&COPY, variant, params, binds, count.div_ceil(LANES))
    }
}

impl OpDef for SplitHeads {
    fn name(&self) -> &'static str {
        "split_heads"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, t, c] = dims("x", &inputs[0])?;
        if self.heads == 0 || c % self.heads != 0 {
            return Err(format!("width {c} does not split into {} heads", self.heads));
        }
        Ok(TensorDesc::f32([b, self.heads, t, c / self.heads]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, h, t, d]: [usize; 4] = dims("out", out).expect("infer made it");
        let x = f32s(inputs[0]);
        let mut y = vec![0.0; x.len()];
        for (i, y) in y.iter_mut().enumerate() {
            let (bi, hi, ti, di) = (i / d / t / h, i / d / t % h, i / d % t, i % d);
            *y = x[(bi * t + ti) * h * d + hi * d + di];
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn narrows(&self) -> bool {
        true
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        Some(vec![Gradient::Whole(at.g.merge_heads(at.dy))])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, h, t, d]: [usize; 4] = dims("out", &cx.output()).expect("infer made it");
        let copy = Copy4 {
            extent: [b, h, t, d],
            src: (0, [t * h * d, d, h * d, 1]),
            dst: (0, [h * t * d, t * d, d, 1]),
        };
        copy.lower(cx, 0)
    }
}

/// Tokens and width of a `concat_tokens` operand: (B,t,C) or (t,C).
fn token_part(desc: &TensorDesc, batch: usize) -> Result<(usize, usize, bool), String> {
    match *desc.shape.dims() {
        [t, c] => Ok((t, c, true)),
        [b, t, c] if b == batch => Ok((t, c, false)),
        _ => Err(format!("operand has shape {}, expected [{batch},t,C] or [t,C]", desc.shape)),
    }
}

impl OpDef for ConcatTokens {
    fn name(&self) -> &'static str {
        "concat_tokens"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let Some(first) = inputs.first() else { return Err("no operands".to_owned()) };
        let width = first.shape.width();
        let mut tokens = 0;
        for desc in inputs {
            let (t, c, _) = token_part(desc, self.batch)?;
            if c != width {
                return Err(format!("operands have widths {width} and {c}"));
            }
            tokens += t;
        }
        Ok(TensorDesc::f32([self.batch, tokens, width]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let mut y = Vec::with_capacity(out.shape.elements());
        for b in 0..self.batch {
            for input in inputs {
                let (t, c, shared) = token_part(&input.desc(), self.batch).expect("checked by infer");
                let start = if shared { 0 } else { b * t * c };
                y.extend_from_slice(&f32s(input)[start..start + t * c]);
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let mut first = 0;
        let gradients = at.inputs.iter().zip(at.needed).map(|(&v, &needed)| {
            let shape = at.g.shape(v);
            let tokens = shape.dims()[shape.dims().len() - 2];
            first += tokens;
            if !needed {
                return Gradient::None;
            }
            let part = at.g.slice_tokens(at.dy, first - tokens..first);
            Gradient::Whole(at.g.sum_to(part, shape))
        });
        Some(gradients.collect())
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [batch, tokens, width]: [usize; 3] = dims("out", &cx.output()).expect("infer made it");
        let mut first = 0;
        let mut i = 0;
        while first < tokens {
            let (t, c, shared) = token_part(&cx.input(i), batch).expect("checked by infer");
            let copy = Copy4 {
                extent: [1, batch, t, c],
                src: (0, [0, if shared { 0 } else { t * c }, c, 1]),
                dst: (first * width, [0, tokens * width, width, 1]),
            };
            copy.lower(cx, i)?;
            first += t;
            i += 1;
        }
        Ok(())
    }
}

impl OpDef for ConcatWidth {
    fn name(&self) -> &'static str {
        "concat_width"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let Some(first) = inputs.first() else { return Err("no operands".to_owned()) };
        let width = inputs.iter().map(|d| d.shape.width()).sum();
        let out = first.shape.with_width(width);
        if inputs.iter().any(|d| d.shape.with_width(width) != out) {
            return Err("operands have different rows".to_owned());
        }
        Ok(TensorDesc::f32(out))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let mut y = Vec::with_capacity(out.shape.elements());
        for row in 0..out.shape.rows() {
            for input in inputs {
                let width = input.shape().width();
                y.extend_from_slice(&f32s(input)[row * width..(row + 1) * width]);
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let mut first = 0;
        let gradients = at.inputs.iter().zip(at.needed).map(|(&v, &needed)| {
            let width = at.g.shape(v).width();
            first += width;
            if needed {
                Gradient::Whole(at.g.slice_width(at.dy, first - width..first))
            } else {
                Gradient::None
            }
        });
        Some(gradients.collect())
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (rows, total) = (cx.output().shape.rows(), cx.output().shape.width());
        let mut first = 0;
        let mut i = 0;
        while first < total {
            let width = cx.input(i).shape.width();
            let copy = Copy4 {
                extent: [1, 1, rows, width],
                src: (0, [0, 0, width, 1]),
                dst: (first, [0, 0, total, 1]),
            };
            copy.lower(cx, i)?;
            first += width;
            i += 1;
        }
        Ok(())
    }
}

impl OpDef for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        if inputs[0].shape.elements() != self.shape.elements() {
            return Err(format!("{} does not reshape to {}", inputs[0].shape, self.shape));
        }
        Ok(TensorDesc::new(inputs[0].dtype, self.shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        inputs[0].clone().reshaped(out.shape)
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let shape = at.g.shape(at.inputs[0]);
        Some(vec![Gradient::Whole(at.g.reshape(at.dy, shape))])
    }

    /// Nothing: the plan gives a reshape its operand's buffer.
    fn lower(&self, _cx: &mut LowerCx) -> Result<()> {
        Ok(())
    }
}
