//! Models that generate images token by token, and the codec that turns tokens into pixels.

pub(crate) mod imagegpt;
pub(crate) mod llamagen;
pub(crate) mod randar;
pub mod vq;
