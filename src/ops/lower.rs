//! How an op becomes kernel launches: [`Dispatch`] names a kernel, its variant, its parameters and
//! its operands; [`LowerCx`] is what an op sees while it pushes them. Nothing here is a buffer.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt as _;

use super::choice::{Candidates, Choice, Choices};
use crate::error::{Error, Result};
use crate::graph::{Value, Weight};
use crate::kernel::{Kernel, Variant};
use crate::tensor::{DType, Shape, TensorDesc};

/// What the adapter allows, as far as choosing launches goes. Plain data, so that a plan can be
/// made (and tested) for an adapter this machine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Largest storage buffer binding in bytes.
    pub max_binding_bytes: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Most invocations in one workgroup.
    pub max_invocations: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// True if kernels may use f16 storage.
    pub f16: bool,
    /// True for software rasterisers, where barriers are slow and lanes are SIMD lanes.
    pub cpu: bool,
    /// Workgroups that run at the same time, roughly: no interface tells, so it is an estimate by
    /// kind of adapter that only static choices between tile sizes rest on.
    pub workgroup_slots: u32,
    /// Invocations of a subgroup where that is one fixed number and subgroup operations may be
    /// used, else 0.
    pub subgroup: u32,
    /// Cooperative matrices with f16 operands and f32 accumulators, if kernels may use them.
    pub matrices: Option<Matrices>,
}

/// What an adapter offers of cooperative matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrices {
    /// 8 x 8 x 8 is among the shapes.
    pub side8: bool,
    /// 16 x 16 x 16 is among the shapes.
    pub side16: bool,
    /// Invocations of the largest subgroup; kernels are right with smaller ones too, if slower.
    pub subgroup: u32,
    /// Matrices can be loaded from and stored to arrays of vec4 (not so in Metal's language).
    pub quads: bool,
}

impl Matrices {
    /// Whether matrices of this side exist.
    pub fn has(&self, side: usize) -> bool {
        (side == 8 && self.side8) || (side == 16 && self.side16)
    }
}

impl Target {
    /// WebGPU's default limits: what every adapter offers.
    pub fn portable() -> Self {
        Self {
            max_binding_bytes: 128 << 20,
            max_workgroups: 65_535,
            max_invocations: 256,
            max_workgroup_bytes: 16_384,
            f16: false,
            cpu: false,
            workgroup_slots: 32,
            subgroup: 0,
            matrices: None,
        }
    }

    /// The same limits on a software adapter.
    pub fn portable_cpu() -> Self {
        Self { cpu: true, ..Self::portable() }
    }
}

/// How a weight lies in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightLayout {
    /// Row-major as in the graph, f32.
    Plain,
    /// Row-major; may be split by rows into several buffers and stored in f16.
    Table,
    /// A linear weight (N, K) stored as (K, N') with N' = N rounded up to a multiple of 4 and zero
    /// columns behind, so that neighbouring lanes read neighbouring outputs. May be split by
    /// outputs into several buffers and stored in f16.
    Columns,
    /// As columns, but in slabs of [`WeightLayout::SLAB`] columns: (N' / 32, K, 32), with N' = N
    /// rounded up to whole slabs.
    Slabs,
}

impl WeightLayout {
    /// Columns of a slab: what one subgroup of eight lanes makes.
    pub const SLAB: usize = 32;
}

/// A weight as stored: one or more buffers, each holding a range of outermost rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WeightSlot {
    /// What it holds.
    pub weight: Weight,
    /// Shape in the graph.
    pub shape: Shape,
    /// Memory layout.
    pub layout: WeightLayout,
    /// Stored element type.
    pub dtype: DType,
    /// Outermost rows (start, end) of the parts, in order; one part unless the binding limit forces a split.
    pub parts: Vec<(usize, usize)>,
}

impl WeightSlot {
    /// Rows that a part holds a multiple of (but for the last).
    pub fn row_step(&self) -> usize {
        match self.layout {
            WeightLayout::Columns => 4,
            WeightLayout::Slabs => WeightLayout::SLAB,
            WeightLayout::Plain | WeightLayout::Table => 1,
        }
    }

    /// Elements of a part of `rows` outermost rows, as stored.
    pub fn rows_elements(&self, rows: usize) -> usize {
        let inner: usize = self.shape.dims().iter().skip(1).product();
        rows.next_multiple_of(self.row_step()) * inner
    }

    /// Bytes of a part of `rows` outermost rows, as stored: whole words, never empty.
    pub fn rows_bytes(&self, rows: usize) -> u64 {
        let bytes = (self.rows_elements(rows) * self.dtype.bytes()) as u64;
        bytes.next_multiple_of(4).max(16)
    }

    /// Bytes of one part as stored.
    pub fn part_bytes(&self, part: usize) -> u64 {
        let (start, end) = self.parts[part];
        self.rows_bytes(end - start)
    }

    /// The stored bytes of one part, from the whole weight in graph order and f32, handed to
    /// `write` piece by piece: (offset in the part, bytes), in order and without gaps.
    pub fn pack(&self, part: usize, weight: &[f32], write: &mut dyn FnMut(usize, &[u8])) {
        let (start, end) = self.parts[part];
        let rows = end - start;
        let inner: usize = self.shape.dims().iter().skip(1).product();
        let data = &weight[start * inner..end * inner];
        let mut at = 0;
        let mut put = |elements: &[f32]| {
            let bytes = encode(elements, self.dtype);
            write(at, &bytes);
            at += bytes.len();
        };
        match self.layout {
            WeightLayout::Plain | WeightLayout::Table => data.chunks(PACK_ELEMENTS).for_each(put),
            WeightLayout::Columns => turn(data, inner, rows.next_multiple_of(4), &mut put),
            WeightLayout::Slabs => {
                let slabs = data.chunks(inner * WeightLayout::SLAB);
                slabs.for_each(|slab| turn(slab, inner, WeightLayout::SLAB, &mut put));
            }
        }
        // Whole words, never empty.
        let rest = self.part_bytes(part) as usize - at;
        write(at, &[0; 16][..rest]);
    }
}

/// Elements that [`WeightSlot::pack`] encodes at a time.
const PACK_ELEMENTS: usize = 64 << 10;
/// Side of the squares that it turns at a time: a cache line.
const SQUARE: usize = 16;

/// Rows of `inner` elements as columns of rows of `stride` elements, zeros behind, piece by piece.
fn turn(data: &[f32], inner: usize, stride: usize, put: &mut dyn FnMut(&[f32])) {
    let mut block = vec![0.0f32; SQUARE * stride];
    for k0 in (0..inner).step_by(SQUARE) {
        let ks = SQUARE.min(inner - k0);
        for (i, rows) in data.chunks(SQUARE * inner).enumerate() {
            // Squares are turned in a corner of their own: rows of the block may all begin at the same
            // place of a page, and would push each other out of the cache one element at a time.
            let mut square = [[0.0f32; SQUARE]; SQUARE];
            for (n, row) in rows.chunks_exact(inner).enumerate() {
                for (k, x) in row[k0..k0 + ks].iter().enumerate() {
                    square[k][n] = *x;
                }
            }
            let n0 = i * SQUARE;
            let width = SQUARE.min(stride - n0);
            for (k, line) in square[..ks].iter().enumerate() {
                block[k * stride + n0..][..width].copy_from_slice(&line[..width]);
            }
        }
        put(&block[..ks * stride]);
    }
}

fn encode(data: &[f32], dtype: DType) -> Cow<'_, [u8]> {
    match dtype {
        DType::F16 => {
            let mut halves = vec![half::f16::ZERO; data.len()];
            halves.convert_from_f32_slice(data);
            Cow::Owned(bytemuck::cast_slice(&halves).to_vec())
        }
        _ => Cow::Borrowed(bytemuck::cast_slice(data)),
    }
}

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

    /// Decides between the ways an op can be computed; launches pushed from here on carry it.
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
        });
        Ok(())
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
