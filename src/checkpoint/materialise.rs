//! Weights from their recipes: what a graph's [`Weight`] means, carried out on a checkpoint.
//!
//! A recipe joins parts along the outermost dimension; a part is a checkpoint tensor, transformed,
//! of which rows may be taken, or rows of zeros. [`check`] holds every recipe of a model against
//! the checkpoint's headers, so that a wrong checkpoint is refused as a whole and before a byte of
//! it is read; [`materialise`] makes one weight in f32. A tensor fits if its rows do: the boundary
//! between rows and what a row holds must be a boundary between two of its dimensions, so a
//! transposed matrix is an error although its element count is right.
//!
//! [`unused`] and [`scan`] make the warnings: tensors nobody reads, values that are not finite or
//! that f16 cannot hold. Nothing here knows any model.

use std::collections::BTreeSet;

use super::weights::Checkpoint;
use crate::checkpoint::buckets::Buckets;
use crate::checkpoint::{convolution, positions, rotary};
use crate::error::{Error, Result};
use crate::graph::{Part, TensorIndex, Transform, Weight};
use crate::printable::printable;
use crate::tensor::{HostTensor, Shape};

/// How many problems one error lists before it only counts.
const LISTED: usize = 5;

/// Names and lengths considered when looking for a near name; a hostile header may hold millions.
const NEAR_CANDIDATES: usize = 20_000;
const NEAR_CHARACTERS: usize = 256;

/// Largest finite f16.
const F16_MAX: f32 = 65504.0;

/// Holds all recipes against the checkpoint without reading any element.
///
/// # Errors
/// [`Error::Model`] listing the first five weights that cannot be made (missing tensors with near
/// names, wrong shapes, unreadable element types) and how many more there are.
pub fn check<'a>(
    weights: impl IntoIterator<Item = (&'a Weight, Shape)>,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let problems = weights.into_iter().filter_map(|(weight, shape)| problem(weight, shape, checkpoint));
    let problems: BTreeSet<String> = problems.collect();
    if problems.is_empty() {
        return Ok(());
    }
    let mut what: Vec<String> = problems.iter().take(LISTED).cloned().collect();
    if problems.len() > LISTED {
        what.push(format!("and {} more like these", problems.len() - LISTED));
    }
    let help = "config.json and the weights may belong to different models";
    Err(Error::model(checkpoint.name(), what.join("; "), help))
}

/// One weight in f32, of the given shape.
///
/// # Errors
/// [`Error::Model`] as [`check`], or if reading fails.
pub fn materialise(weight: &Weight, shape: Shape, checkpoint: &Checkpoint) -> Result<HostTensor> {
    check([(weight, shape)], checkpoint)?;
    let width = row_elements(shape);
    let mut out: Vec<f32> = Vec::new();
    for part in &weight.parts {
        match part {
            Part::Pairs(a, b) => {
                let half = half_of(shape);
                let [a, b] = [a, b].map(|w| materialise(w, half, checkpoint));
                let (a, b) = (a?.to_f32(), b?.to_f32());
                out.extend(a.chunks(width).zip(b.chunks(width)).flat_map(|(a, b)| a.iter().chain(b)));
            }
            Part::Zeros { rows } => out.resize(out.len() + rows * width, 0.0),
            Part::Rotary(table) => out.extend(rotary::table(table)),
            Part::NormedTaps { kernel, norm } => {
                let (found, values) = checkpoint.values(kernel)?;
                let mut whole = transformed(&Transform::Taps, found.dims(), values);
                let [gain, variance] = [&norm.gain, &norm.variance].map(|name| checkpoint.values(name));
                convolution::scale_rows(&mut whole, &gain?.1, &variance?.1, norm.eps.get());
                out.extend_from_slice(&whole);
            }
            Part::NormedBias { norm } => {
                let all = [&norm.gain, &norm.bias, &norm.mean, &norm.variance];
                let [gain, bias, mean, variance] = all.map(|name| checkpoint.values(name));
                let all = [&gain?.1[..], &bias?.1, &mean?.1, &variance?.1];
                out.extend(convolution::folded_bias(all, norm.eps.get()));
            }
            Part::Tensor { name, rows, transform } => {
                let (found, values) = checkpoint.values(name)?;
                let whole = transformed(transform, found.dims(), values);
                match rows {
                    Some(rows) => out.extend_from_slice(&whole[rows.start * width..rows.end * width]),
                    None if out.is_empty() => out = whole,
                    None => out.extend_from_slice(&whole),
                }
            }
        }
    }
    Ok(HostTensor::f32(shape, out))
}

/// A shape of half the outermost rows.
fn half_of(shape: Shape) -> Shape {
    let mut dims = shape.dims().to_vec();
    if let Some(rows) = dims.first_mut() {
        *rows /= 2;
    }
    Shape::new(&dims)
}

/// Elements in one outermost row of a shape.
fn row_elements(shape: Shape) -> usize {
    shape.dims().iter().skip(1).product()
}

/// Why a recipe cannot be carried out, if it cannot.
fn problem(weight: &Weight, shape: Shape, checkpoint: &Checkpoint) -> Option<String> {
    let width = row_elements(shape);
    let rows = shape.dims().first().copied().unwrap_or(1);
    if shape.elements() == 0 || weight.parts.is_empty() {
        return Some(format!("weight {weight} of shape {shape} has no elements"));
    }
    let mut total = 0usize;
    for part in &weight.parts {
        let found = match part {
            Part::Zeros { rows } => Ok(*rows),
            Part::Rotary(table) if table.width == width => Ok(table.rows()),
            Part::Rotary(table) => Err(format!("{weight} has rows of {}, not {width}", table.width)),
            Part::Pairs(a, b) => [a, b]
                .into_iter()
                .find_map(|w| problem(w, half_of(shape), checkpoint))
                .map_or(Ok(rows / 2 * 2), Err),
            Part::Tensor { name, rows, transform } => {
                part_rows(name, rows.as_ref(), transform, shape, checkpoint)
            }
            Part::NormedTaps { kernel, norm } => {
                let rows = part_rows(kernel, None, &Transform::Taps, shape, checkpoint);
                rows.and_then(|n| channels(&[&norm.gain, &norm.variance], n, checkpoint).map(|()| n))
            }
            Part::NormedBias { norm } => {
                let names = [&norm.gain, &norm.bias, &norm.mean, &norm.variance];
                channels(&names, shape.elements(), checkpoint).map(|()| shape.elements())
            }
        };
        match found {
            Ok(n) => total = total.saturating_add(n),
            Err(problem) => return Some(problem),
        }
    }
    (total != rows).then(|| match weight.parts.as_slice() {
        [Part::Tensor { name, rows: None, transform: Transform::None }] => {
            let found = checkpoint.index().get(name).copied().unwrap_or(Shape::new(&[]));
            wrong_shape(name, found, shape, "")
        }
        _ => format!("{weight} gives {total} rows of {width}, the model needs {rows}"),
    })
}

/// Whether tensors have one element for each of `n` channels.
fn channels(names: &[&String], n: usize, checkpoint: &Checkpoint) -> std::result::Result<(), String> {
    let shape = Shape::new(&[n]);
    names.iter().try_for_each(|name| {
        let found = part_rows(name, None, &Transform::None, shape, checkpoint)?;
        let have = || checkpoint.index().get(*name).copied().unwrap_or(shape);
        if found == n { Ok(()) } else { Err(wrong_shape(name, have(), shape, "")) }
    })
}

/// How many rows of the weight a part gives, if its tensor fits.
fn part_rows(
    name: &str,
    rows: Option<&std::ops::Range<usize>>,
    transform: &Transform,
    shape: Shape,
    checkpoint: &Checkpoint,
) -> std::result::Result<usize, String> {
    if !checkpoint.contains(name) {
        let near = near(name, checkpoint.index(), 3);
        let near: Vec<String> = near.iter().map(|n| format!("`{}`", printable(n))).collect();
        let near = if near.is_empty() { String::new() } else { format!(" (near: {})", near.join(", ")) };
        return Err(format!("tensor `{}` is missing{near}", printable(name)));
    }
    let found = checkpoint.readable(name).map_err(|e| match e {
        Error::Model { what, help, .. } => format!("{what} ({help})"),
        e => e.message(),
    })?;
    let width = row_elements(shape);
    let dims = dims_after(transform, found.dims()).map_err(|why| wrong_shape(name, found, shape, &why))?;
    let Some(available) = rows_of(&dims, width) else {
        let mut turned: Vec<usize> = found.dims().to_vec();
        turned.reverse();
        let why = if rows_of(&turned, width).is_some() { ": is it transposed?" } else { "" };
        return Err(wrong_shape(name, found, shape, why));
    };
    match rows {
        None => Ok(available),
        Some(r) if r.start <= r.end && r.end <= available => Ok(r.len()),
        Some(r) => {
            Err(wrong_shape(name, found, shape, &format!(": rows {}..{} are not there", r.start, r.end)))
        }
    }
}

fn wrong_shape(name: &str, found: Shape, shape: Shape, why: &str) -> String {
    format!("tensor `{}` has shape {found}, the model needs {shape}{why}", printable(name))
}

/// Rows of `width` elements in a tensor of these dimensions, if a row ends where a dimension does.
fn rows_of(dims: &[usize], width: usize) -> Option<usize> {
    let mut inner = 1usize;
    for (i, &d) in dims.iter().enumerate().rev() {
        if inner == width {
            return Some(dims[..=i].iter().product());
        }
        inner = inner.checked_mul(d)?;
    }
    (inner == width).then_some(1)
}

/// Dimensions of a tensor after its transform, or why it cannot be applied.
fn dims_after(transform: &Transform, dims: &[usize]) -> std::result::Result<Vec<usize>, String> {
    if *transform == Transform::None {
        return Ok(dims.to_vec());
    }
    let (&last, outer) = dims.split_last().ok_or(": it has no dimensions")?;
    let rows: usize = outer.iter().product();
    let area = |grid: &[usize; 2]| grid[0].checked_mul(grid[1]).filter(|&n| n > 0);
    match transform {
        Transform::None => Ok(dims.to_vec()),
        Transform::Transpose if dims.len() == 2 => Ok(vec![dims[1], dims[0]]),
        Transform::Transpose => Err(": only a matrix can be transposed".into()),
        Transform::Taps | Transform::StandardTaps(_) => match *dims {
            [out, inputs, kh, kw] => Ok(vec![out, kh, kw, inputs]),
            _ => Err(": it is not a convolution kernel".into()),
        },
        Transform::UnitRows => Ok(dims.to_vec()),
        Transform::FromTaps { channels } if last.is_multiple_of((*channels).max(1)) => Ok(dims.to_vec()),
        Transform::FromTaps { channels } => Err(format!(": expected rows of patches of {channels} channels")),
        Transform::HalfSquares { width } if *width == last => Ok(outer.to_vec()),
        Transform::HalfSquares { width } => Err(format!(": expected rows of {width}")),
        Transform::Positions { prefix, from, to, .. } => {
            let count = |grid| area(grid).and_then(|n| n.checked_add(*prefix));
            if count(from) != Some(rows) {
                return Err(format!(": expected {prefix} + {}x{} positions", from[0], from[1]));
            }
            Ok(vec![count(to).ok_or(": no positions are wanted")?, last])
        }
        Transform::RelativeBias { from, to } => {
            let expected = area(from).and_then(|_| positions::relative_rows(*from));
            if expected != Some(rows) {
                return Err(format!(": it is not a bias table of a {}x{} window", from[0], from[1]));
            }
            area(to).and_then(|_| positions::relative_rows(*to)).ok_or(": no window is wanted")?;
            let tokens = area(to).and_then(|n| n.checked_add(1)).ok_or(": the window is too large")?;
            tokens
                .checked_mul(tokens)
                .and_then(|n| n.checked_mul(last))
                .ok_or(": the window is too large")?;
            Ok(vec![last, tokens, tokens])
        }
        Transform::DistanceBias { buckets, columns, .. } if rows == *buckets => Ok(vec![last, *columns]),
        Transform::DistanceBias { buckets, .. } => Err(format!(": it is not a table of {buckets} buckets")),
    }
}

/// Carries out a transform on elements of a tensor of dimensions `dims`, which `dims_after` accepted.
pub(crate) fn transformed(transform: &Transform, dims: &[usize], data: Vec<f32>) -> Vec<f32> {
    let last = dims.last().copied().unwrap_or(1);
    match transform {
        Transform::None => data,
        Transform::Transpose => {
            let rows = data.len() / last.max(1);
            (0..last)
                .flat_map(|column| (0..rows).map(move |row| (row, column)))
                .map(|(r, c)| data[r * last + c])
                .collect()
        }
        Transform::Positions { prefix, from, to, filter } => {
            let (kept, grid) = data.split_at(prefix * last);
            let mut out = kept.to_vec();
            out.extend(positions::resample(grid, *from, *to, last, *filter));
            out
        }
        Transform::RelativeBias { from, to } => positions::relative_bias(&data, *from, *to, last),
        Transform::DistanceBias { buckets, max_distance, both_ways, zero, columns } => {
            let (max_distance, both_ways) = (*max_distance, *both_ways);
            Buckets { count: *buckets, max_distance, both_ways }.spread(&data, last, *zero, *columns)
        }
        Transform::Taps | Transform::StandardTaps(_) => {
            let (inputs, area) = (dims[1], dims[2] * dims[3]);
            match transform {
                Transform::StandardTaps(eps) => {
                    let data = convolution::standardised(&data, inputs * area, eps.get());
                    convolution::taps(&data, inputs, area)
                }
                _ => convolution::taps(&data, inputs, area),
            }
        }
        Transform::FromTaps { channels } => convolution::taps(&data, last / channels, *channels),
        Transform::UnitRows => convolution::unit_rows(&data, last),
        Transform::HalfSquares { .. } => convolution::half_squares(&data, last),
    }
}

/// Up to `limit` names that the one looked for may have been meant to be: first those that differ
/// by a prefix only (`module.`, `vit.`), then those of small edit distance.
pub fn near<'a>(name: &str, index: &'a TensorIndex, limit: usize) -> Vec<&'a str> {
    if name.len() > NEAR_CHARACTERS {
        return Vec::new();
    }
    let mut ranked: Vec<(bool, usize, &str)> = Vec::new();
    for candidate in index.keys().filter(|n| n.len() <= NEAR_CHARACTERS).take(NEAR_CANDIDATES) {
        let suffix = is_dotted_suffix(name, candidate) || is_dotted_suffix(candidate, name);
        let distance = strsim::levenshtein(name, candidate);
        if suffix || distance <= name.len() / 3 {
            ranked.push((!suffix, distance, candidate));
        }
    }
    ranked.sort_unstable();
    ranked.into_iter().take(limit).map(|(_, _, n)| n).collect()
}

fn is_dotted_suffix(short: &str, long: &str) -> bool {
    long.strip_suffix(short).is_some_and(|front| front.ends_with('.'))
}

/// Names of checkpoint tensors that no recipe reads, in order, without the buffers that training
/// leaves behind (masks, position ids, batch counters).
pub fn unused<'a>(weights: impl IntoIterator<Item = &'a Weight>, checkpoint: &Checkpoint) -> Vec<String> {
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for part in weights.into_iter().flat_map(|w| &w.parts) {
        used.extend(part.names());
    }
    let extra = checkpoint.index().keys().filter(|n| !used.contains(n.as_str()) && !is_buffer(n));
    extra.map(|n| printable(n)).collect()
}

/// Buffers found in published checkpoints that hold no learned weight.
fn is_buffer(name: &str) -> bool {
    const BUFFERS: [&str; 7] = [
        "position_ids",
        "relative_position_index",
        "num_batches_tracked",
        "codebook_used",
        "freqs_cis",
        "masked_bias",
        "attn.bias",
    ];
    BUFFERS.iter().any(|buffer| name == *buffer || is_dotted_suffix(buffer, name))
}

/// What a weight's values are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// How many values are NaN or infinite.
    pub non_finite: usize,
    /// How many finite values are beyond ±65504 and would become infinite in f16.
    pub beyond_f16: usize,
    /// How many values there are.
    pub total: usize,
}

/// Counts what is wrong with f32 values.
pub fn scan(values: &[f32]) -> Scan {
    let mut scan = Scan { total: values.len(), ..Scan::default() };
    // Magnitudes of floats order as their bits do, NaN and infinity last; the maximum of integers is
    // one vectorised pass, so only blocks with something to report are looked at closely.
    let magnitude = |x: &f32| (x.to_bits() & 0x7fff_ffff) as i32;
    for block in values.chunks(4096) {
        if block.iter().map(magnitude).fold(0, i32::max) <= magnitude(&F16_MAX) {
            continue;
        }
        scan.non_finite += block.iter().filter(|x| !x.is_finite()).count();
        scan.beyond_f16 += block.iter().filter(|x| x.is_finite() && x.abs() > F16_MAX).count();
    }
    scan
}

impl Scan {
    /// The warning that this weight deserves, if any; `half` if it is to be stored as f16.
    pub fn warning(&self, weight: &str, half: bool) -> Option<String> {
        let weight = printable(weight);
        if self.non_finite > 0 {
            let Scan { non_finite, total, .. } = self;
            return Some(format!("weight {weight}: {non_finite} of {total} values are NaN or infinite"));
        }
        (half && self.beyond_f16 > 0).then(|| {
            let Scan { beyond_f16, total, .. } = self;
            format!(
                "weight {weight}: {beyond_f16} of {total} values do not fit f16; it is better kept in f32"
            )
        })
    }
}
