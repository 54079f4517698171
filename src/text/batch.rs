//! Texts as the model's input: checked, sorted by length, padded to few lengths, run in batches that fit
//! the device, and handed back one by one in the order they came.

use std::collections::HashMap;

use super::TextSession;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::models::text::{Kind, Text, TextSizes};
use crate::plan::Plan;
use crate::session::padded_batch;
use crate::tensor::{HostTensor, Shape};

/// Most texts of a batch, and most tokens with their padding.
const MAX_TEXTS: usize = 64;
const MAX_TOKENS: usize = 8192;

/// One text as the model reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passage {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Segment of each; all 0 if empty.
    pub types: Vec<u32>,
    /// What the decoder of an encoder-decoder has written, from its start token on.
    pub written: Vec<u32>,
    /// Where scores of the vocabulary are wanted.
    pub places: Vec<usize>,
    /// Ids whose probability is wanted: what follows each token that is written.
    pub targets: Vec<u32>,
}

/// The length that texts of `n` tokens are padded to: 8, 16, 24, 32, 48, 64, 96, ..., at most the limit.
pub(crate) fn padded(n: usize, limit: Option<usize>) -> usize {
    let power = n.max(8).next_power_of_two();
    let length = if n > 16 && n <= power / 4 * 3 { power / 4 * 3 } else { power };
    limit.map_or(length, |limit| length.min(limit.max(n)))
}

impl TextSession {
    /// Names of everything one pass can give.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn output_names(&self) -> Result<Vec<String>> {
        let written = usize::from(self.info().kind == Kind::EncoderDecoder);
        let graph = self.graph(TextSizes { batch: 1, tokens: 1, written, places: 1 })?;
        Ok(graph.outputs().iter().map(|(name, _)| name.clone()).collect())
    }

    /// Everything one pass gives for texts of these sizes.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn graph(&self, sizes: TextSizes) -> Result<Graph> {
        let mut g = Graph::new();
        let text = Text::declare(&mut g, sizes);
        self.model.build(&mut g, &text).map_err(|e| e.within(self.name()))?;
        g.check()?;
        Ok(g)
    }

    /// The plan of one pass over texts of these sizes, for people and profilers.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown output, [`Error::Limit`].
    pub fn plan(&self, sizes: TextSizes, outputs: &[&str]) -> Result<Plan> {
        self.runtime.plan(&self.graph(sizes)?.select(outputs)?)
    }

    /// Runs texts. Returns the outputs of each, in the order of the texts and of `outputs`, without the
    /// batch dimension; what counts tokens or places is as long as the padding made it.
    ///
    /// # Errors
    /// [`Error::Usage`] for a text without tokens, of too many, or with ids beyond the vocabulary, and for
    /// an unknown output; device errors.
    pub fn run(&self, texts: &[Passage], outputs: &[&str]) -> Result<Vec<Vec<HostTensor>>> {
        for (i, text) in texts.iter().enumerate() {
            self.check(i, text)?;
        }
        let limit = self.info().positions;
        let key = |i: usize| {
            let text = &texts[i];
            (padded(text.ids.len(), limit), padded_or_none(text.written.len()), places(text))
        };
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| (key(i), i));
        let mut results: Vec<Vec<HostTensor>> = vec![Vec::new(); texts.len()];
        let (mut first, mut most) = (0, MAX_TEXTS);
        while first < order.len() {
            let (tokens, written, places) = key(order[first]);
            let fits = (MAX_TOKENS / tokens.max(written)).clamp(1, most);
            let same = |&&i: &&usize| key(i) == (tokens, written, places);
            let n = order[first..].iter().take(fits).take_while(same).count();
            let group = &order[first..first + n];
            let sizes = TextSizes { batch: padded_batch(n), tokens, written, places };
            let some: Vec<&Passage> = group.iter().map(|&i| &texts[i]).collect();
            let made = self.run_group(&some, sizes, outputs);
            if let Some(made) = self.runtime.fitting(made, n, &mut most, " texts")? {
                for (row, &i) in group.iter().enumerate() {
                    results[i] = made.iter().map(|t| row_of(t, row, sizes.batch)).collect();
                }
                first += n;
            }
        }
        Ok(results)
    }

    fn check(&self, i: usize, text: &Passage) -> Result<()> {
        let info = self.info();
        let wrong = |what: String, help: &str| Err(Error::usage(format!("text {}: {what}", i + 1), help));
        if text.ids.is_empty() {
            return wrong("it has no tokens".to_owned(), "pass a text that is not empty");
        }
        let longest = text.ids.len().max(if info.kind == Kind::Decoder { 0 } else { text.written.len() });
        if let Some(limit) = info.positions.filter(|&limit| longest > limit) {
            let what = format!("it has {longest} tokens, the model takes {limit}");
            return wrong(what, "pass a shorter text");
        }
        let ids = text.ids.iter().chain(&text.written).chain(&text.targets);
        if let Some(id) = ids.copied().find(|&id| id as usize >= info.vocabulary) {
            let what = format!("token {id} of a vocabulary of {}", info.vocabulary);
            return wrong(what, "the tokenizer belongs to another model");
        }
        if let Some(kind) = text.types.iter().find(|&&kind| kind as usize >= info.types.max(1)) {
            return wrong(format!("segment {kind} of {}", info.types.max(1)), "segments count from 0");
        }
        Ok(())
    }

    fn run_group(&self, texts: &[&Passage], sizes: TextSizes, outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let graph = || self.graph(sizes)?.select(outputs);
        self.runtime.run(&(sizes, outputs), graph, &self.contents(texts, sizes))
    }

    /// The inputs of a batch, padded.
    pub(crate) fn contents(&self, texts: &[&Passage], sizes: TextSizes) -> Vec<(&'static str, HostTensor)> {
        let TextSizes { batch, tokens, written, places } = sizes;
        let info = self.info();
        // Rows that pad the batch are texts of one token.
        let rows = |length: usize, of: &dyn Fn(&Passage) -> Vec<u32>| -> HostTensor {
            let mut all = Vec::with_capacity(batch * length);
            for row in 0..batch {
                let mut words = texts.get(row).map(|text| of(text)).unwrap_or_default();
                words.resize(length, 0);
                all.extend(words);
            }
            HostTensor::u32([batch, length], all)
        };
        let positions =
            |text: &Passage| positions(&text.ids, info.counted_positions.then_some(info.pad).flatten());
        let lengths = (0..batch).map(|row| texts.get(row).map_or(1, |t| t.ids.len() as u32)).collect();
        let scored = if written > 0 { written } else { tokens };
        let mut all = vec![
            ("ids", rows(tokens, &|t| t.ids.clone())),
            ("positions", rows(tokens, &positions)),
            ("types", rows(tokens, &|t| t.types.clone())),
            ("lengths", HostTensor::u32([batch], lengths)),
            ("places", rows(places, &|t| t.places.iter().map(|&p| p as u32).collect())),
            ("targets", rows(scored, &|t| t.targets.clone()).reshaped(Shape::new(&[batch * scored]))),
        ];
        if written > 0 {
            all.push(("written", rows(written, &|t| t.written.clone())));
        }
        all
    }
}

/// Positions of tokens: 0, 1, 2, ..., or counting those that are not padding from behind its id
/// (`create_position_ids_from_input_ids` of RoBERTa).
fn positions(ids: &[u32], pad: Option<u32>) -> Vec<u32> {
    let Some(pad) = pad else { return (0..ids.len() as u32).collect() };
    let mut next = pad;
    let counted = ids.iter().map(|&id| {
        next += u32::from(id != pad);
        if id == pad { pad } else { next }
    });
    counted.collect()
}

fn padded_or_none(n: usize) -> usize {
    if n == 0 { 0 } else { padded(n, None) }
}

/// Places of a text, padded: 1, 2, 3, 4, 6, 8, ...
fn places(text: &Passage) -> usize {
    padded_batch(text.places.len().max(1))
}

/// One row of a tensor whose first dimension is, or is counted by, the batch.
fn row_of(tensor: &HostTensor, row: usize, batch: usize) -> HostTensor {
    let per = tensor.shape().elements() / batch;
    let shape = tensor.shape();
    let dims = shape.dims();
    let rest = if dims[0] == batch { dims[1..].to_vec() } else { vec![per] };
    let data = tensor.to_f32()[row * per..(row + 1) * per].to_vec();
    HostTensor::f32(Shape::new(&rest), data)
}

/// Passages that are equal run once; `back[i]` says where the i-th is.
pub(super) fn distinct(texts: Vec<Passage>) -> (Vec<Passage>, Vec<usize>) {
    let mut seen: HashMap<Vec<u32>, Vec<usize>> = HashMap::new();
    let (mut kept, mut back) = (Vec::new(), Vec::new());
    for text in texts {
        let same = seen.entry(text.ids.clone()).or_default();
        let found = same.iter().copied().find(|&at| kept[at] == text);
        let at = found.unwrap_or_else(|| {
            kept.push(text);
            same.push(kept.len() - 1);
            kept.len() - 1
        });
        back.push(at);
    }
    (kept, back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_padded_to_few() {
        let lengths = [1, 8, 9, 17, 24, 25, 33, 48, 49, 511].map(|n| padded(n, Some(512)));
        assert_eq!(lengths, [8, 8, 16, 24, 24, 32, 48, 48, 64, 512]);
        assert_eq!(padded(35, Some(40)), 40);
        assert_eq!([1, 4, 5, 7, 13].map(padded_batch), [1, 4, 6, 8, 16]);
    }

    #[test]
    fn padding_is_not_counted_as_a_position() {
        assert_eq!(positions(&[5, 1, 7, 8], Some(1)), [2, 1, 3, 4]);
        assert_eq!(positions(&[5, 1, 7], None), [0, 1, 2]);
    }

    #[test]
    fn equal_texts_run_once() {
        let text = |ids: &[u32], places: &[usize]| Passage {
            ids: ids.to_vec(),
            places: places.to_vec(),
            ..Passage::default()
        };
        let (kept, back) =
            distinct(vec![text(&[1], &[]), text(&[2], &[]), text(&[1], &[]), text(&[1], &[0])]);
        assert_eq!((kept.len(), back), (3, vec![0, 1, 0, 2]));
    }
}
