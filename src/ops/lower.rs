//! How an op becomes kernel launches: [`Dispatch`] names a kernel, its variant, its parameters and
//! its operands; [`LowerCx`] is what an op sees while it pushes them. Nothing here is a buffer.

use super::candidates::Candidates;
use super::choice::{Choice, Choices};
use super::target::Target;
use super::weights::WeightSlot;
use crate::error::{Error, Result};
use crate::graph::Value;
use crate::kernel::{Kernel, Variant};
use crate::tensor::TensorDesc;

/// What a launch binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operand {
    /// A tensor of the graph that is not a weight.
    Value(Value),
    /// One part of a weight: index into the plan's weights, and which part.
    Weight {
        /// Index of the [`WeightSlot`].
        slot: usize,
        /// Which part.
        part: usize,
    },
    /// A buffer between the launches of one op, by index among that op's.
    Scratch(usize),
}

/// One kernel launch.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its specialisation.
    pub variant: Variant,
    /// Bytes of the parameter struct.
    pub params: Vec<u8>,
    /// Storage bindings in the kernel's order.
    pub binds: Vec<Operand>,
    /// Workgroups per dimension; kernels linearise x and y.
    pub workgroups: [u32; 3],
    /// The way that was chosen, where the op has several.
    pub choice: Option<Choice>,
    /// Bytes that the launch moves, where it has no share of its op's work: it makes an operand ready.
    pub moves: Option<u64>,
}

/// One operand of the op being lowered.
#[derive(Debug, Clone)]
pub struct LowerInput {
    /// Type and shape, with the storage type the plan has chosen.
    pub desc: TensorDesc,
    /// The value, or `None` for a weight.
    pub value: Option<Value>,
    /// For a weight: its index among the plan's weights and its parts.
    pub weight: Option<(usize, WeightSlot)>,
}

/// What an op sees while it is lowered.
pub struct LowerCx<'a> {
    /// The adapter.
    pub target: &'a Target,
    choices: &'a Choices,
    choice: Option<Choice>,
    inputs: Vec<LowerInput>,
    output: Value,
    output_desc: TensorDesc,
    in_place: bool,
    dispatches: Vec<Dispatch>,
    scratch: Vec<u64>,
}

impl<'a> LowerCx<'a> {
    /// A context for one node; `in_place` says that the result has taken over the buffer of the
    /// operand that [`super::OpDef::in_place`] names.
    pub fn new(
        target: &'a Target,
        choices: &'a Choices,
        inputs: Vec<LowerInput>,
        output: Value,
        output_desc: TensorDesc,
        in_place: bool,
    ) -> Self {
        let (choice, dispatches, scratch) = (None, Vec::new(), Vec::new());
        Self { target, choices, choice, inputs, output, output_desc, in_place, dispatches, scratch }
    }

    /// Decides between the kernel variants of an op; launches pushed from here on carry it.
    pub fn choose(&mut self, op: &'static str, candidates: Candidates) -> &'static str {
        let choice = self.choices.choose(op, candidates);
        let name = choice.name;
        self.choice = Some(choice);
        name
    }

    /// True if the result lies in the buffer of the operand the op allows that for.
    pub fn in_place(&self) -> bool {
        self.in_place
    }

    /// Type and shape of operand `i`.
    pub fn input(&self, i: usize) -> TensorDesc {
        self.inputs[i].desc
    }

    /// Type and shape of the result.
    pub fn output(&self) -> TensorDesc {
        self.output_desc
    }

    /// Operand `i` as something to bind: the value, or the first part of a weight.
    pub fn operand(&self, i: usize) -> Operand {
        self.part(i, 0)
    }

    /// Part `part` of operand `i` (part 0 of a value that is no weight).
    pub fn part(&self, i: usize, part: usize) -> Operand {
        let input = &self.inputs[i];
        match (&input.weight, input.value) {
            (Some((slot, _)), _) => Operand::Weight { slot: *slot, part },
            (None, Some(v)) => Operand::Value(v),
            (None, None) => unreachable!("an operand is a value or a weight"),
        }
    }

    /// True if operand `i` is a weight, stored as the op asks; else it is computed.
    pub fn is_weight(&self, i: usize) -> bool {
        self.inputs[i].weight.is_some()
    }

    /// Row ranges in which operand `i` is stored.
    pub fn parts(&self, i: usize) -> Vec<std::ops::Range<usize>> {
        match &self.inputs[i].weight {
            Some((_, slot)) => slot.parts.iter().map(|&(start, end)| start..end).collect(),
            None => {
                std::iter::once(0..self.inputs[i].desc.shape.dims().first().copied().unwrap_or(1)).collect()
            }
        }
    }

    /// A buffer of so many f32 that lives between the launches of this op.
    ///
    /// # Errors
    /// [`Error::Limit`] if one binding does not hold it.
    pub fn scratch(&mut self, elements: usize) -> Result<Operand> {
        let need = (elements as u64 * 4).max(16);
        if need > self.target.max_binding_bytes {
            let what = "scratch memory as one storage binding".to_owned();
            return Err(Error::Limit { what, need, have: self.target.max_binding_bytes });
        }
        self.scratch.push(need);
        Ok(Operand::Scratch(self.scratch.len() - 1))
    }

    /// The result as something to bind.
    pub fn result(&self) -> Operand {
        Operand::Value(self.output)
    }

    /// Pushes one launch of `workgroups` workgroups, folded over x and y where one dimension of
    /// the adapter ends. Kernels compute their index as `y * num_workgroups.x + x` and return
    /// when it is past the end.
    ///
    /// # Errors
    /// [`Error::Limit`] if even two dimensions do not hold that many.
    pub fn dispatch<P: bytemuck::Pod>(
        &mut self,
        kernel: &'static Kernel,
        variant: Variant,
        params: P,
        binds: Vec<Operand>,
        workgroups: usize,
    ) -> Result<()> {
        let max = self.target.max_workgroups as usize;
        let (x, y) = fold(workgroups, max);
        if y > max {
            return Err(Error::Limit {
                what: format!("{}: workgroups of one dispatch", kernel.name),
                need: workgroups as u64,
                have: (max * max) as u64,
            });
        }
        self.dispatches.push(Dispatch {
            kernel,
            variant,
            params: bytemuck::bytes_of(&params).to_vec(),
            binds,
            workgroups: [x as u32, y as u32, 1],
            choice: self.choice.clone(),
            moves: None,
        });
        Ok(())
    }

    /// Says that the last launch makes an operand ready: it moves so many bytes, and is no share of the op's work.
    pub fn moves(&mut self, bytes: u64) {
        if let Some(last) = self.dispatches.last_mut() {
            last.moves = Some(bytes);
        }
    }

    /// The launches pushed so far, and the bytes of each scratch buffer.
    pub fn finish(self) -> (Vec<Dispatch>, Vec<u64>) {
        (self.dispatches, self.scratch)
    }
}

/// Folds a workgroup count into (x, y) with x at most `max` and little waste.
fn fold(workgroups: usize, max: usize) -> (usize, usize) {
    let workgroups = workgroups.max(1);
    let y = workgroups.div_ceil(max);
    (workgroups.div_ceil(y), y)
}

/// A checked conversion at the shader border; element counts there are u32.
///
/// # Errors
/// [`Error::Limit`] naming the thing.
pub fn to_u32(what: &str, n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::Limit {
        what: format!("{what}: 32-bit index"),
        need: n as u64,
        have: u64::from(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn folding_covers_every_workgroup_within_the_limit() {
        for n in [1, 2, 65_534, 65_535, 65_536, 131_070, 131_071, 9_999_991] {
            let (x, y) = fold(n, 65_535);
            assert!(x <= 65_535 && y <= 65_535, "{n} -> {x} x {y}");
            assert!(x * y >= n && x * y < n + y, "{n} -> {x} x {y} wastes a row");
        }
    }
}
