//! ViT-MAE (He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners"): the encoder, and the decoder
//! that paints what the encoder did not see.
//!
//! At use nothing is masked: all patches are encoded in raster order, as `ViTMAEModel` with
//! `mask_ratio` 0 does, and the decoder is not run. Masked, only the kept patches are encoded; the decoder
//! puts a learned token in place of each hidden one. Both position tables are fixed sines.

use serde_json::Value as Json;

use super::vit::{self, Encoder, PATCHES};
use crate::error::Result;
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::fields::{self, Fields};
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::{MaskedAutoencoder, Model, ModelInfo, parts};
use crate::tensor::{DType, TensorDesc};

/// transformers 5 keeps the decoder's layers under another name.
const RENAMES: &[(&str, &str)] = &[("^decoder.decoder_encoder.layer.", "decoder.decoder_layers.")];

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["vit."],
    renames: &[vit::RENAMES, RENAMES],
    ignored: &["decoder."],
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[vit::RENAMES], heads: &["decoder."] }),
};

struct VitMae {
    info: ModelInfo,
    names: Names,
    encoder: Encoder,
    /// Of files with the tensors of pretraining.
    decoder: Option<Encoder>,
    mask_ratio: f32,
    normalised_pixels: bool,
}

/// Reads a `model_type: vit_mae` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let encoder = Encoder::read(&fields)?;
    let names = Names::new(index, &NAMING);
    let info = encoder.info(&fields, "vit_mae", "ViTMAEModel", 1)?;
    let decoder =
        names.has("decoder.decoder_pred.weight").then(|| read_decoder(&fields, &encoder)).transpose()?;

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    vit::positions(&info).check(&names, &info, &fields)?;
    let mask_ratio = fields.number("mask_ratio", 0.75)? as f32;
    let normalised_pixels = fields.switch("norm_pix_loss", false)?;
    let mut model = VitMae { info, names, encoder, decoder, mask_ratio, normalised_pixels };
    let (parameters, warnings) = match model.decoder {
        None => model.names.check(&model, &fields)?,
        Some(_) => {
            let ModelInfo { channels, image_size: size, .. } = model.info;
            let mut g = Graph::new();
            let image = g.input("image", TensorDesc::f32([1, channels, size.height, size.width]));
            let [rows, columns] = model.info.grid();
            let mut words = |name: &str, n: usize| g.input(name, TensorDesc::new(DType::U32, [1, n]));
            let (kept, restore) = (words("kept", 1), words("restore", rows * columns));
            let built = model.build_masked(&mut g, image, kept, restore).map(|_| ());
            model.names.check_graph(&g, built, &fields)?
        }
    };
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

fn read_decoder(fields: &Fields, encoder: &Encoder) -> Result<Encoder> {
    let decoder = Encoder {
        stem: "decoder.decoder_layers",
        layers: fields.depth("decoder_num_hidden_layers", 8)?,
        hidden: fields.width("decoder_hidden_size", 512)?,
        heads: fields.depth("decoder_num_attention_heads", 16)?,
        mlp: fields.width("decoder_intermediate_size", 2048)?,
        ..*encoder
    };
    let heads = ("decoder_num_attention_heads", decoder.heads);
    fields::check_heads(("decoder_hidden_size", decoder.hidden), heads)?;
    Ok(decoder)
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

    fn masked(&self) -> Option<&dyn MaskedAutoencoder> {
        self.decoder.as_ref().map(|_| self as &dyn MaskedAutoencoder)
    }
}

impl MaskedAutoencoder for VitMae {
    fn build_masked(&self, g: &mut Graph, image: Value, kept: Value, restore: Value) -> Result<Value> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;
        let decoder = self.decoder.as_ref().unwrap_or(&self.encoder);
        let n = picture.grid[0] * picture.grid[1];
        let rows = |g: &mut Graph, table: Value, range: std::ops::Range<usize>, width: usize| {
            let table = g.reshape(table, [1, 1 + n, width]);
            let some = g.slice_tokens(table, range.clone());
            g.reshape(some, [range.len(), width])
        };

        g.scope("embeddings");
        let patches = parts::patch_tokens(g, w, PATCHES, image, &self.info, true)?; // (B,N,C)
        let table = vit::positions(&self.info).square(g, w, &picture, &self.info);
        let (place_of_cls, places) = (rows(g, table, 0..1, c), rows(g, table, 1..1 + n, c));
        let x = g.add(patches, places);
        let x = g.take_tokens(x, kept); // (B,K,C)
        let cls = w.value(g, "embeddings.cls_token", [1, c]);
        let cls = g.add(cls, place_of_cls);
        let x = g.concat_tokens(picture.batch, &[cls, x]); // (B,1+K,C)
        let x = self.encoder.build(g, w, x);
        let x = w.layer_norm(g, x, "layernorm", self.encoder.eps);

        g.scope("decoder");
        let width = decoder.hidden;
        let x = w.linear(g, x, "decoder.decoder_embed", width, true);
        let keep = g.shape(x).dims()[1] - 1;
        let (cls, seen) = (g.slice_tokens(x, 0..1), g.slice_tokens(x, 1..1 + keep));
        let hidden = w.value(g, "decoder.mask_token", [1, width]);
        let all = g.concat_tokens(picture.batch, &[seen, hidden]); // (B,K+1,C)
        let patches = g.take_tokens(all, restore); // (B,N,C)
        let x = g.concat_tokens(picture.batch, &[cls, patches]); // (B,1+N,C)
        let table = w.value(g, "decoder.decoder_pos_embed", [1 + n, width]);
        let x = g.add(x, table);
        let x = decoder.build(g, w, x);
        let x = w.layer_norm(g, x, "decoder.decoder_norm", decoder.eps);
        let elements = self.info.patch[0] * self.info.patch[1] * self.info.channels;
        let x = w.linear(g, x, "decoder.decoder_pred", elements, true);
        let x = g.slice_tokens(x, 1..1 + n); // (B,N,P·P·Ch)
        g.check()?;
        Ok(x)
    }

    fn mask_ratio(&self) -> f32 {
        self.mask_ratio
    }

    fn normalised_pixels(&self) -> bool {
        self.normalised_pixels
    }
}
