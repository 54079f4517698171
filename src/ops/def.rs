//! What an op is: [`OpDef`], and what the files of ops share in writing it.

use super::lower::LowerCx;
use super::target::Target;
use super::weights::WeightLayout;
use crate::error::Result;
use crate::graph::{Backward, Gradient};
use crate::tensor::{HostTensor, Shape, TensorDesc};

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

    /// Whether operand `i` may be computed although a weight there has a layout of its own: the op brings it
    /// into that layout itself.
    fn packs(&self, _i: usize) -> bool {
        false
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

    /// Writes the gradients of the operands, one for each, from that of the result: the product of a vector
    /// with the op's Jacobian. `None` if the op cannot be trained through.
    fn vjp(&self, _at: &mut Backward) -> Option<Vec<Gradient>> {
        None
    }

    /// Pushes the launches that compute the result.
    ///
    /// # Errors
    /// [`crate::Error::Limit`] if the adapter cannot do it whatever the variant.
    fn lower(&self, cx: &mut LowerCx) -> Result<()>;
}

/// Checks the number of operands in `infer`.
pub(super) fn arity(inputs: &[TensorDesc], want: usize) -> Result<(), String> {
    if inputs.len() == want { Ok(()) } else { Err(format!("{} operands, expected {want}", inputs.len())) }
}

/// The dimensions as an array, or a sentence saying which operand has another rank.
pub(super) fn dims<const N: usize>(what: &str, desc: &TensorDesc) -> Result<[usize; N], String> {
    desc.shape.dims().try_into().map_err(|_| format!("{what} has shape {}, expected rank {N}", desc.shape))
}

/// An operand of the reference implementation as f32.
pub(super) fn f32s(t: &HostTensor) -> &[f32] {
    t.as_f32().expect("the reference runs unnarrowed graphs, whose activations and weights are f32")
}

/// True if `small`'s dimensions, leading ones ignored, are the last dimensions of `large`.
pub(super) fn is_suffix(small: &Shape, large: &Shape) -> bool {
    let dims = small.dims();
    let dims = &dims[dims.iter().take_while(|&&d| d == 1).count()..];
    large.dims().ends_with(dims)
}
