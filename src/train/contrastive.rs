//! Learning which words are true of an image: both towers of CLIP (Radford et al. 2021) or SigLIP (Zhai et al. 2023)
//! see a batch of images and captions, and each image is to find its own.
//!
//! Captions are the classes of an [`ImageSet`]: a caption that stands beside several images of a batch is true of each
//! of them, and is not held against any.

use super::data::{Batch, Batches, Feed, ImageSet, Mix, Varied};
use super::feeding::{Feeding, preprocess};
use super::fit::{Inputs, Metric, Task};
use super::lora::{self, LoraWishes};
use super::objective::{self, HIDDEN, LABELS, LOGITS, LOSS, Objective, PIXELS, SHOWN, WEIGHTS};
use super::recipe::Recipe;
use super::scope::{self, Scope};
use super::trainer::Trainer;
use crate::dual::DualEncoder;
use crate::error::{Error, Result};
use crate::labels::Scoring;
use crate::models::text::TextSizes;
use crate::session::{Device, ModelFiles, Options};
use crate::tensor::HostTensor;
use crate::text::{Passage, TooLong, padded};

/// Share of images whose best caption of the batch is true of them, and the loss.
const METRICS: &[Metric] = &[Metric::share("recall"), Metric::loss("loss")];

/// Two sets of images with captions, to learn from and to be tested by, and a model of two towers.
pub struct CaptionedImages {
    files: ModelFiles,
    /// What says how the model is built, and reads captions; it never computes.
    towers: DualEncoder,
    feeds: [Feed; 2],
    /// A caption each, as the text tower reads it.
    passages: Vec<Passage>,
    sizes: TextSizes,
    batches: Option<Batches>,
    notes: Vec<String>,
}

impl CaptionedImages {
    /// Makes a model of two towers ready for images whose classes are their captions. Captions that are too long lose
    /// their ends.
    ///
    /// # Errors
    /// [`Error::Model`] for a model that has no text tower, or no tokenizer; [`Error::Usage`] for sets of different
    /// captions, for fewer than two, and for classes that are to be mixed or smoothed.
    pub fn new(files: ModelFiles, sets: [ImageSet; 2], feeding: &Feeding) -> Result<Self> {
        if sets[0].classes != sets[1].classes || sets[0].classes.len() < 2 {
            let what = format!("there are {} different captions to tell apart", sets[0].classes.len());
            return Err(Error::usage(what, "give images captions, two different ones at least"));
        }
        if feeding.mix != Mix::default() || feeding.smoothing > 0.0 {
            let what = "a mixture of images has no caption";
            return Err(Error::usage(what, "mixtures and label smoothing are of classes: leave them out"));
        }
        let towers = reader(&files)?;
        let captions = &sets[0].classes;
        let passage = |caption: &String| Ok(towers.texts().encode((caption, None), TooLong::Cut)?.0);
        let passages = captions.iter().map(passage).collect::<Result<Vec<Passage>>>()?;
        let places: Vec<u32> = (0..captions.len() as u32).collect();
        let info = towers.images().info();
        let prepared = (&preprocess(&files, info)?, info.image_size);
        let varied = Varied { augment: feeding.augment, mix: Mix::default() };
        let feeds = feeding.feeds(sets, &places, prepared, varied)?;
        let longest = passages.iter().map(|passage| passage.ids.len()).max().unwrap_or(1);
        let tokens = padded(longest, towers.texts().info().positions);
        let sizes = TextSizes { batch: feeds[0].batch, tokens, written: 0, places: 1 };
        Ok(Self { files, towers, feeds, passages, sizes, batches: None, notes: vec![] })
    }

    /// The model's files.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Images of a step.
    pub fn batch(&self) -> usize {
        self.sizes.batch
    }

    /// The loss behind both towers.
    ///
    /// # Errors
    /// Shape errors of the graph.
    pub fn objective(&self) -> Result<Objective> {
        let (images, texts) = (self.towers.images().model(), self.towers.texts().model());
        let preprocess = &self.feeds[0].preprocess;
        objective::images_and_texts(images, texts, self.towers.matching(), preprocess, self.sizes)
    }

    /// The model on a device, ready for its first step.
    ///
    /// # Errors
    /// [`Error::Usage`] for a head, which there is none of; as [`Trainer::open`].
    pub fn trainer(&self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        let objective = self.objective()?;
        let trained = match (scope::of_adapter(&self.files), scope) {
            (Some(names), _) => names,
            (None, Scope::All) => scope::trained(&objective.graph, 0, &[], Scope::All)?,
            (None, _) => {
                let what = "two towers have layers of their own each, and no classifier";
                return Err(Error::usage(what, "train all of them, or an adapter on some"));
            }
        };
        Trainer::open(self.files.clone(), options, objective, &|name| trained.contains(name), recipe)
    }

    /// Lays a new adapter over the towers: then it is trained, and nothing else.
    ///
    /// # Errors
    /// As [`lora::with_fresh`].
    pub fn adapt(&mut self, wishes: &LoraWishes) -> Result<()> {
        self.files = lora::with_fresh(&self.files, &self.objective()?.graph, &[], wishes)?;
        self.towers = reader(&self.files)?;
        Ok(())
    }

    /// The inputs of a batch, of which the first images count.
    fn inputs(&self, batch: Batch) -> Inputs {
        let (n, count) = (self.sizes.batch, batch.count);
        let passages: Vec<&Passage> =
            batch.labels.iter().map(|&label| &self.passages[label as usize]).collect();
        let mut inputs = self.towers.texts().contents(&passages, self.sizes);
        inputs.push((PIXELS, batch.pixels));
        let same = |i: usize, j: usize| batch.labels[i] == batch.labels[j];
        let pairs = || (0..n * n).map(|at| (at / n, at % n));
        if self.towers.matching().scoring == Scoring::Sigmoid {
            let labels = pairs().map(|(i, j)| u32::from(!same(i, j))).collect();
            let weight = |(i, j)| if i < count && j < count { 1.0 / count as f32 } else { 0.0 };
            inputs.push((LABELS, HostTensor::u32([n * n], labels)));
            inputs.push((WEIGHTS, HostTensor::f32([n * n], pairs().map(weight).collect())));
        } else {
            let hidden = |(i, j)| if i != j && (same(i, j) || j >= count) { HIDDEN } else { 0.0 };
            let weight = |i| if i < count { 0.5 / count as f32 } else { 0.0 };
            inputs.push((SHOWN, HostTensor::f32([n, n], pairs().map(hidden).collect())));
            inputs.push((LABELS, HostTensor::u32([n], (0..n as u32).collect())));
            inputs.push((WEIGHTS, HostTensor::f32([n], (0..n).map(weight).collect())));
        }
        inputs
    }
}

/// A model that reads texts and says how it is built, and never computes.
fn reader(files: &ModelFiles) -> Result<DualEncoder> {
    let towers =
        DualEncoder::from_files(files.clone(), &Options { device: Device::Reference, ..Options::default() })?;
    towers.texts().tokenizer()?;
    Ok(towers)
}

impl Task for CaptionedImages {
    fn batches(&self) -> usize {
        self.feeds[0].batches()
    }

    fn begin(&mut self, epoch: usize, batch: usize) {
        self.batches = Some(self.feeds[0].from(epoch, batch));
    }

    fn next(&mut self) -> Result<Inputs> {
        let next = self.batches.as_ref().and_then(Batches::next);
        let mut batch = next.unwrap_or_else(|| Err(Error::usage("the epoch is over", "begin the next")))?;
        self.notes.append(&mut batch.unreadable);
        Ok(self.inputs(batch))
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>> {
        let (mut right, mut sum, mut all) = (0, 0.0, 0);
        let batches = self.feeds[1].from(0, 0);
        while let Some(batch) = batches.next() {
            let mut batch = batch?;
            self.notes.append(&mut batch.unreadable);
            let (labels, count) = (batch.labels.clone(), batch.count);
            let found = trainer.forward(&self.inputs(batch), &[LOSS, LOGITS])?;
            let loss = found[0].as_f32().map_or(f32::NAN, |loss| loss[0]);
            sum += f64::from(loss) * count as f64;
            let logits = found[1].to_f32();
            let best = |row: &[f32]| (0..count).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            let rows = logits.chunks(self.sizes.batch).zip(&labels).take(count);
            right += rows.filter(|(row, label)| best(row).is_some_and(|at| labels[at] == **label)).count();
            all += count;
        }
        let all = all.max(1) as f64;
        Ok(vec![("recall".to_owned(), right as f64 / all), ("loss".to_owned(), sum / all)])
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}
