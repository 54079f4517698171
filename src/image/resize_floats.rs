//! Resizing of pictures that are floats already, as `torchvision.transforms.v2.functional.resize` does it with
//! antialiasing: the weights of [`super::resize`], no rounding and no clipping, rows first. Sums are in f64, what
//! lies between the passes is f32, so that results differ from torch's f32 sums by their rounding only.

use rayon::prelude::*;

use super::resize::{Filter, Window, weights_of};

/// A window of a resized image. `rgb`: (H, W, 3) bytes with `size` = (W, H), of which each stands for a `level`;
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
    let spans = |from: usize, to: usize, first: usize, count: usize| -> Vec<(usize, Vec<f64>)> {
        (first..first + count).map(|position| weights_of(from, to, filter, position)).collect()
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
                let sum: f64 = values.zip(k).map(|(&x, k)| f64::from(levels[usize::from(x)]) * k).sum();
                *out = sum as f32;
            }
        }
    });
    let mut out = vec![0.0f32; line * window.height];
    out.par_chunks_exact_mut(line).zip(&down).for_each(|(out, (start, k))| {
        let mut sums = vec![0.0f64; line];
        for (row, k) in (start - first..).zip(k) {
            let row = &between[row * line..][..line];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * k);
        }
        out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = *sum as f32);
    });
    out
}
