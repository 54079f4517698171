//! Configurations beside models of texts; `bodies/text_config.rs` says what is done.

#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::text_config::run(input));
