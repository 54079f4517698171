//! Max pooling over images (B,H,W,C).

use super::conv::Window;
use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// Largest element of every window, channel by channel: (B,H,W,C) to (B,Ho,Wo,C). Padding never
/// wins: windows are cut at the border of the image, and one that lies outside gives the lowest
/// number. A NaN wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// The window.
    pub window: Window,
}

params! {
    /// Parameters of the pooling kernel.
    struct PoolParams {
        count: u32, channels: u32, height: u32, width: u32, out_height: u32, out_width: u32,
        size_y: u32, size_x: u32, stride_y: u32, stride_x: u32, pad_top: u32, pad_left: u32,
    }
}

static POOL: Kernel = Kernel {
    name: "max_pool",
    source: shader!("lib/finite.wgsl", "max_pool.wgsl"),
    params: PoolParams::FIELDS,
};

/// What an empty window gives; as in the kernel.
const LOWEST: f32 = -3.0e38;

/// The larger of two; a NaN if either is.
fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

impl Graph {
    /// Largest element of every window. x: (B,H,W,C); returns (B,Ho,Wo,C).
    pub fn max_pool(&mut self, x: Value, window: Window) -> Value {
        self.push(MaxPool { window }, vec![x])
    }
}

impl OpDef for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, h, w, c] = dims("x", &inputs[0])?;
        let [ho, wo] = self.window.out([h, w])?;
        Ok(TensorDesc::f32(Shape::checked(&[b, ho, wo, c]).ok_or("the result is too large")?))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, h, w, c]: [usize; 4] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let [_, ho, wo, _]: [usize; 4] = dims("out", out).expect("infer made it");
        let Window { size: [kh, kw], stride: [sy, sx], pad: [top, left, ..] } = self.window;
        let x = f32s(inputs[0]);
        let element = |i: usize| {
            let (b, oy, ox, ci) = (i / c / wo / ho, i / c / wo % ho, i / c % wo, i % c);
            let mut most = LOWEST;
            for (y, xx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (oy * sy + ky, ox * sx + kx))) {
                if let (Some(y), Some(xx)) = (y.checked_sub(top), xx.checked_sub(left))
                    && y < h
                    && xx < w
                {
                    most = larger(most, x[((b * h + y) * w + xx) * c + ci]);
                }
            }
            most
        };
        HostTensor::f32(out.shape, (0..out.shape.elements()).map(element).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        (self.window.size[0] * self.window.size[1] * out.shape.elements()) as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, h, w, c]: [usize; 4] = dims("x", &cx.input(0)).expect("checked by infer");
        let [_, ho, wo, _]: [usize; 4] = dims("out", &cx.output()).expect("infer made it");
        to_u32("pooled elements", cx.input(0).shape.elements())?;
        let count = cx.output().shape.elements();
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("WG", LANES);
        let params = PoolParams {
            count: to_u32("pooled elements", count)?,
            channels: c as u32,
            height: h as u32,
            width: w as u32,
            out_height: ho as u32,
            out_width: wo as u32,
            size_y: to_u32("window", self.window.size[0])?,
            size_x: to_u32("window", self.window.size[1])?,
            stride_y: to_u32("stride", self.window.stride[0])?,
            stride_x: to_u32("stride", self.window.stride[1])?,
            pad_top: to_u32("padding", self.window.pad[0])?,
            pad_left: to_u32("padding", self.window.pad[1])?,
        };
        cx.dispatch(&POOL, variant, params, vec![cx.operand(0), cx.result()], count.div_ceil(LANES))
    }
}
