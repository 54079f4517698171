//! Search among images by their embeddings: an index on disk, kept up to date, and exact nearest neighbours.
//!
//! An index is a folder of two files that any program can read: `embeddings.safetensors` with one tensor `embeddings`
//! (N,E) of f32, each row of length 1, and `images.jsonl` with a line for each row ([`Image`]). [`Index`] reads it,
//! [`Update`] brings it up to date without losing what is there, [`Product`] multiplies queries with all of its
//! rows on a device, block by block, and [`Best`] keeps the highest scores.

mod best;
mod disk;
mod entry;
mod folder;
mod index;
mod product;
mod update;

pub use best::{Best, Hit};
pub use entry::{Image, Maker};
pub use index::Index;
pub use product::Product;
pub use update::{Changes, Update};
