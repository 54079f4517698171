//! A contact sheet: images of any sizes, each fitted into a square, with words beneath.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::canvas::{Canvas, Colour};
use super::{letters, sheet};
use crate::error::Result;

/// Side of the square that an image is fitted into, in pixels.
const SIDE: u32 = 192;
/// Pixels between squares, and around them.
const GAP: u32 = 12;
/// Size of letters, and from one line to the next.
const LETTERS: f32 = 13.0;
const LINE: u32 = 20;
/// Lines beneath an image.
const LINES: usize = 2;
const INK: Colour = [40, 40, 40];
/// Width of the pen.
const PEN: f32 = 1.2;

/// An image of the sheet.
#[derive(Debug, Clone)]
pub struct Picture {
    words: [String; LINES],
    pixels: Option<RgbImage>,
}

impl Picture {
    /// A place that is white but for these words.
    pub fn empty(words: [String; LINES]) -> Self {
        Self { words, pixels: None }
    }

    /// Shows an image, (H,W,3) bytes, scaled down to fit; small ones stay as they are.
    pub fn show(&mut self, rgb: Vec<u8>, width: usize, height: usize) {
        let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else { return };
        let Some(image) = RgbImage::from_raw(width, height, rgb) else { return };
        let longest = width.max(height);
        self.pixels = Some(if longest <= SIDE {
            image
        } else {
            let scaled = |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
            imageops::resize(&image, scaled(width), scaled(height), FilterType::Triangle)
        });
    }
}

/// The sheet as PNG, in reading order.
///
/// # Errors
/// [`crate::Error::Write`] if it cannot be encoded.
pub fn png(pictures: &[Picture]) -> Result<Vec<u8>> {
    let count = pictures.len().max(1) as u32;
    let columns = sheet::square(count);
    let tall = SIDE + LINES as u32 * LINE;
    let size = |cells: u32, cell: u32| GAP + cells * (cell + GAP);
    let mut canvas = Canvas::new(size(columns, SIDE), size(count.div_ceil(columns), tall));
    for (i, picture) in (0u32..).zip(pictures) {
        let left = size(i % columns, SIDE);
        let top = size(i / columns, tall);
        if let Some(pixels) = &picture.pixels {
            let at = [left + (SIDE - pixels.width()) / 2, top + (SIDE - pixels.height()) / 2];
            for (x, y, Rgb(dot)) in pixels.enumerate_pixels() {
                canvas.dot([at[0] + x, at[1] + y], *dot);
            }
        }
        for (line, words) in (1u32..).zip(&picture.words) {
            write(&mut canvas, &fitted(words), [left, top + SIDE + line * LINE - LINE / 4]);
        }
    }
    canvas.png()
}

/// As much of the words as fits beneath an image.
fn fitted(words: &str) -> String {
    if letters::width(words, LETTERS) <= SIDE as f32 {
        return words.to_owned();
    }
    let mut short = words.to_owned();
    while short.pop().is_some() && letters::width(&short, LETTERS) + LETTERS > SIDE as f32 {}
    short + "\u{2026}"
}

/// Writes words in the middle beneath an image, on a baseline.
fn write(canvas: &mut Canvas, words: &str, [left, baseline]: [u32; 2]) {
    let begin = left as f32 + (SIDE as f32 - letters::width(words, LETTERS)) / 2.0;
    for stroke in letters::strokes(words, LETTERS) {
        for ends in stroke.windows(2) {
            let at = |[x, y]: [f32; 2]| [begin + x, baseline as f32 + y];
            canvas.line(at(ends[0]), at(ends[1]), PEN, INK);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn images_stand_in_order_with_words_beneath() {
        let flat = |colour: [u8; 3], width: usize, height: usize| {
            let mut picture = Picture::empty(["0.5".to_owned(), "a very long name of a file.png".to_owned()]);
            picture.show(colour.repeat(width * height), width, height);
            picture
        };
        let pictures = [flat([255, 0, 0], 400, 200), flat([0, 255, 0], 10, 10), flat([0, 0, 255], 50, 300)];
        let sheet = image::load_from_memory(&png(&pictures).unwrap()).unwrap().to_rgb8();
        let tall = SIDE + LINES as u32 * LINE;
        assert_eq!(sheet.dimensions(), (GAP + 3 * (SIDE + GAP), tall + 2 * GAP));
        let middle = |i: u32| sheet.get_pixel(GAP + i * (SIDE + GAP) + SIDE / 2, GAP + SIDE / 2).0;
        assert_eq!([middle(0), middle(1), middle(2)], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]);
        // The wide one is fitted: white above it.
        assert_eq!(sheet.get_pixel(GAP + SIDE / 2, GAP + 10).0, [255; 3]);
        let dark = |i: u32, line: u32| {
            let rows = (0..LINE).map(|y| GAP + SIDE + line * LINE + y);
            let dots = rows.flat_map(|y| (0..SIDE).map(move |x| (GAP + i * (SIDE + GAP) + x, y)));
            dots.filter(|&(x, y)| sheet.get_pixel(x, y).0[0] < 128).count()
        };
        assert!(dark(0, 0) > 10 && dark(1, 1) > 100, "{} {}", dark(0, 0), dark(1, 1));
        assert!(letters::width(&fitted("a very long name of a file.png"), LETTERS) <= SIDE as f32);
    }
}
