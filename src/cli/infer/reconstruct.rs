//! `vit-gpu infer --reconstruct`: what a masked autoencoder paints where it does not see, as pictures: the image, what
//! is seen of it, and what is painted.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::files;
use super::tally::Tally;
use crate::cli::args::Format;
use crate::cli::infer::args::InferArgs;
use crate::cli::inputs;
use crate::cli::locate::locate;
use crate::cli::open;
use crate::cli::outcome::Outcome;
use crate::cli::outfile::OutFile;
use crate::cli::output::{Printed, Report, field, millis};
use crate::cli::pixels::{Ready, decode, decode_options};
use crate::cli::sink::Sink;
use crate::cli::talk::{self, Talk};
use crate::error::{Error, Result};
use crate::generate::GeneratedImage;
use crate::printable::escaped;
use crate::render::sheet::{Kind, Sheet};
use crate::session::{Reconstruction, Session};
use crate::tensor::Size;

/// Columns of CSV.
const COLUMNS: &str = "input,squared_error,reconstruction,error";
/// What is not seen.
const HIDDEN: u8 = 128;
/// Small images are enlarged to about this side.
const SHOWN: usize = 224;

/// One image.
#[derive(Debug, Serialize)]
struct Row {
    input: String,
    /// Mean squared error of hidden patches, in the units of training.
    #[serde(skip_serializing_if = "Option::is_none")]
    squared_error: Option<f32>,
    /// Where the picture went.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconstruction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Printed for Row {
    fn text(&self, out: &mut impl Write, _logits: bool) -> io::Result<()> {
        let name = escaped(&self.input);
        match (&self.error, self.squared_error, &self.reconstruction) {
            (Some(error), ..) => writeln!(out, "{name}\n  failed: {}", escaped(error)),
            (None, Some(x), Some(path)) => {
                writeln!(
                    out,
                    "{name}\n  mean squared error of hidden patches: {x}\n  reconstruction: {}",
                    escaped(path)
                )
            }
            _ => writeln!(out, "{name}"),
        }
    }

    fn csv(&self, out: &mut impl Write, _logits: bool) -> io::Result<()> {
        let text =
            |value: &Option<String>| value.as_deref().map_or(String::new(), |text| field(text).to_string());
        let number = self.squared_error.map_or(String::new(), |x| x.to_string());
        let (name, path, error) = (field(&self.input), text(&self.reconstruction), text(&self.error));
        write!(out, "{name},{number},{path},{error}\r\n")
    }
}

/// Runs the command and yields its exit code. `folder_or_file` is where pictures go.
pub(super) fn run(
    args: &InferArgs,
    folder_or_file: &Path,
    talk: Talk,
    out: &mut Sink<'_, Format>,
) -> Outcome {
    let start = Instant::now();
    let inputs = inputs::expand(&args.inputs, args.recursive)?;
    for skipped in &inputs.skipped {
        talk.warn(escaped(skipped));
    }
    files::check(args, out)?;
    let paths = files::places("--reconstruct", folder_or_file, &inputs.list, "reconstruction")?;
    // What cannot be written fails now rather than after the work.
    let mut only = if let [only] = paths.as_slice() { Some(OutFile::create(only)?) } else { None };
    let found = locate(&args.model, talk)?.read(!args.model.no_mmap)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let opened = open::open(found, &options, talk)?;
    let session = &opened.session;
    let size = args.image.image_size.unwrap_or(session.info().image_size);
    let preprocess = session.preprocess().with_size(size)?;
    let mut tally = Tally::default();
    tally.timing.load = millis(start.elapsed());
    let format = out.format;
    let mut report = Report::new(out, format, false);
    report.begin(COLUMNS)?;
    let decoding = decode_options(&args.image);
    let mut done = 0;
    for chunk in inputs.list.chunks(args.batch_size.unwrap_or(8) as usize) {
        let ready: Vec<Ready> = chunk.par_iter().map(|input| decode(input, &decoding, &preprocess)).collect();
        tally.inputs += ready.len();
        tally.timing.decode += ready.iter().map(|r| millis(r.took)).sum::<f64>();
        let begun = Instant::now();
        let pixels: Vec<Vec<u8>> = ready
            .iter()
            .filter_map(|r| r.picture.as_ref().ok())
            .map(|p| preprocess.shown(&p.pixels))
            .collect();
        let made = painted(session, &pixels, args)?;
        tally.timing.run += millis(begun.elapsed());
        let mut made = pixels.iter().zip(made);
        for (r, path) in ready.iter().zip(&paths[done..]) {
            let row = match &r.picture {
                Ok(_) => {
                    let Some((image, one)) = made.next() else { break };
                    let png = picture(image, &one, size, session.info().patch, path)?;
                    only.take().map_or_else(|| OutFile::create(path), Ok)?.finish(&png)?;
                    Row {
                        input: r.name.clone(),
                        squared_error: Some(one.error),
                        reconstruction: Some(path.to_string_lossy().into_owned()),
                        error: None,
                    }
                }
                Err(e) => {
                    talk::error(e);
                    tally.failed(e);
                    let what = match e {
                        Error::Input { what, .. } => what.clone(),
                        other => other.message(),
                    };
                    Row {
                        input: r.name.clone(),
                        squared_error: None,
                        reconstruction: None,
                        error: Some(what),
                    }
                }
            };
            let failed = row.error.is_some();
            if !(failed && format == Format::Text) {
                report.row(row)?;
            }
            if failed && args.fail_fast {
                tally.timing.total = millis(start.elapsed());
                report.end(&opened.model, &opened.device, tally.timing)?;
                return Ok(tally.exit_code());
            }
        }
        done += ready.len();
    }
    tally.timing.total = millis(start.elapsed());
    report.end(&opened.model, &opened.device, tally.timing)?;
    tally.say(talk);
    Ok(tally.exit_code())
}

/// What the model paints of images, of none nothing.
fn painted(session: &Session, images: &[Vec<u8>], args: &InferArgs) -> Result<Vec<Reconstruction>> {
    if images.is_empty() {
        return Ok(vec![]);
    }
    session.reconstruct(images, args.mask_ratio, args.seed)
}

/// The image, what is seen of it, and what is painted, beside each other.
fn picture(
    image: &[u8],
    made: &Reconstruction,
    size: Size,
    patch: [usize; 2],
    path: &Path,
) -> Result<Vec<u8>> {
    let Size { height, width } = size;
    let one = |pixels: Vec<u8>| GeneratedImage { height, width, pixels };
    let all = [image.to_vec(), masked(image, &made.hidden, width, patch), made.painted.clone()].map(one);
    let zoom = (SHOWN / height.max(width)).max(1) as u32;
    Kind::Png.encode(&Sheet::new(3, Some(3), size, zoom)?.draw(&all), None, path)
}

/// An image (H,W,3) with its hidden patches grey.
fn masked(image: &[u8], hidden: &[bool], width: usize, [rows, columns]: [usize; 2]) -> Vec<u8> {
    let (mut out, across) = (image.to_vec(), width / columns);
    for patch in (0..hidden.len()).filter(|&patch| hidden[patch]) {
        let (top, left) = (patch / across * rows, patch % across * columns);
        for y in top..top + rows {
            out[(y * width + left) * 3..][..columns * 3].fill(HIDDEN);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_patches_are_grey() {
        let image: Vec<u8> = (0..24).collect();
        let out = masked(&image, &[true, false, false, true], 4, [1, 2]);
        let grey = |i: usize| if (6..18).contains(&i) { i as u8 } else { HIDDEN };
        assert_eq!(out, (0..24).map(grey).collect::<Vec<u8>>());
    }
}
