//! Text to text: sources that are read, and targets that are written (Raffel et al. 2020).

use super::lesson::{Example, Lesson, Reading, Tally, Told, need, of_text, reader};
use super::spans::written;
use super::task::Texts;
use super::tied;
use crate::error::{Error, Result};
use crate::models::text::{Kind, Task, TextSizes};
use crate::session::ModelFiles;
use crate::tensor::HostTensor;
use crate::text::TooLong;
use crate::train::fit::{Better, Metric};
use crate::train::objective::TextObjective;

const METRICS: &[Metric] = &[
    Metric::loss("perplexity"),
    Metric { name: "exact_match", share: true, better: Better::Greater },
    Metric::loss("loss"),
];

struct Pairs {
    /// Tokens of source and target.
    sets: [Vec<(Vec<u32>, Vec<u32>)>; 2],
    start: u32,
}

/// Makes a T5 ready for texts and what is to be written for them.
///
/// # Errors
/// [`Error::Usage`] for other models, and a text without tokens.
pub fn text_to_text(files: ModelFiles, sets: [Vec<(String, String)>; 2], reading: &Reading) -> Result<Texts> {
    let files = tied::told_apart(files)?;
    let mut session = reader(&files)?;
    need(&session, Task::Generate, "text to text", "take an encoder with a decoder, such as T5")?;
    if session.info().kind != Kind::EncoderDecoder {
        let what = format!("{} has no encoder, and writes nothing for a source", session.info().family);
        return Err(Error::usage(what, "train it on the next token, or take a T5"));
    }
    if let Some(longest) = reading.longest {
        session.shorten(longest);
    }
    let encode = |set: Vec<(String, String)>| -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        let encoded = set.into_iter().enumerate().map(|(i, (source, target))| {
            let ids = |text: &str| session.encode((text, None), TooLong::Cut).map(|(passage, _)| passage.ids);
            Ok((ids(&source).map_err(of_text(i))?, ids(&target).map_err(of_text(i))?))
        });
        encoded.collect()
    };
    let [training, held_out] = sets;
    let (sets, start) = ([encode(training)?, encode(held_out)?], session.info().start.unwrap_or(0));
    Ok(Texts::new(files, session, Box::new(Pairs { sets, start }), reading, false))
}

impl Lesson for Pairs {
    fn objective(&self) -> TextObjective {
        TextObjective::Tokens
    }

    fn sizes(&self) -> TextSizes {
        let pairs = || self.sets.iter().flatten();
        let tokens = pairs().map(|(source, _)| source.len()).max().unwrap_or(1);
        let written = pairs().map(|(_, target)| target.len()).max().unwrap_or(1);
        TextSizes { batch: 0, tokens, written, places: written }
    }

    fn rows(&self, sizes: TextSizes) -> usize {
        sizes.places
    }

    fn counts(&self) -> [usize; 2] {
        self.sets.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, _: u64) -> Example {
        let (source, target) = self.sets[set][i].clone();
        written(source, target, self.start)
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn tally(&self) -> Box<dyn Tally + '_> {
        Box::new(Exact::default())
    }

    fn has_head(&self) -> bool {
        false
    }
}

/// Counts targets that greedy writing gives token for token: it does if, behind each part of the target, the likeliest
/// token is the next one. So it is known from one pass, and nothing is written.
#[derive(Default)]
struct Exact {
    seen: usize,
    right: usize,
}

impl Tally for Exact {
    fn add(&mut self, examples: &[Example], scores: &[HostTensor]) {
        let &[_, places, v] = scores[0].shape().dims() else { return };
        let scores = scores[0].as_f32().unwrap_or_default();
        for (example, rows) in examples.iter().zip(scores.chunks(places * v)) {
            let Told::Labels(labels) = &example.told else { continue };
            // Equal scores, and what is no number, count against it.
            let likeliest = |(row, label): (&[f32], &u32)| {
                let own = row[*label as usize];
                row.iter().enumerate().all(|(id, score)| id == *label as usize || *score < own)
            };
            self.seen += 1;
            self.right += usize::from(rows.chunks(v).zip(labels).all(likeliest));
        }
    }

    fn numbers(&self, loss: f64) -> Vec<(String, f64)> {
        let exact = self.right as f64 / self.seen.max(1) as f64;
        let all = [("perplexity", loss.exp()), ("exact_match", exact), ("loss", loss)];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_means_every_token() {
        let scores = HostTensor::f32([2, 2, 3], vec![0., 1., 2., 3., 1., 1., 0., 1., 2., 1., 1., 0.]);
        let examples = [vec![2, 0], vec![2, 1]].map(|labels| written(vec![5], labels, 0));
        let mut exact = Exact::default();
        // The second text's last token is one of two that are equal.
        exact.add(&examples, &[scores]);
        assert_eq!((exact.seen, exact.right), (2, 1));
        assert_eq!(examples[0].passage.written, [0, 2]);
    }
}
