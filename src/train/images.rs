//! Learning to tell classes of images apart.

use super::data::{Batch, Batches, Feed, ImageSet, Mix, Varied};
use super::features::Features;
use super::feeding::{Feeding, preprocess};
use super::fit::{CLASSES, Inputs, Metric, Task};
use super::found::Found;
use super::head::{self, Head};
use super::lora::{self, LoraWishes};
use super::objective::{self, LABELS, LOGITS, OTHERS, Objective, PIXELS, WEIGHTS};
use super::scope::{self, Scope};
use super::trainer::Trainer;
use super::{frozen, recipe::Recipe};
use crate::error::{Error, Result};
use crate::models::{self, AnyModel, Model};
use crate::session::{ModelFiles, Options};
use crate::tensor::HostTensor;

/// Two sets of images, to learn from and to be tested by, and a model that tells their classes.
pub struct ImageClasses {
    files: ModelFiles,
    model: Box<dyn Model>,
    training: Feed,
    held_out: Feed,
    smoothing: f32,
    new_head: bool,
    /// Features of frozen layers, where they are computed once.
    features: Option<Features>,
    batches: Option<Batches>,
    notes: Vec<String>,
}

impl ImageClasses {
    /// Makes a model ready for the classes of the images. If they are not the model's own, it gets a new
    /// classifier.
    ///
    /// # Errors
    /// [`Error::Model`] for a model that takes none; [`Error::Usage`] for sets of different classes, and a batch of
    /// none.
    pub fn new(files: ModelFiles, sets: [ImageSet; 2], feeding: &Feeding) -> Result<Self> {
        let [training, held_out] = sets;
        if training.classes != held_out.classes {
            let what = "images to train and to validate on are of the same classes";
            return Err(Error::usage(what, "read both from one place"));
        }
        let (mut files, mut model) = {
            let model = vision(&files)?;
            (files, model)
        };
        let known = head::same_classes(&files, model.info().classes, &training.classes);
        let new_head = known.is_none();
        if new_head {
            files = head::with_head(&files, &Head::Classes(&training.classes), feeding.seed)?;
            model = vision(&files)?;
        }
        let places = known.unwrap_or_else(|| (0..training.classes.len() as u32).collect());
        let varied = Varied { augment: feeding.augment, mix: feeding.mix };
        let prepared = (&preprocess(&files, model.info())?, model.info().image_size);
        let [training, held_out] = feeding.feeds([training, held_out], &places, prepared, varied)?;
        let (smoothing, batches, notes) = (feeding.smoothing, None, Vec::new());
        let features = None;
        Ok(Self { files, model, training, held_out, smoothing, new_head, features, batches, notes })
    }

    /// The model's files, with the new classifier if it got one.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Whether the model got a new classifier.
    pub fn new_head(&self) -> bool {
        self.new_head
    }

    /// The loss behind the model.
    ///
    /// # Errors
    /// Shape errors of the graph.
    pub fn objective(&self) -> Result<Objective> {
        let mixed = self.training.training.is_some_and(|varied| varied.mix != Mix::default());
        let Feed { preprocess, batch, .. } = &self.training;
        objective::classes_of_pixels(&*self.model, preprocess, *batch, self.smoothing, mixed)
    }

    /// The model on a device, ready for its first step.
    ///
    /// # Errors
    /// As [`Trainer::open`].
    pub fn trainer(&mut self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        let mut objective = self.objective()?;
        let trained = match scope::of_adapter(&self.files) {
            Some(names) => names,
            None => {
                let head = head::classifier(&objective.graph)?;
                scope::trained(&objective.graph, self.model.info().layers, &head, scope)?
            }
        };
        let is_live = |name: &str| scope::is_live(&self.files.checkpoint, &trained, name);
        if self.training.is_fixed()
            && let Some(cut) = frozen::cut(&objective, self.training.batch, &is_live)?
        {
            let sets = [self.training.set.len(), self.held_out.set.len()];
            if let Some((features, rest)) = Features::of(cut, sets) {
                (self.features, objective) = (Some(features), rest);
            }
        }
        Trainer::open(self.files.clone(), options, objective, &|name| trained.contains(name), recipe)
    }

    /// Lays a new adapter over the model: then it and the classifier are trained, and nothing else.
    ///
    /// # Errors
    /// As [`lora::with_fresh`].
    pub fn adapt(&mut self, wishes: &LoraWishes) -> Result<()> {
        let graph = self.objective()?.graph;
        self.files = lora::with_fresh(&self.files, &graph, &head::classifier(&graph)?, wishes)?;
        self.model = vision(&self.files)?;
        Ok(())
    }

    /// Images of a step.
    pub fn batch(&self) -> usize {
        self.training.batch
    }

    /// Whether the features of frozen layers are computed once, before the first step.
    pub fn has_features(&self) -> bool {
        self.features.is_some()
    }

    fn inputs(batch: Batch, mixed: bool) -> Inputs {
        let n = batch.labels.len();
        let counted = batch.count.max(1) as f32;
        let weights = |share: f32| {
            let weight = |i| if i < batch.count { share / counted } else { 0.0 };
            HostTensor::f32([n], (0..n).map(weight).collect())
        };
        let mut inputs = vec![(WEIGHTS, weights(if mixed { batch.share } else { 1.0 }))];
        if mixed {
            inputs.push((OTHERS[1], weights(1.0 - batch.share)));
            inputs.push((OTHERS[0], HostTensor::u32([n], batch.others)));
        }
        inputs.push((LABELS, HostTensor::u32([n], batch.labels)));
        inputs.push((PIXELS, batch.pixels));
        inputs
    }
}

fn vision(files: &ModelFiles) -> Result<Box<dyn Model>> {
    let model = models::from_config(&files.config, files.checkpoint.index(), None);
    model.and_then(AnyModel::vision).map_err(|e| e.within(&files.name))
}

impl Task for ImageClasses {
    fn batches(&self) -> usize {
        self.training.batches()
    }

    fn prepare(&mut self, trainer: &mut Trainer, done: &mut dyn FnMut(usize, usize) -> bool) -> Result<bool> {
        match &mut self.features {
            Some(features) => features.fill(trainer, [&self.training, &self.held_out], done, &mut self.notes),
            None => Ok(true),
        }
    }

    fn begin(&mut self, epoch: usize, batch: usize) {
        match &mut self.features {
            Some(features) => features.begin(self.training.order(epoch), batch),
            None => self.batches = Some(self.training.from(epoch, batch)),
        }
    }

    fn next(&mut self) -> Result<Inputs> {
        if let Some(features) = &mut self.features {
            return features.next(self.training.batch);
        }
        let next = self.batches.as_ref().and_then(Batches::next);
        let mut batch = next.unwrap_or_else(|| Err(Error::usage("the epoch is over", "begin the next")))?;
        self.notes.append(&mut batch.unreadable);
        let mixed = self.training.training.is_some_and(|varied| varied.mix != Mix::default());
        Ok(Self::inputs(batch, mixed))
    }

    fn metrics(&self) -> &'static [Metric] {
        CLASSES
    }

    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>> {
        let mut found = Found::default();
        if let Some(features) = &self.features {
            for (inputs, labels) in features.held_out(self.held_out.batch) {
                found.add(&trainer.forward(&inputs, &[LOGITS])?[0], &labels);
            }
            return Ok(found.numbers());
        }
        let batches = self.held_out.from(0, 0);
        while let Some(batch) = batches.next() {
            let mut batch = batch?;
            batch.labels.truncate(batch.count);
            self.notes.append(&mut batch.unreadable);
            let results = trainer.forward(&[(PIXELS, batch.pixels)], &[LOGITS])?;
            found.add(&results[0], &batch.labels);
        }
        Ok(found.numbers())
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}
