//! The way back of reading rows by index: what was read from a row is added up there. WGSL has no atomic sums of
//! floats, and their order would change from run to run; so each row looks for its readers.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// The way back of [`super::Gather`]. Operands: dy (…,C), ids (…) u32. Result (V,C): row v is the sum of dy
/// where the id is v, zeros for padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScatterRows {
    /// Rows V of the table.
    pub rows: usize,
    /// The row that receives nothing.
    pub padding: Option<u32>,
}

/// The way back of [`super::TakeTokens`]. Operands: dy (B,M,C), places (B,M) u32; a place of T or more is the
/// last. Result (B,T,C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutTokens {
    /// Tokens T of each sequence.
    pub tokens: usize,
}

params! {
    /// Parameters of both kernels.
    struct ScatterParams { rows: u32, width: u32, count: u32, tokens: u32, padding: u32 }
}

static SCATTER: Kernel =
    Kernel { name: "scatter_rows", source: shader!("scatter_rows.wgsl"), params: ScatterParams::FIELDS };
static PUT: Kernel =
    Kernel { name: "put_tokens", source: shader!("put_tokens.wgsl"), params: ScatterParams::FIELDS };

impl Graph {
    /// Rows of dy (…,C) added up by ids (…) u32, but for padding: (V,C).
    pub fn scatter_rows(&mut self, dy: Value, ids: Value, rows: usize, padding: Option<u32>) -> Value {
        self.push(ScatterRows { rows, padding }, vec![dy, ids])
    }

    /// Tokens of dy (B,M,C) added up at places (B,M) u32 of sequences of so many: (B,T,C).
    pub fn put_tokens(&mut self, dy: Value, places: Value, tokens: usize) -> Value {
        self.push(PutTokens { tokens }, vec![dy, places])
    }
}

impl OpDef for ScatterRows {
    fn name(&self) -> &'static str {
        "scatter_rows"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        if inputs[1].dtype != DType::U32 || inputs[1].shape.elements() != inputs[0].shape.rows() {
            return Err(format!("ids are {}, expected a u32 for each row of {}", inputs[1], inputs[0].shape));
        }
        Ok(TensorDesc::f32([self.rows, inputs[0].shape.width()]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let width = out.shape.width();
        let mut y = vec![0.0; out.shape.elements()];
        let ids = inputs[1].as_u32().expect("checked by infer");
        let counts = |id: u32| (id as usize) < self.rows && Some(id) != self.padding;
        for (row, &id) in f32s(inputs[0]).chunks(width).zip(ids).filter(|(_, id)| counts(**id)) {
            y[id as usize * width..][..width].iter_mut().zip(row).for_each(|(y, x)| *y += x);
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let dy = cx.input(0);
        to_u32("table", cx.output().shape.elements())?;
        let params = ScatterParams {
            rows: self.rows as u32,
            width: dy.shape.width() as u32,
            count: to_u32("ids", dy.shape.elements())? / dy.shape.width() as u32,
            tokens: 0,
            padding: self.padding.unwrap_or(u32::MAX),
        };
        // More lanes look for readers faster; a software adapter has no more than one register's.
        let lanes = if cx.target.cpu { 8 } else { LANES };
        let variant = Variant::new().with_type("DY", dy.dtype).with_u32("WG", lanes);
        cx.dispatch(&SCATTER, variant, params, vec![cx.operand(0), cx.operand(1), cx.result()], self.rows)
    }
}

impl OpDef for PutTokens {
    fn name(&self) -> &'static str {
        "put_tokens"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [b, m, c] = dims("dy", &inputs[0])?;
        if inputs[1].dtype != DType::U32 || inputs[1].shape.dims() != [b, m] || self.tokens == 0 {
            return Err(format!("places are {}, expected u32 [{b},{m}]", inputs[1]));
        }
        Ok(TensorDesc::f32([b, self.tokens, c]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, m, c]: [usize; 3] = dims("dy", &inputs[0].desc()).expect("checked by infer");
        let mut y = vec![0.0; out.shape.elements()];
        let places = inputs[1].as_u32().expect("checked by infer");
        for (i, (dy, &place)) in f32s(inputs[0]).chunks(c).zip(places).enumerate() {
            let at = i / m * self.tokens + (place as usize).min(self.tokens - 1);
            y[at * c..(at + 1) * c].iter_mut().zip(dy).for_each(|(y, x)| *y += x);
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (dy, count) = (cx.input(0), cx.output().shape.elements());
        let params = ScatterParams {
            rows: to_u32("put elements", count)?,
            width: dy.shape.width() as u32,
            count: dy.shape.dims()[1] as u32,
            tokens: self.tokens as u32,
            padding: u32::MAX,
        };
        let variant = Variant::new().with_type("DY", dy.dtype).with_u32("WG", LANES);
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&PUT, variant, params, binds, count.div_ceil(LANES))
    }
}
