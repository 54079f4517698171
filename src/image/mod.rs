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
mod resize_floats;
mod sniff;
mod source;

use std::fs;
use std::io::{Cursor, ErrorKind};
use std::path::Path;

use ::image::codecs::{bmp, gif, png, pnm, tiff, webp};

use crate::error::{Advice, Error, Result};
use crate::tensor::Size;
use sniff::{Format, Kind};
use source::Source;
pub use source::{DecodeOptions, MAX_PIXELS, MAX_SIDE};

/// Largest file that is read into memory, in bytes.
pub const MAX_FILE_BYTES: u64 = 2 << 30;

/// Extensions that make a file in a directory an image; named files are judged by content.
pub const EXTENSIONS: [&str; 15] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "bmp", "dib", "tif", "tiff", "pnm", "pbm", "pgm",
    "ppm",
];

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

impl Decoded {
    /// Rows and columns.
    pub fn size(&self) -> Size {
        Size { height: self.height, width: self.width }
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
    let mut picture = source.guarded(format, || decode(&source, format, &mut notes))?;
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

/// The pixels of a file of a known format.
fn decode(source: &Source, format: Format, notes: &mut Vec<String>) -> Result<convert::Picture> {
    match format {
        Format::Jpeg => jpeg::decode(source, notes),
        Format::Gif => {
            let mut picture = source.decode(format, gif::GifDecoder::new(source.reader()), notes)?;
            container::paint_gif_border(source.bytes, &mut picture);
            Ok(picture)
        }
        Format::Png => {
            // The decoder's own limits would speak first, and not of pixels.
            if let Some((width, height)) = container::png_size(source.bytes) {
                source.check_size(width, height)?;
            }
            if let Some(bytes) = container::png_bad_palette(source.bytes) {
                let what = format!("damaged PNG file: its palette of {bytes} bytes is none");
                return Err(source.error(what, "export or download it again"));
            }
            let limits = source.limits(source.options.max_pixels.saturating_mul(8));
            let whole = container::png_ended(source.bytes);
            let decoder = png::PngDecoder::with_limits(Cursor::new(&whole[..]), limits);
            source.decode(format, decoder, notes)
        }
        Format::WebP => source.decode(format, webp::WebPDecoder::new(source.reader()), notes),
        Format::Bmp => source.decode(format, bmp::BmpDecoder::new(source.reader()), notes),
        Format::Dib => {
            let decoder = bmp::BmpDecoder::new_without_file_header(source.reader());
            source.decode(format, decoder, notes)
        }
        Format::Tiff => source.decode(format, tiff::TiffDecoder::new(source.reader()), notes),
        Format::Pnm => source.decode(format, pnm::PnmDecoder::new(source.reader()), notes),
    }
}

const SUPPORTED: &str = "supported are PNG, JPEG, GIF, WebP, BMP, TIFF and PNM";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The checksum of PNG's chunks.
    fn crc(bytes: &[u8]) -> u32 {
        let bit = |c: u32, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
        !bytes.iter().fold(!0, |c, &byte| (0..8).fold(c ^ u32::from(byte), bit))
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let named = [&kind[..], data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
    }

    /// One pixel of the first colour of a palette of so many bytes.
    fn indexed(palette: usize) -> Vec<u8> {
        let header = [0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0, 0, 0];
        let stored = [0x78, 1, 1, 2, 0, 0xfd, 0xff, 0, 0, 0, 2, 0, 1];
        let chunks =
            [(b"IHDR", &header[..]), (b"PLTE", &vec![7; palette]), (b"IDAT", &stored), (b"IEND", &[])];
        let chunks: Vec<u8> = chunks.iter().flat_map(|(kind, data)| chunk(kind, data)).collect();
        [b"\x89PNG\r\n\x1a\n", &chunks[..]].concat()
    }

    #[test]
    fn palettes_that_are_none() {
        let decoded = |palette| decode_bytes("a.png", &indexed(palette), &DecodeOptions::default());
        assert_eq!(decoded(3).unwrap().rgb, [7; 3]);
        assert_eq!(decoded(768).unwrap().rgb, [7; 3]);
        for palette in [1, 49, 771] {
            let e = decoded(palette).unwrap_err().to_string();
            assert!(e.contains(&format!("its palette of {palette} bytes is none")), "{e}");
        }
    }

    #[test]
    fn a_decoder_that_panics_fails_the_file_alone() {
        let source = Source { name: "a.png", bytes: &[], options: &DecodeOptions::default() };
        let e = source.guarded(Format::Png, || -> Result<()> { panic!("a bug") }).unwrap_err().to_string();
        assert!(e.contains("a.png") && e.contains("damaged PNG file that its decoder fails at"), "{e}");
    }
}
