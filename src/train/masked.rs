//! Learning to paint what is hidden of images (He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners").

use super::data::{Batches, Feed, ImageSet, Mix, Varied};
use super::feeding::{Feeding, preprocess};
use super::fit::{Inputs, Metric, Task};
use super::objective::{self, LOSS, MASK, Objective, PIXELS, WEIGHTS};
use super::recipe::Recipe;
use super::scope::{self, Scope};
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::models::masked::Mask;
use crate::models::{self, AnyModel, Model};
use crate::session::{ModelFiles, Options};
use crate::tensor::HostTensor;

/// Tables of positions, which are sines and stay as they are: endings of names.
const FIXED: [&str; 2] = ["position_embeddings", "decoder_pos_embed"];
/// What masks are drawn by beside the seed, the epoch and the image's place in it: in training, and in validation.
const STREAMS: [u64; 2] = [2, 3];
/// What a validation finds.
const METRICS: &[Metric] = &[Metric::loss("loss")];

/// Two sets of images, to learn from and to be tested by, and a masked autoencoder.
pub struct MaskedImages {
    files: ModelFiles,
    model: Box<dyn Model>,
    training: Feed,
    held_out: Feed,
    /// Share of patches that is hidden.
    ratio: f32,
    batches: Option<Batches>,
    epoch: usize,
    /// The next batch of the epoch.
    batch: usize,
    notes: Vec<String>,
}

impl MaskedImages {
    /// Makes an autoencoder ready for images, whose classes do not matter. `ratio`: share of patches that is hidden;
    /// `None` for the model's own.
    ///
    /// # Errors
    /// [`Error::Model`] for a model that is no masked autoencoder; [`Error::Usage`] for one without its decoder, a
    /// ratio that hides no patch or every one, images that are mixed, and a batch of none.
    pub fn new(
        files: ModelFiles,
        sets: [ImageSet; 2],
        feeding: &Feeding,
        ratio: Option<f32>,
    ) -> Result<Self> {
        let model = models::from_config(&files.config, files.checkpoint.index(), None);
        let model = model.and_then(AnyModel::vision).map_err(|e| e.within(&files.name))?;
        if feeding.mix != Mix::default() || feeding.smoothing > 0.0 {
            let what = "no classes are learned that could be mixed or smoothed";
            return Err(Error::usage(what, "leave mixup, CutMix and smoothing away"));
        }
        let varied = Varied { augment: feeding.augment, mix: Mix::default() };
        let prepared = (&preprocess(&files, model.info())?, model.info().image_size);
        let places = vec![0; sets.iter().map(|set| set.classes.len()).max().unwrap_or(0).max(1)];
        let [training, held_out] = feeding.feeds(sets, &places, prepared, varied)?;
        let ratio = ratio.unwrap_or(objective::masked(&*model)?.mask_ratio());
        let (batches, epoch, batch, notes) = (None, 0, 0, Vec::new());
        let made = Self { files, model, training, held_out, ratio, batches, epoch, batch, notes };
        let [hidden, patches] = made.hidden();
        if hidden == 0 || !(0.0..1.0).contains(&ratio) {
            let what = format!("a mask ratio of {ratio} hides {hidden} of {patches} patches");
            return Err(Error::usage(what, "hide at least one patch, and keep one: 0.75 is usual"));
        }
        Ok(made)
    }

    /// The model's files.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Images of a step.
    pub fn batch(&self) -> usize {
        self.training.batch
    }

    /// Patches of an image that are hidden, and all of them.
    pub fn hidden(&self) -> [usize; 2] {
        let mask = self.masks([0; 2], 0, 1).ok();
        mask.map_or([0; 2], |mask| [mask.patches - mask.keep(), mask.patches])
    }

    /// The loss behind the model.
    ///
    /// # Errors
    /// As [`objective::masked_pixels`].
    pub fn objective(&self) -> Result<Objective> {
        let [hidden, patches] = self.hidden();
        let Feed { preprocess, batch, .. } = &self.training;
        objective::masked_pixels(&*self.model, preprocess, *batch, patches - hidden)
    }

    /// The model on a device, ready for its first step. Tables of positions are not trained.
    ///
    /// # Errors
    /// As [`Trainer::open`]; [`Error::Usage`] for a scope of the head alone, and for an adapter.
    pub fn trainer(&self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        if scope == Scope::Head || self.files.adapter.is_some() {
            let what = "a masked autoencoder has no classifier, and takes no adapter";
            return Err(Error::usage(what, "train all of it, or its last layers with the decoder"));
        }
        let objective = self.objective()?;
        let trained = scope::trained(&objective.graph, self.model.info().layers, &[], scope)?;
        let is_trained = |name: &str| trained.contains(name) && !FIXED.iter().any(|end| name.ends_with(end));
        Trainer::open(self.files.clone(), options, objective, &is_trained, recipe)
    }

    /// Masks of so many images, from a number on, functions of these numbers and the seed.
    fn masks(&self, keys: [u64; 2], first: usize, images: usize) -> Result<Mask> {
        let image = |i: usize| vec![self.training.seed, keys[0], keys[1], (first + i) as u64];
        let keys: Vec<Vec<u64>> = (0..images).map(image).collect();
        Mask::drawn(&keys, self.model.info(), self.ratio)
    }

    /// Inputs of a batch, of which the first `count` images count.
    fn inputs(&self, pixels: HostTensor, mask: &Mask, count: usize) -> Inputs {
        let counted = (count * (mask.patches - mask.keep())) as f32;
        let weight = |(i, hidden): (usize, bool)| {
            if hidden && i < count * mask.patches { 1.0 / counted } else { 0.0 }
        };
        let weights: Vec<f32> = mask.hidden().into_iter().enumerate().map(weight).collect();
        let [kept, restore] = mask.tensors();
        let weights = HostTensor::f32([weights.len()], weights);
        vec![(PIXELS, pixels), (MASK[0], kept), (MASK[1], restore), (WEIGHTS, weights)]
    }
}

impl Task for MaskedImages {
    fn batches(&self) -> usize {
        self.training.batches()
    }

    fn begin(&mut self, epoch: usize, batch: usize) {
        (self.epoch, self.batch) = (epoch, batch);
        self.batches = Some(self.training.from(epoch, batch));
    }

    fn next(&mut self) -> Result<Inputs> {
        let next = self.batches.as_ref().and_then(Batches::next);
        let mut batch = next.unwrap_or_else(|| Err(Error::usage("the epoch is over", "begin the next")))?;
        self.notes.append(&mut batch.unreadable);
        let size = self.training.batch;
        let mask = self.masks([STREAMS[0], self.epoch as u64], self.batch * size, size)?;
        self.batch += 1;
        Ok(self.inputs(batch.pixels, &mask, batch.count))
    }

    /// `loss`, the mean squared error of hidden patches, always the same ones of an image.
    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>> {
        let (mut sum, mut seen) = (0.0, 0);
        let batches = self.held_out.from(0, 0);
        while let Some(batch) = batches.next() {
            let mut batch = batch?;
            self.notes.append(&mut batch.unreadable);
            let mask = self.masks([STREAMS[1], 0], seen, self.held_out.batch)?;
            let results = trainer.forward(&self.inputs(batch.pixels, &mask, batch.count), &[LOSS])?;
            let loss = results[0].as_f32().map_or(f32::NAN, |values| values[0]);
            sum += f64::from(loss) * batch.count as f64;
            seen += batch.count;
        }
        Ok(vec![("loss".to_owned(), sum / seen.max(1) as f64)])
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
    use crate::models::masked::pixels_of_patches;
    use crate::ops::Sgd;
    use crate::session::{Device, ModelSource};
    use crate::train::Optimizer;
    use crate::train::objective::TARGET;

    /// A small autoencoder that paints pixels, or normalised ones.
    fn small(normalised: bool, feeding: &Feeding, ratio: Option<f32>) -> Result<MaskedImages> {
        let mut files = ModelSource::Path("tests/golden/vit_mae".into()).read(false).unwrap();
        files.config["norm_pix_loss"] = normalised.into();
        MaskedImages::new(files, ImageSet::shapes(1, 9, 5, 32), feeding, ratio)
    }

    fn trainer(task: &MaskedImages, objective: Objective) -> Trainer {
        let options = Options { device: Device::Reference, ..Options::default() };
        let optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, ..Sgd::default() });
        let recipe = Recipe { optimizer, clip: 0.0, ..Recipe::default() };
        Trainer::open(task.files.clone(), &options, objective, &|name| name.starts_with("decoder."), &recipe)
            .unwrap()
    }

    #[test]
    fn what_is_painted_on_the_device_is_that_of_the_host() {
        for normalised in [false, true] {
            let mut task = small(normalised, &Feeding { batch: 4, ..Feeding::default() }, None).unwrap();
            task.begin(1, 1);
            let inputs = task.next().unwrap();
            let get = |name| inputs.iter().find(|(n, _)| *n == name).unwrap().1.clone();
            let bytes = get(PIXELS).bytes().to_vec();
            let (scale, offset) = task.training.preprocess.normalise();
            let value = |i: usize| {
                let (b, c, at) = (i / 3072, i / 1024 % 3, i % 1024);
                f32::from(bytes[(b * 1024 + at) * 3 + c]) * scale[c] + offset[c]
            };
            let image = HostTensor::f32([4, 3, 32, 32], (0..4 * 3072).map(value).collect());
            let target = pixels_of_patches(&image, task.model.info(), normalised).unwrap();
            let plain = objective::masked_patches(&*task.model, 4, 8).unwrap();
            let by_host = vec![
                ("image", image),
                (TARGET, target),
                (MASK[0], get(MASK[0])),
                (MASK[1], get(MASK[1])),
                (WEIGHTS, get(WEIGHTS)),
            ];
            let (want, gradients) = trainer(&task, plain).gradients(&by_host).unwrap();
            let (got, others) = trainer(&task, task.objective().unwrap()).gradients(&inputs).unwrap();
            assert!((got - want).abs() < 1e-5 * want && want > 0.1, "{normalised}: {got} {want}");
            for ((name, x), (_, y)) in gradients.iter().zip(&others) {
                let far = x.to_f32().iter().zip(y.to_f32()).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                assert!(far < 1e-5, "{normalised} {name}: {far}");
            }
        }
    }

    #[test]
    fn batches_are_functions_of_epoch_and_number() {
        let feeding = Feeding { batch: 4, seed: 7, ..Feeding::default() };
        let of = |epoch: usize, batch: usize, feeding: &Feeding| {
            let mut task = small(false, feeding, Some(0.75)).unwrap();
            task.begin(epoch, batch);
            task.next().unwrap()
        };
        let first = of(2, 1, &feeding);
        assert_eq!(first, of(2, 1, &feeding));
        let kept = |inputs: &Inputs| inputs[1].1.as_u32().unwrap().to_vec();
        assert_eq!(
            (inputs_names(&first), kept(&first).len()),
            (vec!["pixels", "kept", "restore", "weights"], 16)
        );
        for other in
            [of(2, 0, &feeding), of(1, 1, &feeding), of(2, 1, &Feeding { seed: 8, ..feeding.clone() })]
        {
            assert_ne!(kept(&first), kept(&other));
            assert_ne!(first[0].1, other[0].1);
        }
        // Going on in an epoch gives what comes next.
        let mut task = small(false, &feeding, Some(0.75)).unwrap();
        task.begin(2, 0);
        task.next().unwrap();
        assert_eq!(task.next().unwrap(), first);
        assert!(task.next().is_err(), "two whole batches of nine");
    }

    fn inputs_names(inputs: &Inputs) -> Vec<&'static str> {
        inputs.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn validation_is_the_mean_over_hidden_patches_whatever_the_batch() {
        let found: Vec<f64> = [2, 3, 5]
            .into_iter()
            .map(|batch| {
                let mut task = small(false, &Feeding { batch, ..Feeding::default() }, None).unwrap();
                let mut trainer = trainer(&task, task.objective().unwrap());
                let found = task.validate(&mut trainer).unwrap();
                assert_eq!((found.len(), found[0].0.as_str()), (1, "loss"));
                found[0].1
            })
            .collect();
        assert!(found.iter().all(|x| (x - found[0]).abs() < 1e-5 * found[0]) && found[0] > 0.1, "{found:?}");
    }

    #[test]
    fn what_cannot_be_hidden_is_refused() {
        for ratio in [0.0, 1.0, f32::NAN] {
            let e = small(false, &Feeding::default(), Some(ratio)).err().unwrap().message();
            assert!(e.contains("patches"), "{ratio}: {e}");
        }
        let mixed = Feeding { mix: Mix { mixup: 0.2, cutmix: 0.0 }, ..Feeding::default() };
        assert!(small(false, &mixed, None).err().unwrap().message().contains("classes"));
        let mut files = ModelSource::Path("tests/golden/vit_mae".into()).read(false).unwrap();
        let encoder = |name: &str| (!name.starts_with("decoder.")).then(|| name.to_owned());
        files.checkpoint = files.checkpoint.renamed(&encoder);
        let sets = ImageSet::shapes(1, 9, 5, 32);
        let e = MaskedImages::new(files, sets, &Feeding::default(), None).err().unwrap().message();
        assert!(e.contains("no decoder"), "{e}");
    }
}
