//! Layer norm (Ba et al. 2016) and RMS norm (Zhang & Sennrich 2019) over the innermost dimension.

use super::def::{OpDef, arity, f32s};
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, TensorDesc};

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// (x - mean) / sqrt(variance + eps) · gain + bias
    Layer,
    /// x / sqrt(mean(x²) + eps) · gain
    Rms,
}

/// Normalises rows. Operands: x (…, C), gain (C), and bias (C) for a layer norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Layer or RMS.
    pub kind: NormKind,
    /// Added to the variance or mean square.
    pub eps: f32,
}

params! {
    /// Parameters of the norm kernel.
    struct NormParams { rows: u32, width: u32, eps: f32 }
}

static NORM: Kernel =
    Kernel { name: "norm", source: shader!("lib/row.wgsl", "norm.wgsl"), params: NormParams::FIELDS };

/// Invocations that share one row: one SIMD register on software adapters, where every further
/// lane costs a barrier.
pub(super) fn row_lanes(cx: &LowerCx, width: usize) -> usize {
    let most = if cx.target.cpu { 8 } else { 256 };
    (width / 4).next_power_of_two().clamp(8, most)
}

impl Graph {
    /// Layer norm over the innermost dimension. x: (…, C), gain and bias: (C).
    pub fn layer_norm(&mut self, x: Value, gain: Value, bias: Value, eps: f32) -> Value {
        self.push(Norm { kind: NormKind::Layer, eps }, vec![x, gain, bias])
    }

    /// RMS norm over the innermost dimension. x: (…, C), gain: (C).
    pub fn rms_norm(&mut self, x: Value, gain: Value, eps: f32) -> Value {
        self.push(Norm { kind: NormKind::Rms, eps }, vec![x, gain])
    }
}

/// Normalises rows of the gain's width, by plain loops; only a layer norm reads the bias.
pub(super) fn normalise_rows(x: &mut [f32], kind: NormKind, eps: f32, gain: &[f32], bias: &[f32]) {
    let width = gain.len();
    for row in x.chunks_mut(width) {
        let mean = match kind {
            NormKind::Layer => row.iter().sum::<f32>() / width as f32,
            NormKind::Rms => 0.0,
        };
        let square = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
        let inverse = 1.0 / (square + eps).sqrt();
        for (i, x) in row.iter_mut().enumerate() {
            *x = (*x - mean) * inverse * gain[i];
            if kind == NormKind::Layer {
                *x += bias[i];
            }
        }
    }
}

impl OpDef for Norm {
    fn name(&self) -> &'static str {
        match self.kind {
            NormKind::Layer => "layer_norm",
            NormKind::Rms => "rms_norm",
        }
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, if self.kind == NormKind::Layer { 3 } else { 2 })?;
        let width = inputs[0].shape.width();
        if inputs[1..].iter().any(|d| d.shape.elements() != width) {
            return Err(format!("gain or bias does not have width {width}"));
        }
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let bias: &[f32] = if self.kind == NormKind::Layer { f32s(inputs[2]) } else { &[] };
        let mut y = f32s(inputs[0]).to_vec();
        normalise_rows(&mut y, self.kind, self.eps, f32s(inputs[1]), bias);
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        8 * out.shape.elements() as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn row_operands(&self, _inputs: &[TensorDesc]) -> Vec<usize> {
        vec![0]
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let ([x, gain], dy) = ([at.inputs[0], at.inputs[1]], at.dy);
        let mut gradients = vec![at.of(0, |g| g.norm_grad(x, gain, dy, *self))];
        if !at.needed[1..].contains(&true) {
            gradients.resize(at.inputs.len(), Gradient::None);
            return Some(gradients);
        }
        // A row for the gain, and one for the bias of a layer norm.
        let rows = at.inputs.len() - 1;
        let factors = at.g.norm_factors_grad(x, dy, *self);
        let factors = at.g.reshape(factors, [1, rows, at.g.shape(x).width()]);
        for i in 1..=rows {
            let shape = at.g.shape(at.inputs[i]);
            gradients.push(at.of(i, |g| {
                let row = g.slice_tokens(factors, i - 1..i);
                g.reshape(row, shape)
            }));
        }
        Some(gradients)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let shape = cx.output().shape;
        let layer = self.kind == NormKind::Layer;
        to_u32("norm operand", shape.elements())?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_bool("LAYER", layer)
            .with_u32("WG", row_lanes(cx, shape.width()));
        let params =
            NormParams { rows: to_u32("rows", shape.rows())?, width: shape.width() as u32, eps: self.eps };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(if layer { 2 } else { 1 }), cx.result()];
        cx.dispatch(&NORM, variant, params, binds, shape.rows())
    }
}
