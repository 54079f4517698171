//! What a round trip through a JPEG file does to a picture, without the file: the lossy steps of libjpeg at
//! a quality, in its default form (ITU-T T.81, JFIF; chroma halved, smooth upsampling). Packing bits loses
//! nothing, so it is left out.

use std::f32::consts::PI;

/// Quantisation steps of T.81, tables K.1 and K.2, row by row.
#[rustfmt::skip]
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];
#[rustfmt::skip]
const CHROMA: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// Compresses (side, side, 3) bytes at a quality of 1 to 100 and decodes them again, in place.
pub(super) fn round_trip(pixels: &mut [[u8; 3]], side: usize, quality: usize) {
    let channel = |[r, g, b]: [f32; 3], shift: f32| -> Vec<f32> {
        let level = |p: &[u8; 3]| f32::from(p[0]) * r + f32::from(p[1]) * g + f32::from(p[2]) * b + shift;
        pixels.iter().map(|pixel| nearest(level(pixel))).collect()
    };
    let mut luma = Plane::new(side, &channel([0.299, 0.587, 0.114], 0.0));
    let mut blue = Plane::halved(side, &channel([-0.168_735_9, -0.331_264_1, 0.5], 128.0));
    let mut red = Plane::halved(side, &channel([0.5, -0.418_687_6, -0.081_312_4], 128.0));

    let cosines = cosines();
    luma.quantise(&cosines, &steps(&LUMA, quality));
    blue.quantise(&cosines, &steps(&CHROMA, quality));
    red.quantise(&cosines, &steps(&CHROMA, quality));

    for (y, row) in pixels.chunks_exact_mut(side).enumerate() {
        for (x, pixel) in row.iter_mut().enumerate() {
            let (luma, blue, red) = (luma.at(x, y), blue.smooth(x, y) - 128.0, red.smooth(x, y) - 128.0);
            let levels =
                [luma + 1.402 * red, luma - 0.344_136_3 * blue - 0.714_136_3 * red, luma + 1.772 * blue];
            // Casts of floats saturate.
            *pixel = levels.map(|level| (level + 0.5) as u8);
        }
    }
}

/// A table of steps at a quality, by libjpeg's `jpeg_quality_scaling`.
fn steps(table: &[u16; 64], quality: usize) -> [f32; 64] {
    let quality = quality.clamp(1, 100);
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    table.map(|step| ((usize::from(step) * scale + 50) / 100).clamp(1, 255) as f32)
}

/// The orthonormal cosines of 8 points, a frequency a row.
fn cosines() -> [[f32; 8]; 8] {
    let at = |frequency: usize, x: usize| {
        let scale: f32 = if frequency == 0 { 0.125 } else { 0.25 };
        scale.sqrt() * ((2 * x + 1) as f32 * frequency as f32 * PI / 16.0).cos()
    };
    std::array::from_fn(|frequency| std::array::from_fn(|x| at(frequency, x)))
}

/// One channel, its edges repeated to whole blocks of 8x8.
struct Plane {
    side: usize,
    stride: usize,
    samples: Vec<f32>,
}

impl Plane {
    /// Of samples (side, side).
    fn new(side: usize, samples: &[f32]) -> Self {
        let stride = side.next_multiple_of(8);
        let mut padded = Vec::with_capacity(stride * stride);
        for y in 0..stride {
            let row = &samples[y.min(side - 1) * side..][..side];
            padded.extend_from_slice(row);
            padded.resize((y + 1) * stride, row[side - 1]);
        }
        Self { side, stride, samples: padded }
    }

    /// Of samples (side, side), each four of them as one.
    fn halved(side: usize, samples: &[f32]) -> Self {
        let half = side.div_ceil(2);
        let mut means = Vec::with_capacity(half * half);
        for y in 0..half {
            let row = |y: usize| &samples[y.min(side - 1) * side..][..side];
            let (upper, lower) = (row(2 * y), row(2 * y + 1));
            for x in 0..half {
                let [a, b] = [2 * x, (2 * x + 1).min(side - 1)];
                // Halves are rounded down and up by turns.
                let sum = upper[a] + upper[b] + lower[a] + lower[b] + 1.0 + (x % 2) as f32;
                means.push((sum as i32 / 4) as f32);
            }
        }
        Self::new(half, &means)
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        self.samples[y.min(self.side - 1) * self.stride + x.min(self.side - 1)]
    }

    /// The sample of twice as fine a grid: three parts of the near one, one of the far, along each axis
    /// (libjpeg's "fancy" upsampling).
    fn smooth(&self, x: usize, y: usize) -> f32 {
        let far = |i: usize| if i.is_multiple_of(2) { (i / 2).saturating_sub(1) } else { i / 2 + 1 };
        let column = |x: usize| 3.0 * self.at(x, y / 2) + self.at(x, far(y));
        let sum = 3.0 * column(x / 2) + column(far(x)) + 8.0 - (x % 2) as f32;
        (sum as i32 / 16) as f32
    }

    /// Rounds the frequencies of every block to multiples of their steps.
    fn quantise(&mut self, cosines: &[[f32; 8]; 8], steps: &[f32; 64]) {
        let transposed: [[f32; 8]; 8] = std::array::from_fn(|i| std::array::from_fn(|k| cosines[k][i]));
        for start in (0..self.samples.len()).step_by(8 * self.stride) {
            for start in (start..start + self.stride).step_by(8) {
                let block = std::array::from_fn(|y| {
                    let row = start + y * self.stride;
                    std::array::from_fn(|x| self.samples[row + x] - 128.0)
                });
                let mut block = both_ways(&block, cosines, &transposed);
                for (value, step) in block.as_flattened_mut().iter_mut().zip(steps) {
                    *value = nearest(*value / step) * step;
                }
                let block = both_ways(&block, &transposed, cosines);
                for (y, row) in block.iter().enumerate() {
                    let out = &mut self.samples[start + y * self.stride..][..8];
                    out.iter_mut().zip(row).for_each(|(out, v)| *out = nearest(v + 128.0).clamp(0.0, 255.0));
                }
            }
        }
    }
}

/// The nearest whole number, halves away from zero. (`round` calls a function on x86 without SSE4.1.)
fn nearest(value: f32) -> f32 {
    (value + 0.5f32.copysign(value)) as i32 as f32
}

/// left · block · right.
fn both_ways(block: &[[f32; 8]; 8], left: &[[f32; 8]; 8], right: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    product(&product(left, block), right)
}

fn product(a: &[[f32; 8]; 8], b: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    a.map(|row| {
        let mut out = [0.0; 8];
        for (weight, b) in row.iter().zip(b) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += weight * b);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_pass_and_worse_quality_loses_more() {
        let mut grey = vec![[77; 3]; 19 * 19];
        round_trip(&mut grey, 19, 95);
        assert!(grey.as_flattened().iter().all(|level| level.abs_diff(77) <= 1), "{grey:?}");

        // Two colours that meet at a slant, on a side that is no multiple of 8 or of 2.
        let colour = |i: usize| if i % 35 > i / 35 { [200, 40, 30] } else { [20, 90, 220] };
        let before: Vec<[u8; 3]> = (0..35 * 35).map(colour).collect();
        let losses = [95, 75, 50, 10].map(|quality| {
            let mut after = before.clone();
            round_trip(&mut after, 35, quality);
            let off = after
                .as_flattened()
                .iter()
                .zip(before.as_flattened())
                .map(|(a, b)| f64::from(a.abs_diff(*b)));
            off.sum::<f64>() / before.len() as f64
        });
        assert!(losses[0] > 0.0 && losses[3] < 60.0 && losses.is_sorted(), "{losses:?}");
    }

    #[test]
    fn steps_follow_libjpeg() {
        // The first steps of the tables that `djpeg -v -v` shows of a file of `cjpeg -quality 75`.
        assert_eq!(steps(&LUMA, 75)[..8], [8.0, 6.0, 5.0, 8.0, 12.0, 20.0, 26.0, 31.0]);
        assert_eq!(steps(&CHROMA, 50)[..4], [17.0, 18.0, 24.0, 47.0]);
        assert_eq!(steps(&LUMA, 100), [1.0; 64]);
    }

    #[test]
    fn transforming_forth_and_back_changes_nothing() {
        let cosines = cosines();
        let samples: Vec<f32> = (0..256u16).map(|i| f32::from(i * 37 % 256)).collect();
        let mut plane = Plane::new(16, &samples);
        let before = plane.samples.clone();
        plane.quantise(&cosines, &[1e-3; 64]);
        assert_eq!(plane.samples, before);
    }
}
