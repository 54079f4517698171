//! CLIP's image tower (Radford et al. 2021) as Hugging Face stores it: no patch bias, a norm before
//! the first block (`pre_layrnorm`, spelt so), quick GELU unless the configuration says otherwise.
//!
//! The pooled output is the norm of token 0; `last_hidden_state` is *before* that norm. The text tower of whole
//! checkpoints is [`crate::models::text::clip`]. `CLIPForImageClassification` averages the patches without the
//! norm.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, PositionFilter, TensorIndex, Value};
use crate::models::encoder::Encoder;
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::parts::PositionTable;
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::{Act, Scores};

const PATCHES: &str = "embeddings.patch_embedding";

/// What whole CLIP and SigLIP checkpoints have besides.
const TEXT_TOWER: &[&str] = &["text_model.", "text_projection."];

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["vision_model."],
    renames: &[],
    ignored: TEXT_TOWER,
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[], heads: &["classifier", "visual_projection"] }),
};

struct Clip {
    info: ModelInfo,
    names: Names,
    act: Act,
    eps: f32,
    /// Width of `visual_projection`, if the file has it.
    projection: Option<usize>,
}

/// Reads a `model_type: clip_vision_model` or `clip` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let top = Fields::new(config)?;
    let fields = vision_fields(config)?;
    let image_size = square(&fields, "image_size", 224)?;
    let patch = square(&fields, "patch_size", 32)?;
    fields::check_patch(image_size, patch)?;
    let hidden = fields.width("hidden_size", 768)?;
    let heads = fields.depth("num_attention_heads", 12)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;

    let names = Names::new(index, &NAMING);
    let mut info = ModelInfo {
        family: "clip",
        architecture: top.architecture("CLIPVisionModel"),
        image_size: image_size.into(),
        channels: fields.width("num_channels", 3)?,
        patch,
        hidden,
        layers: fields.depth("num_hidden_layers", 12)?,
        heads,
        mlp: fields.width("intermediate_size", 3072)?,
        prefix_tokens: 1,
        cls_token: true,
        classes: parts::classes(&names, "classifier", &top)?,
        ..ModelInfo::default()
    };
    parts::check_sizes(&info)?;
    info.warnings.extend(parts::headless(&info));
    let projection = match names.has("visual_projection.weight") {
        true => Some(top.width("projection_dim", 512)?),
        false => None,
    };
    if let Some(width) = projection {
        names.expect("visual_projection.weight", &[width, hidden], &top)?;
    }

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    positions().check(&names, &info, &fields)?;
    let mut model = Clip {
        info,
        names,
        act: fields.act("hidden_act", "quick_gelu")?,
        eps: fields.number("layer_norm_eps", 1e-5)? as f32,
        projection,
    };
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

/// The fields of the image tower: those of the file itself, or of `vision_config` in the
/// configuration of a whole CLIP or SigLIP. Old files repeat them as `vision_config_dict`, which
/// then counts.
pub(crate) fn vision_fields(config: &Json) -> Result<Fields<'_>> {
    let top = Fields::new(config)?;
    if top.text("model_type")?.is_some_and(|t| t.ends_with("_vision_model")) {
        return Ok(top);
    }
    if let Some(vision) = top.nested("vision_config_dict")? {
        return Ok(vision);
    }
    top.nested("vision_config")?.ok_or_else(|| Error::model(fields::FILE, "has no `vision_config`", ""))
}

/// A size that CLIP and SigLIP take as one number.
pub(crate) fn square(fields: &Fields, key: &str, default: usize) -> Result<[usize; 2]> {
    let size = fields.size(key, default)?;
    if size[0] == size[1] {
        return Ok(size);
    }
    Err(Error::model(fields::FILE, format!("`{key}` is {}x{}, expected a square", size[0], size[1]), ""))
}

impl Clip {
    fn encoder(&self) -> Encoder<'_> {
        let ModelInfo { layers, heads, mlp, .. } = self.info;
        Encoder { place: "", names: &self.names, layers, heads, mlp, act: self.act, eps: self.eps }
    }
}

fn positions() -> PositionTable<'static> {
    PositionTable {
        name: "embeddings.position_embedding.weight",
        prefix: 1,
        trained: None,
        filter: PositionFilter::Bicubic,
    }
}

impl Model for Clip {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;
        let n = picture.grid[0] * picture.grid[1];

        g.scope("embeddings");
        let patches = parts::patch_tokens(g, w, PATCHES, image, &self.info, false)?; // (B,N,C)
        let cls = w.value(g, "embeddings.class_embedding", [1, c]);
        let x = g.concat_tokens(picture.batch, &[cls, patches]); // (B,1+N,C)
        let table = positions().square(g, w, &picture, &self.info);
        let x = g.add(x, table);
        let x = w.layer_norm(g, x, "pre_layrnorm", self.eps);

        let x = self.encoder().build(g, x, Scores::scaled(1.0));
        g.output("last_hidden_state", x);

        g.scope("head");
        let cls = g.token(x, 0); // (B,C)
        let pooled = w.layer_norm(g, cls, "post_layernorm", self.eps);
        g.output("pooler_output", pooled);
        g.output("embedding", pooled);
        if let Some(width) = self.projection {
            let embeds = w.linear(g, pooled, "visual_projection", width, false);
            g.output("image_embeds", embeds);
            g.output("embedding", embeds);
        }
        if let Some(k) = self.info.classes {
            let mean = g.mean_tokens(x, 1..1 + n);
            g.output("embedding", mean);
            let logits = w.linear(g, mean, "classifier", k, true);
            g.output("logits", logits);
        }
        g.check()
    }
}
