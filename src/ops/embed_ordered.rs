//! Rows of sequences whose tokens are drawn in any order (RandAR): before each token goes an instruction
//! that says where in the picture it belongs. Beside the embeddings this op keeps what follows from the
//! order: at which place of the cache the rows stand, and by which angles each place is turned. So the
//! ops after it need not know of orders.
//!
//! Places: 0 the class, 1 + 2i the instruction I for the i-th token, 2 + 2i that token T. A step that
//! follows on m drawn tokens and is to draw n more has 2m - 1 + n rows: T, I, T, … of the drawn ones (the
//! first I is in the cache already), then n instructions side by side. Those stand where they were
//! entered, at neighbouring places, until the next step enters pairs there.

use super::elementwise::LANES;
use super::lower::{LowerCx, Target, WeightLayout, to_u32};
use super::{Op, OpDef, arity, dims, f32s};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Embeds tokens and instructions. Operands: table (V,C); tokens (B,S) u32, the i-th drawn at 1 + i; step
/// (u32, the first new token's place among the tokens, 0 for a prompt); instruction (C) elements, before
/// it is turned; angles (N,D), cosines and sines of each drawn token's position; and two states that are
/// written: rotary table (P,D) by place in the cache, and place (u32, twice the step). Result (R,T,C),
/// where row r belongs to sequence r modulo B.
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
}

params! {
    /// Parameters of the kernel.
    struct OrderedParams {
        count: u32, width: u32, first_row: u32, part_rows: u32, vocabulary: u32, rows: u32,
        sequences: u32, length: u32, first: u32, spread: u32, head_width: u32, ordered: u32, places: u32,
    }
}

static ORDERED: Kernel =
    Kernel { name: "embed_ordered", source: shader!("embed_ordered.wgsl"), params: OrderedParams::FIELDS };

impl Graph {
    /// Embeddings of new tokens and instructions. others: tokens (B,S) u32, step u32, instruction (1,C),
    /// angles (N,D), rotary (P,D), place u32; returns (R,T,C).
    pub fn embed_ordered(&mut self, op: EmbedOrdered, table: Value, others: [Value; 6]) -> Value {
        self.push(Op::EmbedOrdered(op), [&[table], &others[..]].concat())
    }
}

/// Where the states are among the operands.
const ROTARY: usize = 5;
const PLACE: usize = 6;

impl EmbedOrdered {
    /// Where new row `t` is entered, and its place in the sequence.
    fn places(&self, step: usize, t: usize) -> (usize, usize) {
        let entered = 2 * step + self.first + t;
        (entered, entered + t.saturating_sub(self.spread))
    }
}

impl OpDef for EmbedOrdered {
    fn name(&self) -> &'static str {
        "embed_ordered"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 7)?;
        let [_, width] = dims("table", &inputs[0])?;
        let [sequences, length] = dims("tokens", &inputs[1])?;
        if [1, 2, PLACE].iter().any(|&i| inputs[i].dtype != DType::U32) {
            return Err("tokens, step and place are u32".to_owned());
        }
        if sequences == 0 || length == 0 || !self.rows.is_multiple_of(sequences) {
            return Err(format!("{} rows are no multiple of {sequences} sequences", self.rows));
        }
        let ([n, d], [_, turned]) = (dims("angles", &inputs[4])?, dims("rotary", &inputs[ROTARY])?);
        let even = d > 0 && d.is_multiple_of(2) && width.is_multiple_of(d);
        if n == 0 || !even || turned != d || inputs[3].shape.elements() != width {
            return Err(format!(
                "instruction {}, angles {} and rotary {} do not fit width {width}",
                inputs[3].shape, inputs[4].shape, inputs[ROTARY].shape
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
        let (instruction, angles) = (f32s(inputs[3]), f32s(inputs[4]));
        let [ordered, d]: [usize; 2] = dims("angles", &inputs[4].desc()).expect("checked by infer");
        let zeros = vec![0.0; width];
        let mut y = Vec::with_capacity(out.shape.elements());
        for row in 0..self.rows {
            for t in 0..self.count {
                let (_, place) = self.places(step, t);
                if place % 2 == 0 {
                    let id = ids[row % sequences * length + (place / 2).min(length - 1)] as usize;
                    y.extend(table.get(id * width..(id + 1) * width).unwrap_or(&zeros));
                    continue;
                }
                let turn = &angles[(place / 2).min(ordered - 1) * d..][..d];
                for (pair, x) in instruction.chunks(2).enumerate() {
                    let [cos, sin] = [0, 1].map(|i| turn[2 * pair % d + i]);
                    y.extend([x[0] * cos - x[1] * sin, x[1] * cos + x[0] * sin]);
                }
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let step = inputs[2].as_u32().expect("checked by infer")[0] as usize;
        let [ordered, d]: [usize; 2] = dims("angles", &inputs[4].desc()).expect("checked by infer");
        let mut rotary = f32s(inputs[ROTARY]).to_vec();
        for t in 0..self.count {
            let (entered, place) = self.places(step, t);
            if let Some(turned) = rotary.get_mut(entered * d..(entered + 1) * d) {
                let which = (place.max(1) - 1) / 2;
                turned.copy_from_slice(&f32s(inputs[4])[which.min(ordered - 1) * d..][..d]);
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
        let [ordered, d]: [usize; 2] = dims("angles", &cx.input(4)).expect("checked by infer");
        let [places, _]: [usize; 2] = dims("rotary", &cx.input(ROTARY)).expect("checked by infer");
        let variant =
            Variant::new().with_type("W", cx.input(0).dtype).with_type("Y", out.dtype).with_u32("WG", LANES);
        to_u32("angles", ordered * d)?;
        to_u32("rotary table", places * d)?;
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
                ordered: ordered as u32,
                places: places as u32,
            };
            let operands = (1..7).map(|i| cx.operand(i));
            let binds = [cx.part(0, part)].into_iter().chain(operands).chain([cx.result()]).collect();
            cx.dispatch(&ORDERED, variant.clone(), params, binds, out.shape.elements().div_ceil(LANES))?;
        }
        Ok(())
    }
}
