//! BEiT (Bao et al. 2021) as Hugging Face stores it: a ViT whose attention adds a learned bias for
//! each relative position, in every layer or shared by all, whose keys have no bias, and whose
//! branches are scaled (`lambda_1`, `lambda_2`).
//!
//! At another image size the bias table is resampled linearly; the optional absolute position
//! table bicubically. With `use_mean_pooling` there is no final norm: the pooled output is the norm
//! of the patches' mean. The token prediction head of pretraining checkpoints is not run.

use serde_json::Value as Json;

use crate::error::Result;
use crate::graph::{Graph, PositionFilter, TensorIndex, Transform, Value, Weight};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::parts::{Picture, PositionTable};
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::Act;

/// transformers 5 spellings and the ones that files usually have.
const RENAMES: &[(&str, &str)] = &[
    ("^layers.", "encoder.layer."),
    ("^shared_position_bias.", "encoder.relative_position_bias."),
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
];

/// Heads of pretraining and segmentation, which are not run.
const OTHER_TASKS: &[&str] = &["lm_head.", "layernorm.", "decode_head.", "auxiliary_head.", "fpn"];

const PATCHES: &str = "embeddings.patch_embeddings.projection";
pub(crate) const NAMING: Naming = Naming {
    prefixes: &["beit."],
    renames: &[RENAMES],
    ignored: OTHER_TASKS,
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[RENAMES], heads: &["classifier"] }),
};

const SHARED_BIAS: &str = "encoder.relative_position_bias";

struct Beit {
    info: ModelInfo,
    names: Names,
    act: Act,
    eps: f32,
    absolute_positions: bool,
    layer_bias: bool,
    shared_bias: bool,
    layer_scale: bool,
    mean_pooling: bool,
}

/// Reads a `model_type: beit` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let (image_size, patch) = (fields.size("image_size", 224)?, fields.size("patch_size", 16)?);
    fields::check_patch(image_size, patch)?;
    let hidden = fields.width("hidden_size", 768)?;
    let heads = fields.depth("num_attention_heads", 12)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;

    let names = Names::new(index, &NAMING);
    let mut info = ModelInfo {
        family: "beit",
        architecture: fields.architecture("BeitModel"),
        image_size: image_size.into(),
        channels: fields.width("num_channels", 3)?,
        patch,
        hidden,
        layers: fields.depth("num_hidden_layers", 12)?,
        heads,
        mlp: fields.width("intermediate_size", 3072)?,
        prefix_tokens: 1,
        cls_token: true,
        classes: parts::classes(&names, "classifier", &fields)?,
        ..ModelInfo::default()
    };
    parts::check_sizes(&info)?;
    info.warnings.extend(parts::headless(&info));

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    positions().check(&names, &info, &fields)?;
    let mut model = Beit {
        act: fields.act("hidden_act", "gelu")?,
        eps: fields.number("layer_norm_eps", 1e-12)? as f32,
        absolute_positions: fields.switch("use_absolute_position_embeddings", false)?,
        layer_bias: fields.switch("use_relative_position_bias", false)?,
        shared_bias: fields.switch("use_shared_relative_position_bias", false)?,
        layer_scale: fields.number("layer_scale_init_value", 0.1)? > 0.0,
        mean_pooling: fields.switch("use_mean_pooling", true)?,
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
        name: "embeddings.position_embeddings",
        prefix: 1,
        trained: None,
        filter: PositionFilter::Bicubic,
    }
}

impl Model for Beit {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let picture = parts::picture(g, image, &self.info)?;
        let n = picture.grid[0] * picture.grid[1];

        g.scope("embeddings");
        let patches = parts::patch_tokens(g, w, PATCHES, image, &self.info, true)?; // (B,N,C)
        let cls = w.value(g, "embeddings.cls_token", [1, c]);
        let mut x = g.concat_tokens(picture.batch, &[cls, patches]); // (B,1+N,C)
        if self.absolute_positions {
            let table = positions().square(g, w, &picture, &self.info);
            x = g.add(x, table);
        }
        g.output("hidden.0", x);
        let shared = self.shared_bias.then(|| self.relative_bias(g, SHARED_BIAS, &picture));

        for l in 0..self.info.layers {
            let p = format!("encoder.layer.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = w.layer_norm(g, x, &format!("{p}.layernorm_before"), self.eps);
            let qkv = [("query", true), ("key", false), ("value", true)].map(|(name, bias)| {
                let projected = w.linear(g, h, &format!("{p}.attention.attention.{name}"), c, bias);
                g.split_heads(projected, self.info.heads) // (B,H,T,D)
            });
            let bias = self.layer_bias(g, &p, shared, &picture);
            let a = parts::self_attention(g, qkv, bias, l);
            let a = w.linear(g, a, &format!("{p}.attention.output.dense"), c, true);
            let a = self.scaled(g, a, &format!("{p}.lambda_1"));
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = w.layer_norm(g, x, &format!("{p}.layernorm_after"), self.eps);
            let h = w.linear(g, h, &format!("{p}.intermediate.dense"), self.info.mlp, true); // (B,T,F)
            let h = g.act(h, self.act);
            let m = w.linear(g, h, &format!("{p}.output.dense"), c, true);
            let m = self.scaled(g, m, &format!("{p}.lambda_2"));
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }

        g.scope("head");
        let x = if self.mean_pooling { x } else { w.layer_norm(g, x, "layernorm", self.eps) };
        g.output("last_hidden_state", x);
        let pooled = self.pool(g, x, n); // (B,C)
        g.output("embedding", pooled);
        if let Some(k) = self.info.classes {
            let logits = w.linear(g, pooled, "classifier", k, true);
            g.output("logits", logits);
        }
        g.check()
    }
}

impl Beit {
    /// The bias table `name` expanded for an image: (H,T,T).
    fn relative_bias(&self, g: &mut Graph, name: &str, picture: &Picture) -> Value {
        let table = self.names.in_file(&format!("{name}.relative_position_bias_table"));
        let transform = Transform::RelativeBias { from: self.info.grid(), to: picture.grid };
        let tokens = 1 + picture.grid[0] * picture.grid[1];
        g.weight(Weight::transformed(table, transform), [self.info.heads, tokens, tokens])
    }

    /// The bias of one layer, its own and the shared one added: (H,T,T).
    fn layer_bias(&self, g: &mut Graph, p: &str, shared: Option<Value>, picture: &Picture) -> Option<Value> {
        if !self.layer_bias {
            return shared;
        }
        // transformers 5 moved the table one level up.
        let inner = format!("{p}.attention.attention.relative_position_bias");
        let outer = format!("{p}.relative_position_bias");
        let moved = self.names.has_any(&outer);
        let own = self.relative_bias(g, if moved { &outer } else { &inner }, picture);
        Some(match shared {
            Some(shared) => g.add(own, shared),
            None => own,
        })
    }

    /// Layer scale, if the model has it. x: (B,T,C); returns (B,T,C).
    fn scaled(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        if !self.layer_scale {
            return x;
        }
        let factors = self.names.value(g, name, [self.info.hidden]);
        g.mul(x, factors)
    }

    /// Norm of the mean of the patches, or the class token; declared as `pooler_output` where the
    /// original has a pooler. x: (B,1+N,C); returns (B,C).
    fn pool(&self, g: &mut Graph, x: Value, n: usize) -> Value {
        if !self.mean_pooling {
            let cls = g.token(x, 0);
            g.output("pooler_output", cls);
            return cls;
        }
        let mean = g.mean_tokens(x, 1..1 + n);
        if !self.names.has("pooler.layernorm.weight") && self.info.classes.is_none() {
            return mean;
        }
        let pooled = self.names.layer_norm(g, mean, "pooler.layernorm", self.eps);
        g.output("pooler_output", pooled);
        pooled
    }
}
