//! The task that all objectives of texts share.

use super::lesson::{Example, Lesson, Reading, Told, VALIDATION};
use crate::error::{Error, Result};
use crate::models::text::TextSizes;
use crate::random::Random;
use crate::session::{ModelFiles, Options};
use crate::tensor::HostTensor;
use crate::text::{Passage, TextSession, padded};
use crate::train::fit::{Inputs, Metric, Task};
use crate::train::head;
use crate::train::lora::{self, LoraWishes};
use crate::train::objective::{
    self, ANSWERS, HIDDEN, IGNORED, LABELS, LOSS, Objective, SHOWN, TARGET, WEIGHTS,
};
use crate::train::recipe::Recipe;
use crate::train::scope::{self, Scope};
use crate::train::trainer::Trainer;

/// Two sets of texts, to learn from and to be tested by, and a model.
pub struct Texts {
    files: ModelFiles,
    /// Reads texts; it never computes.
    session: TextSession,
    lesson: Box<dyn Lesson>,
    sizes: TextSizes,
    seed: u64,
    new_head: bool,
    order: Vec<usize>,
    epoch: usize,
    at: usize,
}

impl Texts {
    /// A lesson for a model, which got a new head for it or not.
    pub(super) fn new(
        files: ModelFiles,
        session: TextSession,
        lesson: Box<dyn Lesson>,
        reading: &Reading,
        new_head: bool,
    ) -> Self {
        let sizes = lesson.sizes();
        let tokens = padded(sizes.tokens, session.info().positions);
        let batch = reading.batch.clamp(1, lesson.counts()[0].max(1));
        let sizes = TextSizes { batch, tokens, ..sizes };
        Self { files, session, lesson, sizes, seed: reading.seed, new_head, order: vec![], epoch: 0, at: 0 }
    }

    /// The model's files, with the new head if it got one.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Whether the model got a new head.
    pub fn new_head(&self) -> bool {
        self.new_head
    }

    /// Texts of a step, and tokens of each, the shorter ones filled up.
    pub fn sizes(&self) -> TextSizes {
        self.sizes
    }

    /// How many texts, or pieces of running text, there are to train on, and to validate on.
    pub fn counts(&self) -> [usize; 2] {
        self.lesson.counts()
    }

    /// The loss behind the model.
    ///
    /// # Errors
    /// Shape errors of the graph.
    pub fn objective(&self) -> Result<Objective> {
        objective::texts(self.session.model(), self.sizes, self.lesson.objective())
    }

    /// The tensors of the head, if the objective has one of its own.
    fn head(&self, objective: &Objective) -> Result<Vec<String>> {
        match self.lesson.has_head() {
            true => head::layers_of(&objective.graph, self.lesson.objective().scores()),
            false => Ok(vec![]),
        }
    }

    /// The model on a device, ready for its first step.
    ///
    /// # Errors
    /// [`Error::Usage`] for a head alone, where there is none; as [`Trainer::open`].
    pub fn trainer(&self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        let objective = self.objective()?;
        let trained = match scope::of_adapter(&self.files) {
            Some(names) => names,
            None => {
                if scope == Scope::Head && !self.lesson.has_head() {
                    let what = "a model of words has no head of its own to train: it is the table of words";
                    return Err(Error::usage(what, "train all of it, or its last layers"));
                }
                let head = self.head(&objective)?;
                scope::trained(&objective.graph, self.session.info().layers, &head, scope)?
            }
        };
        Trainer::open(self.files.clone(), options, objective, &|name| trained.contains(name), recipe)
    }

    /// Lays a new adapter over the model: then it and the head are trained, and nothing else.
    ///
    /// # Errors
    /// As [`lora::with_fresh`].
    pub fn adapt(&mut self, wishes: &LoraWishes) -> Result<()> {
        let objective = self.objective()?;
        self.files = lora::with_fresh(&self.files, &objective.graph, &self.head(&objective)?, wishes)?;
        Ok(())
    }

    /// The inputs of a batch, and how many labels it has.
    fn inputs(&self, examples: &[Example]) -> (Inputs, usize) {
        let passages: Vec<&Passage> = examples.iter().map(|example| &example.passage).collect();
        let batch = self.sizes.batch;
        let mut inputs = self.session.contents(&passages, self.sizes);
        let weights = |labels: &[u32], share: f32| {
            let counted = labels.iter().filter(|label| **label != IGNORED).count();
            let weight = |label: &u32| if *label == IGNORED { 0.0 } else { share / counted.max(1) as f32 };
            let weights = labels.iter().map(weight).collect();
            ((WEIGHTS, HostTensor::f32([labels.len()], weights)), counted)
        };
        let rows = self.lesson.rows(self.sizes);
        // Texts that fill the batch up have no labels.
        let mut labels = vec![IGNORED; batch * rows];
        match examples.first().map(|example| &example.told) {
            None | Some(Told::Labels(_)) => {
                for (row, example) in labels.chunks_mut(rows).zip(examples) {
                    let Told::Labels(own) = &example.told else { continue };
                    row.iter_mut().zip(own).for_each(|(label, own)| *label = *own);
                }
                let (weights, counted) = weights(&labels, 1.0);
                inputs.extend([(LABELS, HostTensor::u32([labels.len()], labels)), weights]);
                (inputs, counted)
            }
            Some(Told::Answer(_)) => {
                let mut places = [labels.clone(), labels];
                let tokens = self.sizes.tokens;
                let mut shown = vec![HIDDEN; batch * tokens];
                for (i, row) in shown.chunks_mut(tokens).enumerate() {
                    // A text that fills the batch up has one token.
                    let length = examples.get(i).map_or(1, |example| example.passage.ids.len());
                    row[..length].fill(0.0);
                }
                inputs.push((SHOWN, HostTensor::f32([batch, tokens], shown)));
                for (i, example) in examples.iter().enumerate() {
                    let Told::Answer(answer) = example.told else { continue };
                    (places[0][i], places[1][i]) = (answer[0], answer[1]);
                }
                // The mean of both losses, each the mean over texts.
                let (weights, counted) = weights(&places[0], 0.5);
                inputs.push(weights);
                inputs.extend(ANSWERS.into_iter().zip(places.map(|place| HostTensor::u32([batch], place))));
                (inputs, counted)
            }
            Some(Told::Score(_)) => {
                let mut target = vec![0.0; batch];
                for (i, example) in examples.iter().enumerate() {
                    let Told::Score(score) = example.told else { continue };
                    (target[i], labels[i]) = (score, 0);
                }
                let (weights, counted) = weights(&labels, 1.0);
                inputs.extend([(TARGET, HostTensor::f32([batch, 1], target)), weights]);
                (inputs, counted)
            }
        }
    }
}

impl Task for Texts {
    fn batches(&self) -> usize {
        self.lesson.counts()[0] / self.sizes.batch
    }

    fn begin(&mut self, epoch: usize, batch: usize) {
        self.order = (0..self.lesson.counts()[0]).collect();
        Random::of(&[self.seed, epoch as u64]).shuffle(&mut self.order);
        (self.epoch, self.at) = (epoch, batch);
    }

    fn next(&mut self) -> Result<Inputs> {
        let batch = self.sizes.batch;
        let chosen = self.order.get(self.at * batch..(self.at + 1) * batch);
        let chosen = chosen.ok_or_else(|| Error::usage("the epoch is over", "begin the next"))?;
        let examples: Vec<Example> =
            chosen.iter().map(|&i| self.lesson.example(0, i, self.epoch as u64)).collect();
        let (inputs, _) = self.inputs(&examples);
        self.at += 1;
        Ok(inputs)
    }

    fn metrics(&self) -> &'static [Metric] {
        self.lesson.metrics()
    }

    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>> {
        let mut tally = self.lesson.tally();
        let mut outputs = vec![LOSS];
        if tally.wants_scores() {
            outputs.extend(self.lesson.objective().scores());
        }
        let (count, batch) = (self.lesson.counts()[1], self.sizes.batch);
        let (mut sum, mut all) = (0.0, 0);
        for first in (0..count).step_by(batch) {
            let examples: Vec<Example> =
                (first..count.min(first + batch)).map(|i| self.lesson.example(1, i, VALIDATION)).collect();
            let (inputs, counted) = self.inputs(&examples);
            let found = trainer.forward(&inputs, &outputs)?;
            let loss = found[0].as_f32().map_or(f32::NAN, |loss| loss[0]);
            sum += f64::from(loss) * counted as f64;
            all += counted;
            tally.add(&examples, &found[1..]);
        }
        Ok(tally.numbers(sum / all.max(1) as f64))
    }
}
