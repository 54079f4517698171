//! RandAugment (Cubuk et al. 2019) as timm 1.0.31 has it (`auto_augment.py`): of fifteen operations some are drawn for
//! an image, each done with a probability, and by a magnitude that is drawn about a given one.

use super::pixel_ops::{Between, Picture};
use crate::error::{Error, Result};
use crate::random::Random;

/// The magnitude that arguments are counted in tenths of, and the usual one and largest.
const UNIT: f64 = 10.0;
/// Share of a side that an image is moved by at most.
const MOVED: f64 = 0.45;
/// Most operations of an image.
const MOST: u32 = 64;

/// How images are varied.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RandAugment {
    /// Magnitude M.
    pub magnitude: f64,
    /// Deviation of the magnitudes that are drawn; above 100 they are even from 0 to M.
    pub deviation: f64,
    /// Largest magnitude.
    pub most: f64,
    /// Operations that are drawn for an image.
    pub count: u32,
    /// Probability that one is done.
    pub probability: f64,
    /// Whether every operation changes more by a larger magnitude.
    pub increasing: bool,
}

/// The operations, in timm's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

const OPS: [Op; 15] = [
    Op::AutoContrast,
    Op::Equalize,
    Op::Invert,
    Op::Rotate,
    Op::Posterize,
    Op::Solarize,
    Op::SolarizeAdd,
    Op::Color,
    Op::Contrast,
    Op::Brightness,
    Op::Sharpness,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
];

impl RandAugment {
    /// Reads timm's naming, as in `rand-m9-mstd0.5-inc1`: `m` is the magnitude (10), `n` how many operations (2), `p` the
    /// probability of each (0.5), `mstd` the deviation (0), `mmax` the largest magnitude (10), `inc1` takes those that
    /// increase.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: String| {
            Error::usage(
                format!("{text}: {what}"),
                "timm's naming is rand-m9-mstd0.5-inc1, with n, p and mmax",
            )
        };
        let mut made = Self {
            magnitude: UNIT,
            deviation: 0.0,
            most: UNIT,
            count: 2,
            probability: 0.5,
            increasing: false,
        };
        let mut parts = text.split('-');
        if parts.next() != Some("rand") {
            return Err(wrong("it is no RandAugment".to_owned()));
        }
        for part in parts {
            let at = part.find(|c: char| c.is_ascii_digit()).unwrap_or(part.len());
            let (key, number) = part.split_at(at);
            let number: f64 =
                number.parse().map_err(|_| wrong(format!("`{part}` is no letters and a number")))?;
            match key {
                "m" => made.magnitude = number,
                "mstd" => made.deviation = number,
                "mmax" => made.most = number,
                "n" if (1.0..=f64::from(MOST)).contains(&number) => made.count = number as u32,
                "p" if number <= 1.0 => made.probability = number,
                "inc" => made.increasing = number >= 1.0,
                _ => return Err(wrong(format!("`{part}` is not known"))),
            }
        }
        Ok(made)
    }

    /// Varies an image (H,W,3) of this width; what is moved in from outside has the colour `fill`.
    pub(super) fn apply(&self, pixels: Vec<u8>, width: usize, fill: [u8; 3], random: &mut Random) -> Vec<u8> {
        let height = pixels.len() / (3 * width);
        let mut picture = Picture { width, height, pixels };
        for _ in 0..self.count {
            let op = OPS[random.below(OPS.len())];
            if random.chance(self.probability) {
                let magnitude = self.drawn(random);
                let argument = op.argument(magnitude, self.increasing, random.chance(0.5));
                let between = if random.chance(0.5) { Between::Bilinear } else { Between::Bicubic };
                op.apply(argument, &mut picture, fill, between);
            }
        }
        picture.pixels
    }

    fn drawn(&self, random: &mut Random) -> f64 {
        let magnitude = match self.deviation {
            deviation if deviation > 100.0 => random.uniform(0.0, self.magnitude),
            deviation if deviation > 0.0 => self.magnitude + deviation * random.normal(),
            _ => self.magnitude,
        };
        magnitude.clamp(0.0, self.most)
    }
}

impl Op {
    /// What the operation is done by, of a magnitude; the other way where it has two directions and `negated`.
    fn argument(self, magnitude: f64, increasing: bool, negated: bool) -> f64 {
        let share = magnitude / UNIT;
        let sign = if negated { -1.0 } else { 1.0 };
        match self {
            Self::AutoContrast | Self::Equalize | Self::Invert => 0.0,
            Self::Rotate => sign * 30.0 * share,
            Self::Posterize if increasing => 4.0 - (share * 4.0).trunc(),
            Self::Posterize => (share * 4.0).trunc(),
            Self::Solarize if increasing => 256.0 - (share * 256.0).trunc().min(256.0),
            Self::Solarize => (share * 256.0).trunc().min(256.0),
            Self::SolarizeAdd => (share * 110.0).trunc().min(128.0),
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness if increasing => {
                (1.0 + sign * 0.9 * share).max(0.1)
            }
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness => share * 1.8 + 0.1,
            Self::ShearX | Self::ShearY => sign * 0.3 * share,
            Self::TranslateX | Self::TranslateY => sign * MOVED * share,
        }
    }

    fn apply(self, argument: f64, picture: &mut Picture, fill: [u8; 3], between: Between) {
        let factor = argument as f32;
        match self {
            Self::AutoContrast => picture.auto_contrast(),
            Self::Equalize => picture.equalize(),
            Self::Invert => picture.invert(),
            Self::Rotate => picture.rotate(argument, fill, between),
            Self::Posterize => picture.posterize(argument.max(0.0) as u32),
            Self::Solarize => picture.solarize(argument as u32),
            Self::SolarizeAdd => picture.solarize_add(argument as u32),
            Self::Color => picture.color(factor),
            Self::Contrast => picture.contrast(factor),
            Self::Brightness => picture.brightness(factor),
            Self::Sharpness => picture.sharpness(factor),
            Self::ShearX => picture.affine([1.0, argument, 0.0, 0.0, 1.0, 0.0], fill, between),
            Self::ShearY => picture.affine([1.0, 0.0, 0.0, argument, 1.0, 0.0], fill, between),
            Self::TranslateX => {
                let pixels = argument * picture.width as f64;
                picture.affine([1.0, 0.0, pixels, 0.0, 1.0, 0.0], fill, between);
            }
            Self::TranslateY => {
                let pixels = argument * picture.height as f64;
                picture.affine([1.0, 0.0, 0.0, 0.0, 1.0, pixels], fill, between);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    const FILE: &str = "tests/rand_augment/pillow.json";

    fn recorded() -> Json {
        serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
    }

    fn bytes(hex: &Json) -> Vec<u8> {
        let digits = hex.as_str().unwrap();
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    }

    /// An operation by timm's name of its function, or of it with a way of scaling.
    fn named(name: &str) -> Op {
        let bare: String =
            name.replace("Increasing", "").replace("Rel", "").replace("_rel", "").replace('_', "");
        *OPS.iter().find(|op| format!("{op:?}").eq_ignore_ascii_case(&bare)).unwrap()
    }

    #[test]
    fn operations_are_pillows_to_the_bit() {
        let recorded = recorded();
        let fill: Vec<u8> =
            recorded["fill"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u8).collect();
        let mut wrong = Vec::new();
        let cases = recorded["cases"].as_array().unwrap();
        for case in cases {
            let source = &recorded["pictures"][case["picture"].as_str().unwrap()];
            let side = |name: &str| source[name].as_u64().unwrap() as usize;
            let (width, height) = (side("width"), side("height"));
            let mut picture = Picture { width, height, pixels: bytes(&source["pixels"]) };
            let between = if case["resample"] == "bicubic" { Between::Bicubic } else { Between::Bilinear };
            let op = named(case["op"].as_str().unwrap());
            let argument = case["argument"].as_f64().unwrap_or(0.0);
            op.apply(argument, &mut picture, fill[..].try_into().unwrap(), between);
            let want = bytes(&case["pixels"]);
            let far = picture.pixels.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            let count = picture.pixels.iter().zip(&want).filter(|(a, b)| a != b).count();
            if count > 0 {
                wrong.push(format!(
                    "{} {} {argument} {between:?}: {count} bytes by up to {far}",
                    case["picture"], case["op"]
                ));
            }
        }
        assert!(wrong.is_empty() && cases.len() > 100, "{} of {}: {wrong:#?}", wrong.len(), cases.len());
    }

    #[test]
    fn arguments_are_timms() {
        let recorded = recorded();
        for level in recorded["levels"].as_array().unwrap() {
            let name = level["op"].as_str().unwrap();
            let magnitude = level["magnitude"].as_f64().unwrap();
            // Those in pixels are not of its sets for images of any size.
            let op = named(name);
            let want: Vec<f64> =
                level["arguments"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let made =
                [false, true].map(|negated| op.argument(magnitude, name.ends_with("Increasing"), negated));
            for made in made {
                assert!(
                    want.iter().any(|want| (want - made).abs() < 1e-12),
                    "{name} {magnitude}: {made} of {want:?}"
                );
            }
            for want in want {
                assert!(
                    made.iter().any(|made| (want - made).abs() < 1e-12),
                    "{name} {magnitude}: {want} of {made:?}"
                );
            }
        }
        for (set, increasing) in [("plain", false), ("increasing", true)] {
            let names: Vec<&str> =
                recorded["sets"][set].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
            assert_eq!(names.iter().map(|n| named(n)).collect::<Vec<_>>(), OPS, "{set}");
            assert_eq!(names.iter().any(|n| n.ends_with("Increasing")), increasing);
        }
    }

    #[test]
    fn namings_are_read() {
        let usual = RandAugment {
            magnitude: 10.0,
            deviation: 0.0,
            most: 10.0,
            count: 2,
            probability: 0.5,
            increasing: false,
        };
        assert_eq!(RandAugment::parse("rand").unwrap(), usual);
        let want = RandAugment { magnitude: 9.0, deviation: 0.5, increasing: true, ..usual };
        assert_eq!(RandAugment::parse("rand-m9-mstd0.5-inc1").unwrap(), want);
        let want = RandAugment { magnitude: 15.0, most: 30.0, count: 3, probability: 0.7, ..usual };
        assert_eq!(RandAugment::parse("rand-m15-mmax30-n3-p0.7").unwrap(), want);
        for bad in ["", "augmix-m3", "rand-x3", "rand-m", "rand-mx", "rand-n0", "rand-p1.5", "rand-tweights"]
        {
            assert!(RandAugment::parse(bad).unwrap_err().message().contains(bad), "{bad}");
        }
    }

    #[test]
    fn images_vary_by_the_random_numbers_alone() {
        let policy = RandAugment::parse("rand-m9-mstd0.5-inc1").unwrap();
        let image: Vec<u8> = (0..8 * 6 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let of = |seed| policy.apply(image.clone(), 8, [1, 2, 3], &mut Random::new(seed));
        assert_eq!(of(1), of(1));
        let same = (0..400).filter(|&seed| of(seed) == image).count();
        // Neither of two operations is done in a quarter; some do nothing to this image.
        assert!((100..160).contains(&same), "{same}");
        let strict = RandAugment { probability: 1.0, deviation: 101.0, ..policy };
        assert!(
            (0..50)
                .all(|seed| strict.apply(image.clone(), 8, [0; 3], &mut Random::new(seed)).len()
                    == image.len())
        );
    }
}
