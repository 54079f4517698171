//! Where a model looks, as an image: attention rollout (Abnar and Zuidema 2020) or one
//! layer's attention, drawn over the image as the model saw it.
//!
//! Rollout takes the mean over heads of each layer's weights, adds the identity for the residual
//! path, makes rows sum to one, and multiplies the layers. Only one row of the product is shown (the
//! class token's, or the mean over patches where there is none), so a row vector is carried down
//! through the layers and no (T,T) product is ever made.

use crate::error::{Error, Result};
use crate::tensor::Size;
use image::imageops::{FilterType, resize};
use image::{ImageEncoder as _, RgbImage};

/// The image is enlarged by a whole factor until its short side has this many pixels.
const SHORT_SIDE: u32 = 256;

/// Colours from no attention to the most (matplotlib's inferno at eighths).
const COLOURS: [[f32; 3]; 9] = [
    [0.0, 0.0, 4.0],
    [31.0, 12.0, 72.0],
    [85.0, 15.0, 109.0],
    [136.0, 34.0, 106.0],
    [186.0, 54.0, 85.0],
    [227.0, 89.0, 51.0],
    [249.0, 140.0, 10.0],
    [249.0, 201.0, 50.0],
    [252.0, 255.0, 164.0],
];

/// Which part of the attention is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// One layer instead of the rollout.
    pub layer: Option<usize>,
    /// One head instead of the mean.
    pub head: Option<usize>,
}

impl View {
    /// The layers whose attention is needed, of `layers`; `heads` bounds the head.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such layer or head.
    pub fn layers(&self, layers: usize, heads: usize) -> Result<Vec<usize>> {
        let check = |what: &str, n: Option<usize>, count: usize| match n {
            Some(n) if n >= count => {
                let last = count.saturating_sub(1);
                let text = format!("{what} {n}: this model has {count} {what}s");
                Err(Error::usage(text, format!("{what}s go from 0 to {last}")))
            }
            _ => Ok(()),
        };
        check("layer", self.layer, layers)?;
        check("head", self.head, heads)?;
        Ok(match (self.layer, self.head) {
            (Some(layer), _) => vec![layer],
            (None, Some(_)) => vec![layers.saturating_sub(1)],
            (None, None) => (0..layers).collect(),
        })
    }

    fn is_rollout(&self) -> bool {
        self.layer.is_none() && self.head.is_none()
    }
}

/// Where patches lie among the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Tokens in front of the patches.
    pub prefix: usize,
    /// Whether token 0 is a class token.
    pub cls: bool,
    /// Rows and columns of patches.
    pub grid: [usize; 2],
}

/// How much each patch is attended to, 0 for the least and 1 for the most; (grid rows, columns).
/// `maps`: the softmax weights (H,T,T) of the layers that [`View::layers`] named, in order.
pub fn heat(view: View, layout: Layout, heads: usize, maps: &[&[f32]]) -> Vec<f32> {
    let tokens = layout.prefix + layout.grid[0] * layout.grid[1];
    let mut row = vec![0.0; tokens];
    if layout.cls {
        row[0] = 1.0;
    } else {
        let patches = tokens - layout.prefix;
        row[layout.prefix..].fill(1.0 / patches as f32);
    }
    for map in maps.iter().rev() {
        row = through(&row, map, heads, view);
    }
    let patches = &mut row[layout.prefix..];
    let (low, high) = patches.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let spread = (high - low).max(f32::MIN_POSITIVE);
    patches.iter().map(|x| (x - low) / spread).collect()
}

/// `row` (T) times one layer's matrix: of one head, or the mean over heads; for the rollout mixed
/// half and half with the identity, which is adding it and making rows sum to one.
fn through(row: &[f32], map: &[f32], heads: usize, view: View) -> Vec<f32> {
    let tokens = row.len();
    let mut out = vec![0.0; tokens];
    let (first, count) = view.head.map_or((0, heads), |h| (h, 1));
    for head in map.chunks_exact(tokens * tokens).skip(first).take(count) {
        for (weight, line) in row.iter().zip(head.chunks_exact(tokens)) {
            if *weight != 0.0 {
                out.iter_mut().zip(line).for_each(|(o, a)| *o += weight * a / count as f32);
            }
        }
    }
    if view.is_rollout() {
        out.iter_mut().zip(row).for_each(|(o, r)| *o = 0.5 * *o + 0.5 * r);
    }
    out
}

/// The image as PNG: `pixels` (H,W,3) of `size` under the heat of a grid of patches. Pixels
/// beyond the last whole patch are not seen by the model and get the heat of the nearest one.
///
/// # Errors
/// [`Error::Input`] if the pixels do not fill the size.
pub fn png(
    pixels: &[u8],
    size: impl Into<Size>,
    heat: &[f32],
    grid: [usize; 2],
    patch: [usize; 2],
) -> Result<Vec<u8>> {
    let size: Size = size.into();
    let wrong = || Error::input("attention", "the image and its size do not fit each other", "");
    let side = |n: usize| u32::try_from(n).map_err(|_| wrong());
    let (height, width) = (side(size.height)?, side(size.width)?);
    let image = RgbImage::from_raw(width, height, pixels.to_vec()).ok_or_else(wrong)?;
    let factor = SHORT_SIDE.div_ceil(height.min(width).max(1)).max(1);
    let mut image = if factor > 1 {
        resize(&image, width * factor, height * factor, FilterType::CatmullRom)
    } else {
        image
    };
    let (width, height) = image.dimensions();
    let enlarged = patch.map(|side| side as f32 * factor as f32);
    let (columns, rows) = (Axis::new(grid[1], width, enlarged[1]), Axis::new(grid[0], height, enlarged[0]));
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let value = sample(heat, grid[1], &rows.taps[y as usize], &columns.taps[x as usize]);
        let colour = colour(value);
        let opacity = 0.35 + 0.4 * value;
        for (p, c) in pixel.0.iter_mut().zip(colour) {
            *p = (f32::from(*p) * (1.0 - opacity) + c * opacity).round() as u8;
        }
    }
    let mut out = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut out);
    let encoded = encoder.write_image(&image, width, height, image::ExtendedColorType::Rgb8);
    encoded.map_err(|e| Error::input("attention", format!("the image cannot be encoded: {e}"), ""))?;
    Ok(out)
}

/// For every pixel of a side, the four cells around it and their weights (Catmull-Rom).
struct Axis {
    taps: Vec<[(usize, f32); 4]>,
}

impl Axis {
    /// `cells` of `side` pixels each along `pixels`.
    fn new(cells: usize, pixels: u32, side: f32) -> Self {
        let tap = |pixel: u32| {
            let at = ((pixel as f32 + 0.5) / side - 0.5).min(cells as f32);
            let (first, t) = (at.floor() as i64 - 1, at - at.floor());
            let weights = [
                ((2.0 - t) * t - 1.0) * t / 2.0,
                ((3.0 * t - 5.0) * t * t + 2.0) / 2.0,
                (((4.0 - 3.0 * t) * t) + 1.0) * t / 2.0,
                (t - 1.0) * t * t / 2.0,
            ];
            std::array::from_fn(|i| ((first + i as i64).clamp(0, cells as i64 - 1) as usize, weights[i]))
        };
        Self { taps: (0..pixels).map(tap).collect() }
    }
}

fn sample(heat: &[f32], columns: usize, rows_at: &[(usize, f32); 4], columns_at: &[(usize, f32); 4]) -> f32 {
    let line = |row: usize| columns_at.iter().map(|(c, w)| w * heat[row * columns + c]).sum::<f32>();
    rows_at.iter().map(|(r, w)| w * line(*r)).sum::<f32>().clamp(0.0, 1.0)
}

fn colour(value: f32) -> [f32; 3] {
    let at = value * (COLOURS.len() - 1) as f32;
    let i = (at as usize).min(COLOURS.len() - 2);
    let t = at - i as f32;
    std::array::from_fn(|c| COLOURS[i][c] * (1.0 - t) + COLOURS[i + 1][c] * t)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ROLLOUT: View = View { layer: None, head: None };

    /// The definition, with whole matrices.
    fn product(heads: usize, tokens: usize, maps: &[&[f32]]) -> Vec<f32> {
        let mut r: Vec<f32> = (0..tokens * tokens).map(|i| f32::from(i % (tokens + 1) == 0)).collect();
        for map in maps {
            let mut a = vec![0.0; tokens * tokens];
            for h in 0..heads {
                (0..tokens * tokens).for_each(|i| a[i] += map[h * tokens * tokens + i] / heads as f32);
            }
            (0..tokens).for_each(|i| a[i * tokens + i] += 1.0);
            for line in a.chunks_exact_mut(tokens) {
                let sum: f32 = line.iter().sum();
                line.iter_mut().for_each(|x| *x /= sum);
            }
            let mut next = vec![0.0; tokens * tokens];
            for i in 0..tokens {
                for k in 0..tokens {
                    (0..tokens).for_each(|j| next[i * tokens + j] += a[i * tokens + k] * r[k * tokens + j]);
                }
            }
            r = next;
        }
        r
    }

    fn softmaxed(seed: u32, heads: usize, tokens: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 + 0.01
        };
        let mut map: Vec<f32> = (0..heads * tokens * tokens).map(|_| next()).collect();
        for line in map.chunks_exact_mut(tokens) {
            let sum: f32 = line.iter().sum();
            line.iter_mut().for_each(|x| *x /= sum);
        }
        map
    }

    #[test]
    fn the_row_equals_the_product_of_matrices() {
        let (heads, grid) = (3, [2, 3]);
        for (prefix, cls) in [(1, true), (0, false), (5, true)] {
            let tokens = prefix + 6;
            let maps =
                [softmaxed(1, heads, tokens), softmaxed(2, heads, tokens), softmaxed(3, heads, tokens)];
            let maps: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
            let whole = product(heads, tokens, &maps);
            let queries: Vec<usize> = if cls { vec![0] } else { (prefix..tokens).collect() };
            let mut want: Vec<f32> = (prefix..tokens)
                .map(|j| queries.iter().map(|q| whole[q * tokens + j]).sum::<f32>() / queries.len() as f32)
                .collect();
            let low = want.iter().copied().fold(f32::MAX, f32::min);
            let high = want.iter().copied().fold(f32::MIN, f32::max);
            want.iter_mut().for_each(|x| *x = (*x - low) / (high - low));
            let got = heat(ROLLOUT, Layout { prefix, cls, grid }, heads, &maps);
            for (g, w) in got.iter().zip(&want) {
                assert!((g - w).abs() < 1e-4, "{got:?} {want:?}");
            }
        }
    }

    #[test]
    fn one_head_of_one_layer() {
        let (tokens, heads) = (5, 2);
        let map = softmaxed(7, heads, tokens);
        let view = View { layer: Some(1), head: Some(1) };
        assert_eq!(view.layers(3, 2).unwrap(), [1]);
        let got = heat(view, Layout { prefix: 1, cls: true, grid: [2, 2] }, heads, &[&map]);
        let row = &map[tokens * tokens + 1..tokens * tokens + tokens];
        let best = |v: &[f32]| (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b]));
        assert_eq!(best(&got), best(row));
        assert_eq!(View { layer: None, head: Some(0) }.layers(3, 2).unwrap(), [2]);
        assert!(View { layer: Some(3), head: None }.layers(3, 2).is_err());
        assert!(View { layer: None, head: Some(2) }.layers(3, 2).is_err());
    }

    #[test]
    fn the_picture_keeps_its_aspect() {
        let size = |h: usize, w: usize| {
            let bytes =
                png(&vec![128; h * w * 3], [h, w], &[0.0, 0.25, 0.5, 1.0], [2, 2], [h / 2, w / 2]).unwrap();
            image::load_from_memory(&bytes).unwrap().to_rgb8()
        };
        assert_eq!(size(64, 96).dimensions(), (384, 256));
        assert_eq!(size(300, 300).dimensions(), (300, 300));
        let picture = size(64, 64);
        let light = |x, y| picture.get_pixel(x, y).0.iter().map(|&c| u32::from(c)).sum::<u32>();
        assert!(light(0, 0) < light(255, 255), "the most attended corner is the brightest");
        assert!(png(&[0; 5], [2, 2], &[0.0], [1, 1], [2, 2]).is_err());
    }

    #[test]
    fn equal_attention_and_smooth_edges() {
        let flat = [0.25f32; 16];
        let got = heat(ROLLOUT, Layout { prefix: 0, cls: false, grid: [2, 2] }, 1, &[&flat]);
        assert!(got.iter().all(|x| (0.0..=1.0).contains(x)));
        let axis = Axis::new(3, 50, 16.0);
        for taps in &axis.taps {
            assert!((taps.iter().map(|t| t.1).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        assert!(axis.taps[49].iter().all(|t| t.0 == 2 || t.1.abs() < 0.2), "beyond the last patch");
    }
}
