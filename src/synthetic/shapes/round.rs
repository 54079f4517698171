//! Outlines of arcs and curves. Each function draws the proportions of one shape, of any size and place;
//! the first polygon is the shape, a second one a hole in it.

use std::f64::consts::{PI, TAU};

use super::geometry::{Polygon, arc, flank, full_circle, nearly_even, sometimes_rounded, stretched};
use crate::random::Random;

pub(super) fn circle(random: &mut Random) -> Vec<Polygon> {
    vec![nearly_even(random, full_circle(1.0), 1.06)]
}

/// At least half as long again as wide, lest it be a circle.
pub(super) fn ellipse(random: &mut Random) -> Vec<Polygon> {
    vec![stretched(full_circle(1.0), random.uniform(1.5, 2.6))]
}

pub(super) fn ring(random: &mut Random) -> Vec<Polygon> {
    let (factor, inner) = (random.uniform(1.0, 1.12), random.uniform(0.42, 0.84));
    [1.0, inner].map(|radius| stretched(full_circle(radius), factor)).into()
}

pub(super) fn semicircle(random: &mut Random) -> Vec<Polygon> {
    let half = random.uniform(86.0, 94.0).to_radians();
    vec![sometimes_rounded(random, arc(1.0, -half, half, 48), 0.3)]
}

/// A disc less a second disc whose rim crosses the rim of the first.
pub(super) fn crescent(random: &mut Random) -> Vec<Polygon> {
    let radius = random.uniform(0.72, 1.08);
    // Any thinner, and a small second disc would lie within the first.
    let thickness = random.uniform((2.0 * (1.0 - radius) + 0.12).max(0.32), 0.95);
    let offset = thickness + radius - 1.0;
    let crossing = ((1.0 - radius * radius + offset * offset) / (2.0 * offset)).clamp(-1.0, 1.0);
    let outer = crossing.acos();
    let inner = outer.sin().atan2(crossing - offset);
    let mut outline = arc(1.0, outer, TAU - outer, 48);
    outline.extend(arc(radius, TAU - inner, inner, 48)[1..47].iter().map(|[x, y]| [x + offset, *y]));
    vec![outline]
}

/// A sine curve, or two lobes that run into a point.
pub(super) fn heart(random: &mut Random) -> Vec<Polygon> {
    let outline = if random.chance(0.5) { curved_heart(random) } else { lobed_heart(random) };
    vec![stretched(outline, random.uniform(0.88, 1.12))]
}

fn curved_heart(random: &mut Random) -> Polygon {
    let (cleft, fourth) = (random.uniform(4.0, 6.5), random.uniform(0.4, 1.2));
    let at = |i: u32| {
        let t = TAU * f64::from(i) / 72.0;
        let height =
            13.0 * t.cos() - cleft * (2.0 * t).cos() - 2.0 * (3.0 * t).cos() - fourth * (4.0 * t).cos();
        [16.0 * t.sin().powi(3), -height]
    };
    (0..72).map(at).collect()
}

/// Flanks are straight, hollow or bulging.
fn lobed_heart(random: &mut Random) -> Polygon {
    let (lobe, point) = (random.uniform(0.5, 0.62), random.uniform(1.15, 1.8));
    let bulge = random.uniform(-0.12, 0.16);
    let mut right: Polygon = arc(lobe, -PI + (0.5 / lobe).min(1.0).acos(), PI * 0.16, 30);
    right.iter_mut().for_each(|p| p[0] += 0.5);
    let (start, tip) = (right[29], [0.0, point]);
    let middle = [(start[0] + tip[0]) / 2.0 + bulge, (start[1] + tip[1]) / 2.0 + bulge * 0.6];
    right.extend(flank([start, middle, tip]));
    let left: Polygon = right.iter().rev().skip(1).map(|[x, y]| [-x, *y]).collect();
    [right, left].concat()
}

/// A disc that runs into a point, along tangents or along hollow flanks.
pub(super) fn drop(random: &mut Random) -> Vec<Polygon> {
    let distance = random.uniform(1.7, 2.7);
    let (touch, tip) = ((1.0 / distance).acos(), [distance, 0.0]);
    if random.chance(0.5) {
        let mut outline = arc(1.0, touch, TAU - touch, 48);
        outline.push(tip);
        return vec![outline];
    }
    let touch = touch + random.uniform(0.1, 0.35);
    let mut outline = arc(1.0, touch, TAU - touch, 48);
    let start = outline[47];
    let reach = (tip[0] - start[0]).hypot(tip[1] - start[1]) * 0.5;
    let middle = [start[0] + touch.sin() * reach, start[1] + touch.cos() * reach];
    let side: Polygon = flank([start, middle, tip]).collect();
    outline.extend(&side);
    outline.extend(side.iter().rev().skip(1).map(|[x, y]| [*x, -y]));
    vec![outline]
}
