//! Group norm (Wu & He 2018) over images (B,H,W,C), in three ops so that every pixel is looked at
//! in parallel and no launch waits for another: [`GroupStats`] gives the mean and the sum of squared
//! deviations of every channel in every slice of pixels, [`GroupFactors`] merges those of a group
//! (Chan et al. 1979) with gain and bias into one factor and one offset a channel, and
//! [`GroupApply`] applies them. Deviations are always taken from a mean, never from zero, so a
//! group of large mean and small variance keeps its digits.

use rayon::prelude::*;

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::Act;
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, TensorDesc};

/// (B,H,W,C) to (B,S,2,C): mean, and sum of squared deviations from it, of each channel in each of
/// S slices of the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStats;

/// Statistics (B,S,2,C), gain (C) and bias (C) to (B,2,C): what each channel is multiplied by, and
/// what is added, to normalise its group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupFactors {
    /// Groups that the channels are divided into.
    pub groups: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// act(x · factor + offset) channel by channel. Operands: x (B,H,W,C), factors (B,2,C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupApply {
    /// Activation afterwards.
    pub act: Option<Act>,
}

params! {
    /// Parameters of the statistics kernel.
    struct StatsParams { count: u32, pixels: u32, channels: u32, slices: u32, slice_pixels: u32 }
}

params! {
    /// Parameters of the kernel that merges statistics.
    struct FactorsParams {
        rows: u32, groups: u32, channels: u32, pixels: u32, slices: u32, slice_pixels: u32, eps: f32,
    }
}

params! {
    /// Parameters of the kernel that applies factors.
    struct ApplyParams { count: u32, pixels: u32, channels: u32, slices: u32 }
}

/// A kernel that takes four channels at a time, and its twin for numbers of channels that are no
/// multiple of four.
struct Pair {
    quads: Kernel,
    scalars: Kernel,
}

static STATS: Pair = Pair {
    quads: Kernel {
        name: "group_stats",
        source: shader!("lib/finite.wgsl", "lib/act.wgsl", "lib/wide_quads.wgsl", "group_stats.wgsl"),
        params: StatsParams::FIELDS,
    },
    scalars: Kernel {
        name: "group_stats_scalars",
        source: shader!("lib/finite.wgsl", "lib/act.wgsl", "lib/wide_scalars.wgsl", "group_stats.wgsl"),
        params: StatsParams::FIELDS,
    },
};
static FACTORS: Kernel = Kernel {
    name: "group_factors",
    source: shader!("lib/row.wgsl", "group_factors.wgsl"),
    params: FactorsParams::FIELDS,
};
static APPLY: Pair = Pair {
    quads: Kernel {
        name: "group_apply",
        source: shader!("lib/finite.wgsl", "lib/act.wgsl", "lib/wide_quads.wgsl", "group_apply.wgsl"),
        params: ApplyParams::FIELDS,
    },
    scalars: Kernel {
        name: "group_apply_scalars",
        source: shader!("lib/finite.wgsl", "lib/act.wgsl", "lib/wide_scalars.wgsl", "group_apply.wgsl"),
        params: ApplyParams::FIELDS,
    },
};

/// Pixels that one lane applies factors to.
const APPLY_PIXELS: usize = 16;
/// Least pixels of a slice, and most slices: enough lanes for a GPU, and few statistics to merge.
const SLICE: usize = 32;
const MAX_SLICES: usize = 512;

/// Pixels of a slice of an image of so many pixels; the last slice may have fewer.
fn slice_pixels(pixels: usize) -> usize {
    pixels.div_ceil(MAX_SLICES).max(SLICE)
}

impl Graph {
    /// Group norm and an optional activation. x: (B,H,W,C), gain and bias: (C).
    pub fn group_norm(
        &mut self,
        x: Value,
        gain: Value,
        bias: Value,
        groups: usize,
        eps: f32,
        act: Option<Act>,
    ) -> Value {
        let shape = self.shape(x);
        let pixels = shape.dims().iter().skip(1).rev().skip(1).product();
        let stats = self.push(GroupStats, vec![x]);
        let inputs = vec![stats, gain, bias];
        let factors = self.push(GroupFactors { groups, pixels, eps }, inputs);
        self.push(GroupApply { act }, vec![x, factors])
    }
}

/// How the kernel of a pair reads `channels` channels: the kernel, channels or fours of them, and the
/// variant with the named element types.
fn wide(
    pair: &'static Pair,
    channels: usize,
    types: &[(&'static str, TensorDesc)],
) -> (&'static Kernel, usize, Variant) {
    let start = Variant::new().with_u32("WG", LANES);
    if channels.is_multiple_of(4) {
        let variant = types.iter().fold(start, |v, (name, desc)| v.with_vec4(name, desc.dtype));
        return (&pair.quads, channels / 4, variant);
    }
    let variant = types.iter().fold(start, |v, (name, desc)| v.with_type(name, desc.dtype));
    (&pair.scalars, channels, variant)
}

impl OpDef for GroupStats {
    fn name(&self) -> &'static str {
        "group_stats"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, h, w, c] = dims("x", &inputs[0])?;
        if h * w == 0 {
            return Err(format!("x has shape {}, which has no pixels", inputs[0].shape));
        }
        Ok(TensorDesc::f32([b, (h * w).div_ceil(slice_pixels(h * w)), 2, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, h, w, c]: [usize; 4] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let slice = slice_pixels(h * w) * c;
        let mut y = Vec::with_capacity(out.shape.elements());
        for part in f32s(inputs[0]).chunks(h * w * c).flat_map(|picture| picture.chunks(slice)) {
            let pixels = (part.len() / c) as f64;
            let channel = |ci: usize| part.iter().skip(ci).step_by(c).map(|&x| f64::from(x));
            let means: Vec<f64> = (0..c).map(|ci| channel(ci).sum::<f64>() / pixels).collect();
            y.extend(means.iter().map(|&m| m as f32));
            y.extend((0..c).map(|ci| channel(ci).map(|x| (x - means[ci]).powi(2)).sum::<f64>() as f32));
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        4 * inputs[0].shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, h, w, c]: [usize; 4] = dims("x", &cx.input(0)).expect("checked by infer");
        let [_, slices, ..]: [usize; 4] = dims("out", &cx.output()).expect("infer made it");
        to_u32("normalised elements", cx.input(0).shape.elements())?;
        let (kernel, channels, variant) = wide(&STATS, c, &[("X", cx.input(0)), ("Y", cx.output())]);
        let variant = variant.with_u32("ACT", 0);
        let params = StatsParams {
            count: to_u32("statistics", b * slices * channels)?,
            pixels: (h * w) as u32,
            channels: channels as u32,
            slices: slices as u32,
            slice_pixels: slice_pixels(h * w) as u32,
        };
        let groups = (b * slices * channels).div_ceil(LANES);
        cx.dispatch(kernel, variant, params, vec![cx.operand(0), cx.result()], groups)
    }
}

impl OpDef for GroupFactors {
    fn name(&self) -> &'static str {
        "group_factors"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        let [b, _, two, c] = dims("statistics", &inputs[0])?;
        if two != 2 || inputs[1..].iter().any(|d| d.shape.elements() != c) {
            return Err(format!("gain or bias does not have width {c}"));
        }
        if self.groups == 0 || c % self.groups != 0 {
            return Err(format!("{c} channels do not divide into {} groups", self.groups));
        }
        Ok(TensorDesc::f32([b, 2, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, slices, _, c]: [usize; 4] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let (gain, bias) = (f32s(inputs[1]), f32s(inputs[2]));
        let (slice, width) = (slice_pixels(self.pixels), c / self.groups);
        let mut y = vec![0.0; out.shape.elements()];
        for (stats, y) in f32s(inputs[0]).chunks(slices * 2 * c).zip(y.chunks_mut(2 * c)) {
            for group in 0..self.groups {
                let channels = group * width..(group + 1) * width;
                let total = (self.pixels * width) as f64;
                let part = |s: usize, ci: usize| {
                    let pixels = slice.min(self.pixels - s * slice) as f64;
                    let at = s * 2 * c + ci;
                    (pixels, f64::from(stats[at]), f64::from(stats[at + c]))
                };
                let parts = || (0..slices).flat_map(|s| channels.clone().map(move |ci| part(s, ci)));
                let mean = parts().map(|(n, mean, _)| n * mean).sum::<f64>() / total;
                let square = parts().map(|(n, m, square)| square + n * (m - mean).powi(2)).sum::<f64>();
                let inverse = 1.0 / (square / total + f64::from(self.eps)).sqrt();
                for ci in channels {
                    let factor = inverse * f64::from(gain[ci]);
                    y[ci] = factor as f32;
                    y[c + ci] = (f64::from(bias[ci]) - mean * factor) as f32;
                }
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        4 * inputs[0].shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, slices, _, c]: [usize; 4] = dims("x", &cx.input(0)).expect("checked by infer");
        to_u32("statistics", cx.input(0).shape.elements())?;
        let lanes = super::norm::row_lanes(cx, slices * c / self.groups);
        let variant = Variant::new().with_u32("WG", lanes);
        let rows = b * self.groups;
        let params = FactorsParams {
            rows: to_u32("groups", rows)?,
            groups: self.groups as u32,
            channels: c as u32,
            pixels: to_u32("pixels", self.pixels)?,
            slices: slices as u32,
            slice_pixels: slice_pixels(self.pixels) as u32,
            eps: self.eps,
        };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(2), cx.result()];
        cx.dispatch(&FACTORS, variant, params, binds, rows)
    }
}

impl OpDef for GroupApply {
    fn name(&self) -> &'static str {
        "group_apply"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [b, _, _, c] = dims("x", &inputs[0])?;
        if inputs[1].shape.dims() != [b, 2, c] {
            return Err(format!("factors have shape {}, expected [{b},2,{c}]", inputs[1].shape));
        }
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, h, w, c]: [usize; 4] = dims("x", out).expect("infer made it");
        let factors = f32s(inputs[1]);
        let mut y = f32s(inputs[0]).to_vec();
        y.par_chunks_mut(c).enumerate().for_each(|(pixel, y)| {
            let factors = &factors[pixel / (h * w) * 2 * c..];
            for (ci, y) in y.iter_mut().enumerate() {
                let v = *y * factors[ci] + factors[c + ci];
                *y = self.act.map_or(v, |act| act.apply(v));
            }
        });
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * out.shape.elements() as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, h, w, c]: [usize; 4] = dims("x", &cx.output()).expect("infer made it");
        to_u32("normalised elements", cx.output().shape.elements())?;
        let types = [("X", cx.input(0)), ("Y", cx.output()), ("F", cx.input(1))];
        let (kernel, channels, variant) = wide(&APPLY, c, &types);
        let variant = variant.with_u32("ACT", self.act.map_or(0, Act::code)).with_u32("PIXELS", APPLY_PIXELS);
        let slices = (h * w).div_ceil(APPLY_PIXELS);
        let params = ApplyParams {
            count: to_u32("normalised elements", b * slices * channels)?,
            pixels: (h * w) as u32,
            channels: channels as u32,
            slices: slices as u32,
        };
        let groups = (b * slices * channels).div_ceil(LANES);
        cx.dispatch(kernel, variant, params, vec![cx.operand(0), cx.operand(1), cx.result()], groups)
    }
}
