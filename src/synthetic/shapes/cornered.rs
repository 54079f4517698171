//! Outlines of straight edges, with corners that are rounded at times. Each function draws the proportions
//! of one shape, of any size and place.

use std::f64::consts::{FRAC_PI_4, PI};

use super::geometry::{Point, Polygon, nearly_even, regular, sometimes_rounded, stretched, turned};
use crate::random::Random;

pub(super) fn triangle(random: &mut Random) -> Vec<Polygon> {
    let height = random.uniform(1.1, 2.4);
    let lean = if random.chance(0.3) { random.uniform(-1.0, 1.0) } else { 0.0 };
    vec![sometimes_rounded(random, vec![[-1.0, 0.0], [1.0, 0.0], [lean, height]], 0.18)]
}

pub(super) fn square(random: &mut Random) -> Vec<Polygon> {
    let corners = regular(4, 1.0).into_iter().map(|p| turned(p, FRAC_PI_4)).collect();
    let outline = nearly_even(random, corners, 1.06);
    vec![sometimes_rounded(random, outline, 0.2)]
}

/// At least half as long again as wide, lest it be a square.
pub(super) fn rectangle(random: &mut Random) -> Vec<Polygon> {
    let corners = vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]];
    let outline = stretched(corners, random.uniform(1.5, 3.2));
    vec![sometimes_rounded(random, outline, 0.12)]
}

pub(super) fn pentagon(random: &mut Random) -> Vec<Polygon> {
    let outline = sometimes_rounded(random, regular(5, 1.0), 0.14);
    vec![nearly_even(random, outline, 1.1)]
}

pub(super) fn hexagon(random: &mut Random) -> Vec<Polygon> {
    let outline = sometimes_rounded(random, regular(6, 1.0), 0.12);
    vec![nearly_even(random, outline, 1.1)]
}

/// Mostly of five points, with dents as deep as each number of points can bear.
pub(super) fn star(random: &mut Random) -> Vec<Polygon> {
    let (points, low, high) = match random.unit() {
        u if u < 0.08 => (4, 0.25, 0.45),
        u if u < 0.88 => (5, 0.32, 0.56),
        _ => (6, 0.4, 0.6),
    };
    let dents = regular(points, random.uniform(low, high)).into_iter().map(|p| turned(p, PI / points as f64));
    let outline = regular(points, 1.0).into_iter().zip(dents).flat_map(|(tip, dent)| [tip, dent]).collect();
    let outline = sometimes_rounded(random, outline, 0.25);
    vec![nearly_even(random, outline, 1.06)]
}

/// A plus, or one with a longer foot; turned by 45 degrees it is a cross still.
pub(super) fn cross(random: &mut Random) -> Vec<Polygon> {
    let half = random.uniform(0.08, 0.42);
    let foot = if random.chance(0.2) { random.uniform(1.0, 1.7) } else { 1.0 };
    let wide = random.uniform(0.85, 1.0);
    let right = [[half, -1.0], [half, -half], [wide, -half], [wide, half], [half, half], [half, foot]];
    let left = right.iter().rev().map(|[x, y]| [-x, *y]);
    vec![sometimes_rounded(random, right.iter().copied().chain(left).collect(), 0.2)]
}

/// A block arrow, at times with an open head of two strokes, or a notched dart without a shaft.
pub(super) fn arrow(random: &mut Random) -> Vec<Polygon> {
    let upper = match random.unit() {
        u if u < 0.2 => open_arrow(random),
        u if u < 0.3 => {
            let (notch, width) = (random.uniform(0.4, 0.7), random.uniform(0.6, 1.0));
            return vec![vec![[1.0, 0.0], [-0.8, width], [-0.8 + notch, 0.0], [-0.8, -width]]];
        }
        _ => block_arrow(random),
    };
    let lower = upper[1..].iter().rev().map(|[x, y]| [*x, -y]);
    vec![sometimes_rounded(random, upper.iter().copied().chain(lower).collect(), 0.1)]
}

/// The half of y >= 0, from the tip on.
fn open_arrow(random: &mut Random) -> Vec<Point> {
    let (half, reach) = (random.uniform(0.08, 0.2), random.uniform(0.5, 0.85));
    // Where the head's inner edges start, along both axes.
    let slant = reach - 1.41 * half;
    let inner = [1.0 - reach - 1.41 * half, slant];
    vec![[1.0, 0.0], [1.0 - reach, reach], inner, [1.0 - 3.83 * half, half], [-1.0, half]]
}

/// The half of y >= 0, from the tip on.
fn block_arrow(random: &mut Random) -> Vec<Point> {
    let (length, half) = (random.uniform(0.5, 1.1), random.uniform(0.45, 1.05));
    let shaft = random.uniform(0.14, 0.5) * half;
    let barb = if random.chance(0.4) { random.uniform(-0.12, 0.5) * length } else { 0.0 };
    let tail = (-1.0 + random.uniform(-0.4, 0.5)).min(0.6 - length);
    let neck = 1.0 - length;
    vec![[1.0, 0.0], [neck - barb, half], [neck, shaft], [tail, shaft]]
}

/// A flash of lightning: seven corners (leaning or upright), or six (thick or thin), each moved a little.
pub(super) fn bolt(random: &mut Random) -> Vec<Polygon> {
    let corners = match random.unit() {
        u if u < 0.3 => LEANING.to_vec(),
        u if u < 0.5 => UPRIGHT.to_vec(),
        _ => {
            let (inset, bar) = (random.uniform(-0.1, 0.2), random.uniform(0.08, 0.22));
            let top = [random.uniform(0.1, 0.35), -1.0];
            let far = [random.uniform(-0.8, -0.55), bar];
            let half = [top, far, [inset, random.uniform(0.7, 1.0) * bar]];
            half.into_iter().chain(half.map(|[x, y]| [-x, -y])).collect()
        }
    };
    let moved = corners.into_iter().map(|p: Point| p.map(|at| at + random.uniform(-0.05, 0.05)));
    let outline = moved.collect();
    let outline = stretched(outline, random.uniform(0.75, 1.25));
    vec![sometimes_rounded(random, outline, 0.08)]
}

const LEANING: [Point; 7] =
    [[0.15, -1.0], [-0.55, 0.12], [-0.05, 0.12], [-0.2, 1.0], [0.55, -0.22], [0.05, -0.22], [0.45, -1.0]];

const UPRIGHT: [Point; 7] =
    [[-0.5, -1.0], [-0.5, 0.12], [-0.12, 0.12], [-0.12, 1.0], [0.56, -0.2], [0.12, -0.2], [0.5, -1.0]];
