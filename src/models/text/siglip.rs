//! The text tower of SigLIP (Zhai et al. 2023) and SigLIP 2 (Tschannen et al. 2025) as Hugging Face stores it:
//! token and learned positions, the pre-norm encoder without any mask, a last norm; read at the last place, behind
//! padding, which counts like any token; then a linear head.

use serde_json::Value as Json;

use super::clip;
use crate::error::Result;
use crate::graph::{Graph, TensorIndex};
use crate::models::encoder::Encoder;
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::text::{ReadAt, Text, TextInfo, TextModel, Tower};
use crate::ops::{Act, Scores};

const USUAL: clip::Sizes = clip::Sizes { vocabulary: 32_000, positions: 64, hidden: 768, heads: 12 };

struct SiglipText {
    info: TextInfo,
    names: Names,
    act: Act,
    eps: f32,
    /// Width of the shared space E.
    width: usize,
}

/// Reads the text half of a `model_type: siglip` or `siglip2` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let top = Fields::new(config)?;
    let fields = clip::text_fields(config)?;
    let names = Names::new(index, &clip::NAMING);
    // The other SigLIP 2 that is of this form has the tokenizer of the first, or says which.
    let family = if top.text("model_type")? == Some("siglip2") { "siglip2" } else { "siglip" };
    let info = clip::info(family, &top.architecture("SiglipModel"), &fields, USUAL)?;
    let width = fields.width("projection_size", info.hidden)?;
    names.expect("head.weight", &[width, info.hidden], &fields)?;
    let tower = Tower {
        width,
        read: ReadAt::LastPlace,
        logit_scale: names.in_file("logit_scale"),
        logit_bias: Some(names.in_file("logit_bias")),
        independent: true,
    };
    let mut model = SiglipText {
        act: fields.act("hidden_act", "gelu_pytorch_tanh")?,
        eps: fields.number("layer_norm_eps", 1e-6)? as f32,
        width,
        info: TextInfo {
            tower: Some(tower),
            pad: fields.ids("pad_token_id", &[1])?.first().copied(),
            ends: fields.ids("eos_token_id", &[49407])?,
            ..info
        },
        names,
    };
    let (parameters, warnings) = model.names.check_text(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl TextModel for SiglipText {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, text: &Text) -> Result<()> {
        let w = &self.names;
        let x = clip::embeddings(g, w, &self.info, text); // (B,T,C)
        let TextInfo { layers, heads, mlp, .. } = self.info;
        let encoder = Encoder { place: "text.", names: w, layers, heads, mlp, act: self.act, eps: self.eps };
        let x = encoder.build(g, x, Scores::scaled(1.0));

        g.scope("head");
        let x = w.layer_norm(g, x, "final_layer_norm", self.eps);
        g.output("last_hidden_state", x);
        let mean = g.mean_of(x, text.lengths);
        g.output("mean", mean);
        let last = g.shape(x).dims()[1] - 1;
        let last = g.token(x, last); // (B,C)
        let embeds = w.linear(g, last, "head", self.width, true);
        g.output("pooler_output", embeds);
        g.output("text_embeds", embeds);
        g.check()
    }
}
