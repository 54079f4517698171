//! GPT-2 (Radford et al. 2019): pre-norm blocks over learned positions, each token seeing those before it.
//! The head is the word table unless the file has another. Sequence classification reads the last token.
//! Not built: cross attention.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::block::{Block, Order, Storage};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{CONV1D, Naming, Written};
use crate::models::sequence::{New, Sequence, TokenDecoder};
use crate::models::text::{Kind, Task, Text, TextInfo, TextModel};
use crate::models::{fields, parts};
use crate::ops::{Act, EmbedSequence, NormKind, Scores};

const WORDS: &str = "wte.weight";

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["transformer."],
    renames: &[],
    ignored: &[],
    in_out: CONV1D,
    written: Some(Written { wrapped: true, renames: &[], heads: &["lm_head", "score"] }),
};

struct Gpt2 {
    info: TextInfo,
    names: Names,
    act: Act,
    eps: f32,
    /// Scores are divided by sqrt(D).
    scaled: bool,
    /// Scores of layer l are divided by l + 1 besides.
    by_layer: bool,
    head: &'static str,
    positions: usize,
}

pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, &NAMING);
    if fields.switch("add_cross_attention", false)? {
        return Err(Error::model(fields::FILE, "`add_cross_attention` is true", "this is not supported"));
    }
    let (hidden, heads) = (fields.width("n_embd", 768)?, fields.depth("n_head", 12)?);
    fields::check_heads(("n_embd", hidden), ("n_head", heads))?;
    let positions = fields.width("n_positions", 1024)?;
    let classes = parts::classes(&names, "score", &fields)?;
    let id = |key: &str| fields.optional(key, 0, 1 << 24).map(|id| id.map(|id| id as u32));
    let info = TextInfo {
        family: "gpt2",
        architecture: fields.architecture("GPT2LMHeadModel"),
        kind: Kind::Decoder,
        tasks: vec![if classes.is_some() { Task::Classify } else { Task::Generate }],
        vocabulary: fields.width("vocab_size", 50257)?,
        positions: Some(positions),
        hidden,
        layers: fields.depth("n_layer", 12)?,
        heads,
        mlp: fields.optional("n_inner", 1, 1 << 20)?.unwrap_or(4 * hidden),
        classes,
        pad: id("pad_token_id")?,
        ends: fields.ids("eos_token_id", &[50256])?,
        ..TextInfo::default()
    };
    // A head that the file brings counts, whatever the configuration says of tying.
    let head = if names.has("lm_head.weight") { "lm_head.weight" } else { WORDS };
    let mut model = Gpt2 {
        info,
        names,
        act: fields.act("activation_function", "gelu_new")?,
        eps: fields.number("layer_norm_epsilon", 1e-5)? as f32,
        scaled: fields.switch("scale_attn_weights", true)?,
        by_layer: fields.switch("scale_attn_by_inverse_layer_idx", false)?,
        head,
        positions,
    };
    let (parameters, warnings) = model.names.check_text(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl TextModel for Gpt2 {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, text: &Text) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        g.scope("embeddings");
        let words = w.value(g, WORDS, [self.info.vocabulary, c]);
        let x = g.gather(words, text.ids); // (B,T,C)
        let places = w.value(g, "wpe.weight", [self.positions, c]);
        let positions = g.gather(places, text.positions);
        let x = g.add(x, positions);
        let x = self.layers(g, x, |g, l, [q, k, v]| {
            let scores =
                Scores { causal: true, lengths: Some(text.lengths), ..Scores::scaled(self.scale(l)) };
            let weights = g.attention_weights([q, k], scores);
            g.output(format!("attention.{l}"), weights);
            g.attention([q, k, v], scores)
        });

        g.scope("head");
        let x = self.block().norm(g, x, "ln_f");
        g.output(format!("hidden.{}", self.info.layers), x);
        g.output("last_hidden_state", x);
        let mean = g.mean_of(x, text.lengths);
        g.output("mean", mean);
        let at = g.take_tokens(x, text.places); // (B,M,C)
        match self.info.classes {
            Some(k) => {
                let last = g.token(at, 0);
                let logits = w.linear(g, last, "score", k, false);
                g.output("logits", logits);
            }
            None => {
                let logits = self.scores(g, at);
                g.output("logits", logits);
                let head = |g: &mut Graph, x: Value| self.scores(g, x);
                let logs = parts::log_probabilities(g, x, text.targets, self.info.vocabulary, head);
                g.output("log_probability", logs);
            }
        }
        g.check()
    }

    fn decoder(&self) -> Option<&dyn TokenDecoder> {
        self.info.can(Task::Generate).then_some(self)
    }
}

impl TokenDecoder for Gpt2 {
    fn build(&self, g: &mut Graph, s: &Sequence, new: New) -> Result<Value> {
        let (w, c) = (&self.names, self.info.hidden);
        g.scope("embeddings");
        let table = w.value(g, WORDS, [self.info.vocabulary, c]);
        let positions = w.value(g, "wpe.weight", [self.positions, c]);
        let op = EmbedSequence { rows: s.rows, count: new.count(), first: 0, positions: true };
        let x = g.embed_sequence(op, [table, s.tokens, s.step], Some(positions)); // (R,T,C)
        let x = self.layers(g, x, |g, l, qkv| s.attention(g, l, qkv, new, None, self.scale(l)));
        g.check()?;
        Ok(x)
    }

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        g.scope("head");
        let x = self.block().norm(g, x, "ln_f");
        self.scores(g, x)
    }
}

impl Gpt2 {
    fn block(&self) -> Block<'_> {
        Block {
            names: &self.names,
            order: Order::NormFirst,
            norm: NormKind::Layer,
            eps: self.eps,
            storage: Storage::InOut,
            bias: true,
        }
    }

    fn scale(&self, layer: usize) -> f32 {
        let scale =
            if self.scaled { parts::attention_scale(self.info.hidden / self.info.heads) } else { 1.0 };
        if self.by_layer { scale / (layer + 1) as f32 } else { scale }
    }

    /// All layers, up to the last norm. `attend` makes (B,T,C) of a layer's q, k and v (B,H,T,D).
    fn layers(
        &self,
        g: &mut Graph,
        mut x: Value,
        attend: impl Fn(&mut Graph, usize, [Value; 3]) -> Value,
    ) -> Value {
        let (block, c) = (self.block(), self.info.hidden);
        for l in 0..self.info.layers {
            let p = format!("h.{l}");
            g.output(format!("hidden.{l}"), x);

            g.scope(format!("layer.{l}.attention"));
            x = block.residual(g, x, &format!("{p}.ln_1"), |g, h| {
                let qkv = [0, 1, 2].map(|third| {
                    let part = third * c..(third + 1) * c;
                    let projected = block.outputs(g, h, &format!("{p}.attn.c_attn"), part);
                    g.split_heads(projected, self.info.heads) // (B,H,T,D)
                });
                let a = attend(g, l, qkv);
                block.linear(g, a, &format!("{p}.attn.c_proj"), c)
            });

            g.scope(format!("layer.{l}.mlp"));
            x = block.residual(g, x, &format!("{p}.ln_2"), |g, h| {
                let [up, down] = ["c_fc", "c_proj"].map(|name| format!("{p}.mlp.{name}"));
                block.mlp(g, h, [&up, &down], self.info.mlp, self.act)
            });
        }
        x
    }

    /// Scores of the vocabulary. x: (…,C), normalised; returns (…,V).
    fn scores(&self, g: &mut Graph, x: Value) -> Value {
        let head = self.names.value(g, self.head, [self.info.vocabulary, self.info.hidden]);
        g.linear(x, head, None)
    }
}
