//! Transformers on any GPU, from plain WGSL.
//!
//! Five nouns: a [`graph::Graph`] says what to compute; [`plan::compile`] turns it into a
//! [`plan::Plan`], plain data that says exactly which launches run in which buffers; a
//! [`gpu::Executor`] is a plan made resident on a [`gpu::Gpu`]; a [`kernel::Kernel`] is a WGSL file
//! with its checked Rust face; a [`models::Model`] is a function that builds a graph.
//!
//! [`session::Session`] ties them together for people who just want answers: checkpoint folder in, tensors
//! out. [`generate::Generator`] draws pictures token by token, [`text::TextSession`] reads and writes texts.
//!
//! Floors, lowest first; a module uses only lower ones, and `tests/layering.rs` holds that:
//! `error`, `tensor`, `printable`, `clock` | `kernel` | `graph`, `ops` | `plan`, `reference`, `models`, `labels`,
//! `records`, `image`, `tokenizer`, `checkpoint` | `gpu`, `hub`, `synthetic` | `selftest` | `session` |
//! `generate`, `text` | `verify`, `render` | `profile` | `cli`. Only `gpu` names wgpu.

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
mod clock;
pub mod error;
pub mod generate;
pub mod gpu;
pub mod graph;
pub mod hub;
pub mod image;
pub mod kernel;
pub mod labels;
pub mod models;
pub mod ops;
pub mod plan;
mod printable;
pub mod profile;
pub mod records;
pub mod reference;
pub mod render;
pub mod selftest;
pub mod session;
pub mod synthetic;
pub mod tensor;
pub mod text;
pub mod tokenizer;
pub mod verify;

pub use error::{Error, Result};
