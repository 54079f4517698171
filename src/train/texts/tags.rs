//! A tag for each word: named entities, parts of speech. The first token of a word has the word's label, the others
//! none, as in transformers' `run_ner.py`; words are joined by spaces, as a text is read that nobody has taken apart.

use std::collections::BTreeSet;

use super::entities::Counts;
use super::lesson::{Example, Lesson, Reading, Tally, Told, longest, of_text, reader};
use super::task::Texts;
use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::models::text::{Task, TextSizes};
use crate::printable::printable;
use crate::session::ModelFiles;
use crate::tensor::HostTensor;
use crate::text::{Passage, TextSession, TooLong};
use crate::train::data::Tagged;
use crate::train::fit::Metric;
use crate::train::head::{self, Head};
use crate::train::objective::{IGNORED, TextObjective};

const METRICS: &[Metric] = &[Metric::share("f1"), Metric::share("accuracy"), Metric::loss("loss")];

struct Tags {
    /// Sentences, and a label for each token.
    sets: [Vec<(Passage, Vec<u32>)>; 2],
    names: Vec<String>,
}

/// Makes a model ready for the tags of words. If they are not the model's own, it gets a new head.
///
/// # Errors
/// [`Error::Model`] for a model that takes no such head; [`Error::Usage`] for fewer than two tags, and a tag that is
/// validated but not trained on.
pub fn tags(files: ModelFiles, sets: [Vec<Tagged>; 2], reading: &Reading) -> Result<Texts> {
    let tags = |set: &[Tagged]| set.iter().flatten().map(|(_, tag)| tag.clone()).collect::<BTreeSet<_>>();
    let [known, validated] = [tags(&sets[0]), tags(&sets[1])];
    if let Some(tag) = validated.difference(&known).next() {
        let what = format!("tag `{}` is validated, and not trained on", printable(tag));
        return Err(Error::usage(what, "both lists have the same tags"));
    }
    if known.len() < 2 {
        return Err(Error::usage(
            "the words have fewer than two tags",
            "there are two or more to tell apart",
        ));
    }
    let known: Vec<String> = known.into_iter().collect();
    let mut files = files;
    let mut session = reader(&files)?;
    let own = head::same_classes(&files, session.info().classes, &known);
    let own = own.filter(|_| session.info().can(Task::Tag));
    let new_head = own.is_none();
    if new_head {
        files = head::with_head(&files, &Head::Tags(&known), reading.seed)?;
        session = reader(&files)?;
    }
    if let Some(longest) = reading.longest {
        session.shorten(longest);
    }
    let places = own.unwrap_or_else(|| (0..known.len() as u32).collect());
    let label = |tag: &String| known.binary_search(tag).map_or(IGNORED, |at| places[at]);
    let encode = |set: &[Tagged]| -> Result<Vec<(Passage, Vec<u32>)>> {
        let all =
            set.iter().enumerate().map(|(i, words)| labelled(&session, words, &label).map_err(of_text(i)));
        all.collect()
    };
    let sets = [encode(&sets[0])?, encode(&sets[1])?];
    let names = Labels::from_config(&files.config, known.len()).names;
    Ok(Texts::new(files, session, Box::new(Tags { sets, names }), reading, new_head))
}

/// A sentence, and a label for each of its tokens: none for those that are not the first of a word.
fn labelled(
    session: &TextSession,
    words: &Tagged,
    label: &dyn Fn(&String) -> u32,
) -> Result<(Passage, Vec<u32>)> {
    let text = words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(" ");
    let (passage, encoding) = session.encode((&text, None), TooLong::Cut)?;
    let mut ends = words.iter().scan(0, |at, (word, _)| {
        let end = *at + word.len();
        *at = end + 1;
        Some(end)
    });
    let mut labels = Vec::with_capacity(passage.ids.len());
    // The word under way and its end; whether a token of it was there.
    let (mut word, mut end, mut begun) = (0, ends.next().unwrap_or(0), false);
    for (range, sequence) in encoding.offsets.iter().zip(&encoding.sequence) {
        if sequence.is_none() || range.is_empty() {
            labels.push(IGNORED);
            continue;
        }
        // A token may begin with the space before its word.
        while range.end > end {
            let Some(next) = ends.next() else { break };
            (word, end, begun) = (word + 1, next, false);
        }
        labels.push(if begun { IGNORED } else { label(&words[word].1) });
        begun = true;
    }
    Ok((passage, labels))
}

impl Lesson for Tags {
    fn objective(&self) -> TextObjective {
        TextObjective::Tokens
    }

    fn sizes(&self) -> TextSizes {
        let passages = self.sets.iter().flatten().map(|(passage, _)| passage);
        TextSizes { batch: 0, tokens: longest(passages), written: 0, places: 1 }
    }

    fn rows(&self, sizes: TextSizes) -> usize {
        sizes.tokens
    }

    fn counts(&self) -> [usize; 2] {
        self.sets.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, _: u64) -> Example {
        let (passage, labels) = &self.sets[set][i];
        Example { passage: passage.clone(), told: Told::Labels(labels.clone()) }
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn tally(&self) -> Box<dyn Tally + '_> {
        Box::new(Recognised { names: &self.names, seen: 0, right: 0, entities: Counts::default() })
    }
}

/// Tags that were told so far.
struct Recognised<'a> {
    names: &'a [String],
    seen: usize,
    right: usize,
    entities: Counts,
}

impl Tally for Recognised<'_> {
    fn add(&mut self, examples: &[Example], scores: &[HostTensor]) {
        let &[_, tokens, classes] = scores[0].shape().dims() else { return };
        let scores = scores[0].as_f32().unwrap_or_default();
        let name = |class: usize| self.names.get(class).map_or("", String::as_str);
        for (example, rows) in examples.iter().zip(scores.chunks(tokens * classes)) {
            let Told::Labels(labels) = &example.told else { continue };
            let (mut found, mut there) = (vec![], vec![]);
            for (row, &label) in rows.chunks(classes).zip(labels).filter(|(_, label)| **label != IGNORED) {
                let best =
                    (0..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
                self.seen += 1;
                self.right += usize::from(best == label as usize);
                found.push(name(best));
                there.push(name(label as usize));
            }
            self.entities.add(&found, &there);
        }
    }

    fn numbers(&self, loss: f64) -> Vec<(String, f64)> {
        let accuracy = self.right as f64 / self.seen.max(1) as f64;
        let all = [("f1", self.entities.f1()), ("accuracy", accuracy), ("loss", loss)];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::session::ModelSource;

    #[test]
    fn the_first_token_of_a_word_has_its_label() {
        let words: Tagged = [("Anna", "1"), ("saw", "2"), ("U.S.", "3"), ("boxes", "4")]
            .map(|(w, t)| (w.to_owned(), t.to_owned()))
            .into();
        let label = |tag: &String| tag.parse().unwrap();
        for model in ["bert-toy", "gpt2-toy"] {
            let files = ModelSource::Path(format!("tests/toys/{model}").into()).read(false).unwrap();
            let mut session = reader(&files).unwrap();
            let (passage, labels) = labelled(&session, &words, &label).unwrap();
            assert_eq!(passage.ids.len(), labels.len());
            let tokenizer = session.tokenizer().unwrap();
            let told: Vec<(String, u32)> = passage
                .ids
                .iter()
                .zip(&labels)
                .filter(|(_, label)| **label != IGNORED)
                .map(|(id, label)| (tokenizer.token(*id).unwrap(), *label))
                .collect();
            assert_eq!(
                told.iter().map(|(_, label)| *label).collect::<Vec<_>>(),
                [1, 2, 3, 4],
                "{model} {told:?}"
            );
            if model == "bert-toy" {
                // anna s ##a ##w u . s . box ##e ##s, between [CLS] and [SEP].
                let n = IGNORED;
                assert_eq!(labels, [n, 1, 2, n, n, 3, n, n, n, 4, n, n, n]);
                session.shorten(6);
                assert_eq!(labelled(&session, &words, &label).unwrap().1, [n, 1, 2, n, n, n]);
            }
        }
    }
}
