//! Draws the next token of every sequence on the device: guidance, temperature, exact top-k and top-p
//! without sorting, and a random number that depends on nothing but (seed, sample, place, token), so that
//! a sample is the same whatever batch it runs in. Also advances the step, so that the next run of the
//! same plan is the next token.
//!
//! Top-k and top-p keep all tokens that tie with the last one kept. The draw is the Gumbel-max trick
//! (Gumbel 1954; Maddison et al. 2014), the random bits are a hash of a counter (pcg4d of Jarzynski &
//! Olano 2020).

use super::def::{OpDef, arity, dims, f32s};
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// Draws n tokens of each sequence. Operands: logits (R,V); settings (8) u32, see [`Sampling`]; samples
/// (B) u32, the number of each sequence's random stream; step (4) u32: place, arrivals, rows with non-finite logits, unused;
/// tokens (B,S) u32 and entropy (B,S) f32, of which the places after the first query's are written.
/// Result (n·B) u32. R = n·B, or with guidance 2·n·B, the rows without condition behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// logits = u + (c - u) · scale, c being the first half of the rows and u the second.
    pub guided: bool,
    /// Tokens that this run adds: the step's place moves on by as many.
    pub advance: usize,
    /// Tokens n drawn of each sequence; all by the guidance scale of the first.
    pub draws: usize,
}

/// How much to trust the condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Scale at the first place.
    pub first: f32,
    /// Scale that the last place would have; between, it is linear.
    pub last: f32,
    /// Places over which it moves.
    pub places: u32,
}

/// Settings of a draw, as the device holds them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Seed of all random numbers.
    pub seed: u64,
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only the likeliest so many tokens; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens whose probabilities first exceed this; 1 for all.
    pub top_p: f32,
    /// Guidance, where the op is guided.
    pub guidance: Guidance,
}

impl Sampling {
    /// Words of the settings tensor.
    pub const WORDS: usize = 8;

    /// The likeliest token, always.
    pub fn greedy() -> Self {
        let guidance = Guidance { first: 1.0, last: 1.0, places: 1 };
        Self { seed: 0, temperature: 0.0, top_k: 0, top_p: 1.0, guidance }
    }

    /// The settings tensor.
    pub fn tensor(&self) -> HostTensor {
        let Guidance { first, last, places } = self.guidance;
        let floats = [self.temperature, self.top_p, first, last].map(f32::to_bits);
        let words = [self.seed as u32, (self.seed >> 32) as u32, self.top_k];
        HostTensor::u32([Self::WORDS], [&words[..], &floats, &[places]].concat())
    }

    fn from_words(w: &[u32]) -> Self {
        let guidance = Guidance { first: f32::from_bits(w[5]), last: f32::from_bits(w[6]), places: w[7] };
        Self {
            seed: u64::from(w[0]) | u64::from(w[1]) << 32,
            top_k: w[2],
            temperature: f32::from_bits(w[3]),
            top_p: f32::from_bits(w[4]),
            guidance,
        }
    }

    fn scale(&self, place: u32) -> f32 {
        let Guidance { first, last, places } = self.guidance;
        first + (last - first) * place as f32 / places.max(1) as f32
    }
}

params! {
    /// Parameters of the sampling kernel.
    struct SampleParams { sequences: u32, vocabulary: u32, places: u32, advance: u32, draws: u32 }
}

static SAMPLE: Kernel = Kernel {
    name: "sample",
    source: shader!("lib/row.wgsl", "lib/rng.wgsl", "lib/finite.wgsl", "sample.wgsl"),
    params: SampleParams::FIELDS,
};

impl Graph {
    /// Draws tokens for each sequence. logits: (R,V), then the operands of [`Sample`] in its order;
    /// returns (n·B) u32.
    pub fn sample(&mut self, op: Sample, logits: Value, others: [Value; 5]) -> Value {
        self.push(op, [&[logits], &others[..]].concat())
    }
}

/// Hash of a counter.
fn pcg4d(v: [u32; 4]) -> [u32; 4] {
    let [mut x, mut y, mut z, mut w] = v.map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for round in 0..2 {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if round == 0 {
            [x, y, z, w] = [x, y, z, w].map(|v| v ^ (v >> 16));
        }
    }
    [x, y, z, w]
}

/// A number of the standard Gumbel distribution.
fn gumbel(seed: u64, sample: u32, place: u32, token: u32) -> f32 {
    let high = ((seed >> 32) as u32) ^ sample.wrapping_mul(0x9e37_79b9);
    let bits = pcg4d([seed as u32, high, place, token])[0];
    let u = ((bits >> 9) as f32 + 0.5) / 8_388_608.0;
    // -ln(1 - u), whose logarithm near u = 0 would lose what decides between likely tokens.
    let e = if u < 0.01 { u + u * u * (0.5 + u / 3.0) } else { -(1.0 - u).ln() };
    -e.ln()
}

/// Everything a draw changes, by plain loops.
struct Drawn {
    ids: Vec<u32>,
    tokens: Vec<u32>,
    entropy: Vec<f32>,
    step: Vec<u32>,
}

impl Sample {
    fn draw(&self, inputs: &[&HostTensor]) -> Drawn {
        let words = |i: usize| inputs[i].as_u32().expect("checked by infer");
        let settings = Sampling::from_words(words(1));
        let (samples, mut step, mut tokens) = (words(2), words(3).to_vec(), words(4).to_vec());
        let (logits, mut entropy) = (f32s(inputs[0]), f32s(inputs[5]).to_vec());
        let [sequences, places]: [usize; 2] = dims("tokens", &inputs[4].desc()).expect("checked by infer");
        let vocabulary = inputs[0].shape().width();
        let first = step[0] + self.advance as u32 - 1;
        let scale = settings.scale(first);
        let rows = sequences * self.draws;
        let mut ids = Vec::with_capacity(rows);
        for query in 0..rows {
            let (b, place) = (query / self.draws, first + (query % self.draws) as u32);
            let sample = samples[b];
            let row = |r: usize| &logits[r * vocabulary..][..vocabulary];
            let mut l: Vec<f32> = if self.guided {
                row(query).iter().zip(row(query + rows)).map(|(c, u)| u + (c - u) * scale).collect()
            } else {
                row(query).to_vec()
            };
            if l.iter().any(|l| !l.is_finite()) {
                step[2] += 1;
                l.iter_mut().filter(|l| !l.is_finite()).for_each(|l| *l = LOWEST);
            }
            let greedy = settings.temperature == 0.0;
            let t = if greedy { 1.0 } else { settings.temperature };
            let top = l.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f64> = l.iter().map(|&l| f64::from((l - top) / t).exp()).collect();
            let z: f64 = weights.iter().sum();
            let kept = if greedy { vec![true; vocabulary] } else { kept(&settings, &l, &weights) };
            let best = (0..vocabulary).filter(|&i| kept[i]).fold(None, |best: Option<(f32, usize)>, i| {
                let noise = if greedy { 0.0 } else { gumbel(settings.seed, sample, place, i as u32) };
                let score = l[i] / t + noise;
                if best.is_none_or(|(b, _)| score > b) { Some((score, i)) } else { best }
            });
            let id = best.map_or(0, |(_, i)| i as u32);
            ids.push(id);
            if (place as usize) + 1 < places {
                let at = b * places + place as usize + 1;
                tokens[at] = id;
                let mean: f64 = weights.iter().zip(&l).map(|(w, &l)| w * f64::from((l - top) / t)).sum();
                entropy[at] = (z.ln() - mean / z) as f32;
            }
        }
        step[0] += self.advance as u32;
        Drawn { ids, tokens, entropy, step }
    }
}

/// Stands for a logit that is not finite.
const LOWEST: f32 = -3.0e38;

/// Which tokens top-k and then top-p leave, by sorting.
fn kept(settings: &Sampling, logits: &[f32], weights: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let mut lowest = f32::MIN;
    if settings.top_k > 0 && (settings.top_k as usize) < logits.len() {
        lowest = logits[order[settings.top_k as usize - 1]];
    }
    if settings.top_p < 1.0 {
        let left: Vec<usize> = order.into_iter().filter(|&i| logits[i] >= lowest).collect();
        let total: f64 = left.iter().map(|&i| weights[i]).sum();
        let mut before = 0.0;
        for &i in &left {
            if before / total > f64::from(settings.top_p) {
                break;
            }
            lowest = logits[i];
            before += weights[i];
        }
    }
    logits.iter().map(|&l| l >= lowest).collect()
}

impl OpDef for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 6)?;
        let [rows, vocabulary] = dims("logits", &inputs[0])?;
        let [sequences, _] = dims("tokens", &inputs[4])?;
        if inputs[1..5].iter().any(|d| d.dtype != DType::U32) || inputs[5].shape != inputs[4].shape {
            return Err(
                "settings, samples, step and tokens are u32, entropy has the shape of tokens".to_owned()
            );
        }
        let want = sequences * self.draws * if self.guided { 2 } else { 1 };
        let sizes = [inputs[1], inputs[2], inputs[3]].map(|d| d.shape.elements());
        let nothing = vocabulary == 0 || self.advance == 0 || self.draws == 0;
        if rows != want || sizes != [Sampling::WORDS, sequences, 4] || nothing {
            return Err(format!(
                "{rows} rows of logits for {sequences} sequences, settings of {sizes:?} words"
            ));
        }
        Ok(TensorDesc::new(DType::U32, Shape::new(&[sequences * self.draws])))
    }

    fn writes(&self) -> Vec<usize> {
        vec![3, 4, 5]
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::u32(out.shape, self.draw(inputs).ids)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let Drawn { tokens, entropy, step, .. } = self.draw(inputs);
        let shape = inputs[4].shape();
        vec![
            HostTensor::u32(inputs[3].shape(), step),
            HostTensor::u32(shape, tokens),
            HostTensor::f32(shape, entropy),
        ]
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        16 * inputs[0].shape.elements() as u64
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        Some(inputs[0].bytes() as u64)
    }

    fn wide_operands(&self) -> &[usize] {
        &[0]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, vocabulary]: [usize; 2] = dims("logits", &cx.input(0)).expect("checked by infer");
        let [sequences, places]: [usize; 2] = dims("tokens", &cx.input(4)).expect("checked by infer");
        let lanes = if cx.target.cpu { 16 } else { cx.target.max_invocations.min(1024) };
        let variant = Variant::new()
            .with_type("L", cx.input(0).dtype)
            .with_bool("GUIDED", self.guided)
            .with_u32("WG", 1 << lanes.ilog2());
        to_u32("logits", cx.input(0).shape.elements())?;
        let params = SampleParams {
            sequences: to_u32("sequences", sequences)?,
            vocabulary: vocabulary as u32,
            places: to_u32("tokens", sequences * places)? / sequences as u32,
            advance: to_u32("tokens", self.advance)?,
            draws: to_u32("draws", sequences * self.draws)? / sequences as u32,
        };
        let binds = (0..6).map(|i| cx.operand(i)).chain([cx.result()]).collect();
        cx.dispatch(&SAMPLE, variant, params, binds, sequences * self.draws)
    }
}
