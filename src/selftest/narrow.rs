//! Cases whose operands are computed and not passed in, so that an f16 plan stores them in f16: what
//! kernels on cooperative matrices are offered for. Widths are multiples of four, for the same
//! reason; sizes are a little more than one tile, or no multiple of a matrix.

use super::case::{Case, case, x};
use super::layers::linear;
use crate::graph::{Graph, Value, Weight};
use crate::ops::{Act, HeadSplit, MatMul, Op, Scores};
use crate::tensor::TensorDesc;

/// An input times one half: exact in any storage type.
fn halved(g: &mut Graph, name: &str, shape: [usize; 4]) -> Value {
    let x = g.input(name, TensorDesc::f32(shape));
    g.scale(x, 0.5)
}

pub(super) fn matmul(cases: &mut Vec<Case>) {
    cases.push(case("matmul of computed rows 70x100x72", 2e-5, |g| {
        let x = x(g, [70, 100]);
        let x = g.scale(x, 0.5);
        let y = linear(g, x, "w", Some("b"), 72);
        g.act(y, Act::GeluTanh)
    }));
    cases.push(case("matmul of computed rows, head split 2x35x2x20 x3", 2e-5, |g| {
        let x = x(g, [2, 35, 36]);
        let x = g.scale(x, 0.5);
        let w = g.weight(Weight::tensor("w"), [120, 36]);
        let bias = g.weight(Weight::tensor("b"), [120]);
        let split = HeadSplit { parts: 3, heads: 2 };
        let op = MatMul { bias: true, heads: Some(split), ..MatMul::default() };
        g.push(Op::MatMul(op), vec![x, w, bias])
    }));
}

pub(super) fn attention(cases: &mut Vec<Case>) {
    let sizes = [
        (2, 1, 7, 7, 8, false, false),
        (1, 2, 33, 35, 24, true, true),
        (1, 1, 66, 131, 64, false, true),
        (1, 2, 45, 70, 40, true, false),
        (1, 1, 18, 40, 128, false, false),
    ];
    for (b, h, t, s, d, causal, bias) in sizes {
        let name = format!("attention of computed heads {b}x{h}x{t}x{s}x{d} causal={causal} bias={bias}");
        cases.push(case(name, 2e-5, |g| {
            let q = halved(g, "q", [b, h, t, d]);
            let k = halved(g, "k", [b, h, s, d]);
            let v = halved(g, "v", [b, h, s, d]);
            let bias = bias.then(|| g.input("bias", TensorDesc::f32([h, t, s])));
            // Sharp, so that the running maximum moves in later steps too.
            let scores = Scores { bias, causal, ..Scores::scaled(128.0 / (d as f32).sqrt()) };
            g.attention([q, k, v], scores)
        }));
    }
    for (t, d, window) in [(70, 24, 5), (133, 64, 20)] {
        cases.push(case(format!("attention of computed heads of a window of {window} {t}x{d}"), 2e-5, |g| {
            let qkv = ["q", "k", "v"].map(|name| halved(g, name, [1, 2, t, d]));
            let window = Some(window);
            g.attention(qkv, Scores { window, ..Scores::scaled(128.0 / (d as f32).sqrt()) })
        }));
    }
    cases.push(case("attention packed 2x2x37x16", 2e-5, |g| {
        let x = x(g, [2, 37, 36]);
        let x = g.scale(x, 0.5);
        let mut heads = |name: &str| {
            let y = linear(g, x, name, None, 32);
            g.split_heads(y, 2)
        };
        let qkv = [heads("q"), heads("k"), heads("v")];
        g.attention(qkv, Scores::scaled(0.3))
    }));
}
