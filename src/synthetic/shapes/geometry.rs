//! Points and polygons, and what outlines are made of: arcs, curves, rounded corners.

use std::f64::consts::TAU;

use crate::random::Random;

/// x to the right, y downward.
pub(super) type Point = [f64; 2];

/// A closed outline: the last point joins the first.
pub(super) type Polygon = Vec<Point>;

/// `points` points of a circular arc around the origin, angles in radians, both ends included.
pub(super) fn arc(radius: f64, start: f64, stop: f64, points: usize) -> Polygon {
    let step = (stop - start) / (points.max(2) - 1) as f64;
    let at = |i| {
        let (sine, cosine) = (start + step * i as f64).sin_cos();
        [radius * cosine, radius * sine]
    };
    (0..points).map(at).collect()
}

/// A regular polygon around the origin, its first corner to the right.
pub(super) fn regular(sides: usize, radius: f64) -> Polygon {
    (0..sides).map(|i| turned([radius, 0.0], TAU * i as f64 / sides as f64)).collect()
}

/// As fine as a circle is drawn.
pub(super) fn full_circle(radius: f64) -> Polygon {
    regular(64, radius)
}

/// A point turned about the origin, from x towards y.
pub(super) fn turned([x, y]: Point, angle: f64) -> Point {
    let (sine, cosine) = angle.sin_cos();
    [x * cosine - y * sine, x * sine + y * cosine]
}

/// The point at `part` (0..1) of the way from `a` to `b`.
pub(super) fn between(a: Point, b: Point, part: f64) -> Point {
    [a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])]
}

/// The point at `t` (0..1) of a quadratic Bezier curve.
pub(super) fn bezier([start, middle, end]: [Point; 3], t: f64) -> Point {
    between(between(start, middle, t), between(middle, end, t), t)
}

/// A quadratic Bezier curve in 11 steps, without its start.
pub(super) fn flank(curve: [Point; 3]) -> impl Iterator<Item = Point> {
    (1..=11).map(move |i| bezier(curve, f64::from(i) / 11.0))
}

/// Replaces each corner by a quadratic Bezier curve that starts `amount` (0..0.5) along its edges.
pub(super) fn rounded(polygon: Polygon, amount: f64) -> Polygon {
    if amount <= 0.01 {
        return polygon;
    }
    let count = polygon.len();
    let curve = |i: usize| {
        let (before, corner, after) =
            (polygon[(i + count - 1) % count], polygon[i], polygon[(i + 1) % count]);
        let ends = [before, after].map(|end| between(corner, end, amount));
        (0..6).map(move |k| bezier([ends[0], corner, ends[1]], f64::from(k) / 5.0))
    };
    (0..count).flat_map(curve).collect()
}

/// Rounds the corners of four in ten, by up to `most`.
pub(super) fn sometimes_rounded(random: &mut Random, polygon: Polygon, most: f64) -> Polygon {
    if random.chance(0.4) { rounded(polygon, random.uniform(0.0, most)) } else { polygon }
}

/// Stretches along x.
pub(super) fn stretched(polygon: Polygon, factor: f64) -> Polygon {
    polygon.into_iter().map(|[x, y]| [x * factor, y]).collect()
}

/// Stretches by a factor so small that a person would not notice.
pub(super) fn nearly_even(random: &mut Random, polygon: Polygon, most: f64) -> Polygon {
    stretched(polygon, random.uniform(1.0, most))
}

/// Least and greatest x and y.
pub(super) fn bounds(polygon: &[Point]) -> [Point; 2] {
    let start = [[f64::INFINITY; 2], [f64::NEG_INFINITY; 2]];
    polygon.iter().fold(start, |[low, high], &[x, y]| {
        [[low[0].min(x), low[1].min(y)], [high[0].max(x), high[1].max(y)]]
    })
}
