//! Cases with a NaN among their inputs: wherever the reference has one, so must a device. A kernel that
//! takes the larger of two numbers, or cuts one off, easily makes a number of it.

use super::case::{Case, case, noise};
use crate::graph::{Graph, Storage, Value};
use crate::ops::Scores;
use crate::tensor::{HostTensor, TensorDesc};

/// Of these cases, one size each: everything that activates, compares, or adds up.
const POISONED: &[&str] = &[
    "Gelu",
    "GeluTanh",
    "QuickGelu",
    "Relu",
    "Silu",
    "Tanh",
    "Sigmoid",
    "glu Relu",
    "glu Tanh",
    "matmul Relu",
    "matmul Tanh",
    "matmul 17x33x129",
    "matmul full epilogue 17x33x129",
    "matmul of computed rows, head split 2x35x2x20 x3",
    "attention 2x3x5x7x12 causal=false bias=true",
    "attention 1x2x197x197x64 causal=true bias=false",
    "attention of computed heads 1x2x33x35x24 causal=true bias=true",
    "layer_norm 7x255",
    "rms_norm 3x257",
    "softmax 7x255",
    "mean_tokens",
    "cached attention 2x3x1x12 at 4 of 5",
    "rms norm before gated matmul 2x36x129",
    "conv 2x5x7x3 to 5, 3x3 stride 1",
    "group_norm 2x3x5x36 by 4",
    "max_pool 2x7x6x5, 3x3 stride 2",
    "nearest_code 7x8 of 50",
    "cross_entropy 7x257, 0.1",
    "cross_entropy_grad 7x257, 0.1",
    "squared_error 5x31",
    "squared_error_grad 5x31",
    "weighted_sum 257",
    "clip_factor 257",
    "square_sum of 8193, clipped to 1",
    "clipped step",
    "adamw [7, 9]",
    "sgd nesterov [7, 9]",
    "lion [7, 9]",
    "product 33x65x31 turned=true,false",
    "matmul of computed weight 33x65x31",
    "Layer norm's way back 7x255",
    "Rms norm's factors 65x36",
    "Relu's way back",
    "Tanh's way back",
    "Gelu's way back",
    "glu Silu's way back",
    "sum of 65 rows of 64",
    "scatter 70 rows of 200",
    // Some rows see it, others do not and stay numbers.
    "rows of attention 1x1x9x9x12 causal=true bias=None",
    "gradient of queries of attention 1x1x9x9x12 causal=true bias=None",
    "gradients of keys and values of attention of lengths 1x1x3x9x12 causal=false bias=None",
    "gradients of keys and values of attention 2x3x5x7x12 causal=false bias=Whole",
    "gradient of bias of attention 1x2x17x31x10 causal=true bias=Distance",
    "rows of attention of lengths 2x2x66x66x16 causal=true bias=None",
    "gradient of queries of attention of lengths 2x2x66x66x16 causal=true bias=None",
    "gradients of keys and values of attention 1x1x33x130x64 causal=true bias=None",
];

/// Those of some cases, poisoned.
pub(super) fn of(cases: Vec<Case>) -> impl Iterator<Item = Case> {
    cases.into_iter().filter(|c| POISONED.contains(&c.name.as_str())).map(Case::poisoned)
}

/// Attention of keys and values that are NaN where some queries, or all, do not see them.
struct Unseen {
    sizes: [usize; 5],
    lengths: &'static [u32],
    causal: bool,
    window: Option<usize>,
    /// The first such key; of sequences with lengths, that behind the last.
    from: usize,
    /// The key behind the last such.
    to: usize,
    /// Keys and values are computed, so that an f16 plan stores them in f16.
    computed: bool,
}

/// Cases of attention with a NaN among the queries, and more where no query, or not every one, sees them.
pub(super) fn unseen(cases: &mut Vec<Case>) {
    let plain = Unseen {
        sizes: [1; 5],
        lengths: &[],
        causal: false,
        window: None,
        from: 0,
        to: usize::MAX,
        computed: false,
    };
    for problem in [
        Unseen { sizes: [2, 2, 9, 70, 12], lengths: &[20, 3], ..plain },
        Unseen { sizes: [2, 1, 17, 45, 24], lengths: &[33, 0], computed: true, ..plain },
        Unseen { sizes: [1, 2, 40, 40, 64], causal: true, from: 21, ..plain },
        Unseen { sizes: [1, 1, 21, 30, 10], causal: true, from: 19, ..plain },
        Unseen { sizes: [2, 1, 35, 35, 8], lengths: &[30, 9], causal: true, ..plain },
        Unseen { sizes: [1, 2, 40, 40, 64], window: Some(3), from: 10, to: 12, ..plain },
        Unseen { sizes: [2, 1, 37, 37, 10], lengths: &[31, 9], window: Some(5), ..plain },
    ] {
        cases.push(problem.case());
    }
}

impl Unseen {
    fn case(&self) -> Case {
        let Self { sizes: [b, h, t, s, d], causal, window, computed, .. } = *self;
        let lengths = if self.lengths.is_empty() { "" } else { " of lengths" };
        let heads = if computed { " of computed heads" } else { "" };
        let near = window.map_or(String::new(), |w| format!(" of a window of {w}"));
        let name =
            format!("unseen NaN in attention{near}{lengths}{heads} {b}x{h}x{t}x{s}x{d} causal={causal}");
        let mut states = Vec::new();
        let case = case(name, 2e-5, |g| {
            let q = g.input("q", TensorDesc::f32([b, h, t, d]));
            let mut state = |g: &mut Graph, name: &str, held: HostTensor| {
                let value = g.state(name, held.desc(), Storage::AsDeclared);
                states.push((name.to_owned(), held));
                value
            };
            let halved = |g: &mut Graph, x: Value| if computed { g.scale(x, 0.5) } else { x };
            let q = halved(g, q);
            let [k, v] = [("k", 1), ("v", 2)].map(|(name, seed)| {
                let x = state(g, name, self.held(seed));
                halved(g, x)
            });
            let lengths = (!self.lengths.is_empty())
                .then(|| state(g, "lengths", HostTensor::u32([b], self.lengths.to_vec())));
            g.attention([q, k, v], Scores { causal, window, lengths, ..Scores::scaled(0.5) })
        });
        Case { states, poisoned: true, ..case }
    }

    /// Keys, or values.
    fn held(&self, seed: u64) -> HostTensor {
        let [b, h, _, s, d] = self.sizes;
        let mut held = noise(seed, b * h * s * d);
        for (row, held) in held.chunks_mut(d).enumerate() {
            let from = self.lengths.get(row / (h * s)).map_or(self.from, |&l| l.max(1) as usize);
            if (from..self.to).contains(&(row % s)) {
                held.fill(f32::NAN);
            }
        }
        HostTensor::f32([b, h, s, d], held)
    }
}

#[cfg(test)]
mod tests {
    use super::POISONED;

    #[test]
    fn each_has_a_nan_to_keep() {
        let cases: Vec<_> = crate::selftest::all().into_iter().filter(|c| c.poisoned).collect();
        let of_noise = |c: &&crate::selftest::Case| c.name.starts_with("NaN in ");
        assert_eq!(cases.iter().filter(of_noise).count(), POISONED.len());
        for case in cases {
            let y = case.reference().expect("a result");
            let lost = || {
                y.as_u32().map_or_else(
                    || y.to_f32().iter().all(|v| !v.is_nan()),
                    |ids| !ids.contains(&crate::ops::NearestCode::NONE),
                )
            };
            assert!(!lost(), "{}", case.name);
            // Beside its states, which lie behind the result.
            if case.name.starts_with("unseen NaN") {
                let result = case.graph.outputs()[0].1;
                let result = &y.to_f32()[..case.graph.shape(result).elements()];
                assert!(result.iter().any(|v| !v.is_nan()), "{}", case.name);
            }
        }
    }
}
