//! Images and texts in one space: CLIP and SigLIP, whose two towers were trained so that a picture and words that
//! are true of it point the same way. Labels in words of one's own, search, and vectors for either.
//!
//! Both towers come from one checkpoint and run on one device; each keeps the weights it uses.

mod zero_shot;

pub use zero_shot::{IMAGENET_TEMPLATES, Wording};

use crate::error::{Advice, Error, Result};
use crate::labels::Scoring;
use crate::models::{self, text::Tower};
use crate::session::{ModelFiles, ModelSource, Options, Session};
use crate::tensor::Size;
use crate::text::sentence::normalize;
use crate::text::{TextSession, TooLong};

/// The output of the image tower in the shared space.
pub const IMAGE_EMBEDS: &str = "image_embeds";
/// The output of the text tower there.
pub const TEXT_EMBEDS: &str = "text_embeds";

/// A model of two towers made ready.
pub struct DualEncoder {
    images: Session,
    texts: TextSession,
    matching: Matching,
}

/// What the cosine of an image and a text says: a logit is scale·cos + bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matching {
    /// The factor.
    pub scale: f32,
    /// What is added.
    pub bias: f32,
    /// CLIP: labels share one probability (softmax). SigLIP: each has a chance of its own (sigmoid).
    pub scoring: Scoring,
    /// Width of the space E.
    pub width: usize,
}

impl DualEncoder {
    /// Opens a model of two towers on a device. Weights are uploaded by the first use.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model that has no text tower; as [`Session::open`].
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        Self::from_files(source.read(options.mmap)?, options)
    }

    /// Makes files that were read ready on a device.
    ///
    /// # Errors
    /// As [`DualEncoder::open`].
    pub fn from_files(files: ModelFiles, options: &Options) -> Result<Self> {
        let tower = models::text_tower(&files.config, files.checkpoint.index());
        let Some(tower) = tower.map_err(|e| e.within(&files.name))? else {
            let what = format!("{} has no text tower, so it knows no words", files.name);
            return Err(Error::usage(
                what,
                "CLIP and SigLIP have one: pass the folder of a whole checkpoint",
            ));
        };
        let Some(said) = tower.info().tower.clone() else {
            return Err(Error::model(&files.name, "its text half is no tower", ""));
        };
        let matching = Matching::read(&files, &said)?;
        let images = Session::from_files(files.clone(), options)?;
        if !images.output_names(images.info().image_size)?.iter().any(|name| name == IMAGE_EMBEDS) {
            let what = "its image tower has no projection into the space of its texts";
            return Err(Error::model(&files.name, what, "pass a whole checkpoint, as CLIPModel saves it"));
        }
        let texts = TextSession::tower(tower, &files, &images);
        Ok(Self { images, texts, matching })
    }

    /// The image tower.
    pub fn images(&self) -> &Session {
        &self.images
    }

    /// The text tower.
    pub fn texts(&self) -> &TextSession {
        &self.texts
    }

    /// The text tower alone.
    pub fn into_texts(self) -> TextSession {
        self.texts
    }

    /// The image tower alone.
    pub fn into_images(self) -> Session {
        self.images
    }

    /// What a cosine says.
    pub fn matching(&self) -> Matching {
        self.matching
    }

    /// A vector of length 1 for each text, E numbers. Equal texts run once.
    ///
    /// # Errors
    /// [`Error::Usage`] for a text that is empty or too long, [`Error::NonFinite`]; device errors.
    pub fn embed_texts(&self, texts: &[&str], too_long: TooLong) -> Result<Vec<Vec<f32>>> {
        self.texts.embed_in_space(texts, true, too_long)
    }

    /// A vector of length 1 for each image, E numbers. `pixels`: as [`Session::run_pixels`] takes them.
    ///
    /// # Errors
    /// [`Error::NonFinite`]; as [`Session::run_pixels`].
    pub fn embed_pixels(&self, pixels: &[&[u8]], size: impl Into<Size>) -> Result<Vec<Vec<f32>>> {
        let made = self.images.run_pixels(pixels, size, &[IMAGE_EMBEDS])?;
        let all = made[0].as_f32().unwrap_or_default();
        let rows = all.chunks(self.matching.width).map(|row| {
            let count = row.iter().filter(|x| !x.is_finite()).count();
            if count > 0 {
                let what = format!("{IMAGE_EMBEDS} of {}", self.images.name());
                return Err(Error::NonFinite { what, count, total: row.len() });
            }
            Ok(unit(row))
        });
        rows.collect()
    }
}

impl Matching {
    fn read(files: &ModelFiles, said: &Tower) -> Result<Self> {
        let number = |name: &str| -> Result<f32> {
            match files.checkpoint.values(name)?.1[..] {
                [x] if x.is_finite() => Ok(x),
                [x] => Err(Error::model(&files.name, format!("`{name}` is {x}"), Advice::Nothing)),
                ref all => {
                    let what = format!("`{name}` has {} elements, expected one", all.len());
                    Err(Error::model(&files.name, what, ""))
                }
            }
        };
        let scale = number(&said.logit_scale)?.exp();
        let bias = said.logit_bias.as_deref().map_or(Ok(0.0), number)?;
        let scoring = if said.independent { Scoring::Sigmoid } else { Scoring::Softmax };
        Ok(Self { scale, bias, scoring, width: said.width })
    }
}

/// The same direction at length 1.
pub(crate) fn unit(x: &[f32]) -> Vec<f32> {
    let mut vector = x.to_vec();
    normalize(&mut vector);
    vector
}
