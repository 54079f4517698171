//! Learned position tables fitted to another image size, number for number as PyTorch does.
//!
//! A table trained on one grid of patches serves another by resampling, and the checkpoints'
//! authors mean a particular resampling: `torch.nn.functional.interpolate` with
//! `align_corners=False`. Weights are computed in f32 in the same order as ATen's CPU kernels
//! (`UpSampleKernel.cpp`), so results agree to a few units in the last place. What is not handled:
//! scale factors other than size ratios, and corner alignment.

use crate::graph::PositionFilter;

/// Source index and weight of every tap of every output position along one axis.
type Taps = Vec<Vec<(usize, f32)>>;

/// Resamples `grid`, row-major (rows, columns, channels) of size `from`, to size `to`; sizes are
/// (rows, columns) and none is 0.
pub(crate) fn resample(
    grid: &[f32],
    from: [usize; 2],
    to: [usize; 2],
    channels: usize,
    filter: PositionFilter,
) -> Vec<f32> {
    if from == to {
        // Every filter is the identity at equal size.
        return grid.to_vec();
    }
    let across = taps(filter, from[1], to[1]);
    let down = taps(filter, from[0], to[0]);
    let mut wide = vec![0.0; from[0] * to[1] * channels];
    for (row, out) in wide.chunks_exact_mut(to[1] * channels).enumerate() {
        let row = &grid[row * from[1] * channels..][..from[1] * channels];
        for (cell, taps) in out.chunks_exact_mut(channels).zip(&across) {
            accumulate(cell, taps, row, channels);
        }
    }
    let mut out = vec![0.0; to[0] * to[1] * channels];
    for (row, taps) in out.chunks_exact_mut(to[1] * channels).zip(&down) {
        accumulate(row, taps, &wide, to[1] * channels);
    }
    out
}

/// `cell += Σ weight · source[index]` over rows of `width` elements.
fn accumulate(cell: &mut [f32], taps: &[(usize, f32)], source: &[f32], width: usize) {
    for &(index, weight) in taps {
        for (out, x) in cell.iter_mut().zip(&source[index * width..][..width]) {
            *out += weight * x;
        }
    }
}

fn taps(filter: PositionFilter, from: usize, to: usize) -> Taps {
    let scale = from as f32 / to as f32;
    match filter {
        PositionFilter::Bicubic => (0..to).map(|i| cubic(i, scale, from)).collect(),
        PositionFilter::BicubicAntialias => (0..to).map(|i| antialias(i, scale, from, (2.0, keys))).collect(),
        PositionFilter::Bilinear => (0..to).map(|i| linear(i, scale, from)).collect(),
        PositionFilter::BilinearAntialias => {
            (0..to).map(|i| antialias(i, scale, from, (1.0, tent))).collect()
        }
    }
}

/// ATen `HelperInterpLinear`: the source coordinate is clamped to the first sample.
fn linear(i: usize, scale: f32, from: usize) -> Vec<(usize, f32)> {
    let x = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
    let low = (x as usize).min(from - 1);
    let high = (low + 1).min(from - 1);
    let t = (x - low as f32).clamp(0.0, 1.0);
    vec![(low, 1.0 - t), (high, t)]
}

/// ATen `HelperInterpCubic`: Keys' kernel with a = -0.75, samples beyond the edge repeat it.
fn cubic(i: usize, scale: f32, from: usize) -> Vec<(usize, f32)> {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let x = scale * (i as f32 + 0.5) - 0.5;
    let base = x.floor();
    let t = (x - base).clamp(0.0, 1.0);
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    let clamped = |offset: f32| (base + offset).clamp(0.0, (from - 1) as f32) as usize;
    weights.iter().zip([-1.0, 0.0, 1.0, 2.0]).map(|(&w, offset)| (clamped(offset), w)).collect()
}

/// ATen's cubic kernel with antialias: Keys', a = -0.5.
fn keys(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// ATen's linear kernel with antialias.
fn tent(x: f32) -> f32 {
    (1.0 - x.abs()).max(0.0)
}

/// ATen's interpolation with antialias, by a kernel and how far it reaches: it is stretched when scaling down, cut off
/// at the edges, and normalised.
fn antialias(i: usize, scale: f32, from: usize, (reach, filter): (f32, fn(f32) -> f32)) -> Vec<(usize, f32)> {
    let stretch = scale.max(1.0);
    let support = reach * stretch;
    let center = scale * (i as f32 + 0.5);
    let first = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(from);
    let weights: Vec<f32> =
        (first..end).map(|j| filter((j as f32 - center + 0.5) * (1.0 / stretch))).collect();
    let total: f32 = weights.iter().sum();
    let scaled = weights.iter().map(|w| if total == 0.0 { *w } else { w / total });
    (first..end).zip(scaled).collect()
}

/// Elements of a relative position table for a window (rows, columns) before its heads: one for
/// each displacement, and three for the class token. `None` on overflow.
pub(crate) fn relative_rows(window: [usize; 2]) -> Option<usize> {
    let [h, w] = window;
    let side = |n: usize| n.checked_mul(2)?.checked_sub(1);
    side(h)?.checked_mul(side(w)?)?.checked_add(3)
}

/// Expands BEiT's relative position table ((2h-1)(2w-1)+3, H), trained for the window `from`, to
/// the bias (H, T, T) of the window `to`, T = h·w + 1 with the class token first; `[head, q, k]` is
/// added to the score of query q and key k.
///
/// As transformers' `BeitRelativePositionBias`, including two peculiarities: the displacement part
/// is resampled bilinearly, and it is read as (2w-1, 2h-1) before that, which matters only to
/// models trained on windows that are not square.
pub(crate) fn relative_bias(table: &[f32], from: [usize; 2], to: [usize; 2], heads: usize) -> Vec<f32> {
    let [side_rows, side_columns] = [2 * to[0] - 1, 2 * to[1] - 1];
    let trained = [2 * from[1] - 1, 2 * from[0] - 1];
    let (grid, class) = table.split_at(trained[0] * trained[1] * heads);
    let grid = resample(grid, trained, [side_rows, side_columns], heads, PositionFilter::Bilinear);
    let tokens = to[0] * to[1] + 1;
    let cell = |q: usize, k: usize| match (q.checked_sub(1), k.checked_sub(1)) {
        (None, None) => &class[2 * heads..],
        (None, Some(_)) => &class[..heads],
        (Some(_), None) => &class[heads..2 * heads],
        (Some(q), Some(k)) => {
            let row = q / to[1] + to[0] - 1 - k / to[1];
            let column = q % to[1] + to[1] - 1 - k % to[1];
            &grid[(row * side_columns + column) * heads..]
        }
    };
    let mut out = vec![0.0; heads * tokens * tokens];
    for q in 0..tokens {
        for k in 0..tokens {
            let cell = cell(q, k);
            for head in 0..heads {
                out[(head * tokens + q) * tokens + k] = cell[head];
            }
        }
    }
    out
}
