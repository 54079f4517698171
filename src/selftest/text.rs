//! Cases of what texts need: sequences of different lengths in one batch, biases by distance, attention to
//! another sequence, and how likely a text is.

use super::case::{Case, case, x};
use super::sequence::with_states;
use crate::graph::{Graph, Storage, Value};
use crate::ops::{Cache, Scores};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// A u32 operand of given contents: a state, because inputs of u32 are noise.
fn words(g: &mut Graph, states: &mut Vec<(String, HostTensor)>, name: &str, tensor: HostTensor) -> Value {
    let v = g.state(name, tensor.desc(), Storage::AsDeclared);
    states.push((name.to_owned(), tensor));
    v
}

fn case_with(
    name: impl Into<String>,
    tolerance: f32,
    build: impl FnOnce(&mut Graph, &mut Vec<(String, HostTensor)>) -> Value,
) -> Case {
    let mut states = Vec::new();
    let case = case(name, tolerance, |g| build(g, &mut states));
    Case { states, ..case }
}

pub(super) fn all(cases: &mut Vec<Case>) {
    ragged(cases);
    windows(cases);
    distances(cases);
    trees(cases);
    cross(cases);
    cases.push(case_with("log probability 7x1001", 2e-5, |g, states| {
        let logits = x(g, [7, 1001]);
        let ids = words(g, states, "ids", HostTensor::u32([9], vec![8, 8, 0, 1000, 500, 3, 7, 999, 1]));
        g.log_probability(logits, ids, 2)
    }));
    cases.push(case_with("tokens by place 3x7x10", 0.0, |g, states| {
        let x = x(g, [3, 7, 10]);
        let places = words(g, states, "places", HostTensor::u32([3, 2], vec![6, 0, 3, 3, 99, 1]));
        g.take_tokens(x, places)
    }));
    cases.push(case_with("mean of the first 3x7x10", 1e-6, |g, states| {
        let x = x(g, [3, 7, 10]);
        let lengths = words(g, states, "lengths", HostTensor::u32([3], vec![7, 1, 4]));
        g.mean_of(x, lengths)
    }));
}

/// Attention of sequences that are padded.
fn ragged(cases: &mut Vec<Case>) {
    for (b, h, t, s, d, lengths, bias, causal) in [
        (3, 2, 9, 9, 12, vec![9, 1, 4], false, false),
        (2, 1, 5, 70, 8, vec![0, 66], false, false),
        (4, 1, 33, 33, 10, vec![1, 32, 33, 99], true, false),
        (2, 3, 40, 40, 12, vec![17, 40], true, true),
        (2, 2, 66, 66, 16, vec![65, 20], false, true),
    ] {
        let name = format!("attention of lengths {b}x{h}x{t}x{s}x{d} causal={causal} bias={bias}");
        let build = |g: &mut Graph, states: &mut Vec<(String, HostTensor)>, weights: bool| {
            let q = g.input("q", TensorDesc::f32([b, h, t, d]));
            let [k, v] = ["k", "v"].map(|n| g.input(n, TensorDesc::f32([b, h, s, d])));
            let bias = bias.then(|| g.input("bias", TensorDesc::f32([h, t + s - 1])));
            let lengths = Some(words(g, states, "lengths", HostTensor::u32([b], lengths.clone())));
            let scores = Scores { scale: 4.0 / (d as f32).sqrt(), bias, causal, window: None, lengths };
            if weights { g.attention_weights([q, k], scores) } else { g.attention([q, k, v], scores) }
        };
        cases.push(case_with(name.clone(), 2e-5, |g, states| build(g, states, false)));
        cases.push(case_with(format!("{name} weights"), 2e-5, |g, states| build(g, states, true)));
    }
}

/// Attention of keys near to their query, with queries behind the end of their sequence.
fn windows(cases: &mut Vec<Case>) {
    for (b, h, t, s, d, window, lengths, bias, causal) in [
        (1, 1, 1, 1, 4, 0, vec![], false, false),
        (2, 3, 9, 9, 12, 0, vec![], false, false),
        (2, 1, 37, 37, 8, 3, vec![], false, false),
        (1, 2, 5, 70, 10, 8, vec![], true, false),
        (3, 2, 45, 45, 12, 4, vec![45, 1, 20], false, false),
        (1, 1, 40, 40, 64, 400, vec![17], false, false),
        (2, 2, 66, 66, 16, 7, vec![65, 20], true, true),
        (1, 2, 300, 300, 64, 64, vec![290], false, false),
        (1, 1, 90, 90, 140, 11, vec![], false, false),
    ] {
        let name = format!(
            "attention of a window of {window} {b}x{h}x{t}x{s}x{d} lengths={lengths:?} causal={causal} bias={bias}"
        );
        let build = |g: &mut Graph, states: &mut Vec<(String, HostTensor)>, weights: bool| {
            let q = g.input("q", TensorDesc::f32([b, h, t, d]));
            let [k, v] = ["k", "v"].map(|n| g.input(n, TensorDesc::f32([b, h, s, d])));
            let bias = bias.then(|| g.input("bias", TensorDesc::f32([h, t + s - 1])));
            let counted = !lengths.is_empty();
            let lengths = counted.then(|| words(g, states, "lengths", HostTensor::u32([b], lengths.clone())));
            let scores =
                Scores { scale: 4.0 / (d as f32).sqrt(), bias, causal, window: Some(window), lengths };
            if weights { g.attention_weights([q, k], scores) } else { g.attention([q, k, v], scores) }
        };
        cases.push(case_with(name.clone(), 2e-5, |g, states| build(g, states, false)));
        cases.push(case_with(format!("{name} weights"), 2e-5, |g, states| build(g, states, true)));
    }
}

/// Attention over a cache with a bias by distance: of a prompt, and of a step.
fn distances(cases: &mut Vec<Case>) {
    for (b, h, t, positions, d, place, columns) in [
        (2, 3, 1, 9, 12, 8, 9),
        (1, 2, 3, 70, 10, 33, 100),
        (1, 1, 1, 2100, 8, 2099, 2100),
        (2, 2, 17, 40, 12, 0, 40),
    ] {
        let prompt = place == 0;
        let name = format!("cached attention by distance {b}x{h}x{t}x{d} at {place} of {positions}");
        cases.push(with_states(name, 2e-5, |s| {
            let (step, kv) = (s.step(place), s.cache(b, h, positions, d));
            let [q, k, v] = ["q", "k", "v"].map(|n| s.graph.input(n, TensorDesc::f32([b, h, t, d])));
            let bias = Some(s.graph.input("bias", TensorDesc::f32([h, columns])));
            let cache = Cache { kv, step, rows: None };
            s.graph.cached_attention([q, k, v], cache, prompt, bias, 1.0)
        }));
    }
}

/// Attention over a cache whose rows are shared by sequences that have split; a prompt that all share.
fn trees(cases: &mut Vec<Case>) {
    for (b, h, t, positions, d, place) in [(3, 2, 1, 9, 12, 6), (4, 1, 2, 600, 10, 590)] {
        let rows: Vec<u32> = (0..b * positions).map(|i| (i * 7 / 3 % b) as u32).collect();
        cases.push(with_states(format!("cached attention of a tree {b}x{h}x{t}x{d}"), 2e-5, |s| {
            let (step, kv) = (s.step(place), s.cache(b, h, positions, d));
            let rows = s.state("rows", HostTensor::u32([b, positions], rows.clone()), Storage::AsDeclared);
            let [q, k, v] = ["q", "k", "v"].map(|n| s.graph.input(n, TensorDesc::f32([b, h, t, d])));
            let cache = Cache { kv, step, rows: Some(rows) };
            s.graph.cached_attention([q, k, v], cache, false, None, 0.7)
        }));
    }
    cases.push(with_states("cached attention of a prompt for all 1/3x2x5x12", 2e-5, |s| {
        let (step, kv) = (s.step(0), s.cache(3, 2, 40, 12));
        let [q, k, v] = ["q", "k", "v"].map(|n| s.graph.input(n, TensorDesc::f32([1, 2, 5, 12])));
        s.graph.cached_attention([q, k, v], Cache { kv, step, rows: None }, true, None, 0.7)
    }));
}

/// Attention to another sequence: entered with it, and later.
fn cross(cases: &mut Vec<Case>) {
    for (b, sources, h, t, length, d, positions) in
        [(2, 2, 3, 1, 9, 12, 9), (4, 1, 2, 5, 30, 10, 33), (2, 1, 1, 1, 600, 16, 640), (1, 1, 1, 3, 7, 64, 7)]
    {
        let lengths: Vec<u32> = (0..b as u32).map(|i| (length as u32 + 2) / (i + 1)).collect();
        for enter in [true, false] {
            let name = format!("cross attention {b}/{sources}x{h}x{t}x{length}x{d} enter={enter}");
            cases.push(with_states(name, 2e-5, |s| {
                let kv = s.cache(b, h, positions, d);
                let lengths = s.state("lengths", HostTensor::u32([b], lengths.clone()), Storage::AsDeclared);
                debug_assert_eq!(s.graph.desc(lengths).dtype, DType::U32);
                let q = s.graph.input("q", TensorDesc::f32([b, h, t, d]));
                let source = TensorDesc::f32([sources, h, length, d]);
                let new = enter.then(|| ["k", "v"].map(|n| s.graph.input(n, source)));
                s.graph.cross_attention(q, new, [kv, lengths], 0.5)
            }));
        }
    }
}
