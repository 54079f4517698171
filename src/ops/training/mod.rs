//! What only training needs: losses, the norm that gradients are clipped to, optimizers, and sums over steps.

mod blend;
mod clip;
mod loss;
mod optimizer;
#[cfg(test)]
mod tests;

pub use blend::Blend;
pub use clip::{ClipFactor, SquareSum};
pub use loss::{CrossEntropy, CrossEntropyGrad, SquaredError, SquaredErrorGrad, WeightedSum};
pub use optimizer::{AdamW, Lion, Sgd};
