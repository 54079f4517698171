//! The linear layer of a decode step: at most [`MAX_ROWS`] rows, so that reading the weight once is all that
//! counts. What would be launches of their own for many rows rides along: the norm before the product, and
//! for the projection to q, k and v the rotation of q and k and the entry of k and v into the cache. Only
//! `plan::fuse` makes one.

use super::linear::{HeadSplit, MatMul};
use super::step::{Along, MAX_ROWS};
use crate::error::Result;
use crate::ops::attention::cache;
use crate::ops::def::{OpDef, arity, dims, f32s};
use crate::ops::lower::LowerCx;
use crate::ops::norm::{Norm, NormKind, normalise_rows};
use crate::ops::rotary;
use crate::ops::target::Target;
use crate::ops::weights::WeightLayout;
use crate::tensor::{HostTensor, TensorDesc};

/// A linear layer of at most 16 rows with a norm before it, or with a KV cache behind it, or both. Operands:
/// those of `linear`, then those of norm (K) or (2,K), rotary table (P,D), KV cache and step that are set, in
/// that order. Result as of `linear`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeLinear {
    /// The product and its epilogue; no `scale`.
    pub linear: MatMul,
    /// Normalises the rows of x first. The operand holds the gain, and below it the bias of a layer norm.
    pub norm: Option<Norm>,
    /// Enters k and v, of the three projections of `linear`'s head split, into a KV cache. Excludes `act` and
    /// `residual`.
    pub cache: Option<CacheWrite>,
}

/// How q, k and v go on; see [`CachedAttention`](crate::ops::CachedAttention) for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheWrite {
    /// Rotates q and k by a table first, where there is no bias; see [`Rotary`](crate::ops::Rotary).
    pub rotary: bool,
}

impl DecodeLinear {
    /// Where the operands are that `linear` has not, and how many there are in all.
    fn operands(&self) -> (Along, usize) {
        let mut count = self.linear.count();
        let mut take = |on: bool| {
            count += usize::from(on);
            on.then(|| count - 1)
        };
        let along = Along {
            norm: self.norm.zip(take(self.norm.is_some())),
            rotary: take(self.cache.is_some_and(|c| c.rotary)),
            cache: take(self.cache.is_some()).zip(take(self.cache.is_some())),
        };
        (along, count)
    }

    /// What excludes each other, and what only few rows allow.
    fn consistent(&self, rows: usize) -> Result<(), String> {
        if rows > MAX_ROWS {
            return Err(format!("norm and cache ride along for {MAX_ROWS} rows, not {rows}"));
        }
        let MatMul { bias, act, scale, residual, heads, gated } = self.linear;
        let three = heads.is_some_and(|h| h.parts == 3);
        let cached = self.cache.is_some_and(|c| {
            act.is_some() || residual || gated || !three || (bias && c.rotary) // these share a binding
        });
        if scale || cached { Err("parts that exclude each other".to_owned()) } else { Ok(()) }
    }

    /// The result before the cache, by plain loops.
    fn product(&self, inputs: &[&HostTensor]) -> HostTensor {
        let (along, _) = self.operands();
        let normed = along.norm.map(|(norm, i)| {
            let mut x = f32s(inputs[0]).to_vec();
            let (gain, bias) = f32s(inputs[i]).split_at(inputs[0].shape().width());
            normalise_rows(&mut x, norm.kind, norm.eps, gain, bias);
            HostTensor::f32(inputs[0].shape(), x)
        });
        let x = normed.as_ref().unwrap_or(inputs[0]);
        self.linear.product(&[&[x], &inputs[1..self.linear.count()]].concat())
    }

    /// q, k and v, turned, and the contents of the cache afterwards, by plain loops.
    fn entered(&self, inputs: &[&HostTensor]) -> (HostTensor, Option<HostTensor>) {
        let (along, _) = self.operands();
        let product = self.product(inputs);
        let Some((kv, step)) = along.cache else { return (product, None) };
        let qkv = match along.rotary {
            Some(table) => {
                let first = inputs[step].as_u32().expect("checked by infer")[0] as usize;
                rotary::turn(&product, inputs[table], first, 2.0 / 3.0, false)
            }
            None => product,
        };
        let cache = cache::enter(&qkv, inputs[kv], inputs[step]);
        (qkv, Some(cache))
    }
}

impl OpDef for DecodeLinear {
    fn name(&self) -> &'static str {
        "decode_linear"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        let (along, count) = self.operands();
        arity(inputs, count)?;
        let out = self.linear.infer(&inputs[..self.linear.count()])?;
        self.consistent(inputs[0].shape.rows())?;
        if let Some((norm, i)) = along.norm {
            let k = inputs[0].shape.width();
            let want = if norm.kind == NormKind::Layer { 2 * k } else { k };
            if inputs[i].shape.elements() != want {
                return Err(format!("norm has shape {}, expected {want} elements", inputs[i].shape));
            }
        }
        if let (Some((kv, step)), Some(HeadSplit { parts, heads })) = (along.cache, self.linear.heads) {
            let [b, _, t, d] = dims("q, k and v", &out)?;
            cache::check(&inputs[kv], &inputs[step], [b / parts, heads, t, d])?;
            along.rotary.map_or(Ok(()), |table| rotary::check(&inputs[table], d))?;
        }
        Ok(out)
    }

    fn writes(&self) -> Vec<usize> {
        self.operands().0.cache.into_iter().map(|(kv, _)| kv).collect()
    }

    fn reference(&self, inputs: &[&HostTensor], _out: &TensorDesc) -> HostTensor {
        self.entered(inputs).0
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        if self.cache.is_none() {
            return vec![];
        }
        self.entered(inputs).1.into_iter().collect()
    }

    fn flops(&self, inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        self.linear.flops(inputs, out)
    }

    fn weight_layout(&self, i: usize, target: &Target) -> WeightLayout {
        self.linear.weight_layout(i, target)
    }

    fn in_place(&self) -> Option<usize> {
        self.linear.in_place()
    }

    fn narrows(&self) -> bool {
        self.linear.narrows()
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        self.linear.launch(cx, self.operands().0)
    }
}
