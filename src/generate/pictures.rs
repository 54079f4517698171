//! Tokens to images and back, whatever the codec.

use super::codec::GeneratedImage;
use super::generator::{Generator, NOT_DRAWN};
use crate::error::{Error, Result};
use crate::image::Decoded;
use crate::image::preprocess::Preprocess;
use crate::tensor::Size;

impl Generator {
    /// Images of tokens in raster order; patches that a short sequence leaves out are grey, and so are
    /// those that are [`NOT_DRAWN`].
    ///
    /// # Errors
    /// [`Error::Usage`] for too many tokens or one beyond the vocabulary; device errors.
    pub fn decode(&self, tokens: &[Vec<u32>]) -> Result<Vec<GeneratedImage>> {
        let info = self.info();
        let whole = |t: &Vec<u32>| -> Vec<u32> {
            let known = t.iter().map(|&id| if id == NOT_DRAWN { 0 } else { id });
            known.chain(std::iter::repeat(0)).take(info.tokens.max(t.len())).collect()
        };
        let whole: Vec<Vec<u32>> = tokens.iter().map(whole).collect();
        let planes = self.decode_values(&whole)?;
        let Size { height, width } = info.image_size;
        let byte = |x: &f32| (127.5 * (x + 1.0)).round_ties_even().clamp(0.0, 255.0) as u8;
        let picture = |(values, given): (&Vec<f32>, &Vec<u32>)| {
            let mut picture = GeneratedImage { height, width, pixels: values.iter().map(byte).collect() };
            blank(&mut picture, info.grid, given);
            picture
        };
        Ok(planes.iter().zip(tokens).map(picture).collect())
    }

    /// Images of whole sequences before they are rounded: (H,W,3) each, in about [-1, 1].
    ///
    /// # Errors
    /// [`Error::Usage`] for too many or too few tokens, or one beyond the vocabulary; device errors.
    pub fn decode_values(&self, tokens: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let info = self.info();
        for sequence in tokens {
            let help = "were they made by another model?";
            if sequence.len() != info.tokens {
                let what = format!("{} tokens, an image has {}", sequence.len(), info.tokens);
                return Err(Error::usage(what, help));
            }
            if let Some(id) = sequence.iter().find(|&&id| id as usize >= info.vocabulary) {
                let what = format!("token {id} of a vocabulary of {}", info.vocabulary);
                return Err(Error::usage(what, help));
            }
        }
        self.codec.decode(info, tokens)
    }

    /// Tokens of an image of exactly [`super::GeneratorInfo::image_size`], in raster order.
    ///
    /// # Errors
    /// [`Error::Usage`] for another size, or a checkpoint without the encoder; device errors.
    pub fn encode(&self, picture: &GeneratedImage) -> Result<Vec<u32>> {
        let Size { height, width } = self.info().image_size;
        if (picture.height, picture.width) != (height, width) || picture.pixels.len() != height * width * 3 {
            let what = format!("an image of {}x{}", picture.width, picture.height);
            return Err(Error::usage(what, format!("the model takes {width}x{height}; `fit` resizes")));
        }
        Ok(self.codec.encode(self.info(), &[&picture.pixels])?.remove(0))
    }

    /// Tokens of several images, bytes (H,W,3) of exactly [`super::GeneratorInfo::image_size`] each, in raster order.
    ///
    /// # Errors
    /// As [`Generator::encode`].
    pub(crate) fn encode_all(&self, pictures: &[&[u8]]) -> Result<Vec<Vec<u32>>> {
        self.codec.encode(self.info(), pictures)
    }

    /// How images are brought to that size.
    pub(crate) fn preprocess(&self) -> &Preprocess {
        self.codec.preprocess()
    }

    /// An image resized, and cropped where its shape is another, to [`super::GeneratorInfo::image_size`].
    ///
    /// # Errors
    /// If the image cannot be brought to that size.
    pub fn fit(&self, image: &Decoded) -> Result<GeneratedImage> {
        let Size { height, width } = self.info().image_size;
        Ok(GeneratedImage { height, width, pixels: self.codec.preprocess().pixels(image)? })
    }
}

/// Greys what is not drawn yet.
fn blank(picture: &mut GeneratedImage, [rows, columns]: [usize; 2], tokens: &[u32]) {
    let (patch_height, patch_width) = (picture.height / rows, picture.width / columns);
    let missing = |i: &usize| tokens.get(*i).is_none_or(|&id| id == NOT_DRAWN);
    for i in (0..rows * columns).filter(missing) {
        let (top, left) = (i / columns * patch_height, i % columns * patch_width);
        for y in top..top + patch_height {
            let start = (y * picture.width + left) * 3;
            picture.pixels[start..start + patch_width * 3].fill(GREY);
        }
    }
}

const GREY: u8 = 128;
