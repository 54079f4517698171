//! Image files to upright RGB bytes, from input that may be wrong in any way.
//!
//! PNG, JPEG, GIF, WebP, BMP, TIFF and PNM, recognised by content and never by name. The pixels
//! are those of Pillow's `convert("RGB")`: alpha dropped, palettes looked up, CMYK multiplied
//! out, the first frame or page taken, ICC profiles and gamma ignored. Three things differ on
//! purpose: EXIF orientation is applied (Pillow leaves it to the caller), 16-bit samples are
//! scaled to 8 bits (Pillow clips grey ones), and lossy formats agree only to a few levels since
//! the decoders differ.
//!
//! Of TIFF, palettes, Lab, LA and floats are refused; a GIF frame is cut to its canvas where Pillow
//! enlarges the canvas; orientation that only XMP or a text chunk tells is not looked for.
//!
//! The header is read first and refused if it promises more pixels than
//! [`DecodeOptions::max_pixels`], so a small file cannot claim gigabytes. It refuses to guess:
//! a truncated file is an error, a grey half-image is never classified in silence. It knows
//! nothing of models; sizes and normalising are [`crate::image::preprocess`]'s part.

mod container;
mod convert;
mod jpeg;
pub mod preprocess;
pub mod resize;
mod sniff;

use std::fs;
use std::io::{Cursor, ErrorKind};
use std::path::Path;

use ::image::codecs::{bmp, gif, png, pnm, tiff, webp};
use ::image::{DynamicImage, ImageDecoder, ImageError, Limits};

use crate::error::{Advice, Error, Result};
use sniff::{Format, Kind};

/// Most pixels that an image may have unless the caller says otherwise: 178,956,970, the count
/// at which Pillow speaks of a decompression bomb (as RGB it is 512 MiB).
pub const MAX_PIXELS: u64 = 178_956_970;
/// Longest side that an image may have. Nothing real is longer, and tables of a side's length
/// are kept while resizing.
pub const MAX_SIDE: u64 = 1_000_000;
/// Largest file that is read into memory, in bytes.
pub const MAX_FILE_BYTES: u64 = 2 << 30;
/// Memory that a decoder may take for itself beyond its output, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Columns, after the EXIF orientation.
    pub width: usize,
    /// Rows, after the EXIF orientation.
    pub height: usize,
    /// (H, W, 3) bytes, R, G, B.
    pub rgb: Vec<u8>,
    /// What was done beyond plain decoding, for `-v`: "first of 12 frames", "EXIF orientation 6
    /// applied".
    pub notes: Vec<String>,
}

/// How to decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Most pixels (width x height) to accept; [`MAX_PIXELS`] by default.
    pub max_pixels: u64,
    /// Whether to turn images upright as EXIF or TIFF orientation says; on by default.
    pub apply_exif: bool,
    /// Whether a truncated JPEG is decoded as far as it goes, the rest grey; off by default.
    pub allow_truncated: bool,
    /// Colour to lay under transparent pixels. `None` drops alpha as Pillow does, which shows
    /// whatever colour the file stores there.
    pub background: Option<[u8; 3]>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_pixels: MAX_PIXELS, apply_exif: true, allow_truncated: false, background: None }
    }
}

/// Reads and decodes a file. Only regular files are opened, so a FIFO cannot block.
///
/// # Errors
/// [`Error::Input`] that names the file: it cannot be read, or as [`decode_bytes`].
pub fn decode_file(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Decoded> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let unreadable = |e: std::io::Error| {
        let help = match e.kind() {
            ErrorKind::NotFound => "check the path; relative paths start at the working directory",
            ErrorKind::PermissionDenied => "check the file's permissions",
            _ => "",
        };
        Error::input(&name, format!("cannot be read: {e}"), help)
    };
    let meta = fs::metadata(path).map_err(unreadable)?;
    if meta.is_dir() {
        return Err(Error::input(&name, "is a directory, not an image", "name the images in it"));
    }
    if !meta.is_file() {
        return Err(Error::input(&name, "is not a regular file", Advice::PassBytes));
    }
    if meta.len() > MAX_FILE_BYTES {
        let what = format!("has {} bytes, more than the limit of {MAX_FILE_BYTES}", meta.len());
        return Err(Error::input(&name, what, "convert it to a compressed format or scale it down"));
    }
    decode_bytes(&name, &fs::read(path).map_err(unreadable)?, options)
}

/// Decodes an image file's bytes; `name` is what errors call it.
///
/// # Errors
/// [`Error::Input`] that names `name`: empty, not an image, a format or colour type that is not
/// supported, more pixels than allowed, damaged or truncated.
pub fn decode_bytes(name: &str, bytes: &[u8], options: &DecodeOptions) -> Result<Decoded> {
    let source = Source { name, bytes, options };
    let format = match sniff::kind(bytes) {
        Kind::Image(format) => format,
        Kind::Empty => return Err(Error::input(name, "empty file", "download or copy it again")),
        Kind::Refused { what, help } => {
            return Err(Error::input(name, format!("format {what} is not supported"), help));
        }
        Kind::Unknown(what) => {
            return Err(Error::input(name, format!("not an image: {what}"), SUPPORTED));
        }
    };
    let mut notes = Vec::new();
    let facts = container::facts(format, bytes);
    let mut picture = match format {
        Format::Jpeg => jpeg::decode(&source, &mut notes)?,
        Format::Gif => {
            let mut picture = source.decode(format, gif::GifDecoder::new(source.reader()), &mut notes)?;
            container::paint_gif_border(bytes, &mut picture);
            picture
        }
        Format::Png => {
            // The decoder's own limits would speak first, and not of pixels.
            if let Some((width, height)) = container::png_size(bytes) {
                source.check_size(width, height)?;
            }
            let limits = source.limits(options.max_pixels.saturating_mul(8));
            let decoder = png::PngDecoder::with_limits(source.reader(), limits);
            source.decode(format, decoder, &mut notes)?
        }
        Format::WebP => source.decode(format, webp::WebPDecoder::new(source.reader()), &mut notes)?,
        Format::Bmp => source.decode(format, bmp::BmpDecoder::new(source.reader()), &mut notes)?,
        Format::Tiff => source.decode(format, tiff::TiffDecoder::new(source.reader()), &mut notes)?,
        Format::Pnm => source.decode(format, pnm::PnmDecoder::new(source.reader()), &mut notes)?,
    };
    if facts.parts > 1 {
        let (part, kind) =
            if format == Format::Tiff { ("pages", "multi-page") } else { ("frames", "animated") };
        notes.push(format!("{kind} {}: only the first of {} {part} is used", format.name(), facts.parts));
    }
    if options.apply_exif && facts.orientation != 1 {
        notes.push(format!("EXIF orientation {} applied", facts.orientation));
        picture = convert::upright(picture, facts.orientation);
    }
    let convert::Picture { width, height, rgb } = picture;
    Ok(Decoded { width, height, rgb, notes })
}

const SUPPORTED: &str = "supported are PNG, JPEG, GIF, WebP, BMP, TIFF and PNM";

/// What is being decoded, and how.
struct Source<'a> {
    name: &'a str,
    bytes: &'a [u8],
    options: &'a DecodeOptions,
}

impl<'a> Source<'a> {
    fn reader(&self) -> Cursor<&'a [u8]> {
        Cursor::new(self.bytes)
    }

    fn error(&self, what: impl Into<String>, help: impl Into<Advice>) -> Error {
        Error::input(self.name, what, help)
    }

    fn limits(&self, output_bytes: u64) -> Limits {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(output_bytes.saturating_add(SPARE_BYTES));
        limits
    }

    /// Refuses sizes before any pixel is decoded.
    fn check_size(&self, width: u64, height: u64) -> Result<()> {
        let pixels = width.saturating_mul(height);
        let max = self.options.max_pixels;
        if pixels == 0 {
            return Err(self.error(format!("has no pixels ({width}x{height})"), "export the image again"));
        }
        if pixels > max {
            let what = format!("is {width}x{height} = {pixels} pixels, more than the limit of {max} pixels");
            return Err(self.error(what, Advice::MorePixels));
        }
        if width.max(height) > MAX_SIDE {
            let what = format!("is {width}x{height}, a side longer than {MAX_SIDE} pixels");
            return Err(self.error(what, "crop it first"));
        }
        Ok(())
    }

    /// Runs a decoder of the `image` crate behind the size check.
    fn decode<D: ImageDecoder>(
        &self,
        format: Format,
        decoder: Result<D, ImageError>,
        notes: &mut Vec<String>,
    ) -> Result<convert::Picture> {
        let mut decoder = decoder.map_err(|e| self.failed(format, e))?;
        let (width, height) = decoder.dimensions();
        self.check_size(width.into(), height.into())?;
        let limits = self.limits(decoder.total_bytes().saturating_mul(2));
        decoder.set_limits(limits).map_err(|e| self.failed(format, e))?;
        let image = DynamicImage::from_decoder(decoder).map_err(|e| self.failed(format, e))?;
        convert::to_rgb(image, self.options.background, notes).ok_or_else(|| {
            self.error(
                format!("{} with floating-point samples is not supported", format.name()),
                "convert it to 8 or 16 bits per sample",
            )
        })
    }

    /// A decoder's error in our words.
    fn failed(&self, format: Format, error: ImageError) -> Error {
        let format = format.name();
        match error {
            ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
                self.error(format!("truncated {format} file"), "download or copy it again")
            }
            ImageError::Limits(_) => self.error(
                format!("decoding this {format} file needs more memory than its size allows for"),
                "the file is probably damaged or made to exhaust memory",
            ),
            ImageError::Unsupported(e) => {
                let what = format!("unsupported kind of {format} file (colour type or compression): {e}");
                self.error(what, "convert it to an 8-bit RGB PNG")
            }
            e => {
                let text = e.to_string();
                let cut = ["unexpected end", "unexpectedeof", "truncated", "failed to fill whole buffer"];
                let lower = text.to_ascii_lowercase();
                if container::shorter_than_it_says(self.bytes) || cut.iter().any(|c| lower.contains(c)) {
                    self.error(format!("truncated {format} file ({text})"), "download or copy it again")
                } else {
                    self.error(format!("damaged {format} file: {text}"), "export or download it again")
                }
            }
        }
    }
}
