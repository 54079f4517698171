//! Convolution kernels and codebooks as the ops want them: what the recipes of [`crate::graph`] mean
//! in numbers. Everything is computed in f64 and rounded once.

/// Elements of a kernel (O,I,kh,kw), given as rows of `inputs` · `area`, with the channels innermost.
pub(crate) fn taps(data: &[f32], inputs: usize, area: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for row in data.chunks_exact((inputs * area).max(1)) {
        for tap in 0..area {
            out.extend((0..inputs).map(|i| row[i * area + tap]));
        }
    }
    out
}

/// Each row of `width` elements brought to mean 0 and variance 1.
pub(crate) fn standardised(data: &[f32], width: usize, eps: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for row in data.chunks_exact(width.max(1)) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        let square = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
        let inverse = 1.0 / (square + f64::from(eps)).sqrt();
        out.extend(row.iter().map(|&x| ((f64::from(x) - mean) * inverse) as f32));
    }
    out
}

/// Each row of `width` elements divided by its length, which counts as at least 1e-12.
pub(crate) fn unit_rows(data: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for row in data.chunks_exact(width.max(1)) {
        let length = square(row).sqrt().max(1e-12);
        out.extend(row.iter().map(|&x| (f64::from(x) / length) as f32));
    }
    out
}

/// Half of the square of each row's length.
pub(crate) fn half_squares(data: &[f32], width: usize) -> Vec<f32> {
    data.chunks_exact(width.max(1)).map(|row| (square(row) / 2.0) as f32).collect()
}

fn square(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x).powi(2)).sum()
}

/// What a batch norm multiplies each channel by.
fn factor(gain: f32, variance: f32, eps: f32) -> f64 {
    f64::from(gain) / (f64::from(variance) + f64::from(eps)).sqrt()
}

/// Rows of a kernel, one an output channel, multiplied by what the batch norm behind it multiplies.
pub(crate) fn scale_rows(data: &mut [f32], gain: &[f32], variance: &[f32], eps: f32) {
    let width = data.len() / gain.len().max(1);
    for (row, (&gain, &variance)) in data.chunks_exact_mut(width.max(1)).zip(gain.iter().zip(variance)) {
        let factor = factor(gain, variance, eps);
        row.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}

/// What a batch norm adds to each channel.
pub(crate) fn folded_bias([gain, bias, mean, variance]: [&[f32]; 4], eps: f32) -> Vec<f32> {
    let channel =
        |i: usize| (f64::from(bias[i]) - f64::from(mean[i]) * factor(gain[i], variance[i], eps)) as f32;
    (0..gain.len()).map(channel).collect()
}
