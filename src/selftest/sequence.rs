//! Cases of what a token loop is made of: caches, rotations, embeddings by sequence, linear layers of a
//! few rows with what rides along, draws. Their states begin with contents of their own, and what a run
//! leaves in them is compared, too.

use super::case::{Case, VOCABULARY, case, noise, x};
use super::layers::{layer_norm, linear, rms_norm};
use crate::graph::{Graph, Storage, Value, Weight};
use crate::ops::{
    Act, Cache, EmbedOrdered, EmbedSequence, Guidance, LogitsRules, Sample, Sampling, Scores, cache_shape,
};
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// A case with states: declares them by the contents they begin with.
pub(super) struct States<'a> {
    pub(super) graph: &'a mut Graph,
    contents: Vec<(String, HostTensor)>,
}

impl States<'_> {
    pub(super) fn state(&mut self, name: &str, contents: HostTensor, store: Storage) -> Value {
        let v = self.graph.state(name, contents.desc(), store);
        self.contents.push((name.to_owned(), contents));
        v
    }

    pub(super) fn step(&mut self, place: u32) -> Value {
        self.state("step", HostTensor::u32([4], vec![place, 0, 0, 0]), Storage::AsDeclared)
    }

    pub(super) fn cache(&mut self, b: usize, h: usize, positions: usize, d: usize) -> Value {
        let shape = cache_shape(b, h, positions, d);
        // Columns beyond the head width are zeros and stay so.
        let width = shape.dims()[3];
        let kept = |(i, x): (usize, f32)| {
            let keys = shape.elements() / 2;
            let column = if i < keys { i / 4 / positions % (width / 4) * 4 + i % 4 } else { i % width };
            if column < d { x } else { 0.0 }
        };
        let data = noise(5, shape.elements()).into_iter().enumerate().map(kept).collect();
        self.state("kv", HostTensor::f32(shape, data), Storage::AsActivations)
    }

    fn table(&mut self, places: usize, d: usize) -> Value {
        self.state("rotary", HostTensor::f32([places, d], noise(9, places * d)), Storage::AsDeclared)
    }
}

pub(super) fn with_states(
    name: impl Into<String>,
    tolerance: f32,
    build: impl FnOnce(&mut States) -> Value,
) -> Case {
    let mut contents = Vec::new();
    let case = case(name, tolerance, |graph| {
        let mut states = States { graph, contents: Vec::new() };
        let y = build(&mut states);
        contents = states.contents;
        y
    });
    Case { states: contents, ..case }
}

pub(super) fn all(cases: &mut Vec<Case>) {
    attention(cases);
    projections(cases);
    few_rows(cases);
    tokens(cases);
    ordered(cases);
    rules(cases);
    draws(cases);
}

fn attention(cases: &mut Vec<Case>) {
    let sizes = [
        (1, 1, 1, 1, 1, 0),
        (2, 3, 1, 5, 12, 4),
        (1, 2, 3, 70, 10, 33),
        (3, 1, 1, 65, 64, 64),
        (1, 1, 2, 600, 20, 590),
        (1, 2, 1, 2100, 8, 2099),
        (1, 2, 1, 2100, 8, 3),
        (1, 1, 1, 9, 256, 8),
        (1, 1, 2, 9, 255, 7),
    ];
    for (b, h, t, positions, d, place) in sizes {
        let name = format!("cached attention {b}x{h}x{t}x{d} at {place} of {positions}");
        cases.push(with_states(name, 2e-5, |s| {
            let (step, kv) = (s.step(place), s.cache(b, h, positions, d));
            let [q, k, v] = ["q", "k", "v"].map(|n| s.graph.input(n, TensorDesc::f32([b, h, t, d])));
            s.graph.cached_attention(
                [q, k, v],
                Cache { kv, step, rows: None },
                false,
                None,
                4.0 / (d as f32).sqrt(),
            )
        }));
    }
    cases.push(with_states("cached attention of a prompt 2x2x17x12", 2e-5, |s| {
        let (step, kv) = (s.step(0), s.cache(2, 2, 40, 12));
        let [q, k, v] = ["q", "k", "v"].map(|n| s.graph.input(n, TensorDesc::f32([2, 2, 17, 12])));
        s.graph.cached_attention([q, k, v], Cache { kv, step, rows: None }, true, None, 0.7)
    }));
    for (place, packed) in [(0, "whole"), (3, "later")] {
        cases.push(with_states(format!("rotary {packed}"), 1e-6, |s| {
            let (step, table) = (s.step(place), s.table(6, 10));
            let q = s.graph.input("q", TensorDesc::f32([2, 3, 4, 10]));
            s.graph.rotary(q, table, step)
        }));
    }
    for (b, h, t, d, places) in [(1, 1, 1, 2, 1), (2, 3, 5, 12, 5), (1, 2, 70, 10, 64)] {
        cases.push(with_states(format!("rotary halves {b}x{h}x{t}x{d}"), 1e-6, |s| {
            let table = s.table(places, d);
            let q = s.graph.input("q", TensorDesc::f32([b, h, t, d]));
            s.graph.rotary_halves(q, table)
        }));
    }
    // One projection, turned as a whole.
    cases.push(with_states("attention of rotary halves from one projection", 5e-5, |s| {
        let table = s.table(19, 12);
        let x = x(s.graph, [2, 19, 24]);
        let [q, k, v] = [("q", true), ("k", false), ("v", true)].map(|(name, bias)| {
            let bias = bias.then(|| format!("{name}.bias"));
            let y = linear(s.graph, x, name, bias.as_deref(), 36);
            s.graph.split_heads(y, 3)
        });
        let [q, k] = [q, k].map(|x| s.graph.rotary_halves(x, table));
        s.graph.attention([q, k, v], Scores::scaled(0.3))
    }));
}

/// q, k and v of one tensor into a cache: for few rows one launch.
fn projections(cases: &mut Vec<Case>) {
    for (b, t, h, d, rotary, bias) in [
        (1, 1, 1, 4, false, false),
        (2, 1, 3, 12, true, false),
        (3, 1, 2, 10, true, true),
        (1, 5, 2, 15, false, true),
        (2, 8, 2, 16, true, true),
        (2, 9, 2, 16, true, true),
        (17, 1, 1, 8, true, false),
    ] {
        let name = format!("projection into a cache {b}x{t}x{h}x{d} rotary={rotary} bias={bias}");
        cases.push(with_states(name, 1e-4, |s| {
            let (step, kv) = (s.step(2), s.cache(b, h, 30, d));
            let table = rotary.then(|| s.table(30, d));
            let g = &mut *s.graph;
            let x = x(g, [b, t, 19]);
            let x = layer_norm(g, x, "shift");
            let [q, k, v] = ["q", "k", "v"].map(|name| {
                let bias = bias.then(|| format!("{name}.bias"));
                let y = linear(g, x, name, bias.as_deref(), h * d);
                g.split_heads(y, h)
            });
            let [q, k] = match table {
                Some(table) => [q, k].map(|x| g.rotary(x, table, step)),
                None => [q, k],
            };
            g.cached_attention([q, k, v], Cache { kv, step, rows: None }, false, None, 0.4)
        }));
    }
}

fn few_rows(cases: &mut Vec<Case>) {
    for (m, k, n) in [(1, 5, 3), (2, 36, 129), (3, 33, 64), (7, 768, 67), (16, 30, 20), (2, 768, 256)] {
        let tolerance = 1e-4;
        cases.push(case(format!("layer norm before matmul {m}x{k}x{n}"), tolerance, |g| {
            let x = x(g, [m, k]);
            let h = layer_norm(g, x, "shift");
            let y = linear(g, h, "w", Some("b"), n);
            let y = g.act(y, Act::GeluTanh);
            let r = g.input("r", TensorDesc::f32([m, n]));
            g.add(y, r)
        }));
        cases.push(case(format!("rms norm before gated matmul {m}x{k}x{n}"), tolerance, |g| {
            let x = x(g, [m, k]);
            let h = rms_norm(g, x);
            gated(g, h, n)
        }));
    }
    cases.push(case("gated matmul 40x20x33", 2e-5, |g| {
        let x = x(g, [40, 20]);
        gated(g, x, 33)
    }));
}

fn gated(g: &mut Graph, x: Value, n: usize) -> Value {
    let gate = linear(g, x, "gate", None, n);
    let gate = g.act(gate, Act::Silu);
    let value = linear(g, x, "value", None, n);
    g.mul(gate, value)
}

fn tokens(cases: &mut Vec<Case>) {
    let ids: Vec<u32> = (0..14).map(|i| i * 5 % (VOCABULARY + 2)).collect();
    for (rows, count, first, positions) in [(2, 1, 0, false), (4, 3, 1, true)] {
        cases.push(with_states(format!("embed {rows}x{count}"), 1e-6, |s| {
            let step = s.step(2);
            let ids = s.state("tokens", HostTensor::u32([2, 7], ids.clone()), Storage::AsDeclared);
            let table = s.graph.weight(Weight::tensor("table"), [VOCABULARY as usize, 13]);
            let positions = positions.then(|| s.graph.weight(Weight::tensor("positions"), [9, 13]));
            let op = EmbedSequence { rows, count, first, positions: false };
            s.graph.embed_sequence(op, [table, ids, step], positions)
        }));
    }
}

/// Tokens and instructions: of a prompt, of one token a step, of several, at the end of the cache.
fn ordered(cases: &mut Vec<Case>) {
    let ids: Vec<u32> = (0..14).map(|i| i * 5 % (VOCABULARY + 2)).collect();
    for (rows, place, first, spread, next) in
        [(2, 0, 1, 1, 0), (4, 0, 1, 7, 0), (2, 3, 0, 1, 1), (4, 2, 0, 5, 2), (2, 1, 0, 1, 5), (2, 5, 0, 1, 3)]
    {
        let (count, d) = (spread + next, 6);
        cases.push(with_states(format!("embed in any order {rows}x{count} at {place}"), 1e-6, |s| {
            let step = s.step(place);
            let ids = s.state("tokens", HostTensor::u32([2, 7], ids.clone()), Storage::AsDeclared);
            let rotary = s.table(12 + 6, d);
            let begins = s.state("place", HostTensor::u32([1], vec![77]), Storage::AsDeclared);
            let table = s.graph.weight(Weight::tensor("table"), [VOCABULARY as usize, 3 * d]);
            let instruction = s.graph.weight(Weight::tensor("instruction"), [1, 3 * d]);
            let op = EmbedOrdered { rows, count, first, spread, places: 12 };
            s.graph.embed_ordered(op, [table, ids, step, instruction, rotary, begins])
        }));
    }
}

/// Scores by rules: each alone, all together, at a place where a token is forced, beyond the end.
fn rules(cases: &mut Vec<Case>) {
    let none = LogitsRules { ends: vec![1, 7], first: 4, ..LogitsRules::default() };
    let all = LogitsRules {
        repetition_penalty: 1.7,
        no_repeat_ngram: 2,
        ends_from: 9,
        suppressed: (20..60).collect(),
        suppressed_first: vec![2, 4000],
        bad_words: vec![vec![11], vec![3, 3, 12], vec![5, 13]],
        ..none.clone()
    };
    for (name, vocabulary, rules) in [
        ("penalty", 77, LogitsRules { repetition_penalty: 3.0, ..none.clone() }),
        ("no pair twice", 10, LogitsRules { no_repeat_ngram: 2, ..none.clone() }),
        ("no token twice", 5003, LogitsRules { no_repeat_ngram: 1, ..none.clone() }),
        ("longer than the sequence", 9, LogitsRules { no_repeat_ngram: 9, ..none.clone() }),
        ("all", 1001, all.clone()),
        ("first forced", 40, LogitsRules { forced_first: Some(3), ..all.clone() }),
        ("last forced", 40, LogitsRules { forced_last: Some((4, 39)), ..all }),
    ] {
        for (advance, place) in [(1, 3), (1, 0), (3, 1), (1, 30)] {
            let name = format!("logits by rules, {name}, {advance} at {place} of {vocabulary}");
            cases.push(with_states(name, 1e-6, |s| {
                let rules = s.state("rules", rules.tensor(), Storage::AsDeclared);
                let step = s.step(place);
                let tokens = (0..60).map(|i| [3, 3, 5, 3, 6, 3, 900][i % 7]).collect();
                let tokens = s.state("tokens", HostTensor::u32([5, 12], tokens), Storage::AsDeclared);
                let logits = x(s.graph, [5, vocabulary]);
                s.graph.process_logits(logits, [rules, step, tokens], advance)
            }));
        }
    }
}

fn draws(cases: &mut Vec<Case>) {
    let plain = Sampling {
        seed: 0x1234_5678_9abc,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        guidance: Guidance { first: 2.5, last: 2.5, places: 1 },
    };
    let greedy = Sampling { temperature: 0.0, ..plain };
    let linear = Guidance { first: 1.0, last: 4.0, places: 9 };
    for (name, vocabulary, guided, draws, settings) in [
        ("greedy", 1001, false, 1, greedy),
        ("greedy guided", 1001, true, 1, greedy),
        ("plain", 5003, false, 1, plain),
        ("warm", 300, true, 1, Sampling { temperature: 1.7, guidance: linear, ..plain }),
        ("top-k", 5003, false, 1, Sampling { top_k: 40, ..plain }),
        ("top-1", 77, false, 1, Sampling { top_k: 1, ..plain }),
        ("top-p", 5003, false, 1, Sampling { top_p: 0.6, ..plain }),
        ("both", 1000, true, 1, Sampling { top_k: 100, top_p: 0.8, temperature: 0.7, ..plain }),
        ("one token", 1, false, 1, Sampling { top_k: 5, top_p: 0.5, ..plain }),
        ("two", 1001, false, 2, plain),
        ("three guided", 300, true, 3, Sampling { top_k: 30, guidance: linear, ..plain }),
        ("beyond the end", 40, false, 5, greedy),
    ] {
        cases.push(with_states(format!("draw {name} of {vocabulary}"), 1e-4, |s| {
            let rows = draws * if guided { 6 } else { 3 };
            let settings = s.state("settings", settings.tensor(), Storage::AsDeclared);
            let samples = s.state("samples", HostTensor::u32([3], vec![0, 7, 1000]), Storage::AsDeclared);
            let step = s.step(3);
            let shape = Shape::new(&[3, 8]);
            let tokens = s.state("tokens", HostTensor::u32(shape, (0..24).collect()), Storage::AsDeclared);
            let entropy = s.state("entropy", HostTensor::zeros(TensorDesc::f32(shape)), Storage::AsDeclared);
            let x = x(s.graph, [rows, vocabulary]);
            let logits = s.graph.scale(x, 4.0);
            let op = Sample { guided, advance: 2, draws };
            let ids = s.graph.sample(op, logits, [settings, samples, step, tokens, entropy]);
            debug_assert_eq!(s.graph.desc(ids).dtype, DType::U32);
            ids
        }));
    }
}
