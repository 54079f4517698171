//! Cases of the way back through attention: what it needs to know of each query, and each gradient.

use super::case::{Case, case};
use crate::graph::{Graph, Storage, Value};
use crate::ops::{AttentionGradBias, AttentionGradKv, AttentionGradQ, AttentionRows};
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// Which bias, if any.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bias {
    None,
    /// (H,T,S)
    Whole,
    /// (H,T+S-1)
    Distance,
}

struct Problem {
    sizes: [usize; 5],
    bias: Bias,
    causal: bool,
    lengths: &'static [u32],
    /// q, k, v and dy are computed, so that an f16 plan stores them in f16.
    computed: bool,
}

const PLAIN: Problem =
    Problem { sizes: [1; 5], bias: Bias::None, causal: false, lengths: &[], computed: false };

pub(super) fn all(cases: &mut Vec<Case>) {
    // One; around the rows and steps of a workgroup; heads in chunks; a real size.
    for problem in [
        PLAIN,
        Problem { sizes: [2, 3, 5, 7, 12], bias: Bias::Whole, ..PLAIN },
        Problem { sizes: [1, 1, 9, 9, 12], causal: true, ..PLAIN },
        Problem { sizes: [1, 2, 17, 31, 10], bias: Bias::Distance, causal: true, ..PLAIN },
        Problem { sizes: [1, 1, 65, 63, 33], ..PLAIN },
        Problem { sizes: [1, 1, 33, 130, 64], causal: true, ..PLAIN },
        Problem { sizes: [1, 1, 70, 20, 80], ..PLAIN },
        Problem { sizes: [1, 1, 18, 40, 128], causal: true, ..PLAIN },
        Problem { sizes: [1, 1, 9, 20, 140], ..PLAIN },
        Problem { sizes: [1, 1, 9, 20, 255], ..PLAIN },
        Problem { sizes: [1, 1, 18, 20, 512], causal: true, ..PLAIN },
        Problem { sizes: [1, 2, 197, 197, 64], bias: Bias::Whole, ..PLAIN },
        Problem { sizes: [1, 1, 3, 9, 12], lengths: &[3], ..PLAIN },
        Problem { sizes: [4, 1, 33, 33, 10], bias: Bias::Distance, lengths: &[1, 0, 33, 99], ..PLAIN },
        Problem { sizes: [2, 2, 66, 66, 16], causal: true, lengths: &[65, 20], ..PLAIN },
        Problem { sizes: [2, 2, 20, 41, 8], bias: Bias::Whole, causal: true, lengths: &[17, 40], ..PLAIN },
        Problem { sizes: [1, 2, 33, 35, 24], causal: true, computed: true, ..PLAIN },
        Problem { sizes: [2, 1, 9, 20, 15], bias: Bias::Distance, computed: true, ..PLAIN },
    ] {
        problem.push(cases);
    }
}

impl Problem {
    fn push(&self, cases: &mut Vec<Case>) {
        let Self { sizes: [b, h, t, s, d], bias, causal, .. } = *self;
        let lengths = if self.lengths.is_empty() { "" } else { " of lengths" };
        let computed = if self.computed { " of computed heads" } else { "" };
        let problem =
            format!("attention{lengths}{computed} {b}x{h}x{t}x{s}x{d} causal={causal} bias={bias:?}");
        // Sharper than usual, so that the running maximum moves.
        let scale = 4.0 / (d as f32).sqrt();
        let biased = bias != Bias::None;
        let mut push = |what: &str, build: &dyn Fn(&mut Graph, &[Value]) -> Value| {
            let mut states = Vec::new();
            let case =
                case(format!("{what} of {problem}"), 5e-5, |g| self.build(g, scale, &mut states, build));
            cases.push(Case { states, ..case });
        };
        push("rows", &|_, read| read[4]);
        push("gradient of queries", &|g, read| g.push(AttentionGradQ { bias: biased, scale }, read.to_vec()));
        push("gradients of keys and values", &|g, read| {
            g.push(AttentionGradKv { bias: biased, scale }, read.to_vec())
        });
        if biased {
            push("gradient of bias", &|g, read| g.push(AttentionGradBias { scale }, read.to_vec()));
        }
    }

    /// What `build` makes of q, k, v, dy, rows, and a bias if there is one.
    fn build(
        &self,
        g: &mut Graph,
        scale: f32,
        states: &mut Vec<(String, HostTensor)>,
        build: &dyn Fn(&mut Graph, &[Value]) -> Value,
    ) -> Value {
        let Self { sizes: [b, h, t, s, d], causal, .. } = *self;
        let mut input = |name: &str, shape: &[usize]| {
            let x = g.input(name, TensorDesc::f32(Shape::new(shape)));
            if self.computed { g.scale(x, 0.5) } else { x }
        };
        let q = input("q", &[b, h, t, d]);
        let [k, v] = ["k", "v"].map(|name| input(name, &[b, h, s, d]));
        let [y, dy] = ["y", "dy"].map(|name| input(name, &[b, t, h * d]));
        let bias = match self.bias {
            Bias::None => None,
            Bias::Whole => Some(g.input("bias", TensorDesc::f32([h, t, s]))),
            Bias::Distance => Some(g.input("bias", TensorDesc::f32([h, t + s - 1]))),
        };
        let lengths = (!self.lengths.is_empty()).then(|| {
            let lengths = HostTensor::u32([b], self.lengths.to_vec());
            let v = g.state("lengths", lengths.desc(), Storage::AsDeclared);
            states.push(("lengths".to_owned(), lengths));
            v
        });
        let op = AttentionRows { bias: bias.is_some(), causal, lengths: lengths.is_some(), scale };
        let read = [Some(q), Some(k), Some(y), Some(dy), bias, lengths];
        let rows = g.push(op, read.into_iter().flatten().collect());
        let read: Vec<Value> = [q, k, v, dy, rows].into_iter().chain(bias).collect();
        build(g, &read)
    }
}
