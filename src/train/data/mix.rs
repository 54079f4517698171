//! Images of a batch mixed in pairs: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as timm's `Mixup` has
//! them for whole batches: the first image with the last, one share for all.

use crate::random::Random;
use crate::tensor::Size;

/// How images are mixed; nothing is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Mix {
    /// Alpha of mixup: shares are drawn from Beta(alpha, alpha).
    pub mixup: f64,
    /// Alpha of CutMix. Where both are asked for, each has its turn by a coin.
    pub cutmix: f64,
}

/// Mixes each image (H,W,3) of a batch with its partner, the one as far from the end as itself from the beginning.
/// Returns the own share of each image.
pub(super) fn mix(wanted: Mix, pixels: &mut [u8], size: Size, random: &mut Random) -> f32 {
    let cut = match wanted {
        Mix { mixup, cutmix } if mixup > 0.0 && cutmix > 0.0 => random.chance(0.5),
        Mix { mixup, cutmix } if mixup > 0.0 || cutmix > 0.0 => cutmix > 0.0,
        _ => return 1.0,
    };
    let alpha = if cut { wanted.cutmix } else { wanted.mixup };
    let share = beta(alpha, random);
    let bytes = size.width * size.height * 3;
    let count = pixels.len() / bytes;
    let whole = pixels.to_vec();
    let partner = |i: usize| &whole[(count - 1 - i) * bytes..][..bytes];
    if !cut {
        for (i, image) in pixels.chunks_mut(bytes).enumerate() {
            for (byte, other) in image.iter_mut().zip(partner(i)) {
                *byte = (f64::from(*byte) * share + f64::from(*other) * (1.0 - share)).round() as u8;
            }
        }
        return share as f32;
    }
    let side = |length: usize, random: &mut Random| {
        let half = ((1.0 - share).sqrt() * length as f64 / 2.0) as usize;
        let middle = random.below(length);
        middle.saturating_sub(half)..(middle + half).min(length)
    };
    let (rows, columns) = (side(size.height, random), side(size.width, random));
    for (i, image) in pixels.chunks_mut(bytes).enumerate() {
        for row in rows.clone() {
            let part = (row * size.width + columns.start) * 3..(row * size.width + columns.end) * 3;
            image[part.clone()].copy_from_slice(&partner(i)[part]);
        }
    }
    1.0 - (rows.len() * columns.len()) as f32 / (size.width * size.height) as f32
}

/// A number of Beta(alpha, alpha), by two of Gamma(alpha).
fn beta(alpha: f64, random: &mut Random) -> f64 {
    let [a, b] = [gamma(alpha, random), gamma(alpha, random)];
    if a + b > 0.0 { a / (a + b) } else { 0.5 }
}

/// A number of Gamma(alpha, 1) (Marsaglia & Tsang 2000).
fn gamma(alpha: f64, random: &mut Random) -> f64 {
    if alpha < 1.0 {
        let raised = gamma(alpha + 1.0, random);
        return raised * random.unit().powf(1.0 / alpha);
    }
    let d = alpha - 1.0 / 3.0;
    let c = (9.0 * d).sqrt().recip();
    loop {
        let x = random.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - random.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_distribution() {
        for alpha in [0.2, 0.8, 1.0, 4.0] {
            let mut random = Random::new(3);
            let drawn: Vec<f64> = (0..20_000).map(|_| beta(alpha, &mut random)).collect();
            let mean = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
            let want = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!(
                (mean - 0.5).abs() < 0.01 && (variance / want - 1.0).abs() < 0.05,
                "{alpha}: {mean} {variance}"
            );
        }
    }

    #[test]
    fn the_share_is_what_is_left_of_the_own_image() {
        let size = Size::new(8, 12);
        let bytes = 8 * 12 * 3;
        let whole: Vec<u8> = (0..3 * bytes).map(|i| [0, 100, 200][i / bytes]).collect();
        for seed in 0..50 {
            let mut pixels = whole.clone();
            let share = mix(Mix { cutmix: 1.0, ..Mix::default() }, &mut pixels, size, &mut Random::new(seed));
            let own = pixels[..bytes].iter().filter(|byte| **byte == 0).count() as f32 / bytes as f32;
            assert!((own - share).abs() < 1e-6, "{own} {share}");
            assert!(
                pixels[bytes..2 * bytes].iter().all(|byte| *byte == 100),
                "the middle one is its own partner"
            );
            let mut pixels = whole.clone();
            let share = mix(Mix { mixup: 0.8, ..Mix::default() }, &mut pixels, size, &mut Random::new(seed));
            assert_eq!(f32::from(pixels[0]), (200.0 * (1.0 - share)).round());
        }
        let mut pixels = whole.clone();
        assert_eq!(mix(Mix::default(), &mut pixels, size, &mut Random::new(1)), 1.0);
        assert_eq!(pixels, whole);
    }
}
