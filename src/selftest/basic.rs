//! Cases of what every transformer is made of: linear layers, attention, norms, element by element,
//! layout.

use super::case::{Case, VOCABULARY, case, x};
use super::layers::{layer_norm, linear, rms_norm};
use crate::graph::{Graph, Weight};
use crate::ops::{Act, HeadSplit, MatMul, Op, Scores};
use crate::tensor::{DType, Shape, TensorDesc};

pub(super) fn matmul(cases: &mut Vec<Case>) {
    let sizes = [
        (1, 1, 1),
        (1, 768, 1001),
        (2, 5, 3),
        (4, 36, 7),
        (5, 17, 64),
        (7, 64, 65),
        (15, 16, 63),
        (16, 15, 128),
        (17, 33, 129),
        (63, 588, 36),
        (65, 31, 67),
        (197, 768, 36),
        (197, 36, 768),
    ];
    for (m, k, n) in sizes {
        let tolerance = 2e-6 * (k as f32).sqrt().max(4.0) * 4.0;
        cases.push(case(format!("matmul {m}x{k}x{n}"), tolerance, |g| {
            let x = x(g, [m, k]);
            linear(g, x, "w", None, n)
        }));
        cases.push(case(format!("matmul full epilogue {m}x{k}x{n}"), tolerance, |g| {
            let x = x(g, [1, m, k]);
            let r = g.input("r", TensorDesc::f32([1, m, n]));
            let y = linear(g, x, "w", Some("b"), n);
            let y = g.act(y, Act::Gelu);
            let s = g.weight(Weight::tensor("s"), [n]);
            let y = g.mul(y, s);
            g.add(r, y)
        }));
        cases.push(case(format!("matmul residual in place {m}x{k}x{n}"), tolerance, |g| {
            let x = x(g, [m, k]);
            let r = g.input("r", TensorDesc::f32([m, n]));
            let r = g.scale(r, 2.0);
            let y = linear(g, x, "w", Some("b"), n);
            g.add(r, y)
        }));
    }
    for act in [Act::GeluTanh, Act::QuickGelu, Act::Relu, Act::Silu, Act::Tanh, Act::Sigmoid] {
        cases.push(case(format!("matmul {act:?}"), 2e-5, |g| {
            let x = x(g, [9, 20]);
            let y = linear(g, x, "w", None, 21);
            g.act(y, act)
        }));
    }
    cases.push(case("matmul broadcast residual", 2e-5, |g| {
        let x = x(g, [3, 5, 12]);
        let y = linear(g, x, "w", Some("b"), 8);
        let p = g.weight(Weight::tensor("p"), [5, 8]);
        g.add(y, p)
    }));
    for (b, t, h, d, parts) in [(1, 1, 1, 1, 3), (2, 5, 3, 12, 3), (3, 17, 2, 10, 1), (1, 65, 4, 32, 3)] {
        cases.push(case(format!("matmul heads {b}x{t}x{h}x{d} x{parts}"), 2e-5, |g| {
            let c = parts * h * d;
            let x = x(g, [b, t, 19]);
            let w = g.weight(Weight::tensor("w"), [c, 19]);
            let bias = g.weight(Weight::tensor("b"), [c]);
            let op = MatMul { bias: true, heads: Some(HeadSplit { parts, heads: h }), ..MatMul::default() };
            g.push(Op::MatMul(op), vec![x, w, bias])
        }));
    }
}

pub(super) fn attention(cases: &mut Vec<Case>) {
    let sizes = [
        (1, 1, 1, 1, 1),
        (2, 3, 5, 7, 12),
        (1, 1, 1, 33, 64),
        (1, 2, 2, 2, 3),
        (7, 1, 16, 16, 8),
        (1, 3, 17, 17, 10),
        (2, 1, 63, 63, 31),
        (1, 2, 65, 65, 64),
        (1, 25, 9, 9, 4),
        (1, 1, 70, 131, 80),
        (1, 1, 33, 33, 88),
        (1, 1, 18, 40, 128),
        (1, 1, 9, 20, 255),
        (1, 1, 9, 20, 256),
        (1, 1, 9, 20, 140),
        (1, 1, 9, 20, 512),
        (1, 2, 197, 197, 64),
    ];
    // Every size in one mode, small ones in all: each head width costs a compilation.
    let modes = [(false, false), (true, false), (false, true)];
    for (i, (b, h, t, s, d)) in sizes.into_iter().enumerate() {
        for (causal, bias) in modes.into_iter().skip(i % 3).take(if d < 16 { 3 } else { 1 }) {
            let name = format!("attention {b}x{h}x{t}x{s}x{d} causal={causal} bias={bias}");
            let build = |g: &mut Graph, weights: bool| {
                let q = g.input("q", TensorDesc::f32([b, h, t, d]));
                let k = g.input("k", TensorDesc::f32([b, h, s, d]));
                let v = g.input("v", TensorDesc::f32([b, h, s, d]));
                let bias = bias.then(|| g.input("bias", TensorDesc::f32([h, t, s])));
                // Sharper than usual, so that the running maximum moves.
                let scale = 4.0 / (d as f32).sqrt();
                let scores = Scores { bias, causal, ..Scores::scaled(scale) };
                if weights { g.attention_weights([q, k], scores) } else { g.attention([q, k, v], scores) }
            };
            cases.push(case(name.clone(), 2e-5, |g| build(g, false)));
            if t < 100 {
                cases.push(case(format!("{name} weights"), 2e-5, |g| build(g, true)));
            }
        }
    }
    cases.push(case("attention from one projection", 5e-5, |g| {
        let x = x(g, [2, 19, 24]);
        let mut heads = |name: &str, bias: bool| {
            let bias = bias.then(|| format!("{name}.bias"));
            let y = linear(g, x, name, bias.as_deref(), 36);
            g.split_heads(y, 3)
        };
        let qkv = [heads("q", true), heads("k", false), heads("v", true)];
        g.attention(qkv, Scores::scaled(0.3))
    }));
}

pub(super) fn rows(cases: &mut Vec<Case>) {
    for (rows, width) in [(1, 1), (3, 2), (2, 7), (5, 31), (4, 33), (7, 255), (3, 257), (197, 768), (2, 1025)]
    {
        cases.push(case(format!("layer_norm {rows}x{width}"), 2e-5, |g| {
            let x = x(g, [rows, width]);
            layer_norm(g, x, "bias")
        }));
        cases.push(case(format!("rms_norm {rows}x{width}"), 2e-5, |g| {
            let x = x(g, [rows, width]);
            rms_norm(g, x)
        }));
        cases.push(case(format!("softmax {rows}x{width}"), 1e-6, |g| {
            let x = x(g, [rows, width]);
            let x = g.scale(x, 30.0);
            g.softmax(x)
        }));
    }
}

pub(super) fn elementwise(cases: &mut Vec<Case>) {
    let acts = [Act::Gelu, Act::GeluTanh, Act::QuickGelu, Act::Relu, Act::Silu, Act::Tanh, Act::Sigmoid];
    for act in acts {
        cases.push(case(format!("{act:?}"), 2e-6, |g| {
            let x = x(g, [5, 67]);
            let x = g.scale(x, 9.0);
            g.act(x, act)
        }));
        cases.push(case(format!("glu {act:?}"), 2e-6, |g| {
            let x = x(g, [3, 2, 14]);
            g.glu(x, act)
        }));
    }
    for (a, b) in
        [(vec![1], vec![1]), (vec![3, 65], vec![65]), (vec![2, 5, 7], vec![5, 7]), (vec![64], vec![64])]
    {
        for mul in [false, true] {
            cases.push(case(format!("binary {a:?} {b:?} mul={mul}"), 1e-6, |g| {
                let a = x(g, Shape::new(&a));
                let b = g.input("b", TensorDesc::f32(Shape::new(&b)));
                if mul { g.mul(a, b) } else { g.add(a, b) }
            }));
        }
    }
    cases.push(case("large elementwise beyond one dimension of workgroups", 1e-6, |g| {
        let x = x(g, [65_535 * 64 + 1]);
        g.scale(x, 3.0)
    }));
}

pub(super) fn layout(cases: &mut Vec<Case>) {
    for (b, t, h, d) in [(1, 1, 1, 1), (2, 5, 3, 12), (3, 17, 1, 7)] {
        cases.push(case(format!("split_heads {b}x{t}x{h}x{d}"), 0.0, |g| {
            let x = x(g, [b, t, h * d]);
            g.split_heads(x, h)
        }));
    }
    cases.push(case("concat_tokens", 0.0, |g| {
        let x = x(g, [3, 7, 5]);
        let cls = g.weight(Weight::tensor("cls"), [1, 5]);
        let reg = g.weight(Weight::tensor("reg"), [4, 5]);
        g.concat_tokens(3, &[cls, reg, x])
    }));
    cases.push(case("concat_width", 0.0, |g| {
        let a = x(g, [3, 5]);
        let b = g.input("b", TensorDesc::f32([3, 9]));
        g.concat_width(&[a, b])
    }));
    cases.push(case("slice and reshape", 0.0, |g| {
        let x = x(g, [3, 7, 5]);
        let x = g.slice_tokens(x, 2..6);
        g.reshape(x, [6, 10])
    }));
    cases.push(case("token", 0.0, |g| {
        let x = x(g, [3, 7, 5]);
        g.token(x, 6)
    }));
    cases.push(case("mean_tokens", 1e-6, |g| {
        let x = x(g, [3, 197, 65]);
        g.mean_tokens(x, 1..197)
    }));
    cases.push(case("gather", 0.0, |g| {
        let ids = g.input("ids", TensorDesc::new(DType::U32, [2, 9]));
        let table = g.weight("table", [VOCABULARY as usize, 13]);
        g.gather(table, ids)
    }));
}
