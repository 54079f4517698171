//! Rotary position embedding (Su et al. 2021) on neighbouring pairs: (x₂ᵢ, x₂ᵢ₊₁) is turned by the angle
//! that a table gives for the token's place. The table is a tensor, not a formula, so that one axis, two
//! axes (LlamaGen: half of the pairs by the row, half by the column), a class token that is turned to
//! nothing, and places in any order are all the same op.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Rotates heads. Operands: x (B,H,T,D), or q, k and v packed (3·B,H,T,D) of which only q and k are
/// turned; table (P,D) of f32, cosine and sine of each pair; step (u32, the place of the first token).
/// Result like x. Places past the table are turned like its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotary {
    /// x holds q, k and v.
    pub packed: bool,
    /// Turned by the opposite angle: the way back.
    pub back: bool,
}

params! {
    /// Parameters of the rotary kernel.
    struct RotaryParams { count: u32, turned: u32, tokens: u32, width: u32, positions: u32 }
}

static ROTARY: Kernel =
    Kernel { name: "rotary", source: shader!("rotary.wgsl"), params: RotaryParams::FIELDS };

impl Graph {
    /// Rotates heads by their places. x: (B,H,T,D), table: (P,D), step: u32; returns (B,H,T,D).
    pub fn rotary(&mut self, x: Value, table: Value, step: Value) -> Value {
        self.push(Rotary { packed: false, back: false }, vec![x, table, step])
    }
}

/// Shape rule of a table.
pub(super) fn check(table: &TensorDesc, d: usize) -> Result<(), String> {
    let [_, width] = dims("rotary table", table)?;
    if width == d && d.is_multiple_of(2) && table.dtype == DType::F32 {
        return Ok(());
    }
    Err(format!("rotary table {table} does not fit an even head width of {d}"))
}

/// The leading `share` of a tensor of heads turned, by plain loops.
pub(super) fn turn(x: &HostTensor, table: &HostTensor, step: &HostTensor, share: f64) -> HostTensor {
    let [b, h, t, d]: [usize; 4] = dims("x", &x.desc()).expect("checked by infer");
    let (table, places) = (f32s(table), table.shape().dims()[0]);
    let first = step.as_u32().expect("checked by infer")[0] as usize;
    let rows = (b as f64 * share).round() as usize * h * t;
    let mut y = f32s(x).to_vec();
    for (row, y) in y.chunks_mut(d).take(rows).enumerate() {
        let angles = &table[(first + row % t).min(places - 1) * d..][..d];
        for (pair, angle) in y.chunks_mut(2).zip(angles.chunks(2)) {
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * angle[0] - b * angle[1];
            pair[1] = b * angle[0] + a * angle[1];
        }
    }
    HostTensor::f32(x.shape(), y)
}

impl OpDef for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        let [b, _, _, d] = dims("x", &inputs[0])?;
        check(&inputs[1], d)?;
        if self.packed && b % 3 != 0 {
            return Err(format!(
                "packed operand has shape {}, its first dimension is no triple",
                inputs[0].shape
            ));
        }
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], _out: &TensorDesc) -> HostTensor {
        let share = if self.packed { 2.0 / 3.0 } else { 1.0 };
        if !self.back {
            return turn(inputs[0], inputs[1], inputs[2], share);
        }
        let sines = |(i, &x): (usize, &f32)| if i % 2 == 1 { -x } else { x };
        let table = f32s(inputs[1]).iter().enumerate().map(sines).collect();
        turn(inputs[0], &HostTensor::f32(inputs[1].shape(), table), inputs[2], share)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        3 * out.shape.elements() as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let inputs = vec![at.dy, at.inputs[1], at.inputs[2]];
        let back = Rotary { back: !self.back, ..*self };
        // The table is computed, not learned.
        let fixed = !at.needed[1];
        fixed.then(|| vec![at.of(0, |g| g.push(back, inputs)), Gradient::None, Gradient::None])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, _, t, d]: [usize; 4] = dims("x", &cx.output()).expect("infer made it");
        let pairs = cx.output().shape.elements() / 2;
        let turned = if self.packed { pairs / 3 * 2 } else { pairs };
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_bool("BACK", self.back)
            .with_u32("WG", LANES);
        let params = RotaryParams {
            count: to_u32("rotary pairs", 2 * pairs)? / 2,
            turned: turned as u32,
            tokens: t as u32,
            width: d as u32,
            positions: to_u32("positions", cx.input(1).shape.dims()[0])?,
        };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(2), cx.result()];
        cx.dispatch(&ROTARY, variant, params, binds, pairs.div_ceil(LANES))
    }
}
