//! Images for people to look at: plots, attention maps, sheets of samples, animations.

pub mod animation;
pub mod attention;
mod canvas;
pub mod contact;
pub mod curve;
pub mod entropy;
pub mod features;
pub mod growth;
pub mod letters;
pub mod overlay;
mod palette;
pub mod plot;
pub mod sheet;
