//! Every op on awkward sizes first: one, one less and one more than a tile, primes,
//! real sizes. The kernel tests, the shader tests, the benchmarks and `vit-gpu doctor` share this
//! list; `doctor` runs the cases marked quick.

mod checks;
mod layers;
mod narrow;
mod pictures;
mod quick;
mod sequence;
mod text;

use crate::error::Result;
use crate::gpu::{Executor, Gpu, States, Store};
use crate::graph::{Graph, Part, Value, Weight};
use crate::ops::{Act, Choices, HeadSplit, MatMul, Op, Scores, Target};
use crate::plan::{self, Options};
use crate::reference;
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};
pub use checks::{Check, Outcome, checks, largest, quick, way};
use layers::{layer_norm, linear, rms_norm};
use quick::QUICK;
use std::sync::Arc;

/// One small graph with one output `y`.
pub struct Case {
    /// Op and sizes.
    pub name: String,
    /// The graph; weights are noise, see [`weight`].
    pub graph: Graph,
    /// What its states hold before a run.
    pub states: Vec<(String, HostTensor)>,
    /// Largest f32 difference allowed, absolute and relative.
    pub tolerance: f32,
    /// True for the cases that `doctor` runs: one or two of every kernel.
    pub quick: bool,
}

/// Ids are drawn up to a little beyond this; the case's table has as many rows.
const VOCABULARY: u32 = 23;

impl Case {
    /// The inputs, made of noise; a different draw for each input and case.
    pub fn inputs(&self) -> Vec<(&str, HostTensor)> {
        let inputs = self.graph.nodes().iter().filter_map(|n| match &n.op {
            Op::Input { name } => Some((name.as_str(), fill(n.desc, seed(&self.name, name)))),
            _ => None,
        });
        inputs.collect()
    }

    /// Every way to run the case on an adapter: each candidate of each op that has several, or the
    /// launches for a GPU and for a CPU adapter where no op has.
    ///
    /// # Errors
    /// None that a case of [`all`] meets.
    pub fn ways(&self, target: &Target, options: &Options) -> Result<Vec<(Target, Options)>> {
        let plan = plan::compile(&self.graph, target, options.clone())?;
        let mut forced: Vec<String> = Vec::new();
        for choice in plan.steps.iter().filter_map(|step| step.choice.as_ref()) {
            forced.extend(choice.candidates.names.iter().map(|name| format!("{}={name}", choice.op)));
        }
        forced.sort();
        forced.dedup();
        if forced.is_empty() {
            let kinds = [target.cpu, !target.cpu];
            return Ok(kinds.map(|cpu| (Target { cpu, ..target.clone() }, options.clone())).into());
        }
        let choices = |f: &String| Choices::forced([f.as_str()]);
        forced
            .iter()
            .map(|f| Ok((target.clone(), Options { choices: choices(f)?, ..options.clone() })))
            .collect()
    }

    /// What the reference makes of the case; what it leaves in its states lies behind the result.
    ///
    /// # Errors
    /// None that a case of [`all`] meets.
    pub fn reference(&self) -> Result<HostTensor> {
        let mut states = self.states.iter().cloned().collect();
        let inputs = self.inputs();
        let y = reference::run_with_states(&self.graph, &|w, s| Ok(weight(w, s)), &inputs, &mut states)?;
        let left = self.states.iter().map(|(name, _)| Ok(states[name].clone()));
        joined(y, left)
    }

    /// What a device makes of the case under a target and options, states behind the result, and which
    /// kernels ran.
    ///
    /// # Errors
    /// Whatever compiling and running a plan may meet.
    pub fn run(
        &self,
        gpu: &Arc<Gpu>,
        target: &Target,
        options: Options,
    ) -> Result<(HostTensor, Vec<&'static str>)> {
        let plan = plan::compile(&self.graph, target, options)?;
        let kernels = plan.steps.iter().map(|s| s.kernel.name).collect();
        let store = Store::new();
        store.load(gpu, &plan, &|w, s| Ok(weight(w, s)))?;
        let inputs = self.inputs();
        let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
        let states = States::new();
        let mut executor = Executor::with_states(gpu.clone(), plan, &store, &states)?;
        for (name, contents) in &self.states {
            states.write(gpu, name, contents.clone())?;
        }
        let results = executor.run(&inputs)?;
        let left = self.states.iter().map(|(name, _)| states.read(gpu, name));
        Ok((joined(results, left)?, kernels))
    }
}

/// The result, and behind it what is left in states, if there are any.
fn joined(
    mut results: Vec<HostTensor>,
    states: impl Iterator<Item = Result<HostTensor>>,
) -> Result<HostTensor> {
    let states = states.collect::<Result<Vec<_>>>()?;
    let y = results.remove(0);
    if states.is_empty() {
        return Ok(y);
    }
    let all: Vec<f32> = std::iter::once(&y).chain(&states).flat_map(HostTensor::to_f32).collect();
    Ok(HostTensor::f32([all.len()], all))
}

/// Deterministic numbers in about [-1, 1] (a PCG step per element), different for each seed.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (((state >> 18) ^ state) >> 27) as u32;
            f32::from(bits.rotate_right((state >> 59) as u32) as u16) / 32_768.0 - 1.0
        })
        .collect()
}

/// A weight by its recipe: noise that depends on the recipe's text.
pub fn weight(recipe: &Weight, shape: Shape) -> HostTensor {
    let inner: usize = shape.dims().iter().skip(1).product();
    let mut data = Vec::new();
    for part in &recipe.parts {
        match part {
            Part::Zeros { rows } => data.extend(std::iter::repeat_n(0.0, rows * inner)),
            Part::Pairs(a, b) => {
                let half = Shape::new(&[&[shape.dims()[0] / 2], &shape.dims()[1..]].concat());
                let [a, b] = [a, b].map(|w| weight(w, half).to_f32());
                data.extend(a.chunks(inner).zip(b.chunks(inner)).flat_map(|(a, b)| a.iter().chain(b)));
            }
            Part::Tensor { name, rows, .. } => {
                let total = shape.dims()[0] / recipe.parts.len();
                let n = rows.as_ref().map_or(total, |r| r.len());
                data.extend(noise(seed(name, "weight"), n * inner));
            }
            Part::NormedTaps { .. } | Part::NormedBias { .. } => {
                let n = shape.dims()[0] / recipe.parts.len();
                data.extend(noise(seed(part.names()[0], "weight"), n * inner));
            }
        }
    }
    HostTensor::f32(shape, data)
}

fn seed(a: &str, b: &str) -> u64 {
    a.bytes().chain(b.bytes()).fold(7, |h, c| h.wrapping_mul(31).wrapping_add(u64::from(c)))
}

fn fill(desc: TensorDesc, seed: u64) -> HostTensor {
    let noise = noise(seed, desc.shape.elements());
    match desc.dtype {
        DType::U8 => HostTensor::u8(desc.shape, noise.iter().map(|x| (x * 127.0 + 128.0) as u8).collect()),
        DType::U32 => {
            let id = |x: &f32| ((x + 1.0) * 0.5 * (VOCABULARY + 2) as f32) as u32;
            HostTensor::u32(desc.shape, noise.iter().map(id).collect())
        }
        _ => HostTensor::f32(desc.shape, noise),
    }
}

fn case(name: impl Into<String>, tolerance: f32, build: impl FnOnce(&mut Graph) -> Value) -> Case {
    let mut graph = Graph::new();
    graph.scope("case");
    let y = build(&mut graph);
    graph.output("y", y);
    let name = name.into();
    Case { name, graph, states: Vec::new(), tolerance, quick: false }
}

fn x(g: &mut Graph, shape: impl Into<Shape>) -> Value {
    g.input("x", TensorDesc::f32(shape))
}

/// Every op case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    matmul(&mut cases);
    narrow::matmul(&mut cases);
    attention(&mut cases);
    narrow::attention(&mut cases);
    rows(&mut cases);
    elementwise(&mut cases);
    layout(&mut cases);
    sequence::all(&mut cases);
    text::all(&mut cases);
    pictures::all(&mut cases);
    for case in &mut cases {
        case.quick = QUICK.contains(&case.name.as_str());
    }
    cases
}

fn matmul(cases: &mut Vec<Case>) {
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
    for (b, t, h, d, ways) in [(1, 1, 1, 1, 3), (2, 5, 3, 12, 3), (3, 17, 2, 10, 1), (1, 65, 4, 32, 3)] {
        cases.push(case(format!("matmul heads {b}x{t}x{h}x{d} x{ways}"), 2e-5, |g| {
            let c = ways * h * d;
            let x = x(g, [b, t, 19]);
            let w = g.weight(Weight::tensor("w"), [c, 19]);
            let bias = g.weight(Weight::tensor("b"), [c]);
            let op = MatMul { bias: true, heads: Some(HeadSplit { ways, heads: h }), ..MatMul::default() };
            g.push(Op::MatMul(op), vec![x, w, bias])
        }));
    }
}

fn attention(cases: &mut Vec<Case>) {
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

fn rows(cases: &mut Vec<Case>) {
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

fn elementwise(cases: &mut Vec<Case>) {
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

fn layout(cases: &mut Vec<Case>) {
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
