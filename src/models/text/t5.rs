//! T5 (Raffel et al. 2020), v1.0, v1.1 and flan: an encoder and a decoder that reads what it made, with
//! RMS norms, no biases in linear layers, no factor on scores, and positions only as a bias by bucketed
//! distance, of which the first layer's table serves all layers of its stack.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Transform, Value, Weight};
use crate::models::block::{Block, Order, Storage};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::sequence::{New, Sequence, TokenDecoder};
use crate::models::text::{Kind, Task, Text, TextInfo, TextModel};
use crate::models::{fields, parts};
use crate::ops::{Act, EmbedSequence, NormKind, Scores};

const WORDS: &str = "shared.weight";

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["transformer."],
    // Either stack may hold its own copy of the shared table.
    renames: &[&[("^encoder.embed_tokens.", "shared."), ("^decoder.embed_tokens.", "shared.")]],
    // Early files bring a table that their own code leaves aside.
    ignored: &["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias"],
    in_out: &[],
    written: Some(Written { wrapped: false, renames: &[], heads: &["lm_head"] }),
};

struct T5 {
    info: TextInfo,
    names: Names,
    /// Head width D; H·D need not be C.
    head_width: usize,
    act: Act,
    gated: bool,
    eps: f32,
    buckets: usize,
    max_distance: usize,
    /// Factor on what the head reads.
    scale: f32,
    head: &'static str,
}

pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, &NAMING);
    let layers = fields.depth("num_layers", 6)?;
    let hidden = fields.width("d_model", 512)?;
    let (act, gated) = feed_forward(&fields)?;
    let info = TextInfo {
        family: "t5",
        architecture: fields.architecture("T5ForConditionalGeneration"),
        kind: Kind::EncoderDecoder,
        tasks: vec![Task::Generate],
        vocabulary: fields.width("vocab_size", 32128)?,
        positions: None,
        hidden,
        layers,
        decoder_layers: fields.depth("num_decoder_layers", layers)?,
        heads: fields.depth("num_heads", 8)?,
        mlp: fields.width("d_ff", 2048)?,
        pad: Some(fields.count("pad_token_id", 0)? as u32),
        start: Some(fields.count("decoder_start_token_id", 0)? as u32),
        ends: fields.ids("eos_token_id", &[1])?,
        ..TextInfo::default()
    };
    if info.architecture.contains("EncoderModel") || !names.has_any("decoder.") {
        let what = format!("{} has no decoder", info.architecture);
        return Err(Error::model(fields::FILE, what, "only T5ForConditionalGeneration is supported"));
    }
    // v1.0 scales what its tied head reads. New configurations say so, old ones by saying that it is tied.
    let scaled = match fields.optional_switch("scale_decoder_outputs")? {
        Some(scaled) => scaled,
        None => fields.switch("tie_word_embeddings", true)?,
    };
    let buckets = fields.width("relative_attention_num_buckets", 32)?;
    let max_distance = fields.width("relative_attention_max_distance", 128)?;
    if buckets < 4 || !buckets.is_multiple_of(2) || max_distance <= buckets / 2 {
        let what = format!(
            "{buckets} relative_attention_num_buckets up to a distance of {max_distance} make no sense"
        );
        return Err(Error::model(fields::FILE, what, "usual are 32 and 128"));
    }
    let mut model = T5 {
        head_width: fields.width("d_kv", 64)?,
        act,
        gated,
        eps: fields.number("layer_norm_epsilon", 1e-6)? as f32,
        buckets,
        max_distance,
        scale: if scaled { (1.0 / (hidden as f64).sqrt()) as f32 } else { 1.0 },
        head: if names.has("lm_head.weight") { "lm_head.weight" } else { WORDS },
        info,
        names,
    };
    let (parameters, warnings) = model.names.check_text(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

/// `feed_forward_proj`: an activation, or `gated-` and one. Its `gated-gelu` means the tanh form.
fn feed_forward(fields: &Fields) -> Result<(Act, bool)> {
    let name = fields.text("feed_forward_proj")?.unwrap_or("relu");
    match name {
        "gated-gelu" => Ok((Act::GeluTanh, true)),
        _ => {
            let (name, gated) = name.strip_prefix("gated-").map_or((name, false), |act| (act, true));
            fields::act_named("feed_forward_proj", name).map(|act| (act, gated))
        }
    }
}

/// Attention whose weights are an output. q: (B,H,T,D), k and v: (B,H,S,D); returns (B,T,H·D).
fn attend(g: &mut Graph, [q, k, v]: [Value; 3], scores: Scores, output: String) -> Value {
    let weights = g.attention_weights([q, k], scores);
    g.output(output, weights);
    g.attention([q, k, v], scores)
}

/// What a stack's self-attention looks at.
#[derive(Clone, Copy, PartialEq)]
enum Stack {
    Encoder,
    Decoder,
}

impl Stack {
    fn name(self) -> &'static str {
        if self == Stack::Encoder { "encoder" } else { "decoder" }
    }
}

impl TextModel for T5 {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, text: &Text) -> Result<()> {
        let c = self.info.hidden;
        let encoded = self.encode(g, text.ids, text.lengths);
        g.output("encoder_last_hidden_state", encoded);
        g.output("last_hidden_state", encoded);
        let mean = g.mean_of(encoded, text.lengths);
        g.output("mean", mean);
        let Some(written) = text.written else { return g.check() };

        g.scope("decoder.embeddings");
        let words = self.names.value(g, WORDS, [self.info.vocabulary, c]);
        let x = g.gather(words, written); // (B,U,C)
        let tokens = g.shape(x).dims()[1];
        let bias = self.bias(g, Stack::Decoder, tokens - 1, 2 * tokens - 1);
        let own = |g: &mut Graph, l: usize, qkv| {
            let scores = Scores { bias: Some(bias), causal: true, ..Scores::scaled(1.0) };
            attend(g, qkv, scores, format!("decoder_attention.{l}"))
        };
        let cross = |g: &mut Graph, l: usize, q| {
            let [k, v] = self.source_heads(g, encoded, l);
            let scores = Scores { lengths: Some(text.lengths), ..Scores::scaled(1.0) };
            attend(g, [q, k, v], scores, format!("cross_attention.{l}"))
        };
        let x = self.decode(g, x, own, cross);

        g.scope("head");
        let x = self.block().norm(g, x, "decoder.final_layer_norm");
        g.output(format!("decoder_hidden.{}", self.info.decoder_layers), x);
        let at = g.take_tokens(x, text.places); // (B,M,C)
        let logits = self.scores(g, at);
        g.output("logits", logits);
        let head = |g: &mut Graph, x: Value| self.scores(g, x);
        let logs = parts::log_probabilities(g, x, text.targets, self.info.vocabulary, head);
        g.output("log_probability", logs);
        g.check()
    }

    fn decoder(&self) -> Option<&dyn TokenDecoder> {
        Some(self)
    }
}

impl TokenDecoder for T5 {
    /// With the prompt the encoder runs, and what the decoder will ever ask of it is kept.
    fn build(&self, g: &mut Graph, s: &Sequence, new: New) -> Result<Value> {
        let encoded = new.prompt().then(|| {
            let [ids, lengths] = s.source(g);
            self.encode(g, ids, lengths)
        });

        g.scope("decoder.embeddings");
        let table = self.names.value(g, WORDS, [self.info.vocabulary, self.info.hidden]);
        let op = EmbedSequence { rows: s.rows, count: new.count(), first: 0, positions: false };
        let x = g.embed_sequence(op, [table, s.tokens, s.step], None); // (R,T,C)
        let bias = self.bias(g, Stack::Decoder, s.positions - 1, s.positions);
        let own = |g: &mut Graph, l: usize, qkv| s.attention(g, l, qkv, new, Some(bias), 1.0);
        let cross = |g: &mut Graph, l: usize, q| {
            let kv = encoded.map(|encoded| self.source_heads(g, encoded, l));
            s.source_attention(g, l, q, kv, 1.0)
        };
        let x = self.decode(g, x, own, cross);
        g.check()?;
        Ok(x)
    }

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        g.scope("head");
        let x = self.block().norm(g, x, "decoder.final_layer_norm");
        self.scores(g, x)
    }
}

impl T5 {
    fn block(&self) -> Block<'_> {
        Block {
            names: &self.names,
            order: Order::NormFirst,
            norm: NormKind::Rms,
            eps: self.eps,
            storage: Storage::OutIn,
            bias: false,
        }
    }

    /// Biases (H,columns) of a stack by distance: of a key in the query's own place in column `zero`.
    fn bias(&self, g: &mut Graph, stack: Stack, zero: usize, columns: usize) -> Value {
        let name = format!("{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack.name());
        let transform = Transform::DistanceBias {
            buckets: self.buckets,
            max_distance: self.max_distance,
            both_ways: stack == Stack::Encoder,
            zero,
            columns,
        };
        g.weight(Weight::transformed(self.names.in_file(&name), transform), [self.info.heads, columns])
    }

    /// One projection to heads. x: (B,T,C); returns (B,H,T,D).
    fn heads(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        let projected = self.block().linear(g, x, name, self.info.heads * self.head_width);
        g.split_heads(projected, self.info.heads)
    }

    /// ids: (B,T), lengths: (B); returns (B,T,C), after the last norm.
    fn encode(&self, g: &mut Graph, ids: Value, lengths: Value) -> Value {
        let (block, c) = (self.block(), self.info.hidden);
        g.scope("embeddings");
        let words = self.names.value(g, WORDS, [self.info.vocabulary, c]);
        let mut x = g.gather(words, ids); // (B,T,C)
        let tokens = g.shape(x).dims()[1];
        let bias = self.bias(g, Stack::Encoder, tokens - 1, 2 * tokens - 1);
        for l in 0..self.info.layers {
            let p = format!("encoder.block.{l}");
            g.output(format!("encoder_hidden.{l}"), x);

            g.scope(format!("layer.{l}.attention"));
            x = block.residual(g, x, &format!("{p}.layer.0.layer_norm"), |g, h| {
                let [q, k, v] =
                    ["q", "k", "v"].map(|n| self.heads(g, h, &format!("{p}.layer.0.SelfAttention.{n}")));
                let scores = Scores { bias: Some(bias), lengths: Some(lengths), ..Scores::scaled(1.0) };
                let a = attend(g, [q, k, v], scores, format!("attention.{l}"));
                block.linear(g, a, &format!("{p}.layer.0.SelfAttention.o"), c)
            });

            g.scope(format!("layer.{l}.mlp"));
            x = self.feed_forward(g, x, &format!("{p}.layer.1"));
        }
        let x = block.norm(g, x, "encoder.final_layer_norm");
        g.output(format!("encoder_hidden.{}", self.info.layers), x);
        x
    }

    /// All layers of the decoder, up to its last norm. `own` makes (B,T,H·D) of a layer's q, k and v,
    /// `cross` of its q for the encoder's text.
    fn decode(
        &self,
        g: &mut Graph,
        mut x: Value,
        own: impl Fn(&mut Graph, usize, [Value; 3]) -> Value,
        cross: impl Fn(&mut Graph, usize, Value) -> Value,
    ) -> Value {
        let (block, c) = (self.block(), self.info.hidden);
        for l in 0..self.info.decoder_layers {
            let p = format!("decoder.block.{l}");
            g.output(format!("decoder_hidden.{l}"), x);

            g.scope(format!("decoder.{l}.attention"));
            x = block.residual(g, x, &format!("{p}.layer.0.layer_norm"), |g, h| {
                let qkv =
                    ["q", "k", "v"].map(|n| self.heads(g, h, &format!("{p}.layer.0.SelfAttention.{n}")));
                let a = own(g, l, qkv);
                block.linear(g, a, &format!("{p}.layer.0.SelfAttention.o"), c)
            });

            g.scope(format!("decoder.{l}.cross_attention"));
            x = block.residual(g, x, &format!("{p}.layer.1.layer_norm"), |g, h| {
                let q = self.heads(g, h, &format!("{p}.layer.1.EncDecAttention.q"));
                let a = cross(g, l, q);
                block.linear(g, a, &format!("{p}.layer.1.EncDecAttention.o"), c)
            });

            g.scope(format!("decoder.{l}.mlp"));
            x = self.feed_forward(g, x, &format!("{p}.layer.2"));
        }
        x
    }

    /// What a layer of the decoder attends to of the encoder's text: k and v (B,H,S,D).
    fn source_heads(&self, g: &mut Graph, encoded: Value, l: usize) -> [Value; 2] {
        ["k", "v"].map(|n| self.heads(g, encoded, &format!("decoder.block.{l}.layer.1.EncDecAttention.{n}")))
    }

    fn feed_forward(&self, g: &mut Graph, x: Value, p: &str) -> Value {
        let block = self.block();
        block.residual(g, x, &format!("{p}.layer_norm"), |g, h| {
            let [gate, up, plain, down] =
                ["wi_0", "wi_1", "wi", "wo"].map(|name| format!("{p}.DenseReluDense.{name}"));
            if self.gated {
                block.gated_mlp(g, h, [&gate, &up, &down], self.info.mlp, self.act)
            } else {
                block.mlp(g, h, [&plain, &down], self.info.mlp, self.act)
            }
        })
    }

    /// Scores of the vocabulary. x: (…,C), normalised; returns (…,V).
    fn scores(&self, g: &mut Graph, x: Value) -> Value {
        let x = if self.scale == 1.0 { x } else { g.scale(x, self.scale) };
        let head = self.names.value(g, self.head, [self.info.vocabulary, self.info.hidden]);
        g.linear(x, head, None)
    }
}
