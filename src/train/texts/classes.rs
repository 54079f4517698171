//! Classes of texts, or of pairs of texts.

use super::lesson::{Example, Lesson, Reading, Tally, Told, longest, of_text, reader};
use super::task::Texts;
use crate::error::Result;
use crate::models::text::TextSizes;
use crate::session::ModelFiles;
use crate::tensor::HostTensor;
use crate::text::{Passage, TooLong};
use crate::train::data::TextSet;
use crate::train::fit::{CLASSES, Metric};
use crate::train::found::Found;
use crate::train::head::{self, Head};
use crate::train::objective::TextObjective;

struct Classes {
    sets: [Vec<(Passage, u32)>; 2],
}

/// Makes a model ready for the classes of texts. If they are not the model's own, it gets a new classifier.
///
/// # Errors
/// [`crate::Error::Model`] for a model without a tokenizer, and one that takes no classifier; [`crate::Error::Usage`]
/// for a text without tokens.
pub fn classes(files: ModelFiles, sets: [TextSet; 2], reading: &Reading) -> Result<Texts> {
    let mut files = files;
    let mut session = reader(&files)?;
    let known = head::same_classes(&files, session.info().classes, &sets[0].classes)
        .filter(|_| session.info().can(crate::models::text::Task::Classify));
    let new_head = known.is_none();
    if new_head {
        files = head::with_head(&files, &Head::Classes(&sets[0].classes), reading.seed)?;
        session = reader(&files)?;
    }
    if let Some(longest) = reading.longest {
        session.shorten(longest);
    }
    let places = known.unwrap_or_else(|| (0..sets[0].classes.len() as u32).collect());
    let encode = |set: TextSet| -> Result<Vec<(Passage, u32)>> {
        let texts = set.texts.into_iter().enumerate().map(|(i, (text, pair, class))| {
            let encoded = session.encode((&text, pair.as_deref()), TooLong::Cut);
            let (mut passage, _) = encoded.map_err(of_text(i))?;
            passage.places = vec![session.last_token(&passage.ids)];
            Ok((passage, places[class as usize]))
        });
        texts.collect()
    };
    let [training, held_out] = sets;
    let lesson = Classes { sets: [encode(training)?, encode(held_out)?] };
    Ok(Texts::new(files, session, Box::new(lesson), reading, new_head))
}

impl Lesson for Classes {
    fn objective(&self) -> TextObjective {
        TextObjective::Classes
    }

    fn sizes(&self) -> TextSizes {
        let passages = self.sets.iter().flatten().map(|(passage, _)| passage);
        TextSizes { batch: 0, tokens: longest(passages), written: 0, places: 1 }
    }

    fn counts(&self) -> [usize; 2] {
        self.sets.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, _: u64) -> Example {
        let (passage, class) = &self.sets[set][i];
        Example { passage: passage.clone(), told: Told::Labels(vec![*class]) }
    }

    fn metrics(&self) -> &'static [Metric] {
        CLASSES
    }

    fn tally(&self) -> Box<dyn Tally + '_> {
        Box::new(Found::default())
    }
}

impl Tally for Found {
    fn add(&mut self, examples: &[Example], scores: &[HostTensor]) {
        let label = |example: &Example| match &example.told {
            Told::Labels(labels) => labels.first().copied(),
            Told::Answer(_) | Told::Score(_) => None,
        };
        let labels: Vec<u32> = examples.iter().filter_map(label).collect();
        Found::add(self, &scores[0], &labels);
    }

    fn numbers(&self, _: f64) -> Vec<(String, f64)> {
        Found::numbers(self)
    }
}
