//! A model's outputs against recorded ones: one [`compare::Verdict`] for each output of a golden file.

pub mod compare;
pub mod images;
pub mod sequences;
pub mod texts;
pub mod training;
