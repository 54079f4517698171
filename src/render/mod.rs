//! Pictures for people to look at: plots, attention maps, sheets of samples, animations.

pub mod animation;
pub(crate) mod attention;
pub(crate) mod entropy;
pub(crate) mod letters;
pub(crate) mod overlay;
mod palette;
pub mod plot;
pub(crate) mod sheet;
