//! What is added up over steps: gradients of the parts of a batch, and the moving average of a parameter.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::elementwise::LANES;
use crate::ops::lower::{LowerCx, to_u32};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// `state = keep·state + add·value`. Operands: a state of any shape, stored as declared; a value of as many elements;
/// the shares keep and add (2). Where keep is 0, what was there is not read, so that a state that never was
/// written, or holds a NaN, begins anew. The result (1) marks the op in its graph and holds nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blend;

params! {
    /// Parameters of the kernel.
    struct BlendParams { count: u32 }
}

static BLEND: Kernel = Kernel { name: "blend", source: shader!("blend.wgsl"), params: BlendParams::FIELDS };

impl Graph {
    /// Blends a value into a state by shares (2).
    pub fn blend(&mut self, state: Value, value: Value, shares: Value) -> Value {
        self.push(Blend, vec![state, value, shares])
    }
}

impl OpDef for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        if inputs.iter().any(|d| d.dtype != DType::F32) {
            return Err("an operand is not f32".to_owned());
        }
        let [state, value, shares] = [0, 1, 2].map(|i| inputs[i].shape);
        if state.elements() != value.elements() {
            return Err(format!("state has shape {state}, value has {value}"));
        }
        if shares.dims() != [2] {
            return Err(format!("shares have shape {shares}, expected [2]"));
        }
        Ok(TensorDesc::f32([1]))
    }

    fn writes(&self) -> Vec<usize> {
        vec![0]
    }

    fn reference(&self, _inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::zeros(*out)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let &[keep, add] = f32s(inputs[2]) else { return vec![inputs[0].clone()] };
        let kept = |old: f32| if keep == 0.0 { 0.0 } else { keep * old };
        let blended = f32s(inputs[0]).iter().zip(f32s(inputs[1])).map(|(old, new)| kept(*old) + add * new);
        vec![HostTensor::f32(inputs[0].shape(), blended.collect())]
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        3 * inputs[0].shape.elements() as u64
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        Some((2 * inputs[0].bytes() + inputs[1].bytes()) as u64)
    }

    fn wide_operands(&self) -> &[usize] {
        &[2]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.input(0).shape.elements();
        let params = BlendParams { count: to_u32("state", count)? };
        let variant = Variant::new().with_type("V", cx.input(1).dtype).with_u32("WG", LANES);
        let binds = [1, 2, 0].map(|i| cx.operand(i)).to_vec();
        cx.dispatch(&BLEND, variant, params, binds, count.div_ceil(LANES))
    }
}
