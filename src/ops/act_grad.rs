//! The way back of activations and gated linear units.

use super::def::{OpDef, arity, f32s};
use super::elementwise::{Act, ElementwiseParams, LANES};
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, shader};
use crate::tensor::{HostTensor, TensorDesc};

/// What an activation passes back: factor · act'(x) · dy. Operands: x, dy of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActGrad {
    /// The activation.
    pub act: Act,
    /// Its factor.
    pub factor: f32,
}

/// What a gated linear unit passes back. Operands: x (…,2F), dy (…,F). Result (…,2F).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GluGrad {
    /// Activation of the gate.
    pub act: Act,
}

static ACT_GRAD: Kernel = Kernel {
    name: "act_grad",
    source: shader!("lib/finite.wgsl", "lib/act.wgsl", "lib/act_slope.wgsl", "act_grad.wgsl"),
    params: ElementwiseParams::FIELDS,
};
static GLU_GRAD: Kernel = Kernel {
    name: "glu_grad",
    source: shader!("lib/finite.wgsl", "lib/act.wgsl", "lib/act_slope.wgsl", "glu_grad.wgsl"),
    params: ElementwiseParams::FIELDS,
};

impl Graph {
    /// factor · act'(x) · dy.
    pub fn act_grad(&mut self, x: Value, dy: Value, act: Act, factor: f32) -> Value {
        self.push(ActGrad { act, factor }, vec![x, dy])
    }

    /// What a gated linear unit of x (…,2F) passes back for dy (…,F): (…,2F).
    pub fn glu_grad(&mut self, x: Value, dy: Value, act: Act) -> Value {
        self.push(GluGrad { act }, vec![x, dy])
    }
}

impl OpDef for ActGrad {
    fn name(&self) -> &'static str {
        "act_grad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        if inputs[0].shape != inputs[1].shape {
            return Err(format!("x has shape {}, dy has {}", inputs[0].shape, inputs[1].shape));
        }
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let pairs = f32s(inputs[0]).iter().zip(f32s(inputs[1]));
        HostTensor::f32(out.shape, pairs.map(|(&x, dy)| self.factor * self.act.slope(x) * dy).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.output().shape.elements();
        let variant = variant(cx, self.act);
        let params = ElementwiseParams { count: to_u32("elements", count)?, period: 1, factor: self.factor };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&ACT_GRAD, variant, params, binds, count.div_ceil(LANES))
    }
}

fn variant(cx: &LowerCx, act: Act) -> Variant {
    Variant::new()
        .with_type("X", cx.input(0).dtype)
        .with_type("DY", cx.input(1).dtype)
        .with_type("Y", cx.output().dtype)
        .with_u32("ACT", act.code())
        .with_u32("WG", LANES)
}

impl OpDef for GluGrad {
    fn name(&self) -> &'static str {
        "glu_grad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [x, dy] = [inputs[0].shape, inputs[1].shape];
        if dy.with_width(2 * dy.width()) != x {
            return Err(format!("x has shape {x}, dy has {dy}"));
        }
        Ok(TensorDesc::f32(x))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let f = out.shape.width() / 2;
        let mut y = Vec::with_capacity(out.shape.elements());
        for (x, dy) in f32s(inputs[0]).chunks(2 * f).zip(f32s(inputs[1]).chunks(f)) {
            y.extend((0..f).map(|i| self.act.slope(x[i]) * x[f + i] * dy[i]));
            y.extend((0..f).map(|i| self.act.apply(x[i]) * dy[i]));
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        3 * out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.input(1).shape.elements();
        let params = ElementwiseParams {
            count: to_u32("elements", 2 * count)? / 2,
            period: cx.input(1).shape.width() as u32,
            factor: 1.0,
        };
        let (variant, binds) = (variant(cx, self.act), vec![cx.operand(0), cx.operand(1), cx.result()]);
        cx.dispatch(&GLU_GRAD, variant, params, binds, count.div_ceil(LANES))
    }
}
