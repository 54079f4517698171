//! The way back of split heads and of rows laid side by side: copies.

use std::ops::Range;

use super::def::{OpDef, arity, dims, f32s};
use super::layout::Copy4;
use super::lower::LowerCx;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::tensor::{HostTensor, TensorDesc};

/// (B,H,T,D) to (B,T,H·D).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeHeads;

/// A range of columns: (…,C) to (…,len).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceWidth {
    /// Which columns.
    pub range: Range<usize>,
}

impl Graph {
    /// (B,H,T,D) to (B,T,H·D).
    pub fn merge_heads(&mut self, x: Value) -> Value {
        self.push(MergeHeads, vec![x])
    }

    /// Some columns. x: (…,C); returns (…,len).
    pub fn slice_width(&mut self, x: Value, range: Range<usize>) -> Value {
        self.push(SliceWidth { range }, vec![x])
    }
}

impl OpDef for MergeHeads {
    fn name(&self) -> &'static str {
        "merge_heads"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, h, t, d] = dims("x", &inputs[0])?;
        Ok(TensorDesc::f32([b, t, h * d]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, h, t, d]: [usize; 4] = dims("x", &inputs[0].desc()).expect("checked by infer");
        let x = f32s(inputs[0]);
        let element = |i: usize| {
            let (b, ti, hi, di) = (i / d / h / t, i / d / h % t, i / d % h, i % d);
            x[((b * h + hi) * t + ti) * d + di]
        };
        HostTensor::f32(out.shape, (0..x.len()).map(element).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [b, h, t, d]: [usize; 4] = dims("x", &cx.input(0)).expect("checked by infer");
        let copy = Copy4 {
            extent: [b, t, h, d],
            src: (0, [h * t * d, d, t * d, 1]),
            dst: (0, [t * h * d, h * d, d, 1]),
        };
        copy.lower(cx, 0)
    }
}

impl OpDef for SliceWidth {
    fn name(&self) -> &'static str {
        "slice_width"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let (range, width) = (&self.range, inputs[0].shape.width());
        if range.start >= range.end || range.end > width {
            return Err(format!("columns {}..{} of {width}", range.start, range.end));
        }
        Ok(TensorDesc::f32(inputs[0].shape.with_width(range.len())))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let rows = f32s(inputs[0]).chunks(inputs[0].shape().width());
        HostTensor::f32(out.shape, rows.flat_map(|row| &row[self.range.clone()]).copied().collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (rows, width, length) = (cx.output().shape.rows(), cx.input(0).shape.width(), self.range.len());
        let copy = Copy4 {
            extent: [1, 1, rows, length],
            src: (self.range.start, [0, 0, width, 1]),
            dst: (0, [0, 0, length, 1]),
        };
        copy.lower(cx, 0)
    }
}
