//! The image tower of SigLIP 2 NaFlex (Tschannen et al. 2025) as Hugging Face stores it: SigLIP's, over any grid of
//! patches. Patches are rows of pixels, channels innermost, and the position table is resampled to each image's rows
//! and columns (bilinear, antialiased).
//!
//! The original pads the images of a batch to one number of patches and masks the padding. Here the images of a batch
//! have one size, so that there is none; what an image gives is the same.

use serde_json::Value as Json;

use super::clip;
use crate::error::{Error, Result};
use crate::graph::{Graph, PositionFilter, TensorIndex, Transform, Value, Weight};
use crate::models::encoder::Encoder;
use crate::models::names::Names;
use crate::models::parts::PositionTable;
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::{Act, Scores};

const PATCHES: &str = "embeddings.patch_embedding";

struct Siglip2 {
    info: ModelInfo,
    names: Names,
    act: Act,
    eps: f32,
    /// Attention pooling is part of the model.
    pooling: bool,
}

/// Reads a `model_type: siglip2_vision_model` or `siglip2` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let top = fields::Fields::new(config)?;
    let fields = clip::vision_fields(config)?;
    let patches = fields.width("num_patches", 256)?;
    let side = patches.isqrt();
    if side * side != patches {
        let what = format!("`num_patches` is {patches}, expected the square of a number");
        return Err(Error::model(fields::FILE, what, ""));
    }
    let patch = clip::square(&fields, "patch_size", 16)?;
    let hidden = fields.width("hidden_size", 768)?;
    let heads = fields.depth("num_attention_heads", 12)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;

    let names = Names::new(index, &clip::NAMING);
    let mut info = ModelInfo {
        family: "siglip2",
        architecture: top.architecture("Siglip2VisionModel"),
        image_size: [side * patch[0], side * patch[1]].into(),
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
    positions().check(&names, &info, &fields)?;
    let mut model = Siglip2 {
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
        filter: PositionFilter::BilinearAntialias,
    }
}

impl Model for Siglip2 {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;

        g.scope("embeddings");
        let patches = g.patchify(image, self.info.patch); // (B,N,Ch·P·P)
        let inner = g.shape(patches).width();
        let rows = Transform::FromTaps { channels: self.info.channels };
        let weight = Weight::transformed(w.in_file(&format!("{PATCHES}.weight")), rows);
        let (weight, bias) = (g.weight(weight, [c, inner]), w.value(g, &format!("{PATCHES}.bias"), [c]));
        let x = g.linear(patches, weight, Some(bias)); // (B,N,C)
        let table = positions().resampled(g, w, self.info.grid(), picture.grid, c);
        let x = g.add(x, table);

        let ModelInfo { layers, heads, mlp, .. } = self.info;
        let encoder = Encoder { place: "", names: w, layers, heads, mlp, act: self.act, eps: self.eps };
        let x = encoder.build(g, x, Scores::scaled(1.0));

        encoder.head(g, x, self.pooling, self.info.classes);
        g.check()
    }
}
