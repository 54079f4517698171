//! DINOv3 (Siméoni et al. 2025) as Hugging Face stores it: pre-norm blocks with layer scale, an MLP or a gated
//! one, and no position table. Instead q and k of the patches are turned by their row and column, wherever the
//! grid ends: centres of patches go from -1 to 1 at any image size. Class token and registers, which stand
//! before the patches, are not turned. Which projections have a bias, the configuration says; keys have none.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Base, Graph, Places, RotaryTable, TensorIndex, Value, Weight};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::Act;

/// In transformers 5 blocks stand in an encoder `model`; files have them without.
const LAYERS: &[(&str, &str)] = &[("^model.layer.", "layer.")];

pub(crate) const NAMING: Naming =
    Naming { written: Some(Written { wrapped: false, renames: &[LAYERS], heads: &[] }), ..Naming::PLAIN };

const PATCHES: &str = "embeddings.patch_embeddings";

/// Which linear layers have a bias.
struct Biases {
    query: bool,
    key: bool,
    value: bool,
    output: bool,
    mlp: bool,
}

struct Dinov3 {
    info: ModelInfo,
    names: Names,
    act: Act,
    eps: f32,
    biases: Biases,
    gated: bool,
    registers: usize,
    /// Of the rotary frequencies.
    base: Base,
}

/// Reads a `model_type: dinov3_vit` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let (image_size, patch) = (fields.size("image_size", 224)?, fields.size("patch_size", 16)?);
    fields::check_patch(image_size, patch)?;
    let hidden = fields.width("hidden_size", 384)?;
    let heads = fields.depth("num_attention_heads", 6)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;
    if !(hidden / heads).is_multiple_of(4) {
        let what = format!("head width {} is no multiple of 4, as two rotary axes need", hidden / heads);
        let help = "`hidden_size` divided by `num_attention_heads` is the head width";
        return Err(Error::model(fields::FILE, what, help));
    }
    let registers = fields.count("num_register_tokens", 0)?;
    let mut info = ModelInfo {
        family: "dinov3_vit",
        architecture: fields.architecture("DINOv3ViTModel"),
        image_size: image_size.into(),
        channels: fields.width("num_channels", 3)?,
        patch,
        hidden,
        layers: fields.depth("num_hidden_layers", 12)?,
        heads,
        mlp: fields.width("intermediate_size", 1536)?,
        prefix_tokens: 1 + registers,
        cls_token: true,
        ..ModelInfo::default()
    };
    parts::check_sizes(&info)?;
    info.warnings.extend(parts::headless(&info));

    let names = Names::new(index, &NAMING);
    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    let biases = Biases {
        query: fields.switch("query_bias", true)?,
        key: fields.switch("key_bias", false)?,
        value: fields.switch("value_bias", true)?,
        output: fields.switch("proj_bias", true)?,
        mlp: fields.switch("mlp_bias", true)?,
    };
    let mut model = Dinov3 {
        info,
        names,
        act: fields.act("hidden_act", "gelu")?,
        eps: fields.number("layer_norm_eps", 1e-5)? as f32,
        biases,
        gated: fields.switch("use_gated_mlp", false)?,
        registers,
        base: fields.number("rope_theta", 100.0)?.into(),
    };
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl Model for Dinov3 {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;

        g.scope("embeddings");
        let patches = parts::patch_tokens(g, w, PATCHES, image, &self.info, true)?; // (B,N,C)
        let cls = w.value(g, "embeddings.cls_token", [1, c]);
        let registers =
            (self.registers > 0).then(|| w.value(g, "embeddings.register_tokens", [self.registers, c]));
        let tokens: Vec<Value> = [Some(cls), registers, Some(patches)].into_iter().flatten().collect();
        let mut x = g.concat_tokens(picture.batch, &tokens); // (B,1+R+N,C)
        g.output("hidden.0", x);
        let turns = self.turns(g, picture.grid); // (1+R+N,D)

        for l in 0..self.info.layers {
            let p = format!("layer.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = w.layer_norm(g, x, &format!("{p}.norm1"), self.eps);
            let Biases { query, key, value, .. } = self.biases;
            let [q, k, v] = [("q_proj", query), ("k_proj", key), ("v_proj", value)].map(|(name, bias)| {
                let projected = w.linear(g, h, &format!("{p}.attention.{name}"), c, bias);
                g.split_heads(projected, self.info.heads) // (B,H,T,D)
            });
            let [q, k] = [q, k].map(|x| g.rotary_halves(x, turns));
            let a = parts::self_attention(g, [q, k, v], None, l);
            let a = w.linear(g, a, &format!("{p}.attention.o_proj"), c, self.biases.output);
            let scale = w.value(g, &format!("{p}.layer_scale1.lambda1"), [c]);
            let a = g.mul(a, scale);
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = w.layer_norm(g, x, &format!("{p}.norm2"), self.eps);
            let m = self.mlp(g, h, &p);
            let scale = w.value(g, &format!("{p}.layer_scale2.lambda1"), [c]);
            let m = g.mul(m, scale);
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }

        g.scope("head");
        let x = w.layer_norm(g, x, "norm", self.eps);
        g.output("last_hidden_state", x);
        let cls = g.token(x, 0); // (B,C)
        g.output("pooler_output", cls);
        g.output("embedding", cls);
        g.check()
    }
}

impl Dinov3 {
    /// The rotary table of a grid: (1+R+N,D).
    fn turns(&self, g: &mut Graph, grid: [usize; 2]) -> Value {
        let width = self.info.hidden / self.info.heads;
        let places = Places::Grid { prefix: self.info.prefix_tokens, grid };
        let table = RotaryTable { places, width, base: self.base };
        let rows = table.rows();
        g.weight(Weight::rotary(table), [rows, width])
    }

    /// act(up) or act(gate) · up, then down. x: (B,T,C); returns (B,T,C).
    fn mlp(&self, g: &mut Graph, x: Value, p: &str) -> Value {
        let (w, c, f, bias) = (&self.names, self.info.hidden, self.info.mlp, self.biases.mlp);
        let h = if self.gated {
            let both = |kind: &str| {
                let halves = ["gate_proj", "up_proj"];
                Weight::joined(halves.map(|half| w.weight(&format!("{p}.mlp.{half}.{kind}"))))
            };
            let weight = g.weight(both("weight"), [2 * f, c]);
            let bias = bias.then(|| g.weight(both("bias"), [2 * f]));
            let h = g.linear(x, weight, bias); // (B,T,2F)
            g.glu(h, self.act)
        } else {
            let h = w.linear(g, x, &format!("{p}.mlp.up_proj"), f, bias); // (B,T,F)
            g.act(h, self.act)
        };
        w.linear(g, h, &format!("{p}.mlp.down_proj"), c, bias)
    }
}
