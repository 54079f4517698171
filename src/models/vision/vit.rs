//! ViT (Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words") as Hugging Face stores it.
//!
//! Patches and a class token, learned positions, pre-norm blocks, a final norm; the classifier
//! reads token 0. `ViTModel` files have no prefix and may have a tanh pooler. Positions are
//! resampled bicubically, without antialiasing. The encoder is shared with DeiT and ViT-MAE, whose
//! files name its tensors alike.

use serde_json::Value as Json;

use crate::error::Result;
use crate::graph::{Graph, PositionFilter, TensorIndex, Value};
use crate::models::block::{Block, Order, Storage};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::parts::PositionTable;
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::{Act, NormKind};

/// transformers 5 spellings and the ones that files usually have.
pub(crate) const RENAMES: &[(&str, &str)] = &[
    ("^layers.", "encoder.layer."),
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
];

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["vit."],
    renames: &[RENAMES],
    ignored: &["decoder."],
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[RENAMES], heads: &["classifier"] }),
};

/// Canonical name of the patch convolution.
pub(crate) const PATCHES: &str = "embeddings.patch_embeddings.projection";

const POSITIONS: &str = "embeddings.position_embeddings";

struct Vit {
    info: ModelInfo,
    names: Names,
    encoder: Encoder,
    pooler: Option<Pooler>,
}

/// Reads a `model_type: vit` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let encoder = Encoder::read(&fields)?;
    let names = Names::new(index, &NAMING);
    let pooler = Pooler::read(&fields, &names, encoder.hidden)?;
    let mut info = encoder.info(&fields, "vit", "ViTModel", 1)?;
    info.classes = parts::classes(&names, "classifier", &fields)?;
    info.warnings.extend(parts::headless(&info));

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    positions(&info).check(&names, &info, &fields)?;
    let mut model = Vit { info, names, encoder, pooler };
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

/// The position table of a ViT-like model: one row for each prefix token, then the grid.
pub(crate) fn positions(info: &ModelInfo) -> PositionTable<'static> {
    PositionTable {
        name: POSITIONS,
        prefix: info.prefix_tokens,
        trained: Some(info.image_size.into()),
        filter: PositionFilter::Bicubic,
    }
}

impl Model for Vit {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;

        g.scope("embeddings");
        let patches = parts::patch_tokens(g, w, PATCHES, image, &self.info, true)?; // (B,N,C)
        let cls = w.value(g, "embeddings.cls_token", [1, c]);
        let x = g.concat_tokens(picture.batch, &[cls, patches]); // (B,1+N,C)
        let table = positions(&self.info).square(g, w, &picture, &self.info);
        let x = g.add(x, table);

        let x = self.encoder.build(g, w, x);

        g.scope("head");
        let x = w.layer_norm(g, x, "layernorm", self.encoder.eps);
        g.output("last_hidden_state", x);
        let cls = g.token(x, 0); // (B,C)
        g.output("embedding", cls);
        if let Some(pooler) = &self.pooler {
            pooler.build(g, w, cls);
        }
        if let Some(k) = self.info.classes {
            let logits = w.linear(g, cls, "classifier", k, true);
            g.output("logits", logits);
        }
        g.check()
    }
}

/// Pre-norm layers of ViT, DeiT and ViT-MAE, whose decoder has them too.
pub(crate) struct Encoder {
    /// What the names of layers begin with.
    pub(crate) stem: &'static str,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) mlp: usize,
    pub(crate) act: Act,
    pub(crate) eps: f32,
    pub(crate) qkv_bias: bool,
}

impl Encoder {
    /// Reads the fields that ViT, DeiT and ViT-MAE share, with their defaults.
    pub(crate) fn read(fields: &Fields) -> Result<Self> {
        let encoder = Self {
            stem: "encoder.layer",
            layers: fields.depth("num_hidden_layers", 12)?,
            hidden: fields.width("hidden_size", 768)?,
            heads: fields.depth("num_attention_heads", 12)?,
            mlp: fields.width("intermediate_size", 3072)?,
            act: fields.act("hidden_act", "gelu")?,
            eps: fields.number("layer_norm_eps", 1e-12)? as f32,
            qkv_bias: fields.switch("qkv_bias", true)?,
        };
        fields::check_heads(("hidden_size", encoder.hidden), ("num_attention_heads", encoder.heads))?;
        Ok(encoder)
    }

    /// The model's description, with the image fields and their defaults.
    pub(crate) fn info(
        &self,
        fields: &Fields,
        family: &'static str,
        class: &str,
        prefix_tokens: usize,
    ) -> Result<ModelInfo> {
        let (image_size, patch) = (fields.size("image_size", 224)?, fields.size("patch_size", 16)?);
        fields::check_patch(image_size, patch)?;
        let info = ModelInfo {
            family,
            architecture: fields.architecture(class),
            image_size: image_size.into(),
            channels: fields.width("num_channels", 3)?,
            patch,
            hidden: self.hidden,
            layers: self.layers,
            heads: self.heads,
            mlp: self.mlp,
            prefix_tokens,
            cls_token: true,
            ..ModelInfo::default()
        };
        parts::check_sizes(&info)?;
        Ok(info)
    }

    /// All layers; declares `hidden.*` and `attention.*`. x: (B,T,C); returns (B,T,C).
    pub(crate) fn build(&self, g: &mut Graph, w: &Names, mut x: Value) -> Value {
        let block = Block {
            names: w,
            order: Order::NormFirst,
            norm: NormKind::Layer,
            eps: self.eps,
            storage: Storage::OutIn,
            bias: true,
        };
        g.output("hidden.0", x);
        for l in 0..self.layers {
            let p = format!("{}.{l}", self.stem);

            g.scope(format!("layer.{l}.attention"));
            x = block.residual(g, x, &format!("{p}.layernorm_before"), |g, h| {
                let qkv = ["query", "key", "value"].map(|name| {
                    let name = format!("{p}.attention.attention.{name}");
                    let projected = w.linear(g, h, &name, self.hidden, self.qkv_bias);
                    g.split_heads(projected, self.heads) // (B,H,T,D)
                });
                let a = parts::self_attention(g, qkv, None, l);
                block.linear(g, a, &format!("{p}.attention.output.dense"), self.hidden)
            });

            g.scope(format!("layer.{l}.mlp"));
            x = block.residual(g, x, &format!("{p}.layernorm_after"), |g, h| {
                let [up, down] = ["intermediate.dense", "output.dense"].map(|name| format!("{p}.{name}"));
                block.mlp(g, h, [&up, &down], self.mlp, self.act)
            });
            g.output(format!("hidden.{}", l + 1), x);
        }
        x
    }
}

/// Dense layer and activation on token 0: `ViTModel` and `DeiTModel` only.
pub(crate) struct Pooler {
    width: usize,
    act: Act,
}

impl Pooler {
    /// Present if the file has its tensors.
    pub(crate) fn read(fields: &Fields, w: &Names, hidden: usize) -> Result<Option<Self>> {
        let width = fields.width("pooler_output_size", hidden)?;
        let act = fields.act("pooler_act", "tanh")?;
        Ok(w.has("pooler.dense.weight").then_some(Self { width, act }))
    }

    /// Declares `pooler_output`. token: (B,C).
    pub(crate) fn build(&self, g: &mut Graph, w: &Names, token: Value) {
        let dense = w.linear(g, token, "pooler.dense", self.width, true);
        let pooled = g.act(dense, self.act);
        g.output("pooler_output", pooled);
    }
}
