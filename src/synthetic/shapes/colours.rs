//! Colours of a shape and of what is behind it, far enough apart for a person to see the shape.

use crate::random::Random;

/// R, G, B of 0..1, not linear: as they stand in a file.
pub(super) type Colour = [f64; 3];

const LUMA: Colour = [0.299, 0.587, 0.114];

/// Pairs that are tried before colours are made to fit; about one in two does.
const TRIES: usize = 200;

/// One colour, or two that a gradient runs between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Blend {
    /// Where the gradient begins.
    pub(super) from: Colour,
    /// Where it ends, if it is one.
    pub(super) to: Option<Colour>,
}

impl Blend {
    /// One colour with probability `single`, or two, mostly related ones.
    fn random(random: &mut Random, single: f64) -> Self {
        let from = random_colour(random);
        if random.chance(single) {
            return Self { from, to: None };
        }
        let other = random_colour(random);
        let part = if random.chance(0.6) { random.uniform(0.1, 0.6) } else { 1.0 };
        Self { from, to: Some(mixed(from, other, part)) }
    }

    /// Five colours that it runs through.
    fn steps(&self) -> [Colour; 5] {
        let to = self.to.unwrap_or(self.from);
        [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| mixed(self.from, to, part))
    }

    /// The smallest distance between any colour of this blend and any of the other.
    fn contrast(&self, other: &Self) -> f64 {
        let others = other.steps();
        let distances = self.steps().into_iter().flat_map(|a| others.map(|b| distance(a, b)));
        distances.fold(f64::INFINITY, f64::min)
    }
}

/// The colours of a picture.
pub(super) struct Colours {
    /// Behind the shape.
    pub(super) background: Blend,
    /// Inside of it.
    pub(super) fill: Blend,
    /// The smallest distance between the two: 1 is black against white.
    pub(super) contrast: f64,
}

impl Colours {
    /// Colours of a contrast of at least 0.2 to 0.4, drawn anew for each picture.
    pub(super) fn random(random: &mut Random) -> Self {
        let least = random.uniform(0.2, 0.4);
        Self::found(random, least, TRIES)
    }

    fn found(random: &mut Random, least: f64, tries: usize) -> Self {
        for _ in 0..tries {
            let (background, fill) = (Blend::random(random, 0.45), Blend::random(random, 0.75));
            let contrast = background.contrast(&fill);
            if contrast >= least {
                return Self { background, fill, contrast };
            }
        }
        // Black and white are 1 apart, so the farther of the two is at least 0.5 from any colour.
        let background = Blend { from: random_colour(random), to: None };
        let against = |level| {
            let fill = Blend { from: [level; 3], to: None };
            Self { background, fill, contrast: background.contrast(&fill) }
        };
        let (black, white) = (against(0.0), against(1.0));
        if black.contrast > white.contrast { black } else { white }
    }
}

/// Near white, near black, grey, saturated, or any.
pub(super) fn random_colour(random: &mut Random) -> Colour {
    let choice = random.unit();
    if choice < 0.12 {
        return [random.uniform(0.88, 1.0); 3];
    }
    if choice < 0.22 {
        return [random.uniform(0.0, 0.12); 3];
    }
    if choice < 0.32 {
        return [random.unit(); 3];
    }
    let colour = [0; 3].map(|_| random.unit());
    if choice >= 0.65 {
        return colour;
    }
    let (low, high) =
        (colour.iter().fold(1.0, |a: f64, b| a.min(*b)), colour.iter().fold(0.0, |a: f64, b| a.max(*b)));
    let brightness = random.uniform(0.6, 1.0);
    colour.map(|level| (level - low) / (high - low).max(1e-6) * brightness)
}

fn mixed(a: Colour, b: Colour, part: f64) -> Colour {
    [0, 1, 2].map(|c| a[c] + part * (b[c] - a[c]))
}

/// Distance of two colours: 1 is black against white, brightness counts most. It is a norm of the difference.
fn distance(a: Colour, b: Colour) -> f64 {
    let difference = [0, 1, 2].map(|c| a[c] - b[c]);
    let luma: f64 = difference.iter().zip(LUMA).map(|(d, weight)| d * weight).sum();
    let square: f64 = difference.iter().map(|d| d * d).sum();
    (0.6 * luma * luma + 0.4 * square / 3.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between samples of the two gradients, drawn independently of the search.
    fn least_distance(colours: &Colours) -> f64 {
        let at =
            |blend: &Blend, i: u32| mixed(blend.from, blend.to.unwrap_or(blend.from), f64::from(i) / 16.0);
        let pairs = (0..=16).flat_map(|i| (0..=16).map(move |k| (i, k)));
        pairs.map(|(i, k)| distance(at(&colours.background, i), at(&colours.fill, k))).fold(1.0, f64::min)
    }

    #[test]
    fn shapes_stand_out_and_colours_are_colours() {
        let mut contrasts = 0.0;
        for index in 0..2000 {
            let colours = Colours::random(&mut Random::of(&[5, index]));
            let found = least_distance(&colours);
            assert!(colours.contrast >= 0.2 && found > 0.17, "{index}: {found}");
            assert!(found < colours.contrast + 1e-9);
            contrasts += colours.contrast;
            for blend in [colours.background, colours.fill] {
                assert!(blend.steps().iter().flatten().all(|level| (-1e-9..=1.0 + 1e-9).contains(level)));
            }
        }
        // 20000 pictures of `tools/train/shapes.py`: 0.469, deviation 0.144.
        assert!((contrasts / 2000.0 - 0.469).abs() < 0.013, "{}", contrasts / 2000.0);
    }

    #[test]
    fn a_search_without_luck_ends_in_black_or_white() {
        for index in 0..500 {
            let colours = Colours::found(&mut Random::of(&[6, index]), 9.0, 3);
            assert!(colours.contrast >= 0.5 - 1e-9 && least_distance(&colours) >= 0.5 - 1e-9);
        }
    }

    #[test]
    fn black_against_white_is_one() {
        assert!((distance([0.0; 3], [1.0; 3]) - 1.0).abs() < 1e-12);
        assert_eq!(distance([0.3; 3], [0.3; 3]), 0.0);
    }
}
