//! A model's outputs against recorded ones: one [`compare::Verdict`] for each output of a golden file.

pub mod compare;
pub mod images;
mod masked;
pub mod pairs;
pub mod sequences;
pub mod texts;
pub mod training;
