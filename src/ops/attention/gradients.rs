//! The gradients of attention: of queries, of keys and values, and of a bias, each of whose elements one lane
//! sums up in order. With p the weights, dp = dy·v those of the weights, and delta as
//! [`AttentionRows`](super::AttentionRows) finds it, the gradient of a score is ds = p·(dp - delta).

use rayon::prelude::*;

use super::back_variants::{GRAD_BIAS, GRAD_KV, GRAD_Q, Kernels, twin};
use super::backward::{Launch, ROW, back_params, dot, merged, typed};
use super::rules::{BiasAt, Sizes, sizes};
use crate::error::Result;
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::lower::{LowerCx, Operand};
use crate::tensor::{HostTensor, TensorDesc};

/// Gradient of the queries. Operands: q (B,H,T,D), k and v (B,H,S,D), the gradient dy (B,T,H·D) of the
/// result, rows (B,H,T,3) as [`AttentionRows`](super::AttentionRows) makes them, then a bias if set, as
/// [`crate::ops::Attention`] has it. Result (B,H,T,D).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionGradQ {
    /// A bias was added to the scaled scores.
    pub bias: bool,
    /// Factor on the scores.
    pub scale: f32,
}

/// Gradients of keys and values. Operands: as [`AttentionGradQ`]. Result (2·B,H,S,D): dk of all, then dv of
/// all; zeros for keys that no query sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionGradKv {
    /// A bias was added to the scaled scores.
    pub bias: bool,
    /// Factor on the scores.
    pub scale: f32,
}

/// Gradient of the bias, summed over the batch. Operands: as [`AttentionGradQ`], with a bias. Result: of the
/// shape of the bias; zeros where no query sees the key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionGradBias {
    /// Factor on the scores.
    pub scale: f32,
}

/// Shape rules of the three.
fn checked(inputs: &[TensorDesc], bias: bool) -> Result<Sizes, String> {
    arity(inputs, 5 + usize::from(bias))?;
    let sizes = sizes(&inputs[0], Some(&inputs[1]), [bias.then(|| &inputs[5]), None], [false; 2])?;
    let Sizes { b, h, t, s, d } = sizes;
    let expected = [("v", vec![b, h, s, d]), ("dy", vec![b, t, h * d]), ("rows", vec![b, h, t, ROW])];
    for ((name, dims), desc) in expected.into_iter().zip(&inputs[2..]) {
        if desc.shape.dims() != dims {
            return Err(format!("{name} has shape {}, expected {dims:?}", desc.shape));
        }
    }
    Ok(sizes)
}

/// Floating-point operations for so many products of rows for each pair of a query and a key.
fn flops(inputs: &[TensorDesc], bias: bool, products: usize) -> u64 {
    checked(inputs, bias).map_or(0, |z| 2 * (products * z.b * z.h * z.t * z.s * z.d) as u64)
}

/// Operands by plain loops.
struct Pairs<'a> {
    sizes: Sizes,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    dy: &'a [f32],
    rows: &'a [f32],
    bias: Option<(&'a [f32], BiasAt)>,
    scale: f32,
}

impl<'a> Pairs<'a> {
    fn new(inputs: &[&'a HostTensor], bias: bool, scale: f32) -> Self {
        let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
        let sizes = checked(&descs, bias).expect("checked by infer");
        let bias = bias.then(|| {
            let at = BiasAt::new(&descs[5], &sizes).expect("the reference is of sizes that fit");
            (f32s(inputs[5]), at)
        });
        let [q, k, v, dy, rows] = [0, 1, 2, 3, 4].map(|i| f32s(inputs[i]));
        Self { sizes, q, k, v, dy, rows, bias, scale }
    }

    fn of<'b>(&self, rows: &'b [f32], at: usize) -> &'b [f32] {
        &rows[at * self.sizes.d..][..self.sizes.d]
    }

    fn query(&self, bh: usize, t: usize) -> &[f32] {
        self.of(self.q, bh * self.sizes.t + t)
    }

    fn key(&self, bh: usize, s: usize) -> &[f32] {
        self.of(self.k, bh * self.sizes.s + s)
    }

    fn dy(&self, bh: usize, t: usize) -> &[f32] {
        &self.dy[merged(&self.sizes, bh, t)..][..self.sizes.d]
    }

    /// Log-sum-exp, delta, and keys that the query sees.
    fn row(&self, bh: usize, t: usize) -> (f32, f32, usize) {
        let row = &self.rows[(bh * self.sizes.t + t) * ROW..][..ROW];
        (row[0], row[1], (row[2] as usize).min(self.sizes.s))
    }

    fn bias_at(&self, h: usize, t: usize, s: usize) -> Option<usize> {
        self.bias.map(|(_, at)| (at.of(h, t) as u32).wrapping_add(s as u32) as usize)
    }

    /// The weight of a key for a query that sees it, and the gradient of their score.
    fn pair(&self, bh: usize, t: usize, s: usize) -> (f32, f32) {
        let (lse, delta, _) = self.row(bh, t);
        let bias = self.bias.zip(self.bias_at(bh % self.sizes.h, t, s)).map_or(0.0, |((b, _), at)| b[at]);
        let p = (dot(self.query(bh, t), self.key(bh, s)) * self.scale + bias - lse).exp();
        let dp = dot(self.dy(bh, t), self.of(self.v, bh * self.sizes.s + s));
        (p, p * (dp - delta))
    }
}

/// sum += factor·row
fn add(sum: &mut [f32], factor: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
}

/// The launch of a kernel whose workgroups own rows of the queries, or of the keys.
fn launch(cx: &mut LowerCx, kernels: &'static Kernels, of_keys: bool, bias: bool, scale: f32) -> Result<()> {
    let descs: Vec<TensorDesc> = (0..5 + usize::from(bias)).map(|i| cx.input(i)).collect();
    let sizes = checked(&descs, bias).expect("checked by infer");
    let at = bias.then(|| BiasAt::new(&descs[5], &sizes)).transpose()?;
    let variant = typed(cx, sizes.d).with_bool("BIAS", bias);
    let binds = binds(cx, bias);
    Launch { kernels, variant, of_keys, sizes, bias: at, scale }.push(cx, binds)
}

fn binds(cx: &LowerCx, bias: bool) -> Vec<Operand> {
    let read = [0, 1, 2, 3, 4, if bias { 5 } else { 0 }].map(|i| cx.operand(i));
    read.into_iter().chain([cx.result()]).collect()
}

impl OpDef for AttentionGradQ {
    fn name(&self) -> &'static str {
        "attention_grad_q"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        checked(inputs, self.bias)?;
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let pairs = Pairs::new(inputs, self.bias, self.scale);
        let Sizes { t, d, .. } = pairs.sizes;
        let mut dq = vec![0.0; out.shape.elements()];
        dq.par_chunks_mut(d).enumerate().for_each(|(i, dq)| {
            let (bh, t) = (i / t, i % t);
            for s in 0..pairs.row(bh, t).2 {
                add(dq, pairs.pair(bh, t, s).1, pairs.key(bh, s));
            }
            dq.iter_mut().for_each(|x| *x *= self.scale);
        });
        HostTensor::f32(out.shape, dq)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        flops(inputs, self.bias, 3)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        launch(cx, &GRAD_Q, false, self.bias, self.scale)
    }
}

impl OpDef for AttentionGradKv {
    fn name(&self) -> &'static str {
        "attention_grad_kv"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let Sizes { b, h, s, d, .. } = checked(inputs, self.bias)?;
        Ok(TensorDesc::f32([2 * b, h, s, d]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let pairs = Pairs::new(inputs, self.bias, self.scale);
        let Sizes { t, s, d, .. } = pairs.sizes;
        let mut both = vec![0.0; out.shape.elements()];
        let (dk, dv) = both.split_at_mut(out.shape.elements() / 2);
        dk.par_chunks_mut(d).zip(dv.par_chunks_mut(d)).enumerate().for_each(|(i, (dk, dv))| {
            let (bh, s) = (i / s, i % s);
            for t in (0..t).filter(|&t| s < pairs.row(bh, t).2) {
                let (p, ds) = pairs.pair(bh, t, s);
                add(dk, ds, pairs.query(bh, t));
                add(dv, p, pairs.dy(bh, t));
            }
            dk.iter_mut().for_each(|x| *x *= self.scale);
        });
        HostTensor::f32(out.shape, both)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        flops(inputs, self.bias, 4)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        launch(cx, &GRAD_KV, true, self.bias, self.scale)
    }
}

/// Lanes of a workgroup of the bias's gradient.
const LANES: usize = 64;

impl OpDef for AttentionGradBias {
    fn name(&self) -> &'static str {
        "attention_grad_bias"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        checked(inputs, true)?;
        Ok(TensorDesc::f32(inputs[5].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let pairs = Pairs::new(inputs, true, self.scale);
        let Sizes { b, h, t, .. } = pairs.sizes;
        let mut dbias = vec![0.0; out.shape.elements()];
        for (bh, t) in (0..b * h).flat_map(|bh| (0..t).map(move |t| (bh, t))) {
            for s in 0..pairs.row(bh, t).2 {
                let at = pairs.bias_at(bh % h, t, s).expect("there is a bias");
                dbias[at] += pairs.pair(bh, t, s).1;
            }
        }
        HostTensor::f32(out.shape, dbias)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        flops(inputs, true, 2)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let descs = [0, 1, 2, 3, 4, 5].map(|i| cx.input(i));
        let sizes = checked(&descs, true).expect("checked by infer");
        let at = BiasAt::new(&descs[5], &sizes)?;
        let groups = cx.output().shape.elements().div_ceil(LANES);
        let params = back_params(cx, &sizes, Some(at), groups, self.scale)?;
        let variant = typed(cx, sizes.d)
            .with_u32("WG", LANES)
            .with_bool("BIAS", true)
            .with_bool("DISTANCE", descs[5].shape.dims().len() == 2);
        cx.dispatch(twin(&GRAD_BIAS, sizes.d), variant, params, binds(cx, true), groups)
    }
}
