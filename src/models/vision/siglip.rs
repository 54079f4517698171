//! SigLIP's image tower (Zhai et al. 2023) as Hugging Face stores it: no class token, a final norm,
//! tanh GELU, and attention pooling (MAP, Zhai et al. 2021): one learned query attends to all
//! patches, followed by an MLP.
//!
//! The text tower of whole checkpoints is [`crate::models::text::siglip`].
//! `SiglipForImageClassification` averages the patches instead of pooling by attention.

use serde_json::Value as Json;

use super::clip;
use crate::error::Result;
use crate::graph::{Graph, PositionFilter, TensorIndex, Value, Weight};
use crate::models::encoder::Encoder;
use crate::models::names::Names;
use crate::models::parts::PositionTable;
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::{Act, Scores};

const PATCHES: &str = "embeddings.patch_embedding";

struct Siglip {
    info: ModelInfo,
    names: Names,
    act: Act,
    eps: f32,
    /// Attention pooling is part of the model.
    pooling: bool,
}

/// Reads a `model_type: siglip_vision_model` or `siglip` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let top = fields::Fields::new(config)?;
    let fields = clip::vision_fields(config)?;
    let image_size = clip::square(&fields, "image_size", 224)?;
    let patch = clip::square(&fields, "patch_size", 16)?;
    fields::check_patch(image_size, patch)?;
    let hidden = fields.width("hidden_size", 768)?;
    let heads = fields.depth("num_attention_heads", 12)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;

    let names = Names::new(index, &clip::NAMING);
    let mut info = ModelInfo {
        family: "siglip",
        architecture: top.architecture("SiglipVisionModel"),
        image_size: image_size.into(),
        channels: fields.width("num_channels", 3)?,
        patch,
        hidden,
        layers: fields.depth("num_hidden_layers", 12)?,
        heads,
        mlp: fields.width("intermediate_size", 3072)?,
        prefix_tokens: 0,
        cls_token: false,
        classes: parts::classes(&names, "classifier", &top)?,
        ..ModelInfo::default()
    };
    parts::check_sizes(&info)?;
    info.warnings.extend(parts::headless(&info));

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    positions().check(&names, &info, &fields)?;
    let mut model = Siglip {
        pooling: fields.switch("vision_use_head", true)?,
        act: fields.act("hidden_act", "gelu_pytorch_tanh")?,
        eps: fields.number("layer_norm_eps", 1e-6)? as f32,
        info,
        names,
    };
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

fn positions() -> PositionTable<'static> {
    PositionTable {
        name: "embeddings.position_embedding.weight",
        prefix: 0,
        trained: None,
        filter: PositionFilter::Bicubic,
    }
}

impl Model for Siglip {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let w = &self.names;
        let picture = parts::picture(g, image, &self.info)?;

        g.scope("embeddings");
        let x = parts::patch_tokens(g, w, PATCHES, image, &self.info, true)?; // (B,N,C)
        let table = positions().square(g, w, &picture, &self.info);
        let x = g.add(x, table);

        let x = self.encoder().build(g, x, Scores::scaled(1.0));

        self.encoder().head(g, x, self.pooling, self.info.classes);
        g.check()
    }
}

impl Siglip {
    fn encoder(&self) -> Encoder<'_> {
        let ModelInfo { layers, heads, mlp, .. } = self.info;
        Encoder { place: "", names: &self.names, layers, heads, mlp, act: self.act, eps: self.eps }
    }
}

impl Encoder<'_> {
    /// What comes behind the layers of SigLIP and SigLIP 2. x: (B,N,C).
    pub(super) fn head(&self, g: &mut Graph, x: Value, pooling: bool, classes: Option<usize>) {
        let w = self.names;
        g.scope("head");
        let x = w.layer_norm(g, x, "post_layernorm", self.eps);
        g.output("last_hidden_state", x);
        if pooling {
            let pooled = self.pool(g, x);
            g.output("pooler_output", pooled);
            g.output("image_embeds", pooled);
            g.output("embedding", pooled);
        }
        if classes.is_some() || !pooling {
            let n = g.shape(x).dims()[1];
            let mean = g.mean_tokens(x, 0..n); // (B,C)
            g.output("embedding", mean);
            if let Some(k) = classes {
                let logits = w.linear(g, mean, "classifier", k, true);
                g.output("logits", logits);
            }
        }
    }

    /// Attention of the learned probe to all patches, then x + mlp(norm(x)). The projections of
    /// q, k and v are rows of one tensor. x: (B,N,C); returns (B,C).
    fn pool(&self, g: &mut Graph, x: Value) -> Value {
        let (w, heads, shape) = (self.names, self.heads, g.shape(x));
        let (batch, c) = (shape.dims()[0], shape.width());
        g.scope("head.attention");
        let probe = w.value(g, "head.probe", [1, c]);
        let probe = g.concat_tokens(batch, &[probe]); // (B,1,C)
        let mut project = |x: Value, third: usize| {
            let rows = third * c..(third + 1) * c;
            let part =
                |kind: &str| Weight::rows(w.in_file(&format!("head.attention.in_proj_{kind}")), rows.clone());
            let (weight, bias) = (g.weight(part("weight"), [c, c]), g.weight(part("bias"), [c]));
            let projected = g.linear(x, weight, Some(bias));
            g.split_heads(projected, heads)
        };
        let qkv = [project(probe, 0), project(x, 1), project(x, 2)]; // (B,H,1,D), (B,H,N,D) twice
        let a = g.attention(qkv, Scores::scaled(parts::attention_scale(c / heads)));
        let x = w.linear(g, a, "head.attention.out_proj", c, true); // (B,1,C)

        g.scope("head.mlp");
        let h = w.layer_norm(g, x, "head.layernorm", self.eps);
        let h = w.linear(g, h, "head.mlp.fc1", self.mlp, true);
        let h = g.act(h, self.act);
        let m = w.linear(g, h, "head.mlp.fc2", c, true);
        let x = g.add(m, x);
        g.token(x, 0)
    }
}
