//! Cases of ops on images: patches and bytes, convolutions, group norm, pooling, codebooks.

use super::case::{Case, case, x};
use crate::graph::{Graph, Value};
use crate::ops::{Act, Window};
use crate::tensor::{DType, TensorDesc};

pub(super) fn all(cases: &mut Vec<Case>) {
    pixels(cases);
    convolutions(cases);
    group_norms(cases);
    pools(cases);
    for (rows, width, codes) in [(1, 1, 1), (7, 8, 50), (5, 3, 259)] {
        cases.push(case(format!("nearest_code {rows}x{width} of {codes}"), 0.0, |g| {
            let x = x(g, [rows, width]);
            let (table, offsets) = (g.weight("codes", [codes, width]), g.weight("offsets", [codes]));
            g.nearest_code(x, table, offsets)
        }));
    }
}

fn conv(g: &mut Graph, x: Value, n: usize, window: Window, up: bool) -> Value {
    let inner = window.size[0] * window.size[1] * g.shape(x).width();
    let (w, b) = (g.weight("w", [n, inner]), Some(g.weight("b", [n])));
    if up { g.conv2d_up(x, w, b, window) } else { g.conv2d(x, w, b, window) }
}

fn group_norm(g: &mut Graph, x: Value, groups: usize, eps: f32, act: Option<Act>) -> Value {
    let width = g.shape(x).width();
    let [gain, bias] = ["gain", "bias"].map(|name| g.weight(name, [width]));
    g.group_norm(x, gain, bias, groups, eps, act)
}

fn convolutions(cases: &mut Vec<Case>) {
    let strided = |side, stride, pad| Window { pad, ..Window::strided(side, stride) };
    let shapes = [
        ([1, 1, 1, 1], 1, Window::same(3), false),
        ([2, 5, 7, 3], 5, Window::same(3), false),
        ([1, 9, 6, 8], 36, strided(3, 2, [0, 0, 1, 1]), false),
        ([1, 17, 13, 3], 20, Window::strided(7, 2).pad_same([17, 13]), false),
        ([3, 4, 5, 9], 33, Window::same(3), true),
        ([1, 6, 5, 20], 3, Window::same(3), true),
        ([1, 8, 12, 3], 16, Window::strided(4, 4), false),
        ([1, 11, 10, 64], 67, Window::same(3), false),
        ([2, 3, 3, 5], 4, Window { size: [2, 3], stride: [3, 1], pad: [2, 1, 1, 2] }, false),
        ([2, 4, 3, 7], 6, Window::strided(1, 1), false),
        ([1, 5, 5, 4], 7, Window::strided(1, 2), false),
    ];
    for (shape, n, window, up) in shapes {
        let [b, h, w, c] = shape;
        let up_by = if up { " doubled" } else { "" };
        let ([kh, kw], stride) = (window.size, window.stride[0]);
        let name = format!("conv {b}x{h}x{w}x{c}{up_by} to {n}, {kh}x{kw} stride {stride}");
        let tolerance = 2e-6 * ((kh * kw * c) as f32).sqrt().max(4.0) * 4.0;
        cases.push(case(name.clone(), tolerance, |g| {
            let x = x(g, shape);
            conv(g, x, n, window, up)
        }));
        cases.push(case(format!("{name}, computed, with epilogue"), tolerance, |g| {
            let x = x(g, shape);
            let x = g.scale(x, 0.5);
            let y = conv(g, x, n, window, up);
            let y = g.act(y, Act::Silu);
            let r = g.input("r", TensorDesc::f32(g.shape(y)));
            let r = g.scale(r, 2.0);
            g.add(r, y)
        }));
    }
    cases.push(case("conv with a residual that repeats", 2e-5, |g| {
        let x = x(g, [2, 4, 4, 8]);
        let y = conv(g, x, 12, Window::same(3), false);
        let r = g.input("r", TensorDesc::f32([4, 4, 12]));
        g.add(y, r)
    }));
}

fn group_norms(cases: &mut Vec<Case>) {
    let shapes = [([1, 1, 1, 1], 1), ([2, 3, 5, 36], 4), ([1, 7, 5, 9], 3), ([3, 33, 4, 64], 32)];
    for (shape, groups) in shapes {
        let [b, h, w, c] = shape;
        cases.push(case(format!("group_norm {b}x{h}x{w}x{c} by {groups}"), 2e-5, |g| {
            let x = x(g, shape);
            group_norm(g, x, groups, 1e-5, None)
        }));
    }
    // More slices than the least number of pixels gives, and statistics far from zero.
    cases.push(case("group_norm of many pixels about 50", 2e-4, |g| {
        let x = x(g, [1, 131, 129, 4]);
        let fifty = g.input("fifty", TensorDesc::f32([4]));
        let fifty = g.scale(fifty, 50.0);
        let x = g.add(x, fifty);
        group_norm(g, x, 4, 1e-6, Some(Act::Silu))
    }));
    cases.push(case("group_norm computed, with ReLU", 2e-5, |g| {
        let x = x(g, [2, 6, 6, 12]);
        let x = g.scale(x, 0.5);
        let y = group_norm(g, x, 6, 1e-5, Some(Act::Relu));
        g.scale(y, 1.0)
    }));
}

fn pools(cases: &mut Vec<Case>) {
    for (shape, window) in [
        ([1, 1, 1, 1], Window::same(3)),
        ([2, 7, 6, 5], Window { pad: [1, 1, 1, 1], ..Window::strided(3, 2) }),
        ([1, 8, 9, 64], Window::strided(3, 2).pad_same([8, 9])),
        ([1, 4, 4, 3], Window::strided(2, 2)),
    ] {
        let [b, h, w, c] = shape;
        let side = window.size[0];
        let name = format!("max_pool {b}x{h}x{w}x{c}, {side}x{side} stride {}", window.stride[0]);
        cases.push(case(name, 0.0, |g| {
            let x = x(g, shape);
            g.max_pool(x, window)
        }));
    }
}

fn pixels(cases: &mut Vec<Case>) {
    for (b, h, w, ph, pw) in
        [(1, 1, 1, 1, 1), (2, 6, 10, 3, 5), (3, 14, 28, 14, 14), (1, 32, 48, 16, 16), (2, 10, 9, 4, 4)]
    {
        cases.push(case(format!("patchify {b}x{h}x{w} by {ph}x{pw}"), 0.0, |g| {
            let image = x(g, [b, 3, h, w]);
            g.patchify(image, [ph, pw])
        }));
        cases.push(case(format!("patchify bytes {b}x{h}x{w} by {ph}x{pw}"), 1e-6, |g| {
            let image = g.input("x", TensorDesc::new(DType::U8, [b, h, w, 3]));
            let image = g.normalise(image, [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0]);
            g.patchify(image, [ph, pw])
        }));
    }
    cases.push(case("normalise", 1e-6, |g| {
        let image = g.input("x", TensorDesc::new(DType::U8, [2, 5, 7, 3]));
        g.normalise(image, [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0])
    }));
}
