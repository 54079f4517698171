//! What an objective makes of its data.

use crate::error::{Error, Result};
use crate::models::text::{Task, TextSizes};
use crate::session::{Device, ModelFiles, Options};
use crate::tensor::HostTensor;
use crate::text::{Passage, TextSession};
use crate::train::fit::Metric;
use crate::train::objective::TextObjective;

/// How texts are fed.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Texts of a step.
    pub batch: usize,
    /// What order, masks and a new head are drawn by.
    pub seed: u64,
    /// Most tokens of a text: the end of a longer one is left away; running text is cut into pieces of so many.
    /// `None` for as many as the model takes.
    pub longest: Option<usize>,
}

/// What stands for an epoch in a validation, so that its examples are the same every time.
pub(super) const VALIDATION: u64 = u64::MAX;

/// What an objective makes of its data. Unless it says otherwise, a validation finds the perplexity of words.
pub(super) trait Lesson {
    /// The loss.
    fn objective(&self) -> TextObjective;

    /// The most that an example has of everything; the batch counts for nothing.
    fn sizes(&self) -> TextSizes;

    /// Labels of an example, whose losses are rows, in a batch of these sizes.
    fn rows(&self, _: TextSizes) -> usize {
        1
    }

    /// How many examples there are to train on, and to validate on.
    fn counts(&self) -> [usize; 2];

    /// An example: of the texts to train on (set 0), or to validate on (set 1). What is drawn of it is a function of
    /// seed, set, number and epoch alone; the epoch of a validation is [`VALIDATION`].
    fn example(&self, set: usize, i: usize, epoch: u64) -> Example;

    /// The numbers of a validation.
    fn metrics(&self) -> &'static [Metric] {
        LANGUAGE
    }

    /// Takes the results of a validation.
    fn tally(&self) -> Box<dyn Tally + '_> {
        Box::new(Perplexity)
    }

    /// Whether there is a head of its own, which is trained as a whole where the rest is not.
    fn has_head(&self) -> bool {
        true
    }
}

/// A text, and what is to be told of it.
pub(super) struct Example {
    pub(super) passage: Passage,
    pub(super) told: Told,
}

/// What is to be told of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// A label for each row; missing ones are ignored.
    Labels(Vec<u32>),
    /// First and last token of an answer.
    Answer([u32; 2]),
    /// A number.
    Score(f32),
}

/// Takes the results of a validation.
pub(super) trait Tally {
    /// Whether it looks at the scores, or at the loss alone.
    fn wants_scores(&self) -> bool {
        true
    }

    /// Examples in their order, and the scores ([`TextObjective::scores`]) of all.
    fn add(&mut self, examples: &[Example], scores: &[HostTensor]);

    /// The numbers, given the mean loss of everything that has a label.
    fn numbers(&self, loss: f64) -> Vec<(String, f64)>;
}

/// Perplexity and loss, of models that write or fill in words.
pub(super) const LANGUAGE: &[Metric] = &[Metric::loss("perplexity"), Metric::loss("loss")];

/// The tally of [`LANGUAGE`].
pub(super) struct Perplexity;

impl Tally for Perplexity {
    fn wants_scores(&self) -> bool {
        false
    }

    fn add(&mut self, _: &[Example], _: &[HostTensor]) {}

    fn numbers(&self, loss: f64) -> Vec<(String, f64)> {
        vec![("perplexity".to_owned(), loss.exp()), ("loss".to_owned(), loss)]
    }
}

/// A session that reads texts and never computes.
pub(super) fn reader(files: &ModelFiles) -> Result<TextSession> {
    let options = Options { device: Device::Reference, ..Options::default() };
    TextSession::from_files(files.clone(), &options)
}

/// Fails unless a model has the head for a task.
pub(super) fn need(session: &TextSession, task: Task, what: &str, help: &'static str) -> Result<()> {
    if session.info().can(task) {
        return Ok(());
    }
    let what =
        format!("{} is a {}, which has no head for {what}", session.name(), session.info().architecture);
    Err(Error::usage(what, help))
}

/// An error of one of many texts, from 0.
pub(super) fn of_text(i: usize) -> impl Fn(Error) -> Error {
    move |e| Error::usage(format!("text {}: {}", i + 1, e.message()), "leave it out")
}

/// The most tokens of a text among these.
pub(super) fn longest<'a>(passages: impl Iterator<Item = &'a Passage>) -> usize {
    passages.map(|passage| passage.ids.len()).max().unwrap_or(1)
}
