//! ViT-MAE (He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners"): the encoder.
//!
//! At use nothing is masked: all patches are encoded in raster order, as `ViTMAEModel` with
//! `mask_ratio` 0 does. The decoder that predicts masked pixels during pretraining is not run, so
//! there are no `logits`; its tensors are left aside.

use serde_json::Value as Json;

use super::vit::{self, Encoder, PATCHES};
use crate::error::Result;
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::{Model, ModelInfo, parts};

struct VitMae {
    info: ModelInfo,
    names: Names,
    encoder: Encoder,
}

/// Reads a `model_type: vit_mae` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let encoder = Encoder::read(&fields)?;
    let names = Names::new(index, &["vit."], vit::RENAMES, &["decoder."]);
    let info = encoder.info(&fields, "vit_mae", "ViTMAEModel", 1)?;

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    vit::positions(&info).check(&names, &info, &fields)?;
    let mut model = VitMae { info, names, encoder };
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl Model for VitMae {
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
        let table = vit::positions(&self.info).square(g, w, &picture, &self.info);
        let x = g.add(x, table);

        let x = self.encoder.build(g, w, x);

        g.scope("head");
        let x = w.layer_norm(g, x, "layernorm", self.encoder.eps);
        g.output("last_hidden_state", x);
        let cls = g.token(x, 0); // (B,C)
        g.output("embedding", cls);
        g.check()
    }
}
