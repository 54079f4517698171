//! No GPU. The gradients that attention says of itself, against central differences of its reference.
#![allow(clippy::unwrap_used, reason = "tests")]

use vit_gpu::graph::{Backward, Gradient, Graph, Value};
use vit_gpu::ops::{Attention, OpDef, Scores};
use vit_gpu::reference;
use vit_gpu::tensor::{HostTensor, Shape, TensorDesc};

#[derive(Debug, Clone, Copy)]
struct Problem {
    sizes: [usize; 5],
    /// Shape of the bias.
    bias: Option<&'static [usize]>,
    causal: bool,
    lengths: Option<&'static [u32]>,
}

/// Numbers in [-1, 1], different for each seed.
fn noise(seed: u32, shape: &[usize]) -> HostTensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let data = (0..shape.iter().product()).map(|_| next()).collect();
    HostTensor::f32(Shape::new(shape), data)
}

const NAMES: [&str; 4] = ["q", "k", "v", "bias"];

impl Problem {
    fn shapes(&self) -> Vec<Vec<usize>> {
        let [b, h, t, s, d] = self.sizes;
        let qkv = [vec![b, h, t, d], vec![b, h, s, d], vec![b, h, s, d]];
        qkv.into_iter().chain(self.bias.map(<[usize]>::to_vec)).collect()
    }

    /// The graph of the attention, with its operands and its result.
    fn graph(&self) -> (Graph, Vec<Value>, Value, Scores) {
        let mut g = Graph::new();
        let shapes = self.shapes();
        let named = shapes.iter().zip(NAMES);
        let mut operands: Vec<Value> = named.map(|(s, name)| g.input(name, noise(0, s).desc())).collect();
        let bias = operands.get(3).copied();
        let lengths = self.lengths.map(|l| g.input("lengths", HostTensor::u32([l.len()], l.to_vec()).desc()));
        let scores = Scores { scale: 0.7, bias, causal: self.causal, window: None, lengths };
        let y = g.attention([operands[0], operands[1], operands[2]], scores);
        operands.extend(lengths);
        (g, operands, y, scores)
    }

    fn inputs(&self, operands: &[HostTensor]) -> Vec<(&'static str, HostTensor)> {
        let mut inputs: Vec<_> = NAMES.into_iter().zip(operands.iter().cloned()).collect();
        inputs.extend(self.lengths.map(|l| ("lengths", HostTensor::u32([l.len()], l.to_vec()))));
        inputs
    }
}

fn run(g: &Graph, inputs: &[(&str, HostTensor)]) -> Vec<HostTensor> {
    reference::run(g, &|_, _| unreachable!("no weights"), inputs).unwrap()
}

/// Sum of dy times the attention of the operands.
fn loss(problem: &Problem, operands: &[HostTensor], dy: &HostTensor) -> f64 {
    let (mut g, _, y, _) = problem.graph();
    g.output("y", y);
    let y = run(&g, &problem.inputs(operands)).remove(0);
    y.to_f32().iter().zip(dy.to_f32()).map(|(y, dy)| f64::from(*y) * f64::from(dy)).sum()
}

/// The gradients of the operands by the op's own word.
fn gradients(problem: &Problem, operands: &[HostTensor], dy: &HostTensor) -> Vec<HostTensor> {
    let (mut g, inputs, y, scores) = problem.graph();
    let grad = g.input("dy", TensorDesc::f32(g.shape(y)));
    let op = Attention {
        packed: false,
        bias: scores.bias.is_some(),
        causal: scores.causal,
        window: scores.window,
        lengths: scores.lengths.is_some(),
        scale: scores.scale,
    };
    let needed = vec![true; inputs.len()];
    let found = op.vjp(&mut Backward { g: &mut g, inputs: &inputs, y, dy: grad, needed: &needed }).unwrap();
    assert_eq!(found.len(), inputs.len());
    for (i, gradient) in found.into_iter().enumerate() {
        match gradient {
            Gradient::Whole(v) => {
                assert_eq!(g.shape(v), g.shape(inputs[i]));
                g.output(NAMES[i], v);
            }
            Gradient::None => assert_eq!(Some(inputs[i]), scores.lengths, "operand {i} has no gradient"),
            Gradient::Tokens(..) => panic!("operand {i} is no row of tokens"),
        }
    }
    let mut inputs = problem.inputs(operands);
    inputs.push(("dy", dy.clone()));
    run(&g, &inputs)
}

fn problems() -> Vec<Problem> {
    let plain = Problem { sizes: [1, 1, 1, 1, 1], bias: None, causal: false, lengths: None };
    vec![
        plain,
        Problem { sizes: [2, 3, 5, 7, 4], ..plain },
        Problem { sizes: [1, 2, 5, 7, 3], causal: true, ..plain },
        Problem { sizes: [2, 2, 5, 7, 3], bias: Some(&[2, 5, 7]), ..plain },
        Problem { sizes: [2, 2, 4, 6, 3], bias: Some(&[2, 9]), causal: true, ..plain },
        Problem { sizes: [3, 1, 4, 5, 5], lengths: Some(&[0, 3, 9]), ..plain },
        Problem { sizes: [2, 2, 4, 4, 2], bias: Some(&[2, 7]), causal: true, lengths: Some(&[4, 2]) },
        Problem { sizes: [2, 1, 6, 3, 2], bias: Some(&[1, 8]), ..plain },
    ]
}

#[test]
fn gradients_of_attention_match_central_differences() {
    const STEP: f32 = 1e-2;
    for problem in problems() {
        let shapes = problem.shapes();
        let operands: Vec<HostTensor> = shapes.iter().zip(1..).map(|(s, seed)| noise(seed, s)).collect();
        let [b, h, t, _, d] = problem.sizes;
        let dy = noise(99, &[b, t, h * d]);
        let found = gradients(&problem, &operands, &dy);
        for (i, found) in found.iter().enumerate() {
            let found = found.to_f32();
            assert_eq!(found.len(), shapes[i].iter().product::<usize>());
            for (at, &found) in found.iter().enumerate() {
                let moved = |step: f32| {
                    let mut operands = operands.clone();
                    let mut values = operands[i].to_f32();
                    values[at] += step;
                    operands[i] = HostTensor::f32(operands[i].shape(), values);
                    loss(&problem, &operands, &dy)
                };
                let want = ((moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP)) as f32;
                let error = (found - want).abs();
                assert!(
                    error <= 1e-3 * (1.0 + want.abs()),
                    "{} {at} of {problem:?}: {found}, not {want}",
                    NAMES[i]
                );
            }
        }
    }
}

/// A NaN that nobody sees stays where it is; a NaN that somebody sees goes wherever it belongs.
#[test]
fn what_nobody_sees_has_no_gradient_and_does_not_leak() {
    let problem = Problem { sizes: [1, 1, 3, 5, 4], bias: None, causal: false, lengths: Some(&[2]) };
    let mut operands: Vec<HostTensor> = problem.shapes().iter().zip(1..).map(|(s, n)| noise(n, s)).collect();
    for i in [1, 2] {
        let mut values = operands[i].to_f32();
        values[2 * 4..].fill(f32::NAN);
        operands[i] = HostTensor::f32(operands[i].shape(), values);
    }
    let dy = noise(99, &[1, 3, 4]);
    let found = gradients(&problem, &operands, &dy);
    assert!(found[0].to_f32().iter().all(|x| x.is_finite() && *x != 0.0));
    for gradient in &found[1..3] {
        let values = gradient.to_f32();
        let (seen, unseen) = values.split_at(2 * 4);
        assert!(seen.iter().all(|x| x.is_finite() && *x != 0.0));
        assert!(unseen.iter().all(|x| *x == 0.0));
    }
    let mut values = operands[0].to_f32();
    values[4] = f32::NAN;
    operands[0] = HostTensor::f32(operands[0].shape(), values);
    let found = gradients(&problem, &operands, &dy);
    let nans =
        |t: &HostTensor| t.to_f32().chunks(4).map(|row| row.iter().all(|x| x.is_nan())).collect::<Vec<_>>();
    assert_eq!(nans(&found[0]), [false, true, false]);
    assert_eq!(nans(&found[1]), [true, true, false, false, false]);
    assert_eq!(nans(&found[2]), [true, true, false, false, false]);
}

#[test]
fn only_what_is_needed_is_computed() {
    let problem =
        Problem { sizes: [2, 2, 4, 4, 2], bias: Some(&[2, 7]), causal: true, lengths: Some(&[4, 2]) };
    for (needed, ops) in [
        ([true, false, false, false, false], vec!["attention_rows", "attention_grad_q"]),
        (
            [false, false, true, false, false],
            vec!["attention_rows", "attention_grad_kv", "reshape", "slice_tokens", "reshape"],
        ),
        ([false, false, false, true, false], vec!["attention_rows", "attention_grad_bias"]),
    ] {
        let (mut g, inputs, y, s) = problem.graph();
        let dy = g.input("dy", TensorDesc::f32(g.shape(y)));
        let before = g.nodes().len();
        let op = Attention {
            packed: false,
            bias: true,
            causal: true,
            window: None,
            lengths: true,
            scale: s.scale,
        };
        let found = op.vjp(&mut Backward { g: &mut g, inputs: &inputs, y, dy, needed: &needed }).unwrap();
        g.check().unwrap();
        let names: Vec<_> = g.nodes()[before..].iter().map(|n| n.op.name()).collect();
        assert_eq!(names, ops);
        let given: Vec<bool> = found.iter().map(|f| *f != Gradient::None).collect();
        assert_eq!(given, needed);
    }
    let packed =
        Attention { packed: true, bias: false, causal: false, window: None, lengths: false, scale: 1.0 };
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32([3, 1, 2, 2]));
    let y = g.push(packed, vec![x]);
    assert!(packed.vjp(&mut Backward { g: &mut g, inputs: &[x], y, dy: y, needed: &[true] }).is_none());
}
