//! Dots that lines, discs and areas are drawn on with smooth edges.

use image::{ExtendedColorType, ImageEncoder as _};

use crate::error::{Error, Result};

/// Red, green, blue.
pub type Colour = [u8; 3];

/// A place in pixels from the upper left corner.
pub type At = [f32; 2];

/// Dots, and how to draw on them: each covers what lies beneath by how much of it is covered.
pub(super) struct Canvas {
    width: u32,
    height: u32,
    dots: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { width, height, dots: vec![255; (width * height * 3) as usize] }
    }

    pub(super) fn line(&mut self, [x0, y0]: At, [x1, y1]: At, width: f32, colour: Colour) {
        let (dx, dy) = (x1 - x0, y1 - y0);
        let square = (dx * dx + dy * dy).max(1e-9);
        let distance = |x: f32, y: f32| {
            let along = (((x - x0) * dx + (y - y0) * dy) / square).clamp(0.0, 1.0);
            (x - x0 - along * dx).hypot(y - y0 - along * dy)
        };
        let reach = width / 2.0 + 1.0;
        let low = [x0.min(x1) - reach, y0.min(y1) - reach];
        let high = [x0.max(x1) + reach, y0.max(y1) + reach];
        self.cover(low, high, colour, |x, y| width / 2.0 + 0.5 - distance(x, y));
    }

    pub(super) fn disc(&mut self, [cx, cy]: At, radius: f32, colour: Colour) {
        let reach = radius + 1.0;
        self.cover([cx - reach, cy - reach], [cx + reach, cy + reach], colour, |x, y| {
            radius + 0.5 - (x - cx).hypot(y - cy)
        });
    }

    pub(super) fn area(&mut self, low: At, high: At, colour: Colour) {
        // How much of a dot lies inside, along a side.
        let part = |v: f32, k: usize| ((v + 0.5).min(high[k]) - (v - 0.5).max(low[k])).clamp(0.0, 1.0);
        self.cover(low, high, colour, |x, y| part(x, 0) * part(y, 1));
    }

    /// Sets a dot; those outside are left out.
    pub(super) fn dot(&mut self, [x, y]: [u32; 2], colour: Colour) {
        if x < self.width && y < self.height {
            let at = ((y * self.width + x) * 3) as usize;
            self.dots[at..at + 3].copy_from_slice(&colour);
        }
    }

    fn cover(&mut self, low: At, high: At, colour: Colour, covered: impl Fn(f32, f32) -> f32) {
        let clip = |v: f32, most: u32| v.clamp(0.0, most as f32) as u32;
        let (left, right) = (clip(low[0], self.width), clip(high[0] + 1.0, self.width));
        let (top, bottom) = (clip(low[1], self.height), clip(high[1] + 1.0, self.height));
        for y in top..bottom {
            for x in left..right {
                let part = covered(x as f32 + 0.5, y as f32 + 0.5).clamp(0.0, 1.0);
                if part > 0.0 {
                    let at = ((y * self.width + x) * 3) as usize;
                    for (dot, new) in self.dots[at..at + 3].iter_mut().zip(colour) {
                        *dot = (f32::from(*dot) * (1.0 - part) + f32::from(new) * part).round() as u8;
                    }
                }
            }
        }
    }

    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut out);
        let encoded = encoder.write_image(&self.dots, self.width, self.height, ExtendedColorType::Rgb8);
        encoded.map_err(|e| Error::Write { path: "the image".to_owned(), what: e.to_string() })?;
        Ok(out)
    }
}
