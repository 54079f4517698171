//! Random numbers that are the same on every machine: splitmix64 (Steele, Lea & Flood 2014, "Fast Splittable
//! Pseudorandom Number Generators"). A generator is made of several numbers at once (seed, epoch, image), so
//! that no sample depends on how many were drawn before it.

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of these numbers, in this order.
    pub fn of(keys: &[u64]) -> Self {
        Self { state: keys.iter().fold(0, |state, key| mixed(state.wrapping_add(GOLDEN) ^ mixed(*key))) }
    }

    /// The stream of a seed and a name.
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self::of(&[seed, hash])
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mixed(self.state)
    }

    /// A number of [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number below `n`; 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A whole number of a range, both ends included.
    pub fn integer(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number of the normal distribution of mean 0 and deviation 1 (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// Two numbers of that distribution, of 24 bits each.
    pub fn normals(&mut self) -> [f32; 2] {
        let bits = self.bits();
        let scale = (0.5f32).powi(24);
        // Of (0, 1]: zero has no logarithm.
        let (u, v) = (((bits >> 40) + 1) as f32 * scale, (bits & 0xff_ffff) as f32 * scale);
        let (radius, (sine, cosine)) = ((-2.0 * u.ln()).sqrt(), (TAU as f32 * v).sin_cos());
        [radius * cosine, radius * sine]
    }

    /// Changes the order of a list (Fisher & Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for left in (2..=list.len()).rev() {
            list.swap(left - 1, self.below(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_numbers_come_out() {
        // The first outputs of Vigna's splitmix64.c from state 1234567.
        let mut random = Random::new(1_234_567);
        let want = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.bits(), random.bits(), random.bits()], want);
    }

    #[test]
    fn streams_repeat_and_differ() {
        let first = |keys: &[u64]| Random::of(keys).bits();
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        let all = [first(&[1, 2]), first(&[2, 1]), first(&[1]), first(&[1, 2, 0]), first(&[0])];
        assert!((0..5).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
        assert_ne!(Random::named(1, "a").bits(), Random::named(1, "b").bits());
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::of(&[7]);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let normal: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let squares: Vec<f64> = normal.iter().map(|x| x * x).collect();
        assert!(mean(&normal).abs() < 0.03 && (mean(&squares) - 1.0).abs() < 0.04);
        let unit: Vec<f64> = (0..20_000).map(|_| random.uniform(2.0, 4.0)).collect();
        assert!((mean(&unit) - 3.0).abs() < 0.02 && unit.iter().all(|x| (2.0..4.0).contains(x)));
        let pairs: Vec<f64> = (0..20_000).flat_map(|_| random.normals()).map(f64::from).collect();
        let squares: Vec<f64> = pairs.iter().map(|x| x * x).collect();
        assert!(mean(&pairs).abs() < 0.02 && (mean(&squares) - 1.0).abs() < 0.03);
        let mut counts = [0; 3];
        (0..3000).for_each(|_| counts[random.integer(4..=6) - 4] += 1);
        assert!(counts.iter().all(|n| (900..1100).contains(n)), "{counts:?}");
        assert_eq!(random.below(0), 0);
        let mut list: Vec<usize> = (0..50).collect();
        random.shuffle(&mut list);
        assert_ne!(list, (0..50).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..50).collect::<Vec<_>>());
    }
}
