//! Resizing RGB8 images to the byte as Pillow does it, because checkpoints were
//! trained on Pillow's pixels and a different resampler moves logits.
//!
//! The algorithm is Pillow's `src/libImaging/Resample.c` (MIT-CMU licence, © 1997-2011 Secret
//! Labs AB, © 1995-2011 Fredrik Lundh and contributors, © 2010 Jeffrey A. Clark and
//! contributors), written anew here: the filter's support grows with the reduction (antialias),
//! coefficients are computed in f64, normalised, and rounded to fixed point; each of the two
//! passes sums in i32, adds half, shifts, and clips to a byte, so what lies between the passes
//! is bytes too. Pillow changed the order of the passes in 13.0 and both orders are kept
//! ([`PillowCompat`]). torchvision's native uint8 kernel is the same algorithm with 16-bit
//! coefficients ([`Resampler::Torch`]).
//!
//! Only a window of the resized image is computed ([`resize_window`]): a centre crop of a
//! 10000x1 image resized to short side 224 would otherwise pass through 2.2 million columns.
//!
//! It refuses nothing and allocates what the sizes say; limits on sizes are the callers' part
//! ([`crate::image`] for inputs, [`crate::image::preprocess`] for outputs).

use std::ops::Range;

use rayon::prelude::*;

/// Resampling filters, with the codes that Pillow and `preprocessor_config.json` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Code 0: the one nearest pixel, no antialias.
    Nearest,
    /// Code 1: windowed sinc, support 3.
    Lanczos,
    /// Code 2: triangle, support 1.
    Bilinear,
    /// Code 3: cubic convolution with a = -0.5, support 2.
    Bicubic,
    /// Code 4: mean of the covered pixels, support 0.5.
    Box,
    /// Code 5: Hamming-windowed sinc, support 1.
    Hamming,
}

impl Filter {
    /// All filters, in the order of their codes.
    pub const ALL: [Filter; 6] =
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming];

    /// The filter of a Pillow code (`"resample": 3`), if there is one.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The filter of a timm name (`"interpolation": "bicubic"`), if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// Lower-case name, as timm and Pillow spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Lanczos => "lanczos",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Box => "box",
            Self::Hamming => "hamming",
        }
    }

    /// Half-width of the filter at scale 1, in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// Weight at distance `x` (in pixels at scale 1).
    fn weight(self, x: f64) -> f64 {
        use std::f64::consts::PI;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let a = x.abs();
        match self {
            Self::Nearest => 0.0,
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear if a < 1.0 => 1.0 - a,
            Self::Hamming if a == 0.0 => 1.0,
            // The constants are C floats that were promoted to double.
            Self::Hamming if a < 1.0 => {
                (a * PI).sin() / (a * PI) * (f64::from(0.54f32) + f64::from(0.46f32) * (a * PI).cos())
            }
            Self::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Self::Bicubic if a < 2.0 => (((a - 5.0) * a + 8.0) * a - 4.0) * -0.5,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Which Pillow decides whether rows or columns are resized first. The results differ by a few
/// levels, in about a fifth of the bytes of portrait photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PillowCompat {
    /// Pillow up to 12: horizontal pass first (12.3: unless height > 100 x width).
    V12,
    /// Pillow 13: vertical pass first iff it removes more than twice as many lines.
    #[default]
    V13,
}

/// Whose arithmetic to reproduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resampler {
    /// `PIL.Image.resize`: bit-exact.
    Pillow(PillowCompat),
    /// `torchvision.transforms.v2.functional.resize` of a uint8 tensor on an x86-64 CPU with
    /// AVX2: nearest (exact), bilinear, bicubic and lanczos; box and hamming, which it lacks,
    /// are Pillow's. On an image so tall that the horizontal pass would need more than 1 GiB
    /// the vertical pass comes first.
    Torch,
}

/// A rectangle of the resized image, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

/// Resizes a whole image. `rgb`: (H, W, 3) bytes with `size` = (W, H); returns (OH, OW, 3) bytes
/// for `to` = (OW, OH).
///
/// # Panics
/// As [`resize_window`].
pub fn resize(
    rgb: &[u8],
    size: (usize, usize),
    to: (usize, usize),
    filter: Filter,
    resampler: Resampler,
) -> Vec<u8> {
    resize_window(rgb, size, to, Window { x: 0, y: 0, width: to.0, height: to.1 }, filter, resampler)
}

/// Resizes an image and returns a window of the result, bit-equal to cutting it out afterwards.
/// `rgb`: (H, W, 3) bytes with `size` = (W, H); `to` = (OW, OH) is the size of the whole resized
/// image; returns (window.height, window.width, 3) bytes.
///
/// # Panics
/// If a side is zero, `rgb` does not hold `size`, or the window does not lie inside `to`.
pub fn resize_window(
    rgb: &[u8],
    size: (usize, usize),
    to: (usize, usize),
    window: Window,
    filter: Filter,
    resampler: Resampler,
) -> Vec<u8> {
    let ((w, h), (ow, oh)) = (size, to);
    assert!(w > 0 && h > 0 && ow > 0 && oh > 0, "resize of {w}x{h} to {ow}x{oh}");
    assert_eq!(rgb.len(), w * h * 3, "bytes of a {w}x{h} RGB image");
    assert!(window.x + window.width <= ow && window.y + window.height <= oh, "{window:?} in {ow}x{oh}");
    let columns = window.x..window.x + window.width;
    let rows = window.y..window.y + window.height;
    if size == to {
        return cut(rgb, w, columns, rows);
    }
    if filter == Filter::Nearest {
        let small = ow + oh <= 128;
        let (xs, ys) = (nearest(w, ow, resampler, small), nearest(h, oh, resampler, small));
        return pick(rgb, w, &xs[columns], &ys[rows]);
    }
    let across = (w != ow).then(|| Axis::new(w, ow, columns.clone(), filter, resampler));
    let down = (h != oh).then(|| Axis::new(h, oh, rows.clone(), filter, resampler));
    match (across, down) {
        (Some(across), Some(down)) if vertical_first(size, to, window.width, resampler) => {
            // Only the source columns that the horizontal pass will read.
            let used = across.used();
            horizontal(&vertical(rgb, w, used.clone(), &down), used.len(), &across.shifted(used.start))
        }
        (Some(across), Some(down)) => {
            let used = down.used();
            let between = horizontal(&rgb[used.start * w * 3..used.end * w * 3], w, &across);
            vertical(&between, window.width, 0..window.width, &down.shifted(used.start))
        }
        (Some(across), None) => horizontal(&rgb[rows.start * w * 3..rows.end * w * 3], w, &across),
        (None, Some(down)) => vertical(rgb, w, columns, &down),
        (None, None) => unreachable!("equal sizes returned above"),
    }
}

/// Copies columns and rows out of a (H, W, 3) image.
fn cut(rgb: &[u8], width: usize, columns: Range<usize>, rows: Range<usize>) -> Vec<u8> {
    let mut out = Vec::with_capacity(columns.len() * rows.len() * 3);
    for y in rows {
        out.extend_from_slice(&rgb[(y * width + columns.start) * 3..(y * width + columns.end) * 3]);
    }
    out
}

/// Whether the columns are resized before the rows.
fn vertical_first(
    (w, h): (usize, usize),
    (ow, oh): (usize, usize),
    columns: usize,
    resampler: Resampler,
) -> bool {
    match resampler {
        Resampler::Pillow(PillowCompat::V12) => h / 100 > w || (h / 100 == w && h % 100 > 0),
        Resampler::Pillow(PillowCompat::V13) => {
            let (fewer_rows, fewer_columns) = (h as i64 - oh as i64, w as i64 - ow as i64);
            fewer_rows > 0 && fewer_rows > 2 * fewer_columns
        }
        Resampler::Torch => h.saturating_mul(columns * 3) > 1 << 30,
    }
}

/// Fixed-point coefficients of one axis, for a range of its output positions.
struct Axis {
    /// First source position and number of coefficients, per output position.
    spans: Vec<(usize, usize)>,
    /// `stride` coefficients per output position, the unused ones zero.
    weights: Vec<i32>,
    stride: usize,
    /// Binary digits after the point.
    bits: u32,
}

impl Axis {
    fn new(from: usize, to: usize, range: Range<usize>, filter: Filter, resampler: Resampler) -> Self {
        let torch = resampler == Resampler::Torch && !matches!(filter, Filter::Box | Filter::Hamming);
        let scale = from as f64 / to as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let inverse = 1.0 / filter_scale;
        let taps = |position: usize| {
            let center = (position as f64 + 0.5) * scale;
            // Truncation towards zero after adding half, as C casts do.
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            (start, (start..end).map(move |x| filter.weight((x as f64 - center + 0.5) * inverse)))
        };
        let row = |position: usize| {
            let (start, k) = taps(position);
            let mut k: Vec<f64> = k.collect();
            let sum: f64 = k.iter().sum();
            if sum != 0.0 {
                k.iter_mut().for_each(|k| *k /= sum);
            }
            (start, k)
        };
        // The largest weight of `row`, or 0, found without storing it.
        let largest = |position: usize| {
            let (mut sum, mut low, mut high) = (0.0, 0.0f64, 0.0f64);
            for k in taps(position).1 {
                (sum, low, high) = (sum + k, low.min(k), high.max(k));
            }
            if sum == 0.0 { high } else { (high / sum).max(low / sum) }
        };
        // Pillow has 32 - 8 - 2 bits; torch as many as keep the largest weight of all output
        // positions below 2^15.
        let bits = if torch {
            let largest = (0..to).into_par_iter().map(largest).reduce(|| 0.0, f64::max);
            (0..22).find(|b| (0.5 + largest * f64::from(2 << b)) as i32 >= 1 << 15).unwrap_or(22)
        } else {
            22
        };
        let one = f64::from(1 << bits);
        let mut spans = Vec::with_capacity(range.len());
        let mut weights = vec![0; range.len() * stride];
        for (position, out) in range.zip(weights.chunks_exact_mut(stride)) {
            let (start, k) = row(position);
            for (out, k) in out.iter_mut().zip(&k) {
                *out = (k * one + 0.5f64.copysign(*k)) as i32;
            }
            spans.push((start, k.len().min(stride)));
        }
        Self { spans, weights, stride, bits }
    }

    /// The source positions that any output position reads.
    fn used(&self) -> Range<usize> {
        let start = self.spans.iter().map(|s| s.0).min().unwrap_or(0);
        let end = self.spans.iter().map(|s| s.0 + s.1).max().unwrap_or(0);
        start..end.max(start)
    }

    /// The same coefficients for a source of which the first `by` positions were cut off.
    fn shifted(mut self, by: usize) -> Self {
        self.spans.iter_mut().for_each(|s| s.0 -= by);
        self
    }

    fn coefficients(&self, position: usize) -> &[i32] {
        &self.weights[position * self.stride..][..self.spans[position].1]
    }

    fn half(&self) -> i32 {
        if self.bits == 0 { 0 } else { 1 << (self.bits - 1) }
    }

    fn clip(&self, sum: i32) -> u8 {
        (sum >> self.bits).clamp(0, 255) as u8
    }
}

/// Resizes along the rows: (H, W, 3) to (H, OW, 3).
fn horizontal(rgb: &[u8], width: usize, axis: &Axis) -> Vec<u8> {
    let out_width = axis.spans.len();
    let mut out = vec![0; rgb.len() / (width * 3) * out_width * 3];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_exact_mut(out_width * 3).zip(rgb.par_chunks_exact(width * 3)).for_each(|(out, row)| {
        for (x, out) in out.chunks_exact_mut(3).enumerate() {
            let (start, length) = axis.spans[x];
            let mut sum = [axis.half(); 3];
            let pixels = row[start * 3..(start + length) * 3].chunks_exact(3);
            for (pixel, &k) in pixels.zip(axis.coefficients(x)) {
                for c in 0..3 {
                    sum[c] = sum[c].wrapping_add(i32::from(pixel[c]).wrapping_mul(k));
                }
            }
            for c in 0..3 {
                out[c] = axis.clip(sum[c]);
            }
        }
    });
    out
}

/// Resizes some columns along their height: (H, W, 3) to (OH, columns, 3).
fn vertical(rgb: &[u8], width: usize, columns: Range<usize>, axis: &Axis) -> Vec<u8> {
    let line = columns.len() * 3;
    let mut out = vec![0; line * axis.spans.len()];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_exact_mut(line).enumerate().for_each_init(
        || vec![0; line],
        |sums, (y, out)| {
            sums.fill(axis.half());
            for (row, &k) in (axis.spans[y].0..).zip(axis.coefficients(y)) {
                let row = &rgb[(row * width + columns.start) * 3..][..line];
                for (sum, &byte) in sums.iter_mut().zip(row) {
                    *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(k));
                }
            }
            for (out, &sum) in out.iter_mut().zip(sums.iter()) {
                *out = axis.clip(sum);
            }
        },
    );
    out
}

/// The source position of every output position. Pillow adds up steps in f64 (and leaves what
/// falls outside black: `None`); torch multiplies, and rounds differently in the kernel that it
/// uses for `small` results (OW + OH up to 128).
fn nearest(from: usize, to: usize, resampler: Resampler, small: bool) -> Vec<Option<usize>> {
    match resampler {
        Resampler::Pillow(_) => {
            let step = from as f64 / to as f64;
            let mut at = step * 0.5;
            let mut next = || {
                let position = at as usize;
                at += step;
                (position < from).then_some(position)
            };
            (0..to).map(|_| next()).collect()
        }
        Resampler::Torch => {
            let scale = from as f32 / to as f32;
            let at = |i: usize| match small {
                true => ((i as f64 + 0.5) * f64::from(scale)) as f32,
                false => scale.mul_add(i as f32 + 0.5, -0.5).max(0.0) + 0.5,
            };
            (0..to).map(|i| Some((at(i) as usize).min(from - 1))).collect()
        }
    }
}

/// Gathers pixels; `None` is black.
fn pick(rgb: &[u8], width: usize, xs: &[Option<usize>], ys: &[Option<usize>]) -> Vec<u8> {
    let mut out = vec![0; xs.len() * ys.len() * 3];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_exact_mut(xs.len() * 3).zip(ys).for_each(|(out, y)| {
        let Some(y) = y else { return };
        for (out, x) in out.chunks_exact_mut(3).zip(xs) {
            if let Some(x) = x {
                out.copy_from_slice(&rgb[(y * width + x) * 3..][..3]);
            }
        }
    });
    out
}
