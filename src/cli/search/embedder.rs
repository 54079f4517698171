//! The model that makes vectors of images and words, and what it is known again by.

use std::path::Path;

use super::asked::{Query, absolute};
use crate::cli::args::ImageArgs;
use crate::cli::embed::images::Pooled;
use crate::cli::locate::Found;
use crate::cli::open::{self, Opened};
use crate::cli::pixels::{Ready, decode, decode_options, preprocess};
use crate::cli::talk::Talk;
use crate::dual::{IMAGE_EMBEDS, unit};
use crate::error::{Error, Result};
use crate::image::DecodeOptions;
use crate::image::preprocess::Preprocess;
use crate::printable::escaped;
use crate::search::Maker;
use crate::session::Options;
use crate::text::TooLong;

/// What a linear head reads: the vector of models that know no words.
const EMBEDDING: &str = "embedding";

/// A model made ready.
pub(super) struct Embedder {
    pub(super) opened: Opened,
    pub(super) preprocess: Preprocess,
    pub(super) decoding: DecodeOptions,
    pooled: Pooled,
    pub(super) maker: Maker,
    said: usize,
    talk: Talk,
}

impl Embedder {
    /// Opens the model, and makes the vector of the query, if there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] for words where the model knows none; as opening it; as reading the image.
    pub(super) fn open(
        found: Found,
        weights: String,
        query: &Query,
        options: &Options,
        images: &ImageArgs,
        talk: Talk,
    ) -> Result<(Self, Option<Vec<f32>>)> {
        let (id, output) = (found.id.clone(), output(&found));
        let mut vector = None;
        let opened = match query {
            Query::Words(_) if !found.files.has_words() => {
                found.expect(crate::session::ModelKind::Vision)?;
                let what = format!("{id} knows no words, only images");
                let help = "search by --image FILE, or pass a CLIP or SigLIP with -m";
                return Err(Error::usage(what, help));
            }
            Query::Words(words) => open::dual(found, options, talk, |model| {
                vector = model.embed_texts(&[words], TooLong::Refuse)?.pop();
                Ok(model.into_images())
            })?,
            _ => open::open(found, options, talk)?,
        };
        let preprocess = preprocess(images, &opened, talk)?;
        let size = preprocess.size().unwrap_or(opened.session.info().image_size);
        if !opened.session.output_names(size)?.iter().any(|name| name == output) {
            let what = format!("{id} has no `{output}` to compare images by");
            return Err(Error::usage(what, "take another model"));
        }
        let decoding = decode_options(images);
        let on_disk = Path::new(&id).exists().then(|| absolute(Path::new(&id)).display().to_string());
        let maker = Maker {
            model: on_disk.unwrap_or(id),
            weights,
            output: output.to_owned(),
            preprocessing: format!(
                "{preprocess:?}, exif {}, background {:?}",
                decoding.apply_exif, decoding.background
            ),
        };
        let pooled = Pooled::output(output);
        let mut embedder = Self { opened, preprocess, decoding, pooled, maker, said: 0, talk };
        if let Query::Image(input) = query {
            let ready = decode(input, &embedder.decoding, &embedder.preprocess);
            vector = embedder.vectors(&mut [ready])?.pop().transpose()?;
        }
        Ok((embedder, vector.map(|vector| unit(&vector))))
    }

    /// A vector of each image, or why there is none.
    ///
    /// # Errors
    /// Those that are not an image's own: device errors.
    pub(super) fn vectors(&mut self, ready: &mut [Ready]) -> Result<Vec<Result<Vec<f32>>>> {
        for ready in ready.iter() {
            for note in &ready.notes {
                self.talk.detail(format_args!("{}: {note}", escaped(&ready.name)));
            }
        }
        let vectors = self.pooled.of(ready, &self.opened.session, &self.preprocess);
        let warnings = self.opened.session.warnings();
        warnings.iter().skip(self.said).for_each(|w| self.talk.warn(escaped(w)));
        self.said = warnings.len();
        vectors
    }
}

/// The output that images are compared by: in the space of words, if the model has one.
fn output(found: &Found) -> &'static str {
    if found.files.has_words() { IMAGE_EMBEDS } else { EMBEDDING }
}
