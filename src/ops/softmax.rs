//! Stand-alone softmax over the innermost dimension (heads, tests). Attention has its own.

use super::def::{OpDef, arity, f32s};
use super::lower::{LowerCx, to_u32};
use super::norm::row_lanes;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, TensorDesc};

/// Softmax of every row. Operand: x (…, C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax;

params! {
    /// Parameters of the softmax kernel.
    struct SoftmaxParams { rows: u32, width: u32 }
}

static SOFTMAX: Kernel = Kernel {
    name: "softmax",
    source: shader!("lib/row.wgsl", "softmax.wgsl"),
    params: SoftmaxParams::FIELDS,
};

impl Graph {
    /// Softmax over the innermost dimension.
    pub fn softmax(&mut self, x: Value) -> Value {
        self.push(Softmax, vec![x])
    }
}

/// Softmax of one row in place, by the row's maximum (so that nothing overflows).
pub(super) fn softmax_row(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - max).exp();
        sum += *x;
    }
    for x in row.iter_mut() {
        *x /= sum;
    }
}

impl OpDef for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let mut y = f32s(inputs[0]).to_vec();
        y.chunks_mut(out.shape.width()).for_each(softmax_row);
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        5 * out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let shape = cx.output().shape;
        to_u32("softmax operand", shape.elements())?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("WG", row_lanes(cx, shape.width()));
        let params = SoftmaxParams { rows: to_u32("rows", shape.rows())?, width: shape.width() as u32 };
        cx.dispatch(&SOFTMAX, variant, params, vec![cx.operand(0), cx.result()], shape.rows())
    }
}
