//! Pictures token by token. A [`Generator`] is a generative checkpoint made ready: files -> decoder and
//! codec -> two plans over one store (a prompt, and one token; or more, where a model draws several at a
//! time) -> a loop in which nothing passes between host and device but submissions.
//!
//! The loop: weights, KV cache, tokens, settings and the place in the sequence lie on the device. The
//! plan of one token embeds the token drawn last, runs the blocks over the cache, draws the next token
//! and moves the place on; running it again makes the next token. A submission holds many such runs.
//! Tokens come back for a preview, or at the end. Samples run in batches that share every read of a
//! weight; a batch that does not fit the device is halved, never refused.
//!
//! It knows no command line and prints nothing.

mod codec;
mod graphs;
mod measure;
mod pictures;
mod request;
mod sequences;

use std::ops::Range;
use std::time::Duration;

pub use crate::models::sequence::{Codec, Defaults, GeneratorInfo};
pub use crate::session::BUILTIN_GENERATOR as BUILTIN;
pub use pictures::Rgb;
pub use request::{Order, Request};
#[cfg(feature = "cli")]
pub(crate) use sequences::bytes_read;

use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::models::sequence::PictureDecoder;
use crate::models::{self, AnyModel};
use crate::ops::Guidance;
use crate::plan::Precision;
use crate::session::{DeviceInfo, Files, ModelKind, ModelSource, Options, Runtime, read_files};
use codec::PatchCodec;
use sequences::Sequences;

/// Stands for a token that is not drawn yet.
pub const NOT_DRAWN: u32 = u32::MAX;

/// Most samples in one batch: beyond, the cache grows and the reads of weights no longer count.
const MAX_BATCH: usize = 64;
/// Tokens of a submission where nobody asks for a preview: enough to hide what a submission costs,
/// few enough for Ctrl-C.
const CHUNK: usize = 8;

/// A generative checkpoint made ready.
pub struct Generator {
    decoder: Box<dyn PictureDecoder>,
    codec: Box<dyn PatchCodec>,
    labels: Labels,
    runtime: Runtime,
}

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
    /// [`NOT_DRAWN`]. Empty if no preview was asked for.
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
    /// Opens a generative model on a device. Weights are uploaded by the first use.
    ///
    /// # Errors
    /// [`Error::Model`] for anything wrong with the files, [`Error::NoDevice`] for the device.
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        let mut files = read_files(source, ModelKind::Generator, options.mmap)?;
        let decoder = models::from_config(&files.config, files.checkpoint.index(), picture_size(&files))
            .and_then(AnyModel::generator)
            .map_err(|e| e.within(&files.name))?;
        let info = decoder.info();
        let labels = Labels::from_config(&files.config, info.classes.unwrap_or(0));
        let mut warnings = info.warnings.clone();
        if info.classes.is_some() {
            warnings.extend(labels.warnings.iter().cloned());
        }
        let codec = codec::read(&mut files, info).map_err(|e| e.within(&files.name))?;
        let runtime = Runtime::open(files.name, files.checkpoint, warnings, options)?;
        let codec = codec.ready(&runtime);
        Ok(Self { decoder, codec, labels, runtime })
    }

    /// What the model is.
    pub fn info(&self) -> &GeneratorInfo {
        self.decoder.info()
    }

    /// The folder, file or builtin name the model was opened from.
    pub fn name(&self) -> &str {
        &self.runtime.name
    }

    /// Names of the classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The device that works.
    pub fn device(&self) -> &DeviceInfo {
        &self.runtime.device
    }

    /// Storage types in use.
    pub fn precision(&self) -> Precision {
        self.runtime.precision
    }

    /// What a user should hear, as far as known now.
    pub fn warnings(&self) -> Vec<String> {
        self.runtime.warnings()
    }

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

/// Height and width that the preprocessor states, if it does so plainly.
fn picture_size(files: &Files) -> Option<[usize; 2]> {
    let json: serde_json::Value = serde_json::from_str(&files.preprocessor.as_ref()?.1).ok()?;
    let side = |v: &serde_json::Value| {
        v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=8192).contains(n))
    };
    let size = json.get("size")?;
    match side(size) {
        Some(side) => Some([side, side]),
        None => Some([side(size.get("height")?)?, side(size.get("width")?)?]),
    }
}
