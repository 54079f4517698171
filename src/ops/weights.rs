//! How weights are stored: their layouts, and how they are packed and split.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt as _;

use crate::graph::Weight;
use crate::tensor::{DType, Shape};

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
