//! A classifier made of words: the head whose rows are the embeddings of texts, over the embedding of an image
//! (Radford et al. 2021, section 3.1.2). scale·cos(image, text) + bias is a linear layer over the image's embedding
//! brought to length 1, so that many labels cost one product.

use super::{Model, ModelInfo};
use crate::error::Result;
use crate::graph::{Graph, Value};

/// (E): scale / sqrt(E), which makes an RMS norm a vector of length `scale`.
pub const GAIN: &str = "zero_shot.gain";
/// (K,E): the embeddings of the labels, each of length 1.
pub const WEIGHT: &str = "zero_shot.weight";
/// (K): the bias, K times.
pub const BIAS: &str = "zero_shot.bias";

/// An image tower with such a head.
pub struct ZeroShot {
    tower: Box<dyn Model>,
    info: ModelInfo,
    /// Labels K and width E.
    sizes: [usize; 2],
}

impl ZeroShot {
    /// `tower` declares `image_embeds` (B,E); the tensors [`GAIN`], [`WEIGHT`] and [`BIAS`] are for
    /// `sizes` = [K, E].
    pub fn new(tower: Box<dyn Model>, sizes: [usize; 2]) -> Self {
        let info = ModelInfo { classes: Some(sizes[0]), ..tower.info().clone() };
        Self { tower, info, sizes }
    }
}

impl Model for ZeroShot {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        self.tower.build(g, image)?;
        let [k, e] = self.sizes;
        let found = g.outputs().iter().find(|(name, _)| name == "image_embeds").map(|(_, value)| *value);
        let embeds = found.expect("whoever makes a classifier of a tower knows that it has embeddings");
        g.scope("zero_shot");
        let gain = g.weight(GAIN, [e]);
        let direction = g.rms_norm(embeds, gain, 0.0); // (B,E)
        let (weight, bias) = (g.weight(WEIGHT, [k, e]), g.weight(BIAS, [k]));
        let logits = g.linear(direction, weight, Some(bias));
        g.output("logits", logits);
        g.check()
    }
}
