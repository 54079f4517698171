//! The model zoo: one file per family, each reading like its paper.
//!
//! A family takes the parsed `config.json` and the checkpoint's [`TensorIndex`](crate::graph::TensorIndex)
//! (names and shapes, never elements), and yields a [`Model`] whose `build` writes the forward pass into a
//! [`Graph`](crate::graph::Graph).
//! Every file has the same three steps: read and check the fields (`fields`), find the tensors
//! under whatever prefix and naming the file uses (`names`), build. Before a model is handed out
//! it is built once and every weight of the graph is compared with the checkpoint, so that a wrong
//! or truncated checkpoint is refused by name before anything is allocated.
//!
//! Models declare all outputs they can produce; `Graph::select` keeps what the caller wants. The
//! names mean the same everywhere:
//!
//! | output | shape | meaning |
//! | --- | --- | --- |
//! | `logits` | (B,K) | class scores; with two heads (DeiT) their mean |
//! | `cls_logits`, `distillation_logits` | (B,K) | the two heads of a distilled DeiT |
//! | `embedding` | (B,C) | the pooled features a linear head reads, or would read |
//! | `pooler_output` | (B,C) | what the original calls so |
//! | `image_embeds` | (B,E) | the image in the space that a text tower shares, not normalised |
//! | `text_embeds` | (B,E) | the text there, not normalised |
//! | `last_hidden_state` | (B,T,C) | as the original's output of that name |
//! | `features` | (B,T,C) | timm's `forward_features` |
//! | `hidden.0`, `hidden.1`, … | (B,T,C) | embedded tokens, then each layer's output |
//! | `attention.0`, … | (B,H,T,T) | softmax weights of each layer |

mod block;
mod encoder;
mod fields;
pub mod generative;
pub mod masked;
mod model;
mod modules;
mod names;
mod naming;
mod parts;
mod registry;
pub mod sequence;
pub mod text;
pub(crate) mod timm;
mod vision;
pub mod zero_shot;

pub use model::{MaskedAutoencoder, Model, ModelInfo};
pub use modules::TensorNames;
pub use registry::{
    AnyModel, FAMILIES, Family, ModelKind, family_name, from_config, has_text_tower, kind, text_tower,
};

#[cfg(test)]
mod tests;
