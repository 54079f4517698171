//! Rows of a table by index: token and position embeddings. A table above the binding limit is
//! stored in parts; each part's launch writes the rows it holds and leaves the rest alone.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use super::target::Target;
use super::weights::WeightLayout;
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, Elements, HostTensor, Shape, TensorDesc};

/// Rows of a table. Operands: table (V,C), ids (…) of u32. Result (…, C). An id of V or more gives
/// a row of zeros; callers check ids against the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// An id whose row is read, but learns nothing of that: `padding_idx` of PyTorch's `Embedding`.
    pub padding: Option<u32>,
}

params! {
    /// Parameters of the gather kernel.
    struct GatherParams { count: u32, width: u32, first_row: u32, part_rows: u32, vocabulary: u32 }
}

static GATHER: Kernel =
    Kernel { name: "gather", source: shader!("gather.wgsl"), params: GatherParams::FIELDS };

impl Graph {
    /// Rows of a table. table: (V,C), ids: (…) u32; returns (…, C).
    pub fn gather(&mut self, table: Value, ids: Value) -> Value {
        self.push(Gather { padding: None }, vec![table, ids])
    }

    /// Rows of a table by index, of which the row of padding learns nothing. table: (V,C), ids: (…) u32;
    /// returns (…, C).
    pub fn gather_padded(&mut self, table: Value, ids: Value, padding: Option<u32>) -> Value {
        self.push(Gather { padding }, vec![table, ids])
    }
}

impl OpDef for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [_, width] = dims("table", &inputs[0])?;
        if inputs[1].dtype != DType::U32 {
            return Err(format!("ids are {}, expected u32", inputs[1].dtype));
        }
        let mut out = inputs[1].shape.dims().to_vec();
        out.push(width);
        let shape = Shape::checked(&out).ok_or("ids have too many dimensions")?;
        Ok(TensorDesc::f32(shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let table = f32s(inputs[0]);
        let width = out.shape.width();
        let Elements::U32(ids) = inputs[1].elements() else { unreachable!("checked by infer") };
        let zeros = vec![0.0; width];
        let row = |&id: &u32| table.get(id as usize * width..(id as usize + 1) * width).unwrap_or(&zeros);
        HostTensor::f32(out.shape, ids.iter().flat_map(row).copied().collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn weight_layout(&self, i: usize, _target: &Target) -> WeightLayout {
        if i == 0 { WeightLayout::Table } else { WeightLayout::Plain }
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], out: &TensorDesc) -> Option<u64> {
        Some((inputs[1].bytes() + 2 * out.bytes()) as u64)
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let (rows, ids, dy) = (at.g.shape(at.inputs[0]).dims()[0], at.inputs[1], at.dy);
        Some(vec![at.of(0, |g| g.scatter_rows(dy, ids, rows, self.padding)), Gradient::None])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let out = cx.output();
        let variant =
            Variant::new().with_type("W", cx.input(0).dtype).with_type("Y", out.dtype).with_u32("WG", LANES);
        for (part, range) in cx.parts(0).into_iter().enumerate() {
            to_u32("table part", range.len() * out.shape.width())?;
            let params = GatherParams {
                count: to_u32("gathered elements", out.shape.elements())?,
                width: out.shape.width() as u32,
                first_row: to_u32("vocabulary", range.start)?,
                part_rows: to_u32("vocabulary", range.len())?,
                vocabulary: to_u32("vocabulary", cx.input(0).shape.dims()[0])?,
            };
            let binds = vec![cx.part(0, part), cx.operand(1), cx.result()];
            cx.dispatch(&GATHER, variant.clone(), params, binds, out.shape.elements().div_ceil(LANES))?;
        }
        Ok(())
    }
}
