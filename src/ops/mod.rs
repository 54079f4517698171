//! The operations a graph is made of: one file per family, one enum, one `match`.
//!
//! Each op knows four things and no more: the shape of its result ([`OpDef::infer`]), the dumbest
//! correct loop that computes it ([`OpDef::reference`]), what it costs ([`Op::cost`]), and which
//! kernel launches compute it on a GPU ([`OpDef::lower`]). Buffers, pipelines and adapters are not
//! known here; a launch names tensors and a kernel, and [`Target`] says what the adapter allows.
//!
//! Shape letters, everywhere: B batch, T tokens, S keys, C width, H heads, D head width (C = H·D),
//! F hidden width of the MLP, V vocabulary, P patch side.

mod attention;
mod choice;
mod conv;
mod elementwise;
mod embed;
mod embed_ordered;
mod gather;
mod group_norm;
mod layout;
mod likelihood;
mod lower;
mod matmul;
mod nearest;
mod norm;
mod patchify;
mod pool;
mod ragged;
mod rotary;
mod sample;
mod softmax;

pub use attention::{
    Attention, AttentionWeights, Cache, CachedAttention, CrossAttention, Scores, cache_shape,
};
pub use choice::{Candidates, Choice, Choices, Estimate, Reason};
pub use conv::{Conv2d, Window};
pub use elementwise::{Act, Binary, BinaryKind, Glu, Unary};
pub use embed::EmbedSequence;
pub use embed_ordered::EmbedOrdered;
pub use gather::Gather;
pub use group_norm::{GroupApply, GroupFactors, GroupStats};
pub use layout::{ConcatTokens, ConcatWidth, MeanTokens, Reshape, SliceTokens, SplitHeads};
pub use likelihood::LogProbability;
pub use lower::{Dispatch, LowerCx, LowerInput, Matrices, Operand, Target, WeightLayout, WeightSlot};
pub(crate) use matmul::DECODE_ROWS;
pub use matmul::{CacheWrite, DecodeLinear, HeadSplit, MatMul};
pub use nearest::NearestCode;
pub use norm::{Norm, NormKind};
pub use patchify::{Normalise, Patchify};
pub use pool::MaxPool;
pub use ragged::{MeanOf, TakeTokens};
pub use rotary::Rotary;
pub use sample::{Guidance, Sample, Sampling};
pub use softmax::Softmax;

use crate::error::Result;
use crate::graph::{Storage, Weight};
use crate::tensor::{HostTensor, Shape, TensorDesc};

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
    /// Linear layer with optional fused epilogue.
    MatMul(MatMul),
    /// Linear layer of few rows with a norm before it or a KV cache behind it.
    DecodeLinear(DecodeLinear),
    /// Convolution with optional fused epilogue.
    Conv2d(Conv2d),
    /// Largest element of every window.
    MaxPool(MaxPool),
    /// Statistics of slices of pixels, for a group norm.
    GroupStats(GroupStats),
    /// Factors and offsets of a group norm, from the statistics.
    GroupFactors(GroupFactors),
    /// The group norm itself, with an optional activation.
    GroupApply(GroupApply),
    /// Index of the nearest row of a codebook.
    NearestCode(NearestCode),
    /// Layer norm or RMS norm over rows.
    Norm(Norm),
    /// Softmax attention.
    Attention(Attention),
    /// Causal attention of new tokens over a KV cache that they join.
    CachedAttention(CachedAttention),
    /// Attention over a cache of another sequence.
    CrossAttention(CrossAttention),
    /// The softmax weights of attention, for pictures of them.
    AttentionWeights(AttentionWeights),
    /// Softmax over rows.
    Softmax(Softmax),
    /// Activation or scaling of every element.
    Unary(Unary),
    /// Sum or product of two tensors, the second broadcast over outer dimensions.
    Binary(Binary),
    /// Gated linear unit over packed halves.
    Glu(Glu),
    /// Rows of a table by index.
    Gather(Gather),
    /// Rows of a table by the ids of a sequence in the making.
    EmbedSequence(EmbedSequence),
    /// Tokens and instructions of a sequence that is drawn in any order.
    EmbedOrdered(EmbedOrdered),
    /// Rotary position embedding.
    Rotary(Rotary),
    /// Draws the next token of every sequence.
    Sample(Sample),
    /// Bytes to normalised planes.
    Normalise(Normalise),
    /// Planes or bytes to flattened patches.
    Patchify(Patchify),
    /// (B,T,C) to (B,H,T,D).
    SplitHeads(SplitHeads),
    /// Tokens one after the other.
    ConcatTokens(ConcatTokens),
    /// Rows side by side.
    ConcatWidth(ConcatWidth),
    /// A range of tokens.
    SliceTokens(SliceTokens),
    /// Mean over a range of tokens.
    MeanTokens(MeanTokens),
    /// Tokens of each sequence by place.
    TakeTokens(TakeTokens),
    /// Mean of the first tokens of each sequence.
    MeanOf(MeanOf),
    /// Log-softmax of rows at one column each.
    LogProbability(LogProbability),
    /// The same elements under another shape; costs nothing.
    Reshape(Reshape),
}

/// What an op costs: the basis of GFLOP/s, GB/s and of where submissions are split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes read and written if each operand moves once.
    pub bytes: u64,
}

/// What every computed op must say of itself.
pub trait OpDef {
    /// Name in printed graphs and plans.
    fn name(&self) -> &'static str;

    /// Type and shape of the result; the only place operand shapes are checked. Activations are
    /// f32 in a graph; `plan` narrows storage afterwards.
    ///
    /// # Errors
    /// A sentence naming the operand that does not fit.
    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String>;

    /// The result by plain loops in f32: the oracle of kernel tests and of `--device reference`.
    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor;

    /// Operands, all of them states, whose contents the launches change. A node that has some is
    /// never dropped from a graph.
    fn writes(&self) -> Vec<usize> {
        vec![]
    }

    /// What the states of [`OpDef::writes`] hold afterwards, in that order, by plain loops.
    fn reference_states(&self, _inputs: &[&HostTensor]) -> Vec<HostTensor> {
        vec![]
    }

    /// Floating-point work; bytes are counted from operands and result unless overridden.
    fn flops(&self, inputs: &[TensorDesc], out: &TensorDesc) -> u64;

    /// Bytes read and written, where that is not each operand once.
    fn cost_bytes(&self, _inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        None
    }

    /// How operand `i` must be stored for a target if it is a weight.
    fn weight_layout(&self, _i: usize, _target: &Target) -> WeightLayout {
        WeightLayout::Plain
    }

    /// An operand whose buffer the result may take over, because each element of the result is
    /// computed by the one invocation that reads that element of the operand.
    fn in_place(&self) -> Option<usize> {
        None
    }

    /// Whether the result may be stored in f16, where a plan narrows activations.
    fn narrows(&self) -> bool {
        false
    }

    /// Operands that are stored in f32 whatever a plan narrows: tokens are drawn from scores of full width,
    /// and texts weighed by them.
    fn wide_operands(&self) -> &[usize] {
        &[]
    }

    /// Operands with a row for each row of the result, where a row is computed from those and from what all
    /// rows share; none where rows mix.
    fn row_operands(&self, _inputs: &[TensorDesc]) -> Vec<usize> {
        vec![]
    }

    /// Pushes the launches that compute the result.
    ///
    /// # Errors
    /// [`crate::Error::Limit`] if the adapter cannot do it whatever the variant.
    fn lower(&self, cx: &mut LowerCx) -> Result<()>;
}

impl Op {
    /// The one place that maps a variant to its definition; inputs and weights have none.
    pub fn def(&self) -> Option<&dyn OpDef> {
        Some(match self {
            Op::Input { .. } | Op::Weight(_) | Op::State { .. } => return None,
            Op::MatMul(op) => op,
            Op::DecodeLinear(op) => op,
            Op::Conv2d(op) => op,
            Op::MaxPool(op) => op,
            Op::GroupStats(op) => op,
            Op::GroupFactors(op) => op,
            Op::GroupApply(op) => op,
            Op::NearestCode(op) => op,
            Op::Norm(op) => op,
            Op::Attention(op) => op,
            Op::CachedAttention(op) => op,
            Op::CrossAttention(op) => op,
            Op::AttentionWeights(op) => op,
            Op::Softmax(op) => op,
            Op::Unary(op) => op,
            Op::Binary(op) => op,
            Op::Glu(op) => op,
            Op::Gather(op) => op,
            Op::EmbedSequence(op) => op,
            Op::EmbedOrdered(op) => op,
            Op::Rotary(op) => op,
            Op::Sample(op) => op,
            Op::Normalise(op) => op,
            Op::Patchify(op) => op,
            Op::SplitHeads(op) => op,
            Op::ConcatTokens(op) => op,
            Op::ConcatWidth(op) => op,
            Op::SliceTokens(op) => op,
            Op::MeanTokens(op) => op,
            Op::TakeTokens(op) => op,
            Op::MeanOf(op) => op,
            Op::LogProbability(op) => op,
            Op::Reshape(op) => op,
        })
    }

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

/// Every op that can be computed in several ways, and their names.
pub fn variants() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![("matmul", matmul::names()), ("attention", attention::names()), ("conv2d", matmul::conv_names())]
}

/// The text of every kernel that is chosen between: when it changes, measurements are void.
pub fn kernel_text() -> String {
    matmul::kernels().chain(attention::kernels()).flat_map(|k| k.source).map(|(_, text)| *text).collect()
}

/// Checks the number of operands in `infer`.
fn arity(inputs: &[TensorDesc], want: usize) -> Result<(), String> {
    if inputs.len() == want { Ok(()) } else { Err(format!("{} operands, expected {want}", inputs.len())) }
}

/// The dimensions as an array, or a sentence saying which operand has another rank.
fn dims<const N: usize>(what: &str, desc: &TensorDesc) -> Result<[usize; N], String> {
    desc.shape.dims().try_into().map_err(|_| format!("{what} has shape {}, expected rank {N}", desc.shape))
}

/// An operand of the reference implementation as f32.
fn f32s(t: &HostTensor) -> &[f32] {
    t.as_f32().expect("the reference runs unnarrowed graphs, whose activations and weights are f32")
}

/// True if `small`'s dimensions, leading ones ignored, are the last dimensions of `large`.
fn is_suffix(small: &Shape, large: &Shape) -> bool {
    let dims = small.dims();
    let dims = &dims[dims.iter().take_while(|&&d| d == 1).count()..];
    large.dims().ends_with(dims)
}
