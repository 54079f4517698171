//! At most 256 colours for images of many: median cut (Heckbert 1982), where the box that
//! spreads its pixels most is cut at their mean. Flat colours come out exactly.

use std::collections::HashMap;

use image::RgbImage;

/// Most colours of a GIF.
const COLOURS: usize = 256;
/// Different colours that are told apart; beyond, images are looked at in coarser steps.
const DISTINCT: usize = 1 << 18;

/// Colours, and which of them stands for each colour that was asked about.
pub struct Palette {
    colours: Vec<[u8; 3]>,
    known: HashMap<[u8; 3], u8>,
}

impl Palette {
    /// The palette of some images.
    pub fn of(pictures: &[RgbImage]) -> Self {
        let mut counts: HashMap<[u8; 3], u32> = HashMap::new();
        for picture in pictures {
            for pixel in picture.pixels() {
                let colour = if counts.len() < DISTINCT { pixel.0 } else { pixel.0.map(|c| c & 0xf8 | 4) };
                *counts.entry(colour).or_default() += 1;
            }
        }
        let mut all: Vec<([u8; 3], u32)> = counts.into_iter().collect();
        // A map's order differs from run to run; files must not.
        all.sort_unstable();
        let colours =
            if all.len() <= COLOURS { all.into_iter().map(|(colour, _)| colour).collect() } else { cut(all) };
        Self { colours, known: HashMap::new() }
    }

    /// Red, green and blue of each colour.
    pub fn bytes(&self) -> Vec<u8> {
        self.colours.concat()
    }

    /// The colour that is nearest.
    pub fn index(&mut self, colour: [u8; 3]) -> u8 {
        let colours = &self.colours;
        let far = |c: &[u8; 3]| -> i32 {
            let d = |i: usize| i32::from(c[i]) - i32::from(colour[i]);
            2 * d(0) * d(0) + 4 * d(1) * d(1) + d(2) * d(2)
        };
        let nearest = || (0..colours.len()).min_by_key(|&i| far(&colours[i])).unwrap_or(0);
        *self.known.entry(colour).or_insert_with(|| nearest() as u8)
    }
}

/// Colours with their counts, and how much they spread.
struct Part {
    members: Vec<([u8; 3], u32)>,
    mean: [f64; 3],
    /// Sum of squared distances from the mean, along each axis.
    spread: [f64; 3],
}

impl Part {
    fn new(members: Vec<([u8; 3], u32)>) -> Self {
        let (mut n, mut sum, mut squares) = (0.0, [0.0; 3], [0.0; 3]);
        for (colour, count) in &members {
            let w = f64::from(*count);
            n += w;
            for c in 0..3 {
                let x = f64::from(colour[c]);
                sum[c] += w * x;
                squares[c] += w * x * x;
            }
        }
        let mean = sum.map(|s| s / f64::max(n, 1.0));
        let spread = std::array::from_fn(|c| f64::max(squares[c] - sum[c] * mean[c], 0.0));
        Self { members, mean, spread }
    }

    fn widest(&self) -> (usize, f64) {
        (0..3).map(|c| (c, self.spread[c])).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    }
}

fn cut(all: Vec<([u8; 3], u32)>) -> Vec<[u8; 3]> {
    let mut parts = vec![Part::new(all)];
    while parts.len() < COLOURS {
        let spread = parts.iter().enumerate().filter(|(_, p)| p.widest().1 > 0.0);
        let Some((i, _)) = spread.max_by(|a, b| a.1.widest().1.total_cmp(&b.1.widest().1)) else { break };
        let part = parts.swap_remove(i);
        let axis = part.widest().0;
        let middle = part.mean[axis];
        let (low, high): (Vec<_>, Vec<_>) =
            part.members.into_iter().partition(|(c, _)| f64::from(c[axis]) <= middle);
        if low.is_empty() || high.is_empty() {
            // Rounding has left nothing to cut.
            parts.push(Part { spread: [0.0; 3], ..Part::new([low, high].concat()) });
        } else {
            parts.extend([Part::new(low), Part::new(high)]);
        }
    }
    parts.iter().map(|p| p.mean.map(|c| c.round() as u8)).collect()
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn few_colours_are_kept() {
        let picture = RgbImage::from_fn(20, 20, |x, y| Rgb([(x * 12) as u8, (y / 2) as u8, 7]));
        let mut palette = Palette::of(std::slice::from_ref(&picture));
        assert_eq!(palette.bytes().len(), 200 * 3);
        for pixel in picture.pixels() {
            let i = usize::from(palette.index(pixel.0));
            assert_eq!(palette.bytes()[i * 3..][..3], pixel.0);
        }
    }

    #[test]
    fn many_colours_come_near() {
        let picture = RgbImage::from_fn(128, 128, |x, y| Rgb([(x * 2) as u8, (y * 2) as u8, (x ^ y) as u8]));
        let mut palette = Palette::of(std::slice::from_ref(&picture));
        assert_eq!(palette.bytes().len(), 256 * 3);
        let mut error = 0.0;
        for pixel in picture.pixels() {
            let i = usize::from(palette.index(pixel.0));
            let got = &palette.bytes()[i * 3..][..3];
            error += got.iter().zip(pixel.0).map(|(a, b)| f64::from(a.abs_diff(b)).powi(2)).sum::<f64>();
        }
        let rms = (error / f64::from(128 * 128 * 3)).sqrt();
        assert!(rms < 14.0, "{rms}");
    }
}
