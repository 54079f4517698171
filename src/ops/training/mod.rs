//! What only training needs: losses, the norm that gradients are clipped to, and optimizers.

mod clip;
mod loss;
mod optimizer;
#[cfg(test)]
mod tests;

pub use clip::{ClipFactor, SquareSum};
pub use loss::{CrossEntropy, CrossEntropyGrad, SquaredError, SquaredErrorGrad, WeightedSum};
pub use optimizer::{AdamW, Lion, Sgd};
