//! Learning to tell classes of texts, or of pairs of texts, apart.

use super::data::TextSet;
use super::fit::{Inputs, Task};
use super::found::Found;
use super::lora::{self, LoraWishes};
use super::objective::{self, LABELS, LOGITS, Objective, TextObjective, WEIGHTS};
use super::scope::{self, Scope};
use super::trainer::Trainer;
use super::{head, recipe::Recipe};
use crate::error::{Error, Result};
use crate::models::text::TextSizes;
use crate::random::Random;
use crate::session::{Device, ModelFiles, Options};
use crate::tensor::HostTensor;
use crate::text::{Passage, TextSession, TooLong, padded};

/// How texts are fed.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Texts of a step.
    pub batch: usize,
    /// What order, and a new classifier, are drawn by.
    pub seed: u64,
    /// Most tokens of a text; the end of a longer one is left away. `None` for as many as the model takes.
    pub longest: Option<usize>,
}

/// Two sets of texts, to learn from and to be tested by, and a model that tells their classes.
pub struct TextClasses {
    files: ModelFiles,
    /// Reads texts; it never computes.
    session: TextSession,
    sets: [Vec<(Passage, u32)>; 2],
    sizes: TextSizes,
    seed: u64,
    new_head: bool,
    order: Vec<usize>,
    at: usize,
}

impl TextClasses {
    /// Makes a model ready for the classes of the texts. If they are not the model's own, it gets a new classifier.
    ///
    /// # Errors
    /// [`Error::Model`] for a model without a tokenizer, and one that takes no classifier; [`Error::Usage`] for a
    /// text without tokens.
    pub fn new(files: ModelFiles, sets: [TextSet; 2], reading: &Reading) -> Result<Self> {
        let reads = Options { device: Device::Reference, ..Options::default() };
        let mut files = files;
        let mut session = TextSession::from_files(files.clone(), &reads)?;
        let known = head::same_classes(&files, session.info().classes, &sets[0].classes);
        let new_head = known.is_none();
        if new_head {
            files = head::with_classes(&files, &sets[0].classes, reading.seed)?;
            session = TextSession::from_files(files.clone(), &reads)?;
        }
        if let Some(longest) = reading.longest {
            session.shorten(longest);
        }
        let places = known.unwrap_or_else(|| (0..sets[0].classes.len() as u32).collect());
        let encode = |set: TextSet| -> Result<Vec<(Passage, u32)>> {
            let texts = set.texts.into_iter().enumerate().map(|(i, (text, pair, class))| {
                let encoded = session.encode((&text, pair.as_deref()), TooLong::Cut);
                let named =
                    |e: Error| Error::usage(format!("text {}: {}", i + 1, e.message()), "leave it out");
                let (mut passage, _) = encoded.map_err(named)?;
                passage.places = vec![session.last_token(&passage.ids)];
                Ok((passage, places[class as usize]))
            });
            texts.collect()
        };
        let [training, held_out] = sets;
        let sets = [encode(training)?, encode(held_out)?];
        let longest = sets.iter().flatten().map(|(passage, _)| passage.ids.len()).max().unwrap_or(1);
        let tokens = padded(longest, session.info().positions);
        let batch = reading.batch.clamp(1, sets[0].len().max(1));
        let sizes = TextSizes { batch, tokens, written: 0, places: 1 };
        Ok(Self { files, session, sets, sizes, seed: reading.seed, new_head, order: vec![], at: 0 })
    }

    /// The model's files, with the new classifier if it got one.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Whether the model got a new classifier.
    pub fn new_head(&self) -> bool {
        self.new_head
    }

    /// Texts of a step, and tokens of each, the shorter ones filled up.
    pub fn sizes(&self) -> TextSizes {
        self.sizes
    }

    /// The loss behind the model.
    ///
    /// # Errors
    /// Shape errors of the graph.
    pub fn objective(&self) -> Result<Objective> {
        objective::texts(self.session.model(), self.sizes, TextObjective::Classes)
    }

    /// The model on a device, ready for its first step.
    ///
    /// # Errors
    /// As [`Trainer::open`].
    pub fn trainer(&self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        let objective = self.objective()?;
        let trained = match scope::of_adapter(&self.files) {
            Some(names) => names,
            None => {
                let head = head::classifier(&objective.graph)?;
                scope::trained(&objective.graph, self.session.info().layers, &head, scope)?
            }
        };
        Trainer::open(self.files.clone(), options, objective, &|name| trained.contains(name), recipe)
    }

    /// Lays a new adapter over the model: then it and the classifier are trained, and nothing else.
    ///
    /// # Errors
    /// As [`lora::with_fresh`].
    pub fn adapt(&mut self, wishes: &LoraWishes) -> Result<()> {
        let graph = self.objective()?.graph;
        self.files = lora::with_fresh(&self.files, &graph, &head::classifier(&graph)?, wishes)?;
        Ok(())
    }

    fn inputs(&self, texts: &[&(Passage, u32)]) -> Inputs {
        let passages: Vec<&Passage> = texts.iter().map(|(passage, _)| passage).collect();
        let batch = self.sizes.batch;
        let mut labels: Vec<u32> = texts.iter().map(|(_, class)| *class).collect();
        labels.resize(batch, 0);
        let weight = |row| if row < texts.len() { 1.0 / texts.len() as f32 } else { 0.0 };
        let mut inputs = self.session.contents(&passages, self.sizes);
        inputs.push((LABELS, HostTensor::u32([batch], labels)));
        inputs.push((WEIGHTS, HostTensor::f32([batch], (0..batch).map(weight).collect())));
        inputs
    }
}

impl Task for TextClasses {
    fn batches(&self) -> usize {
        self.sets[0].len() / self.sizes.batch
    }

    fn begin(&mut self, epoch: usize, batch: usize) {
        self.order = (0..self.sets[0].len()).collect();
        Random::of(&[self.seed, epoch as u64]).shuffle(&mut self.order);
        self.at = batch;
    }

    fn next(&mut self) -> Result<Inputs> {
        let batch = self.sizes.batch;
        let chosen = self.order.get(self.at * batch..(self.at + 1) * batch);
        let chosen = chosen.ok_or_else(|| Error::usage("the epoch is over", "begin the next"))?;
        let texts: Vec<&(Passage, u32)> = chosen.iter().map(|&i| &self.sets[0][i]).collect();
        let inputs = self.inputs(&texts);
        self.at += 1;
        Ok(inputs)
    }

    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>> {
        let mut found = Found::default();
        for texts in self.sets[1].chunks(self.sizes.batch) {
            let texts: Vec<&(Passage, u32)> = texts.iter().collect();
            let labels: Vec<u32> = texts.iter().map(|(_, class)| *class).collect();
            found.add(&trainer.forward(&self.inputs(&texts), &[LOGITS])?[0], &labels);
        }
        Ok(found.numbers())
    }
}
