//! Features of patches as colours: their three leading principal components (Pearson 1901), each stretched to
//! the range of a colour. Patches of all images share one basis, so that a colour means the same in all.
//! The basis is found by subspace iteration with more vectors than are wanted, then within that subspace by
//! Jacobi's rotations: no covariance matrix, sums in f64 and in order, so that the same features give the same
//! colours. Of its two signs a component has the one that makes its largest entry positive.

use crate::error::{Error, Result};
use crate::random::Random;

/// Vectors of the iteration.
const BLOCK: usize = 8;
/// Colours: components that are shown.
const SHOWN: usize = 3;
/// What differs by less than this share of the largest feature differs by rounding.
const ROUNDING: f64 = 1e-7;
/// Most steps of the iteration, and the change of the sum of variances at which it ends.
const STEPS: usize = 60;
const SETTLED: f64 = 1e-9;

/// Red, green and blue of each patch of each image. `images`: (N,C) each, rows of `width` numbers.
///
/// # Errors
/// [`Error::Usage`] for rows of another width, [`Error::NonFinite`] for features that are not numbers.
pub fn colours(images: &[Vec<f32>], width: usize) -> Result<Vec<Vec<[u8; 3]>>> {
    if width == 0 || images.iter().any(|image| image.len() % width != 0) {
        return Err(Error::usage(format!("the features are no rows of {width}"), "pass whole patches"));
    }
    let total = images.iter().map(Vec::len).sum();
    let count = images.iter().flatten().filter(|x| !x.is_finite()).count();
    if count > 0 {
        return Err(Error::NonFinite { what: "features of patches".to_owned(), count, total });
    }
    let rows: Vec<&[f32]> = images.iter().flat_map(|image| image.chunks(width)).collect();
    let components = components(&rows, width);
    let scores: Vec<[f64; SHOWN]> = projected(&rows, &components);
    let range = |c: usize| {
        let values = scores.iter().map(|s| s[c]);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let ranges: [(f64, f64); SHOWN] = std::array::from_fn(range);
    // A component in which nothing differs is grey.
    let largest = images.iter().flatten().fold(0.0f32, |most, x| most.max(x.abs()));
    let least = ROUNDING * f64::from(largest);
    let byte = |x: f64, (low, high): (f64, f64)| match high - low > least {
        true => ((x - low) / (high - low) * 255.0).round() as u8,
        false => 128,
    };
    let mut all = scores.iter().map(|s| std::array::from_fn(|c| byte(s[c], ranges[c])));
    Ok(images.iter().map(|image| all.by_ref().take(image.len() / width).collect()).collect())
}

/// The rows about their mean, along the leading components.
fn projected(rows: &[&[f32]], components: &Components) -> Vec<[f64; SHOWN]> {
    let along = |row: &&[f32], c: usize| -> f64 {
        let Some(direction) = components.directions.get(c) else { return 0.0 };
        let parts = row.iter().zip(&components.mean).zip(direction);
        parts.map(|((x, mean), d)| (f64::from(*x) - mean) * d).sum()
    };
    rows.iter().map(|row| std::array::from_fn(|c| along(row, c))).collect()
}

struct Components {
    mean: Vec<f64>,
    /// Of length 1 and at right angles, the one of most variance first.
    directions: Vec<Vec<f64>>,
}

fn components(rows: &[&[f32]], width: usize) -> Components {
    let n = rows.len().max(1) as f64;
    let mut mean = vec![0.0; width];
    for row in rows {
        mean.iter_mut().zip(*row).for_each(|(mean, x)| *mean += f64::from(*x) / n);
    }
    let mut random = Random::named(0, "principal components");
    let mut basis: Vec<Vec<f64>> =
        (0..BLOCK.min(width)).map(|_| (0..width).map(|_| random.uniform(-1.0, 1.0)).collect()).collect();
    orthonormalise(&mut basis);
    let mut before = 0.0;
    let mut centred = vec![0.0; width];
    for _ in 0..STEPS {
        let mut next = vec![vec![0.0; width]; basis.len()];
        let mut variance = 0.0;
        for row in rows {
            centred.iter_mut().zip(*row).zip(&mean).for_each(|((c, x), mean)| *c = f64::from(*x) - mean);
            for (direction, next) in basis.iter().zip(&mut next) {
                let score = dot(&centred, direction);
                variance += score * score;
                add(next, score, &centred);
            }
        }
        basis = next;
        orthonormalise(&mut basis);
        if (variance - before).abs() <= SETTLED * variance {
            break;
        }
        before = variance;
    }
    // Covariance within the subspace.
    let size = basis.len();
    let mut matrix = vec![vec![0.0; size]; size];
    for row in rows {
        centred.iter_mut().zip(*row).zip(&mean).for_each(|((c, x), mean)| *c = f64::from(*x) - mean);
        let scores: Vec<f64> = basis.iter().map(|direction| dot(&centred, direction)).collect();
        for (i, a) in scores.iter().enumerate() {
            add(&mut matrix[i], *a, &scores);
        }
    }
    let turned = diagonalise(&mut matrix);
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| matrix[b][b].total_cmp(&matrix[a][a]));
    let direction = |k: &usize| {
        let mut out = vec![0.0; width];
        basis.iter().enumerate().for_each(|(i, vector)| add(&mut out, turned[i][*k], vector));
        let largest = out.iter().copied().fold(0.0f64, |most, x| if x.abs() > most.abs() { x } else { most });
        if largest < 0.0 {
            out.iter_mut().for_each(|x| *x = -*x);
        }
        out
    };
    let directions = order.iter().take(SHOWN).map(direction).collect();
    Components { mean, directions }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// sum += factor·row
fn add(sum: &mut [f64], factor: f64, row: &[f64]) {
    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
}

/// Gram and Schmidt, twice, since once loses what is left of nearly equal vectors. What is in the span of those
/// before it becomes 0.
fn orthonormalise(basis: &mut [Vec<f64>]) {
    for i in 0..basis.len() {
        let (before, rest) = basis.split_at_mut(i);
        let Some(vector) = rest.first_mut() else { return };
        let length = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in &*before {
                let along = dot(vector, other);
                add(vector, -along, other);
            }
        }
        let left = dot(vector, vector).sqrt();
        let factor = if left > 1e-12 * length { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Jacobi's rotations of a symmetric matrix, which becomes diagonal; returns the rotation, whose columns are the
/// eigenvectors.
fn diagonalise(matrix: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let n = matrix.len();
    let mut turned: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                let off = matrix[p][q];
                if off == 0.0 {
                    continue;
                }
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * off);
                let t = 1.0f64.copysign(theta) / (theta.abs() + (theta * theta + 1.0).sqrt());
                let (c, s) = (1.0 / (t * t + 1.0).sqrt(), t / (t * t + 1.0).sqrt());
                for row in matrix.iter_mut().chain(&mut turned) {
                    let (a, b) = (row[p], row[q]);
                    (row[p], row[q]) = (c * a - s * b, s * a + c * b);
                }
                let (upper, lower) = matrix.split_at_mut(q);
                for (a, b) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that vary most along (3,4,0,0)/5, less along the third axis, least along the fourth.
    fn rows(n: usize) -> Vec<f32> {
        let mut random = Random::new(5);
        let mut row = || {
            let [a, b, c] = [9.0, 3.0, 1.0].map(|size| random.uniform(-size, size));
            [0.6 * a + 2.0, 0.8 * a, b, c - 7.0].map(|x| x as f32)
        };
        (0..n).flat_map(|_| row()).collect()
    }

    #[test]
    fn components_are_found_in_order() {
        let rows = rows(400);
        let rows: Vec<&[f32]> = rows.chunks(4).collect();
        let found = components(&rows, 4);
        let want = [[0.6, 0.8, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        for (got, want) in found.directions.iter().zip(want) {
            let along: f64 = dot(got, &want);
            assert!(along > 0.99, "{got:?} is not {want:?}");
        }
        for (i, a) in found.directions.iter().enumerate() {
            for (j, b) in found.directions.iter().enumerate() {
                let product = dot(a, b);
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9, "{i} {j}: {product}");
            }
        }
    }

    #[test]
    fn colours_are_shared_stretched_and_the_same_each_time() {
        let all = rows(90);
        let (one, two) = all.split_at(40 * 4);
        let split = colours(&[one.to_vec(), two.to_vec()], 4).expect("numbers");
        assert_eq!([split[0].len(), split[1].len()], [40, 50]);
        let whole = colours(std::slice::from_ref(&all), 4).expect("numbers");
        assert_eq!(split.concat(), whole[0]);
        for c in 0..3 {
            let values = || whole[0].iter().map(|colour| colour[c]);
            assert_eq!((values().min(), values().max()), (Some(0), Some(255)));
        }
        // The larger, the brighter, since the first component is positive.
        let brightest = (0..90).max_by_key(|&i| whole[0][i][0]).expect("some");
        assert!((0..90).all(|i| all[i * 4] <= all[brightest * 4] + 1.0));
    }

    #[test]
    fn what_does_not_differ_is_grey_and_what_is_no_number_is_refused() {
        let grey = colours(&[vec![1.5; 12]], 4).expect("numbers");
        assert_eq!(grey, [vec![[128; 3]; 3]]);
        // Of fewer numbers than colours.
        let two = colours(&[vec![0.0, 1.0, 2.0]], 1).expect("numbers");
        assert_eq!(two, [vec![[0, 128, 128], [128, 128, 128], [255, 128, 128]]]);
        assert!(matches!(colours(&[vec![f32::NAN; 4]], 4), Err(Error::NonFinite { count: 4, .. })));
        assert!(matches!(colours(&[vec![0.0; 5]], 4), Err(Error::Usage { .. })));
    }
}
