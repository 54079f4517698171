//! A request carried out: batches of samples, token by token.

use std::ops::Range;
use std::time::Duration;

use super::generator::Generator;
use super::request::Request;
use super::sequences::Sequences;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::ops::Guidance;

/// Most samples in one batch: beyond, the cache grows and the reads of weights no longer count.
const MAX_BATCH: usize = 64;
/// Tokens of a submission where nobody asks for a preview: enough to hide what a submission costs,
/// few enough for Ctrl-C.
const CHUNK: usize = 8;

/// How far a batch is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress<'a> {
    /// Tokens of each sample that are there.
    pub done: usize,
    /// Tokens of a sample.
    pub total: usize,
    /// Which samples the batch holds.
    pub samples: Range<usize>,
    /// Their tokens so far, in raster order, as far as the last that is drawn: before it there may be
    /// [`super::NOT_DRAWN`]. Empty if no preview was asked for.
    pub tokens: &'a [Vec<u32>],
}

/// Finished samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Tokens of each sample, in raster order.
    pub tokens: Vec<Vec<u32>>,
    /// Entropy in nats of what each token was drawn from, before top-k and top-p; 0 where it was given.
    pub entropy: Vec<Vec<f32>>,
    /// What it took.
    pub stats: Stats,
}

/// What generating took. Times are wall clock, summed over batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// From the call to the first token of the first batch: plans, weights, pipelines and the prompt.
    pub first_token: Duration,
    /// The prompts alone.
    pub prompt: Duration,
    /// All tokens after the first.
    pub decode: Duration,
    /// Runs after the prompt: one for each token, or fewer where several are drawn at a time.
    pub steps: usize,
    /// Samples made.
    pub samples: usize,
    /// Samples of the largest batch.
    pub batch: usize,
    /// Bytes that one such run must read, on the average: weights once, and half of the cache, its mean
    /// filling.
    pub bytes_per_step: u64,
    /// Launches of one such run, on the average.
    pub launches_per_step: usize,
}

impl Generator {
    /// Draws samples. `report` hears how far it is and may stop it by an error.
    ///
    /// # Errors
    /// As [`Generator::check`]; device errors; [`Error::NonFinite`] if the model's scores are not numbers.
    pub fn generate(
        &self,
        request: &Request,
        report: &mut dyn FnMut(&Progress) -> Result<()>,
    ) -> Result<Generated> {
        self.check(request)?;
        let total = request.classes.len();
        let mut done = Generated { tokens: Vec::new(), entropy: Vec::new(), stats: Stats::default() };
        let mut most = MAX_BATCH;
        let begun = Instant::now();
        while done.tokens.len() < total {
            let first = done.tokens.len();
            let n = (total - first).min(most);
            let drawn = self.batch(request, first..first + n, begun, &mut done.stats, report);
            if let Some((tokens, entropy)) = self.runtime.fitting(drawn, n, &mut most, " samples")? {
                done.tokens.extend(tokens);
                done.entropy.extend(entropy);
            }
        }
        done.stats.samples = total;
        Ok(done)
    }

    /// Draws the samples of one batch: their tokens and entropies in raster order.
    #[expect(clippy::type_complexity, reason = "two lists that live together for one call")]
    fn batch(
        &self,
        request: &Request,
        samples: Range<usize>,
        begun: Instant,
        stats: &mut Stats,
        report: &mut dyn FnMut(&Progress) -> Result<()>,
    ) -> Result<(Vec<Vec<u32>>, Vec<Vec<f32>>)> {
        let total = self.info().tokens;
        let given = request.prime.len();
        let Guidance { first, last, .. } = request.sampling.guidance;
        let guided = self.info().guided && (first, last) != (1.0, 1.0);
        let mut loops = Sequences::new(self, samples.len(), guided, request)?;
        loops.begin(self, request, samples.clone())?;
        let start = Instant::now();
        loops.prompt()?;
        loops.finish()?;
        stats.prompt += start.elapsed();
        if stats.samples == 0 && samples.start == 0 {
            stats.first_token = begun.elapsed();
        }
        let start = Instant::now();
        let mut have = given + 1;
        let mut tell = |loops: &mut Sequences, have: usize| {
            let tokens = if request.every > 0 { loops.tokens(have)? } else { Vec::new() };
            report(&Progress { done: have, total, samples: samples.clone(), tokens: &tokens })
        };
        tell(&mut loops, have)?;
        while have < total {
            let chunk = if request.every > 0 { request.every } else { CHUNK }.min(total - have);
            have += loops.steps(chunk)?;
            if request.every > 0 {
                loops.finish()?;
            }
            tell(&mut loops, have)?;
        }
        loops.finish()?;
        stats.decode += start.elapsed();
        stats.steps += loops.count();
        stats.batch = stats.batch.max(samples.len());
        (stats.bytes_per_step, stats.launches_per_step) = loops.step_cost();
        if let broken @ 1.. = loops.broken()? {
            let what = format!("scores of {}", self.runtime.name);
            return Err(Error::NonFinite { what, count: broken, total: samples.len() * (total - given) });
        }
        Ok((loops.tokens(total)?, loops.entropy()?))
    }
}
