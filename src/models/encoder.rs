//! The pre-norm encoder that CLIP and SigLIP have twice, for images and for texts, under the same names.

use super::names::Names;
use super::parts;
use crate::graph::{Graph, Value};
use crate::ops::{Act, Scores};

/// The layers of one tower.
pub(crate) struct Encoder<'a> {
    /// What stands before `layer.N` in labels: nothing, or which tower it is where a graph holds both.
    pub(crate) place: &'static str,
    pub(crate) names: &'a Names,
    pub(crate) layers: usize,
    /// Attention heads H.
    pub(crate) heads: usize,
    /// Hidden width of the MLP.
    pub(crate) mlp: usize,
    pub(crate) act: Act,
    pub(crate) eps: f32,
}

impl Encoder<'_> {
    /// All layers; declares `hidden.*` and `attention.*`. `visible` says what a token sees (its scale is set
    /// here). x: (B,T,C); returns (B,T,C).
    pub(crate) fn build(&self, g: &mut Graph, mut x: Value, visible: Scores) -> Value {
        let (w, c) = (self.names, g.shape(x).width());
        let scores = Scores { scale: parts::attention_scale(c / self.heads), ..visible };
        g.output("hidden.0", x);
        for l in 0..self.layers {
            let p = format!("encoder.layers.{l}");

            g.scope(format!("{}layer.{l}.attention", self.place));
            let h = w.layer_norm(g, x, &format!("{p}.layer_norm1"), self.eps);
            let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|name| {
                let projected = w.linear(g, h, &format!("{p}.self_attn.{name}"), c, true);
                g.split_heads(projected, self.heads) // (B,H,T,D)
            });
            let weights = g.attention_weights([q, k], scores);
            g.output(format!("attention.{l}"), weights);
            let a = g.attention([q, k, v], scores);
            let a = w.linear(g, a, &format!("{p}.self_attn.out_proj"), c, true);
            x = g.add(a, x);

            g.scope(format!("{}layer.{l}.mlp", self.place));
            let h = w.layer_norm(g, x, &format!("{p}.layer_norm2"), self.eps);
            let h = w.linear(g, h, &format!("{p}.mlp.fc1"), self.mlp, true); // (B,T,F)
            let h = g.act(h, self.act);
            let m = w.linear(g, h, &format!("{p}.mlp.fc2"), c, true);
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }
        x
    }
}
