//! What is laid over a checkpoint: products of low rank that are added to weights, and tensors in the place of
//! others.

use std::collections::BTreeMap;

/// What is laid over a checkpoint, by the names of its tensors.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// Weights to which a product is added.
    pub low_rank: BTreeMap<String, LowRank>,
    /// Tensors that are replaced, or come anew, and the names of those in their place.
    pub replaced: BTreeMap<String, String>,
    /// Element types of those that are replaced, where the base has them.
    pub(super) types: BTreeMap<String, String>,
}

/// scale·B·A, to be added to a weight W.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Name of A (r,K); of a convolution (r,I,kh,kw).
    pub a: String,
    /// Name of B (N,r); of a convolution (O,r,1,1).
    pub b: String,
    /// The factor.
    pub scale: f32,
    /// W is stored as (K,N), so that the product is turned.
    pub turned: bool,
}

/// What an overlay makes of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<'a> {
    /// A product is added.
    LowRank(&'a LowRank),
    /// The tensor of this name is in its place.
    Replaced(&'a str),
}
