//! The angles of rotary positions, as PyTorch computes them: every step in f32, so that far places turn by the
//! angles that a model was trained with, and not by truer ones.

use std::f32::consts::TAU;

use crate::graph::{Places, RotaryTable};

/// Cosine and sine of each pair, place by place: (T·D). References: transformers 5.23,
/// `ModernBertRotaryEmbedding` and `DINOv3ViTRopePositionEmbedding`.
pub(super) fn table(table: &RotaryTable) -> Vec<f32> {
    let RotaryTable { places, width, base } = *table;
    let pairs = width / 2;
    let turns = |angle: f32| [f64::from(angle).cos() as f32, f64::from(angle).sin() as f32];
    match places {
        Places::Line(tokens) => {
            let frequencies = frequencies(pairs, base.get(), |i| (2 * i) as f32 / width as f32);
            let angles = (0..tokens).flat_map(|t| frequencies.iter().map(move |f| t as f32 * f));
            angles.flat_map(turns).collect()
        }
        Places::Grid { prefix, grid: [rows, columns] } => {
            let step = 4.0 / width as f64;
            let frequencies = frequencies(pairs / 2, base.get(), |i| (i as f64 * step) as f32);
            let centre = |i: usize, n: usize| 2.0 * ((i as f32 + 0.5) / n as f32) - 1.0;
            let mut out: Vec<f32> = [1.0, 0.0].repeat(prefix * pairs);
            for place in 0..rows * columns {
                let along = [centre(place / columns, rows), centre(place % columns, columns)];
                let angles = along.iter().flat_map(|x| frequencies.iter().map(move |f| TAU * x * f));
                out.extend(angles.flat_map(turns));
            }
            out
        }
    }
}

/// base^-exponent.
fn frequencies(count: usize, base: f64, exponent: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..count).map(|i| 1.0 / (base as f32).powf(exponent(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_turn_by_their_row_and_column_and_the_prefix_does_not() {
        let places = Places::Grid { prefix: 2, grid: [1, 2] };
        let got = table(&RotaryTable { places, width: 8, base: 100.0.into() });
        assert_eq!(got.len(), (2 + 2) * 8);
        assert_eq!(got[..16], [1.0, 0.0].repeat(8));
        // The only row is at 0; the columns are at -1/2 and 1/2, the frequencies 1 and 1/10.
        for (patch, sign) in [(0, -1.0f64), (1, 1.0)] {
            let half_turn = sign * std::f64::consts::PI;
            let want = [0.0, 0.0, half_turn, half_turn / 10.0].map(|a| [a.cos(), a.sin()]);
            for (got, want) in got[16 + patch * 8..].iter().zip(want.as_flattened()) {
                assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}");
            }
        }
    }

    #[test]
    fn tokens_turn_by_their_place() {
        let got = table(&RotaryTable { places: Places::Line(3), width: 4, base: 10_000.0.into() });
        let want = [0.0f64, 0.0, 1.0, 0.01, 2.0, 0.02].map(|a| [a.cos(), a.sin()]);
        assert_eq!(got.len(), want.as_flattened().len());
        for (got, want) in got.iter().zip(want.as_flattened()) {
            assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}");
        }
    }
}
