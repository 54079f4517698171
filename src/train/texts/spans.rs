//! Texts to be mended (Raffel et al. 2020, 3.1.4): 15 % of the tokens, in spans of three on average, are taken out, a
//! sentinel in the place of each span, and the decoder writes each sentinel with what it stands for. Drawn as
//! `random_spans_noise_mask` of the T5 code; what is written ends with `</s>` and no last sentinel, as in transformers'
//! `run_t5_mlm_flax.py`.

use super::lesson::{Example, Lesson, Reading, Told, need, reader};
use super::running::{around, joined, length, pieces};
use super::task::Texts;
use super::tied;
use crate::error::{Error, Result};
use crate::models::text::{Kind, Task, TextSizes};
use crate::random::Random;
use crate::session::ModelFiles;
use crate::text::Passage;
use crate::train::objective::TextObjective;

/// Share of tokens that are taken out, and the mean length of a span.
const SHARE: f64 = 0.15;
const SPAN: f64 = 3.0;

struct SpanCorruption {
    pieces: [Vec<Vec<u32>>; 2],
    /// Ids of `<extra_id_0>`, `<extra_id_1>`, ...
    sentinels: Vec<u32>,
    /// What ends a text.
    end: Vec<u32>,
    start: u32,
    seed: u64,
}

/// Makes a T5 ready to mend running text.
///
/// # Errors
/// [`Error::Usage`] for other models, a tokenizer with too few sentinels, and too little text.
pub fn span_corruption(files: ModelFiles, documents: [Vec<String>; 2], reading: &Reading) -> Result<Texts> {
    let files = tied::told_apart(files)?;
    let session = reader(&files)?;
    need(&session, Task::Generate, "mending texts", "take an encoder with a decoder, such as T5")?;
    if session.info().kind != Kind::EncoderDecoder {
        let what = format!("{} has no encoder, and cannot mend texts", session.info().family);
        return Err(Error::usage(what, "train it on the next token, or take a T5"));
    }
    let tokenizer = session.tokenizer()?;
    let sentinels: Vec<u32> = (0..).map_while(|i| tokenizer.id(&format!("<extra_id_{i}>"))).collect();
    let end = around(&session)?[1].clone();
    let length = length(&session, reading.longest, 2 + end.len())? - end.len();
    let [training, held_out] =
        documents.each_ref().map(|documents| joined(&session, documents, end.first().copied()));
    let pieces = pieces([training?, held_out?], length, 2)?;
    let longest = pieces.iter().flatten().map(Vec::len).max().unwrap_or(2);
    let (_, spans) = counts(longest);
    if spans > sentinels.len() {
        let what =
            format!("{spans} spans of {longest} tokens, and the tokenizer has {} sentinels", sentinels.len());
        return Err(Error::usage(what, "take shorter pieces, or a tokenizer with <extra_id_0> and so on"));
    }
    let start = session.info().start.unwrap_or(0);
    let lesson = SpanCorruption { pieces, sentinels, end, start, seed: reading.seed };
    Ok(Texts::new(files, session, Box::new(lesson), reading, false))
}

/// How many of so many tokens are taken out, and in how many spans.
fn counts(tokens: usize) -> (usize, usize) {
    let noise = ((tokens as f64 * SHARE).round_ties_even() as usize).clamp(1, tokens - 1);
    let spans = (noise.min(tokens - noise) as f64 / SPAN).round_ties_even() as usize;
    (noise, spans.max(1))
}

/// Lengths of so many parts of `items`, each of one at least, every division as likely as another.
fn parts(items: usize, count: usize, random: &mut Random) -> Vec<usize> {
    let mut begins: Vec<bool> = (0..items - 1).map(|i| i < count - 1).collect();
    random.shuffle(&mut begins);
    let mut lengths = vec![1];
    for begins in begins {
        match lengths.last_mut() {
            Some(last) if !begins => *last += 1,
            _ => lengths.push(1),
        }
    }
    lengths
}

impl SpanCorruption {
    /// What is read of a piece, and what is to be written.
    fn corrupted(&self, piece: &[u32], random: &mut Random) -> [Vec<u32>; 2] {
        let (noise, spans) = counts(piece.len());
        let taken = parts(noise, spans, random);
        let left = parts(piece.len() - noise, spans, random);
        let (mut read, mut written, mut at) = (vec![], vec![], 0);
        for ((left, taken), &sentinel) in left.into_iter().zip(taken).zip(&self.sentinels) {
            read.extend(&piece[at..at + left]);
            read.push(sentinel);
            written.push(sentinel);
            written.extend(&piece[at + left..at + left + taken]);
            at += left + taken;
        }
        [read, written].map(|ids| [ids, self.end.clone()].concat())
    }
}

/// A text that is read, and what is to be written for it behind the start token.
pub(super) fn written(ids: Vec<u32>, labels: Vec<u32>, start: u32) -> Example {
    let before = labels[..labels.len().saturating_sub(1)].iter().copied();
    let written = std::iter::once(start).chain(before).collect();
    let places = (0..labels.len()).collect();
    Example { passage: Passage { ids, written, places, ..Passage::default() }, told: Told::Labels(labels) }
}

impl Lesson for SpanCorruption {
    fn objective(&self) -> TextObjective {
        TextObjective::Tokens
    }

    fn sizes(&self) -> TextSizes {
        let (mut tokens, mut written) = (1, 1);
        for piece in self.pieces.iter().flatten() {
            let (noise, spans) = counts(piece.len());
            tokens = tokens.max(piece.len() - noise + spans + self.end.len());
            written = written.max(noise + spans + self.end.len());
        }
        TextSizes { batch: 0, tokens, written, places: written }
    }

    fn rows(&self, sizes: TextSizes) -> usize {
        sizes.places
    }

    fn counts(&self) -> [usize; 2] {
        self.pieces.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, epoch: u64) -> Example {
        let mut random = Random::of(&[self.seed, epoch, i as u64, 1]);
        let [ids, labels] = self.corrupted(&self.pieces[set][i], &mut random);
        written(ids, labels, self.start)
    }

    fn has_head(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_t5() {
        // `round(length * 0.15)` and `round(noise / 3)` of numpy, by hand: 76.8 and 25.67; 15 and 5; 1.5 and 0.67.
        assert_eq!([512, 100, 10, 2].map(counts), [(77, 26), (15, 5), (2, 1), (1, 1)]);
        let mut random = Random::new(1);
        for _ in 0..50 {
            let lengths = parts(15, 5, &mut random);
            assert!(
                lengths.len() == 5 && lengths.iter().sum::<usize>() == 15 && lengths.iter().all(|n| *n > 0)
            );
        }
    }

    #[test]
    fn what_is_written_mends_what_is_read() {
        let sentinels: Vec<u32> = (0..10).map(|i| 999 - i).collect();
        let piece: Vec<u32> = (100..160).collect();
        let lesson = SpanCorruption {
            pieces: [vec![piece.clone()], vec![piece.clone()]],
            sentinels: sentinels.clone(),
            end: vec![1],
            start: 0,
            seed: 3,
        };
        for epoch in 0..20 {
            let Example { passage, told } = lesson.example(0, 0, epoch);
            let Told::Labels(labels) = told else { continue };
            assert_eq!((passage.ids.len(), labels.len()), (60 - 9 + 3 + 1, 9 + 3 + 1));
            assert_eq!((passage.written[0], &passage.written[1..]), (0, &labels[..12]));
            assert_eq!((passage.ids.last(), labels.last(), passage.ids[0]), (Some(&1), Some(&1), 100));
            let mended: Vec<u32> = passage.ids[..passage.ids.len() - 1]
                .iter()
                .flat_map(|id| match labels.iter().position(|label| label == id && sentinels.contains(id)) {
                    Some(at) => {
                        labels[at + 1..].iter().copied().take_while(|id| (100..160).contains(id)).collect()
                    }
                    None => vec![*id],
                })
                .collect();
            assert_eq!(mended, piece);
        }
        assert_ne!(lesson.example(0, 0, 0).passage, lesson.example(0, 0, 1).passage);
        assert_eq!(lesson.sizes(), TextSizes { batch: 0, tokens: 55, written: 13, places: 13 });
    }
}
