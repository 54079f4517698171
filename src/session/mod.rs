//! A checkpoint made ready to answer: files -> model -> graph -> plan -> executor, cached
//! by shape. It knows no command line and prints nothing; what a user should hear is in
//! [`Session::warnings`].
//!
//! Batches above four are planned for the next of 6, 8, 12, 16, 24, ... and padded, so that a
//! directory of any size needs few plans. When the device runs out of memory the batch is halved
//! and the smaller size kept for the rest of the session.

mod batch;
mod classify;
mod device;
mod draw;
mod files;
mod folder;
mod lora;
pub mod measure;
mod options;
mod reconstruct;
mod run;
mod runtime;
mod token_loop;
mod tuning;
mod vision;

use std::sync::Arc;

pub use crate::models::ModelKind;
pub(crate) use batch::padded_batch;
pub use classify::Ranked;
pub use device::DeviceInfo;
pub(crate) use device::Engine;
pub(crate) use draw::{ENTROPY, RULES, SETTINGS, STREAMS, draw_graph, score_graph};
pub use files::{Applied, BUILTIN, BUILTIN_DUAL, BUILTIN_GENERATOR, ModelFiles};
pub use lora::{Base, base_of_adapter};
#[cfg(feature = "cli")]
pub(crate) use options::base_error;
pub use options::{Device, ModelSource, Options};
pub use reconstruct::Reconstruction;
pub use run::Pending;
pub(crate) use runtime::Runtime;
pub(crate) use token_loop::TokenLoop;
pub use vision::Session;

use crate::error::Result;
use crate::gpu::{DeviceChoice, Gpu};
use crate::selftest;

/// Runs every kernel on an adapter against the reference, on small awkward sizes.
///
/// # Errors
/// If the device cannot be opened or a kernel cannot run; wrong results are outcomes.
pub fn self_test(choice: &DeviceChoice) -> Result<Vec<selftest::Outcome>> {
    selftest::quick(&Arc::new(Gpu::open(choice)?))
}
