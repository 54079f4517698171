//! What encoders are for: classes of a text or a pair, words behind masks, whether one sentence follows
//! another, embeddings.

use std::ops::Range;

use super::batch::distinct;
use super::{Passage, Task, TextSession, TooLong};
use crate::error::{Advice, Error, Result};
use crate::tensor::HostTensor;
use crate::tokenizer::Encoding;

/// Scores of the classes of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// As the head gives them.
    pub logits: Vec<f32>,
    /// Softmax of them; where any number of classes may be right, the sigmoid of each.
    pub probabilities: Vec<f32>,
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
                TooLong::Cut => cut(&mut encoding, limit),
                TooLong::Refuse => {
                    let what = format!("a text has {} tokens, the model takes {limit}", encoding.ids.len());
                    return Err(Error::usage(what, Advice::CutEnd));
                }
            }
        }
        // A model that knows one kind of segment reads both texts as such.
        let types = if self.info().types > 1 { encoding.types.clone() } else { Vec::new() };
        Ok((Passage { ids: encoding.ids.clone(), types, ..Passage::default() }, encoding))
    }

    /// One output of each text, equal texts run once.
    fn outputs(&self, texts: Vec<Passage>, output: &str) -> Result<Vec<HostTensor>> {
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
            // Decoders read the last token.
            passage.places = vec![passage.ids.len() - 1];
            Ok(passage)
        });
        let logits = self.outputs(passages.collect::<Result<_>>()?, "logits")?;
        let scored = logits.iter().map(|logits| {
            let logits = logits.to_f32();
            let probabilities = if self.info().multi_label {
                logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect()
            } else {
                softmax(&logits)
            };
            Scored { logits, probabilities }
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
            Scored { probabilities: softmax(&logits), logits }
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
            let probabilities = softmax(logits);
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
                let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length.max(1e-12)) as f32);
            }
            Ok(vector)
        });
        vectors.collect()
    }
}

fn finite(scored: Scored, name: &str) -> Result<Scored> {
    let broken = scored.logits.iter().any(|l| !l.is_finite());
    if broken { Err(not_finite(name, &scored.logits)) } else { Ok(scored) }
}

fn not_finite(name: &str, values: &[f32]) -> Error {
    let count = values.iter().filter(|x| !x.is_finite()).count();
    Error::NonFinite { what: format!("scores of {name}"), count, total: values.len() }
}

/// Leaves away tokens of a text, or of the longer of two, from its end, until so many are left; special
/// tokens stay.
fn cut(encoding: &mut Encoding, limit: usize) {
    let count = |e: &Encoding, k: u8| e.sequence.iter().filter(|s| **s == Some(k)).count();
    let (mut first, mut second) = (count(encoding, 0), count(encoding, 1));
    let mut excess = encoding.ids.len().saturating_sub(limit).min(first + second);
    let (all_first, all_second) = (first, second);
    while excess > 0 {
        if first > second {
            first -= 1
        } else {
            second -= 1
        }
        excess -= 1;
    }
    let mut left = [first, second];
    let dropped = [all_first - first, all_second - second];
    let keep: Vec<bool> = encoding
        .sequence
        .iter()
        .map(|of| match of.map(usize::from) {
            Some(k) if dropped[k] > 0 => {
                let keep = left[k] > 0;
                left[k] = left[k].saturating_sub(1);
                keep
            }
            _ => true,
        })
        .collect();
    let mut kept = keep.iter().copied();
    encoding.ids.retain(|_| kept.next().unwrap_or(true));
    let mut kept = keep.iter().copied();
    encoding.types.retain(|_| kept.next().unwrap_or(true));
    let mut kept = keep.iter().copied();
    encoding.offsets.retain(|_| kept.next().unwrap_or(true));
    let mut kept = keep.iter().copied();
    encoding.sequence.retain(|_| kept.next().unwrap_or(true));
}

pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f64> = logits.iter().map(|l| f64::from(l - top).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| (w / sum) as f32).collect()
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
    fn the_longer_text_is_cut_at_its_end() {
        let mut e = encoding(5, 2);
        cut(&mut e, 8);
        assert_eq!(e.ids, [0, 1, 2, 3, 6, 7, 8, 9]);
        let mut e = encoding(3, 4);
        cut(&mut e, 7);
        assert_eq!(e.ids, [0, 1, 2, 4, 5, 6, 9]);
        let mut e = encoding(4, 0);
        cut(&mut e, 5);
        assert_eq!(e.ids, [0, 1, 2, 5, 6]);
    }

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(likeliest(&[0.1, 0.7, 0.7, 0.2], 3), [1, 2, 3]);
        assert_eq!(likeliest(&[0.1, 0.7], 0), [1, 0]);
        assert_eq!(likeliest(&[0.1], 9), [0]);
    }
}
