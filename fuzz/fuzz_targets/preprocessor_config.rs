//! Preprocessor configurations of any content, on small images; `bodies/preprocessor_config.rs` says what is done.

#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::preprocessor_config::run(input));
