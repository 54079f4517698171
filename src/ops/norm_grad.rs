//! The way back of layer and RMS norm. With x̂ the normalised row and 1/σ its factor:
//! dx = (γ∘dy − mean(γ∘dy) − x̂·mean(γ∘dy∘x̂)) / σ, without the first mean for an RMS norm, whose x̂ has none;
//! dγ is the sum of dy∘x̂ over rows, dβ that of dy.

use super::def::{OpDef, arity, f32s};
use super::lower::{LowerCx, to_u32};
use super::norm::{Norm, NormKind, normalise_rows, row_lanes};
use super::sum::{self, ROWS};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, TensorDesc};

/// What a norm passes back to x. Operands: x (…,C), gain (C), dy (…,C). Result (…,C).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormGrad {
    /// The norm.
    pub norm: Norm,
}

/// What a norm passes back to its factors. Operands: x (…,C), dy (…,C). Result (2,C), the gain's and the bias's;
/// (1,C) for an RMS norm, which has no bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormFactorsGrad {
    /// The norm.
    pub norm: Norm,
}

params! {
    /// Parameters of both kernels; only that of the factors has chunks of rows.
    struct NormGradParams { rows: u32, width: u32, chunk: u32, groups: u32, eps: f32 }
}

static NORM_GRAD: Kernel = Kernel {
    name: "norm_grad",
    source: shader!("lib/row.wgsl", "norm_grad.wgsl"),
    params: NormGradParams::FIELDS,
};
static FACTORS: Kernel = Kernel {
    name: "norm_factors_grad",
    source: shader!("lib/row.wgsl", "norm_factors_grad.wgsl"),
    params: NormGradParams::FIELDS,
};

impl Graph {
    /// What a norm passes back to x (…,C). gain: (C), dy: (…,C).
    pub fn norm_grad(&mut self, x: Value, gain: Value, dy: Value, norm: Norm) -> Value {
        self.push(NormGrad { norm }, vec![x, gain, dy])
    }

    /// What a norm of x (…,C) passes back to gain and bias: (2,C), or (1,C) without a bias.
    pub fn norm_factors_grad(&mut self, x: Value, dy: Value, norm: Norm) -> Value {
        self.push(NormFactorsGrad { norm }, vec![x, dy])
    }
}

/// x̂ of rows, and 1/σ of each, by plain loops.
fn normalised(norm: &Norm, x: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let mut hat = x.to_vec();
    normalise_rows(&mut hat, norm.kind, norm.eps, &vec![1.0; width], &vec![0.0; width]);
    let inverse = x.chunks(width).map(|row| {
        let mean = if norm.kind == NormKind::Layer { row.iter().sum::<f32>() / width as f32 } else { 0.0 };
        let square = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
        1.0 / (square + norm.eps).sqrt()
    });
    (hat, inverse.collect())
}

impl OpDef for NormGrad {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        let x = inputs[0].shape;
        if inputs[1].shape.elements() != x.width() || inputs[2].shape != x {
            return Err(format!("x {x}, gain {} and dy {} do not fit", inputs[1].shape, inputs[2].shape));
        }
        Ok(TensorDesc::f32(x))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let width = out.shape.width();
        let (gain, dy) = (f32s(inputs[1]), f32s(inputs[2]));
        let (hat, inverse) = normalised(&self.norm, f32s(inputs[0]), width);
        let mut dx = Vec::with_capacity(dy.len());
        for (row, inverse) in inverse.iter().enumerate() {
            let range = row * width..(row + 1) * width;
            let scaled: Vec<f32> = dy[range.clone()].iter().zip(gain).map(|(dy, gain)| dy * gain).collect();
            let hat = &hat[range];
            let along = scaled.iter().zip(hat).map(|(g, x)| g * x).sum::<f32>() / width as f32;
            let mean = match self.norm.kind {
                NormKind::Layer => scaled.iter().sum::<f32>() / width as f32,
                NormKind::Rms => 0.0,
            };
            dx.extend(scaled.iter().zip(hat).map(|(g, x)| (g - mean - x * along) * inverse));
        }
        HostTensor::f32(out.shape, dx)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        14 * out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let shape = cx.output().shape;
        let variant = variant(cx, self.norm, 2).with_type("Y", cx.output().dtype);
        let params = NormGradParams {
            rows: to_u32("rows", shape.elements())? / shape.width() as u32,
            width: shape.width() as u32,
            chunk: 1,
            groups: shape.rows() as u32,
            eps: self.norm.eps,
        };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(2), cx.result()];
        cx.dispatch(&NORM_GRAD, variant, params, binds, shape.rows())
    }
}

/// What both kernels are specialised by; `dy` is the number of that operand.
fn variant(cx: &LowerCx, norm: Norm, dy: usize) -> Variant {
    Variant::new()
        .with_type("X", cx.input(0).dtype)
        .with_type("DY", cx.input(dy).dtype)
        .with_bool("LAYER", norm.kind == NormKind::Layer)
        .with_u32("WG", row_lanes(cx, cx.input(0).shape.width()))
}

impl OpDef for NormFactorsGrad {
    fn name(&self) -> &'static str {
        "norm_factors_grad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        if inputs[0].shape != inputs[1].shape {
            return Err(format!("x has shape {}, dy has {}", inputs[0].shape, inputs[1].shape));
        }
        let rows = if self.norm.kind == NormKind::Layer { 2 } else { 1 };
        Ok(TensorDesc::f32([rows, inputs[0].shape.width()]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let width = out.shape.width();
        let (hat, _) = normalised(&self.norm, f32s(inputs[0]), width);
        let mut sums = vec![0.0; out.shape.elements()];
        for (hat, dy) in hat.chunks(width).zip(f32s(inputs[1]).chunks(width)) {
            let (gain, bias) = sums.split_at_mut(width);
            for ((gain, hat), dy) in gain.iter_mut().zip(hat).zip(dy) {
                *gain += hat * dy;
            }
            for (bias, dy) in bias.iter_mut().zip(dy) {
                *bias += dy;
            }
        }
        HostTensor::f32(out.shape, sums)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        8 * inputs[0].shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (shape, out) = (cx.input(0).shape, cx.output().shape);
        let (rows, width) = (to_u32("rows", shape.elements())? as usize / shape.width(), shape.width());
        // Chunks of rows are added up one by one, then what they gave.
        let groups = rows.div_ceil(ROWS);
        let params = NormGradParams {
            rows: rows as u32,
            width: width as u32,
            chunk: ROWS as u32,
            groups: groups as u32,
            eps: self.norm.eps,
        };
        let variant = variant(cx, self.norm, 1);
        let parts = if groups == 1 { cx.result() } else { cx.scratch(groups * out.elements())? };
        let binds = vec![cx.operand(0), cx.operand(1), parts];
        cx.dispatch(&FACTORS, variant, params, binds, groups)?;
        if groups == 1 { Ok(()) } else { sum::of_parts(cx, parts, groups, out.elements()) }
    }
}
