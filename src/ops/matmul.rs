//! Linear layers: y = act(x·Wᵀ + bias) · scale + residual, with every part after the product
//! optional and usually put there by `plan::fuse`. The kernels are in [`ways`].

mod coop;
pub(super) mod ways;

use rayon::prelude::*;

use super::lower::{LowerCx, Target, WeightLayout, to_u32};
use super::{Act, Op, OpDef, arity, f32s};
use crate::error::Result;
use crate::graph::{Graph, Value, Weight};
use crate::kernel::{Variant, params};
use crate::tensor::{HostTensor, Shape, TensorDesc};
use ways::Problem;
pub(crate) use ways::{conv_names, kernels, names};

/// A linear layer. Operands: x (…, K), weight (N, K), then those of bias (N), scale (N) and
/// residual that are set, in that order. Result (…, N), or head-split if `heads` is set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MatMul {
    /// Adds a bias of shape (N).
    pub bias: bool,
    /// Applies an activation after the bias.
    pub act: Option<Act>,
    /// Multiplies by a vector of shape (N): layer scale.
    pub scale: bool,
    /// Adds a tensor whose shape is a suffix of the result's, broadcast over outer dimensions.
    pub residual: bool,
    /// Writes the result head by head instead of row by row.
    pub heads: Option<HeadSplit>,
}

/// Head-split result of a joined projection: (B, T, ways·H·D) written as (ways·B, H, T, D).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSplit {
    /// How many projections are joined (3 for Q, K, V).
    pub ways: usize,
    /// Heads H of each.
    pub heads: usize,
}

params! {
    /// Parameters of every matmul kernel.
    struct MatMulParams {
        rows: u32, inner: u32, cols: u32, first_col: u32, total_cols: u32, stride4: u32,
        residual_rows: u32, tokens: u32, batch: u32, heads: u32, head_width: u32, groups: u32,
    }
}

impl Graph {
    /// Linear layer with the weight in checkpoint order (out, K). x: (…, K); returns (…, out).
    pub fn linear(&mut self, x: Value, w: Weight, bias: Option<Weight>, out: usize) -> Value {
        let inner = self.shape(x).width();
        let w = self.weight(w, [out, inner]);
        let y = self.push(Op::MatMul(MatMul::default()), vec![x, w]);
        match bias {
            Some(b) => {
                let b = self.weight(b, [out]);
                self.add(y, b)
            }
            None => y,
        }
    }
}

impl MatMul {
    /// Index of each optional operand: (bias, scale, residual).
    fn optional(&self) -> (Option<usize>, Option<usize>, Option<usize>) {
        let mut next = 2;
        let mut take = |on: bool| {
            on.then(|| {
                next += 1;
                next - 1
            })
        };
        (take(self.bias), take(self.scale), take(self.residual))
    }
}

impl OpDef for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let (bias, scale, residual) = self.optional();
        let count = 2 + [self.bias, self.scale, self.residual].iter().filter(|&&on| on).count();
        arity(inputs, count)?;
        let [n, k] = super::dims("weight", &inputs[1])?;
        if inputs[0].shape.width() != k {
            return Err(format!("x has shape {}, the weight needs width {k}", inputs[0].shape));
        }
        for i in [bias, scale].into_iter().flatten() {
            if inputs[i].shape.elements() != n {
                return Err(format!("bias or scale has shape {}, expected [{n}]", inputs[i].shape));
            }
        }
        let plain = inputs[0].shape.with_width(n);
        if let Some(i) = residual
            && !is_suffix(&inputs[i].shape, &plain)
        {
            return Err(format!("residual has shape {}, the result {plain}", inputs[i].shape));
        }
        let Some(HeadSplit { ways, heads }) = self.heads else {
            return Ok(TensorDesc::f32(plain));
        };
        let [b, t, _] = super::dims("x", &inputs[0])?;
        if ways * heads == 0 || n % (ways * heads) != 0 {
            return Err(format!("{n} columns do not split into {ways} x {heads} heads"));
        }
        Ok(TensorDesc::f32([ways * b, heads, t, n / (ways * heads)]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let (bias, scale, residual) = self.optional();
        let (x, w) = (f32s(inputs[0]), f32s(inputs[1]));
        let k = inputs[0].shape().width();
        let n = inputs[1].shape().dims()[0];
        let get = |i: Option<usize>| i.map(|i| f32s(inputs[i]));
        let (bias, scale, residual) = (get(bias), get(scale), get(residual));
        let mut y = vec![0.0; x.len() / k * n];
        y.par_chunks_mut(n).enumerate().for_each(|(row, y)| {
            for (col, y) in y.iter_mut().enumerate() {
                let mut sum = 0.0f32;
                for i in 0..k {
                    sum += x[row * k + i] * w[col * k + i];
                }
                if let Some(bias) = bias {
                    sum += bias[col];
                }
                if let Some(act) = self.act {
                    sum = act.apply(sum);
                }
                if let Some(scale) = scale {
                    sum *= scale[col];
                }
                if let Some(residual) = residual {
                    sum += residual[(row * n + col) % residual.len()];
                }
                *y = sum;
            }
        });
        let Some(HeadSplit { ways, heads }) = self.heads else {
            return HostTensor::f32(out.shape, y);
        };
        let [b, t, _]: [usize; 3] = super::dims("x", &inputs[0].desc()).expect("checked by infer");
        let d = n / (ways * heads);
        let mut split = vec![0.0; y.len()];
        for (row, y) in y.chunks(n).enumerate() {
            for (col, &y) in y.iter().enumerate() {
                let (way, h, i) = (col / (heads * d), col / d % heads, col % d);
                split[(((way * b + row / t) * heads + h) * t + row % t) * d + i] = y;
            }
        }
        HostTensor::f32(out.shape, split)
    }

    fn flops(&self, inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * out.shape.elements() as u64 * inputs[0].shape.width() as u64
    }

    fn weight_layout(&self, i: usize, target: &Target) -> WeightLayout {
        match i {
            1 if target.cpu => WeightLayout::Slabs,
            1 => WeightLayout::Columns,
            _ => WeightLayout::Plain,
        }
    }

    fn in_place(&self) -> Option<usize> {
        self.optional().2
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (bias, scale, residual) = self.optional();
        let in_place = residual.is_some() && cx.in_place();
        let residual = residual.filter(|_| !in_place);
        let x = cx.input(0);
        let (rows, inner) = (x.shape.rows(), x.shape.width());
        let total_cols = cx.input(1).shape.dims()[0];
        let split = self.heads.unwrap_or(HeadSplit { ways: 1, heads: 1 });
        let tokens = if self.heads.is_some() { x.shape.dims()[1] } else { 1 };
        let residual_desc = residual.map(|i| cx.input(i));
        let variant = Variant::new()
            .with_type("W", cx.input(1).dtype)
            .with_type("R", residual_desc.map_or(x.dtype, |d| d.dtype))
            .with_type("Y", cx.output().dtype)
            .with_u32("ACT", self.act.map_or(0, Act::code))
            .with_bool("BIAS", self.bias)
            .with_bool("SCALE", self.scale)
            .with_bool("RESIDUAL", self.residual)
            .with_bool("IN_PLACE", in_place)
            .with_bool("HEADS", self.heads.is_some())
            .with_bool("SLABS", self.weight_layout(1, cx.target) == WeightLayout::Slabs);
        to_u32("matmul operand", x.shape.elements())?;
        to_u32("matmul result", cx.output().shape.elements())?;
        let (w, y) = (cx.input(1).dtype, cx.output().dtype);
        let head_width = total_cols / (split.ways * split.heads);
        let fours = total_cols.is_multiple_of(4) && head_width.is_multiple_of(4);
        let problem = Problem { rows, inner, cols: total_cols, x: x.dtype, w, y, fours };
        let way = ways::by_name(cx.choose("matmul", ways::candidates(cx.target, &problem)));
        let (kernel, variant) = (way.kernel(cx.target), way.specialise(variant, cx.target, x.dtype, inner));
        for (part, range) in cx.parts(1).into_iter().enumerate() {
            let cols = range.len();
            let quads = cols.div_ceil(4);
            to_u32("matmul weight", inner * cols.next_multiple_of(WeightLayout::SLAB))?;
            let groups = way.groups(rows, cols);
            let params = MatMulParams {
                rows: rows as u32,
                inner: inner as u32,
                cols: cols as u32,
                first_col: range.start as u32,
                total_cols: total_cols as u32,
                stride4: quads as u32,
                residual_rows: residual_desc.map_or(1, |d| (d.shape.elements() / total_cols).max(1) as u32),
                tokens: tokens as u32,
                batch: (rows / tokens) as u32,
                heads: split.heads as u32,
                head_width: head_width as u32,
                groups: to_u32("matmul workgroups", groups)?,
            };
            let or_x = |i: Option<usize>, cx: &LowerCx| cx.operand(i.unwrap_or(0));
            let binds = vec![
                cx.operand(0),
                cx.part(1, part),
                or_x(bias, cx),
                or_x(scale, cx),
                or_x(residual, cx),
                cx.result(),
            ];
            cx.dispatch(kernel, variant.clone(), params, binds, groups)?;
        }
        Ok(())
    }
}

/// True if `small`'s dimensions, leading ones ignored, are the last dimensions of `large`.
pub(super) fn is_suffix(small: &Shape, large: &Shape) -> bool {
    let dims = small.dims();
    let dims = &dims[dims.iter().take_while(|&&d| d == 1).count()..];
    large.dims().ends_with(dims)
}
