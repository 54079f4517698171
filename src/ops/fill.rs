//! One number everywhere: where a backward half begins.

use super::def::{OpDef, arity};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// A tensor of one number. No operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// Shape of the result.
    pub shape: Shape,
    /// The number.
    pub value: f32,
}

params! {
    /// Parameters of the fill kernel.
    struct FillParams { count: u32, value: f32 }
}

static FILL: Kernel = Kernel { name: "fill", source: shader!("fill.wgsl"), params: FillParams::FIELDS };

impl Graph {
    /// A tensor of one number.
    pub fn fill(&mut self, shape: impl Into<Shape>, value: f32) -> Value {
        self.push(Fill { shape: shape.into(), value }, vec![])
    }
}

impl OpDef for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 0)?;
        Ok(TensorDesc::f32(self.shape))
    }

    fn reference(&self, _inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::f32(out.shape, vec![self.value; out.shape.elements()])
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.output().shape.elements();
        let variant = Variant::new().with_type("Y", cx.output().dtype).with_u32("WG", LANES);
        let params = FillParams { count: to_u32("elements", count)?, value: self.value };
        cx.dispatch(&FILL, variant, params, vec![cx.result()], count.div_ceil(LANES))
    }
}
