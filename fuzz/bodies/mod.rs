//! What each fuzz target does with one input. The targets in `fuzz_targets` run these under
//! libFuzzer; `tests/fuzz_corpus.rs` runs the same functions over the committed seeds, without a
//! fuzzer and on a stable compiler.
//!
//! An input may be refused by an error in any way. It must not panic, overflow, hang, or allocate
//! far beyond its own size; and what is accepted must keep the promises that are asserted here.

#![allow(dead_code, reason = "each target uses one")]

pub mod checkpoint_header;
pub mod image_options;
pub mod model_config;
pub mod preprocessor_config;
pub mod text_config;

/// The part before the first NUL, and what follows it.
fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|b| *b == 0).unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or(&[]))
}
