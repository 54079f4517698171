//! Rows of sequences whose tokens are drawn in any order (RandAR): before each token goes an instruction
//! that says where in the image it belongs. Beside the embeddings this op keeps what follows from the
//! order: at which place of the cache the rows stand, and by which angles each place is turned. So the
//! ops after it need not know of orders.
//!
//! Places: 0 the class, 1 + 2i the instruction I for the i-th token, 2 + 2i that token T. A step that
//! follows on m drawn tokens and is to draw n more has 2m - 1 + n rows: T, I, T, … of the drawn ones (the
//! first I is in the cache already), then n instructions side by side. Those stand where they were
//! entered, at neighbouring places, until the next step enters pairs there.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use super::target::Target;
use super::weights::WeightLayout;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Embeds tokens and instructions. Operands: table (V,C); tokens (B,S) u32, the i-th drawn at 1 + i; step
/// (u32, the first new token's place among the tokens, 0 for a prompt); instruction (C) elements, before
/// it is turned; and two states that are written: rotary table (P+N,D), P rows by place in the cache and
/// behind them, only read, the angles of each drawn token's position; and place (u32, twice the step).
/// Result (R,T,C), where row r belongs to sequence r modulo B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOrdered {
    /// Rows R, a multiple of B.
    pub rows: usize,
    /// Tokens and instructions T of each.
    pub count: usize,
    /// 1 in a prompt, whose place 0 is the class; else 0.
    pub first: usize,
    /// From this row on there are instructions only.
    pub spread: usize,
    /// Places P of the cache.
    pub places: usize,
}

params! {
    /// Parameters of the kernel.
    struct OrderedParams {
        count: u32, width: u32, first_row: u32, part_rows: u32, vocabulary: u32, rows: u32,
        sequences: u32, length: u32, first: u32, spread: u32, head_width: u32, places: u32, turns: u32,
    }
}

static ORDERED: Kernel =
    Kernel { name: "embed_ordered", source: shader!("embed_ordered.wgsl"), params: OrderedParams::FIELDS };

impl Graph {
    /// Embeddings of new tokens and instructions. Operands as [`EmbedOrdered`] has them; returns (R,T,C).
    pub fn embed_ordered(&mut self, op: EmbedOrdered, operands: [Value; 6]) -> Value {
        self.push(op, operands.to_vec())
    }
}

/// Where the states are among the operands.
const ROTARY: usize = 4;
const PLACE: usize = 5;

impl EmbedOrdered {
    /// Where new row `t` is entered, and its place in the sequence.
    fn row(&self, step: usize, t: usize) -> (usize, usize) {
        let entered = 2 * step + self.first + t;
        (entered, entered + t.saturating_sub(self.spread))
    }

    /// The angles of a place in the sequence, (D).
    fn turn<'a>(&self, rotary: &'a HostTensor, place: usize) -> &'a [f32] {
        let (rows, d) = (rotary.shape().dims()[0], rotary.shape().width());
        let which = self.places + (place.max(1) - 1) / 2;
        &f32s(rotary)[which.min(rows - 1) * d..][..d]
    }
}

impl OpDef for EmbedOrdered {
    fn name(&self) -> &'static str {
        "embed_ordered"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 6)?;
        let [_, width] = dims("table", &inputs[0])?;
        let [sequences, length] = dims("tokens", &inputs[1])?;
        if [1, 2, PLACE].iter().any(|&i| inputs[i].dtype != DType::U32) {
            return Err("tokens, step and place are u32".to_owned());
        }
        if sequences == 0 || length == 0 || !self.rows.is_multiple_of(sequences) {
            return Err(format!("{} rows are no multiple of {sequences} sequences", self.rows));
        }
        let [turns, d] = dims("rotary", &inputs[ROTARY])?;
        let even = d > 0 && d.is_multiple_of(2) && width.is_multiple_of(d);
        if turns <= self.places || !even || inputs[3].shape.elements() != width {
            return Err(format!(
                "instruction {} and rotary {} do not fit width {width} and {} places",
                inputs[3].shape, inputs[ROTARY].shape, self.places
            ));
        }
        Ok(TensorDesc::f32([self.rows, self.count, width]))
    }

    fn writes(&self) -> Vec<usize> {
        vec![ROTARY, PLACE]
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let (table, width) = (f32s(inputs[0]), out.shape.width());
        let ids = inputs[1].as_u32().expect("checked by infer");
        let [sequences, length]: [usize; 2] = dims("tokens", &inputs[1].desc()).expect("checked by infer");
        let step = inputs[2].as_u32().expect("checked by infer")[0] as usize;
        let d = inputs[ROTARY].shape().width();
        let zeros = vec![0.0; width];
        let mut y = Vec::with_capacity(out.shape.elements());
        for row in 0..self.rows {
            for t in 0..self.count {
                let (_, place) = self.row(step, t);
                if place % 2 == 0 {
                    let id = ids[row % sequences * length + (place / 2).min(length - 1)] as usize;
                    y.extend(table.get(id * width..(id + 1) * width).unwrap_or(&zeros));
                    continue;
                }
                let turn = self.turn(inputs[ROTARY], place);
                for (pair, x) in f32s(inputs[3]).chunks(2).enumerate() {
                    let [cos, sin] = [0, 1].map(|i| turn[2 * pair % d + i]);
                    y.extend([x[0] * cos - x[1] * sin, x[1] * cos + x[0] * sin]);
                }
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let step = inputs[2].as_u32().expect("checked by infer")[0] as usize;
        let d = inputs[ROTARY].shape().width();
        let mut rotary = f32s(inputs[ROTARY]).to_vec();
        for t in 0..self.count {
            let (entered, place) = self.row(step, t);
            if entered < self.places {
                rotary[entered * d..][..d].copy_from_slice(self.turn(inputs[ROTARY], place));
            }
        }
        let mut place = inputs[PLACE].as_u32().expect("checked by infer").to_vec();
        place[0] = 2 * step as u32;
        vec![HostTensor::f32(inputs[ROTARY].shape(), rotary), HostTensor::u32(inputs[PLACE].shape(), place)]
    }

    fn flops(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        0
    }

    fn weight_layout(&self, i: usize, _target: &Target) -> WeightLayout {
        if i == 0 { WeightLayout::Table } else { WeightLayout::Plain }
    }

    fn cost_bytes(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> Option<u64> {
        Some(2 * out.bytes() as u64)
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let out = cx.output();
        let [sequences, length]: [usize; 2] = dims("tokens", &cx.input(1)).expect("checked by infer");
        let [turns, d]: [usize; 2] = dims("rotary", &cx.input(ROTARY)).expect("checked by infer");
        let variant =
            Variant::new().with_type("W", cx.input(0).dtype).with_type("Y", out.dtype).with_u32("WG", LANES);
        to_u32("rotary table", turns * d)?;
        for (part, range) in cx.parts(0).into_iter().enumerate() {
            to_u32("table part", range.len() * out.shape.width())?;
            let params = OrderedParams {
                count: to_u32("embedded elements", out.shape.elements())?,
                width: out.shape.width() as u32,
                first_row: to_u32("vocabulary", range.start)?,
                part_rows: to_u32("vocabulary", range.len())?,
                vocabulary: to_u32("vocabulary", cx.input(0).shape.dims()[0])?,
                rows: self.count as u32,
                sequences: sequences as u32,
                length: to_u32("sequence", sequences * length)? / sequences as u32,
                first: self.first as u32,
                spread: to_u32("sequence", self.spread)?,
                head_width: d as u32,
                places: self.places as u32,
                turns: turns as u32,
            };
            let operands = (1..6).map(|i| cx.operand(i));
            let binds = [cx.part(0, part)].into_iter().chain(operands).chain([cx.result()]).collect();
            cx.dispatch(&ORDERED, variant.clone(), params, binds, out.shape.elements().div_ceil(LANES))?;
        }
        Ok(())
    }
}
