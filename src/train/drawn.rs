//! Learning to draw images token by token: images go through the codec once, and the decoder learns what token
//! follows (LlamaGen, Sun et al. 2024; ImageGPT, Chen et al. 2020).

use super::data::{Feed, ImageSet, Mix, Varied};
use super::feeding::Feeding;
use super::fit::{Inputs, Metric, Task};
use super::head;
use super::objective::{self, LABELS, LOSS, Objective, WEIGHTS};
use super::recipe::Recipe;
use super::scope::{self, Scope};
use super::sequences::READ;
use super::tokens::Tokens;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::generate::{Generator, GeneratorInfo};
use crate::models::sequence::CLASSES;
use crate::random::Random;
use crate::session::{Device, ModelFiles, Options};
use crate::tensor::HostTensor;

/// How often LlamaGen's training replaces the class by none, where guidance is to work.
const CLASS_DROPOUT: f32 = 0.1;
/// What mirroring and dropped classes are drawn by, beside seed, epoch and the image's place in it.
const STREAMS: [u64; 2] = [4, 5];
/// What a validation finds.
const METRICS: &[Metric] = &[Metric::loss("loss"), Metric::loss("perplexity")];

/// How images are drawn in training.
#[derive(Debug, Clone, Copy, Default)]
pub struct Drawing {
    /// Probability that an image's class is replaced by the one that stands for none; `None` for 0.1 where the model
    /// knows that class, else for 0.
    pub class_dropout: Option<f32>,
    /// Probability of being mirrored.
    pub flip: f32,
}

/// Two sets of images, to learn from and to be tested by, and a model that draws such token by token.
pub struct DrawnImages {
    files: ModelFiles,
    /// What says how the model is built; it never computes.
    generator: Generator,
    /// What makes tokens of images, until that is done.
    encoder: Option<Generator>,
    feeds: [Feed; 2],
    tokens: [Tokens; 2],
    dropout: f32,
    flip: f32,
    new_classes: bool,
    epoch: usize,
    order: Vec<usize>,
    /// The next batch of the epoch.
    batch: usize,
    notes: Vec<String>,
}

impl DrawnImages {
    /// Makes a generator ready for images. One that draws by class and does not know all of theirs by name gets rows for
    /// them in place of its own; where it names none, as many classes as it has are taken to be its own, in order. Images are prepared as the codec
    /// wants them, not varied but for mirroring, and pictures that are drawn on the fly are so once.
    ///
    /// # Errors
    /// [`Error::Model`] for a model that draws no images, or lacks its codec; [`Error::Usage`] for one that draws in
    /// any order, and for what it cannot do: drop or mix classes, vary images.
    pub fn new(files: ModelFiles, sets: [ImageSet; 2], feeding: &Feeding, drawing: Drawing) -> Result<Self> {
        let reads = Options { device: Device::Reference, ..Options::default() };
        let (mut files, mut generator) = {
            let generator = Generator::from_files(files.clone(), &reads)?;
            (files, generator)
        };
        objective::next_patch(generator.decoder(), 1)?;
        if feeding.mix != Mix::default() || feeding.smoothing > 0.0 || feeding.augment.is_some() {
            let what = "images become tokens once: they are not cropped, jittered, erased or mixed at random";
            return Err(Error::usage(what, "have them mirrored at most"));
        }
        let mut places = vec![0];
        let mut new_classes = false;
        if let Some(count) = generator.info().classes {
            let classes = &sets[0].classes;
            if *classes != sets[1].classes || classes.is_empty() {
                let what = format!("{} draws by class, and the images have none", files.name);
                return Err(Error::usage(what, "put each class into a folder: DATA/cat/1.jpg"));
            }
            let unnamed = files.config.get("id2label").is_none() && count == classes.len();
            let names = &generator.labels().names;
            let place = |class: &String| names.iter().position(|name| name == class).map(|i| i as u32);
            let known: Option<Vec<u32>> = classes.iter().map(place).collect();
            let known = known.filter(|_| !unnamed);
            new_classes = known.is_none() && !unnamed;
            if known.is_none() {
                files =
                    head::with_drawn_classes(&files, generator.info(), classes, new_classes, feeding.seed)?;
                generator = Generator::from_files(files.clone(), &reads)?;
            }
            places = known.unwrap_or_else(|| (0..classes.len() as u32).collect());
        }
        let guided = generator.info().guided;
        let dropout = drawing.class_dropout.unwrap_or(if guided { CLASS_DROPOUT } else { 0.0 });
        if dropout > 0.0 && !guided {
            let what = format!("{} knows no class that stands for none", files.name);
            return Err(Error::usage(what, "leave class dropout away"));
        }
        places.resize(places.len().max(sets[0].classes.len()), 0);
        let prepared = (generator.preprocess(), generator.info().image_size);
        let feeds = feeding.feeds(sets.map(ImageSet::fixed), &places, prepared, Varied::default())?;
        Ok(Self {
            files,
            generator,
            encoder: None,
            feeds,
            tokens: Default::default(),
            dropout,
            flip: drawing.flip,
            new_classes,
            epoch: 0,
            order: vec![],
            batch: 0,
            notes: vec![],
        })
    }

    /// The model's files, with rows for new classes if it got some.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Whether the model got rows for new classes.
    pub fn new_classes(&self) -> bool {
        self.new_classes
    }

    /// What the model is.
    pub fn info(&self) -> &GeneratorInfo {
        self.generator.info()
    }

    /// Images of a step.
    pub fn batch(&self) -> usize {
        self.feeds[0].batch
    }

    /// The loss behind the model.
    ///
    /// # Errors
    /// As [`objective::next_patch`].
    pub fn objective(&self) -> Result<Objective> {
        objective::next_patch(self.generator.decoder(), self.batch())
    }

    /// The model on a device, ready for its first step, and its codec beside it.
    ///
    /// # Errors
    /// As [`Trainer::open`]; [`Error::Usage`] for a scope of the head alone, and for an adapter.
    pub fn trainer(&mut self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        if scope == Scope::Head || self.files.adapter.is_some() {
            let what = "a generator of images has no classifier, and takes no adapter";
            return Err(Error::usage(what, "train all of it, or its last layers"));
        }
        let objective = self.objective()?;
        let trained = scope::trained(&objective.graph, self.info().layers, &[], scope)?;
        self.encoder = Some(Generator::from_files(self.files.clone(), options)?);
        Trainer::open(self.files.clone(), options, objective, &|name| trained.contains(name), recipe)
    }

    /// Inputs of a batch of images by their tokens and classes.
    fn inputs(&self, images: &[(&[u32], u32)]) -> Inputs {
        let (info, batch) = (self.info(), self.batch());
        let n = info.tokens;
        // What fills up a batch is read, and counts for nothing.
        let filler = vec![0; n];
        let rows = || {
            let all = images.iter().copied().chain(std::iter::repeat((filler.as_slice(), 0)));
            all.take(batch)
        };
        let start = if info.classes.is_some() { vec![] } else { vec![info.start] };
        let read: Vec<u32> =
            rows().flat_map(|(tokens, _)| start.iter().chain(&tokens[..n - 1]).copied()).collect();
        let weight = |i: usize| if i < images.len() * n { 1.0 / (images.len() * n) as f32 } else { 0.0 };
        let mut inputs = vec![
            (READ, HostTensor::u32([batch, read.len() / batch], read)),
            (LABELS, HostTensor::u32([batch * n], rows().flat_map(|(tokens, _)| tokens).copied().collect())),
            (WEIGHTS, HostTensor::f32([batch * n], (0..batch * n).map(weight).collect())),
        ];
        if info.classes.is_some() {
            inputs.push((CLASSES, HostTensor::u32([batch], rows().map(|(_, class)| class).collect())));
        }
        inputs
    }
}

impl Task for DrawnImages {
    fn batches(&self) -> usize {
        self.feeds[0].batches()
    }

    fn prepare(&mut self, _: &mut Trainer, done: &mut dyn FnMut(usize, usize) -> bool) -> Result<bool> {
        let Some(encoder) = self.encoder.take() else { return Ok(true) };
        let total = self.feeds.iter().map(|feed| feed.set.len()).sum();
        let mut seen = 0;
        for (i, feed) in self.feeds.iter().enumerate() {
            let mirrored = i == 0 && self.flip > 0.0;
            let done = &mut |count: usize| done(seen + count, total);
            let Some(tokens) = Tokens::of(&encoder, feed, mirrored, &mut self.notes, done)? else {
                return Ok(false);
            };
            seen += feed.set.len();
            self.tokens[i] = tokens;
        }
        Ok(true)
    }

    fn begin(&mut self, epoch: usize, batch: usize) {
        (self.epoch, self.batch) = (epoch, batch);
        self.order = self.feeds[0].order(epoch);
    }

    fn next(&mut self) -> Result<Inputs> {
        let size = self.batch();
        let places = self.batch * size..(self.batch + 1) * size;
        let chosen = self.order.get(places.clone());
        let chosen = chosen.ok_or_else(|| Error::usage("the epoch is over", "begin the next"))?;
        let none = self.info().classes.unwrap_or(0) as u32;
        let image = |(place, &i): (usize, &usize)| {
            let chance = |stream: u64, probability: f32| {
                let keys = [self.feeds[0].seed, stream, self.epoch as u64, place as u64];
                Random::of(&keys).chance(probability.into())
            };
            let (set, mirrored) = (&self.tokens[0], chance(STREAMS[0], self.flip));
            let tokens = if mirrored { &set.mirrored[i] } else { &set.plain[i] };
            let class = if chance(STREAMS[1], self.dropout) { none } else { set.classes[i] };
            (tokens.as_slice(), class)
        };
        let images: Vec<(&[u32], u32)> = places.zip(chosen).map(image).collect();
        let inputs = self.inputs(&images);
        self.batch += 1;
        Ok(inputs)
    }

    /// `loss`, the mean negative log-likelihood of a token in nats, of images with their classes; `perplexity`, its
    /// exponential.
    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>> {
        let set = &self.tokens[1];
        let all: Vec<(&[u32], u32)> =
            set.plain.iter().map(Vec::as_slice).zip(set.classes.iter().copied()).collect();
        let mut sum = 0.0;
        for images in all.chunks(self.batch()) {
            let results = trainer.forward(&self.inputs(images), &[LOSS])?;
            let loss = results[0].as_f32().map_or(f32::NAN, |values| values[0]);
            sum += f64::from(loss) * images.len() as f64;
        }
        let loss = sum / all.len().max(1) as f64;
        Ok(vec![("loss".to_owned(), loss), ("perplexity".to_owned(), loss.exp())])
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::models::generative::llamagen::CLASS_TABLE;
    use crate::session::ModelSource;

    /// A small model, and a token of its own for every image: those of image i are i, those mirrored 32 + i.
    fn small(model: &str, drawing: Drawing) -> Result<DrawnImages> {
        let files = ModelSource::Path(format!("tests/golden/{model}").into()).read(false).unwrap();
        let feeding = Feeding { batch: 3, seed: 1, ..Feeding::default() };
        let mut task = DrawnImages::new(files, ImageSet::shapes(1, 8, 4, 16), &feeding, drawing)?;
        let n = task.info().tokens;
        let made = |first: u32| (0..8).map(|i| vec![first + i; n]).collect();
        task.tokens[0] = Tokens { plain: made(0), mirrored: made(32), classes: (0..8).collect() };
        Ok(task)
    }

    fn words<'a>(inputs: &'a Inputs, name: &str) -> &'a [u32] {
        inputs.iter().find(|(n, _)| *n == name).unwrap().1.as_u32().unwrap()
    }

    #[test]
    fn a_batch_is_what_is_read_and_what_follows() {
        let mut task = small("imagegpt", Drawing::default()).unwrap();
        let n = task.info().tokens;
        task.begin(0, 0);
        let (order, inputs) = (task.order.clone(), task.next().unwrap());
        let (read, labels) = (words(&inputs, READ), words(&inputs, LABELS));
        assert_eq!((read.len(), labels.len()), (3 * n, 3 * n));
        for (row, &image) in order[..3].iter().enumerate() {
            let read = &read[row * n..(row + 1) * n];
            assert_eq!(read[0], task.info().start);
            assert!(read[1..].iter().all(|token| *token == image as u32));
            assert!(labels[row * n..(row + 1) * n].iter().all(|token| *token == image as u32));
        }
        assert_ne!(order, (0..8).collect::<Vec<_>>());
        task.next().unwrap();
        assert!(task.next().is_err(), "two whole batches of eight");
        // Rows that fill up a batch count for nothing.
        let tokens = vec![7; n];
        let inputs = task.inputs(&[(&tokens, 0)]);
        let weights = inputs.iter().find(|(name, _)| *name == WEIGHTS).unwrap().1.to_f32();
        assert!(weights[..n].iter().all(|w| *w == 1.0 / n as f32) && weights[n..].iter().all(|w| *w == 0.0));
    }

    #[test]
    fn classes_are_dropped_and_images_mirrored_as_often_as_asked() {
        let count = |dropout: Option<f32>, flip: f32| {
            let mut task = small("llamagen", Drawing { class_dropout: dropout, flip }).unwrap();
            let none = task.info().classes.unwrap() as u32;
            let (mut dropped, mut mirrored, mut seen) = (0, 0, 0);
            for epoch in 0..300 {
                task.begin(epoch, 0);
                for _ in 0..2 {
                    let inputs = task.next().unwrap();
                    let n = task.info().tokens;
                    assert_eq!(words(&inputs, READ).len(), 3 * (n - 1), "the class stands before them");
                    let images = words(&inputs, LABELS).iter().step_by(n);
                    for (class, token) in words(&inputs, CLASSES).iter().zip(images) {
                        assert!(*class == none || *class == token % 32, "{class} of {token}");
                        dropped += usize::from(*class == none);
                        mirrored += usize::from(*token >= 32);
                        seen += 1;
                    }
                }
            }
            [dropped, mirrored].map(|count| count as f64 / f64::from(seen))
        };
        assert_eq!(count(Some(0.0), 0.0), [0.0, 0.0]);
        assert_eq!(count(Some(1.0), 1.0), [1.0, 1.0]);
        let [dropped, mirrored] = count(None, 0.25);
        assert!((dropped - 0.1).abs() < 0.03 && (mirrored - 0.25).abs() < 0.04, "{dropped} {mirrored}");
    }

    #[test]
    fn new_classes_get_rows_and_the_row_of_none_stays() {
        let task = small("llamagen", Drawing::default()).unwrap();
        let old = ModelSource::Path("tests/golden/llamagen".into()).read(false).unwrap();
        let table = |files: &ModelFiles| files.checkpoint.read(CLASS_TABLE).unwrap();
        let (old, new) = (table(&old), table(&task.files));
        let c = task.info().hidden;
        assert_eq!((old.shape().dims(), new.shape().dims()), (&[6, c][..], &[17, c][..]));
        let (old, new) = (old.to_f32(), new.to_f32());
        assert_eq!(old[5 * c..], new[16 * c..]);
        let square = new[..16 * c].iter().map(|x| x * x).sum::<f32>() / (16 * c) as f32;
        assert!((square.sqrt() / 0.02 - 1.0).abs() < 0.15, "{square}");
        assert!(task.new_classes() && task.info().classes == Some(16) && task.info().guided);
        assert_eq!(task.files.config["id2label"]["2"], "ring");
        // As many classes as a model has that names none are its own, in their order.
        let sets =
            ImageSet::shapes(1, 8, 4, 16).map(|set| ImageSet { classes: set.classes[..5].to_vec(), ..set });
        let files = ModelSource::Path("tests/golden/llamagen".into()).read(false).unwrap();
        let task = DrawnImages::new(files, sets, &Feeding::default(), Drawing::default()).unwrap();
        assert_eq!((task.new_classes(), table(&task.files).to_f32()), (false, old));
        assert_eq!(task.files.config["id2label"]["4"], "crescent");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let dropping = Drawing { class_dropout: Some(0.1), flip: 0.0 };
        assert!(small("imagegpt", dropping).err().unwrap().message().contains("stands for none"));
        assert!(small("randar", Drawing::default()).err().unwrap().message().contains("any order"));
        let files = ModelSource::Path("tests/golden/llamagen".into()).read(false).unwrap();
        let refused = |sets: [ImageSet; 2], feeding: &Feeding| {
            DrawnImages::new(files.clone(), sets, feeding, Drawing::default()).err().unwrap().message()
        };
        let sets = || ImageSet::shapes(1, 8, 4, 16);
        let unnamed = sets().map(|set| ImageSet { classes: vec![], ..set });
        assert!(refused(unnamed, &Feeding::default()).contains("the images have none"));
        let varied = Feeding { augment: Some(Default::default()), ..Feeding::default() };
        assert!(refused(sets(), &varied).contains("become tokens once"));
    }
}
