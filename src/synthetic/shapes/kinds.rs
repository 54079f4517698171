//! The kinds of shapes, and where in a picture they lie.

use std::f64::consts::{FRAC_PI_2, TAU};

use super::geometry::{Polygon, bounds, turned};
use super::{cornered, round};
use crate::random::Random;

/// Draws the proportions of one shape: a polygon, and perhaps one of a hole in it.
pub(super) type Outline = fn(&mut Random) -> Vec<Polygon>;

/// Names and outlines, in the order of their labels.
pub(super) const KINDS: [(&str, Outline); 16] = [
    ("circle", round::circle),
    ("ellipse", round::ellipse),
    ("ring", round::ring),
    ("semicircle", round::semicircle),
    ("crescent", round::crescent),
    ("triangle", cornered::triangle),
    ("square", cornered::square),
    ("rectangle", cornered::rectangle),
    ("pentagon", cornered::pentagon),
    ("hexagon", cornered::hexagon),
    ("star", cornered::star),
    ("cross", cornered::cross),
    ("heart", round::heart),
    ("arrow", cornered::arrow),
    ("drop", round::drop),
    ("bolt", cornered::bolt),
];

/// Parts of a picture's side: what is left free at its edges, and the least and greatest extent of a shape.
const MARGIN: f64 = 0.02;
const EXTENT: [f64; 2] = [0.4, 0.93];

/// A shape of a kind, turned, scaled and moved to lie inside a picture of `side` pixels, in pixels.
pub(super) fn placed(random: &mut Random, label: usize, side: usize) -> Vec<Polygon> {
    let mut polygons = KINDS[label].1(random);
    let upright = random.chance(0.45);
    let angle = if upright { FRAC_PI_2 * random.below(4) as f64 } else { random.uniform(0.0, TAU) };
    let mirror = if random.chance(0.5) { -1.0 } else { 1.0 };
    polygons.iter_mut().flatten().for_each(|p| *p = turned([p[0] * mirror, p[1]], angle));

    let [low, high] = bounds(&polygons[0]);
    let size = [high[0] - low[0], high[1] - low[1]];
    let side = side as f64;
    let scale = random.uniform(EXTENT[0], EXTENT[1]) * side / size[0].max(size[1]);
    // Some shapes sit in or near the middle.
    let pull = match random.unit() {
        u if u < 0.65 => 1.0,
        u if u < 0.85 => 0.25,
        _ => 0.0,
    };
    let corner = size.map(|size| {
        let free = side * (1.0 - 2.0 * MARGIN) - size * scale;
        MARGIN * side + free * (0.5 + (random.unit() - 0.5) * pull)
    });
    for point in polygons.iter_mut().flatten() {
        *point = [0, 1].map(|axis| (point[axis] - low[axis]) * scale + corner[axis]);
    }
    polygons
}

#[cfg(test)]
mod tests {
    use super::super::coverage::filled;
    use super::*;

    #[test]
    fn every_kind_lies_inside_the_picture() {
        for (label, (name, _)) in KINDS.iter().enumerate() {
            for (index, side) in (0..500).zip([16, 64, 256].into_iter().cycle()) {
                let polygons = placed(&mut Random::of(&[3, index]), label, side);
                let [low, high] = bounds(&polygons.concat());
                let (least, most) = (0.0199 * side as f64, 0.9801 * side as f64);
                assert!(
                    low.iter().chain(&high).all(|at| (least..most).contains(at)),
                    "{name}: {low:?} {high:?}"
                );
                let extent = (high[0] - low[0]).max(high[1] - low[1]) / side as f64;
                assert!((0.3999..0.9301).contains(&extent), "{name}: {extent}");
            }
        }
    }

    /// Area over the square of the greater extent: mean, least and greatest of 4000 outlines that
    /// `tools/train/shapes.py` drew.
    const AREAS: [[f64; 3]; 16] = [
        [0.7664, 0.7398, 0.7860],
        [0.4285, 0.3018, 0.7162],
        [0.4388, 0.2103, 0.6467],
        [0.4177, 0.3594, 0.5582],
        [0.3523, 0.1508, 0.4959],
        [0.4217, 0.2406, 0.6035],
        [0.7896, 0.4992, 1.0000],
        [0.4191, 0.2853, 0.6657],
        [0.6719, 0.6080, 0.7321],
        [0.6491, 0.5905, 0.7353],
        [0.3696, 0.1701, 0.5782],
        [0.3954, 0.1002, 0.6769],
        [0.5801, 0.4520, 0.7658],
        [0.3012, 0.1085, 0.6822],
        [0.4470, 0.3257, 0.7621],
        [0.2113, 0.0665, 0.4518],
    ];

    #[test]
    fn areas_are_those_of_the_generator_that_the_classifier_was_trained_on() {
        for (label, ((name, _), [mean, least, most])) in KINDS.iter().zip(AREAS).enumerate() {
            let area = |index| {
                let polygons = placed(&mut Random::of(&[4, index]), label, 64);
                let [low, high] = bounds(&polygons[0]);
                let extent = (high[0] - low[0]).max(high[1] - low[1]);
                f64::from(filled(&polygons, 64, 2).iter().sum::<f32>()) / (extent * extent)
            };
            let areas: Vec<f64> = (0..2000).map(area).collect();
            let found = areas.iter().sum::<f64>() / areas.len() as f64;
            assert!((0.97..1.03).contains(&(found / mean)), "{name}: {found}, not {mean}");
            let inside = |area: &f64| (least * 0.9..most * 1.05).contains(area);
            assert!(areas.iter().all(inside), "{name}: {least} to {most}, but {areas:?}");
        }
    }
}
