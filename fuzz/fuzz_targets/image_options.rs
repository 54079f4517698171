//! Image files of any content, under any decoding options; `bodies/image_options.rs` says what is done.

#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::image_options::run(input));
