//! Sums over outer dimensions: the way back of a broadcast.

use super::def::{OpDef, arity, f32s, is_suffix};
use super::elementwise::LANES;
use super::lower::{LowerCx, Operand, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// The sum over all dimensions before those of `shape`. Operand: x, whose last dimensions are those of `shape`,
/// leading ones ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumTo {
    /// Shape of the result.
    pub shape: Shape,
}

params! {
    /// Parameters of the sum kernel.
    struct SumParams { rows: u32, cols: u32, chunk: u32, blocks: u32, groups: u32 }
}

static SUM: Kernel = Kernel { name: "sum_rows", source: shader!("sum_rows.wgsl"), params: SumParams::FIELDS };

/// Rows that one workgroup adds up one after the other.
pub(super) const ROWS: usize = 64;

impl Graph {
    /// The sum over the dimensions of x before those of `shape`; x itself if there are none.
    pub fn sum_to(&mut self, x: Value, shape: Shape) -> Value {
        match self.shape(x) {
            same if same == shape => x,
            of if of.elements() == shape.elements() => self.reshape(x, shape),
            _ => self.push(SumTo { shape }, vec![x]),
        }
    }
}

impl OpDef for SumTo {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        if !is_suffix(&self.shape, &inputs[0].shape) {
            return Err(format!("{} does not sum up to {}", inputs[0].shape, self.shape));
        }
        Ok(TensorDesc::f32(self.shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let mut y = vec![0.0; out.shape.elements()];
        for row in f32s(inputs[0]).chunks(y.len()) {
            y.iter_mut().zip(row).for_each(|(y, x)| *y += x);
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let cols = cx.output().shape.elements();
        let rows = to_u32("summed elements", cx.input(0).shape.elements())? as usize / cols;
        let groups = rows.div_ceil(ROWS);
        if groups == 1 {
            let (operand, result, dtype) = (cx.operand(0), cx.result(), cx.input(0).dtype);
            return launch(cx, [operand, result], dtype, [rows, cols], rows);
        }
        let parts = cx.scratch(groups * cols)?;
        let (operand, dtype) = (cx.operand(0), cx.input(0).dtype);
        launch(cx, [operand, parts], dtype, [rows, cols], ROWS)?;
        of_parts(cx, parts, groups, cols)
    }
}

/// Adds up `rows` rows of f32 in scratch memory to the result, `ROWS` at a time.
pub(super) fn of_parts(cx: &mut LowerCx, mut parts: Operand, mut rows: usize, cols: usize) -> Result<()> {
    while rows > ROWS {
        let fewer = cx.scratch(rows.div_ceil(ROWS) * cols)?;
        launch(cx, [parts, fewer], DType::F32, [rows, cols], ROWS)?;
        (parts, rows) = (fewer, rows.div_ceil(ROWS));
    }
    let result = cx.result();
    launch(cx, [parts, result], DType::F32, [rows, cols], rows)
}

fn launch(
    cx: &mut LowerCx,
    [x, y]: [Operand; 2],
    dtype: DType,
    [rows, cols]: [usize; 2],
    chunk: usize,
) -> Result<()> {
    let blocks = cols.div_ceil(LANES);
    let groups = rows.div_ceil(chunk) * blocks;
    let params = SumParams {
        rows: rows as u32,
        cols: cols as u32,
        chunk: chunk as u32,
        blocks: blocks as u32,
        groups: to_u32("sum workgroups", groups)?,
    };
    let variant = Variant::new().with_type("X", dtype).with_u32("WG", LANES);
    cx.dispatch(&SUM, variant, params, vec![x, y], groups)
}
