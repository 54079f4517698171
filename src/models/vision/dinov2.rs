//! DINOv2 (Oquab et al. 2023), with registers (Darcet et al. 2023) or without, as Hugging Face
//! stores it: pre-norm blocks with layer scale, an MLP or (giant) SwiGLU.
//!
//! The position table is resampled whenever the grid differs from the trained one, which is the
//! usual case (trained at 518, used at 224): bicubic, and with registers antialiased. Registers
//! stand between the class token and the patches, and have no positions. The classifier reads the
//! class token beside the mean of the patches.

use serde_json::Value as Json;

use crate::error::Result;
use crate::graph::{Graph, PositionFilter, TensorIndex, Value, Weight};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::parts::PositionTable;
use crate::models::{Model, ModelInfo, fields, parts};
use crate::ops::Act;

/// transformers 5 spellings and the ones that files usually have.
const LAYERS: &[(&str, &str)] = &[("^layers.", "encoder.layer.")];

const RENAMES: &[(&str, &str)] = &[
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.down_proj", "mlp.weights_out"),
];

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["dinov2_with_registers.", "dinov2."],
    renames: &[LAYERS, RENAMES],
    ignored: &[],
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[RENAMES], heads: &["classifier"] }),
};

const PATCHES: &str = "embeddings.patch_embeddings.projection";

struct Dinov2 {
    info: ModelInfo,
    names: Names,
    act: Act,
    eps: f32,
    qkv_bias: bool,
    swiglu: bool,
    /// Number of register tokens, 0 in the plain model.
    registers: usize,
    /// The model with registers resamples positions with antialiasing, the plain one without.
    filter: PositionFilter,
}

/// Reads a `model_type: dinov2` or `dinov2_with_registers` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let fields = Fields::new(config)?;
    let with_registers = fields.text("model_type")? == Some("dinov2_with_registers");
    let (class, patch, registers, filter) = if with_registers {
        let registers = fields.count("num_register_tokens", 4)?;
        ("Dinov2WithRegistersModel", 16, registers, PositionFilter::BicubicAntialias)
    } else {
        ("Dinov2Model", 14, 0, PositionFilter::Bicubic)
    };
    let (image_size, patch) = (fields.size("image_size", 224)?, fields.size("patch_size", patch)?);
    fields::check_patch(image_size, patch)?;
    let hidden = fields.width("hidden_size", 768)?;
    let heads = fields.depth("num_attention_heads", 12)?;
    fields::check_heads(("hidden_size", hidden), ("num_attention_heads", heads))?;
    let swiglu = fields.switch("use_swiglu_ffn", false)?;
    let wide = fields.scaled(hidden, "mlp_ratio", 4.0)?;
    // SwiGLU keeps two thirds of the width, rounded up to a multiple of 8.
    let mlp = if swiglu { ((wide as f64 * 2.0 / 3.0) as usize).div_ceil(8) * 8 } else { wide };

    let names = Names::new(index, &NAMING);
    let mut info = ModelInfo {
        family: "dinov2",
        architecture: fields.architecture(class),
        image_size: image_size.into(),
        channels: fields.width("num_channels", 3)?,
        patch,
        hidden,
        layers: fields.depth("num_hidden_layers", 12)?,
        heads,
        mlp,
        prefix_tokens: 1 + registers,
        cls_token: true,
        classes: parts::classes(&names, "classifier", &fields)?,
        ..ModelInfo::default()
    };
    parts::check_sizes(&info)?;
    info.warnings.extend(parts::headless(&info));

    parts::check_patch_kernel(&names, PATCHES, &info, &fields)?;
    let mut model = Dinov2 {
        info,
        names,
        act: fields.act("hidden_act", "gelu")?,
        eps: fields.number("layer_norm_eps", 1e-6)? as f32,
        qkv_bias: fields.switch("qkv_bias", true)?,
        swiglu,
        registers,
        filter,
    };
    model.positions().check(&model.names, &model.info, &fields)?;
    let (parameters, warnings) = model.names.check(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl Model for Dinov2 {
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
        let x = g.concat_tokens(picture.batch, &[cls, patches]); // (B,1+N,C)
        let table = self.positions().square(g, w, &picture, &self.info);
        let mut x = g.add(x, table);
        if self.registers > 0 {
            let cls = g.slice_tokens(x, 0..1);
            let registers = w.value(g, "embeddings.register_tokens", [self.registers, c]);
            let patches = g.slice_tokens(x, 1..1 + n);
            x = g.concat_tokens(picture.batch, &[cls, registers, patches]); // (B,1+R+N,C)
        }
        g.output("hidden.0", x);

        for l in 0..self.info.layers {
            let p = format!("encoder.layer.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = w.layer_norm(g, x, &format!("{p}.norm1"), self.eps);
            let qkv = ["query", "key", "value"].map(|name| {
                let projected = w.linear(g, h, &format!("{p}.attention.attention.{name}"), c, self.qkv_bias);
                g.split_heads(projected, self.info.heads) // (B,H,T,D)
            });
            let a = parts::self_attention(g, qkv, None, l);
            let a = w.linear(g, a, &format!("{p}.attention.output.dense"), c, true);
            let scale = w.value(g, &format!("{p}.layer_scale1.lambda1"), [c]);
            let a = g.mul(a, scale);
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = w.layer_norm(g, x, &format!("{p}.norm2"), self.eps);
            let m = if self.swiglu { self.swiglu(g, h, &p) } else { self.mlp(g, h, &p) };
            let scale = w.value(g, &format!("{p}.layer_scale2.lambda1"), [c]);
            let m = g.mul(m, scale);
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }

        g.scope("head");
        let x = w.layer_norm(g, x, "layernorm", self.eps);
        g.output("last_hidden_state", x);
        let cls = g.token(x, 0); // (B,C)
        g.output("pooler_output", cls);
        g.output("embedding", cls);
        if let Some(k) = self.info.classes {
            let mean = g.mean_tokens(x, self.info.prefix_tokens..self.info.prefix_tokens + n);
            let both = g.concat_width(&[cls, mean]); // (B,2C)
            let logits = w.linear(g, both, "classifier", k, true);
            g.output("logits", logits);
        }
        g.check()
    }
}

impl Dinov2 {
    fn positions(&self) -> PositionTable<'static> {
        PositionTable {
            name: "embeddings.position_embeddings",
            prefix: 1,
            trained: None,
            filter: self.filter,
        }
    }

    /// x: (B,T,C); returns (B,T,C).
    fn mlp(&self, g: &mut Graph, x: Value, p: &str) -> Value {
        let h = self.names.linear(g, x, &format!("{p}.mlp.fc1"), self.info.mlp, true); // (B,T,F)
        let h = g.act(h, self.act);
        self.names.linear(g, h, &format!("{p}.mlp.fc2"), self.info.hidden, true)
    }

    /// silu(gate) · up, where gate and up are the halves of one tensor, or (transformers 5
    /// spelling) two tensors. x: (B,T,C); returns (B,T,C).
    fn swiglu(&self, g: &mut Graph, x: Value, p: &str) -> Value {
        let w = &self.names;
        let packed = |kind: &str| {
            if w.has(&format!("{p}.mlp.gate_proj.{kind}")) {
                let halves = ["gate_proj", "up_proj"];
                Weight::joined(halves.map(|half| w.weight(&format!("{p}.mlp.{half}.{kind}"))))
            } else {
                w.weight(&format!("{p}.mlp.weights_in.{kind}"))
            }
        };
        let (c, both) = (self.info.hidden, 2 * self.info.mlp);
        let (weight, bias) = (g.weight(packed("weight"), [both, c]), g.weight(packed("bias"), [both]));
        let h = g.linear(x, weight, Some(bias)); // (B,T,2F)
        let h = g.glu(h, Act::Silu);
        w.linear(g, h, &format!("{p}.mlp.weights_out"), c, true)
    }
}
