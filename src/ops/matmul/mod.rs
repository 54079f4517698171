//! Linear layers: [`linear`] for any number of rows, [`decode`] with what a decode step puts around one. The
//! kernels are listed in [`ways`]; convolutions use them too.

mod coop;
mod decode;
mod linear;
pub(super) mod problem;
mod step;
pub(super) mod ways;

pub use decode::{CacheWrite, DecodeLinear};
pub use linear::{HeadSplit, MatMul};
pub(crate) use step::MAX_ROWS as DECODE_ROWS;
pub(crate) use ways::{conv_names, kernels, names};
