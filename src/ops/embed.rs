//! Token embeddings of a sequence in the making: rows of a table by ids that lie on the device, with a
//! row of a position table added where the model learned one. The place in the sequence is a state, so
//! the same launch serves every step.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use super::target::Target;
use super::weights::WeightLayout;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Rows of a table by sequence. Operands: table (V,C), tokens (B,S) u32, step (u32, the place of the
/// first token wanted, less `first`), and positions (P,C) if set. Result (R,T,C), where row r belongs to
/// sequence r modulo B. An id of V or more gives a row of zeros; places past the end take the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedSequence {
    /// Rows R, a multiple of B, or the first of them, a divisor.
    pub rows: usize,
    /// Tokens T of each.
    pub count: usize,
    /// Added to the place of the step.
    pub first: usize,
    /// A position table is added.
    pub positions: bool,
}

params! {
    /// Parameters of the embedding kernel.
    struct EmbedParams {
        count: u32, width: u32, first_row: u32, part_rows: u32, vocabulary: u32,
        tokens: u32, sequences: u32, places: u32, first: u32, positions: u32,
    }
}

static EMBED: Kernel = Kernel { name: "embed", source: shader!("embed.wgsl"), params: EmbedParams::FIELDS };

impl Graph {
    /// Embeddings of `op.count` tokens of each sequence. table: (V,C), tokens: (B,S) u32, step: u32,
    /// positions: (P,C); returns (R,T,C).
    pub fn embed_sequence(
        &mut self,
        op: EmbedSequence,
        [table, tokens, step]: [Value; 3],
        positions: Option<Value>,
    ) -> Value {
        let op = EmbedSequence { positions: positions.is_some(), ..op };
        let inputs = [Some(table), Some(tokens), Some(step), positions];
        self.push(op, inputs.into_iter().flatten().collect())
    }
}

impl OpDef for EmbedSequence {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3 + usize::from(self.positions))?;
        let [_, width] = dims("table", &inputs[0])?;
        let [sequences, _] = dims("tokens", &inputs[1])?;
        if inputs[1].dtype != DType::U32 || inputs[2].dtype != DType::U32 {
            return Err("tokens and step are u32".to_owned());
        }
        let fits = |rows: usize| rows.is_multiple_of(sequences) || rows > 0 && sequences.is_multiple_of(rows);
        if sequences == 0 || !fits(self.rows) {
            return Err(format!("{} rows are no multiple or part of {sequences} sequences", self.rows));
        }
        if self.positions && dims::<2>("positions", &inputs[3])?[1] != width {
            return Err(format!("positions have shape {}, expected width {width}", inputs[3].shape));
        }
        Ok(TensorDesc::f32([self.rows, self.count, width]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let (table, width) = (f32s(inputs[0]), out.shape.width());
        let ids = inputs[1].as_u32().expect("checked by infer");
        let [sequences, length]: [usize; 2] = dims("tokens", &inputs[1].desc()).expect("checked by infer");
        let step = inputs[2].as_u32().expect("checked by infer")[0] as usize;
        let zeros = vec![0.0; width];
        let mut y = Vec::with_capacity(out.shape.elements());
        for row in 0..self.rows {
            for t in 0..self.count {
                let place = step + self.first + t;
                let id = ids[row % sequences * length + place.min(length - 1)] as usize;
                let found = table.get(id * width..(id + 1) * width).unwrap_or(&zeros);
                let learned = self.positions.then(|| {
                    let places = inputs[3].shape().dims()[0];
                    &f32s(inputs[3])[place.min(places - 1) * width..][..width]
                });
                y.extend(found.iter().zip(learned.unwrap_or(&zeros)).map(|(a, b)| a + b));
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn weight_layout(&self, i: usize, _target: &Target) -> WeightLayout {
        if i == 0 { WeightLayout::Table } else { WeightLayout::Plain }
    }

    fn cost_bytes(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> Option<u64> {
        Some((2 + u64::from(self.positions)) * out.bytes() as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let out = cx.output();
        let [sequences, length]: [usize; 2] = dims("tokens", &cx.input(1)).expect("checked by infer");
        let variant = Variant::new()
            .with_type("W", cx.input(0).dtype)
            .with_type("Y", out.dtype)
            .with_bool("POSITIONS", self.positions)
            .with_u32("WG", LANES);
        let places = if self.positions { cx.input(3).shape.dims()[0] } else { 1 };
        for (part, range) in cx.parts(0).into_iter().enumerate() {
            to_u32("table part", range.len() * out.shape.width())?;
            let params = EmbedParams {
                count: to_u32("embedded elements", out.shape.elements())?,
                width: out.shape.width() as u32,
                first_row: to_u32("vocabulary", range.start)?,
                part_rows: to_u32("vocabulary", range.len())?,
                vocabulary: to_u32("vocabulary", cx.input(0).shape.dims()[0])?,
                tokens: self.count as u32,
                sequences: sequences as u32,
                places: to_u32("sequence", sequences * length)? / sequences as u32,
                first: to_u32("sequence", self.first)?,
                positions: to_u32("positions", places)?,
            };
            let learned = cx.operand(if self.positions { 3 } else { 2 });
            let binds = vec![cx.part(0, part), cx.operand(1), cx.operand(2), learned, cx.result()];
            cx.dispatch(&EMBED, variant.clone(), params, binds, out.shape.elements().div_ceil(LANES))?;
        }
        Ok(())
    }
}
