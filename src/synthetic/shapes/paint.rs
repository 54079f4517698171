//! Whole pictures: a shape on a plain, graded, blotchy or grainy background, blurred or compressed at times.

use std::f64::consts::TAU;

use crate::image::resize::{Filter, PillowCompat, Resampler, resize};

use super::blur::blur;
use super::colours::{Blend, Colour, Colours, random_colour};
use super::coverage::{bordered, filled};
use super::jpeg::round_trip;
use super::kinds::placed;
use super::names::clear_name;
use crate::random::Random;

/// Resizing as a loader of the training pictures does it.
const PILLOW: Resampler = Resampler::Pillow(PillowCompat::V13);

/// How far grain and blotches may move a colour, as a part of the contrast.
const MAX_MIXING: f64 = 0.3;

/// The side, in pixels, that blurs are told for.
const SIDE: f64 = 64.0;

/// Sides that a picture of the wanted side may be drawn at.
const SIDES: [usize; 2] = [16, 256];

type Pixel = [f32; 3];

/// A picture of a kind, (side, side, 3) bytes, and the clear name of the shape's colour: half of them are drawn
/// at another size (48 to 256) first and resized.
pub(super) fn picture(random: &mut Random, label: usize, side: usize) -> (Vec<u8>, Option<&'static str>) {
    if side == 0 {
        return (Vec::new(), None);
    }
    let drawn = match random.unit() {
        u if u < 0.5 => side.clamp(SIDES[0], SIDES[1]),
        u if u < 0.92 => random.integer(48..=128),
        _ => random.integer(129..=256),
    };
    let (pixels, fill) = draw(random, label, drawn);
    let pixels = resize(pixels.as_flattened(), (drawn, drawn), (side, side), Filter::Bilinear, PILLOW);
    (pixels, clear_name(fill))
}

/// A picture of a kind as it is drawn, (side, side), and what the shape is filled with before any noise: see
/// [`fill_of`].
fn draw(random: &mut Random, label: usize, side: usize) -> (Vec<[u8; 3]>, [Colour; 3]) {
    let polygons = placed(random, label, side);
    let oversampling = match side {
        _ if random.chance(0.06) => 1,
        ..=80 => 4,
        81..=128 => 3,
        _ => 2,
    };
    let Colours { background, fill, contrast } = Colours::random(random);
    let mut canvas = blend(random, background, side);
    if random.chance(0.2) {
        let strength = (random.uniform(0.1, MAX_MIXING) * contrast) as f32;
        add(&mut canvas, &blotches(random, side), strength);
    }
    let inside = blend(random, fill, side);
    let coverage = filled(&polygons, side, oversampling);
    for ((pixel, fill), part) in canvas.iter_mut().zip(&inside).zip(&coverage) {
        cover(pixel, *fill, *part);
    }
    let fill = match fill.to {
        Some(_) => fill_of(&inside, &coverage),
        None => [fill.from; 3],
    };
    if random.chance(0.15) {
        let width = random.uniform(0.015, 0.035) * side as f64;
        let colour = pixel(random_colour(random));
        let line = bordered(&polygons, side, oversampling, width);
        canvas.iter_mut().zip(line).for_each(|(pixel, part)| cover(pixel, colour, part));
    }
    if random.chance(0.4) {
        let strength = (random.uniform(0.05, MAX_MIXING) * contrast) as f32;
        add(&mut canvas, &grain(random, side), strength);
    }

    canvas.as_flattened_mut().iter_mut().for_each(|level| *level = level.clamp(0.0, 1.0));
    if random.chance(0.2) {
        blur(&mut canvas, side, random.uniform(0.3, 1.1) * side as f64 / SIDE);
    }
    let mut pixels = bytes(&canvas);
    if random.chance(0.06) {
        round_trip(&mut pixels, side, random.integer(50..=94));
    }
    (pixels, fill)
}

/// The mean colour of an area where a shape covers it by more than half, and the two ends of its gradient there.
fn fill_of(area: &[Pixel], coverage: &[f32]) -> [Colour; 3] {
    let inside = || area.iter().zip(coverage).filter(|(_, part)| **part > 0.5).map(|(pixel, _)| pixel);
    let Some(first) = inside().next().or(area.first()) else {
        return [[0.0; 3]; 3];
    };
    let (mut low, mut high, mut sum, mut count) = ([first; 3], [first; 3], [0.0; 3], 0.0f64);
    for pixel in inside() {
        sum = [0, 1, 2].map(|c| sum[c] + f64::from(pixel[c]));
        low = [0, 1, 2].map(|c| if pixel[c] < low[c][c] { pixel } else { low[c] });
        high = [0, 1, 2].map(|c| if pixel[c] > high[c][c] { pixel } else { high[c] });
        count += 1.0;
    }
    // A gradient is a straight line between two colours: its ends are those of the channel that varies most.
    let range = |c: usize| high[c][c] - low[c][c];
    let widest = (1..3).fold(0, |best, c| if range(c) > range(best) { c } else { best });
    let mean = if count > 0.0 { sum.map(|sum| sum / count) } else { first.map(f64::from) };
    [mean, low[widest].map(f64::from), high[widest].map(f64::from)]
}

/// The nearest bytes of levels 0..1. Casts check ranges and are slow; next to 2^23 the lowest bits of a float
/// are its whole number.
fn bytes(canvas: &[Pixel]) -> Vec<[u8; 3]> {
    canvas.iter().map(|pixel| pixel.map(|level| (level * 255.0 + 8_388_608.0).to_bits() as u8)).collect()
}

fn pixel(colour: Colour) -> Pixel {
    colour.map(|level| level as f32)
}

/// Mixes `part` (0..1) of a colour in.
fn cover(pixel: &mut Pixel, colour: Pixel, part: f32) {
    // Most pixels lie outside of the shape.
    if part > 0.0 {
        *pixel = [0, 1, 2].map(|c| pixel[c] + part * (colour[c] - pixel[c]));
    }
}

fn add(canvas: &mut [Pixel], field: &[Pixel], strength: f32) {
    let (canvas, field) = (canvas.as_flattened_mut(), field.as_flattened());
    canvas.iter_mut().zip(field).for_each(|(level, by)| *level += strength * by);
}

/// A plain area of one colour, a gradient of two.
fn blend(random: &mut Random, blend: Blend, side: usize) -> Vec<Pixel> {
    let from = pixel(blend.from);
    let mut area = vec![from; side * side];
    if let Some(to) = blend.to.map(pixel) {
        area.iter_mut().zip(ramp(random, side)).for_each(|(pixel, part)| cover(pixel, to, part));
    }
    area
}

/// Weights that reach from 0 to 1 (side, side): a linear or a radial gradient in any direction.
fn ramp(random: &mut Random, side: usize) -> Vec<f32> {
    let linear = random.chance(0.7);
    let [a, b] = if linear {
        let (sine, cosine) = random.uniform(0.0, TAU).sin_cos();
        [cosine as f32, sine as f32]
    } else {
        [0; 2].map(|_| random.uniform(-0.5, 0.5) as f32)
    };
    let scale = 1.0 / (side.max(2) - 1) as f32;
    let at = |i: usize| i as f32 * scale - 0.5;
    let slope = |x: f32, y: f32| {
        if linear { x * a + y * b } else { ((x - a) * (x - a) + (y - b) * (y - b)).sqrt() }
    };
    let mut slopes = vec![0.0; side * side];
    for (y, row) in slopes.chunks_exact_mut(side).enumerate() {
        let y = at(y);
        row.iter_mut().enumerate().for_each(|(x, out)| *out = slope(at(x), y));
    }
    let low = slopes.iter().fold(f32::INFINITY, |low, slope| low.min(*slope));
    let high = slopes.iter().fold(f32::NEG_INFINITY, |high, slope| high.max(*slope));
    let scale = 1.0 / (high - low).max(f32::MIN_POSITIVE);
    slopes.iter_mut().for_each(|slope| *slope = (*slope - low) * scale);
    slopes
}

/// Soft irregular patches of -1 to 1, one value for all channels or one for each.
fn blotches(random: &mut Random, side: usize) -> Vec<Pixel> {
    let cells = random.integer(3..=16);
    let coloured = random.chance(0.5);
    let mut level = || (random.unit() * 255.0) as u8;
    let cell = |_| if coloured { [0; 3].map(|_| level()) } else { [level(); 3] };
    let field: Vec<[u8; 3]> = (0..cells * cells).map(cell).collect();
    let patch = resize(field.as_flattened(), (cells, cells), (side, side), Filter::Bicubic, PILLOW);
    patch.chunks_exact(3).map(|p| [p[0], p[1], p[2]].map(|level| f32::from(level) / 127.5 - 1.0)).collect()
}

/// Noise of unit deviation, grey or coloured, at times twice as coarse as pixels.
fn grain(random: &mut Random, side: usize) -> Vec<Pixel> {
    let coarse = if random.chance(0.7) { 1 } else { 2 };
    let coloured = random.chance(0.6);
    let cells = side.div_ceil(coarse);
    let mut noise = vec![[0.0; 3]; cells * cells];
    if coloured {
        for pair in noise.as_flattened_mut().chunks_mut(2) {
            pair.copy_from_slice(&random.normals()[..pair.len()]);
        }
    } else {
        for pair in noise.chunks_mut(2) {
            pair.iter_mut().zip(random.normals()).for_each(|(cell, level)| *cell = [level; 3]);
        }
    }
    if coarse == 1 {
        return noise;
    }
    let mut field = vec![[0.0; 3]; side * side];
    for (y, row) in field.chunks_exact_mut(side).enumerate() {
        let noise = &noise[y / coarse * cells..][..cells];
        row.chunks_mut(coarse).zip(noise).for_each(|(pixels, cell)| pixels.fill(*cell));
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_become_the_nearest_bytes() {
        let canvas: Vec<Pixel> = (0..=2550u16).map(|i| [f32::from(i) / 2550.0; 3]).collect();
        for (i, pixel) in bytes(&canvas).into_iter().enumerate() {
            // Tenths of a level; five of them may go either way.
            assert!(i.abs_diff(10 * usize::from(pixel[1])) <= 5 && pixel[0] == pixel[2], "{i}: {pixel:?}");
        }
    }

    #[test]
    fn a_fill_is_that_of_the_shape_alone() {
        let area = [[0.0, 0.2, 0.9], [0.1, 0.3, 0.5], [0.2, 0.4, 0.1], [0.3, 0.5, 0.0]];
        let near = |a: [Colour; 3], b: [Colour; 3]| {
            a.as_flattened().iter().zip(b.as_flattened()).all(|(a, b)| (a - b).abs() < 1e-6)
        };
        let fill = fill_of(&area, &[0.5, 1.0, 0.6, 0.0]);
        assert!(near(fill, [[0.15, 0.35, 0.3], [0.2, 0.4, 0.1], [0.1, 0.3, 0.5]]), "{fill:?}");
        // A shape so thin that it covers no pixel by half is as its area begins.
        assert!(near(fill_of(&area, &[0.2; 4]), [[0.0, 0.2, 0.9]; 3]));
    }

    #[test]
    fn ramps_reach_from_zero_to_one() {
        for index in 0..50 {
            for side in [1, 2, 48, 49] {
                let ramp = ramp(&mut Random::of(&[8, index]), side);
                let (low, high) = (
                    ramp.iter().fold(1.0, |a: f32, b| a.min(*b)),
                    ramp.iter().fold(0.0, |a: f32, b| a.max(*b)),
                );
                assert_eq!(low, 0.0, "{index} {side}");
                assert!(side == 1 || (high - 1.0).abs() < 1e-6, "{index} {side}: {high}");
            }
        }
    }

    #[test]
    fn fields_have_their_sizes_and_spreads() {
        for side in [16, 51] {
            let count = (side * side * 3) as f32;
            let (mut grains, mut patches) = (0.0, 0.0);
            for index in 0..60 {
                let mut random = Random::of(&[9, index]);
                let (grain, patch) = (grain(&mut random, side), blotches(&mut random, side));
                assert_eq!([grain.len(), patch.len()], [side * side; 2]);
                assert!(patch.as_flattened().iter().all(|level| (-1.0..=1.0).contains(level)));
                grains += grain.as_flattened().iter().map(|level| level * level).sum::<f32>() / count / 60.0;
                patches += patch.as_flattened().iter().map(|level| level * level).sum::<f32>() / count / 60.0;
            }
            // Even levels of -1 to 1 have a variance of a third, softened less.
            assert!(
                (grains - 1.0).abs() < 0.05 && (0.15..0.34).contains(&patches),
                "{side}: {grains} {patches}"
            );
        }
    }
}
