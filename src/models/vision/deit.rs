//! DeiT (Touvron et al. 2020, "Training data-efficient image transformers") as Hugging Face stores
//! it: a ViT with a second learned token that was taught by a convolutional network.
//!
//! Tokens are [class, distillation, patches]. `DeiTForImageClassificationWithTeacher` has a head for
//! each of the two and averages them; `DeiTForImageClassification` has one head, on the class token.

use serde_json::Value as Json;

use super::vit::{self, Encoder, PATCHES, Pooler};
use crate::error::Result;
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::{Model, ModelInfo, parts};

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["deit."],
    renames: &[vit::RENAMES],
    ignored: &["decoder."],
    in_out: &[],
    written: Some(Written {
        wrapped: true,
        renames: &[vit::RENAMES],
        heads: &["classifier", "cls_classifier", "distillation_classifier"],
    }),
};

struct Deit {
    info: ModelInfo,
    names: Names,
    encoder: Encoder,
    pooler: Option<Pooler>,
    heads: Heads,
}

enum Heads {
    None,
    Class(usize),
    ClassAndDistillation(usize),
}

/// Reads a `model_type: deit` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let encoder = Encoder::read(&fields)?;
    let names = Names::new(index, &NAMING);
    let pooler = Pooler::read(&fields, &names, encoder.hidden)?;
    let mut info = encoder.info(&fields, "deit", "DeiTModel", 2)?;
    let heads = match parts::classes(&names, "cls_classifier", &fields)? {
        Some(k) => Heads::ClassAndDistillation(k),
        None => parts::classes(&names, "classifier", &fields)?.map_or(Heads::None, Heads::Class),
    };
    info.classes = match heads {
        Heads::None => None,
        Heads::Class(k) | Heads::ClassAndDistillation(k) => Some(k),
    };
    info.warnings.extend(parts::headless(&info));

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    vit::positions(&info).check(&names, &info, &fields)?;
    let mut model = Deit { info, names, encoder, pooler, heads };
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl Model for Deit {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;

        g.scope("embeddings");
        let patches = parts::patch_tokens(g, w, PATCHES, image, &self.info, true)?; // (B,N,C)
        let cls = w.value(g, "embeddings.cls_token", [1, c]);
        let distillation = w.value(g, "embeddings.distillation_token", [1, c]);
        let x = g.concat_tokens(picture.batch, &[cls, distillation, patches]); // (B,2+N,C)
        let table = vit::positions(&self.info).square(g, w, &picture, &self.info);
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
        match self.heads {
            Heads::None => {}
            Heads::Class(k) => {
                let logits = w.linear(g, cls, "classifier", k, true);
                g.output("logits", logits);
            }
            Heads::ClassAndDistillation(k) => {
                let distillation = g.token(x, 1);
                let a = w.linear(g, cls, "cls_classifier", k, true);
                let b = w.linear(g, distillation, "distillation_classifier", k, true);
                g.output("cls_logits", a);
                g.output("distillation_logits", b);
                let sum = g.add(a, b);
                let mean = g.scale(sum, 0.5);
                g.output("logits", mean);
            }
        }
        g.check()
    }
}
