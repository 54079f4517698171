//! CLIP's text tower (Radford et al. 2021) as Hugging Face stores it: token and learned positions, the pre-norm
//! encoder with a causal mask, a last norm; read where the text ends, and projected without a bias.
//!
//! Old configurations name 2 as the id of the end, which it is not: there the largest id is where a text is read,
//! as in the original code.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::encoder::Encoder;
use crate::models::fields::{self, Fields};
use crate::models::names::Names;
use crate::models::naming::Naming;
use crate::models::text::{Kind, ReadAt, Text, TextInfo, TextModel, Tower};
use crate::ops::{Act, Scores};

/// The image tower is [`crate::models::vision::clip`].
const IMAGE_TOWER: &[&str] = &["vision_model.", "visual_projection."];

pub(super) const NAMING: Naming =
    Naming { prefixes: &["text_model."], renames: &[], ignored: IMAGE_TOWER, in_out: &[], written: None };

const PROJECTION: &str = "text_projection.weight";

const USUAL: Sizes = Sizes { vocabulary: 49408, positions: 77, hidden: 512, heads: 8 };

/// What old configurations say ends a text.
const OLD_END: u32 = 2;

struct ClipText {
    info: TextInfo,
    names: Names,
    act: Act,
    eps: f32,
    /// Width of the shared space E.
    width: usize,
}

/// Reads the text half of a `model_type: clip` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let top = Fields::new(config)?;
    let fields = text_fields(config)?;
    let names = Names::new(index, &NAMING);
    let width = top.width("projection_dim", 512)?;
    names.expect(PROJECTION, &[width, fields.width("hidden_size", 512)?], &top)?;
    let ends = fields.ids("eos_token_id", &[49407])?;
    let tower = Tower {
        width,
        read: if ends.contains(&OLD_END) { ReadAt::LargestId } else { ReadAt::End },
        logit_scale: names.in_file("logit_scale"),
        logit_bias: None,
        independent: false,
    };
    let info = TextInfo {
        ends,
        pad: fields.ids("pad_token_id", &[1])?.first().copied(),
        tower: Some(tower),
        ..info("clip", &top.architecture("CLIPModel"), &fields, USUAL)?
    };
    let mut model = ClipText {
        act: fields.act("hidden_act", "quick_gelu")?,
        eps: fields.number("layer_norm_eps", 1e-5)? as f32,
        width,
        info,
        names,
    };
    let (parameters, warnings) = model.names.check_text(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

/// The fields of a text tower. Old files repeat them as `text_config_dict`, which then counts.
pub(super) fn text_fields(config: &Json) -> Result<Fields<'_>> {
    let top = Fields::new(config)?;
    let nested = match top.nested("text_config_dict")? {
        Some(text) => Some(text),
        None => top.nested("text_config")?,
    };
    nested.ok_or_else(|| Error::model(fields::FILE, "has no `text_config`", ""))
}

/// Sizes of a text tower where its configuration says nothing.
pub(super) struct Sizes {
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
}

/// What both kinds of text towers say of themselves.
pub(super) fn info(family: &'static str, class: &str, fields: &Fields, usual: Sizes) -> Result<TextInfo> {
    let hidden = fields.width("hidden_size", usual.hidden)?;
    let heads = fields.depth("num_attention_heads", usual.heads)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;
    Ok(TextInfo {
        family,
        architecture: class.to_owned(),
        kind: Kind::Encoder,
        vocabulary: fields.width("vocab_size", usual.vocabulary)?,
        positions: Some(fields.width("max_position_embeddings", usual.positions)?),
        hidden,
        layers: fields.depth("num_hidden_layers", 12)?,
        heads,
        mlp: fields.width("intermediate_size", 4 * hidden)?,
        ..TextInfo::default()
    })
}

/// Tokens with their positions. Returns (B,T,C).
pub(super) fn embeddings(g: &mut Graph, w: &Names, info: &TextInfo, text: &Text) -> Value {
    g.scope("embeddings");
    let c = info.hidden;
    let words = w.value(g, "embeddings.token_embedding.weight", [info.vocabulary, c]);
    let x = g.gather(words, text.ids);
    let rows = info.positions.unwrap_or_default();
    let table = w.value(g, "embeddings.position_embedding.weight", [rows, c]);
    let positions = g.gather(table, text.positions);
    g.add(x, positions)
}

impl TextModel for ClipText {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, text: &Text) -> Result<()> {
        let w = &self.names;
        let x = embeddings(g, w, &self.info, text); // (B,T,C)
        let TextInfo { layers, heads, mlp, .. } = self.info;
        let encoder = Encoder { place: "text.", names: w, layers, heads, mlp, act: self.act, eps: self.eps };
        let visible = Scores { causal: true, lengths: Some(text.lengths), ..Scores::scaled(1.0) };
        let x = encoder.build(g, x, visible);

        g.scope("head");
        let x = w.layer_norm(g, x, "final_layer_norm", self.eps);
        g.output("last_hidden_state", x);
        let mean = g.mean_of(x, text.lengths);
        g.output("mean", mean);
        let ends = g.take_tokens(x, text.places); // (B,M,C)
        let pooled = g.token(ends, 0); // (B,C)
        g.output("pooler_output", pooled);
        let weight = w.value(g, PROJECTION, [self.width, self.info.hidden]);
        let embeds = g.linear(pooled, weight, None);
        g.output("text_embeds", embeds);
        g.check()
    }
}
