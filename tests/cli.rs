//! The program as people and scripts see it: exit codes, both streams, files, and groups C, I23-I25,
//! H1-H2, G1-G2 and R of the bad-input list. What is not about a GPU runs on `--device reference` and is
//! never skipped.

#[path = "cli/harness.rs"]
mod harness;

#[path = "cli/adapter.rs"]
mod adapter;
#[path = "cli/attention.rs"]
mod attention;
#[path = "cli/bench.rs"]
mod bench;
mod common;
#[path = "cli/conduct.rs"]
mod conduct;
#[path = "cli/devices.rs"]
mod devices;
#[path = "cli/documents.rs"]
mod documents;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/generate_faults.rs"]
mod generate_faults;
#[path = "cli/generation_config.rs"]
mod generation_config;
#[cfg(feature = "hub")]
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/inputs.rs"]
mod inputs;
#[path = "cli/kinds.rs"]
mod kinds;
#[path = "cli/labels.rs"]
mod labels;
#[path = "cli/model_folders.rs"]
mod model_folders;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/profile.rs"]
mod profile;
#[path = "cli/search.rs"]
mod search;
#[path = "cli/sinks.rs"]
mod sinks;
#[path = "cli/text_embed.rs"]
mod text_embed;
#[path = "cli/text_faults.rs"]
mod text_faults;
#[path = "cli/text_generate.rs"]
mod text_generate;
#[path = "cli/text_infer.rs"]
mod text_infer;
#[path = "cli/tiny.rs"]
mod tiny;
#[path = "cli/train.rs"]
mod train;
#[path = "cli/train_pixels.rs"]
mod train_pixels;
#[path = "cli/train_texts.rs"]
mod train_texts;
#[path = "cli/tune.rs"]
mod tune;
#[path = "cli/verify.rs"]
mod verify;
