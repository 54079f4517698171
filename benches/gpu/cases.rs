//! What `ops` times besides the cases of the kernel tests: bare matrix products, bare convolutions, and
//! the ops of a ViT at their real sizes.

use vit_gpu::graph::{Graph, Value, Weight};
use vit_gpu::ops::{Act, HeadSplit, MatMul, Op, Scores, Window};
use vit_gpu::plan::Precision;
use vit_gpu::selftest::{self, Case};
use vit_gpu::tensor::{DType, HostTensor, TensorDesc};

use crate::Result;

/// True if a matrix product or a convolution stands between two ops that only give its operands their
/// storage types.
pub fn is_bare(case: &Case) -> bool {
    [GEMM, CONV].iter().any(|start| case.name.starts_with(start))
}

fn case(name: String, graph: Graph) -> Case {
    Case { name, graph, tolerance: 0.0, quick: false, poisoned: false, states: Vec::new() }
}

/// How the names of bare matrix products begin.
const GEMM: &str = "gemm ";

/// A matrix product by its sizes: `MxKxN`.
pub fn gemm(sizes: &str) -> Result<Case> {
    let numbers: Vec<usize> = sizes.split('x').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let &[m, k, n] = numbers.as_slice() else { return Err(format!("`{sizes}` is not MxKxN").into()) };
    if m * k * n == 0 {
        return Err(format!("`{sizes}` is empty").into());
    }
    let mut g = Graph::new();
    g.scope("gemm");
    let x = g.input("x", TensorDesc::f32([m, k]));
    let x = g.act(x, Act::Relu);
    let w = g.weight("w", [n, k]);
    let y = g.linear(x, w, None);
    let y = g.scale(y, 1.0);
    g.output("y", y);
    Ok(case(format!("{GEMM}{sizes}"), g))
}

/// How many elements of a large product are compared.
const SAMPLES: usize = 512;

/// The largest difference of a matrix product from sums in f64, over the four corners and elements all over
/// it, and whether all are as near as the storage type lets them be; nothing for other cases.
pub fn check(case: &Case, precision: Precision, x: &HostTensor, y: &HostTensor) -> Option<(f64, bool)> {
    let sizes = case.name.strip_prefix(GEMM)?;
    let sizes: Vec<usize> = sizes.split('x').filter_map(|n| n.parse().ok()).collect();
    let &[m, k, n] = sizes.as_slice() else { return None };
    let (x, y) = (x.to_f32(), y.to_f32());
    let w = selftest::weight(&Weight::tensor("w"), [n, k].into()).to_f32();
    let tolerance = if precision == Precision::F16 { 2e-2 } else { 1e-4 };
    let corners = [(0, 0), (0, n - 1), (m - 1, 0), (m - 1, n - 1)];
    let all_over = (1..=SAMPLES).map(|i| (i * 7919 % m, i * 104_729 % n));
    let (mut worst, mut pass) = (0.0f64, true);
    for (row, col) in corners.into_iter().chain(all_over) {
        let terms = x[row * k..][..k].iter().zip(&w[col * k..][..k]);
        let want: f64 = terms.map(|(x, w)| f64::from(x.max(0.0)) * f64::from(*w)).sum();
        let error = (f64::from(y[row * n + col]) - want).abs();
        pass &= error <= tolerance * (1.0 + want.abs());
        worst = if error.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(error) };
    }
    Some((worst, pass))
}

/// How the names of bare convolutions begin.
const CONV: &str = "3x3 ";

/// A matrix product and the convolution of as much work, by its sizes: `HxWxCxN`.
pub fn conv(sizes: &str) -> Result<[Case; 2]> {
    let (numbers, up) = sizes.strip_suffix("up").map_or((sizes, false), |numbers| (numbers, true));
    let numbers: Vec<usize> = numbers.split('x').map(str::parse).collect::<std::result::Result<_, _>>()?;
    let &[h, w, c, n] = numbers.as_slice() else { return Err(format!("`{sizes}` is not HxWxCxN").into()) };
    let product = gemm(&format!("{}x{}x{n}", h * w, 9 * c))?;
    let mut g = Graph::new();
    g.scope("conv");
    let x = g.input("x", TensorDesc::f32(if up { [1, h / 2, w / 2, c] } else { [1, h, w, c] }));
    let x = g.act(x, Act::Relu);
    let (weight, window) = (g.weight("w", [n, 9 * c]), Window::same(3));
    let y = if up { g.conv2d_up(x, weight, None, window) } else { g.conv2d(x, weight, None, window) };
    let y = g.scale(y, 1.0);
    g.output("y", y);
    g.check()?;
    Ok([product, case(format!("{CONV}{sizes}"), g)])
}

/// The ops of a layer of ViT-B/16 on `batch` images, and those around the layers.
pub fn vit_b(batch: usize) -> Vec<Case> {
    let (tokens, width, heads, hidden) = (197, 768, 12, 3072);
    let op = |name: &str, build: &dyn Fn(&mut Graph) -> Value| {
        let mut graph = Graph::new();
        graph.scope("case");
        let y = build(&mut graph);
        graph.output("y", y);
        case(format!("vit-b batch {batch} {name}"), graph)
    };
    let x = |g: &mut Graph, c: usize| g.input("x", TensorDesc::f32([batch, tokens, c]));
    let linear = |g: &mut Graph, x: Value, n: usize| {
        let inner = g.shape(x).width();
        let (w, b) = (g.weight("w", [n, inner]), g.weight("b", [n]));
        g.linear(x, w, Some(b))
    };
    let qkv = |g: &mut Graph| {
        let x = x(g, width);
        let w = g.weight(Weight::tensor("w"), [3 * width, width]);
        let b = g.weight(Weight::tensor("b"), [3 * width]);
        let op = MatMul { bias: true, heads: Some(HeadSplit { parts: 3, heads }), ..MatMul::default() };
        g.push(Op::MatMul(op), vec![x, w, b])
    };
    let residual = |g: &mut Graph, c: usize| {
        let x = x(g, c);
        let y = linear(g, x, width);
        let r = g.input("r", TensorDesc::f32([batch, tokens, width]));
        g.add(r, y)
    };
    vec![
        op("patchify", &|g| {
            let image = g.input("x", TensorDesc::new(DType::U8, [batch, 224, 224, 3]));
            let image = g.normalise(image, [0.01, 0.02, 0.03], [-1.0, -2.0, -3.0]);
            g.patchify(image, [16, 16])
        }),
        op("norm", &|g| {
            let x = x(g, width);
            let (gain, bias) = (g.weight("gain", [width]), g.weight("bias", [width]));
            g.layer_norm(x, gain, bias, 1e-6)
        }),
        op("qkv", &qkv),
        op("attention", &|g| {
            let qkv =
                ["q", "k", "v"].map(|n| g.input(n, TensorDesc::f32([batch, heads, tokens, width / heads])));
            g.attention(qkv, Scores::scaled(0.125))
        }),
        op("projection", &|g| residual(g, width)),
        op("mlp up", &|g| {
            let x = x(g, width);
            let y = linear(g, x, hidden);
            g.act(y, Act::Gelu)
        }),
        op("mlp down", &|g| residual(g, hidden)),
        op("head", &|g| {
            let x = g.input("x", TensorDesc::f32([batch, width]));
            linear(g, x, 1000)
        }),
    ]
}
