//! Convolutions over images (B,H,W,C): y = act(x * w + bias) + residual, computed as a matrix
//! product without a matrix of patches. Rows are the pixels of the result, K is all places of the
//! kernel with the channels of one pixel side by side, columns are the output channels; so the
//! kernels of linear layers compute it ([`super::matmul::variants`]), reading x through
//! `lib/conv_rows.wgsl`. A convolution of one pixel, stride 1 and no padding *is* a linear layer:
//! [`Graph::conv2d`] builds it as one.
//!
//! Dilated and grouped convolutions are not there.

use rayon::prelude::*;

use super::def::{OpDef, arity, dims, f32s, is_suffix};
use super::elementwise::Act;
use super::lower::{LowerCx, to_u32};
use super::matmul::problem::{ConvParams, Problem};
use super::matmul::variants;
use super::target::Target;
use super::weights::WeightLayout;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::Variant;
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// A window that slides over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of pixels it covers.
    pub size: [usize; 2],
    /// Rows and columns it moves by.
    pub stride: [usize; 2],
    /// Pixels added around the image: top, left, bottom, right.
    pub pad: [usize; 4],
}

impl Window {
    /// An odd, square window that leaves the image's size: padded by half of itself.
    pub fn same(side: usize) -> Self {
        Self { size: [side; 2], stride: [1; 2], pad: [side / 2; 4] }
    }

    /// A square window and a stride, without padding.
    pub fn strided(side: usize, stride: usize) -> Self {
        Self { size: [side; 2], stride: [stride; 2], pad: [0; 4] }
    }

    /// The same with padding as TensorFlow's `SAME` has it for an image: the result is the image
    /// divided by the stride, rounded up, and the odd pixel goes to the bottom and right.
    pub fn pad_same(self, picture: [usize; 2]) -> Self {
        let total = |i: usize| {
            let out = picture[i].div_ceil(self.stride[i].max(1));
            ((out.max(1) - 1) * self.stride[i] + self.size[i]).saturating_sub(picture[i])
        };
        let [v, h] = [total(0), total(1)];
        Self { pad: [v / 2, h / 2, v - v / 2, h - h / 2], ..self }
    }

    /// Rows and columns of the result for an image of `picture` pixels.
    pub(super) fn out(&self, picture: [usize; 2]) -> Result<[usize; 2], String> {
        let side = |i: usize| {
            let padded = picture[i] + self.pad[i] + self.pad[i + 2];
            let moves = padded.checked_sub(self.size[i])?.checked_div(self.stride[i])?;
            (self.size[i] > 0).then_some(moves + 1)
        };
        match (side(0), side(1)) {
            (Some(h), Some(w)) => Ok([h, w]),
            _ => Err(format!("no window {self:?} fits an image of {}x{}", picture[0], picture[1])),
        }
    }
}

/// A convolution. Operands: x (B,H,W,C), weight (N, kh·kw·C) with the places of the kernel row by
/// row and the channels innermost, then those of bias (N) and residual that are set. Result
/// (B,Ho,Wo,N).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2d {
    /// The kernel's window; padding is zero.
    pub window: Window,
    /// Doubles the image in both directions first, by repeating pixels.
    pub up: bool,
    /// Adds a bias of shape (N).
    pub bias: bool,
    /// Applies an activation after the bias.
    pub act: Option<Act>,
    /// Adds a tensor whose shape is a suffix of the result's, broadcast over outer dimensions.
    pub residual: bool,
}

impl Graph {
    /// Convolution. x: (B,H,W,C), weight: (N, kh·kw·C) with the places of the kernel row by row and channels
    /// innermost, bias: (N); returns (B,Ho,Wo,N).
    pub fn conv2d(&mut self, x: Value, weight: Value, bias: Option<Value>, window: Window) -> Value {
        self.conv2d_of(x, weight, bias, Conv2d { window, ..Conv2d::plain() })
    }

    /// The same of the image doubled in both directions by repeating pixels.
    /// x: (B,H,W,C); returns (B,2·H,2·W,N) for a window that leaves the size.
    pub fn conv2d_up(&mut self, x: Value, weight: Value, bias: Option<Value>, window: Window) -> Value {
        self.conv2d_of(x, weight, bias, Conv2d { window, up: true, ..Conv2d::plain() })
    }

    fn conv2d_of(&mut self, x: Value, weight: Value, bias: Option<Value>, op: Conv2d) -> Value {
        if !op.up && op.window == Window::strided(1, 1) {
            return self.linear(x, weight, bias);
        }
        let inputs = [Some(x), Some(weight), bias].into_iter().flatten().collect();
        self.push(Conv2d { bias: bias.is_some(), ..op }, inputs)
    }
}

/// Sizes of one convolution.
struct Sizes {
    b: usize,
    /// Rows and columns of x as it is stored.
    picture: [usize; 2],
    c: usize,
    out: [usize; 2],
    n: usize,
}

impl Conv2d {
    fn plain() -> Self {
        Self { window: Window::strided(1, 1), up: false, bias: false, act: None, residual: false }
    }

    /// Places of the kernel.
    fn taps(&self) -> usize {
        self.window.size[0] * self.window.size[1]
    }

    /// Index of each optional operand: (bias, residual).
    fn optional(&self) -> (Option<usize>, Option<usize>) {
        (self.bias.then_some(2), self.residual.then_some(2 + usize::from(self.bias)))
    }

    fn sizes(&self, inputs: &[TensorDesc]) -> Result<Sizes, String> {
        let [b, h, w, c] = dims("x", &inputs[0])?;
        let [n, k] = dims("weight", &inputs[1])?;
        let doubled = if self.up { [2 * h, 2 * w] } else { [h, w] };
        let out = self.window.out(doubled)?;
        let [kh, kw] = self.window.size;
        if kh.checked_mul(kw).and_then(|taps| taps.checked_mul(c)) != Some(k) {
            return Err(format!(
                "the weight has shape {}, a window of {kh}x{kw} over {c} channels needs another width",
                inputs[1].shape
            ));
        }
        Ok(Sizes { b, picture: [h, w], c, out, n })
    }
}

impl OpDef for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2 + usize::from(self.bias) + usize::from(self.residual))?;
        let Sizes { b, out: [h, w], n, .. } = self.sizes(inputs)?;
        let shape = Shape::checked(&[b, h, w, n]).ok_or("the result is too large")?;
        let (bias, residual) = self.optional();
        if let Some(i) = bias
            && inputs[i].shape.elements() != n
        {
            return Err(format!("bias has shape {}, expected [{n}]", inputs[i].shape));
        }
        if let Some(i) = residual
            && !is_suffix(&inputs[i].shape, &shape)
        {
            return Err(format!("residual has shape {}, the result {shape}", inputs[i].shape));
        }
        Ok(TensorDesc::f32(shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let descs: Vec<TensorDesc> = inputs.iter().map(|t| t.desc()).collect();
        let Sizes { picture: [h, w], c, out: [ho, wo], n, .. } =
            self.sizes(&descs).expect("checked by infer");
        let (x, weight) = (f32s(inputs[0]), f32s(inputs[1]));
        let (bias, residual) = self.optional();
        let get = |i: Option<usize>| i.map(|i| f32s(inputs[i]));
        let (bias, residual) = (get(bias), get(residual));
        let Window { size: [kh, kw], stride: [sy, sx], pad: [top, left, ..] } = self.window;
        let up = usize::from(self.up);
        // The pixel of x that place (ky, kx) of the kernel sees from a pixel of the result.
        let source = |b: usize, oy: usize, ox: usize, ky: usize, kx: usize| {
            let y = (oy * sy + ky).checked_sub(top).filter(|&y| y < h << up)? >> up;
            let xx = (ox * sx + kx).checked_sub(left).filter(|&xx| xx < w << up)? >> up;
            Some(((b * h + y) * w + xx) * c)
        };
        let mut y = vec![0.0; out.shape.elements()];
        y.par_chunks_mut(n).enumerate().for_each(|(row, y)| {
            let (b, oy, ox) = (row / (ho * wo), row / wo % ho, row % wo);
            for (col, y) in y.iter_mut().enumerate() {
                let mut sum = 0.0f32;
                for tap in 0..kh * kw {
                    let Some(at) = source(b, oy, ox, tap / kw, tap % kw) else { continue };
                    let w = &weight[(col * kh * kw + tap) * c..][..c];
                    for (x, w) in x[at..at + c].iter().zip(w) {
                        sum += x * w;
                    }
                }
                sum += bias.map_or(0.0, |bias| bias[col]);
                if let Some(act) = self.act {
                    sum = act.apply(sum);
                }
                *y = sum + residual.map_or(0.0, |r| r[(row * n + col) % r.len()]);
            }
        });
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * out.shape.elements() as u64 * inputs[1].shape.width() as u64
    }

    fn weight_layout(&self, i: usize, target: &Target) -> WeightLayout {
        match i {
            1 if target.cpu => WeightLayout::Slabs,
            1 => WeightLayout::Columns,
            _ => WeightLayout::Plain,
        }
    }

    fn in_place(&self) -> Option<usize> {
        self.optional().1
    }

    fn narrows(&self) -> bool {
        !self.residual
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (bias, residual) = self.optional();
        let in_place = residual.is_some() && cx.in_place();
        let residual = residual.filter(|_| !in_place);
        let (x, w, y) = (cx.input(0), cx.input(1), cx.output());
        let Sizes { b, picture, c, out, n } = self.sizes(&[x, w]).expect("checked by infer");
        let residual_desc = residual.map(|i| cx.input(i));
        let variant = Variant::new()
            .with_type("W", w.dtype)
            .with_type("R", residual_desc.map_or(x.dtype, |d| d.dtype))
            .with_type("Y", y.dtype)
            .with_u32("ACT", self.act.map_or(0, Act::code))
            .with_bool("BIAS", self.bias)
            .with_bool("RESIDUAL", self.residual)
            .with_bool("IN_PLACE", in_place)
            .with_bool("SLABS", self.weight_layout(1, cx.target) == WeightLayout::Slabs);
        to_u32("convolution operand", x.shape.elements())?;
        to_u32("convolution result", y.shape.elements())?;
        let (rows, taps) = (b * out[0] * out[1], self.taps());
        let fours = n.is_multiple_of(4);
        let needs = Default::default();
        let problem = Problem { rows, inner: c, cols: n, x: x.dtype, w: w.dtype, y: y.dtype, fours, needs };
        let chosen =
            variants::by_name(cx.choose("conv2d", variants::conv_candidates(cx.target, &problem, taps)));
        let variant = chosen.specialise(variant, cx.target, &problem);
        for (part, range) in cx.parts(1).into_iter().enumerate() {
            let cols = range.len();
            to_u32("convolution weight", taps * c * cols.next_multiple_of(WeightLayout::SLAB))?;
            let groups = chosen.groups(rows, cols);
            let params = ConvParams {
                rows: rows as u32,
                inner: (taps * c) as u32,
                cols: cols as u32,
                first_col: range.start as u32,
                total_cols: n as u32,
                stride4: cols.div_ceil(4) as u32,
                residual_rows: residual_desc.map_or(1, |d| (d.shape.elements() / n).max(1) as u32),
                groups: to_u32("convolution workgroups", groups)?,
                depth: c as u32,
                taps: taps as u32,
                kernel_width: self.window.size[1] as u32,
                height: picture[0] as u32,
                width: picture[1] as u32,
                out_height: out[0] as u32,
                out_width: out[1] as u32,
                stride_y: to_u32("stride", self.window.stride[0])?,
                stride_x: to_u32("stride", self.window.stride[1])?,
                pad_top: to_u32("padding", self.window.pad[0])?,
                pad_left: to_u32("padding", self.window.pad[1])?,
                up: u32::from(self.up),
            };
            let or_x = |i: Option<usize>, cx: &LowerCx| cx.operand(i.unwrap_or(0));
            let binds =
                vec![cx.operand(0), cx.part(1, part), or_x(bias, cx), or_x(residual, cx), cx.result()];
            cx.dispatch(chosen.conv_kernel(cx.target), variant.clone(), params, binds, groups)?;
        }
        Ok(())
    }
}
