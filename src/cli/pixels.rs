//! From an input to the pixels that a model takes, for every command that looks at images.

use std::time::{Duration, Instant};

use super::args::ImageArgs;
use super::inputs::{self, Input};
use super::open::Opened;
use super::talk::Talk;
use crate::error::{Error, Result};
use crate::image;
use crate::image::preprocess::{Pixels, Preprocess};
use crate::image::{DecodeOptions, Decoded};
use crate::tensor::Size;

/// An input, decoded and preprocessed, or why not.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) picture: Result<Picture>,
    pub(super) notes: Vec<String>,
    pub(super) took: Duration,
}

/// What the device takes.
pub(super) struct Picture {
    pub(super) pixels: Pixels,
    /// Height and width.
    pub(super) size: Size,
}

/// How images are read.
pub(super) fn decode_options(args: &ImageArgs) -> DecodeOptions {
    DecodeOptions {
        max_pixels: args.max_pixels.unwrap_or(image::MAX_PIXELS),
        apply_exif: !args.no_exif,
        allow_truncated: args.allow_truncated,
        background: args.background,
    }
}

/// The model's preprocessing at the size that was asked for.
pub(super) fn preprocess(args: &ImageArgs, opened: &Opened, talk: Talk) -> Result<Preprocess> {
    let own = opened.session.preprocess();
    if let Some(size) = args.image_size {
        return own.with_size(size);
    }
    let trained = opened.session.info().image_size;
    if let Some(size) = own.size().filter(|size| *size != trained) {
        talk.warn(format_args!(
            "preprocessing yields {size} pixels, the model was trained on {trained}: positions are fitted to that"
        ));
    }
    Ok(own.clone())
}

impl Ready {
    /// Preprocesses what was decoded, since `start`.
    pub(super) fn new(
        name: String,
        decoded: Result<Decoded>,
        preprocess: &Preprocess,
        start: Instant,
    ) -> Self {
        let mut notes = Vec::new();
        let picture = decoded.and_then(|mut decoded| {
            notes = std::mem::take(&mut decoded.notes);
            let size = preprocess.output_size(decoded.size());
            let pixels = preprocess.prepare(&decoded).map_err(|e| match e {
                Error::Input { what, help, .. } => Error::Input { input: name.clone(), what, help },
                other => other,
            })?;
            Ok(Picture { pixels, size })
        });
        Ready { name, picture, notes, took: start.elapsed() }
    }

    /// Makes an error of its size its own: the other images may have other sizes.
    pub(super) fn refuse(&mut self, e: &Error) {
        let size = self.picture.as_ref().map_or_else(|_| Size::default(), |picture| picture.size);
        let what = format!("at {size} pixels: {}", e.message());
        let help = e.hint().cloned().unwrap_or_default();
        self.picture = Err(Error::Input { input: self.name.clone(), what, help });
    }
}

/// Whether an error may be an image's own, where images come in sizes of their own: the model does not take
/// its size, or the device cannot hold it.
pub(super) fn of_one_size(e: &Error, preprocess: &Preprocess) -> bool {
    let by_size = matches!(
        e,
        Error::Usage { .. } | Error::Model { .. } | Error::Limit { .. } | Error::OutOfMemory { .. }
    );
    by_size && preprocess.size().is_none()
}

/// Decodes and preprocesses one input.
pub(super) fn decode(input: &Input, options: &DecodeOptions, preprocess: &Preprocess) -> Ready {
    let start = Instant::now();
    let decoded = match input {
        Input::Failed(e) => Err(e.clone()),
        Input::File(path) => image::decode_file(path, options),
        Input::Stdin => inputs::read_stdin().and_then(|bytes| image::decode_bytes("-", &bytes, options)),
    };
    Ready::new(input.name(), decoded, preprocess, start)
}
