//! The product of two computed matrices: what linear layers need on the way back. It is computed by the kernels
//! of linear layers; what they read in another order is brought into it first.

use rayon::prelude::*;

use super::linear::{MatMul, Sides};
use super::pack;
use super::step::Along;
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::lower::LowerCx;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// a·b of matrices, outer dimensions counted as rows. Operands: a (…,K), or (K-rows,M) if `turned[0]`; b (K,N),
/// or (N,K) if `turned[1]`, each seen as rows of its width. Result (…,N), or (M,N) if a is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Which of a and b are turned.
    pub turned: [bool; 2],
}

impl Graph {
    /// a·b, of which each may be turned first. a: (M,K), b: (K,N) as they are multiplied; returns (M,N), with
    /// a's outer dimensions if it is not turned.
    pub fn product(&mut self, [a, b]: [Value; 2], turned: [bool; 2]) -> Value {
        self.push(Product { turned }, vec![a, b])
    }
}

impl Product {
    /// M, K, N.
    fn sizes(&self, inputs: &[TensorDesc]) -> Result<[usize; 3], String> {
        arity(inputs, 2)?;
        let [a, b] = [inputs[0].shape, inputs[1].shape];
        let (m, k) = if self.turned[0] { (a.width(), a.rows()) } else { (a.rows(), a.width()) };
        let (n, depth) = if self.turned[1] { (b.rows(), b.width()) } else { (b.width(), b.rows()) };
        if k == depth { Ok([m, k, n]) } else { Err(format!("{a} and {b} share no inner dimension")) }
    }
}

impl OpDef for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let [m, _, n] = self.sizes(inputs)?;
        Ok(if self.turned[0] {
            TensorDesc::f32([m, n])
        } else {
            TensorDesc::f32(inputs[0].shape.with_width(n))
        })
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [m, k, n] = self.sizes(&[inputs[0].desc(), inputs[1].desc()]).expect("checked by infer");
        let (a, b) = (f32s(inputs[0]), f32s(inputs[1]));
        let at_a = |row: usize, i: usize| if self.turned[0] { a[i * m + row] } else { a[row * k + i] };
        let at_b = |i: usize, col: usize| if self.turned[1] { b[col * k + i] } else { b[i * n + col] };
        let mut y = vec![0.0; m * n];
        y.par_chunks_mut(n).enumerate().for_each(|(row, y)| {
            for (col, y) in y.iter_mut().enumerate() {
                *y = (0..k).map(|i| at_a(row, i) * at_b(i, col)).sum();
            }
        });
        HostTensor::f32(out.shape, y)
    }

    /// dA = dY·Bᵀ and dB = Aᵀ·dY, each turned as its operand is.
    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let ([a, b], dy, [a_turned, b_turned]) = ([at.inputs[0], at.inputs[1]], at.dy, self.turned);
        let (a_shape, b_shape) = (at.g.shape(a), at.g.shape(b));
        let da = at.of(0, |g| {
            let da = match a_turned {
                false => g.product([dy, b], [false, !b_turned]),
                true => g.product([b, dy], [b_turned, true]),
            };
            g.reshape(da, a_shape)
        });
        let db = at.of(1, |g| {
            let db = match b_turned {
                false => g.product([a, dy], [!a_turned, false]),
                true => g.product([dy, a], [true, a_turned]),
            };
            g.reshape(db, b_shape)
        });
        Some(vec![da, db])
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        self.sizes(inputs).map_or(0, |[m, k, n]| 2 * (m * k * n) as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [m, k, n] = self.sizes(&[cx.input(0), cx.input(1)]).expect("checked by infer");
        // The kernels are fastest where they can read four elements at a time.
        let inner = if self.turned[0] { k.next_multiple_of(4) } else { k };
        let (x, x_type) = if self.turned[0] {
            (pack::turned(cx, 0, [k, m], inner)?, DType::F32)
        } else {
            (cx.operand(0), cx.input(0).dtype)
        };
        let weight = pack::as_weight(cx, 1, [n, k], !self.turned[1], inner)?;
        let sides =
            Sides { x, x_type, rows: m, inner, weight: vec![(0..n, weight)], w_type: DType::F32, cols: n };
        MatMul::default().push(cx, sides, Along::default())
    }
}
