//! `vit-gpu tokens`: an image to tokens, tokens to an image, and how near the one comes to
//! the other.

use crate::printable::escaped;
use std::io::Write;
use std::path::Path;

use super::generate::{self, Begun, Gallery};
use super::locate::locate_or;
use super::open;
use super::outcome::Outcome;
use super::outfile;
use super::sink::expect_kind;
use super::talk::Talk;
use crate::cli::generate::args::TokensArgs;
use crate::error::{Error, Result};
use crate::generate::{GeneratedImage, Generator, tokenfile};
use crate::image;
use crate::image::{DecodeOptions, Decoded};
use crate::render::sheet::Sheet;
use crate::session::{Device, ModelKind};
use crate::tensor::Size;

/// Runs the command and yields its exit code.
pub(super) fn run(args: &TokensArgs, talk: Talk, out: &mut impl Write) -> Outcome {
    let outputs: Vec<(&str, &Path)> = [("-o", &args.output), ("--reconstruct", &args.reconstruct)]
        .into_iter()
        .filter_map(|(flag, path)| path.as_deref().map(|p| (flag, p)))
        .collect();
    [&args.input, &args.decode, &args.original]
        .into_iter()
        .flatten()
        .try_for_each(|p| outfile::protect(p))?;
    outfile::distinct(&outputs)?;
    let decoding = args.decode.is_some();
    let picture = if decoding { &args.output } else { &args.reconstruct };
    let flag = if decoding { "-o" } else { "--reconstruct" };
    let gallery = picture.as_deref().map(|path| Gallery::new(path, false, flag)).transpose()?;
    if let Some(path) = args.output.as_deref().filter(|_| !decoding) {
        expect_kind(path, "-o", "json")?;
    }
    let json = args.output.as_deref().filter(|_| !decoding).map(|path| Begun::new(path, "-o")).transpose()?;
    let decode = DecodeOptions {
        max_pixels: args.image.max_pixels.unwrap_or(image::MAX_PIXELS),
        apply_exif: !args.image.no_exif,
        ..DecodeOptions::default()
    };
    let path = args.input.as_deref().or(args.original.as_deref());
    let known = path.map(|path| image::decode_file(path, &decode)).transpose()?;

    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let found = locate_or(&args.model, generate::DEFAULT_MODEL, talk)?.read(options.mmap)?;
    found.expect(ModelKind::Generator)?;
    let looked = generate::look(&found, &options)?;
    let tokens = args.decode.as_deref().map(|path| tokenfile::read(path, looked.info())).transpose()?;
    let count = tokens.as_ref().map_or(1, Vec::len);
    if args.original.is_some() && count != 1 {
        let what = format!("--original is one image, and the tokens are of {count}");
        return Err(Error::usage(what, "leave --original away").into());
    }
    if gallery.as_ref().is_some_and(|g| !g.is_each()) {
        Sheet::new(count, args.columns, looked.info().image_size, args.zoom)?;
    }

    let generator = if options.device == Device::Reference {
        looked
    } else {
        Generator::from_files(found.files, &options)?
    };
    open::say_device(generator.device(), talk);
    let fitted =
        known.as_ref().zip(path).map(|(picture, path)| fit(&generator, picture, path, talk)).transpose()?;
    let tokens = match (tokens, &fitted) {
        (Some(tokens), _) => tokens,
        (None, Some(picture)) => vec![generator.encode(picture)?],
        (None, None) => Vec::new(),
    };
    if !decoding {
        let text = tokenfile::write(&found.id, generator.info(), None, &tokens);
        match json {
            Some(file) => file.finish(text.as_bytes())?,
            None => out.write_all(text.as_bytes())?,
        }
    }
    if let Some(gallery) = gallery {
        let pictures = generator.decode(&tokens)?;
        let ratio = fitted.as_ref().zip(pictures.first()).and_then(|(a, b)| psnr(a, b));
        talk.note(escaped(&gallery.write(&pictures, args.columns, args.zoom, None)?));
        if let Some(ratio) = ratio {
            let line = format!("psnr {ratio:.2} dB");
            // Tokens on standard output are to be read by programs.
            if decoding || args.output.is_some() { writeln!(out, "{line}")? } else { talk.note(line) }
        }
    }
    for warning in generator.warnings() {
        talk.warn(escaped(&warning));
    }
    Ok(0)
}

/// An image as the model takes it.
fn fit(generator: &Generator, picture: &Decoded, path: &Path, talk: Talk) -> Result<GeneratedImage> {
    let Size { height, width } = generator.info().image_size;
    if [picture.height, picture.width] != [height, width] {
        talk.note(format_args!(
            "{} is {}x{} pixels: it is resized and cropped to {width}x{height}",
            escaped(&path.display().to_string()),
            picture.width,
            picture.height
        ));
    }
    generator.fit(picture)
}

/// Peak signal-to-noise ratio in dB; `None` where sizes differ.
fn psnr(a: &GeneratedImage, b: &GeneratedImage) -> Option<f64> {
    if [a.height, a.width] != [b.height, b.width] || a.pixels.is_empty() {
        return None;
    }
    let squares: f64 = a.pixels.iter().zip(&b.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    Some(10.0 * (255.0 * 255.0 * a.pixels.len() as f64 / squares).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        let flat = |c: u8| GeneratedImage { height: 2, width: 3, pixels: vec![c; 18] };
        assert_eq!(psnr(&flat(9), &flat(9)), Some(f64::INFINITY));
        assert!(psnr(&flat(0), &flat(255)).is_some_and(|r| r.abs() < 1e-9));
        assert!(psnr(&flat(10), &flat(11)).is_some_and(|r| (r - 48.1308).abs() < 1e-3));
        assert_eq!(psnr(&flat(0), &GeneratedImage { height: 3, width: 2, pixels: vec![0; 18] }), None);
    }
}
