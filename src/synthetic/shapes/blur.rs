//! Blur as Pillow's `GaussianBlur` has it: three box blurs, whose ends count in part.

/// Blurs (side, side, 3) in place; what lies outside is as the nearest pixel. `radius`: the deviation of the
/// Gaussian that is approximated, in pixels.
///
/// The three boxes are one kernel here, and nothing is rounded between them: mostly
/// within two levels of Pillow's, a few more at the edges.
pub(super) fn blur(canvas: &mut [[f32; 3]], side: usize, radius: f64) {
    let kernel = kernel(radius);
    let reach = kernel.len() / 2;
    let mut padded = vec![[0.0; 3]; side + 2 * reach];
    for row in canvas.chunks_exact_mut(side) {
        let (first, last) = (row[0], row[side - 1]);
        padded[..reach].fill(first);
        padded[reach..reach + side].copy_from_slice(row);
        padded[reach + side..].fill(last);
        let row = row.as_flattened_mut();
        row.fill(0.0);
        for (shift, weight) in kernel.iter().enumerate() {
            add(row, padded[shift..shift + side].as_flattened(), *weight);
        }
    }
    let across = canvas.to_vec();
    for (y, row) in canvas.chunks_exact_mut(side).enumerate() {
        let row = row.as_flattened_mut();
        row.fill(0.0);
        for (shift, weight) in kernel.iter().enumerate() {
            let source = (y + shift).saturating_sub(reach).min(side - 1) * side;
            add(row, across[source..source + side].as_flattened(), *weight);
        }
    }
}

fn add(sums: &mut [f32], values: &[f32], weight: f32) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
}

/// A box convolved with itself twice. Its width is that of `src/libImaging/BoxBlur.c` in Pillow (after
/// Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box filtering", 2011): three
/// of them have the variance of the Gaussian exactly.
fn kernel(radius: f64) -> Vec<f32> {
    let variance = radius * radius / 3.0;
    let whole = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
    let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
        / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
    let weight = 1.0 / (2.0 * (whole + part) + 1.0);
    let mut one = vec![weight; 2 * whole as usize + 3];
    let last = one.len() - 1;
    (one[0], one[last]) = (part * weight, part * weight);
    let three = convolved(&convolved(&one, &one), &one);
    three.into_iter().map(|weight| weight as f32).collect()
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; a.len() + b.len() - 1];
    for (i, a) in a.iter().enumerate() {
        b.iter().enumerate().for_each(|(k, b)| out[i + k] += a * b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_the_variance_of_their_gaussian() {
        for radius in [0.3, 0.7, 1.0, 1.7, 4.4] {
            let kernel = kernel(radius);
            let middle = (kernel.len() / 2) as f64;
            let sum: f64 = kernel.iter().map(|w| f64::from(*w)).sum();
            let moment = |(i, w): (usize, &f32)| (i as f64 - middle).powi(2) * f64::from(*w);
            let variance: f64 = kernel.iter().enumerate().map(moment).sum();
            assert!(
                (sum - 1.0).abs() < 1e-6 && (variance - radius * radius).abs() < 1e-5,
                "{radius}: {kernel:?}"
            );
        }
    }

    #[test]
    fn a_point_spreads_evenly_and_a_plain_area_stays() {
        let mut plain = vec![[0.25, 0.5, 1.0]; 9 * 9];
        blur(&mut plain, 9, 3.0);
        let off = |pixel: &[f32; 3]| (pixel[0] - 0.25).abs().max((pixel[2] - 1.0).abs());
        assert!(plain.iter().all(|pixel| off(pixel) < 1e-6));
        let mut point = vec![[0.0; 3]; 21 * 21];
        point[10 * 21 + 10] = [1.0; 3];
        blur(&mut point, 21, 1.0);
        let at = |x: usize, y: usize| point[y * 21 + x][1];
        assert!((at(8, 10) - at(12, 10)).abs() < 1e-7 && (at(8, 10) - at(10, 8)).abs() < 1e-7);
        // The Gaussian's peak is 1 / (2 pi).
        assert!((at(10, 10) - 0.159).abs() < 0.02, "{}", at(10, 10));
        assert!((point.iter().map(|p| p[0]).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
