//! Training: a loss put behind a model's forward pass, the backward half and an optimizer behind that, and what
//! runs the whole as one graph, step by step, with the parameters on the device.
//!
//! A model does not know that it is trained. [`objective`] builds its forward pass with a loss; [`parameters`]
//! makes of the weights that are to be trained states that a step may change, under the names and in the shapes
//! of the file; [`crate::graph::differentiate`] writes the gradients; [`recipe`] puts clipping and the
//! optimizer behind; and a [`Trainer`] keeps all of it.

pub mod lora;
mod measure;
pub mod objective;
pub mod parameters;
pub mod recipe;
pub mod sequences;
mod trainer;

pub use crate::ops::{AdamW, Lion, Sgd};
pub use measure::prepare_images;
pub use recipe::{Optimizer, Recipe};
pub use trainer::{Progress, Trainer};
