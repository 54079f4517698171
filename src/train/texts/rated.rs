//! A number for a text, or for two: the squared error of a single score, as transformers trains models of one label.

use super::lesson::{Example, Lesson, Reading, Tally, Told, longest, of_text, reader};
use super::task::Texts;
use crate::error::Result;
use crate::models::text::{Task, TextSizes};
use crate::session::ModelFiles;
use crate::tensor::HostTensor;
use crate::text::{Passage, TooLong};
use crate::train::data::Rated;
use crate::train::fit::Metric;
use crate::train::head::{self, Head};
use crate::train::objective::TextObjective;

/// The loss is the mean squared error.
const METRICS: &[Metric] = &[Metric::loss("loss"), Metric::loss("mean_absolute_error")];

struct Ratings {
    sets: [Vec<(Passage, f32)>; 2],
}

/// Makes a model ready for texts with numbers. If it has no single score, it gets a new head for it.
///
/// # Errors
/// [`crate::Error::Model`] for a model that takes no such head; [`crate::Error::Usage`] for a text without tokens.
pub fn regression(files: ModelFiles, sets: [Vec<Rated>; 2], reading: &Reading) -> Result<Texts> {
    let mut files = files;
    let mut session = reader(&files)?;
    let new_head = session.info().classes != Some(1) || !session.info().can(Task::Classify);
    if new_head {
        files = head::with_head(&files, &Head::Score, reading.seed)?;
        session = reader(&files)?;
    }
    // Without a name for it, what comes out would be taken for the logarithm of odds.
    files.config["problem_type"] = "regression".into();
    if let Some(longest) = reading.longest {
        session.shorten(longest);
    }
    let encode = |set: Vec<Rated>| -> Result<Vec<(Passage, f32)>> {
        let texts = set.into_iter().enumerate().map(|(i, (text, pair, number))| {
            let encoded = session.encode((&text, pair.as_deref()), TooLong::Cut);
            let (mut passage, _) = encoded.map_err(of_text(i))?;
            passage.places = vec![session.last_token(&passage.ids)];
            Ok((passage, number))
        });
        texts.collect()
    };
    let [training, held_out] = sets;
    let lesson = Ratings { sets: [encode(training)?, encode(held_out)?] };
    Ok(Texts::new(files, session, Box::new(lesson), reading, new_head))
}

impl Lesson for Ratings {
    fn objective(&self) -> TextObjective {
        TextObjective::Score
    }

    fn sizes(&self) -> TextSizes {
        let passages = self.sets.iter().flatten().map(|(passage, _)| passage);
        TextSizes { batch: 0, tokens: longest(passages), written: 0, places: 1 }
    }

    fn counts(&self) -> [usize; 2] {
        self.sets.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, _: u64) -> Example {
        let (passage, number) = &self.sets[set][i];
        Example { passage: passage.clone(), told: Told::Score(*number) }
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn tally(&self) -> Box<dyn Tally + '_> {
        Box::new(Errors::default())
    }
}

#[derive(Default)]
struct Errors {
    seen: usize,
    sum: f64,
}

impl Tally for Errors {
    fn add(&mut self, examples: &[Example], scores: &[HostTensor]) {
        for (example, score) in examples.iter().zip(scores[0].as_f32().unwrap_or_default()) {
            let Told::Score(number) = example.told else { continue };
            self.seen += 1;
            self.sum += f64::from((score - number).abs());
        }
    }

    fn numbers(&self, loss: f64) -> Vec<(String, f64)> {
        let mean = self.sum / self.seen.max(1) as f64;
        vec![("loss".to_owned(), loss), ("mean_absolute_error".to_owned(), mean)]
    }
}
