//! How images come to a model that is trained: prepared as for inference or varied, so many a step.

use super::data::{Augment, Feed, ImageSet, Mix, Varied};
use crate::error::{Error, Result};
use crate::image::DecodeOptions;
use crate::image::preprocess::Preprocess;
use crate::models::ModelInfo;
use crate::session::ModelFiles;
use crate::tensor::Size;

/// How images are fed.
#[derive(Debug, Clone)]
pub struct Feeding {
    /// Images of a step.
    pub batch: usize,
    /// What order and variation are drawn by, masks, and new weights.
    pub seed: u64,
    /// How images are varied; `None` for not at all.
    pub augment: Option<Augment>,
    /// How they are mixed.
    pub mix: Mix,
    /// Share of each label that is spread over all classes.
    pub smoothing: f32,
    /// How files are decoded.
    pub decode: DecodeOptions,
}

/// 32 images a step, as they are prepared for inference.
impl Default for Feeding {
    fn default() -> Self {
        let (augment, mix, decode) = (None, Mix::default(), DecodeOptions::default());
        Self { batch: 32, seed: 0, augment, mix, smoothing: 0.0, decode }
    }
}

impl Feeding {
    /// Batches of images to train on, varied, and of those to validate on, as they are, all of one size. `places` are
    /// the model's numbers of the classes of the images.
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch of none.
    pub(super) fn feeds(
        &self,
        sets: [ImageSet; 2],
        places: &[u32],
        (preprocess, size): (&Preprocess, Size),
        varied: Varied,
    ) -> Result<[Feed; 2]> {
        if self.batch == 0 {
            return Err(Error::usage("a batch of no images", "take at least one"));
        }
        let [training, held_out] = sets;
        let feed = |set: ImageSet, training: Option<Varied>| Feed {
            set,
            places: places.to_vec(),
            preprocess: preprocess.clone(),
            size,
            decode: self.decode.clone(),
            batch: self.batch,
            seed: self.seed,
            training,
        };
        Ok([feed(training, Some(varied)), feed(held_out, None)])
    }
}

/// How a model's images are prepared, in the size that it was made for: what its files say of another size is for
/// inference, and positions are trained for the model's own.
///
/// # Errors
/// As [`Preprocess::from_json`].
pub(super) fn preprocess(files: &ModelFiles, info: &ModelInfo) -> Result<Preprocess> {
    let stated = match &files.preprocessor {
        Some((name, text)) => Preprocess::from_json(name, text, Some(info.family))?,
        None => Preprocess::default_for(info.family, info.image_size)?,
    };
    stated.with_size(info.image_size)
}
