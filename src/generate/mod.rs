//! Images token by token. A [`Generator`] is a generative checkpoint made ready: files -> decoder and
//! codec -> two plans over one store (a prompt, and one token; or more, where a model draws several at a
//! time) -> a loop in which nothing passes between host and device but submissions.
//!
//! The loop: weights, KV cache, tokens, settings and the place in the sequence lie on the device. The
//! plan of one token embeds the token drawn last, runs the blocks over the cache, draws the next token
//! and moves the place on; running it again makes the next token. A submission holds many such runs.
//! Tokens come back for a preview, or at the end. Samples run in batches that share every read of a
//! weight; a batch that does not fit the device is halved, never refused.
//!
//! It knows no command line and prints nothing.

mod codec;
mod generator;
mod graphs;
mod measure;
mod pictures;
pub mod recipe;
mod request;
mod run;
mod sequences;
pub mod tokenfile;

pub use crate::models::sequence::{Codec, Defaults, GeneratorInfo};
pub use crate::session::BUILTIN_GENERATOR as BUILTIN;
pub use codec::GeneratedImage;
pub use generator::{Generator, NOT_DRAWN};
pub use request::{Order, Request};
pub use run::{Generated, Progress, Stats};
#[cfg(feature = "cli")]
pub(crate) use sequences::bytes_read;
