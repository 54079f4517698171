//! ImageGPT (Chen et al. 2020, "Generative Pretraining from Pixels"): a GPT-2 over the colours of a small
//! picture, pixel by pixel. Its norm has neither mean nor bias (an RMS norm), its activation is quick
//! GELU, and the start token is the one id that the head cannot produce.

use serde_json::Value as Json;

use super::fields::{self, Fields};
use super::names::Names;
use super::parts;
use super::sequence::{Codec, Defaults, GeneratorInfo, New, Sequence, TokenDecoder};
use crate::error::{Error, Result};
use crate::graph::{Graph, Part, TensorIndex, Transform, Value, Weight};
use crate::ops::{Act, EmbedSequence};

struct ImageGpt {
    info: GeneratorInfo,
    names: Names,
    mlp: usize,
    act: Act,
    eps: f32,
    head: &'static str,
}

/// Reads a Hugging Face `config.json`; `picture` is the size that the preprocessor states.
pub(super) fn open(
    config: &Json,
    index: &TensorIndex,
    picture: Option<[usize; 2]>,
) -> Result<Box<dyn TokenDecoder>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, &["transformer."], &[], &["score."]);
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
        let what = format!("pictures of {}x{} do not fit `n_positions` {tokens}", grid[0], grid[1]);
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
        picture: grid,
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

impl TokenDecoder for ImageGpt {
    fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, s: &Sequence, new: New) -> Result<Value> {
        let (w, c) = (&self.names, self.info.hidden);
        g.scope("embeddings");
        let table = g.weight(w.weight("wte.weight"), [self.info.vocabulary + 1, c]);
        let places = w.dims("wpe.weight").and_then(|d| d.first().copied()).unwrap_or(self.info.tokens);
        let positions = g.weight(w.weight("wpe.weight"), [places, c]);
        let op = EmbedSequence { rows: s.rows, count: new.count(), first: 0, positions: true };
        let mut x = g.embed_sequence(op, [table, s.tokens, s.step], Some(positions)); // (R,T,C)
        for l in 0..self.info.layers {
            let p = format!("h.{l}");
            g.output(format!("hidden.{l}"), x);

            g.scope(format!("layer.{l}.attention"));
            let h = self.norm(g, x, &format!("{p}.ln_1"));
            let a = self.attention(g, h, l, s, new);
            let a = self.conv1d(g, a, &format!("{p}.attn.c_proj"), 0..c);
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = self.norm(g, x, &format!("{p}.ln_2"));
            let h = self.conv1d(g, h, &format!("{p}.mlp.c_fc"), 0..self.mlp);
            let h = g.act(h, self.act); // (R,T,F)
            let m = self.conv1d(g, h, &format!("{p}.mlp.c_proj"), 0..c);
            x = g.add(m, x);
        }
        g.check()?;
        Ok(x)
    }

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        g.scope("head");
        let x = self.norm(g, x, "ln_f");
        g.output(format!("hidden.{}", self.info.layers), x);
        let rows = Weight::rows(self.names.in_file(self.head), 0..self.info.vocabulary);
        g.linear(x, rows, None, self.info.vocabulary)
    }
}

impl ImageGpt {
    fn norm(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        g.rms_norm(x, self.names.weight(&format!("{name}.weight")), self.eps)
    }

    /// Some outputs of a linear layer that is stored (in, out). x: (…,K); returns (…,outputs).
    fn conv1d(&self, g: &mut Graph, x: Value, name: &str, outputs: std::ops::Range<usize>) -> Value {
        let part = |kind: &str, transform: Transform| Weight {
            parts: vec![Part::Tensor {
                name: self.names.in_file(&format!("{name}.{kind}")),
                rows: Some(outputs.clone()),
                transform,
            }],
        };
        let (weight, bias) = (part("weight", Transform::Transpose), part("bias", Transform::None));
        g.linear(x, weight, Some(bias), outputs.len())
    }

    /// x: (R,T,C); returns (R,T,C).
    fn attention(&self, g: &mut Graph, x: Value, l: usize, s: &Sequence, new: New) -> Value {
        let (c, heads) = (self.info.hidden, self.info.heads);
        let [q, k, v] = [0, 1, 2].map(|third| {
            let projected = self.conv1d(g, x, &format!("h.{l}.attn.c_attn"), third * c..(third + 1) * c);
            g.split_heads(projected, heads) // (R,H,T,D)
        });
        let cache = s.cache(g, l, heads, c / heads);
        g.cached_attention([q, k, v], [cache, s.step], new.prompt(), None, parts::attention_scale(c / heads))
    }
}
