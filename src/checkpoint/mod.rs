//! Checkpoint files: their tensors by name, read strictly, and what a graph's weights are made of. It
//! knows no model and no GPU.
//!
//! [`Checkpoint::open`] reads a safetensors file or an index of several; [`materialise`] carries out a
//! weight's recipe on it; [`mod@write`] makes a file of tensors.

mod buckets;
mod convolution;
mod fingerprint;
mod header;
mod in_memory;
pub mod lora;
pub mod materialise;
mod merge;
mod overlaid;
mod overlay;
mod positions;
mod rotary;
mod rows;
pub mod sniff;
mod source;
mod weights;
mod whole;
pub mod write;

pub use merge::merge;
pub use overlay::{Change, LowRank, Overlay};
pub use weights::Checkpoint;
pub(crate) use weights::{DECODER, INDEX, SINGLE, TOKENIZER, WeightFiles, find, is_plain_file_name, shards};
