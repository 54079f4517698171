//! JPEG by way of `zune-jpeg`, with two things that it leaves open settled here: a file
//! without an end is an error (as in Pillow) and not a grey half-image, and arithmetic coding is
//! named where it is met. Data that is missing before an end marker cannot be told from a flat
//! image; Pillow does not tell it either.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::container::jpeg_segments;
use super::convert::Picture;
use super::source::Source;
use crate::error::{Advice, Result};

/// Decodes to RGB.
pub(super) fn decode(source: &Source, notes: &mut Vec<String>) -> Result<Picture> {
    let segments = jpeg_segments(source.bytes);
    if let Some(9..=15) = segments.frame {
        return Err(source.error(
            "arithmetic-coded JPEG is not supported",
            "recode it: `jpegtran -optimize FILE > out.jpg`",
        ));
    }
    let strict = DecoderOptions::default().set_strict_mode(true).set_max_width(65535).set_max_height(65535);
    let lenient = strict.set_strict_mode(false);
    let mut headers = JpegDecoder::new_with_options(ZCursor::new(source.bytes), lenient);
    let cut = Advice::AllowTruncated;
    let read = headers.decode_headers();
    if let Some(info) = headers.info() {
        source.check_size(info.width.into(), info.height.into())?;
    }
    if !segments.complete && !source.options.allow_truncated {
        return Err(source.error("truncated JPEG file (no end marker)", cut));
    }
    read.map_err(|e| source.error(format!("damaged JPEG file: {e}"), "export or download it again"))?;
    let run = |options: DecoderOptions| {
        // CMYK too: the ink counts as inverted, with Adobe's mark and without it, as in Pillow.
        let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(source.bytes), options);
        let pixels = decoder.decode().map_err(|e| e.to_string())?;
        let (width, height) = decoder.dimensions().ok_or("no size")?;
        Ok::<_, String>((pixels, width, height))
    };
    let (rgb, width, height) = match run(strict) {
        Ok(decoded) => decoded,
        Err(reason) => {
            // Bytes between segments are an oddity of some writers. Any other fault leaves part of
            // the image undecoded, which the lenient decoder paints grey without a word.
            let oddity = reason.contains("Extra bytes");
            if !oddity && !source.options.allow_truncated {
                return Err(source.error(format!("damaged JPEG data: {reason}"), cut));
            }
            notes.push(if oddity {
                format!("JPEG out of the ordinary, decoded leniently: {reason}")
            } else {
                format!("damaged or truncated JPEG, the missing part is grey: {reason}")
            });
            run(lenient)
                .map_err(|e| source.error(format!("damaged JPEG file: {e}"), "export or download it again"))?
        }
    };
    if rgb.len() != width * height * 3 {
        let what = format!("damaged JPEG file: {} bytes for {width}x{height} pixels", rgb.len());
        return Err(source.error(what, "export or download it again"));
    }
    Ok(Picture { width, height, rgb })
}
