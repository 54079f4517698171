//! Texts token by token: GPT-2 goes on with a prompt, T5 answers one. The prompt runs once for all samples
//! of it; then a plan of one token runs again and again, and tokens come back a few at a time.

use std::time::Duration;

use super::batch::padded;
use super::generation_config::{Constraints, GenerationConfig};
use super::streamer::TextStreamer;
use super::{Kind, Task, TextSession, TooLong};
use crate::clock::Instant;
use crate::error::{Advice, Error, Result};
use crate::models::sequence::{Extent, LENGTHS, New, SOURCE, SOURCE_LENGTHS, STEP, TOKENS, TokenDecoder};
use crate::ops::{LogitsRules, Sampling};
use crate::plan::Plan;
use crate::session::{ENTROPY, RULES, SETTINGS, STREAMS, TokenLoop, draw_graph};
use crate::tensor::HostTensor;

/// Tokens between two looks at what was written: few enough to read along, enough to hide what a look
/// costs.
const CHUNK: usize = 4;
/// The prompt's graph and that of a step.
const PROMPT: usize = 0;
const STEP_GRAPH: usize = 1;
/// Most samples at a time.
const MAX_SAMPLES: usize = 64;

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The text to go on with, or to answer.
    pub prompt: String,
    /// How many samples of it.
    pub samples: usize,
    /// The number of the first sample; a sample's number chooses its random numbers.
    pub first: u32,
    /// Most new tokens of each; `None` for as many as are usual and fit.
    pub tokens: Option<usize>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// What is asked of tokens beside that.
    pub constraints: Constraints,
    /// Texts that end a sample; they are omitted.
    pub stop: Vec<String>,
    /// What to do with a prompt that leaves no room.
    pub too_long: TooLong,
    /// Show tokens like `</s>` and `<extra_id_0>`.
    pub keep_special: bool,
}

impl GenerateOptions {
    /// One greedy sample of a prompt, of as many tokens as are usual and fit, whatever the checkpoint says of
    /// sampling; [`GenerateOptions::by`] follows that.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            samples: 1,
            first: 0,
            tokens: None,
            sampling: Sampling::greedy(),
            constraints: Constraints::default(),
            stop: Vec::new(),
            too_long: TooLong::default(),
            keep_special: false,
        }
    }
}

impl GenerateOptions {
    /// One sample of a prompt as a checkpoint is to be sampled ([`TextSession::generation`]).
    pub fn by(generation: &GenerationConfig, prompt: impl Into<String>) -> Self {
        Self {
            sampling: generation.sampling.unwrap_or_else(Sampling::greedy),
            stop: generation.stop.clone(),
            constraints: generation.constraints.clone(),
            ..Self::new(prompt)
        }
    }
}

/// New text of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which sample, from 0.
    pub sample: usize,
    /// What was added.
    pub text: &'a str,
}

/// Why a sample ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The model wrote a token that ends a text.
    EndToken,
    /// A text of [`GenerateOptions::stop`] came.
    Stop(String),
    /// All tokens that were asked for are there.
    Length,
}

/// Finished samples.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedTexts {
    /// The text of each, without the prompt.
    pub texts: Vec<String>,
    /// New tokens of each, the end token included.
    pub ids: Vec<Vec<u32>>,
    /// Why each ended.
    pub ended: Vec<Ended>,
    /// What it took.
    pub stats: GenerateStats,
}

/// What generating took; wall clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GenerateStats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the call to the first token: plans, weights, pipelines and the prompt.
    pub first_token: Duration,
    /// The prompt alone.
    pub prompt: Duration,
    /// All tokens after the first.
    pub decode: Duration,
    /// Runs after the prompt, one a token of each sample.
    pub steps: usize,
}

impl TextSession {
    /// Writes samples. `report` hears new text as it comes and may stop everything by an error.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model does not write, for settings out of range, for a prompt that is empty
    /// or leaves no room; device errors; [`Error::NonFinite`] if the model's scores are not numbers.
    pub fn generate(
        &self,
        options: &GenerateOptions,
        report: &mut dyn FnMut(Piece) -> Result<()>,
    ) -> Result<GeneratedTexts> {
        self.need(Task::Generate)?;
        check(options)?;
        let tokenizer = self.tokenizer()?;
        let prompt = self.prompt(&options.prompt, options.tokens, options.too_long)?;
        let tokens = self.room(prompt.len(), options.tokens)?;
        let mut streamers: Vec<TextStreamer> = (0..options.samples)
            .map(|_| TextStreamer::new(tokenizer.stream().keep_special(options.keep_special), &options.stop))
            .collect();
        let request = Request {
            prompt: &prompt,
            samples: options.samples,
            first: options.first,
            tokens,
            sampling: options.sampling,
            rules: options.constraints.rules(self.ends(), self.begun(prompt.len()), tokens),
            through: false,
        };
        let (ids, ends, stats) = self.generate_ids_with(&request, &mut |new| {
            let mut going = vec![true; new.len()];
            for (sample, (streamer, new)) in streamers.iter_mut().zip(new).enumerate() {
                // An end token is special as a rule; where it is a word (a full stop), it is part of the text.
                let text = streamer.hear(new.ids.iter().copied(), new.ended || new.last);
                if !text.is_empty() {
                    report(Piece { sample, text: &text })?;
                }
                going[sample] = streamer.stopped.is_none();
            }
            Ok(going)
        })?;
        let ended = streamers.iter().zip(&ends).map(|(streamer, &end)| match &streamer.stopped {
            Some(stop) => Ended::Stop(stop.clone()),
            None if end => Ended::EndToken,
            None => Ended::Length,
        });
        let ended = ended.collect();
        Ok(GeneratedTexts { texts: streamers.into_iter().map(|t| t.told).collect(), ids, ended, stats })
    }

    /// Tokens of a prompt: what GPT-2 goes on with (its end token, if the prompt is empty), what T5 reads.
    pub(super) fn prompt(&self, text: &str, tokens: Option<usize>, too_long: TooLong) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?.writes()?;
        let decoder = self.info().kind == Kind::Decoder;
        let mut ids = if decoder { tokenizer.encode_open(text)?.ids } else { tokenizer.encode(text)?.ids };
        if decoder && ids.is_empty() {
            // What GPT-2 was trained to begin a text behind.
            let begin = tokenizer.special().bos.or(self.ends().first().copied());
            ids.extend(begin);
        }
        if ids.is_empty() {
            return Err(Error::usage("the prompt is empty", "pass a text to begin with"));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.info().vocabulary) {
            let what = format!("token {id} of a vocabulary of {}", self.info().vocabulary);
            return Err(Error::usage(what, "the tokenizer belongs to another model"));
        }
        if let (Some(limit), true) = (self.limit(), decoder) {
            let room = limit.saturating_sub(tokens.unwrap_or(1).max(1));
            if ids.len() > room && too_long == TooLong::Cut && room > 0 {
                // A text goes on from its end.
                ids.drain(..ids.len() - room);
            }
        }
        Ok(ids)
    }

    /// How many new tokens there is room for.
    pub(super) fn room(&self, prompt: usize, tokens: Option<usize>) -> Result<usize> {
        /// Tokens written where nobody says how many.
        const USUAL: usize = 64;
        let usual = self.generation.usual(self.begun(prompt)).unwrap_or(USUAL);
        if tokens == Some(0) {
            return Err(Error::usage("no tokens to write", "ask for one at least"));
        }
        let Some(limit) = self.info().positions.filter(|_| self.info().kind == Kind::Decoder) else {
            return match tokens {
                Some(n) if n > 1 << 16 => Err(Error::usage(format!("{n} tokens"), "ask for 65536 at most")),
                n => Ok(n.unwrap_or(usual)),
            };
        };
        // The last token that is drawn is never fed back, and needs no position.
        let room = (limit + 1).saturating_sub(prompt);
        match tokens {
            _ if prompt > limit => {
                let what = format!("the prompt has {prompt} tokens, the model takes {limit}");
                Err(Error::usage(what, Advice::CutBeginning))
            }
            Some(n) if n > room => {
                let what = format!("{prompt} tokens of prompt and {n} new ones; the model takes {limit}");
                Err(Error::usage(what, Advice::FewerTokens { room }))
            }
            n => Ok(n.unwrap_or(usual).min(room)),
        }
    }

    /// Greedy tokens of ids: what the model goes on with, or answers, until a token that ends a text
    /// (`through` goes on behind it).
    ///
    /// # Errors
    /// As [`TextSession::generate`].
    pub fn greedy(&self, prompt: &[u32], tokens: usize, through: bool) -> Result<(Vec<u32>, GenerateStats)> {
        self.need(Task::Generate)?;
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= self.info().vocabulary) {
            return Err(Error::usage(
                format!("token {id} of a vocabulary of {}", self.info().vocabulary),
                "",
            ));
        }
        if prompt.is_empty() {
            return Err(Error::usage("the prompt is empty", "pass a token at least"));
        }
        let tokens = self.room(prompt.len(), Some(tokens))?;
        let (sampling, rules) = (Sampling::greedy(), LogitsRules::default());
        let request = Request { prompt, samples: 1, first: 0, tokens, sampling, rules, through };
        let (mut ids, _, stats) = self.generate_ids_with(&request, &mut |new| Ok(vec![true; new.len()]))?;
        Ok((ids.remove(0), stats))
    }

    /// Tokens of a sequence before anything is written.
    fn begun(&self, prompt: usize) -> usize {
        if self.info().kind == Kind::Decoder { prompt } else { 1 }
    }

    pub(super) fn decoder(&self) -> Result<&dyn TokenDecoder> {
        self.model.decoder().ok_or_else(|| Error::usage("the model does not write", "choose GPT-2 or T5"))
    }

    /// What sequences of so many new tokens need.
    pub(super) fn extent(&self, prompt: usize, samples: usize, tokens: usize) -> Extent {
        let decoder = self.info().kind == Kind::Decoder;
        let fed = if decoder { prompt + tokens - 1 } else { tokens };
        let limit = self.info().positions.filter(|_| decoder);
        let positions = padded(fed, limit).max(fed);
        let source = if decoder { [0, 0] } else { [1, padded(prompt, None)] };
        Extent {
            samples,
            guided: false,
            tokens: positions + 1,
            positions,
            placed: false,
            source,
            shared: true,
            tree: false,
        }
    }

    /// The states that a prompt begins with.
    pub(super) fn begin(&self, token_loop: &mut TokenLoop, extent: Extent, prompt: &[u32]) -> Result<New> {
        let Extent { samples, tokens, source, .. } = extent;
        let start = [self.start()];
        let decoder = self.info().kind == Kind::Decoder;
        let mut row = if decoder { prompt.to_vec() } else { start.to_vec() };
        let new = New::Prompt(row.len() - 1);
        row.resize(tokens, 0);
        token_loop.write(STEP, HostTensor::u32([4], vec![0; 4]))?;
        token_loop.write(TOKENS, HostTensor::u32([samples, tokens], row.repeat(samples)))?;
        if !decoder {
            let mut ids = prompt.to_vec();
            ids.resize(source[1], 0);
            let length = prompt.len() as u32;
            token_loop.write(SOURCE, HostTensor::u32(source, ids))?;
            token_loop.write(SOURCE_LENGTHS, HostTensor::u32([1], vec![length]))?;
            token_loop.write(LENGTHS, HostTensor::u32([samples], vec![length; samples]))?;
        }
        Ok(new)
    }

    /// The plan of a prompt, or of a step behind it, for people and profilers.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model does not write; [`Error::Limit`].
    pub fn writing_plan(&self, prompt: usize, samples: usize, tokens: usize, step: bool) -> Result<Plan> {
        let extent = self.extent(prompt, samples, tokens);
        let first = if self.info().kind == Kind::Decoder { prompt - 1 } else { 0 };
        let new = if step { New::LAST } else { New::Prompt(first) };
        self.runtime.plan(&draw_graph(self.decoder()?, extent, new, 0)?)
    }

    /// Draws tokens until all samples have ended. `tell` hears what is new of each and says which go on.
    fn generate_ids_with(
        &self,
        request: &Request,
        tell: &mut dyn FnMut(&[Heard]) -> Result<Vec<bool>>,
    ) -> Result<(Vec<Vec<u32>>, Vec<bool>, GenerateStats)> {
        let &Request { prompt, samples, first, tokens, sampling, ref rules, through } = request;
        let begun = Instant::now();
        let extent = self.extent(prompt.len(), samples, tokens);
        let decoder = self.decoder()?;
        let place = if self.info().kind == Kind::Decoder { prompt.len() - 1 } else { 0 };
        let kinds = [New::Prompt(place), New::LAST];
        let used = if tokens > 1 { &kinds[..] } else { &kinds[..1] };
        let rules = (!rules.is_empty()).then(|| rules.tensor());
        let words = rules.as_ref().map_or(0, |rules| rules.shape().elements());
        let graphs =
            used.iter().map(|&new| draw_graph(decoder, extent, new, words)).collect::<Result<_>>()?;
        let mut token_loop = TokenLoop::new(&self.runtime, graphs)?;
        self.begin(&mut token_loop, extent, prompt)?;
        token_loop.write(SETTINGS, sampling.tensor())?;
        rules.map_or(Ok(()), |rules| token_loop.write(RULES, rules))?;
        let streams = (0..samples as u32).map(|s| first.wrapping_add(s)).collect();
        token_loop.write(STREAMS, HostTensor::u32([samples], streams))?;
        let entropy = vec![0.0; samples * extent.tokens];
        token_loop.write(ENTROPY, HostTensor::f32([samples, extent.tokens], entropy))?;

        let mut stats = GenerateStats { prompt_tokens: prompt.len(), ..GenerateStats::default() };
        let start = Instant::now();
        token_loop.submit(&[(PROMPT, 1)])?;
        token_loop.finish()?;
        stats.prompt = start.elapsed();
        stats.first_token = begun.elapsed();
        let start = Instant::now();
        let mut all: Vec<Vec<u32>> = vec![Vec::new(); samples];
        let (mut ended, mut going) = (vec![false; samples], vec![true; samples]);
        let mut have = 1;
        loop {
            // What was drawn from scores that are no numbers is told to nobody.
            let step = token_loop.read(STEP)?;
            if let Some(&broken @ 1..) = step.as_u32().and_then(|step| step.get(2)) {
                let what = format!("scores of {}", self.name());
                return Err(Error::NonFinite { what, count: broken as usize, total: samples * have });
            }
            let drawn = token_loop.read(TOKENS)?;
            let rows = drawn.as_u32().unwrap_or_default().chunks(extent.tokens);
            let mut heard = Vec::new();
            for (sample, row) in rows.enumerate() {
                let known = all[sample].len();
                let mut new = Vec::new();
                if going[sample] {
                    for &id in &row[place + 1 + known..place + 1 + have] {
                        new.push(id);
                        if !through && self.ends().contains(&id) {
                            ended[sample] = true;
                            break;
                        }
                    }
                }
                all[sample].extend(&new);
                let last = all[sample].len() == tokens;
                heard.push(Heard { ids: new, ended: ended[sample], last });
            }
            let wanted = tell(&heard)?;
            for sample in 0..samples {
                going[sample] &= wanted[sample] && !ended[sample] && !heard[sample].last;
            }
            if !going.contains(&true) {
                break;
            }
            let chunk = CHUNK.min(tokens - have);
            token_loop.submit(&[(STEP_GRAPH, chunk as u32)])?;
            have += chunk;
            stats.steps += chunk;
        }
        token_loop.finish()?;
        stats.decode = start.elapsed();
        Ok((all, ended, stats))
    }
}

/// What to draw.
struct Request<'a> {
    prompt: &'a [u32],
    samples: usize,
    first: u32,
    tokens: usize,
    sampling: Sampling,
    rules: LogitsRules,
    /// A token that ends a text ends nothing.
    through: bool,
}

/// What is new of a sample.
struct Heard {
    ids: Vec<u32>,
    /// The last of the ids ends the text.
    ended: bool,
    /// There will be no more.
    last: bool,
}

fn check(options: &GenerateOptions) -> Result<()> {
    let Sampling { temperature, top_p, .. } = options.sampling;
    let wrong = |what: String, help: &str| Err(Error::usage(what, help));
    if !(0.0..=1e6).contains(&temperature) {
        return wrong(format!("temperature {temperature}"), "it is 0 (the likeliest token) to 1000000");
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return wrong(format!("top-p {top_p}"), "it is above 0, at most 1");
    }
    let penalty = options.constraints.repetition_penalty;
    if !(penalty > 0.0 && penalty <= 1e6) {
        return wrong(format!("repetition penalty {penalty}"), "it is above 0, at most 1000000; 1 is none");
    }
    if !(1..=MAX_SAMPLES).contains(&options.samples) {
        return wrong(format!("{} samples", options.samples), "ask for 1 to 64 at a time");
    }
    if options.stop.iter().any(String::is_empty) {
        return wrong("a stop text is empty".to_owned(), "it would end every text at once");
    }
    Ok(())
}
