//! Pictures token by token. A [`Generator`] is a generative checkpoint made ready: files -> decoder and
//! codec -> two plans over one store (a prompt, and one token) -> a loop in which nothing passes between
//! host and device but submissions.
//!
//! The loop: weights, KV cache, tokens, settings and the place in the sequence lie on the device. The
//! plan of one token embeds the token drawn last, runs the blocks over the cache, draws the next token
//! and moves the place on; running it again makes the next token. A submission holds many such runs.
//! Tokens come back for a preview, or at the end. Samples run in batches that share every read of a
//! weight; a batch that does not fit the device is halved, never refused.
//!
//! It knows no command line and prints nothing.

mod codec;
mod files;
mod measure;
mod sequences;

use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use crate::models::sequence::{Codec, Defaults, GeneratorInfo};

use crate::data::image::Decoded;
use crate::data::labels::Labels;
use crate::data::materialise::materialise;
use crate::data::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Weight};
use crate::models;
use crate::models::sequence::{New, Sequence, TokenDecoder};
use crate::ops::{Guidance, Sample, Sampling};
use crate::plan::{self, Plan, Precision};
use crate::reference;
use crate::session::{DeviceInfo, Engine, ModelSource, Options, Tuning, open_device};
use crate::tensor::{HostTensor, Shape, TensorDesc};
use codec::PatchCodec;
use sequences::Sequences;

/// Name of the embedded model, as `-m builtin:shapes-gpt`.
pub const BUILTIN: &str = "shapes-gpt";

/// Most samples in one batch: beyond, the cache grows and the reads of weights no longer count.
const MAX_BATCH: usize = 64;
/// Tokens of a submission where nobody asks for a preview: enough to hide what a submission costs,
/// few enough for Ctrl-C.
const CHUNK: usize = 8;

/// A generative checkpoint made ready.
pub struct Generator {
    name: String,
    decoder: Box<dyn TokenDecoder>,
    checkpoint: Checkpoint,
    codec: Box<dyn PatchCodec>,
    labels: Labels,
    precision: Precision,
    fuse: bool,
    engine: Engine,
    device: DeviceInfo,
    tuning: Mutex<Tuning>,
    warnings: Mutex<Vec<String>>,
}

/// A picture of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// (H,W,3).
    pub pixels: Vec<u8>,
}

/// In which order the patches of a picture are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Row by row.
    #[default]
    Raster,
    /// Anyhow; only models that are told each patch's place can.
    Random,
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The class of each sample, `None` for no class in particular; as many as samples are wanted.
    pub classes: Vec<Option<usize>>,
    /// The number of the first sample; a sample's number chooses its random numbers, so that one of many
    /// can be made again alone.
    pub first: u32,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that every sample begins with, in raster order.
    pub prime: Vec<u32>,
    /// The order of patches.
    pub order: Order,
    /// Tokens between two reports; 0 to report the count alone, now and then.
    pub every: usize,
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
    /// Their tokens so far, in raster order; empty if no preview was asked for.
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
    /// Runs of the plan of one token.
    pub steps: usize,
    /// Samples made.
    pub samples: usize,
    /// Samples of the largest batch.
    pub batch: usize,
    /// Bytes that one such run must read: weights once, and half of the cache, its mean filling.
    pub bytes_per_step: u64,
    /// Launches of one such run.
    pub launches_per_step: usize,
}

impl Generator {
    /// Opens a generative model on a device. Weights are uploaded by the first use.
    ///
    /// # Errors
    /// [`Error::Model`] for anything wrong with the files, [`Error::NoDevice`] for the device.
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        let mut files = files::read(source, options.mmap)?;
        let decoder =
            models::decoder_from_config(&files.config, files.checkpoint.index(), files.picture_size())
                .map_err(|e| within(e, &files.name))?;
        let info = decoder.info();
        let labels = Labels::from_config(&files.config, info.classes.unwrap_or(0));
        let codec = codec::open(&mut files, info).map_err(|e| within(e, &files.name))?;
        let mut warnings = info.warnings.clone();
        if info.classes.is_some() {
            warnings.extend(labels.warnings.iter().cloned());
        }
        let precision = options.precision.unwrap_or_default();
        let (engine, device) = open_device(&options.device, precision)?;
        let tuning = Mutex::new(Tuning::of(&engine, options));
        Ok(Self {
            name: files.name,
            decoder,
            checkpoint: files.checkpoint,
            codec,
            labels,
            precision,
            fuse: options.fuse,
            engine,
            device,
            tuning,
            warnings: Mutex::new(warnings),
        })
    }

    /// Whether a source holds a generative model, by its configuration alone.
    pub fn recognises(source: &ModelSource) -> bool {
        files::read_config(source).is_some_and(|config| models::is_decoder(&config))
    }

    /// What the model is.
    pub fn info(&self) -> &GeneratorInfo {
        self.decoder.info()
    }

    /// The folder, file or builtin name the model was opened from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The device that works.
    pub fn device(&self) -> &DeviceInfo {
        &self.device
    }

    /// Storage types in use.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What a user should hear, as far as known now.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().map(|w| w.clone()).unwrap_or_default()
    }

    /// Checks a request without touching the device.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what cannot be.
    pub fn check(&self, request: &Request) -> Result<()> {
        let info = self.info();
        let Sampling { temperature, top_p, guidance, .. } = request.sampling;
        let wrong = |what: String, help: &str| Err(Error::usage(what, help));
        if request.classes.is_empty() {
            return wrong("no samples to make".to_owned(), "ask for one at least");
        }
        if !(0.0..=1e6).contains(&temperature) {
            return wrong(format!("temperature {temperature}"), "it is 0 (the likeliest token) to 1000000");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong(format!("top-p {top_p}"), "it is above 0, at most 1");
        }
        if [guidance.first, guidance.last].iter().any(|s| !s.is_finite() || s.abs() > 1e6) {
            return wrong(format!("guidance scale {}", guidance.last), "it is a finite number; 1 is none");
        }
        if !info.guided && (guidance.first != 1.0 || guidance.last != 1.0) {
            let what = "the model knows no absence of a class, so that there is no guidance".to_owned();
            return wrong(what, "leave the guidance scale at 1");
        }
        for class in &request.classes {
            match (class, info.classes) {
                (Some(class), None) => {
                    return wrong(format!("class {class}: the model has no classes"), "name none");
                }
                (Some(class), Some(n)) if *class >= n => {
                    return wrong(format!("class {class} of {n}"), "classes count from 0");
                }
                (None, Some(_)) if !info.guided => {
                    return wrong("the model needs a class".to_owned(), "name one");
                }
                _ => {}
            }
        }
        if request.prime.len() >= info.tokens {
            let what = format!("{} tokens are given, a picture has {}", request.prime.len(), info.tokens);
            return wrong(what, "leave at least one to draw");
        }
        if let Some(id) = request.prime.iter().find(|&&id| id as usize >= info.vocabulary) {
            return wrong(
                format!("token {id} of a vocabulary of {}", info.vocabulary),
                "encode with this model",
            );
        }
        if request.order == Order::Random {
            let what = "the model draws patches in raster order only".to_owned();
            return wrong(what, "only models with position tokens (RandAR) take another");
        }
        Ok(())
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
            match self.batch(request, first..first + n, begun, &mut done.stats, report) {
                Ok((tokens, entropy)) => {
                    done.tokens.extend(tokens);
                    done.entropy.extend(entropy);
                }
                Err(Error::OutOfMemory { .. } | Error::Limit { .. }) if n > 1 => {
                    most = n / 2;
                    self.warn(format!("{n} samples at a time do not fit the device; going on with {most}"));
                }
                Err(e) => return Err(e),
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
        let mut loops = Sequences::new(self, samples.len(), guided, given)?;
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
            loops.steps(chunk)?;
            have += chunk;
            if request.every > 0 {
                loops.finish()?;
            }
            tell(&mut loops, have)?;
        }
        loops.finish()?;
        stats.decode += start.elapsed();
        stats.steps += total - given - 1;
        stats.batch = stats.batch.max(samples.len());
        (stats.bytes_per_step, stats.launches_per_step) = loops.step_cost();
        if let broken @ 1.. = loops.broken()? {
            let what = format!("scores of {}", self.name);
            return Err(Error::NonFinite { what, count: broken, total: samples.len() * (total - given) });
        }
        Ok((loops.tokens(total)?, loops.entropy(total)?))
    }

    /// Outputs of the decoder for whole sequences given: `logits` (B,1+k,V) for every place, `hidden.N`.
    /// `classes`: the class of each sequence, the number of classes for none; `tokens`: k of each.
    ///
    /// # Errors
    /// [`Error::Usage`] for sequences of different lengths or an unknown output; device errors.
    pub fn score(&self, classes: &[u32], tokens: &[Vec<u32>], outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let given = tokens.first().map_or(0, Vec::len);
        let fits = classes.len() == tokens.len() && tokens.iter().all(|t| t.len() == given);
        if tokens.is_empty() || !fits || given >= self.info().tokens {
            let what = format!("{} classes and {} sequences", classes.len(), tokens.len());
            return Err(Error::usage(what, "pass a class and equally many tokens for each"));
        }
        let graph = self.whole_graph(tokens.len(), given)?.select(outputs)?;
        sequences::run_once(self, &graph, classes, tokens)
    }

    /// Names of what [`Generator::score`] can give.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn score_names(&self) -> Result<Vec<String>> {
        Ok(self.whole_graph(1, 0)?.outputs().iter().map(|(name, _)| name.clone()).collect())
    }

    fn whole_graph(&self, samples: usize, given: usize) -> Result<Graph> {
        let mut g = Graph::new();
        let sequence = Sequence::declare(&mut g, self.info(), samples, false);
        let x = self.decoder.build(&mut g, &sequence, New::Prompt(given))?;
        let logits = self.decoder.head(&mut g, x);
        g.output("logits", logits);
        g.check()?;
        Ok(g)
    }

    /// The graph that draws the token after the new ones.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn graph(&self, samples: usize, guided: bool, new: New) -> Result<Graph> {
        let mut g = Graph::new();
        let sequence = Sequence::declare(&mut g, self.info(), samples, guided);
        let x = self.decoder.build(&mut g, &sequence, new)?;
        let x = g.token(x, new.count() - 1); // (R,C)
        let logits = self.decoder.head(&mut g, x); // (R,V)
        g.scope("sample");
        let words = |n: usize| TensorDesc::new(crate::tensor::DType::U32, Shape::new(&[n]));
        let declared = crate::graph::Storage::AsDeclared;
        let settings = g.state(SETTINGS, words(Sampling::WORDS), declared);
        let streams = g.state(STREAMS, words(samples), declared);
        let shape = g.shape(sequence.tokens);
        let entropy = g.state(ENTROPY, TensorDesc::f32(shape), declared);
        let op = Sample { guided, advance: new.count() };
        let others = [settings, streams, sequence.step, sequence.tokens, entropy];
        let ids = g.sample(op, logits, others);
        g.output("ids", ids);
        g.select(&["ids"])
    }

    /// The plan of one token, or of a prompt, for this session's device; for people and profilers.
    ///
    /// # Errors
    /// [`Error::Limit`]; [`Error::Usage`] on the reference, which has no plans.
    pub fn plan(&self, samples: usize, guided: bool, new: New) -> Result<Plan> {
        let Engine::Gpu { gpu, .. } = &self.engine else {
            return Err(Error::usage("the reference has no plans", "choose an adapter of `vit-gpu devices`"));
        };
        plan::compile(&self.graph(samples, guided, new)?, gpu.target(), self.plan_options())
    }

    /// Pictures of tokens in raster order; patches that a short sequence leaves out are grey.
    ///
    /// # Errors
    /// [`Error::Usage`] for too many tokens or one beyond the vocabulary; device errors.
    pub fn decode(&self, tokens: &[Vec<u32>]) -> Result<Vec<Rgb>> {
        let info = self.info();
        let whole = |t: &Vec<u32>| -> Vec<u32> {
            t.iter().copied().chain(std::iter::repeat(0)).take(info.tokens.max(t.len())).collect()
        };
        let whole: Vec<Vec<u32>> = tokens.iter().map(whole).collect();
        let planes = self.decode_values(&whole)?;
        let [height, width] = info.picture;
        let byte = |x: &f32| (127.5 * (x + 1.0)).round_ties_even().clamp(0.0, 255.0) as u8;
        let picture = |(values, given): (&Vec<f32>, &Vec<u32>)| {
            let mut picture = Rgb { height, width, pixels: values.iter().map(byte).collect() };
            blank(&mut picture, info.grid, given.len());
            picture
        };
        Ok(planes.iter().zip(tokens).map(picture).collect())
    }

    /// Pictures of whole sequences before they are rounded: (H,W,3) each, in about [-1, 1].
    ///
    /// # Errors
    /// [`Error::Usage`] for too many or too few tokens, or one beyond the vocabulary; device errors.
    pub fn decode_values(&self, tokens: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let info = self.info();
        for sequence in tokens {
            let help = "were they made by another model?";
            if sequence.len() != info.tokens {
                let what = format!("{} tokens, a picture has {}", sequence.len(), info.tokens);
                return Err(Error::usage(what, help));
            }
            if let Some(id) = sequence.iter().find(|&&id| id as usize >= info.vocabulary) {
                let what = format!("token {id} of a vocabulary of {}", info.vocabulary);
                return Err(Error::usage(what, help));
            }
        }
        self.codec.decode(self, tokens)
    }

    /// Tokens of a picture of exactly [`GeneratorInfo::picture`], in raster order.
    ///
    /// # Errors
    /// [`Error::Usage`] for another size, or a checkpoint without the encoder; device errors.
    pub fn encode(&self, picture: &Rgb) -> Result<Vec<u32>> {
        let [height, width] = self.info().picture;
        if (picture.height, picture.width) != (height, width) || picture.pixels.len() != height * width * 3 {
            let what = format!("a picture of {}x{}", picture.width, picture.height);
            return Err(Error::usage(what, format!("the model takes {width}x{height}; `fit` resizes")));
        }
        self.codec.encode(self, picture)
    }

    /// An image resized, and cropped where its shape is another, to [`GeneratorInfo::picture`].
    ///
    /// # Errors
    /// If the image cannot be brought to that size.
    pub fn fit(&self, image: &Decoded) -> Result<Rgb> {
        let [height, width] = self.info().picture;
        Ok(Rgb { height, width, pixels: self.codec.preprocess().pixels(image)? })
    }

    fn compile(&self, graph: &Graph) -> Result<Plan> {
        let Engine::Gpu { gpu, .. } = &self.engine else {
            return Err(Error::usage("the reference has no plans", "choose an adapter of `vit-gpu devices`"));
        };
        let options = self.plan_options();
        self.tuning().learn(gpu, graph, options)?;
        plan::compile(graph, gpu.target(), self.plan_options())
    }

    fn plan_options(&self) -> plan::Options {
        plan::Options { precision: self.precision, fuse: self.fuse, choices: self.tuning().choices().clone() }
    }

    fn tuning(&self) -> std::sync::MutexGuard<'_, Tuning> {
        self.tuning.lock().expect("no panic happens while this lock is held")
    }

    fn weight(&self, weight: &Weight, shape: Shape) -> Result<HostTensor> {
        materialise(weight, shape, &self.checkpoint)
    }

    fn warn(&self, warning: String) {
        if let Ok(mut warnings) = self.warnings.lock()
            && !warnings.contains(&warning)
        {
            warnings.push(warning);
        }
    }
}

/// Settings of the draw; see [`Sampling::tensor`].
const SETTINGS: &str = "settings";
/// The number of each sequence's random stream.
const STREAMS: &str = "streams";
/// Entropy of each draw (B,N+1).
const ENTROPY: &str = "entropy";

/// Greys what is not drawn yet.
fn blank(picture: &mut Rgb, [rows, columns]: [usize; 2], drawn: usize) {
    let (patch_height, patch_width) = (picture.height / rows, picture.width / columns);
    for i in drawn..rows * columns {
        let (top, left) = (i / columns * patch_height, i % columns * patch_width);
        for y in top..top + patch_height {
            let start = (y * picture.width + left) * 3;
            picture.pixels[start..start + patch_width * 3].fill(GREY);
        }
    }
}

const GREY: u8 = 128;

/// Puts the model's name in front of errors that only know a file or a place in the graph.
fn within(e: Error, model: &str) -> Error {
    match e {
        Error::Model { model: place, what, help } => {
            Error::Model { model: format!("{model}: {place}"), what, help }
        }
        other => other,
    }
}

/// States of the reference.
type HostStates = reference::States;
