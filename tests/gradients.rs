//! No GPU. The way back of every op against central differences of its reference, in the middle of a graph:
//! behind the op stands a tanh and a sum with weights, so that what arrives at it is never one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use vit_gpu::graph::{
    Graph, Places, RotaryTable, Storage, Value, Weight, differentiate, layer_of, recompute,
};
use vit_gpu::ops::{Act, Scores};
use vit_gpu::reference;
use vit_gpu::tensor::{DType, HostTensor, Shape, TensorDesc};

/// Deterministic numbers in [-1, 1].
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51ed_270b;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// What a case is built from: inputs of numbers, which are differentiated, and of ids.
struct Builder {
    g: Graph,
    numbers: Vec<(String, Value, HostTensor)>,
    others: Vec<(String, HostTensor)>,
}

impl Builder {
    fn number(&mut self, shape: &[usize]) -> Value {
        let (name, shape) = (format!("x{}", self.numbers.len()), Shape::new(shape));
        let v = self.g.input(&name, TensorDesc::f32(shape));
        let values = noise(self.numbers.len() as u64 + 11, shape.elements());
        self.numbers.push((name, v, HostTensor::f32(shape, values)));
        v
    }

    fn ids(&mut self, shape: &[usize], ids: &[u32]) -> Value {
        let (name, shape) = (format!("ids{}", self.others.len()), Shape::new(shape));
        let v = self.g.input(&name, TensorDesc::new(DType::U32, shape));
        self.others.push((name, HostTensor::u32(shape, ids.to_vec())));
        v
    }

    fn weights(&mut self, count: usize) -> Value {
        let v = self.g.input("weights", TensorDesc::f32([count]));
        self.others.push(("weights".to_owned(), HostTensor::f32([count], noise(5, count))));
        v
    }
}

/// The loss in f64, from its terms.
fn loss(g: &Graph, numbers: &[(String, HostTensor)], others: &[(String, HostTensor)]) -> f64 {
    let inputs: Vec<(&str, HostTensor)> =
        numbers.iter().chain(others).map(|(name, t)| (name.as_str(), t.clone())).collect();
    let terms =
        reference::run(g, &|_, shape| Ok(HostTensor::f32(shape, vec![0.0; shape.elements()])), &inputs);
    terms.unwrap()[0].to_f32().iter().map(|&x| f64::from(x)).sum()
}

/// Checks every number operand of what `build` makes.
fn check(name: &str, build: impl FnOnce(&mut Builder) -> Value) {
    let mut b = Builder { g: Graph::new(), numbers: vec![], others: vec![] };
    b.g.scope(name);
    let y = build(&mut b);
    b.g.check().unwrap_or_else(|e| panic!("{name}: {e}"));
    let count = b.g.shape(y).elements();
    let flat = b.g.reshape(y, [count]);
    let bent = b.g.act(flat, Act::Tanh);
    let weights = b.weights(count);
    let terms = b.g.mul(bent, weights);
    let total = b.g.weighted_sum(bent, weights);
    let mut forward = b.g.clone();
    forward.output("terms", terms);
    let forward = forward.select(&["terms"]).unwrap();
    let wrt: Vec<Value> = b.numbers.iter().map(|(_, v, _)| *v).collect();
    let gradients = differentiate(&mut b.g, total, &wrt).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (i, v) in gradients.iter().enumerate() {
        b.g.output(format!("gradient {i}"), *v);
    }
    let numbers: Vec<(String, HostTensor)> =
        b.numbers.iter().map(|(n, _, t)| (n.clone(), t.clone())).collect();
    let inputs: Vec<(&str, HostTensor)> =
        numbers.iter().chain(&b.others).map(|(n, t)| (n.as_str(), t.clone())).collect();
    let zeros = |_: &Weight, shape: Shape| Ok(HostTensor::f32(shape, vec![0.0; shape.elements()]));
    let found = reference::run(&b.g, &zeros, &inputs).unwrap();
    for (i, gradient) in found.iter().enumerate() {
        assert_eq!(gradient.shape(), numbers[i].1.shape(), "{name}: operand {i}");
        let gradient = gradient.to_f32();
        let length = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        for direction in 0..4 {
            let along = noise(100 + direction, gradient.len());
            let norm = along.iter().map(|a| a * a).sum::<f32>().sqrt();
            let along: Vec<f32> = along.iter().map(|a| a / norm).collect();
            let step = 1e-2f32;
            let moved = |sign: f32| {
                let mut numbers = numbers.clone();
                let (shape, values) = (numbers[i].1.shape(), numbers[i].1.to_f32());
                let values = values.iter().zip(&along).map(|(x, a)| x + sign * step * a).collect();
                numbers[i].1 = HostTensor::f32(shape, values);
                loss(&forward, &numbers, &b.others)
            };
            let want = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
            let got: f64 = gradient.iter().zip(&along).map(|(g, a)| f64::from(*g) * f64::from(*a)).sum();
            let near = 1e-3 * f64::from(length.max(0.05));
            assert!(
                (got - want).abs() <= near,
                "{name}: operand {i} direction {direction}: {got} is not {want}"
            );
        }
    }
}

#[test]
fn linear_layers_and_elements() {
    for turned in [[false, false], [false, true], [true, false], [true, true]] {
        check("product", |b| {
            let sizes = |turned: bool, [rows, columns]: [usize; 2]| match turned {
                true => [columns, rows],
                false => [rows, columns],
            };
            let (x, w) = (b.number(&sizes(turned[0], [3, 5])), b.number(&sizes(turned[1], [5, 4])));
            b.g.product([x, w], turned)
        });
    }
    check("linear", |b| {
        let (x, w, bias) = (b.number(&[2, 3, 5]), b.number(&[7, 5]), b.number(&[7]));
        b.g.linear(x, w, Some(bias))
    });
    check("one weight, used twice", |b| {
        let (x, w) = (b.number(&[3, 5]), b.number(&[5, 5]));
        let y = b.g.linear(x, w, None);
        b.g.linear(y, w, None)
    });
    check("transpose", |b| {
        let x = b.number(&[3, 5]);
        b.g.transpose(x)
    });
    for act in [Act::Gelu, Act::GeluTanh, Act::QuickGelu, Act::Silu, Act::Tanh, Act::Sigmoid] {
        check(&format!("{act:?}"), |b| {
            let x = b.number(&[4, 5]);
            b.g.act(x, act)
        });
        check(&format!("glu {act:?}"), |b| {
            let x = b.number(&[4, 6]);
            b.g.glu(x, act)
        });
    }
    check("relu, away from its corner", |b| {
        let x = b.number(&[3]);
        let far = b.g.fill([3], 2.0);
        let x = b.g.add(x, far);
        b.g.act(x, Act::Relu)
    });
    check("scale", |b| {
        let x = b.number(&[4, 5]);
        b.g.scale(x, -1.5)
    });
    for suffix in [&[5][..], &[3, 5], &[2, 3, 5], &[1, 5]] {
        check(&format!("add {suffix:?}"), |b| {
            let (x, y) = (b.number(&[2, 3, 5]), b.number(suffix));
            b.g.add(x, y)
        });
        check(&format!("mul {suffix:?}"), |b| {
            let (x, y) = (b.number(&[2, 3, 5]), b.number(suffix));
            b.g.mul(x, y)
        });
    }
    check("a value times itself", |b| {
        let x = b.number(&[7]);
        b.g.mul(x, x)
    });
}

#[test]
fn norms() {
    check("layer norm", |b| {
        let (x, gain, bias) = (b.number(&[2, 3, 8]), b.number(&[8]), b.number(&[8]));
        b.g.layer_norm(x, gain, bias, 1e-5)
    });
    check("rms norm", |b| {
        let (x, gain) = (b.number(&[5, 8]), b.number(&[8]));
        b.g.rms_norm(x, gain, 1e-5)
    });
}

#[test]
fn tokens_and_layout() {
    check("split heads", |b| {
        let x = b.number(&[2, 3, 8]);
        b.g.split_heads(x, 2)
    });
    check("concat tokens", |b| {
        let (shared, x, y) = (b.number(&[1, 4]), b.number(&[2, 3, 4]), b.number(&[2, 2, 4]));
        b.g.concat_tokens(2, &[shared, x, y])
    });
    check("concat width", |b| {
        let (x, y) = (b.number(&[3, 4]), b.number(&[3, 2]));
        b.g.concat_width(&[x, y])
    });
    check("slices that overlap, and one that is missing", |b| {
        let x = b.number(&[2, 6, 3]);
        let parts = [0..2, 1..3, 4..5].map(|range| b.g.slice_tokens(x, range));
        b.g.concat_tokens(2, &parts)
    });
    check("a slice beside the whole", |b| {
        let x = b.number(&[2, 3, 4]);
        let first = b.g.token(x, 0);
        let mean = b.g.mean_tokens(x, 1..3);
        b.g.concat_width(&[first, mean])
    });
    check("mean of lengths", |b| {
        let x = b.number(&[3, 4, 5]);
        let lengths = b.ids(&[3], &[2, 4, 0]);
        b.g.mean_of(x, lengths)
    });
    check("take tokens", |b| {
        let x = b.number(&[2, 4, 3]);
        let places = b.ids(&[2, 3], &[3, 0, 3, 1, 9, 1]);
        b.g.take_tokens(x, places)
    });
    check("gather", |b| {
        let table = b.number(&[5, 3]);
        let ids = b.ids(&[2, 3], &[4, 0, 4, 1, 9, 4]);
        b.g.gather(table, ids)
    });
    check("rotary", |b| {
        let x = b.number(&[2, 2, 3, 4]);
        let angles = [0.3f32, 1.1, 0.7, 2.0, -0.4, 0.9];
        let table: Vec<f32> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let name = "table".to_owned();
        let v = b.g.input(&name, TensorDesc::f32([3, 4]));
        b.others.push((name, HostTensor::f32([3, 4], table)));
        let step = b.ids(&[1], &[0]);
        b.g.rotary(x, v, step)
    });
    check("rotary halves", |b| {
        let x = b.number(&[2, 2, 3, 6]);
        let table = RotaryTable { places: Places::Line(3), width: 6, base: 7.0.into() };
        let v = b.g.weight(Weight::rotary(table), [3, 6]);
        b.g.rotary_halves(x, v)
    });
}

#[test]
fn attention() {
    let cases = [(false, false, None), (true, false, None), (false, true, Some(15)), (true, true, Some(8))];
    for (causal, lengths, bias) in cases {
        check(&format!("attention causal={causal} lengths={lengths} bias={bias:?}"), |b| {
            let (t, s) = (3, 5);
            let q = b.number(&[2, 2, t, 4]);
            let [k, v] = [0, 1].map(|_| b.number(&[2, 2, s, 4]));
            let bias = bias.map(|n| if n == 15 { b.number(&[2, t, s]) } else { b.number(&[2, t + s - 1]) });
            let lengths = lengths.then(|| b.ids(&[2], &[4, 5]));
            b.g.attention([q, k, v], Scores { scale: 0.7, bias, causal, window: None, lengths })
        });
    }
}

#[test]
fn losses() {
    for smoothing in [0.0, 0.1] {
        check(&format!("cross entropy {smoothing}"), |b| {
            let logits = b.number(&[4, 5]);
            let labels = b.ids(&[4], &[3, 0, u32::MAX, 4]);
            b.g.cross_entropy(logits, labels, smoothing)
        });
    }
    check("squared error", |b| {
        let (x, y) = (b.number(&[3, 5]), b.number(&[3, 5]));
        b.g.squared_error(x, y)
    });
}

#[test]
fn what_cannot_be_trained_is_said() {
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32([2, 3]));
    let idle = g.input("idle", TensorDesc::f32([2]));
    let weights = g.input("w", TensorDesc::f32([6]));
    g.scope("layer.3.softmax");
    let y = g.softmax(x);
    let flat = g.reshape(y, [6]);
    let loss = g.weighted_sum(flat, weights);
    let error = differentiate(&mut g.clone(), loss, &[x]).unwrap_err().to_string();
    assert!(
        error.contains("layer.3.softmax") && error.contains("`softmax`") && error.contains("`x`"),
        "{error}"
    );
    let flat = g.reshape(x, [6]);
    let loss = g.weighted_sum(flat, weights);
    let error = differentiate(&mut g.clone(), loss, &[x, idle]).unwrap_err().to_string();
    assert!(error.contains("does not depend on `idle`"), "{error}");
    let error = differentiate(&mut g.clone(), flat, &[x]).unwrap_err().to_string();
    assert!(error.contains("[6]"), "{error}");
}

/// Two layers of two activations each: the gradients are the same, and in the backward half nothing within a layer
/// is read but copies.
#[test]
fn the_same_gradients_from_copies() {
    let mut g = Graph::new();
    let x = g.input("x", TensorDesc::f32([2, 3]));
    let w = g.state("w", TensorDesc::f32([2, 3]), Storage::AsDeclared);
    let mut y = g.mul(x, w);
    for layer in 0..2 {
        g.scope(format!("layer.{layer}.mlp"));
        let once = g.act(y, Act::Gelu);
        let twice = g.act(once, Act::Silu);
        y = g.add(y, twice);
    }
    g.scope("loss");
    let weights = g.input("weights", TensorDesc::f32([2]));
    let target = g.input("target", TensorDesc::f32([2, 3]));
    let errors = g.squared_error(y, target);
    let loss = g.weighted_sum(errors, weights);
    g.output("loss", loss);
    let gradients = differentiate(&mut g, loss, &[w]).unwrap();
    let (mut again, replaced) = recompute(&g, loss, &gradients).unwrap();
    g.output("dw", gradients[0]);
    again.output("dw", replaced[0]);
    let kept = |graph: &Graph| {
        let behind = &graph.nodes()[loss.index() + 1..];
        let read = behind.iter().flat_map(|n| &n.inputs).filter(|v| v.index() <= loss.index());
        read.filter(|v| layer_of(&graph.node(**v).label).is_some()).collect::<BTreeSet<_>>().len()
    };
    // Without copies each layer keeps what its second activation reads, too.
    assert_eq!((kept(&g), kept(&again)), (4, 2));
    let numbers = |from: f32| HostTensor::f32([2, 3], (0..6).map(|i| (from + i as f32).sin()).collect());
    let run = |graph: &Graph| {
        let inputs = ["x", "target"].map(|n| (n, numbers(n.len() as f32)));
        let weights = ("weights", HostTensor::f32([2], vec![0.5, 2.0]));
        let inputs: Vec<_> = inputs.into_iter().chain([weights]).collect();
        let mut states = reference::States::new();
        states.insert("w".to_owned(), numbers(9.0));
        let load = |_: &Weight, shape| Ok(HostTensor::f32(shape, vec![]));
        reference::run_with_states(graph, &load, &inputs, &mut states).unwrap()
    };
    assert_eq!(run(&g), run(&again));
}
