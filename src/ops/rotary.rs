//! Rotary position embedding (Su et al. 2021): pairs of a head's elements, neighbours (x₂ᵢ, x₂ᵢ₊₁) or of its
//! two halves (xᵢ, xᵢ₊D/₂), are turned by the angle that a table gives for the token's place. The table is a
//! tensor, not a formula, so that one axis, two axes (LlamaGen and DINOv3: half of the pairs by the row, half
//! by the column), tokens that are not turned or are turned to nothing, and places in any order are all the
//! same op.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Rotates heads. Operands: x (B,H,T,D), or q, k and v packed (3·B,H,T,D) of which only q and k are
/// turned; table (P,D) of f32, cosine and sine of each pair; if `placed`, step (u32, the place of the first
/// token, else 0). Result like x. Places past the table are turned like its last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotary {
    /// x holds q, k and v.
    pub packed: bool,
    /// Turned by the opposite angle: the way back.
    pub back: bool,
    /// A pair is an element of the first half of a head and its like of the second; else neighbours.
    pub halves: bool,
    /// A step says where the first token stands.
    pub placed: bool,
}

params! {
    /// Parameters of the rotary kernel.
    struct RotaryParams { count: u32, turned: u32, tokens: u32, width: u32, positions: u32 }
}

static ROTARY: Kernel =
    Kernel { name: "rotary", source: shader!("rotary.wgsl"), params: RotaryParams::FIELDS };

impl Graph {
    /// Rotates neighbours in heads by their places. x: (B,H,T,D), table: (P,D), step: u32; returns (B,H,T,D).
    pub fn rotary(&mut self, x: Value, table: Value, step: Value) -> Value {
        self.push(Rotary { placed: true, ..Rotary::default() }, vec![x, table, step])
    }

    /// Rotates the two halves of heads, token t by row t of the table. x: (B,H,T,D), table: (P,D); returns
    /// (B,H,T,D).
    pub fn rotary_halves(&mut self, x: Value, table: Value) -> Value {
        self.push(Rotary { halves: true, ..Rotary::default() }, vec![x, table])
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

/// The leading `share` of a tensor of heads turned, the first token by row `first` of the table, by plain loops.
pub(super) fn turn(x: &HostTensor, table: &HostTensor, first: usize, share: f64, halves: bool) -> HostTensor {
    let [b, h, t, d]: [usize; 4] = dims("x", &x.desc()).expect("checked by infer");
    let (table, places) = (f32s(table), table.shape().dims()[0]);
    let rows = (b as f64 * share).round() as usize * h * t;
    let mut y = f32s(x).to_vec();
    for (row, y) in y.chunks_mut(d).take(rows).enumerate() {
        let angles = &table[(first + row % t).min(places - 1) * d..][..d];
        for (pair, angle) in angles.chunks(2).enumerate() {
            let [i, j] = if halves { [pair, pair + d / 2] } else { [2 * pair, 2 * pair + 1] };
            let (a, b) = (y[i], y[j]);
            y[i] = a * angle[0] - b * angle[1];
            y[j] = b * angle[0] + a * angle[1];
        }
    }
    HostTensor::f32(x.shape(), y)
}

impl OpDef for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2 + usize::from(self.placed))?;
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
        let place = |step: &&HostTensor| step.as_u32().expect("checked by infer")[0] as usize;
        let first = inputs.get(2).map_or(0, place);
        if !self.back {
            return turn(inputs[0], inputs[1], first, share, self.halves);
        }
        let sines = |(i, &x): (usize, &f32)| if i % 2 == 1 { -x } else { x };
        let table = f32s(inputs[1]).iter().enumerate().map(sines).collect();
        turn(inputs[0], &HostTensor::f32(inputs[1].shape(), table), first, share, self.halves)
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        3 * out.shape.elements() as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let inputs = [&[at.dy], &at.inputs[1..]].concat();
        let back = Rotary { back: !self.back, ..*self };
        // The table is computed, not learned.
        let fixed = !at.needed[1];
        let others = at.inputs.len() - 1;
        fixed.then(|| {
            let dx = at.of(0, |g| g.push(back, inputs));
            [dx].into_iter().chain((0..others).map(|_| Gradient::None)).collect()
        })
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, _, t, d]: [usize; 4] = dims("x", &cx.output()).expect("infer made it");
        let pairs = cx.output().shape.elements() / 2;
        let turned = if self.packed { pairs / 3 * 2 } else { pairs };
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_bool("BACK", self.back)
            .with_bool("HALVES", self.halves)
            .with_bool("PLACED", self.placed)
            .with_u32("WG", LANES);
        let params = RotaryParams {
            count: to_u32("rotary pairs", 2 * pairs)? / 2,
            turned: turned as u32,
            tokens: t as u32,
            width: d as u32,
            positions: to_u32("positions", cx.input(1).shape.dims()[0])?,
        };
        // Without a step the table is bound in its place, and not read.
        let step = if self.placed { 2 } else { 1 };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(step), cx.result()];
        cx.dispatch(&ROTARY, variant, params, binds, pairs.div_ceil(LANES))
    }
}
