//! Beam search (Graves 2012; the scoring of Wu et al. 2016 in the form of transformers' `generate`): of the
//! likeliest continuations of several sequences the best few go on. Caches are not copied when sequences
//! split: each place says whose row holds it.

use super::generation_config::{Constraints, MAX_BEAMS, Search};
use super::tasks::likeliest;
use super::{Kind, Task, TextSession, TooLong};
use crate::error::{Error, Result};
use crate::models::sequence::{Extent, New, STEP, TOKENS, TREE};
use crate::session::{TokenLoop, score_graph};
use crate::tensor::HostTensor;

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct Beams {
    /// How wide, and which of the texts are best.
    pub search: Search,
    /// What is asked of tokens.
    pub constraints: Constraints,
    /// Most new tokens; `None` for as many as are usual and fit.
    pub tokens: Option<usize>,
    /// What to do with a prompt that leaves no room.
    pub too_long: TooLong,
}

/// A text that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// New tokens, the end token included.
    pub ids: Vec<u32>,
    /// See [`Search::length_penalty`].
    pub score: f64,
}

/// A sequence that goes on.
#[derive(Clone)]
struct Going {
    ids: Vec<u32>,
    /// Sum of the logarithms of its tokens' probabilities.
    log: f64,
    /// Whose row of the caches holds each place.
    rows: Vec<u32>,
}

/// The best finished texts, best first.
struct Finished {
    most: usize,
    penalty: f64,
    beams: Vec<Beam>,
}

impl Finished {
    fn score(&self, log: f64, length: usize) -> f64 {
        log / (length as f64).powf(self.penalty)
    }

    fn add(&mut self, ids: Vec<u32>, log: f64) {
        let score = self.score(log, ids.len());
        let at = self.beams.partition_point(|beam| beam.score >= score);
        self.beams.insert(at, Beam { ids, score });
        self.beams.truncate(self.most);
    }

    /// Whether nothing that goes on can be better than what is there; `best` is the likeliest of it.
    fn complete(&self, best: f64, length: usize, early: bool) -> bool {
        let Some(worst) = self.beams.last().filter(|_| self.beams.len() == self.most) else { return false };
        early || worst.score >= self.score(best, length)
    }
}

impl TextSession {
    /// The best texts behind a prompt, best first.
    ///
    /// # Errors
    /// As [`TextSession::generate`].
    pub fn beams(&self, prompt: &str, beams: &Beams) -> Result<Vec<Beam>> {
        let prompt = self.prompt(prompt, beams.tokens, beams.too_long)?;
        self.beams_of(&prompt, beams)
    }

    /// As [`TextSession::beams`], for a prompt of tokens.
    ///
    /// # Errors
    /// As [`TextSession::generate`].
    pub fn beams_of(&self, prompt: &[u32], beams: &Beams) -> Result<Vec<Beam>> {
        self.need(Task::Generate)?;
        let Beams { search, tokens, ref constraints, .. } = *beams;
        let Search { beams: width, length_penalty, early } = search;
        if !(1..=MAX_BEAMS).contains(&width) {
            let what = format!("{width} beams");
            return Err(Error::usage(what, format!("ask for 1 to {MAX_BEAMS}")));
        }
        if !length_penalty.is_finite() || length_penalty.abs() > 100.0 {
            return Err(Error::usage(
                format!("length penalty {length_penalty}"),
                "it is -100 to 100; 1 is usual",
            ));
        }
        let most = self.room(prompt.len(), tokens)?;
        let start = [self.start()];
        let begin = if self.info().kind == Kind::Decoder { prompt } else { &start[..] };
        let rules = constraints.rules(self.ends(), begin.len(), most);
        let extent = Extent { tree: true, ..self.extent(prompt.len(), width, most) };
        let first = if self.info().kind == Kind::Decoder { prompt.len() - 1 } else { 0 };
        let kinds = [New::Prompt(first), New::LAST];
        let used = if most > 1 { &kinds[..] } else { &kinds[..1] };
        let decoder = self.decoder()?;
        let graphs = used.iter().map(|&new| score_graph(decoder, extent, new)).collect::<Result<_>>()?;
        let mut token_loop = TokenLoop::new(&self.runtime, graphs)?;
        self.begin(&mut token_loop, extent, prompt)?;

        let mut finished = Finished { most: width, penalty: f64::from(length_penalty), beams: Vec::new() };
        let mut going = vec![Going { ids: vec![], log: 0.0, rows: vec![0; extent.positions] }];
        let mut logits = token_loop.run(0)?.remove(0);
        for length in 1..=most {
            let mut scores = self.log_softmax(&logits, going.len())?;
            let vocabulary = scores.len() / going.len();
            if !rules.is_empty() {
                for (row, beam) in scores.chunks_mut(vocabulary).zip(&going) {
                    rules.apply(row, &[begin, &beam.ids].concat());
                }
            }
            let sums: Vec<f32> = scores
                .chunks(vocabulary)
                .zip(&going)
                .flat_map(|(row, beam)| row.iter().map(|l| (f64::from(*l) + beam.log) as f32))
                .collect();
            let keep = (1 + self.ends().len()).max(2) * width;
            let candidates = likeliest(&sums, keep);
            let best = f64::from(sums[candidates[0]]);
            let mut next: Vec<Going> = Vec::new();
            for (rank, &at) in candidates.iter().enumerate() {
                let (parent, id) = (&going[at / vocabulary], (at % vocabulary) as u32);
                let log = f64::from(sums[at]);
                let ids: Vec<u32> = parent.ids.iter().copied().chain([id]).collect();
                if self.ends().contains(&id) {
                    // An end counts only if it is among the best.
                    if rank < width {
                        finished.add(ids, log);
                    }
                } else if next.len() < width {
                    let mut rows = parent.rows.clone();
                    // What this step entered lies in the parent's row; the prompt lies in every row.
                    if length > 1 {
                        rows[first + length - 1] = (at / vocabulary) as u32;
                    }
                    next.push(Going { ids, log, rows });
                }
            }
            if finished.complete(best, length, early) || next.is_empty() {
                next.clear();
            }
            going = next;
            if going.is_empty() || length == most {
                break;
            }
            self.advance(&mut token_loop, extent, prompt, first + length, &mut going)?;
            logits = token_loop.run(1)?.remove(0);
        }
        for beam in going {
            finished.add(beam.ids, beam.log);
        }
        Ok(finished.beams)
    }

    /// Writes where each sequence stands into the states; sequences that are missing repeat the first.
    fn advance(
        &self,
        token_loop: &mut TokenLoop,
        extent: Extent,
        prompt: &[u32],
        place: usize,
        going: &mut [Going],
    ) -> Result<()> {
        let Extent { samples, tokens, positions, .. } = extent;
        let start = [self.start()];
        let begin = if self.info().kind == Kind::Decoder { prompt } else { &start[..] };
        let (mut ids, mut rows) = (Vec::new(), Vec::new());
        for row in 0..samples {
            let beam = &mut going[if row < going.len() { row } else { 0 }];
            let mut sequence = [begin, &beam.ids].concat();
            sequence.resize(tokens, 0);
            ids.extend(sequence);
            let mut own = beam.rows.clone();
            // The new token is entered in the sequence's own row.
            own[place] = row as u32;
            rows.extend(own);
        }
        token_loop.write(STEP, HostTensor::u32([4], vec![place as u32, 0, 0, 0]))?;
        token_loop.write(TOKENS, HostTensor::u32([samples, tokens], ids))?;
        token_loop.write(TREE, HostTensor::u32([samples, positions], rows))
    }

    /// Logarithms of the probabilities of the first `rows` rows.
    fn log_softmax(&self, logits: &HostTensor, rows: usize) -> Result<Vec<f32>> {
        let width = logits.shape().width();
        let mut all = logits.to_f32();
        all.truncate(rows * width);
        let broken = all.iter().filter(|l| !l.is_finite()).count();
        if broken > 0 {
            let what = format!("scores of {}", self.name());
            return Err(Error::NonFinite { what, count: broken, total: all.len() });
        }
        for row in all.chunks_mut(width) {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|l| f64::from(l - top).exp()).sum();
            let log = f64::from(top) + sum.ln();
            row.iter_mut().for_each(|l| *l = (f64::from(*l) - log) as f32);
        }
        Ok(all)
    }
}
