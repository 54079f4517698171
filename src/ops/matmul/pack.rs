//! Matrices in another order: turned, and as the kernels of linear layers read weights. Weights of a
//! checkpoint are brought into that order once, on the host; what is computed, by a launch of its own.

use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, dims, f32s};
use crate::ops::lower::{LowerCx, Operand, to_u32};
use crate::ops::weights::WeightLayout;
use crate::tensor::{DType, HostTensor, TensorDesc};

params! {
    /// Parameters of the pack kernel.
    struct PackParams { inner: u32, depth: u32, stride: u32, cols: u32, across: u32, groups: u32 }
}

static PACK: Kernel = Kernel { name: "pack", source: shader!("pack.wgsl"), params: PackParams::FIELDS };

/// Rows and columns of the square that one workgroup makes.
const SIDE: usize = 32;

/// A matrix of `inner` rows of `stride` columns, zeros past `depth` and `cols`.
struct Packed {
    inner: usize,
    depth: usize,
    stride: usize,
    cols: usize,
    /// The source is (depth, cols), else (cols, depth).
    turned: bool,
    slabs: bool,
}

impl Packed {
    fn push(&self, cx: &mut LowerCx, operand: usize, result: Operand, y: DType) -> Result<()> {
        let across = self.stride.div_ceil(SIDE);
        let groups = self.inner.div_ceil(SIDE) * across;
        to_u32("matrix", self.inner.max(self.depth) * self.stride.max(self.cols))?;
        let params = PackParams {
            inner: self.inner as u32,
            depth: self.depth as u32,
            stride: self.stride as u32,
            cols: self.cols as u32,
            across: across as u32,
            groups: groups as u32,
        };
        let variant = Variant::new()
            .with_type("X", cx.input(operand).dtype)
            .with_type("Y", y)
            .with_bool("TURNED", self.turned)
            .with_bool("SLABS", self.slabs)
            .with_u32("WG", if cx.target.cpu { 8 } else { 256 });
        let binds = vec![cx.operand(operand), result];
        cx.dispatch(&PACK, variant, params, binds, groups)?;
        cx.moves((cx.input(operand).bytes() + self.inner * self.stride * y.bytes()) as u64);
        Ok(())
    }
}

/// The computed matrix `operand`, (cols, depth), or (depth, cols) if `turned`, as linear layers read a weight of
/// `inner` rows, of which those past `depth` are zeros. What lies right already is bound as it is.
pub(super) fn as_weight(
    cx: &mut LowerCx,
    operand: usize,
    [cols, depth]: [usize; 2],
    turned: bool,
    inner: usize,
) -> Result<Operand> {
    let slabs = cx.target.cpu;
    let step = if slabs { WeightLayout::SLAB } else { 4 };
    let stride = cols.next_multiple_of(step);
    let wide = cx.input(operand).dtype == DType::F32;
    if turned && !slabs && stride == cols && inner == depth && wide {
        return Ok(cx.operand(operand));
    }
    let packed = cx.scratch(inner * stride)?;
    Packed { inner, depth, stride, cols, turned, slabs }.push(cx, operand, packed, DType::F32)?;
    Ok(packed)
}

/// The computed matrix `operand`, (K,M), turned: (M, stride), zeros past K.
pub(super) fn turned(cx: &mut LowerCx, operand: usize, [k, m]: [usize; 2], stride: usize) -> Result<Operand> {
    let packed = cx.scratch(m * stride)?;
    let shape = Packed { inner: m, depth: m, stride, cols: k, turned: false, slabs: false };
    shape.push(cx, operand, packed, DType::F32)?;
    Ok(packed)
}

/// (R,C) to (C,R).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transpose;

impl Graph {
    /// A matrix turned. x: (R,C); returns (C,R).
    pub fn transpose(&mut self, x: Value) -> Value {
        self.push(Transpose, vec![x])
    }
}

impl OpDef for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [r, c] = dims("x", &inputs[0])?;
        Ok(TensorDesc::f32([c, r]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [c, r]: [usize; 2] = dims("out", out).expect("infer made it");
        let x = f32s(inputs[0]);
        HostTensor::f32(out.shape, (0..r * c).map(|i| x[i % r * c + i / r]).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        Some(vec![Gradient::Whole(at.g.transpose(at.dy))])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [c, r]: [usize; 2] = dims("out", &cx.output()).expect("infer made it");
        let shape = Packed { inner: c, depth: c, stride: r, cols: r, turned: false, slabs: false };
        let (result, dtype) = (cx.result(), cx.output().dtype);
        shape.push(cx, 0, result, dtype)
    }
}
