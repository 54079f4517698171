//! What encoders are for: classes of a text or a pair, words behind masks, whether one sentence follows
//! another, embeddings.

use std::ops::Range;

use super::batch::distinct;
use super::sentence::{Mode, Sentence, pooled};
use super::{Passage, Task, TextSession, TooLong};
use crate::error::{Advice, Error, Result};
use crate::labels::Scoring;
use crate::models::text::ReadAt;
use crate::tensor::HostTensor;
use crate::tokenizer::{Encoding, Tokenizer};

/// Scores of the classes of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// As the head gives them.
    pub logits: Vec<f32>,
    /// What they say, by the [`Scoring`] of [`TextSession::labels`]: softmax, the sigmoid of each, or
    /// the same numbers.
    pub scores: Vec<f32>,
}

/// How a text's tokens become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pool {
    /// The first token.
    Cls,
    /// The mean of all tokens.
    #[default]
    Mean,
    /// What the checkpoint's pooler makes of the first token.
    Pooler,
}

/// What may stand behind one mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// Bytes of the text that the mask takes.
    pub range: Range<usize>,
    /// Token, id and probability, likeliest first.
    pub tokens: Vec<(String, u32, f32)>,
}

/// A text, or a pair of texts.
pub type Pair<'a> = (&'a str, Option<&'a str>);

impl TextSession {
    /// Tokens of a text or a pair, as the model reads it.
    ///
    /// # Errors
    /// [`Error::Usage`] for a text without tokens or of too many; [`Error::Model`] without a tokenizer.
    pub fn encode(&self, (text, pair): Pair, too_long: TooLong) -> Result<(Passage, Encoding)> {
        let tokenizer = self.tokenizer()?;
        let mut encoding = match pair {
            Some(pair) => tokenizer.encode_pair(text, pair)?,
            None => tokenizer.encode(text)?,
        };
        if encoding.ids.is_empty() {
            return Err(Error::usage("a text is empty", "pass at least one word"));
        }
        if let Some(limit) = self.limit().filter(|&limit| encoding.ids.len() > limit) {
            match too_long {
                TooLong::Cut => cut(&mut encoding, limit, tokenizer.cuts_left()),
                TooLong::Refuse => {
                    let what = format!("a text has {} tokens, the model takes {limit}", encoding.ids.len());
                    return Err(Error::usage(what, Advice::CutEnd));
                }
            }
        }
        // A model that knows one kind of segment reads both texts as such.
        let types = if self.info().types > 1 { encoding.types.clone() } else { Vec::new() };
        let mut passage = Passage { ids: encoding.ids.clone(), types, ..Passage::default() };
        if let Some(tower) = &self.info().tower {
            self.place(&mut passage, tower.read);
        }
        Ok((passage, encoding))
    }

    /// Makes ready what a text tower is read at.
    pub(crate) fn place(&self, passage: &mut Passage, read: ReadAt) {
        let info = self.info();
        let first = |found: &dyn Fn(u32) -> bool| passage.ids.iter().position(|&id| found(id)).unwrap_or(0);
        match read {
            ReadAt::End => passage.places = vec![first(&|id| info.ends.contains(&id))],
            ReadAt::LargestId => {
                let largest = passage.ids.iter().copied().max();
                passage.places = vec![first(&|id| Some(id) == largest)];
            }
            ReadAt::LastPlace => {
                let tokenizer = self.tokenizer().ok();
                let pad = tokenizer.and_then(|t| t.special().pad).or(info.pad).unwrap_or_default();
                let missing = info.positions.unwrap_or_default().saturating_sub(passage.ids.len());
                let padding = std::iter::repeat_n(pad, missing);
                if tokenizer.is_some_and(Tokenizer::pads_left) {
                    passage.ids.splice(..0, padding);
                } else {
                    passage.ids.extend(padding);
                }
            }
        }
    }

    /// The token that decoders read classes from: the last that is not padding.
    pub(crate) fn last_token(&self, ids: &[u32]) -> usize {
        match self.info().pad {
            Some(pad) => ids.iter().rposition(|&id| id != pad).unwrap_or(0),
            None => ids.len() - 1,
        }
    }

    /// One output of each text, equal texts run once.
    pub(super) fn outputs(&self, texts: Vec<Passage>, output: &str) -> Result<Vec<HostTensor>> {
        let (kept, back) = distinct(texts);
        let results = self.run(&kept, &[output])?;
        Ok(back.into_iter().map(|at| results[at][0].clone()).collect())
    }

    /// Classes of texts or pairs.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model has no classes; as [`TextSession::encode`] and [`TextSession::run`].
    pub fn classify(&self, texts: &[Pair], too_long: TooLong) -> Result<Vec<Scored>> {
        self.need(Task::Classify)?;
        let passages = texts.iter().map(|&text| {
            let (mut passage, _) = self.encode(text, too_long)?;
            passage.places = vec![self.last_token(&passage.ids)];
            Ok(passage)
        });
        let logits = self.outputs(passages.collect::<Result<_>>()?, "logits")?;
        let scored = logits.iter().map(|logits| {
            let logits = logits.to_f32();
            Scored { scores: self.labels().scoring.apply(&logits), logits }
        });
        scored.map(|scored| finite(scored, self.name())).collect()
    }

    /// How probable it is that the second text follows the first, for each pair.
    ///
    /// # Errors
    /// As [`TextSession::classify`].
    pub fn next_sentence(&self, pairs: &[(&str, &str)], too_long: TooLong) -> Result<Vec<Scored>> {
        self.need(Task::NextSentence)?;
        let passages = pairs.iter().map(|&(a, b)| Ok(self.encode((a, Some(b)), too_long)?.0));
        let logits = self.outputs(passages.collect::<Result<_>>()?, "seq_relationship_logits")?;
        let scored = logits.iter().map(|logits| {
            let logits = logits.to_f32();
            Scored { scores: Scoring::Softmax.apply(&logits), logits }
        });
        scored.map(|scored| finite(scored, self.name())).collect()
    }

    /// The likeliest tokens behind each mask of a text.
    ///
    /// # Errors
    /// [`Error::Usage`] if the text has no mask or the model no such head; as [`TextSession::run`].
    pub fn fill(&self, text: &str, top: usize, too_long: TooLong) -> Result<Vec<Filled>> {
        self.need(Task::FillMask)?;
        let tokenizer = self.tokenizer()?;
        let mask = tokenizer.special().mask.ok_or_else(|| {
            Error::usage(
                "the tokenizer has no mask token",
                "its tokenizer_config.json should name `mask_token`",
            )
        })?;
        let (mut passage, encoding) = self.encode((text, None), too_long)?;
        let masks: Vec<usize> = (0..passage.ids.len()).filter(|&i| passage.ids[i] == mask).collect();
        if masks.is_empty() {
            let word = tokenizer.token(mask).unwrap_or_default();
            return Err(Error::usage(
                "there is no mask in the text",
                format!("write {word} where a word is missing"),
            ));
        }
        passage.places.clone_from(&masks);
        let scores = self.outputs(vec![passage], "prediction_logits")?.remove(0);
        let width = scores.shape().width();
        let all = scores.to_f32();
        let filled = masks.iter().zip(all.chunks(width)).map(|(&at, logits)| {
            let probabilities = Scoring::Softmax.apply(logits);
            let tokens = likeliest(&probabilities, top).into_iter().map(|id| {
                let word = tokenizer.token(id as u32).unwrap_or_else(|| format!("#{id}"));
                (word, id as u32, probabilities[id])
            });
            if logits.iter().any(|l| !l.is_finite()) {
                return Err(not_finite(self.name(), logits));
            }
            Ok(Filled { range: encoding.offsets[at].clone(), tokens: tokens.collect() })
        });
        filled.collect()
    }

    /// One vector for each text or pair; `normalize` brings it to length 1.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model has no pooler and one is asked for; as [`TextSession::run`].
    pub fn embed(
        &self,
        texts: &[Pair],
        pool: Pool,
        normalize: bool,
        too_long: TooLong,
    ) -> Result<Vec<Vec<f32>>> {
        let output = match pool {
            Pool::Mean => "mean",
            Pool::Cls => "embedding",
            Pool::Pooler => "pooler_output",
        };
        if !self.output_names()?.iter().any(|name| name == output) {
            let what = format!("{} ({}) has no such pooling", self.name(), self.info().architecture);
            return Err(Error::usage(what, Advice::PoolMean));
        }
        let passages = texts.iter().map(|&text| Ok(self.encode(text, too_long)?.0));
        let vectors = self.outputs(passages.collect::<Result<_>>()?, output)?;
        let vectors = vectors.iter().map(|vector| {
            let mut vector = vector.to_f32();
            if vector.iter().any(|x| !x.is_finite()) {
                return Err(not_finite(self.name(), &vector));
            }
            if normalize {
                super::sentence::normalize(&mut vector);
            }
            Ok(vector)
        });
        vectors.collect()
    }
}

impl TextSession {
    /// One vector for each text in the space that a text tower shares with images; `normalize` brings it to length 1.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model that is no text tower; as [`TextSession::encode`] and [`TextSession::run`].
    pub fn embed_in_space(
        &self,
        texts: &[&str],
        normalize: bool,
        too_long: TooLong,
    ) -> Result<Vec<Vec<f32>>> {
        if self.info().tower.is_none() {
            return Err(Error::usage(format!("{} is no text tower", self.name()), Advice::Embed));
        }
        let passages = texts.iter().map(|text| Ok(self.encode((text, None), too_long)?.0));
        let vectors = self.outputs(passages.collect::<Result<_>>()?, "text_embeds")?;
        let vectors = vectors.iter().map(|vector| {
            let mut vector = vector.to_f32();
            if vector.iter().any(|x| !x.is_finite()) {
                return Err(not_finite(self.name(), &vector));
            }
            if normalize {
                super::sentence::normalize(&mut vector);
            }
            Ok(vector)
        });
        vectors.collect()
    }

    /// One vector for each text, as the files of sentence-transformers say.
    ///
    /// # Errors
    /// [`Error::Model`] for layers that do not fit; as [`TextSession::run`].
    pub fn embed_sentences(
        &self,
        texts: &[&str],
        sentence: &Sentence,
        too_long: TooLong,
    ) -> Result<Vec<Vec<f32>>> {
        // As sentence-transformers counts a prompt: with what opens a text, without what ends it.
        let skipped = match sentence.excluded_prompt() {
            Some(prompt) => self.tokenizer()?.encode_open(&prompt)?.ids.len(),
            None => 0,
        };
        let passages =
            texts.iter().map(|text| Ok(self.encode((&sentence.prepared(text), None), too_long)?.0));
        let passages = passages.collect::<Result<Vec<Passage>>>()?;
        let counts: Vec<usize> = passages.iter().map(|passage| passage.ids.len()).collect();
        let on_device = sentence.modes == [Mode::Mean] && skipped == 0;
        let outputs = self.outputs(passages, if on_device { "mean" } else { "last_hidden_state" })?;
        let vectors = outputs.iter().zip(counts).map(|(output, tokens)| {
            let (width, all) = (output.shape().width(), output.to_f32());
            let vector = match on_device {
                true => all.to_vec(),
                false => pooled(&sentence.modes, &all[..tokens * width], width, skipped.min(tokens)),
            };
            let vector = sentence.finish(vector)?;
            if vector.iter().all(|x| x.is_finite()) {
                Ok(vector)
            } else {
                Err(not_finite(self.name(), &vector))
            }
        });
        vectors.collect()
    }
}

fn finite(scored: Scored, name: &str) -> Result<Scored> {
    let broken = scored.logits.iter().any(|l| !l.is_finite());
    if broken { Err(not_finite(name, &scored.logits)) } else { Ok(scored) }
}

pub(super) fn not_finite(name: &str, values: &[f32]) -> Error {
    let count = values.iter().filter(|x| !x.is_finite()).count();
    Error::NonFinite { what: format!("scores of {name}"), count, total: values.len() }
}

/// Leaves away tokens of a text, or of the longer of two, until so many are left: from the end, or from the
/// beginning (`left`). Special tokens stay.
fn cut(encoding: &mut Encoding, limit: usize, left: bool) {
    let count = |e: &Encoding, k: u8| e.sequence.iter().filter(|s| **s == Some(k)).count();
    let all = [count(encoding, 0), count(encoding, 1)];
    let special = encoding.ids.len() - all[0] - all[1];
    let keep = longest_first(all, limit.saturating_sub(special));
    let mut seen = [0, 0];
    let stays = |of: &Option<u8>| {
        let Some(k) = of.map(usize::from) else { return true };
        seen[k] += 1;
        if left { seen[k] > all[k] - keep[k] } else { seen[k] <= keep[k] }
    };
    let stays: Vec<bool> = encoding.sequence.iter().map(stays).collect();
    let mut kept = stays.iter().copied();
    encoding.ids.retain(|_| kept.next().unwrap_or(true));
    let mut kept = stays.iter().copied();
    encoding.types.retain(|_| kept.next().unwrap_or(true));
    let mut kept = stays.iter().copied();
    encoding.offsets.retain(|_| kept.next().unwrap_or(true));
    let mut kept = stays.iter().copied();
    encoding.sequence.retain(|_| kept.next().unwrap_or(true));
}

/// How many tokens of two texts stay so that they are `most` at most, as the `tokenizers` library has it
/// (`longest_first`): the longer one is cut; where both are, the longer one, of equal ones the second, keeps
/// the odd token.
fn longest_first([first, second]: [usize; 2], most: usize) -> [usize; 2] {
    if first + second <= most {
        return [first, second];
    }
    let swapped = first > second;
    let shorter = first.min(second);
    let mut kept = [shorter, shorter.max(most.saturating_sub(shorter))];
    if kept[0] + kept[1] > most {
        kept = [most / 2, most - most / 2];
    }
    if swapped { [kept[1], kept[0]] } else { kept }
}

/// Indices of the largest values, largest first; 0 asks for all.
pub(super) fn likeliest(values: &[f32], top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let n = if top == 0 { values.len() } else { top.min(values.len()) };
    let falling = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    if n < order.len() {
        order.select_nth_unstable_by(n, falling);
        order.truncate(n);
    }
    order.sort_unstable_by(falling);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(first: usize, second: usize) -> Encoding {
        let mut sequence = vec![None];
        sequence.extend(vec![Some(0); first]);
        sequence.push(None);
        sequence.extend(vec![Some(1); second]);
        sequence.push(None);
        let n = sequence.len();
        let ids = (0..n as u32).collect();
        Encoding { ids, types: vec![0; n], offsets: vec![0..0; n], sequence }
    }

    #[test]
    fn the_longer_text_is_cut() {
        let cut = |first, second, limit, left| {
            let mut e = encoding(first, second);
            cut(&mut e, limit, left);
            e.ids
        };
        assert_eq!(cut(5, 2, 8, false), [0, 1, 2, 3, 6, 7, 8, 9]);
        assert_eq!(cut(4, 0, 5, false), [0, 1, 2, 5, 6]);
        assert_eq!(cut(4, 0, 5, true), [0, 3, 4, 5, 6]);
        assert_eq!(cut(5, 2, 8, true), [0, 3, 4, 5, 6, 7, 8, 9]);
        // By the formula of `truncate_encodings`, tokenizers 0.23, and its own tests (7 tokens).
        for (texts, most, kept) in [
            ([4, 4], 7, [3, 4]),
            ([4, 8], 7, [3, 4]),
            ([8, 4], 7, [4, 3]),
            ([8, 2], 7, [5, 2]),
            ([8, 8], 7, [3, 4]),
            ([0, 8], 7, [0, 7]),
            ([9, 9], 0, [0, 0]),
            ([9, 3], 12, [9, 3]),
            ([9, 3], 2, [1, 1]),
        ] {
            assert_eq!(longest_first(texts, most), kept, "{texts:?} {most}");
        }
    }

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(likeliest(&[0.1, 0.7, 0.7, 0.2], 3), [1, 2, 3]);
        assert_eq!(likeliest(&[0.1, 0.7], 0), [1, 0]);
        assert_eq!(likeliest(&[0.1], 9), [0]);
    }
}
