//! What a model is trained on: images by class, from folders or drawn on the fly; how they are varied; and
//! batches, prepared on all cores while the device works. Lists of texts, by what is learned of them.

pub mod augment;
mod batches;
mod captions;
mod documents;
mod folder;
mod lists;
pub mod mix;
mod pairs;
mod pixel_ops;
mod questions;
mod rand_augment;
mod tagged;
mod texts;

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

pub use augment::Augment;
pub(super) use augment::mirror;
pub(super) use batches::{Batch, Batches, Feed, Varied};
pub use captions::{has_captions, read_captions};
pub use documents::read_documents;
pub use folder::{read_folder, read_pictures};
pub use lists::{Fields, fields_of, has_texts};
pub use mix::Mix;
pub use pairs::{Rated, read_pairs, read_rated};
pub use questions::{Question, read_questions};
pub use rand_augment::RandAugment;
pub use tagged::{Tagged, read_tagged};
pub use texts::{TextSet, read_texts};

use crate::error::Result;
use crate::image::preprocess::Preprocess;
use crate::image::{DecodeOptions, Decoded, decode_file};
use crate::random::Random;
use crate::synthetic::shapes;
use crate::tensor::Size;

/// Images with their classes.
#[derive(Debug, Clone)]
pub struct ImageSet {
    /// Names of the classes; none where they do not matter.
    pub classes: Vec<String>,
    /// The images.
    pub images: Images,
}

/// Where images come from.
#[derive(Debug, Clone)]
pub enum Images {
    /// Files, each with the number of its class.
    Files(Vec<(PathBuf, u32)>),
    /// Shapes that are drawn when they are needed: other ones in every epoch, or always the same.
    Shapes {
        /// What they are drawn by.
        seed: u64,
        /// How many an epoch has.
        count: usize,
        /// Side in pixels.
        side: usize,
        /// Whether every epoch has new ones.
        fresh: bool,
    },
}

impl ImageSet {
    /// Shapes drawn on the fly: `count` new ones of `side` pixels each epoch for training, and `held_out` for
    /// validation, by another seed.
    pub fn shapes(seed: u64, count: usize, held_out: usize, side: usize) -> [Self; 2] {
        let classes: Vec<String> = shapes::LABELS.iter().map(|name| (*name).to_owned()).collect();
        let set = |images| ImageSet { classes: classes.clone(), images };
        let drawn = |seed, count, fresh| Images::Shapes { seed, count, side, fresh };
        [set(drawn(seed, count, true)), set(drawn(!seed, held_out, false))]
    }

    /// The same pictures every epoch, where they are drawn.
    pub fn fixed(mut self) -> Self {
        if let Images::Shapes { fresh, .. } = &mut self.images {
            *fresh = false;
        }
        self
    }

    /// Few digits by classes and images: other ones for other data.
    pub fn digest(&self) -> String {
        let list = match &self.images {
            Images::Files(files) => format!("{files:?}"),
            drawn => format!("{drawn:?}"),
        };
        digest(&format!("{:?} {list}", self.classes))
    }

    /// Number of images of an epoch.
    pub fn len(&self) -> usize {
        match &self.images {
            Images::Files(files) => files.len(),
            Images::Shapes { count, .. } => *count,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An image and the number of its class.
    fn get(&self, epoch: usize, i: usize, options: &DecodeOptions) -> Result<(Decoded, u32)> {
        match &self.images {
            Images::Files(files) => Ok((decode_file(&files[i].0, options)?, files[i].1)),
            Images::Shapes { seed, count, side, fresh } => {
                let drawn = if *fresh { epoch * count + i } else { i };
                let shapes::Picture { label, pixels, .. } = shapes::picture(*seed, drawn as u64, *side);
                let decoded = Decoded { width: *side, height: *side, rgb: pixels, notes: vec![] };
                Ok((decoded, label as u32))
            }
        }
    }
}

/// Few digits of texts to train and to validate on: other ones for other data.
pub fn digest_of(sets: &impl std::fmt::Debug) -> String {
    digest(&format!("{sets:?}"))
}

/// The first digits of a hash.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes (H,W,3) of an image as the model takes them: varied if `augment` says so, else as it was prepared for
/// inference.
fn prepared(
    image: &Decoded,
    preprocess: &Preprocess,
    size: Size,
    augment: Option<(&Augment, &mut Random)>,
) -> Result<Vec<u8>> {
    match augment {
        Some((augment, random)) => augment.apply(image, preprocess, size, random),
        None => preprocess.pixels(image),
    }
}
