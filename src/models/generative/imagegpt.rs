//! ImageGPT (Chen et al. 2020, "Generative Pretraining from Pixels"): a GPT-2 over the colours of a small
//! image, pixel by pixel. Its norm has neither mean nor bias (an RMS norm), its activation is quick
//! GELU, and the start token is the one id that the head cannot produce.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Value, Weight};
use crate::models::block::{Block, Order, Storage};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{CONV1D, Naming, Written};
use crate::models::sequence::{Codec, Defaults, GeneratorInfo, ImageDecoder, New, Sequence, TokenDecoder};
use crate::models::{fields, parts};
use crate::ops::{Act, EmbedSequence, NormKind};

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["transformer."],
    renames: &[],
    ignored: &["score."],
    in_out: CONV1D,
    written: Some(Written { wrapped: true, renames: &[], heads: &["lm_head", "score"] }),
};

struct ImageGpt {
    info: GeneratorInfo,
    names: Names,
    mlp: usize,
    act: Act,
    eps: f32,
    head: &'static str,
}

/// Reads a Hugging Face `config.json`; `picture` is the size that the preprocessor states.
pub(crate) fn open(
    config: &Json,
    index: &TensorIndex,
    picture: Option<[usize; 2]>,
) -> Result<Box<dyn ImageDecoder>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, &NAMING);
    let (hidden, heads) = (fields.width("n_embd", 512)?, fields.depth("n_head", 8)?);
    fields::check_heads(("n_embd", hidden), ("n_head", heads))?;
    for (key, usual) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)] {
        if fields.switch(key, usual)? != usual {
            return Err(Error::model(
                fields::FILE,
                format!("`{key}` is {}", !usual),
                "this is not supported",
            ));
        }
    }
    let tokens = fields.width("n_positions", 1024)?;
    let side = tokens.isqrt();
    let grid = picture.unwrap_or([side, side]);
    if grid[0] * grid[1] > tokens {
        let what = format!("images of {}x{} do not fit `n_positions` {tokens}", grid[0], grid[1]);
        return Err(Error::model(fields::FILE, what, "preprocessor_config.json states the size"));
    }
    let vocabulary = fields.width("vocab_size", 513)?;
    if vocabulary < 2 {
        return Err(Error::model(
            fields::FILE,
            "`vocab_size` leaves no colour",
            "the last id is the start token",
        ));
    }
    let info = GeneratorInfo {
        family: "imagegpt",
        architecture: fields.architecture("ImageGPTForCausalImageModeling"),
        grid,
        tokens: grid[0] * grid[1],
        vocabulary: vocabulary - 1,
        start: vocabulary as u32 - 1,
        image_size: grid.into(),
        hidden,
        layers: fields.depth("n_layer", 24)?,
        heads,
        codec: Codec::Palette,
        defaults: Defaults { temperature: 1.0, top_k: 40, top_p: 1.0, cfg_scale: 1.0, rising: false },
        ..GeneratorInfo::default()
    };
    let mlp = fields.optional("n_inner", 1, 1 << 20)?.unwrap_or(4 * hidden);
    let (act, eps) =
        (fields.act("activation_function", "quick_gelu")?, fields.number("layer_norm_epsilon", 1e-5)? as f32);
    // Tied if the file leaves the head away; its last row, the start token's, is never drawn.
    let head = if names.has("lm_head.weight") { "lm_head.weight" } else { "wte.weight" };
    let mut model = ImageGpt { info, names, mlp, act, eps, head };
    let (parameters, warnings) = model.names.check_decoder(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl ImageDecoder for ImageGpt {
    fn info(&self) -> &GeneratorInfo {
        &self.info
    }
}

impl TokenDecoder for ImageGpt {
    fn build(&self, g: &mut Graph, s: &Sequence, new: New) -> Result<Value> {
        let (w, c, heads) = (&self.names, self.info.hidden, self.info.heads);
        g.scope("embeddings");
        let table = w.value(g, "wte.weight", [self.info.vocabulary + 1, c]);
        let places = w.dims("wpe.weight").and_then(|d| d.first().copied()).unwrap_or(self.info.tokens);
        let positions = w.value(g, "wpe.weight", [places, c]);
        let op = EmbedSequence { rows: s.rows, count: new.count(), first: 0, positions: true };
        let mut x = g.embed_sequence(op, [table, s.tokens, s.step], Some(positions)); // (R,T,C)
        let block = self.block();
        for l in 0..self.info.layers {
            let p = format!("h.{l}");
            g.output(format!("hidden.{l}"), x);

            g.scope(format!("layer.{l}.attention"));
            x = block.residual(g, x, &format!("{p}.ln_1"), |g, h| {
                let qkv = [0, 1, 2].map(|third| {
                    let part = third * c..(third + 1) * c;
                    let projected = block.outputs(g, h, &format!("{p}.attn.c_attn"), part);
                    g.split_heads(projected, heads) // (R,H,T,D)
                });
                let a = s.attention(g, l, qkv, new, None, parts::attention_scale(c / heads));
                block.linear(g, a, &format!("{p}.attn.c_proj"), c)
            });

            g.scope(format!("layer.{l}.mlp"));
            x = block.residual(g, x, &format!("{p}.ln_2"), |g, h| {
                let [up, down] = ["c_fc", "c_proj"].map(|name| format!("{p}.mlp.{name}"));
                block.mlp(g, h, [&up, &down], self.mlp, self.act)
            });
        }
        g.check()?;
        Ok(x)
    }

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        g.scope("head");
        let x = self.block().norm(g, x, "ln_f");
        g.output(format!("hidden.{}", self.info.layers), x);
        let (rows, c) = (self.info.vocabulary, self.info.hidden);
        let head = g.weight(Weight::rows(self.names.in_file(self.head), 0..rows), [rows, c]);
        g.linear(x, head, None)
    }
}

impl ImageGpt {
    fn block(&self) -> Block<'_> {
        Block {
            names: &self.names,
            order: Order::NormFirst,
            norm: NormKind::Rms,
            eps: self.eps,
            storage: Storage::InOut,
            bias: true,
        }
    }
}
