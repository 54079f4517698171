//! Resizing of pictures that are floats already, as `torchvision.transforms.v2.functional.resize` does it with
//! antialiasing, bilinear or bicubic: no rounding and no clipping, rows first. Weights are found by the f32
//! arithmetic of PyTorch's `aten/src/ATen/native/cpu/UpSampleKernel.cpp`, whose rounding moves them by more than
//! that of the sums; these are in f64.

use rayon::prelude::*;

use super::resize::{Filter, Window};

/// A window of a resized image. `rgb`: (H, W, 3) bytes with `size` = (W, H), of which each stands for its of the `levels`;
/// `to` = (OW, OH) is the size of the whole resized image; returns (window.height, window.width, 3).
///
/// # Panics
/// If a side is zero, `rgb` does not hold `size`, or the window does not lie inside `to`.
pub(super) fn resize_window(
    rgb: &[u8],
    size: (usize, usize),
    to: (usize, usize),
    window: Window,
    filter: Filter,
    levels: &[f32; 256],
) -> Vec<f32> {
    let ((w, h), (ow, oh)) = (size, to);
    assert!(w > 0 && h > 0 && ow > 0 && oh > 0, "resize of {w}x{h} to {ow}x{oh}");
    assert_eq!(rgb.len(), w * h * 3, "bytes of a {w}x{h} RGB image");
    assert!(window.x + window.width <= ow && window.y + window.height <= oh, "{window:?} in {ow}x{oh}");
    let spans = |from: usize, to: usize, first: usize, count: usize| -> Vec<(usize, Vec<f32>)> {
        (first..first + count).map(|position| weights(from, to, filter, position)).collect()
    };
    let (across, down) = (spans(w, ow, window.x, window.width), spans(h, oh, window.y, window.height));
    // Only the source rows that the vertical pass will read.
    let first = down.iter().map(|(start, _)| *start).min().unwrap_or(0);
    let last = down.iter().map(|(start, k)| start + k.len()).max().unwrap_or(0);
    let line = window.width * 3;
    let mut between = vec![0.0f32; line * (last - first)];
    if between.is_empty() {
        return Vec::new();
    }
    between.par_chunks_exact_mut(line).enumerate().for_each(|(row, out)| {
        let pixels = &rgb[(first + row) * w * 3..][..w * 3];
        for (out, (start, k)) in out.chunks_exact_mut(3).zip(&across) {
            for (c, out) in out.iter_mut().enumerate() {
                let values = pixels[start * 3 + c..].iter().step_by(3);
                let sum: f64 =
                    values.zip(k).map(|(&x, &k)| f64::from(levels[usize::from(x)]) * f64::from(k)).sum();
                *out = sum as f32;
            }
        }
    });
    let mut out = vec![0.0f32; line * window.height];
    out.par_chunks_exact_mut(line).zip(&down).for_each(|(out, (start, k))| {
        let mut sums = vec![0.0f64; line];
        for (row, &k) in (start - first..).zip(k) {
            let row = &between[row * line..][..line];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(k));
        }
        out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = *sum as f32);
    });
    out
}

/// First source position of an output position, and the weights from there on, which add up to 1.
fn weights(from: usize, to: usize, filter: Filter, position: usize) -> (usize, Vec<f32>) {
    let scale = from as f32 / to as f32;
    let reach = if filter == Filter::Bicubic { 2.0 } else { 1.0 };
    let (support, inverse) = if scale >= 1.0 { (reach * scale, 1.0 / scale) } else { (reach, 1.0) };
    let center = (f64::from(scale) * (position as f64 + 0.5)) as f32;
    // Truncation towards zero after adding half, as C casts do.
    let start = (f64::from(center - support) + 0.5).max(0.0) as usize;
    let end = ((f64::from(center + support) + 0.5) as usize).min(from);
    let at = |x: usize| ((f64::from(x as f32 - center) + 0.5) * f64::from(inverse)) as f32;
    let mut k: Vec<f32> = (start..end).map(|x| weight(filter, at(x))).collect();
    let sum: f32 = k.iter().sum();
    if sum != 0.0 {
        k.iter_mut().for_each(|k| *k /= sum);
    }
    (start, k)
}

/// Weight at a distance in pixels at scale 1.
fn weight(filter: Filter, x: f32) -> f32 {
    let (x, a) = (x.abs(), -0.5f32);
    match filter {
        Filter::Bicubic if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        Filter::Bicubic => 0.0,
        _ => (1.0 - x).max(0.0),
    }
}
