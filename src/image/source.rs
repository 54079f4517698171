//! A file that is being decoded: what it may cost, and its decoder's errors in our words.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::sniff::Format;
use super::{container, convert};
use crate::error::{Advice, Error, Result};

/// Most pixels that an image may have unless the caller says otherwise: 178,956,970, the count
/// at which Pillow speaks of a decompression bomb (as RGB it is 512 MiB).
pub const MAX_PIXELS: u64 = 178_956_970;
/// Longest side that an image may have. Nothing real is longer, and tables of a side's length
/// are kept while resizing.
pub const MAX_SIDE: u64 = 1_000_000;
/// Memory that a decoder may take for itself beyond its output, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

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

/// What is being decoded, and how.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) options: &'a DecodeOptions,
}

impl<'a> Source<'a> {
    pub(super) fn reader(&self) -> Cursor<&'a [u8]> {
        Cursor::new(self.bytes)
    }

    pub(super) fn error(&self, what: impl Into<String>, help: impl Into<Advice>) -> Error {
        Error::input(self.name, what, help)
    }

    pub(super) fn limits(&self, output_bytes: u64) -> Limits {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(output_bytes.saturating_add(SPARE_BYTES));
        limits
    }

    /// Refuses sizes before any pixel is decoded.
    pub(super) fn check_size(&self, width: u64, height: u64) -> Result<()> {
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
    pub(super) fn decode<D: ImageDecoder>(
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

    /// Runs a decoder of another crate. What is known to make one panic is checked for beforehand; should a file
    /// find another way, it fails as a damaged one, and the process lives.
    pub(super) fn guarded<T>(&self, format: Format, decode: impl FnOnce() -> Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
            let what = format!("{} file that its decoder fails at", format.name());
            Err(self.error(format!("damaged {what}"), "export or download it again"))
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
