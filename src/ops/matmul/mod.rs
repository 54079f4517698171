//! Linear layers: [`linear`] for any number of rows, [`decode`] with what a decode step puts around one, [`product`]
//! for matrices that are both computed. The //! kernels are listed in [`variants`]; convolutions use them too.

mod coop;
mod decode;
mod linear;
mod pack;
pub(super) mod problem;
mod product;
mod step;
pub(super) mod variants;

pub use decode::{CacheWrite, DecodeLinear};
pub use linear::{HeadSplit, MatMul};
pub use pack::Transpose;
pub use product::Product;
pub(crate) use step::MAX_ROWS as DECODE_ROWS;
pub(crate) use variants::{conv_names, kernels, names};
