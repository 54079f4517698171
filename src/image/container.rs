//! What file containers say beside the pixels: the orientation and the number of
//! frames or pages. Each walker reads lengths with bounds checks, gives up on the first that
//! does not fit, and never fails: the decoder's error is the better one.

use std::borrow::Cow;

use ::image::metadata::Orientation;

use super::convert::Picture;
use super::sniff::Format;

/// More frames or pages than this are not counted.
const MAX_PARTS: usize = 1 << 16;

/// What a container says.
pub(super) struct Facts {
    /// EXIF orientation 1 to 8; 1 where there is none or it makes no sense.
    pub orientation: u8,
    /// Frames or pages, at least 1.
    pub parts: usize,
}

/// Reads a container's facts.
pub(super) fn facts(format: Format, bytes: &[u8]) -> Facts {
    match format {
        Format::Jpeg => Facts { orientation: orientation(jpeg_segments(bytes).exif), parts: 1 },
        Format::Png => png(bytes),
        Format::WebP => webp(bytes),
        Format::Gif => Facts { orientation: 1, parts: gif(bytes).0.max(1) },
        Format::Tiff => Facts { orientation: orientation(Some(bytes)), parts: tiff_pages(bytes).max(1) },
        Format::Bmp | Format::Dib | Format::Pnm => Facts { orientation: 1, parts: 1 },
    }
}

/// The orientation in an EXIF block (a small TIFF file, with or without `Exif\0\0` before it).
fn orientation(exif: Option<&[u8]>) -> u8 {
    let exif = exif.map(|e| e.strip_prefix(b"Exif\0\0").unwrap_or(e));
    exif.and_then(Orientation::from_exif_chunk).map_or(1, Orientation::to_exif)
}

/// Big- or little-endian number of 2, 4 or 8 bytes.
fn number(bytes: &[u8], at: usize, size: usize, big: bool) -> Option<usize> {
    let digits = bytes.get(at..at.checked_add(size)?)?;
    let join = |n: u64, b: &u8| n << 8 | u64::from(*b);
    let value = if big { digits.iter().fold(0, join) } else { digits.iter().rev().fold(0, join) };
    usize::try_from(value).ok()
}

/// Width and height in a PNG's header, before anything else of it is judged.
pub(super) fn png_size(bytes: &[u8]) -> Option<(u64, u64)> {
    let side = |at| number(bytes, at, 4, true).map(|n| n as u64);
    (bytes.get(12..16) == Some(b"IHDR")).then_some((side(16)?, side(20)?))
}

/// Bytes of the palette of an indexed PNG that is none, of colours of three bytes and at most 256: the decoder
/// relies on that. Of others it is advice that nobody reads.
pub(super) fn png_bad_palette(bytes: &[u8]) -> Option<usize> {
    /// Colour type of pixels that are indices.
    const INDEXED: u8 = 3;
    let mut at = if bytes.get(25) == Some(&INDEXED) { 8 } else { bytes.len() };
    while let (Some(length), Some(kind)) = (number(bytes, at, 4, true), bytes.get(at + 4..at + 8)) {
        if kind == b"PLTE" && (length % 3 != 0 || length > 3 * 256) {
            return Some(length);
        }
        at = at.saturating_add(12).saturating_add(length);
    }
    None
}

/// A PNG file with an end where it has none: all of its pixels may be there, and Pillow takes it so. What is
/// left of a chunk that was begun behind them goes.
pub(super) fn png_ended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut at, mut pixels) = (8, false);
    while let (Some(length), Some(kind)) = (number(bytes, at, 4, true), bytes.get(at + 4..at + 8)) {
        let end = at.saturating_add(12).saturating_add(length);
        if kind == b"IEND" || end > bytes.len() {
            break;
        }
        pixels |= kind == b"IDAT";
        at = end;
    }
    // The end's chunk has twelve bytes.
    if !pixels || bytes.len() - at >= 12 {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned([&bytes[..at], b"\0\0\0\0IEND\xae\x42\x60\x82"].concat())
}

/// Whether a RIFF file (WebP) ends before the length in its header.
pub(super) fn shorter_than_it_says(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF")
        && number(bytes, 4, 4, false).is_some_and(|n| n.saturating_add(8) > bytes.len())
}

/// What the segments of a JPEG file say.
#[derive(Default)]
pub(super) struct Segments<'a> {
    /// The EXIF block.
    pub exif: Option<&'a [u8]>,
    /// The kind of frame: 0 to 15, from its marker.
    pub frame: Option<u8>,
    /// Whether the end marker was found.
    pub complete: bool,
}

/// Walks the segments, through entropy-coded data as well: there, 0xff is followed by 0 or is a
/// marker.
pub(super) fn jpeg_segments(bytes: &[u8]) -> Segments<'_> {
    let mut segments = Segments::default();
    let mut at = 2;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == 0xff)) {
        at += found + 1;
        let Some(&marker) = bytes.get(at) else { break };
        match marker {
            // Stuffing, fill bytes (look at the 0xff again), restarts, starts.
            0xff => continue,
            0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
            0xd9 => {
                segments.complete = true;
                break;
            }
            _ => {
                let Some([high, low]) = bytes.get(at + 1..at + 3) else { break };
                let length = usize::from(*high) << 8 | usize::from(*low);
                let Some(data) = bytes.get(at + 3..at + 1 + length.max(2)) else { break };
                match marker {
                    0xe1 if segments.exif.is_none() => segments.exif = data.strip_prefix(b"Exif\0\0"),
                    0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                        segments.frame = Some(marker & 15)
                    }
                    _ => {}
                }
                at += 1 + length.max(2);
            }
        }
    }
    segments
}

fn png(bytes: &[u8]) -> Facts {
    let mut facts = Facts { orientation: 1, parts: 1 };
    let mut at = 8;
    // length, type, data, checksum
    while let Some(length) = number(bytes, at, 4, true) {
        let Some(kind) = bytes.get(at + 4..at + 8) else { break };
        let data = bytes.get(at + 8..(at + 8).saturating_add(length));
        match kind {
            b"eXIf" => facts.orientation = orientation(data),
            b"acTL" => facts.parts = number(bytes, at + 8, 4, true).unwrap_or(1).max(1),
            b"IEND" => break,
            _ => {}
        }
        at = (at + 12).saturating_add(length);
    }
    facts
}

fn webp(bytes: &[u8]) -> Facts {
    let mut facts = Facts { orientation: 1, parts: 1 };
    let mut frames = 0;
    let mut at = 12;
    // type, length, data, padding to even
    while let (Some(kind), Some(length)) = (bytes.get(at..at + 4), number(bytes, at + 4, 4, false)) {
        let data = bytes.get(at + 8..(at + 8).saturating_add(length));
        match kind {
            b"EXIF" => facts.orientation = orientation(data),
            b"ANMF" => frames += 1,
            _ => {}
        }
        at = (at + 8).saturating_add(length).saturating_add(length % 2);
    }
    facts.parts = frames.max(1);
    facts
}

/// The first frame of a GIF: its place (left, top, width, height) and the colour that Pillow
/// shows around it.
struct GifFrame {
    place: [usize; 4],
    around: [u8; 3],
}

/// Number of frames, and the first.
fn gif(bytes: &[u8]) -> (usize, Option<GifFrame>) {
    let (mut frames, mut first, mut transparent) = (0, None, 0);
    let palette = |flags: usize| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let skip_blocks = |mut at: usize| loop {
        match bytes.get(at).copied() {
            None | Some(0) => return at + 1,
            Some(length) => at += 1 + usize::from(length),
        }
    };
    let global = number(bytes, 10, 1, true).unwrap_or(0);
    let mut at = 13 + palette(global);
    while let Some(kind) = bytes.get(at) {
        match kind {
            0x21 => {
                // A graphic control extension: its lowest flag says that the index counts.
                if bytes.get(at + 1) == Some(&0xf9) && bytes.get(at + 3).is_some_and(|f| f & 1 == 1) {
                    transparent = number(bytes, at + 6, 1, true).unwrap_or(0);
                }
                at = skip_blocks(at + 2);
            }
            0x2c => {
                let local = number(bytes, at + 9, 1, true).unwrap_or(0);
                let side = |offset| number(bytes, at + offset, 2, false).unwrap_or(0);
                if frames == 0 {
                    let colors = if palette(local) > 0 { at + 10 } else { 13 };
                    let has_palette = palette(local) > 0 || palette(global) > 0;
                    let index = colors + transparent * 3;
                    let color = bytes.get(index..index + 3).filter(|_| has_palette);
                    let around = color.map_or([0; 3], |c| [c[0], c[1], c[2]]);
                    first = Some(GifFrame { place: [side(1), side(3), side(5), side(7)], around });
                }
                frames += 1;
                at = skip_blocks(at + 10 + palette(local) + 1);
            }
            _ => break,
        }
        if frames == MAX_PARTS {
            break;
        }
    }
    (frames, first)
}

/// Colours what a first frame smaller than the canvas leaves free as Pillow does: in the
/// transparent index's colour, or in the palette's first.
pub(super) fn paint_gif_border(bytes: &[u8], picture: &mut Picture) {
    let Some(GifFrame { place: [left, top, width, height], around }) = gif(bytes).1 else { return };
    if left == 0 && top == 0 && width >= picture.width && height >= picture.height {
        return;
    }
    for (y, row) in picture.rgb.chunks_exact_mut(picture.width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            if !((left..left + width).contains(&x) && (top..top + height).contains(&y)) {
                pixel.copy_from_slice(&around);
            }
        }
    }
}

/// Number of pages of a TIFF or BigTIFF file.
fn tiff_pages(bytes: &[u8]) -> usize {
    let big = bytes.starts_with(b"MM");
    let large = number(bytes, 2, 2, big) == Some(43);
    let (offset, count, entry) = if large { (8, 8, 20) } else { (4, 2, 12) };
    let mut pages = 0;
    let mut link = if large { 8 } else { 4 };
    while let Some(at) = number(bytes, link, offset, big).filter(|at| *at != 0) {
        let Some(entries) = number(bytes, at, count, big) else { break };
        pages += 1;
        let next = entries.checked_mul(entry).and_then(|n| n.checked_add(at)?.checked_add(count));
        match next {
            // Pages may lie in any order, so a loop ends only by the count.
            Some(next) if pages < MAX_PARTS => link = next,
            _ => break,
        }
    }
    pages
}
