//! Cases of the way back: products of computed matrices, norms, activations, tokens, rows by index.

use super::case::{Case, VOCABULARY, case, x};
use super::layers::{layer_norm, linear};
use crate::graph::{Graph, Value};
use crate::ops::{Act, Norm, NormKind, Rotary};
use crate::tensor::{DType, Shape, TensorDesc};

pub(super) fn all(cases: &mut Vec<Case>) {
    products(cases);
    norms(cases);
    elements(cases);
    rows(cases);
    tokens(cases);
}

fn input(g: &mut Graph, name: &str, shape: impl Into<Shape>) -> Value {
    g.input(name, TensorDesc::f32(shape))
}

fn words(g: &mut Graph, name: &str, shape: impl Into<Shape>) -> Value {
    g.input(name, TensorDesc::new(DType::U32, shape))
}

fn products(cases: &mut Vec<Case>) {
    let sizes = [(1, 1, 1), (2, 3, 5), (36, 17, 9), (33, 65, 31), (64, 32, 36), (65, 130, 7), (96, 197, 96)];
    for (m, k, n) in sizes {
        let tolerance = 2e-6 * (k as f32).sqrt().max(4.0) * 4.0;
        for turned in [[false, false], [true, false], [false, true], [true, true]] {
            let [a_turned, b_turned] = turned;
            cases.push(case(format!("product {m}x{k}x{n} turned={a_turned},{b_turned}"), tolerance, |g| {
                let a = input(g, "a", if a_turned { [k, m] } else { [m, k] });
                let b = input(g, "b", if b_turned { [n, k] } else { [k, n] });
                g.product([a, b], turned)
            }));
        }
        cases.push(case(format!("matmul of computed weight {m}x{k}x{n}"), tolerance, |g| {
            let (x, w) = (x(g, [m, k]), input(g, "w", [n, k]));
            let r = input(g, "r", [m, n]);
            let y = g.linear(x, w, None);
            let y = g.act(y, Act::Gelu);
            g.add(y, r)
        }));
    }
    for (r, c) in [(1, 1), (3, 70), (33, 31), (64, 65)] {
        cases.push(case(format!("transpose {r}x{c}"), 0.0, |g| {
            let x = x(g, [r, c]);
            g.transpose(x)
        }));
    }
}

fn norms(cases: &mut Vec<Case>) {
    for kind in [NormKind::Layer, NormKind::Rms] {
        let norm = Norm { kind, eps: 1e-5 };
        for (rows, width) in [(1, 1), (3, 2), (5, 31), (7, 255), (3, 257), (65, 36), (197, 768)] {
            cases.push(case(format!("{kind:?} norm's way back {rows}x{width}"), 1e-4, |g| {
                let (x, dy) = (x(g, [rows, width]), input(g, "dy", [rows, width]));
                let gain = input(g, "gain", [width]);
                g.norm_grad(x, gain, dy, norm)
            }));
        }
        for (rows, width) in [(1, 1), (5, 31), (64, 33), (65, 36), (130, 255), (4200, 20)] {
            cases.push(case(format!("{kind:?} norm's factors {rows}x{width}"), 2e-3, |g| {
                let (x, dy) = (x(g, [rows, width]), input(g, "dy", [rows, width]));
                g.norm_factors_grad(x, dy, norm)
            }));
        }
    }
}

fn elements(cases: &mut Vec<Case>) {
    let acts = [Act::Gelu, Act::GeluTanh, Act::QuickGelu, Act::Relu, Act::Silu, Act::Tanh, Act::Sigmoid];
    for act in acts {
        cases.push(case(format!("{act:?}'s way back"), 2e-5, |g| {
            let x = x(g, [3, 67]);
            let x = g.scale(x, 6.0);
            let dy = input(g, "dy", [3, 67]);
            g.act_grad(x, dy, act, 1.5)
        }));
    }
    for act in [Act::Silu, Act::Gelu] {
        cases.push(case(format!("glu {act:?}'s way back"), 2e-5, |g| {
            let (x, dy) = (x(g, [5, 2 * 33]), input(g, "dy", [5, 33]));
            g.glu_grad(x, dy, act)
        }));
    }
    cases.push(case("rotary's way back", 1e-5, |g| {
        let (x, table) = (x(g, [2, 3, 5, 8]), input(g, "table", [9, 8]));
        let step = words(g, "step", [1]);
        g.push(Rotary { back: true, placed: true, ..Rotary::default() }, vec![x, table, step])
    }));
    cases.push(case("way back of rotary halves", 1e-5, |g| {
        let (x, table) = (x(g, [2, 3, 5, 10]), input(g, "table", [5, 10]));
        g.push(Rotary { back: true, halves: true, ..Rotary::default() }, vec![x, table])
    }));
    cases.push(case("fill", 0.0, |g| {
        let filled = g.fill([7, 11], 0.25);
        let x = x(g, [7, 11]);
        g.mul(x, filled)
    }));
}

fn rows(cases: &mut Vec<Case>) {
    for (rows, cols) in [(1, 1), (2, 65), (64, 3), (65, 64), (197, 768), (4200, 33)] {
        cases.push(case(format!("sum of {rows} rows of {cols}"), 1e-3, |g| {
            let x = x(g, [rows, cols]);
            g.sum_to(x, Shape::new(&[cols]))
        }));
    }
    cases.push(case("sum to a table", 1e-4, |g| {
        let x = x(g, [5, 2, 7, 9]);
        g.sum_to(x, Shape::new(&[1, 7, 9]))
    }));
    for (count, width) in [(1, 1), (7, 33), (64, 8), (70, 200), (300, 12)] {
        cases.push(case(format!("scatter {count} rows of {width}"), 1e-4, |g| {
            let (dy, ids) = (input(g, "dy", [count, width]), words(g, "ids", [count]));
            g.scatter_rows(dy, ids, VOCABULARY as usize, Some(3))
        }));
    }
}

fn tokens(cases: &mut Vec<Case>) {
    cases.push(case("put tokens", 1e-4, |g| {
        let (dy, places) = (input(g, "dy", [3, 9, 20]), words(g, "places", [3, 9]));
        g.put_tokens(dy, places, 17)
    }));
    cases.push(case("spread tokens", 1e-6, |g| {
        let dy = input(g, "dy", [3, 20]);
        g.spread_tokens(dy, 11, 2..9, None)
    }));
    cases.push(case("spread tokens by lengths", 1e-6, |g| {
        let (dy, lengths) = (input(g, "dy", [5, 20]), words(g, "lengths", [5]));
        g.spread_tokens(dy, 11, 0..11, Some(lengths))
    }));
    cases.push(case("merge heads 2x3x5x12", 0.0, |g| {
        let x = x(g, [2, 3, 5, 12]);
        g.merge_heads(x)
    }));
    cases.push(case("slice_width", 0.0, |g| {
        let x = x(g, [2, 5, 12]);
        g.slice_width(x, 3..10)
    }));
    cases.push(case("norm of a layer of computed weight", 1e-4, |g| {
        let x = x(g, [3, 5, 24]);
        let w = input(g, "w", [24, 24]);
        let y = g.linear(x, w, None);
        let y = layer_norm(g, y, "b");
        linear(g, y, "v", None, 7)
    }));
}
