//! Floor 3. Everything that comes from files: checkpoints, images, preprocessing, labels, the hub.
//! None of it knows models or the GPU.

#[cfg(feature = "hub")]
mod blob;
mod buckets;
mod convolution;
#[cfg(feature = "hub")]
pub mod download;
#[cfg(feature = "hub")]
mod guard;
mod header;
#[cfg(feature = "hub")]
mod http;
pub mod hub;
pub mod hub_env;
pub mod image;
mod in_memory;
pub mod labels;
pub mod materialise;
mod positions;
pub mod preprocess;
pub mod records;
pub mod resize;
pub mod sentence;
pub mod sniff;
mod source;
pub mod spans;
pub mod synthetic;
pub mod synthetic_folder;
pub mod synthetic_llamagen;
pub mod synthetic_text;
mod text;
pub mod tokenizer;
pub mod weights;
