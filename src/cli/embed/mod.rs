//! `vit-gpu embed`: a vector for each text or image, as JSON or as a safetensors file.
//!
//! Texts are pooled as the checkpoint's sentence-transformers files say, images as the model's own head
//! would; what a model cannot give is refused, and never replaced by something near it.

mod answers;
pub(super) mod args;
pub(super) mod images;
mod texts;

use super::inputs;
use super::locate::locate;
use super::outcome::Outcome;
use super::sink::Sink;
use super::talk::Talk;
use crate::cli::embed::args::{EmbedArgs, Vector};
use crate::error::Error;
use crate::printable::escaped;
use crate::session::ModelKind;

/// Runs the command and yields its exit code.
pub(super) fn run(args: &EmbedArgs, talk: Talk, out: &mut Sink<'_, Vector>) -> Outcome {
    if let Some(flag) = args.texts.given() {
        return texts::run(args, super::texts::find_words(&args.model, flag, talk)?, talk, out);
    }
    if args.inputs.is_empty() {
        let help = "pass --text or --input, or name images, directories, 'globs', @lists, or -";
        return Err(Error::usage("no input", help).into());
    }
    let list = inputs::expand(&args.inputs, args.recursive)?;
    for skipped in &list.skipped {
        talk.warn(escaped(skipped));
    }
    let found = locate(&args.model, talk)?.read(!args.model.no_mmap)?;
    if found.files.kind() == Some(ModelKind::Text) {
        super::texts::without(Some("an image"), &found.id)?;
    }
    images::run(args, found, &list.list, talk, out)
}
