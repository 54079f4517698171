//! What a vision model is to the rest: what it says of itself, and its forward pass.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::tensor::Size;

/// A network that knows its tensors and can write itself into a graph.
pub trait Model: Send + Sync {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// Writes the forward pass. image: (B,Ch,H,W), normalised; H and W may differ from
    /// [`ModelInfo::image_size`], position tables are then resampled as the original does.
    ///
    /// # Errors
    /// If the image does not fit the model, or the first shape error of the graph.
    fn build(&self, g: &mut Graph, image: Value) -> Result<()>;

    /// The model as an autoencoder of masked patches, if it is one and has its decoder.
    fn masked(&self) -> Option<&dyn MaskedAutoencoder> {
        None
    }
}

/// A model that paints the patches it does not see.
pub trait MaskedAutoencoder: Send + Sync {
    /// Writes the forward pass over the patches that are kept. image: (B,Ch,H,W), normalised; kept: (B,K) u32;
    /// restore: (B,N) u32, as [`Mask`](super::masked::Mask) has them. Returns (B,N,P·P·Ch): pixels of each
    /// patch, channels innermost.
    ///
    /// # Errors
    /// If the image does not fit the model, or the first shape error of the graph.
    fn build_masked(&self, g: &mut Graph, image: Value, kept: Value, restore: Value) -> Result<Value>;

    /// Share of patches that is hidden in training.
    fn mask_ratio(&self) -> f32;

    /// Whether it paints pixels less their patch's mean, over their deviation.
    fn normalised_pixels(&self) -> bool;
}

/// What a model is, for `info`, for preprocessing, and for error messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Family, one of [`crate::models::FAMILIES`].
    pub family: &'static str,
    /// Class or architecture as the checkpoint names it.
    pub architecture: String,
    /// Rows and columns of pixels the model was made for.
    pub image_size: Size,
    /// Colour channels.
    pub channels: usize,
    /// Rows and columns of pixels in a patch.
    pub patch: [usize; 2],
    /// Token width C.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Tokens in front of the patches (class, distillation, registers).
    pub prefix_tokens: usize,
    /// True if token 0 is a class token.
    pub cls_token: bool,
    /// Classes of the head; `None` if the checkpoint has no head.
    pub classes: Option<usize>,
    /// Elements of all tensors the model uses.
    pub parameters: u64,
    /// Things worth telling the user: tensors that are not used, a head that is missing.
    pub warnings: Vec<String>,
}

impl ModelInfo {
    /// Patches per column and row at the trained size.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.grid(self.patch)
    }
}
