//! Linear layers: y = act(norm(x)·Wᵀ + bias) · scale + residual, with every part but the product
//! optional and usually put there by `plan::fuse`. The kernels are in [`ways`].

mod coop;
mod step;
pub(super) mod ways;

use rayon::prelude::*;

use super::attention::cache;
use super::lower::{LowerCx, Target, WeightLayout, to_u32};
use super::norm::normalise_rows;
use super::{Act, NormKind, Op, OpDef, arity, f32s, rotary};
use crate::error::Result;
use crate::graph::{Graph, Value, Weight};
use crate::kernel::{Variant, params};
use crate::tensor::{HostTensor, Shape, TensorDesc};
pub(crate) use step::MAX_ROWS as STEP_ROWS;
use step::StepParams;
use ways::{Needs, Problem};
pub(crate) use ways::{conv_names, kernels, names};

/// A linear layer. Operands: x (…, K), weight (N, K), then those of bias (N), scale (N), residual, norm
/// (K) or (2,K), rotary table (P,D), KV cache and step that are set, in that order. Result (…, N), or
/// (…, N/2) if `gated`, or head-split if `heads` is set.
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
    /// but `act` and `norm`.
    pub gated: bool,
    /// Normalises the rows of x first. At most 16 rows; excludes `scale`.
    pub norm: Option<Prologue>,
    /// Enters k and v, of the three projections of `heads`, into a KV cache. At most 16 rows; excludes
    /// `act`, `scale` and `residual`.
    pub cache: Option<CacheWrite>,
}

/// The norm before a product; see [`super::Norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prologue {
    /// Layer or RMS. The operand holds the gain, and below it the bias of a layer norm.
    pub kind: NormKind,
    /// Added to the variance or mean square.
    pub eps: f32,
}

/// How q, k and v go on; see [`super::CachedAttention`] for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheWrite {
    /// Rotates q and k by a table first, where there is no bias; see [`super::Rotary`].
    pub rotary: bool,
}

/// Where each optional operand is.
#[derive(Clone, Copy, Default)]
struct Operands {
    bias: Option<usize>,
    scale: Option<usize>,
    residual: Option<usize>,
    norm: Option<usize>,
    rotary: Option<usize>,
    kv: Option<usize>,
    step: Option<usize>,
    count: usize,
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
        residual_rows: u32, tokens: u32, batch: u32, groups: u32,
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
            norm: take(self.norm.is_some()),
            rotary: take(self.cache.is_some_and(|c| c.rotary)),
            kv: take(self.cache.is_some()),
            step: take(self.cache.is_some()),
            count: 0,
        };
        at.count = next;
        at
    }

    /// What excludes each other, and what only few rows allow.
    fn consistent(&self, rows: usize) -> Result<(), String> {
        let few = self.norm.is_some() || self.cache.is_some();
        let three = self.heads.is_some_and(|h| h.ways == 3);
        if few && rows > STEP_ROWS {
            return Err(format!("norm and cache ride along for {STEP_ROWS} rows, not {rows}"));
        }
        let gated = self.bias || self.scale || self.residual || self.heads.is_some();
        let cache = self.act.is_some() || self.scale || self.residual || !three;
        if self.gated && gated || self.norm.is_some() && self.scale || self.cache.is_some() && cache {
            return Err("parts that exclude each other".to_owned());
        }
        Ok(())
    }

    /// q, k, v and the contents of the cache afterwards, by plain loops, from head-split q, k and v.
    fn entered(&self, qkv: HostTensor, inputs: &[&HostTensor]) -> (HostTensor, Option<HostTensor>) {
        let at = self.operands();
        let (Some(kv), Some(step)) = (at.kv, at.step) else { return (qkv, None) };
        let qkv = match at.rotary {
            Some(table) => rotary::turn(&qkv, inputs[table], inputs[step], 2.0 / 3.0),
            None => qkv,
        };
        let cache = cache::enter(&qkv, inputs[kv], inputs[step]);
        (qkv, Some(cache))
    }

    /// The result before the cache, by plain loops.
    fn product(&self, inputs: &[&HostTensor]) -> HostTensor {
        let at = self.operands();
        let k = inputs[0].shape().width();
        let n = inputs[1].shape().dims()[0];
        let normed = self.norm.zip(at.norm).map(|(norm, i)| {
            let mut x = f32s(inputs[0]).to_vec();
            let (gain, bias) = f32s(inputs[i]).split_at(k);
            normalise_rows(&mut x, norm.kind, norm.eps, gain, bias);
            x
        });
        let (x, w) = (normed.as_deref().unwrap_or(f32s(inputs[0])), f32s(inputs[1]));
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
        let Some(HeadSplit { ways, heads }) = self.heads else {
            return HostTensor::f32(inputs[0].shape().with_width(n), y);
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
        HostTensor::f32([ways * b, heads, t, d], split)
    }
}

impl OpDef for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let at = self.operands();
        arity(inputs, at.count)?;
        let [n, k] = super::dims("weight", &inputs[1])?;
        if inputs[0].shape.width() != k {
            return Err(format!("x has shape {}, the weight needs width {k}", inputs[0].shape));
        }
        self.consistent(inputs[0].shape.rows())?;
        for i in [at.bias, at.scale].into_iter().flatten() {
            if inputs[i].shape.elements() != n {
                return Err(format!("bias or scale has shape {}, expected [{n}]", inputs[i].shape));
            }
        }
        if let (Some(norm), Some(i)) = (self.norm, at.norm) {
            let want = if norm.kind == NormKind::Layer { 2 * k } else { k };
            if inputs[i].shape.elements() != want {
                return Err(format!("norm has shape {}, expected {want} elements", inputs[i].shape));
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
        let Some(HeadSplit { ways, heads }) = self.heads else {
            return Ok(TensorDesc::f32(plain));
        };
        let [b, t, _] = super::dims("x", &inputs[0])?;
        if ways * heads == 0 || n % (ways * heads) != 0 {
            return Err(format!("{n} columns do not split into {ways} x {heads} heads"));
        }
        let d = n / (ways * heads);
        if let (Some(kv), Some(step)) = (at.kv, at.step) {
            cache::check(&inputs[kv], &inputs[step], [b, heads, t, d])?;
            at.rotary.map_or(Ok(()), |table| rotary::check(&inputs[table], d))?;
            if self.bias && at.rotary.is_some() {
                return Err("a bias and a rotary table share a binding".to_owned());
            }
        }
        Ok(TensorDesc::f32([ways * b, heads, t, d]))
    }

    fn writes(&self) -> Vec<usize> {
        self.operands().kv.into_iter().collect()
    }

    fn reference(&self, inputs: &[&HostTensor], _out: &TensorDesc) -> HostTensor {
        self.entered(self.product(inputs), inputs).0
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        if self.cache.is_none() {
            return vec![];
        }
        self.entered(self.product(inputs), inputs).1.into_iter().collect()
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
        let at = self.operands();
        let in_place = at.residual.is_some() && cx.in_place();
        let residual = at.residual.filter(|_| !in_place);
        let x = cx.input(0);
        let (rows, inner) = (x.shape.rows(), x.shape.width());
        let total_cols = cx.input(1).shape.dims()[0];
        let split = self.heads.unwrap_or(HeadSplit { ways: 1, heads: 1 });
        let tokens = if self.heads.is_some() { x.shape.dims()[1] } else { 1 };
        let residual_desc = residual.map(|i| cx.input(i));
        let head_width = total_cols / (split.ways * split.heads);
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
            .with_u32("H", split.heads)
            .with_u32("D", if self.heads.is_some() { head_width } else { 4 })
            .with_bool("GATED", self.gated)
            .with_bool("SLABS", self.weight_layout(1, cx.target) == WeightLayout::Slabs);
        to_u32("matmul operand", x.shape.elements())?;
        to_u32("matmul result", cx.output().shape.elements())?;
        let (w, y) = (cx.input(1).dtype, cx.output().dtype);
        let fours = total_cols.is_multiple_of(4) && head_width.is_multiple_of(4);
        let needs =
            Needs { few: self.norm.is_some() || self.cache.is_some(), gated: self.gated, scale: self.scale };
        let problem = Problem { rows, inner, cols: total_cols, x: x.dtype, w, y, fours, needs };
        let way = ways::by_name(cx.choose("matmul", ways::candidates(cx.target, &problem)));
        let variant = way.specialise(variant, cx.target, &problem);
        let residual_rows = residual_desc.map_or(1, |d| (d.shape.elements() / total_cols).max(1) as u32);
        if let Some(pair) = way.step {
            let params = StepParams {
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
                positions: 0,
                eps: 0.0,
            };
            return self.lower_step(cx, pair, variant, |cols| way.groups(rows, cols), params);
        }
        let kernel = way.kernel(cx.target);
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
                residual_rows,
                tokens: tokens as u32,
                batch: (rows / tokens) as u32,
                groups: to_u32("matmul workgroups", groups)?,
            };
            let or_x = |i: Option<usize>, cx: &LowerCx| cx.operand(i.unwrap_or(0));
            let binds = vec![
                cx.operand(0),
                cx.part(1, part),
                or_x(at.bias, cx),
                or_x(at.scale, cx),
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
