//! Linear layers: y = act(x·Wᵀ + bias) · scale + residual, with every part but the product optional and
//! usually put there by `plan::fuse`. The kernels are in [`variants`].

use std::ops::Range;

use rayon::prelude::*;

use super::pack;
use super::problem::{MatMulParams, Needs, Problem};
use super::step::{self, Along};
use super::variants;
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::Variant;
use crate::ops::def::{OpDef, arity, dims, f32s, is_suffix};
use crate::ops::elementwise::Act;
use crate::ops::lower::{LowerCx, Operand, to_u32};
use crate::ops::target::Target;
use crate::ops::weights::WeightLayout;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// A linear layer. Operands: x (…, K), weight (N, K), which may be computed, then those of bias (N), scale (N) and residual that are
/// set, in that order. Result (…, N), or (…, N/2) if `gated`, or head-split if `heads` is set.
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
    /// Rows of the weight are gate and value by turns; the result is act(gate) · value. Excludes all
    /// but `act`.
    pub gated: bool,
}

/// Where each optional operand is.
#[derive(Clone, Copy, Default)]
struct Operands {
    bias: Option<usize>,
    scale: Option<usize>,
    residual: Option<usize>,
    count: usize,
}

/// Head-split result of a joined projection: (B, T, parts·H·D) written as (parts·B, H, T, D).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSplit {
    /// How many projections are joined (3 for Q, K, V).
    pub parts: usize,
    /// Heads H of each.
    pub heads: usize,
}

impl Graph {
    /// Linear layer. x: (…, K), weight: (N, K), bias: (N); returns (…, N).
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Value {
        let y = self.push(MatMul::default(), vec![x, weight]);
        bias.map_or(y, |bias| self.add(y, bias))
    }
}

impl MatMul {
    fn operands(&self) -> Operands {
        let mut next = 2;
        let mut take = |on: bool| {
            on.then(|| {
                next += 1;
                next - 1
            })
        };
        let mut at = Operands {
            bias: take(self.bias),
            scale: take(self.scale),
            residual: take(self.residual),
            count: 0,
        };
        at.count = next;
        at
    }

    /// Number of operands.
    pub(super) fn count(&self) -> usize {
        self.operands().count
    }

    /// The result by plain loops.
    pub(super) fn product(&self, inputs: &[&HostTensor]) -> HostTensor {
        let at = self.operands();
        let k = inputs[0].shape().width();
        let n = inputs[1].shape().dims()[0];
        let (x, w) = (f32s(inputs[0]), f32s(inputs[1]));
        let get = |i: Option<usize>| i.map(|i| f32s(inputs[i]));
        let (bias, scale, residual) = (get(at.bias), get(at.scale), get(at.residual));
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
                // Of a gated pair only the gate is bent.
                if !self.gated || col.is_multiple_of(2) {
                    sum = self.act.map_or(sum, |act| act.apply(sum));
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
        if self.gated {
            let y: Vec<f32> = y.chunks(2).map(|pair| pair[0] * pair[1]).collect();
            return HostTensor::f32(inputs[0].shape().with_width(n / 2), y);
        }
        let Some(HeadSplit { parts, heads }) = self.heads else {
            return HostTensor::f32(inputs[0].shape().with_width(n), y);
        };
        let [b, t, _]: [usize; 3] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let d = n / (parts * heads);
        let mut split = vec![0.0; y.len()];
        for (row, y) in y.chunks(n).enumerate() {
            for (col, &y) in y.iter().enumerate() {
                let (part, h, i) = (col / (heads * d), col / d % heads, col % d);
                split[(((part * b + row / t) * heads + h) * t + row % t) * d + i] = y;
            }
        }
        HostTensor::f32([parts * b, heads, t, d], split)
    }

    /// The launches of the layer, with what rides along in a decode step.
    pub(super) fn launch(&self, cx: &mut LowerCx, along: Along) -> Result<()> {
        let (x, w) = (cx.input(0), cx.input(1));
        let (rows, inner, cols) = (x.shape.rows(), x.shape.width(), w.shape.dims()[0]);
        let (weight, w_type) = if cx.is_weight(1) {
            let parts = cx.parts(1).into_iter().enumerate();
            (parts.map(|(part, range)| (range, cx.part(1, part))).collect(), w.dtype)
        } else {
            let packed = pack::as_weight(cx, 1, [cols, inner], false, inner)?;
            (std::iter::once((0..cols, packed)).collect(), DType::F32)
        };
        let sides = Sides { x: cx.operand(0), x_type: x.dtype, rows, inner, weight, w_type, cols };
        self.push(cx, sides, along)
    }

    /// The launches for what is multiplied.
    pub(super) fn push(&self, cx: &mut LowerCx, sides: Sides, along: Along) -> Result<()> {
        let Sides { x, x_type, rows, inner, weight, w_type, cols: total_cols } = sides;
        let at = self.operands();
        let in_place = at.residual.is_some() && cx.in_place();
        let residual = at.residual.filter(|_| !in_place);
        let split = self.heads.unwrap_or(HeadSplit { parts: 1, heads: 1 });
        let tokens = if self.heads.is_some() { cx.input(0).shape.dims()[1] } else { 1 };
        let residual_desc = residual.map(|i| cx.input(i));
        let head_width = total_cols / (split.parts * split.heads);
        let variant = Variant::new()
            .with_type("W", w_type)
            .with_type("R", residual_desc.map_or(x_type, |d| d.dtype))
            .with_type("Y", cx.output().dtype)
            .with_u32("ACT", self.act.map_or(0, Act::code))
            .with_bool("BIAS", self.bias)
            .with_bool("SCALE", self.scale)
            .with_bool("RESIDUAL", self.residual)
            .with_bool("IN_PLACE", in_place)
            .with_bool("HEADS", self.heads.is_some())
            .with_u32("H", split.heads)
            .with_u32("D", if self.heads.is_some() { head_width } else { 4 })
            .with_bool("GATED", self.gated)
            .with_bool("SLABS", self.weight_layout(1, cx.target) == WeightLayout::Slabs);
        to_u32("matmul operand", rows * inner)?;
        to_u32("matmul result", cx.output().shape.elements())?;
        let y = cx.output().dtype;
        let fours = total_cols.is_multiple_of(4) && head_width.is_multiple_of(4);
        let needs = Needs { few: along.any(), gated: self.gated, scale: self.scale };
        let problem = Problem { rows, inner, cols: total_cols, x: x_type, w: w_type, y, fours, needs };
        let chosen = variants::by_name(cx.choose("matmul", variants::candidates(cx.target, &problem)));
        let variant = chosen.specialise(variant, cx.target, &problem);
        let residual_rows = residual_desc.map_or(1, |d| (d.shape.elements() / total_cols).max(1) as u32);
        let params = MatMulParams {
            rows: rows as u32,
            inner: inner as u32,
            cols: 0,
            first_col: 0,
            total_cols: total_cols as u32,
            stride4: 0,
            residual_rows,
            tokens: tokens as u32,
            batch: (rows / tokens) as u32,
            groups: 0,
        };
        if let Some(pair) = chosen.step {
            let launch = step::Launch { pair, variant, params, x, weight, bias: at.bias, residual, along };
            return launch.push(cx, |cols| chosen.groups(rows, cols));
        }
        let kernel = chosen.kernel(cx.target);
        for (range, part) in weight {
            let cols = range.len();
            to_u32("matmul weight", inner * cols.next_multiple_of(WeightLayout::SLAB))?;
            let groups = chosen.groups(rows, cols);
            let params = MatMulParams {
                cols: cols as u32,
                first_col: range.start as u32,
                stride4: cols.div_ceil(4) as u32,
                groups: to_u32("matmul workgroups", groups)?,
                ..params
            };
            let or_x = |i: Option<usize>| i.map_or(x, |i| cx.operand(i));
            let binds = vec![x, part, or_x(at.bias), or_x(at.scale), or_x(residual), cx.result()];
            cx.dispatch(kernel, variant.clone(), params, binds, groups)?;
        }
        Ok(())
    }
}

/// What is multiplied, as the kernels read it: rows of x, and the weight, by ranges of its outputs.
pub(super) struct Sides {
    pub(super) x: Operand,
    pub(super) x_type: DType,
    pub(super) rows: usize,
    /// K.
    pub(super) inner: usize,
    pub(super) weight: Vec<(Range<usize>, Operand)>,
    pub(super) w_type: DType,
    /// N.
    pub(super) cols: usize,
}

impl OpDef for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let at = self.operands();
        arity(inputs, at.count)?;
        let [n, k] = dims("weight", &inputs[1])?;
        if inputs[0].shape.width() != k {
            return Err(format!("x has shape {}, the weight needs width {k}", inputs[0].shape));
        }
        if self.gated && (self.bias || self.scale || self.residual || self.heads.is_some()) {
            return Err("a gated layer has neither bias, scale, residual nor heads".to_owned());
        }
        for i in [at.bias, at.scale].into_iter().flatten() {
            if inputs[i].shape.elements() != n {
                return Err(format!("bias or scale has shape {}, expected [{n}]", inputs[i].shape));
            }
        }
        let plain = inputs[0].shape.with_width(n);
        if let Some(i) = at.residual
            && !is_suffix(&inputs[i].shape, &plain)
        {
            return Err(format!("residual has shape {}, the result {plain}", inputs[i].shape));
        }
        if self.gated {
            return if n.is_multiple_of(2) {
                Ok(TensorDesc::f32(plain.with_width(n / 2)))
            } else {
                Err(format!("{n} rows are no pairs"))
            };
        }
        let Some(HeadSplit { parts, heads }) = self.heads else {
            return Ok(TensorDesc::f32(plain));
        };
        let [b, t, _] = dims("x", &inputs[0])?;
        if parts * heads == 0 || n % (parts * heads) != 0 {
            return Err(format!("{n} columns do not split into {parts} x {heads} heads"));
        }
        let d = n / (parts * heads);
        Ok(TensorDesc::f32([parts * b, heads, t, d]))
    }

    fn reference(&self, inputs: &[&HostTensor], _out: &TensorDesc) -> HostTensor {
        self.product(inputs)
    }

    fn flops(&self, inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        let pairs = if self.gated { 2 } else { 1 };
        2 * pairs * out.shape.elements() as u64 * inputs[0].shape.width() as u64
    }

    fn weight_layout(&self, i: usize, target: &Target) -> WeightLayout {
        match i {
            1 if target.cpu => WeightLayout::Slabs,
            1 => WeightLayout::Columns,
            _ => WeightLayout::Plain,
        }
    }

    fn packs(&self, i: usize) -> bool {
        i == 1
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        if *self != Self::default() {
            return None;
        }
        let ([x, w], dy) = ([at.inputs[0], at.inputs[1]], at.dy);
        let dx = at.of(0, |g| g.product([dy, w], [false, false]));
        Some(vec![dx, at.of(1, |g| g.product([dy, x], [true, false]))])
    }

    fn in_place(&self) -> Option<usize> {
        self.operands().residual
    }

    fn narrows(&self) -> bool {
        !self.residual
    }

    fn row_operands(&self, _inputs: &[TensorDesc]) -> Vec<usize> {
        if *self == Self::default() { vec![0] } else { vec![] }
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        self.launch(cx, Along::default())
    }
}
