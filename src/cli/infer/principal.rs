//! `vit-gpu infer --features-pca`: the features of an image's patches as a picture, by their principal components.

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
use crate::image::preprocess::Pixels;
use crate::printable::escaped;
use crate::render::features::colours;
use crate::render::sheet::{Kind, Sheet};
use crate::session::Session;
use crate::tensor::Size;

/// Columns of CSV.
const COLUMNS: &str = "input,features,error";
/// The output whose tokens are shown.
const TOKENS: &str = "last_hidden_state";
/// Small pictures are enlarged to about this side.
const SHOWN: usize = 224;

/// One image.
#[derive(Debug, Serialize)]
struct Row {
    input: String,
    /// Where the picture went.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Printed for Row {
    fn text(&self, out: &mut impl Write, _logits: bool) -> io::Result<()> {
        let name = escaped(&self.input);
        match (&self.error, &self.features) {
            (Some(error), _) => writeln!(out, "{name}\n  failed: {}", escaped(error)),
            (None, Some(path)) => writeln!(out, "{name}\n  features: {}", escaped(path)),
            (None, None) => writeln!(out, "{name}"),
        }
    }

    fn csv(&self, out: &mut impl Write, _logits: bool) -> io::Result<()> {
        let text =
            |value: &Option<String>| value.as_deref().map_or(String::new(), |text| field(text).to_string());
        write!(out, "{},{},{}\r\n", field(&self.input), text(&self.features), text(&self.error))
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
    let paths = files::places("--features-pca", folder_or_file, &inputs.list, "features")?;
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

    // Colours are known when all features are.
    let mut seen: Vec<Result<Vec<f32>>> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for chunk in inputs.list.chunks(args.batch_size.unwrap_or(8) as usize) {
        let ready: Vec<Ready> = chunk.par_iter().map(|input| decode(input, &decoding, &preprocess)).collect();
        tally.inputs += ready.len();
        tally.timing.decode += ready.iter().map(|r| millis(r.took)).sum::<f64>();
        let begun = Instant::now();
        let images: Vec<&Pixels> =
            ready.iter().filter_map(|r| r.picture.as_ref().ok()).map(|p| &p.pixels).collect();
        let mut made = patches(session, &images, size)?.into_iter();
        tally.timing.run += millis(begun.elapsed());
        for r in ready {
            names.push(r.name);
            seen.push(r.picture.map(|_| made.next().unwrap_or_default()));
        }
        let failed = seen.iter().any(Result::is_err);
        if failed && args.fail_fast {
            break;
        }
    }
    let worked: Vec<Vec<f32>> = seen.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
    let mut drawn = colours(&worked, session.info().hidden)?.into_iter();
    for ((name, one), path) in names.into_iter().zip(&seen).zip(&paths) {
        let row = match one {
            Ok(_) => {
                let colours = drawn.next().unwrap_or_default();
                let png = picture(&colours, size, session.info().patch, path)?;
                only.take().map_or_else(|| OutFile::create(path), Ok)?.finish(&png)?;
                Row { input: name, features: Some(path.to_string_lossy().into_owned()), error: None }
            }
            Err(e) => {
                talk::error(e);
                tally.failed(e);
                let what = match e {
                    Error::Input { what, .. } => what.clone(),
                    other => other.message(),
                };
                Row { input: name, features: None, error: Some(what) }
            }
        };
        if !(row.error.is_some() && format == Format::Text) {
            report.row(row)?;
        }
    }
    tally.timing.total = millis(start.elapsed());
    report.end(&opened.model, &opened.device, tally.timing)?;
    tally.say(talk);
    Ok(tally.exit_code())
}

/// The features of each image's patches: (N·C), of no images nothing.
fn patches(session: &Session, images: &[&Pixels], size: Size) -> Result<Vec<Vec<f32>>> {
    if images.is_empty() {
        return Ok(vec![]);
    }
    let info = session.info();
    let [rows, columns] = size.grid(info.patch);
    let tokens = info.prefix_tokens + rows * columns;
    let known = session.output_names(size)?;
    let made = match known.iter().any(|name| name == TOKENS) {
        true => session.run(images, size, &[TOKENS])?.remove(0),
        false => return Err(without(session)),
    };
    if made.shape().dims() != [images.len(), tokens, info.hidden] {
        return Err(without(session));
    }
    let (all, c) = (made.to_f32(), info.hidden);
    Ok(all.chunks(tokens * c).map(|image| image[info.prefix_tokens * c..].to_vec()).collect())
}

fn without(session: &Session) -> Error {
    let what = format!("{} gives no token for each patch of the image", session.name());
    Error::usage(what, "choose a vision model that does, as DINOv2 and DINOv3")
}

/// A square of its colour for each patch; pixels beyond the last whole patch are left out.
fn picture(colours: &[[u8; 3]], size: Size, patch: [usize; 2], path: &Path) -> Result<Vec<u8>> {
    let [rows, columns] = size.grid(patch);
    let (height, width) = (rows * patch[0], columns * patch[1]);
    let pixels = squares(colours, columns, patch);
    let zoom = (SHOWN / height.max(width).max(1)).max(1) as u32;
    let image = GeneratedImage { height, width, pixels };
    Kind::Png.encode(&Sheet::new(1, Some(1), Size { height, width }, zoom)?.draw(&[image]), None, path)
}

/// Colours of a grid of so many columns as pixels (H,W,3).
fn squares(colours: &[[u8; 3]], columns: usize, [height, width]: [usize; 2]) -> Vec<u8> {
    let mut out = Vec::with_capacity(colours.len() * height * width * 3);
    for row in colours.chunks(columns.max(1)) {
        let line: Vec<u8> = row.iter().flat_map(|colour| colour.repeat(width)).collect();
        (0..height).for_each(|_| out.extend_from_slice(&line));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_a_square_of_its_colour() {
        let colours = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]];
        let out = squares(&colours, 2, [1, 2]);
        assert_eq!(out[..12], [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
        assert_eq!(out[12..], [7, 8, 9, 7, 8, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(squares(&colours, 4, [3, 1]).len(), 4 * 3 * 3);
    }
}
