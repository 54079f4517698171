//! What is learned of images besides their classes: what is hidden of them, or how to draw them token by token.

use super::asked::{Asked, Kind};
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::models::{self, AnyModel};
use crate::session::{Device, ModelFiles, Options};
use crate::train::data::ImageSet;
use crate::train::{DrawnImages, MaskedImages, Recipe, Scope, Task, Trainer};

/// A task whose answers are pixels.
pub(super) enum Pixels {
    Masked(Box<MaskedImages>),
    Drawn(Box<DrawnImages>),
}

impl Pixels {
    /// And few digits by which the data is known again.
    pub(super) fn new(files: ModelFiles, asked: &Asked, talk: Talk) -> Result<(Self, String)> {
        match asked.kind(&files.config) {
            Kind::Drawn => Self::drawn(files, asked, talk),
            _ => Self::masked(files, asked, talk),
        }
    }

    fn masked(files: ModelFiles, asked: &Asked, talk: Talk) -> Result<(Self, String)> {
        let model = models::from_config(&files.config, files.checkpoint.index(), None);
        let side = model.and_then(AnyModel::vision).map_err(|e| e.within(&files.name))?.info().image_size;
        let sets = asked.pictures(side.height.max(side.width), Kind::Masked)?;
        let [training, held_out] = sets.each_ref().map(ImageSet::len);
        let data = sets.each_ref().map(ImageSet::digest).concat();
        let task = MaskedImages::new(files, sets, &asked.feeding(training), asked.mask_ratio())?;
        let [hidden, patches] = task.hidden();
        talk.note(format_args!(
            "{training} images to train on, {held_out} to validate on; {hidden} of {patches} patches are hidden"
        ));
        Ok((Self::Masked(Box::new(task)), data))
    }

    fn drawn(files: ModelFiles, asked: &Asked, talk: Talk) -> Result<(Self, String)> {
        let reads = Options { device: Device::Reference, ..Options::default() };
        let info = Generator::from_files(files.clone(), &reads)?.info().clone();
        let side = info.image_size.height.max(info.image_size.width);
        let sets = match info.classes {
            Some(_) => asked.images(side, Kind::Drawn)?,
            None => asked.pictures(side, Kind::Drawn)?,
        };
        let [training, held_out] = sets.each_ref().map(ImageSet::len);
        let data = sets.each_ref().map(ImageSet::digest).concat();
        let task = DrawnImages::new(files, sets, &asked.feeding(training), asked.drawing())?;
        talk.note(format_args!(
            "{training} images to train on, {held_out} to validate on, of {} tokens each",
            info.tokens
        ));
        if task.new_classes() {
            talk.note("the classes are not the model's: it gets new rows for them");
        }
        Ok((Self::Drawn(Box::new(task)), data))
    }

    /// # Errors
    /// [`Error::Usage`]: there is nothing to be adapted.
    pub(super) fn adapt() -> Result<()> {
        let what = "an adapter is trained with a classifier, and this model has none";
        Err(Error::usage(what, "train all of it, or its last layers: --trainable last-4"))
    }

    pub(super) fn files(&self) -> &ModelFiles {
        match self {
            Self::Masked(task) => task.files(),
            Self::Drawn(task) => task.files(),
        }
    }

    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Masked(task) => task.batch(),
            Self::Drawn(task) => task.batch(),
        }
    }

    pub(super) fn trainer(&mut self, options: &Options, scope: Scope, recipe: &Recipe) -> Result<Trainer> {
        match self {
            Self::Masked(task) => task.trainer(options, scope, recipe),
            Self::Drawn(task) => task.trainer(options, scope, recipe),
        }
    }

    pub(super) fn task(&mut self) -> &mut dyn Task {
        match self {
            Self::Masked(task) => &mut **task,
            Self::Drawn(task) => &mut **task,
        }
    }

    /// The command that tries the model, and what it takes.
    pub(super) fn example(&self) -> (&'static str, &'static str) {
        match self {
            Self::Masked(_) => ("infer", "IMAGE --reconstruct FILE.png"),
            Self::Drawn(_) => ("generate", "-o FILE.png"),
        }
    }
}
