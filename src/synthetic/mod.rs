//! Models of well-known sizes with random weights, made on the fly: to measure, and to try what needs no
//! trained model.

pub mod folder;
pub mod llamagen;
pub mod text;
pub mod vision;
