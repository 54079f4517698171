//! How uncertain the model was of each patch: a map of colours beside the image, and below
//! both what the colours mean.

use image::{Rgb, RgbImage};

use super::sheet::{Sheet, place};
use crate::error::Result;
use crate::generate::{GeneratedImage, GeneratorInfo};
use crate::render::letters;
use crate::tensor::Size;

/// Height of the map, at least, in pixels; images are enlarged by whole factors.
const LEAST: usize = 192;
/// Height of the strip with the legend, and of its letters.
const STRIP: u32 = 28;
const LETTERS: f32 = 15.0;
/// Patches that were not drawn but given.
const GIVEN: [u8; 3] = [128; 3];

/// Colours from certain to uncertain, all of about the same steps in lightness: dark violet, blue, green,
/// yellow (points along matplotlib's viridis).
const COLOURS: [[f32; 3]; 6] = [
    [68.0, 1.0, 84.0],
    [65.0, 68.0, 135.0],
    [42.0, 120.0, 142.0],
    [34.0, 168.0, 132.0],
    [122.0, 209.0, 81.0],
    [253.0, 231.0, 37.0],
];

/// The colour of a value from 0 to 1.
fn colour(value: f32) -> [u8; 3] {
    let value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
    let at = value * (COLOURS.len() - 1) as f32;
    let i = (at as usize).min(COLOURS.len() - 2);
    let t = at - i as f32;
    std::array::from_fn(|c| (COLOURS[i][c] * (1.0 - t) + COLOURS[i + 1][c] * t).round() as u8)
}

/// Samples with their maps beside them. entropy: nats at each patch, in raster order, for each sample;
/// the first `given` patches were not drawn.
///
/// # Errors
/// [`crate::Error::Usage`] if the image would be too large.
pub fn draw(
    info: &GeneratorInfo,
    pictures: &[GeneratedImage],
    entropy: &[Vec<f32>],
    given: usize,
    columns: Option<u32>,
) -> Result<RgbImage> {
    let drawn = || entropy.iter().flat_map(|e| e.iter().skip(given)).copied().filter(|x| x.is_finite());
    let (low, high) = drawn().fold((f32::MAX, 0.0f32), |(l, h), x| (l.min(x), h.max(x)));
    let low = low.min(high);
    let Size { height, width } = info.image_size;
    let zoom = LEAST.div_ceil(height.min(width).max(1)).max(1) as u32;
    let pairs: Vec<GeneratedImage> = pictures
        .iter()
        .zip(entropy)
        .map(|(picture, entropy)| pair(info, picture, entropy, given, [low, high]))
        .collect();
    let sheet = Sheet::new(pairs.len(), columns, Size::new(height, 2 * width + GAP), zoom)?;
    let drawn = sheet.draw(&pairs);
    let mut out = RgbImage::from_pixel(drawn.width(), drawn.height() + STRIP, Rgb([255; 3]));
    image::imageops::replace(&mut out, &drawn, 0, 0);
    legend(&mut out, drawn.height(), [low, high]);
    Ok(out)
}

/// Pixels between image and map, before enlarging.
const GAP: usize = 1;

fn pair(
    info: &GeneratorInfo,
    picture: &GeneratedImage,
    entropy: &[f32],
    given: usize,
    [low, high]: [f32; 2],
) -> GeneratedImage {
    let Size { height, width } = info.image_size;
    let wide = 2 * width + GAP;
    let mut both = RgbImage::from_pixel(wide as u32, height as u32, Rgb([255; 3]));
    place(&mut both, picture, 0, 0, 1);
    let spread = (high - low).max(f32::MIN_POSITIVE);
    for y in 0..height {
        for x in 0..width {
            let patch = (y * info.grid[0] / height) * info.grid[1] + x * info.grid[1] / width;
            let value = entropy.get(patch).copied().unwrap_or(0.0);
            let colour = if patch < given { GIVEN } else { colour((value - low) / spread) };
            both.put_pixel((width + GAP + x) as u32, y as u32, Rgb(colour));
        }
    }
    GeneratedImage { height, width: wide, pixels: both.into_raw() }
}

/// The range of the colours, at the bottom.
fn legend(onto: &mut RgbImage, top: u32, [low, high]: [f32; 2]) {
    let width = onto.width() as f32;
    let words = [format!("{low:.2}"), format!("{high:.2} nats")];
    let [left, right] = [letters::width(&words[0], LETTERS), letters::width(&words[1], LETTERS)];
    let base = top as f32 + 20.0;
    let (from, to) = (left + 16.0, width - right - 16.0);
    write(onto, &words[0], [8.0, base]);
    write(onto, &words[1], [width - right - 8.0, base]);
    for y in top + 8..top + STRIP - 6 {
        for x in from as u32..to.max(from) as u32 {
            let value = (x as f32 - from) / (to - from).max(1.0);
            if let Some(p) = onto.get_pixel_mut_checked(x, y) {
                p.0 = colour(value);
            }
        }
    }
}

/// Dark letters on paper, with smooth edges.
fn write(onto: &mut RgbImage, text: &str, at: [f32; 2]) {
    let pen = LETTERS * 0.085;
    let strokes = letters::strokes(text, LETTERS);
    let lines: Vec<[[f32; 2]; 2]> = strokes
        .iter()
        .flat_map(|s| s.windows(2))
        .map(|p| [p[0], p[1]].map(|[x, y]| [x + at[0], y + at[1]]))
        .collect();
    let far = |[[x0, y0], [x1, y1]]: [[f32; 2]; 2], x: f32, y: f32| {
        let (dx, dy) = (x1 - x0, y1 - y0);
        let along = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
        (x - x0 - along * dx).hypot(y - y0 - along * dy)
    };
    let wide = letters::width(text, LETTERS) + 2.0;
    for y in (at[1] - LETTERS).max(0.0) as u32..(at[1] + LETTERS / 2.0) as u32 {
        for x in (at[0] - 2.0).max(0.0) as u32..(at[0] + wide) as u32 {
            let distance =
                lines.iter().map(|l| far(*l, x as f32 + 0.5, y as f32 + 0.5)).fold(f32::MAX, f32::min);
            let ink = (pen / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
            if let Some(p) = onto.get_pixel_mut_checked(x, y) {
                p.0 = p.0.map(|c| (f32::from(c) * (1.0 - ink) + 40.0 * ink) as u8);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn info() -> GeneratorInfo {
        GeneratorInfo {
            grid: [2, 3],
            tokens: 6,
            vocabulary: 4,
            image_size: Size::new(64, 96),
            ..GeneratorInfo::default()
        }
    }

    #[test]
    fn the_map_is_beside_the_picture() {
        let picture = GeneratedImage { height: 64, width: 96, pixels: vec![200; 64 * 96 * 3] };
        let entropy = vec![9.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let drawn = draw(&info(), std::slice::from_ref(&picture), &[entropy], 1, None).unwrap();
        assert_eq!(drawn.dimensions(), ((2 * 96 + 1) * 3, 64 * 3 + STRIP));
        let at = |row: u32, column: u32| drawn.get_pixel((97 + 32 * column + 16) * 3, (32 * row + 16) * 3).0;
        assert_eq!(drawn.get_pixel(10, 10).0, [200; 3]);
        assert_eq!(at(0, 0), GIVEN, "the first was given, however uncertain");
        assert_eq!((at(0, 1), at(1, 2)), (colour(0.0), colour(1.0)));
        assert_eq!(at(1, 0), colour(0.5));
        let dark = drawn.rows().skip(64 * 3).flatten().filter(|p| p.0.iter().all(|c| *c < 90)).count();
        assert!(dark > 40, "the range is written");
    }

    #[test]
    fn flat_and_strange_values() {
        let picture = GeneratedImage { height: 64, width: 96, pixels: vec![200; 64 * 96 * 3] };
        for values in [vec![1.0; 6], vec![f32::NAN; 6], vec![0.0; 6], vec![]] {
            draw(&info(), std::slice::from_ref(&picture), &[values], 0, None).unwrap();
        }
        assert_eq!((colour(-1.0), colour(2.0)), ([68, 1, 84], [253, 231, 37]));
        assert_eq!(colour(f32::NAN), colour(0.0));
    }
}
