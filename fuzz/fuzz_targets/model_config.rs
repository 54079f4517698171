//! Model configurations beside any list of tensors; `bodies/model_config.rs` says what is done.

#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::model_config::run(input));
