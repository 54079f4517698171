//! What the ops of attention share: sizes and their rules, scores, and where biases lie.

use std::ops::Range;

use crate::error::Result;
use crate::graph::Value;
use crate::ops::def::{dims, f32s};
use crate::ops::lower::to_u32;
use crate::ops::softmax::softmax_row;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Widest head the kernels keep in registers.
pub(super) const MAX_HEAD_WIDTH: usize = 512;

/// What becomes of the scores q·kᵀ before the softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Factor, usually 1/sqrt(D).
    pub scale: f32,
    /// Added after it: (H,T,S), or (H,T+S-1) by the place of the key less that of the query.
    pub bias: Option<Value>,
    /// Query t sees keys up to t + S - T only.
    pub causal: bool,
    /// Keys further than this from the query's own place t + S - T are not seen; a query behind the keys that
    /// count looks from the last of them.
    pub window: Option<usize>,
    /// (B) u32: keys that count.
    pub lengths: Option<Value>,
}

impl Scores {
    /// Scaled scores of all keys.
    pub fn scaled(scale: f32) -> Self {
        Self { scale, bias: None, causal: false, window: None, lengths: None }
    }
}

/// Batch, heads, queries, keys, head width.
pub(super) struct Sizes {
    pub(super) b: usize,
    pub(super) h: usize,
    pub(super) t: usize,
    pub(super) s: usize,
    pub(super) d: usize,
}

/// Shape rules shared by both ops; `k` is `None` for a packed operand.
pub(super) fn sizes(
    q: &TensorDesc,
    k: Option<&TensorDesc>,
    [bias, lengths]: [Option<&TensorDesc>; 2],
    [causal, window]: [bool; 2],
) -> Result<Sizes, String> {
    let [b, h, t, d] = dims("q", q)?;
    let sizes = match k {
        None if b % 3 == 0 => Sizes { b: b / 3, h, t, s: t, d },
        None => {
            return Err(format!("packed operand has shape {}, its first dimension is no triple", q.shape));
        }
        Some(k) => {
            let [kb, kh, s, kd] = dims("k", k)?;
            if (kb, kh, kd) != (b, h, d) {
                return Err(format!("q has shape {}, k has {}", q.shape, k.shape));
            }
            Sizes { b, h, t, s, d }
        }
    };
    if causal && sizes.s < t {
        return Err(format!("{t} causal queries see only {} keys, so that the first see none", sizes.s));
    }
    if window && sizes.s < t {
        return Err(format!("{t} queries have no places of their own among {} keys", sizes.s));
    }
    if sizes.d > MAX_HEAD_WIDTH {
        return Err(format!("head width {} is above {MAX_HEAD_WIDTH}", sizes.d));
    }
    if let Some(bias) = bias {
        let (apart, near) = ([h, t, sizes.s], [h, t + sizes.s - 1]);
        if bias.shape.dims() != apart && bias.shape.dims() != near {
            return Err(format!("bias has shape {}, expected {apart:?} or {near:?}", bias.shape));
        }
    }
    if let Some(lengths) = lengths
        && (lengths.dtype != DType::U32 || lengths.shape.dims() != [sizes.b])
    {
        return Err(format!("lengths are {lengths}, expected one u32 for each of {}", sizes.b));
    }
    Ok(sizes)
}

/// Where the bias of head h, query t and key s lies: start + h·head + t·row + s, modulo 2^32.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BiasAt {
    pub(super) start: u32,
    pub(super) head: u32,
    pub(super) row: u32,
}

impl BiasAt {
    /// Of a bias of [`Attention`].
    pub(super) fn new(bias: &TensorDesc, sizes: &Sizes) -> Result<Self> {
        to_u32("attention bias", bias.shape.elements())?;
        Ok(match bias.shape.dims() {
            [_, columns] => Self::relative(*columns, sizes.t - 1),
            _ => Self { start: 0, head: (sizes.t * sizes.s) as u32, row: sizes.s as u32 },
        })
    }

    /// Of a table (H, columns) whose column `zero` is that of a query's own place.
    pub(super) fn relative(columns: usize, zero: usize) -> Self {
        Self { start: zero as u32, head: columns as u32, row: u32::MAX }
    }

    pub(super) fn of(self, h: usize, t: usize) -> usize {
        let [h, t] = [h, t].map(|n| n as u32);
        let at = self.start.wrapping_add(h.wrapping_mul(self.head)).wrapping_add(t.wrapping_mul(self.row));
        at as usize
    }
}

/// The biases of the keys that a query sees, by plain loops.
pub(super) fn bias_row(bias: &HostTensor, sizes: &Sizes, h: usize, t: usize, seen: Range<usize>) -> Vec<f32> {
    let at = BiasAt::new(&bias.desc(), sizes).expect("the reference is of sizes that fit").of(h, t);
    let row = seen.map(|s| f32s(bias)[(at as u32).wrapping_add(s as u32) as usize]);
    row.collect()
}

/// Which keys queries see, whatever the scores.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) causal: bool,
    pub(super) window: Option<usize>,
    pub(super) lengths: Option<&'a HostTensor>,
}

impl Sight<'_> {
    /// Those of query t of the b-th sequence; at least one.
    pub(super) fn of(self, sizes: &Sizes, b: usize, t: usize) -> Range<usize> {
        let length = |l: &HostTensor| l.as_u32().expect("checked by infer")[b] as usize;
        let keys = self.lengths.map_or(sizes.s, |l| length(l).clamp(1, sizes.s));
        // Without either rule there may be more queries than keys.
        let own = (t + sizes.s).saturating_sub(sizes.t).min(keys - 1);
        let end = if self.causal { own + 1 } else { keys };
        match self.window {
            Some(window) => own.saturating_sub(window)..end.min(own + window + 1),
            None => 0..end,
        }
    }
}

/// Softmax weights of one query row, by plain loops: of the keys that it sees.
pub(super) fn weights_row(
    q: &[f32],
    k: &[f32],
    bias: Option<Vec<f32>>,
    seen: Range<usize>,
    scale: f32,
) -> Vec<f32> {
    let (d, first) = (q.len(), seen.start);
    let score = |s: usize| {
        let dot: f32 = q.iter().zip(&k[s * d..(s + 1) * d]).map(|(a, b)| a * b).sum();
        dot * scale + bias.as_ref().map_or(0.0, |b| b[s - first])
    };
    let mut row: Vec<f32> = seen.map(score).collect();
    softmax_row(&mut row);
    row
}
