//! Checkpoint files of any content; `bodies/checkpoint_header.rs` says what is done.

#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::checkpoint_header::run(input));
