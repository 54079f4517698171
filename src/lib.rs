//! Transformers on any GPU, from plain WGSL: Vision Transformers, BERT, GPT-2, T5, and generators of images,
//! from their Hugging Face and timm checkpoints. This page is for the library; the README has the program.
//!
//! # Quick start
//!
//! ```no_run
//! use vit_gpu::image::{DecodeOptions, decode_file};
//! use vit_gpu::{ModelSource, Options, Session};
//!
//! # fn main() -> vit_gpu::Result<()> {
//! let session = Session::open(&ModelSource::named("google/vit-base-patch16-224"), &Options::default())?;
//! let image = decode_file("photo.jpg", &DecodeOptions::default())?;
//! for class in &session.classify(&[image])?[0][..5] {
//!     println!("{:.3}  {}", class.score.value(), class.label);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A model is named as the hub does, by the path of its folder, or `builtin:shapes`, which is embedded.
//! [`open`] takes any model and says by an [`AnySession`] what it is. [`Session::run_pixels`] and
//! [`Session::run_tensor`] give any output by name.
//!
//! Text models, by what the checkpoint has a head for; this one is asked on the CPU reference, which needs no GPU:
//!
//! ```
//! use vit_gpu::text::TooLong;
//! use vit_gpu::{Device, ModelSource, Options, TextSession};
//!
//! # fn main() -> vit_gpu::Result<()> {
//! let options = Options { device: Device::Reference, ..Options::default() };
//! let session = TextSession::open(&ModelSource::named("tests/toys/bert-toy"), &options)?;
//! let masks = session.fill("Anna is in the [MASK].", 3, TooLong::Refuse)?;
//! assert_eq!((masks.len(), masks[0].tokens.len()), (1, 3));
//! # Ok(())
//! # }
//! ```
//!
//! # Where to go next
//!
//! - [`Session`]: images in, classes and tensors out, batches of any size. [`TextSession`]: classes, answers,
//!   masked words, embeddings, likelihoods, continuations. [`Generator`]: images token by token.
//! - What a vision model can give (`logits`, `embedding`, `hidden.0`, `attention.0`, …) is listed under [`models`],
//!   with shapes; [`Session::output_names`] says what one model gives.
//! - A model of your own: build a [`graph::Graph`], run it by [`reference::run`] or compile it by
//!   [`plan::compile`] for a [`gpu::Executor`]; `examples/custom_model.rs` does both.
//! - [`train`]: the backward half of a graph, and steps of an optimizer; `docs/training.md` tells how they are made.
//! - Inputs that are wrong end in an [`Error`] with a hint, never in a panic.
//! - `docs/architecture.md` walks from a file to a workgroup and back.
//!
//! # Features
//!
//! | feature | default | what |
//! | --- | --- | --- |
//! | `cli` | yes | the program `vit-gpu`: argument parsing, completions, manual page, progress bars |
//! | `hub` | yes | downloads from a Hugging Face hub; reading its cache needs no feature |
//!
//! A program that embeds the library takes it with `default-features = false`.
//!
//! # How it is built
//!
//! Five nouns: a [`graph::Graph`] says what to compute; [`plan::compile`] turns it into a
//! [`plan::Plan`], plain data that says exactly which launches run in which buffers; a
//! [`gpu::Executor`] is a plan made resident on a [`gpu::Gpu`]; a [`kernel::Kernel`] is a WGSL file
//! with its checked Rust face; a [`models::Model`] is a function that builds a graph.
//!
//! Floors, lowest first; a module uses only lower ones, and `tests/layering.rs` holds that:
//! `error`, `tensor`, `printable`, `textfile`, `exchange`, `clock`, `random` | `kernel` | `graph`, `ops` | `plan`, `reference`, `models`, `labels`,
//! `records`, `image`, `tokenizer`, `checkpoint` | `gpu`, `hub`, `synthetic` | `selftest` | `session` |
//! `generate`, `text`, `search` | `dual` | `train` | `open`, `verify`, `render` | `profile` | `cli`. Only `gpu` names wgpu.

pub mod checkpoint;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
pub mod dual;
pub mod error;
mod exchange;
pub mod generate;
pub mod gpu;
pub mod graph;
pub mod hub;
pub mod image;
pub mod kernel;
pub mod labels;
pub mod models;
mod open;
pub mod ops;
pub mod plan;
mod printable;
pub mod profile;
mod random;
pub mod records;
pub mod reference;
pub mod render;
pub mod search;
#[doc(hidden)]
pub mod selftest;
pub mod session;
pub mod synthetic;
pub mod tensor;
pub mod text;
mod textfile;
pub mod tokenizer;
pub mod train;
pub mod verify;

pub use dual::DualEncoder;
pub use error::{Error, Result};
pub use generate::Generator;
pub use open::{AnySession, open};
pub use session::{Device, ModelSource, Options, Session};
pub use text::TextSession;

/// The Rust of README.md is tested as these docs are.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
