//! Softmax attention: of all tokens at once and its way back, over a cache of what came before, over another
//! sequence, and its weights written out. The kernels of the first are in [`variants`].

mod back_variants;
mod backward;
pub(super) mod cache;
mod coop;
mod cross;
mod full;
mod gradients;
mod problem;
mod rules;
mod variants;
mod weights;

pub(crate) use back_variants::{kernels as back_kernels, names as back_names};
pub use backward::AttentionRows;
pub use cache::{Cache, CachedAttention, cache_shape};
pub use cross::CrossAttention;
pub use full::Attention;
pub use gradients::{AttentionGradBias, AttentionGradKv, AttentionGradQ};
pub use rules::Scores;
pub(crate) use variants::{kernels, names};
pub use weights::AttentionWeights;
