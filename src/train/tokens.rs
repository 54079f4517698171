//! Images as a decoder learns them: each goes through the codec once, and its tokens stay on the host.

use super::data::{Batch, Feed, mirror};
use crate::error::{Error, Result};
use crate::generate::Generator;

/// Tokens of images in the order of their set, in raster order each.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) plain: Vec<Vec<u32>>,
    /// Those of mirrored images, where such are wanted.
    pub(super) mirrored: Vec<Vec<u32>>,
    pub(super) classes: Vec<u32>,
}

impl Tokens {
    /// Those of a set; `None` where `done`, which hears how many images are, asked for an end.
    ///
    /// # Errors
    /// If images cannot be read, or the codec finds what the decoder does not draw; device errors.
    pub(super) fn of(
        encoder: &Generator,
        feed: &Feed,
        mirrored: bool,
        notes: &mut Vec<String>,
        done: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Self>> {
        let mut made = Self::default();
        let batches = feed.plain().from(0, 0);
        while let Some(batch) = batches.next() {
            let mut batch = batch?;
            notes.append(&mut batch.unreadable);
            let mut pixels = batch.pixels.bytes().to_vec();
            made.plain.extend(encode(encoder, feed, &batch, &pixels)?);
            if mirrored {
                mirror(&mut pixels, feed.size.width);
                made.mirrored.extend(encode(encoder, feed, &batch, &pixels)?);
            }
            made.classes.extend(&batch.labels[..batch.count]);
            if !done(made.plain.len()) {
                return Ok(None);
            }
        }
        Ok(Some(made))
    }
}

/// The tokens of the images of a batch that are not there only to fill it.
fn encode(encoder: &Generator, feed: &Feed, batch: &Batch, pixels: &[u8]) -> Result<Vec<Vec<u32>>> {
    let bytes = feed.size.height * feed.size.width * 3;
    let images: Vec<&[u8]> = pixels.chunks(bytes).take(batch.count).collect();
    let tokens = encoder.encode_all(&images)?;
    let vocabulary = encoder.info().vocabulary;
    match tokens.iter().flatten().find(|token| **token as usize >= vocabulary) {
        Some(token) => {
            let what = format!("an image has the token {token}, and the model draws {vocabulary}");
            Err(Error::usage(what, "take the codec that it was trained with"))
        }
        None => Ok(tokens),
    }
}
