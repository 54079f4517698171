//! Vector quantisation: which row of a codebook is nearest to a vector.

use rayon::prelude::*;

use super::def::{OpDef, arity, dims, f32s};
use super::lower::{LowerCx, to_u32};
use super::norm::row_lanes;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Index of the nearest code, the first of equals. Operands: x (…, D), codes (V,D), offsets (V).
/// Result (…) of u32: where x·code - offset is largest. With offsets of half the square of each
/// code's length that is the nearest by distance; for codes of length one they do not matter, and
/// the direction of x decides. [`NearestCode::NONE`] where one of them is a NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearestCode;

params! {
    /// Parameters of the kernel.
    struct NearestParams { rows: u32, width: u32, codes: u32 }
}

static NEAREST: Kernel = Kernel {
    name: "nearest_code",
    source: shader!("lib/finite.wgsl", "nearest_code.wgsl"),
    params: NearestParams::FIELDS,
};

impl NearestCode {
    /// The id of a vector that has no nearest code; beyond every codebook.
    pub const NONE: u32 = u32::MAX;
}

impl Graph {
    /// Index of the nearest code by x·code - offset. x: (…, D), codes: (V,D), offsets: (V); returns
    /// (…) of u32.
    pub fn nearest_code(&mut self, x: Value, codes: Value, offsets: Value) -> Value {
        self.push(NearestCode, vec![x, codes, offsets])
    }
}

impl OpDef for NearestCode {
    fn name(&self) -> &'static str {
        "nearest_code"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        let [codes, width] = dims("codes", &inputs[1])?;
        if inputs[0].shape.width() != width || inputs[2].shape.elements() != codes {
            return Err(format!(
                "x has shape {}, codes {}, offsets {}",
                inputs[0].shape, inputs[1].shape, inputs[2].shape
            ));
        }
        let outer = inputs[0].shape.dims();
        Ok(TensorDesc::new(DType::U32, crate::tensor::Shape::new(&outer[..outer.len().saturating_sub(1)])))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let (x, codes, offsets) = (f32s(inputs[0]), f32s(inputs[1]), f32s(inputs[2]));
        let width = inputs[1].shape().width();
        let nearest = |x: &[f32]| {
            let scores = codes
                .chunks(width)
                .zip(offsets)
                .map(|(code, offset)| code.iter().zip(x).map(|(a, b)| a * b).sum::<f32>() - offset);
            let best = |(i, top): (u32, f32), (j, score): (u32, f32)| {
                if i == Self::NONE || score.is_nan() {
                    (Self::NONE, top)
                } else if score > top {
                    (j, score)
                } else {
                    (i, top)
                }
            };
            (0..).zip(scores).fold((0, f32::NEG_INFINITY), best).0
        };
        HostTensor::u32(out.shape, x.par_chunks(width).map(nearest).collect())
    }

    fn flops(&self, inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * (out.shape.elements() * inputs[1].shape.elements()) as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [codes, width]: [usize; 2] = dims("codes", &cx.input(1)).expect("checked by infer");
        let rows = cx.output().shape.elements();
        to_u32("codebook", codes * width)?;
        to_u32("quantised elements", rows * width)?;
        let lanes = row_lanes(cx, codes);
        let variant = Variant::new().with_type("X", cx.input(0).dtype).with_u32("WG", lanes);
        let params = NearestParams { rows: rows as u32, width: width as u32, codes: codes as u32 };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(2), cx.result()];
        cx.dispatch(&NEAREST, variant, params, binds, rows)
    }
}
