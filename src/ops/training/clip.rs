//! The norm of all gradients together, and what they are multiplied by so that it is not too large.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, dims, f32s};
use crate::ops::lower::{LowerCx, to_u32};
use crate::ops::norm::row_lanes;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Sum of the squares of a tensor. Operands: x of any shape; sums (M), a state stored as declared, of which
/// one element is written. The result (1) marks the op in its graph and holds nothing: it is no operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SquareSum {
    /// Which element of the sums.
    pub index: usize,
}

/// What gradients are multiplied by, as `torch.nn.utils.clip_grad_norm_` does. Operand: sums (M) of the squares
/// of all of them. Result (3): the factor; the norm before; 1, or 0 if the norm is not finite (the factor then
/// is 0, too).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipFactor {
    /// The norm that is not exceeded; 0 leaves gradients as they are.
    pub max_norm: f32,
}

params! {
    /// Parameters of the sum of squares.
    struct SquareSumParams { count: u32, tile: u32, groups: u32, at: u32 }
}

params! {
    /// Parameters of the clipping factor.
    struct ClipFactorParams { count: u32, max_norm: f32 }
}

static SQUARE_SUM: Kernel = Kernel {
    name: "square_sum",
    source: shader!("lib/row.wgsl", "square_sum.wgsl"),
    params: SquareSumParams::FIELDS,
};
static CLIP_FACTOR: Kernel = Kernel {
    name: "clip_factor",
    source: shader!("lib/row.wgsl", "lib/finite.wgsl", "clip_factor.wgsl"),
    params: ClipFactorParams::FIELDS,
};

/// Elements that one workgroup sums up.
const TILE: usize = 8192;

impl Graph {
    /// Writes the sum of the squares of x to element `index` of the state `sums` (M).
    pub fn square_sum(&mut self, x: Value, sums: Value, index: usize) -> Value {
        self.push(SquareSum { index }, vec![x, sums])
    }

    /// The factor that clips gradients to a norm of `max_norm`, 0 for none. sums: (M); returns (3), see
    /// [`ClipFactor`].
    pub fn clip_factor(&mut self, sums: Value, max_norm: f32) -> Value {
        self.push(ClipFactor { max_norm }, vec![sums])
    }
}

impl OpDef for SquareSum {
    fn name(&self) -> &'static str {
        "square_sum"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [count] = dims("sums", &inputs[1])?;
        if self.index >= count || inputs.iter().any(|d| d.dtype != DType::F32) {
            return Err(format!("{} has no element {} for the sum of {}", inputs[1], self.index, inputs[0]));
        }
        Ok(TensorDesc::f32([1]))
    }

    fn writes(&self) -> Vec<usize> {
        vec![1]
    }

    fn reference(&self, _inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::zeros(*out)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let mut sums = f32s(inputs[1]).to_vec();
        // In f32 one loop over millions of elements would lose most of them.
        let squares = f32s(inputs[0]).iter().map(|&x| f64::from(x) * f64::from(x));
        sums[self.index] = squares.sum::<f64>() as f32;
        vec![HostTensor::f32(inputs[1].shape(), sums)]
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        2 * inputs[0].shape.elements() as u64
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        Some(inputs[0].bytes() as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.input(0).shape.elements();
        let groups = count.div_ceil(TILE);
        let variant = |cx: &LowerCx, dtype: DType, squared: bool, width: usize| {
            let lanes = row_lanes(cx, width);
            Variant::new().with_type("X", dtype).with_bool("SQUARED", squared).with_u32("WG", lanes)
        };
        let at = to_u32("sums", self.index)?;
        let params = SquareSumParams { count: to_u32("elements", count)?, tile: TILE as u32, groups: 1, at };
        let squares = variant(cx, cx.input(0).dtype, true, count.min(TILE));
        let (x, sums) = (cx.operand(0), cx.operand(1));
        if groups == 1 {
            return cx.dispatch(&SQUARE_SUM, squares, params, vec![x, sums], 1);
        }
        let parts = cx.scratch(groups)?;
        let each = SquareSumParams { groups: groups as u32, at: 0, ..params };
        cx.dispatch(&SQUARE_SUM, squares, each, vec![x, parts], groups)?;
        let all = SquareSumParams { count: groups as u32, tile: groups as u32, ..params };
        cx.dispatch(&SQUARE_SUM, variant(cx, DType::F32, false, groups), all, vec![parts, sums], 1)
    }
}

impl OpDef for ClipFactor {
    fn name(&self) -> &'static str {
        "clip_factor"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        dims::<1>("sums", &inputs[0])?;
        if self.max_norm.is_nan() || self.max_norm < 0.0 {
            return Err(format!("a norm of at most {}", self.max_norm));
        }
        Ok(TensorDesc::f32([3]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let norm = f32s(inputs[0]).iter().sum::<f32>().sqrt();
        let factor = if self.max_norm == 0.0 { 1.0 } else { (self.max_norm / (norm + 1e-6)).min(1.0) };
        let [factor, fine] = if norm.is_finite() { [factor, 1.0] } else { [0.0, 0.0] };
        HostTensor::f32(out.shape, vec![factor, norm, fine])
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn wide_operands(&self) -> &[usize] {
        &[0]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.input(0).shape.elements();
        let variant = Variant::new().with_u32("WG", row_lanes(cx, count));
        let params = ClipFactorParams { count: to_u32("sums", count)?, max_norm: self.max_norm };
        cx.dispatch(&CLIP_FACTOR, variant, params, vec![cx.operand(0), cx.result()], 1)
    }
}
