//! timm's vision transformers (`vit_*`, `deit*`, `flexivit_*`, `eva_large_*`, `beit3_*`, `aimv2_*`,
//! RADIO): one class there, one file here. [`timm_args`](crate::models::timm::args) decides which parts a
//! model has; what is left is the plain pre-norm encoder.
//!
//! Tokens are [class, distillation, registers, patches], positions are added before or after the
//! prefix tokens join. `features` is timm's `forward_features`, `embedding` its `pre_logits`.

mod args;
mod stem;
pub(crate) mod table;

use serde_json::Value as Json;

use super::fields::Fields;
use super::names::Names;
use super::naming::Naming;
use super::parts::{self, Picture, PositionTable};
use super::{Model, ModelInfo};
use crate::error::{Error, Result};
use crate::graph::{Graph, PositionFilter, TensorIndex, Value, Weight};
use crate::models::timm::args::{Pool, Spec};
use crate::models::timm::table::Mlp;
use crate::ops::Scores;

/// Layer scale as DeiT III and BEiT once spelt it.
const RENAMES: &[(&str, &str)] = &[(".gamma_1", ".ls1.gamma"), (".gamma_2", ".ls2.gamma")];

/// Left aside: a layer that timm dropped, and the pooling of SigLIP where the mean is used instead.
const ASIDE: &[&str] = &["pre_logits.", "attn_pool."];

pub(crate) const NAMING: Naming =
    Naming { prefixes: &["timm_model."], renames: &[RENAMES], ignored: ASIDE, in_out: &[], written: None };

struct Timm {
    info: ModelInfo,
    names: Names,
    spec: Spec,
}

/// Reads a timm `config.json`, or a `timm_wrapper` one.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let top = Fields::new(config)?;
    let none = Json::Object(serde_json::Map::new());
    let args = match top.nested("model_args")? {
        Some(args) => args,
        None => Fields::new(&none)?,
    };
    let names = Names::new(index, &NAMING);
    let spec = args::resolve(&top, &args, &names)?;
    let info = ModelInfo {
        family: "timm",
        architecture: spec.architecture.clone(),
        image_size: spec.image_size.into(),
        channels: spec.channels,
        patch: spec.patch,
        hidden: spec.hidden,
        layers: spec.depth,
        heads: spec.heads,
        mlp: spec.mlp_width(),
        prefix_tokens: spec.prefix_tokens(),
        cls_token: spec.class_token,
        classes: spec.classes,
        parameters: 0,
        warnings: spec.warnings.clone(),
    };
    parts::check_sizes(&info)?;
    if spec.stem.is_none() {
        parts::check_patch_kernel(&names, "patch_embed.proj", &info, &args)?;
    }
    let mut model = Timm { info, names, spec };
    let (parameters, warnings) = model.names.check(&model, &args)?;
    if let Some(unknown) = warnings.iter().find(|w| w.contains("blocks.")) {
        return Err(Error::model(
            super::fields::FILE,
            format!("timm architecture `{}` has parts that are not supported", model.info.architecture),
            unknown.clone(),
        ));
    }
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl Model for Timm {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, image: Value) -> Result<()> {
        let (w, s) = (&self.names, &self.spec);
        let picture = parts::picture(g, image, &self.info)?;

        g.scope("embeddings");
        let x = match s.stem {
            Some(stem) => stem.tokens(g, w, image, s.hidden)?,
            None => parts::patch_tokens(g, w, "patch_embed.proj", image, &self.info, !s.pre_norm)?,
        }; // (B,N,C)
        let x = if s.embed_norm { self.norm(g, x, "patch_embed.norm") } else { x };
        let x = self.embed(g, x, &picture)?; // (B,T,C)
        let mut x = if s.pre_norm { self.norm(g, x, "norm_pre") } else { x };
        g.output("hidden.0", x);

        for l in 0..s.depth {
            let p = format!("blocks.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = self.norm(g, x, &format!("{p}.norm1"));
            let a = self.attention(g, h, &p, l);
            let a = self.scaled(g, a, &format!("{p}.ls1.gamma"));
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = self.norm(g, x, &format!("{p}.norm2"));
            let m = self.mlp(g, h, &format!("{p}.mlp"));
            let m = self.scaled(g, m, &format!("{p}.ls2.gamma"));
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }

        g.scope("head");
        let x = if s.final_norm { self.norm(g, x, "norm") } else { x };
        g.output("features", x);
        if s.distilled {
            self.two_heads(g, x);
        } else if let Some(pooled) = self.pool(g, x, &picture) {
            let pooled = if s.fc_norm { self.norm(g, pooled, "fc_norm") } else { pooled }; // (B,C)
            g.output("embedding", pooled);
            if let Some(k) = s.classes {
                let logits = w.linear(g, pooled, "head", k, true);
                g.output("logits", logits);
            }
        }
        g.check()
    }
}

impl Timm {
    /// Layer norm or RMS norm, as the whole model has it. x: (…, C).
    fn norm(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        let eps = self.spec.eps;
        if self.spec.rms_norm {
            self.names.rms_norm(g, x, name, eps)
        } else {
            self.names.layer_norm(g, x, name, eps)
        }
    }

    /// Layer scale, if the model has it. x: (B,T,C).
    fn scaled(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        if !self.spec.layer_scale {
            return x;
        }
        let factors = self.names.value(g, name, [self.spec.hidden]);
        g.mul(x, factors)
    }

    /// Prefix tokens and positions. x: (B,N,C); returns (B,T,C).
    fn embed(&self, g: &mut Graph, x: Value, picture: &Picture) -> Result<Value> {
        let (w, s) = (&self.names, &self.spec);
        let prefix_rows = if s.no_embed_class { 0 } else { s.prefix_tokens() };
        let table = self.positions(g, picture, prefix_rows)?;
        let x = match table {
            Some(table) if s.no_embed_class => g.add(x, table),
            _ => x,
        };
        let mut tokens = Vec::new();
        if s.class_token {
            tokens.push(w.value(g, "cls_token", [1, s.hidden]));
        }
        if s.distilled {
            tokens.push(w.value(g, "dist_token", [1, s.hidden]));
        }
        if s.registers > 0 {
            tokens.push(w.value(g, "reg_token", [s.registers, s.hidden]));
        }
        let x = if tokens.is_empty() {
            x
        } else {
            tokens.push(x);
            g.concat_tokens(picture.batch, &tokens)
        };
        Ok(match table {
            Some(table) if !s.no_embed_class => g.add(x, table),
            _ => x,
        })
    }

    /// The position table for an image: (prefix + N, C).
    fn positions(&self, g: &mut Graph, picture: &Picture, prefix: usize) -> Result<Option<Value>> {
        let Some(grid) = self.spec.table_grid else { return Ok(None) };
        if self.spec.filter.is_none() && grid != picture.grid {
            return Err(Error::usage(
                format!("{} cannot be used at another image size", self.info.architecture),
                format!("use {}", self.info.image_size),
            ));
        }
        let filter = self.spec.filter.unwrap_or(PositionFilter::BicubicAntialias);
        let table = PositionTable { name: "pos_embed", prefix, trained: None, filter };
        Ok(Some(table.resampled(g, &self.names, grid, picture.grid, self.spec.hidden)))
    }

    /// Self-attention; q, k and v are row ranges of one tensor. x: (B,T,C); returns (B,T,C).
    fn attention(&self, g: &mut Graph, x: Value, p: &str, layer: usize) -> Value {
        let (w, s, c) = (&self.names, &self.spec, self.spec.hidden);
        let [q, k, v] = [0, 1, 2].map(|third| {
            let projected = self.rows(g, x, &format!("{p}.attn.qkv"), third * c..(third + 1) * c, s.qkv_bias);
            g.split_heads(projected, s.heads) // (B,H,T,D)
        });
        let (q, k) = if s.qk_norm {
            (self.norm(g, q, &format!("{p}.attn.q_norm")), self.norm(g, k, &format!("{p}.attn.k_norm")))
        } else {
            (q, k)
        };
        let a = parts::self_attention(g, [q, k, v], None, layer);
        let a = if s.scale_attn_norm { self.norm(g, a, &format!("{p}.attn.norm")) } else { a };
        w.linear(g, a, &format!("{p}.attn.proj"), c, s.proj_bias)
    }

    /// Linear layer of some rows of a packed tensor. x: (…, C); returns (…, rows).
    fn rows(&self, g: &mut Graph, x: Value, name: &str, rows: std::ops::Range<usize>, bias: bool) -> Value {
        let part = |kind: &str| Weight::rows(self.names.in_file(&format!("{name}.{kind}")), rows.clone());
        let inner = g.shape(x).width();
        let weight = g.weight(part("weight"), [rows.len(), inner]);
        let bias = bias.then(|| g.weight(part("bias"), [rows.len()]));
        g.linear(x, weight, bias)
    }

    /// x: (B,T,C); returns (B,T,C).
    fn mlp(&self, g: &mut Graph, x: Value, p: &str) -> Value {
        let (w, s) = (&self.names, &self.spec);
        let h = match s.mlp {
            Mlp::Plain => {
                let h = w.linear(g, x, &format!("{p}.fc1"), s.fc1, s.proj_bias);
                g.act(h, s.act)
            }
            Mlp::PackedGlu => {
                let h = w.linear(g, x, &format!("{p}.fc1"), s.fc1, s.proj_bias);
                g.glu(h, s.act)
            }
            Mlp::SplitGlu => {
                let gate = w.linear(g, x, &format!("{p}.fc1_g"), s.fc1, s.proj_bias);
                let gate = g.act(gate, s.act);
                let value = w.linear(g, x, &format!("{p}.fc1_x"), s.fc1, s.proj_bias);
                g.mul(gate, value)
            }
        }; // (B,T,F)
        let h = if s.scale_mlp_norm { self.norm(g, h, &format!("{p}.norm")) } else { h };
        w.linear(g, h, &format!("{p}.fc2"), s.hidden, s.proj_bias)
    }

    /// One vector of all tokens. x: (B,T,C); returns (B,C).
    fn pool(&self, g: &mut Graph, x: Value, picture: &Picture) -> Option<Value> {
        let prefix = self.spec.prefix_tokens();
        let end = prefix + picture.grid[0] * picture.grid[1];
        let start = if self.spec.pool_prefix { 0 } else { prefix };
        match self.spec.pool {
            Pool::None => None,
            Pool::Token => Some(g.token(x, 0)),
            Pool::Average => Some(g.mean_tokens(x, start..end)),
            Pool::Map => {
                let x = if start == 0 { x } else { g.slice_tokens(x, start..end) };
                Some(self.attention_pool(g, x, picture.batch))
            }
        }
    }

    /// Attention of a learned query to all tokens, then x + mlp(norm(x)). x: (B,T,C); returns (B,C).
    fn attention_pool(&self, g: &mut Graph, x: Value, batch: usize) -> Value {
        let (w, s, c) = (&self.names, &self.spec, self.spec.hidden);
        g.scope("head.attention");
        let latent = w.value(g, "attn_pool.latent", [1, c]);
        let latent = g.concat_tokens(batch, &[latent]); // (B,1,C)
        let q = w.linear(g, latent, "attn_pool.q", c, true);
        let k = self.rows(g, x, "attn_pool.kv", 0..c, true);
        let v = self.rows(g, x, "attn_pool.kv", c..2 * c, true);
        let qkv = [q, k, v].map(|x| g.split_heads(x, s.heads)); // (B,H,1,D), (B,H,T,D) twice
        let a = g.attention(qkv, Scores::scaled(parts::attention_scale(c / s.heads)));
        let x = w.linear(g, a, "attn_pool.proj", c, true); // (B,1,C)

        g.scope("head.mlp");
        let h = self.norm(g, x, "attn_pool.norm");
        let width =
            w.dims("attn_pool.mlp.fc1.weight").and_then(|dims| dims.first().copied()).unwrap_or(s.fc1);
        let h = w.linear(g, h, "attn_pool.mlp.fc1", width, true);
        let h = g.act(h, s.act);
        let m = w.linear(g, h, "attn_pool.mlp.fc2", c, true);
        let x = g.add(m, x);
        g.token(x, 0)
    }

    /// The mean of the class head and the distillation head. x: (B,T,C).
    fn two_heads(&self, g: &mut Graph, x: Value) {
        let mean = |g: &mut Graph, a, b| {
            let sum = g.add(a, b);
            g.scale(sum, 0.5)
        };
        let (cls, distillation) = (g.token(x, 0), g.token(x, 1));
        let pooled = mean(g, cls, distillation);
        g.output("embedding", pooled);
        if let Some(k) = self.spec.classes {
            let a = self.names.linear(g, cls, "head", k, true);
            let b = self.names.linear(g, distillation, "head_dist", k, true);
            g.output("cls_logits", a);
            g.output("distillation_logits", b);
            let logits = mean(g, a, b);
            g.output("logits", logits);
        }
    }
}
