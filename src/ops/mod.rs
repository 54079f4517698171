//! The operations a graph is made of: one file per family, one enum, one `match`.
//!
//! Each op knows four things and no more: the shape of its result ([`OpDef::infer`]), the dumbest
//! correct loop that computes it ([`OpDef::reference`]), what it costs ([`Op::cost`]), and which
//! kernel launches compute it on a GPU ([`OpDef::lower`]). Buffers, pipelines and adapters are not
//! known here; a launch names tensors and a kernel, and [`Target`] says what the adapter allows.
//!
//! To add an op: a file with its struct, its [`OpDef`] and its builder on `Graph`, and one row of
//! `computed!` below. No other op, nor `plan`, has to know of it.
//!
//! Shape letters, everywhere: B batch, T tokens, S keys, C width, H heads, D head width (C = H·D),
//! F hidden width of the MLP, V vocabulary, P patch side.

mod act_grad;
mod attention;
mod candidates;
mod choice;
mod conv;
mod def;
mod elementwise;
mod embed;
mod embed_ordered;
mod fill;
mod gather;
mod group_norm;
mod layout;
mod likelihood;
mod lower;
mod matmul;
mod nearest;
mod norm;
mod norm_grad;
mod patchify;
mod pool;
mod process_logits;
mod ragged;
mod rotary;
mod sample;
mod scatter;
mod softmax;
mod split;
mod sum;
mod target;
mod tokens;
mod training;
mod variants;
mod weights;

pub use act_grad::{ActGrad, GluGrad};
pub use attention::{
    Attention, AttentionGradBias, AttentionGradKv, AttentionGradQ, AttentionRows, AttentionWeights, Cache,
    CachedAttention, CrossAttention, Scores, cache_shape,
};
pub use candidates::{Candidates, Estimate};
pub use choice::{Choice, Choices, Reason};
pub use conv::{Conv2d, Window};
pub use def::{Cost, OpDef};
pub use elementwise::{Act, Binary, BinaryKind, Glu, Unary};
pub use embed::EmbedSequence;
pub use embed_ordered::EmbedOrdered;
pub use fill::Fill;
pub use gather::Gather;
pub use group_norm::{GroupApply, GroupFactors, GroupStats};
pub use layout::{ConcatTokens, ConcatWidth, Reshape, SplitHeads};
pub use likelihood::LogProbability;
pub use lower::{Dispatch, LowerCx, LowerInput, Operand};
pub(crate) use matmul::DECODE_ROWS;
pub use matmul::{CacheWrite, DecodeLinear, HeadSplit, MatMul, Product, Transpose};
pub use nearest::NearestCode;
pub use norm::{Norm, NormKind};
pub use norm_grad::{NormFactorsGrad, NormGrad};
pub use patchify::{Normalise, Patchify};
pub use pool::MaxPool;
pub use process_logits::{LogitsRules, ProcessLogits};
pub use ragged::{MeanOf, TakeTokens};
pub use rotary::Rotary;
pub use sample::{Guidance, Sample, Sampling};
pub use scatter::{PutTokens, ScatterRows};
pub use softmax::Softmax;
pub use split::{MergeHeads, SliceWidth};
pub use sum::SumTo;
pub use target::{Matrices, Target};
pub use tokens::{MeanTokens, SliceTokens, SpreadTokens};
pub use training::{
    AdamW, Blend, ClipFactor, CrossEntropy, CrossEntropyGrad, Lion, Sgd, SquareSum, SquaredError,
    SquaredErrorGrad, WeightedSum,
};
pub use variants::{kernel_text, variants};
pub use weights::{WeightLayout, WeightSlot};

use crate::graph::{Storage, Weight};
use crate::tensor::TensorDesc;

/// The ops that are computed: a variant each, its definition, and how it becomes an [`Op`].
macro_rules! computed {
    ($($(#[$doc:meta])* $op:ident,)+) => {
        /// What a node computes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Op {
            /// A tensor passed on every run.
            Input {
                /// Name the caller passes it under.
                name: String,
            },
            /// A weight, uploaded once.
            Weight(Weight),
            /// A tensor that stays on the device between runs.
            State {
                /// Name that executors share it under.
                name: String,
                /// How it is stored.
                store: Storage,
            },
            $($(#[$doc])* $op($op),)+
        }

        $(
            impl From<$op> for Op {
                fn from(op: $op) -> Self {
                    Op::$op(op)
                }
            }
        )+

        impl Op {
            /// The definition; inputs, weights and states have none.
            pub fn def(&self) -> Option<&dyn OpDef> {
                match self {
                    Op::Input { .. } | Op::Weight(_) | Op::State { .. } => None,
                    $(Op::$op(op) => Some(op),)+
                }
            }
        }
    };
}

computed! {
    /// Linear layer with optional fused epilogue.
    MatMul,
    /// Linear layer of few rows with a norm before it or a KV cache behind it.
    DecodeLinear,
    /// Convolution with optional fused epilogue.
    Conv2d,
    /// Largest element of every window.
    MaxPool,
    /// Statistics of slices of pixels, for a group norm.
    GroupStats,
    /// Factors and offsets of a group norm, from the statistics.
    GroupFactors,
    /// The group norm itself, with an optional activation.
    GroupApply,
    /// Index of the nearest row of a codebook.
    NearestCode,
    /// Layer norm or RMS norm over rows.
    Norm,
    /// Softmax attention.
    Attention,
    /// Causal attention of new tokens over a KV cache that they join.
    CachedAttention,
    /// Attention over a cache of another sequence.
    CrossAttention,
    /// The softmax weights of attention, for images of them.
    AttentionWeights,
    /// What the gradients of attention need to know of each query.
    AttentionRows,
    /// Gradient of attention's queries.
    AttentionGradQ,
    /// Gradients of attention's keys and values.
    AttentionGradKv,
    /// Gradient of attention's bias.
    AttentionGradBias,
    /// Softmax over rows.
    Softmax,
    /// Activation or scaling of every element.
    Unary,
    /// Sum or product of two tensors, the second broadcast over outer dimensions.
    Binary,
    /// Gated linear unit over packed halves.
    Glu,
    /// One number everywhere.
    Fill,
    /// Rows of a table by index.
    Gather,
    /// Rows of a table by the ids of a sequence in the making.
    EmbedSequence,
    /// Tokens and instructions of a sequence that is drawn in any order.
    EmbedOrdered,
    /// Rotary position embedding.
    Rotary,
    /// Scores of the next token by a checkpoint's rules.
    ProcessLogits,
    /// Draws the next token of every sequence.
    Sample,
    /// Bytes to normalised planes.
    Normalise,
    /// Planes or bytes to flattened patches.
    Patchify,
    /// (B,T,C) to (B,H,T,D).
    SplitHeads,
    /// Tokens one after the other.
    ConcatTokens,
    /// Rows side by side.
    ConcatWidth,
    /// A range of tokens.
    SliceTokens,
    /// Mean over a range of tokens.
    MeanTokens,
    /// Tokens of each sequence by place.
    TakeTokens,
    /// Mean of the first tokens of each sequence.
    MeanOf,
    /// Log-softmax of rows at one column each.
    LogProbability,
    /// Cross entropy of rows with one class each.
    CrossEntropy,
    /// Gradient of cross entropy with regard to the logits.
    CrossEntropyGrad,
    /// Mean of the squared difference of rows.
    SquaredError,
    /// Gradient of the squared error with regard to the prediction.
    SquaredErrorGrad,
    /// Sum of rows by weight.
    WeightedSum,
    /// Sum of the squares of a tensor, into a state.
    SquareSum,
    /// What gradients are multiplied by so that their norm is not too large.
    ClipFactor,
    /// A step of AdamW.
    AdamW,
    /// A step of stochastic gradient descent.
    Sgd,
    /// A step of Lion.
    Lion,
    /// A value blended into a state.
    Blend,
    /// The same elements under another shape; costs nothing.
    Reshape,
    /// (R,C) to (C,R).
    Transpose,
    /// Product of two computed matrices.
    Product,
    /// Sum over outer dimensions.
    SumTo,
    /// Way back of an activation.
    ActGrad,
    /// Way back of a gated linear unit.
    GluGrad,
    /// Way back of a norm, to what it normalised.
    NormGrad,
    /// Way back of a norm, to its gain and bias.
    NormFactorsGrad,
    /// Way back of rows by index.
    ScatterRows,
    /// Way back of tokens by place.
    PutTokens,
    /// Way back of a mean over tokens.
    SpreadTokens,
    /// (B,H,T,D) to (B,T,C).
    MergeHeads,
    /// A range of columns.
    SliceWidth,
}

impl Op {
    /// Name in printed graphs and plans.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Weight(_) => "weight",
            Op::State { .. } => "state",
            _ => self.def().map_or("", |d| d.name()),
        }
    }

    /// Type and shape of the result.
    ///
    /// # Errors
    /// As [`OpDef::infer`].
    pub fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        match self.def() {
            Some(def) => def.infer(inputs),
            None => Err("inputs, weights and states are declared, not inferred".to_owned()),
        }
    }

    /// Work and traffic of the op.
    pub fn cost(&self, inputs: &[TensorDesc], out: &TensorDesc) -> Cost {
        let once = || inputs.iter().chain([out]).map(|d| d.bytes() as u64).sum();
        let cost = |d: &dyn OpDef| {
            let bytes = d.cost_bytes(inputs, out).unwrap_or_else(once);
            Cost { flops: d.flops(inputs, out), bytes }
        };
        self.def().map_or(Cost::default(), cost)
    }
}
