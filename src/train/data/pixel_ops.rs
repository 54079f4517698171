//! Operations on images of bytes (H,W,3), to the bit as Pillow 13.0 makes them: what timm's RandAugment is made of.

/// How a moved image is read between its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// Of the nearest four.
    Bilinear,
    /// Of the nearest sixteen.
    Bicubic,
}

/// An image and its sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    /// Each byte by a table of its channel.
    fn point(&mut self, tables: &[[u8; 256]; 3]) {
        for pixel in self.pixels.chunks_exact_mut(3) {
            pixel.iter_mut().zip(tables).for_each(|(byte, table)| *byte = table[usize::from(*byte)]);
        }
    }

    /// Each byte by one rule.
    fn each(&mut self, rule: impl Fn(u8) -> u8) {
        self.pixels.iter_mut().for_each(|byte| *byte = rule(*byte));
    }

    fn histogram(&self, channel: usize) -> [u32; 256] {
        let mut counts = [0; 256];
        self.pixels.iter().skip(channel).step_by(3).for_each(|&byte| counts[usize::from(byte)] += 1);
        counts
    }

    /// `ImageOps.autocontrast`: the darkest value of a channel becomes 0, the lightest 255.
    pub(super) fn auto_contrast(&mut self) {
        let tables = [0, 1, 2].map(|channel| {
            let counts = self.histogram(channel);
            let low = counts.iter().position(|n| *n > 0).unwrap_or(0);
            let high = counts.iter().rposition(|n| *n > 0).unwrap_or(0);
            std::array::from_fn(|i| {
                if high <= low {
                    return i as u8;
                }
                let scale = 255.0 / (high - low) as f64;
                ((i as f64 * scale - low as f64 * scale) as i32).clamp(0, 255) as u8
            })
        });
        self.point(&tables);
    }

    /// `ImageOps.equalize`: values of a channel are spread so that each is about as frequent.
    pub(super) fn equalize(&mut self) {
        let tables = [0, 1, 2].map(|channel| {
            let counts = self.histogram(channel);
            let last = counts.iter().rev().find(|n| **n > 0).copied().unwrap_or(0);
            let step = (counts.iter().sum::<u32>() - last) / 255;
            let mut sum = step / 2;
            std::array::from_fn(|i| {
                if step == 0 {
                    return i as u8;
                }
                let value = sum / step;
                sum += counts[i];
                value.min(255) as u8
            })
        });
        self.point(&tables);
    }

    /// `ImageOps.invert`.
    pub(super) fn invert(&mut self) {
        self.each(|byte| 255 - byte);
    }

    /// `ImageOps.posterize`: only so many of the highest bits; none of them is black, which Pillow refuses.
    pub(super) fn posterize(&mut self, bits: u32) {
        let mask = !(0xffu32 >> bits.min(8)) as u8;
        self.each(|byte| byte & mask);
    }

    /// `ImageOps.solarize`: values from a threshold on are inverted.
    pub(super) fn solarize(&mut self, threshold: u32) {
        self.each(|byte| if u32::from(byte) < threshold { byte } else { 255 - byte });
    }

    /// timm's `solarize_add`: values below 128 are raised.
    pub(super) fn solarize_add(&mut self, add: u32) {
        self.each(|byte| if byte < 128 { (u32::from(byte) + add).min(255) as u8 } else { byte });
    }

    /// `Image.blend` with another image, beyond both where the factor is above 1.
    fn blend_from(&mut self, from: impl Fn(usize, &[u8]) -> [u8; 3], factor: f32) {
        for (i, pixel) in self.pixels.chunks_exact_mut(3).enumerate() {
            let other = from(i, pixel);
            for (byte, other) in pixel.iter_mut().zip(other) {
                let (own, other) = (f32::from(*byte), f32::from(other));
                *byte = (other + factor * (own - other)).clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// `ImageEnhance.Color`: toward grey below 1, away from it above.
    pub(super) fn color(&mut self, factor: f32) {
        self.blend_from(|_, pixel| [luminance(pixel); 3], factor);
    }

    /// `ImageEnhance.Contrast`: toward the mean brightness below 1, away from it above.
    pub(super) fn contrast(&mut self, factor: f32) {
        let sum: u64 = self.pixels.chunks_exact(3).map(|pixel| u64::from(luminance(pixel))).sum();
        let mean = (sum as f64 / (self.pixels.len() / 3).max(1) as f64 + 0.5) as u8;
        self.blend_from(|_, _| [mean; 3], factor);
    }

    /// `ImageEnhance.Brightness`.
    pub(super) fn brightness(&mut self, factor: f32) {
        self.blend_from(|_, _| [0; 3], factor);
    }

    /// `ImageEnhance.Sharpness`: toward a smoothed image below 1, away from it above.
    pub(super) fn sharpness(&mut self, factor: f32) {
        let smooth = self.smoothed();
        self.blend_from(|i, _| [0, 1, 2].map(|c| smooth[3 * i + c]), factor);
    }

    /// `ImageFilter.SMOOTH`: a pixel counts five times, its eight neighbours once; those of the edge stay.
    fn smoothed(&self) -> Vec<u8> {
        let mut out = self.pixels.clone();
        let [one, five] = [1.0f32 / 13.0, 5.0 / 13.0];
        for y in 1..self.height.saturating_sub(1) {
            for x in 1..self.width.saturating_sub(1) {
                for c in 0..3 {
                    let at = |x: usize, y: usize| f32::from(self.pixels[(y * self.width + x) * 3 + c]);
                    let row =
                        |y: usize, middle: f32| at(x - 1, y) * one + at(x, y) * middle + at(x + 1, y) * one;
                    // In the order of Pillow's sum.
                    let sum = 0.5 + row(y + 1, one) + row(y, five) + row(y - 1, one);
                    out[(y * self.width + x) * 3 + c] = sum.clamp(0.0, 255.0) as u8;
                }
            }
        }
        out
    }

    /// `Image.rotate` about the middle, counterclockwise.
    pub(super) fn rotate(&mut self, degrees: f64, fill: [u8; 3], between: Between) {
        let degrees = degrees.rem_euclid(360.0);
        if degrees == 0.0 {
            return;
        }
        let digits = |x: f64| (x * 1e15).round() / 1e15;
        let (sine, cosine) = (-degrees.to_radians()).sin_cos();
        let (sine, cosine) = (digits(sine), digits(cosine));
        let (middle_x, middle_y) = (self.width as f64 / 2.0, self.height as f64 / 2.0);
        let x = cosine * -middle_x + sine * -middle_y + middle_x;
        let y = -sine * -middle_x + cosine * -middle_y + middle_y;
        self.affine([cosine, sine, x, -sine, cosine, y], fill, between);
    }

    /// `Image.transform` by an affine map: pixel (x, y) is read at (a·x + b·y + c, d·x + e·y + f), what lies outside is
    /// filled.
    pub(super) fn affine(&mut self, [a, b, c, d, e, f]: [f64; 6], fill: [u8; 3], between: Between) {
        let mut out = fill.repeat(self.width * self.height);
        for (i, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (x, y) = ((i % self.width) as f64 + 0.5, (i / self.width) as f64 + 0.5);
            let (x, y) = (a * x + b * y + c, d * x + e * y + f);
            if x < 0.0 || x >= self.width as f64 || y < 0.0 || y >= self.height as f64 {
                continue;
            }
            for (channel, byte) in pixel.iter_mut().enumerate() {
                let value = match between {
                    Between::Bilinear => self.bilinear(x - 0.5, y - 0.5, channel),
                    Between::Bicubic => self.bicubic(x - 0.5, y - 0.5, channel),
                };
                *byte = value.clamp(0.0, 255.0) as u8;
            }
        }
        self.pixels = out;
    }

    /// The byte of a place, the nearest one of the image where that lies beside it.
    fn at(&self, x: i64, y: i64, channel: usize) -> f64 {
        let clip = |i: i64, side: usize| i.clamp(0, side as i64 - 1) as usize;
        f64::from(self.pixels[(clip(y, self.height) * self.width + clip(x, self.width)) * 3 + channel])
    }

    fn bilinear(&self, x: f64, y: f64, channel: usize) -> f64 {
        let (left, top) = (x.floor(), y.floor());
        let (dx, dy) = (x - left, y - top);
        let row = |y: i64| {
            let [a, b] = [0, 1].map(|i| self.at(left as i64 + i, y, channel));
            a + (b - a) * dx
        };
        let (a, b) = (row(top as i64), row(top as i64 + 1));
        a + (b - a) * dy
    }

    fn bicubic(&self, x: f64, y: f64, channel: usize) -> f64 {
        let (left, top) = (x.floor(), y.floor());
        let cubic = |[a, b, c, d]: [f64; 4], t: f64| {
            let (p2, p3, p4) = (-a + c, 2.0 * (a - b) + c - d, -a + b - c + d);
            b + t * (p2 + t * (p3 + t * p4))
        };
        let row = |y: i64| cubic([-1, 0, 1, 2].map(|i| self.at(left as i64 + i, y, channel)), x - left);
        cubic([-1, 0, 1, 2].map(|i| row(top as i64 + i)), y - top)
    }
}

/// Luminance of ITU-R 601 in whole numbers, as Pillow converts to `L`.
fn luminance(pixel: &[u8]) -> u8 {
    let [r, g, b] = [0, 1, 2].map(|i| u32::from(pixel[i]));
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}
