//! ModernBERT (Warner et al. 2024): pre-norm blocks without biases, gated MLP (GeGLU), rotary positions, and
//! attention to all of a text in every third layer only; in the others a token sees those near to it. The two
//! kinds of layers turn by frequencies of their own. Attention of the first layer has no norm before it, since
//! the embeddings end with one. Every head that the checkpoint has is built, each behind a dense layer with
//! activation and norm. Not built: multiple choice. Reference: transformers 5.23, `modeling_modernbert.py`.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Base, Graph, Places, RotaryTable, TensorIndex, Value, Weight};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::text::{Kind, Task, Text, TextInfo, TextModel};
use crate::models::{fields, parts};
use crate::ops::{Act, Scores};

pub(crate) const NAMING: Naming = Naming {
    prefixes: &["model."],
    renames: &[],
    ignored: &[],
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[], heads: &["head.", "decoder.", "classifier."] }),
};

const WORDS: &str = "embeddings.tok_embeddings.weight";
const DECODER: &str = "decoder.weight";

/// What the kinds of layers are called.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// How a layer sees: to all keys, or so far to each side; and the base of its rotary frequencies.
#[derive(Debug, Clone, Copy)]
struct Reach {
    window: Option<usize>,
    base: Base,
}

/// Which layers have biases.
struct Biases {
    norm: bool,
    attention: bool,
    mlp: bool,
    /// The dense layer of a head.
    head: bool,
    decoder: bool,
}

struct ModernBert {
    info: TextInfo,
    names: Names,
    layers: Vec<Reach>,
    biases: Biases,
    act: Act,
    head_act: Act,
    eps: f32,
    /// Classes are read off the mean of the tokens, not off the first.
    mean_pooling: bool,
}

/// Reads a `model_type: modernbert` configuration.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, &NAMING);
    let architecture = fields.architecture("ModernBertModel");
    if architecture.ends_with("ForMultipleChoice") {
        let what = format!("a {architecture} chooses among texts, which is not supported");
        let help = "its one output would mean nothing for a text alone; choose a model of classes";
        return Err(Error::model(fields::FILE, what, help));
    }
    let mean_pooling = match fields.text("classifier_pooling")?.unwrap_or("cls") {
        "cls" => false,
        "mean" => true,
        other => return Err(fields::wrong("classifier_pooling", &other.into(), "cls or mean")),
    };
    let info = TextInfo {
        family: "modernbert",
        architecture,
        kind: Kind::Encoder,
        vocabulary: fields.width("vocab_size", 50368)?,
        positions: Some(fields.width("max_position_embeddings", 8192)?),
        hidden: fields.width("hidden_size", 768)?,
        layers: fields.depth("num_hidden_layers", 22)?,
        heads: fields.depth("num_attention_heads", 12)?,
        mlp: fields.width("intermediate_size", 1152)?,
        pad: fields.ids("pad_token_id", &[50283])?.first().copied(),
        ..TextInfo::default()
    };
    fields::check_heads(("hidden_size", info.hidden), ("num_attention_heads", info.heads))?;
    let width = info.hidden / info.heads;
    if !width.is_multiple_of(2) {
        let what = format!("head width {width} is odd, and rotary positions turn pairs");
        let help = "`hidden_size` divided by `num_attention_heads` is the head width";
        return Err(Error::model(fields::FILE, what, help));
    }
    let biases = Biases {
        norm: fields.switch("norm_bias", false)?,
        attention: fields.switch("attention_bias", false)?,
        mlp: fields.switch("mlp_bias", false)?,
        head: fields.switch("classifier_bias", false)?,
        decoder: fields.switch("decoder_bias", true)?,
    };
    let mut model = ModernBert {
        layers: reaches(&fields, info.layers)?,
        info,
        names,
        biases,
        act: fields.act("hidden_activation", "gelu")?,
        head_act: fields.act("classifier_activation", "gelu")?,
        eps: fields.number("norm_eps", 1e-5)? as f32,
        mean_pooling,
    };
    let answers = model.info.architecture.ends_with("ForQuestionAnswering");
    if !answers {
        model.info.classes = parts::classes(&model.names, "classifier", &fields)?;
    }
    model.info.tasks = model.tasks(answers);
    let (parameters, warnings) = model.names.check_text(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

/// How each layer sees: by `layer_types`, else every so many layers see all; theta by `rope_parameters` of
/// transformers 5, else by the keys of transformers 4.
fn reaches(fields: &Fields, layers: usize) -> Result<Vec<Reach>> {
    let window = fields.count("local_attention", 128)? / 2;
    let parameters = fields.nested("rope_parameters")?;
    let unscaled = |of: &Fields, key: &str| match of.text(key)? {
        None | Some("default") => Ok(()),
        Some(other) => Err(fields::wrong(key, &other.into(), "default, the one kind that is supported")),
    };
    let base = |kind: &str, key: &str, usual: f64| -> Result<Base> {
        let own = match &parameters {
            Some(all) => all.nested(kind)?,
            None => None,
        };
        let usual = fields.number(key, usual)?;
        let Some(own) = own else { return Ok(usual.into()) };
        unscaled(&own, "rope_type")?;
        Ok(own.number("rope_theta", usual)?.into())
    };
    if let Some(scaling) = fields.nested("rope_scaling")? {
        unscaled(&scaling, "rope_type")?;
        unscaled(&scaling, "type")?;
    }
    let full = Reach { window: None, base: base(FULL, "global_rope_theta", 160_000.0)? };
    let sliding = Reach { window: Some(window), base: base(SLIDING, "local_rope_theta", 10_000.0)? };
    let Some(listed) = fields.get("layer_types") else {
        let every = fields.depth("global_attn_every_n_layers", 3)?;
        return Ok((0..layers).map(|l| if l % every == 0 { full } else { sliding }).collect());
    };
    let expected = || format!("a list of {layers} times {FULL} or {SLIDING}");
    let wrong = || fields::wrong("layer_types", listed, &expected());
    let of = |kind: &Json| match kind.as_str() {
        Some(FULL) => Some(full),
        Some(SLIDING) => Some(sliding),
        _ => None,
    };
    let list = listed.as_array().filter(|list| list.len() == layers).ok_or_else(wrong)?;
    list.iter().map(|kind| of(kind).ok_or_else(wrong)).collect()
}

impl TextModel for ModernBert {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, text: &Text) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);

        g.scope("embeddings");
        let words = w.value(g, WORDS, [self.info.vocabulary, c]);
        let x = g.gather_padded(words, text.ids, self.info.pad); // (B,T,C)
        let mut x = self.norm(g, x, "embeddings.norm");
        g.output("hidden.0", x);

        for (l, reach) in self.layers.iter().enumerate() {
            let p = format!("layers.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = if l == 0 { x } else { self.norm(g, x, &format!("{p}.attn_norm")) };
            let a = self.attention(g, h, text, l, reach);
            let a = w.linear(g, a, &format!("{p}.attn.Wo"), c, self.biases.attention);
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = self.norm(g, x, &format!("{p}.mlp_norm"));
            let h = w.linear(g, h, &format!("{p}.mlp.Wi"), 2 * self.info.mlp, self.biases.mlp); // (B,T,2F)
            let h = g.glu(h, self.act);
            let m = w.linear(g, h, &format!("{p}.mlp.Wo"), c, self.biases.mlp);
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }
        self.heads(g, x, text);
        g.check()
    }
}

impl ModernBert {
    fn tasks(&self, answers: bool) -> Vec<Task> {
        let tags = self.info.architecture.ends_with("ForTokenClassification");
        // The decoder is the word table unless the file has another, but for its bias.
        let decodes = self.info.architecture.ends_with("ForMaskedLM") || self.names.has_any("decoder.");
        let has = [
            (if tags { Task::Tag } else { Task::Classify }, self.info.classes.is_some()),
            (Task::Answer, answers),
            (Task::FillMask, decodes),
        ];
        has.into_iter().filter_map(|(task, has)| has.then_some(task)).collect()
    }

    /// Layer norm, of which the bias may be left out. x: (…,C).
    fn norm(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        if self.biases.norm {
            return self.names.layer_norm(g, x, name, self.eps);
        }
        let width = g.shape(x).width();
        let gain = self.names.value(g, &format!("{name}.weight"), [width]);
        let bias = g.weight(Weight::zeros(width), [width]);
        g.layer_norm(x, gain, bias, self.eps)
    }

    /// q, k and v are row ranges of one tensor. x: (B,T,C); returns (B,T,C).
    fn attention(&self, g: &mut Graph, x: Value, text: &Text, l: usize, reach: &Reach) -> Value {
        let (c, heads) = (self.info.hidden, self.info.heads);
        let [q, k, v] = [0, 1, 2].map(|third| {
            let rows = third * c..(third + 1) * c;
            let part = |kind: &str| {
                let name = self.names.in_file(&format!("layers.{l}.attn.Wqkv.{kind}"));
                Weight::rows(name, rows.clone())
            };
            let weight = g.weight(part("weight"), [c, c]);
            let bias = self.biases.attention.then(|| g.weight(part("bias"), [c]));
            let projected = g.linear(x, weight, bias);
            g.split_heads(projected, heads) // (B,H,T,D)
        });
        let (tokens, width) = (g.shape(x).dims()[1], c / heads);
        let table = RotaryTable { places: Places::Line(tokens), width, base: reach.base };
        let turns = g.weight(Weight::rotary(table), [tokens, width]);
        let [q, k] = [q, k].map(|x| g.rotary_halves(x, turns));
        let scale = parts::attention_scale(width);
        let (window, lengths) = (reach.window, Some(text.lengths));
        let scores = Scores { window, lengths, ..Scores::scaled(scale) };
        let weights = g.attention_weights([q, k], scores);
        g.output(format!("attention.{l}"), weights);
        g.attention([q, k, v], scores)
    }

    /// x: (B,T,C), before the last norm.
    fn heads(&self, g: &mut Graph, x: Value, text: &Text) {
        let w = &self.names;
        g.scope("head");
        let x = self.norm(g, x, "final_norm");
        g.output("last_hidden_state", x);
        let mean = g.mean_of(x, text.lengths);
        g.output("mean", mean);
        let cls = g.token(x, 0); // (B,C)
        g.output("embedding", cls);
        if self.info.can(Task::FillMask) {
            let places = g.take_tokens(x, text.places); // (B,M,C)
            let scores = self.predictions(g, places);
            g.output("prediction_logits", scores);
            g.output("logits", scores);
        }
        if self.info.can(Task::Answer) {
            let &[batch, tokens, c] = g.shape(x).dims() else { return };
            let h = self.dense(g, x);
            for (row, name) in ["start_logits", "end_logits"].into_iter().enumerate() {
                let part = |kind: &str| Weight::rows(w.in_file(&format!("classifier.{kind}")), row..row + 1);
                let (weight, bias) = (g.weight(part("weight"), [1, c]), g.weight(part("bias"), [1]));
                let scores = g.linear(h, weight, Some(bias)); // (B,T,1)
                let scores = g.reshape(scores, [batch, tokens]);
                g.output(name, scores);
            }
        }
        if let Some(k) = self.info.classes {
            let read = match (self.info.can(Task::Tag), self.mean_pooling) {
                (true, _) => x,
                (false, true) => mean,
                (false, false) => cls,
            };
            let h = self.dense(g, read);
            let logits = w.linear(g, h, "classifier", k, true);
            g.output("logits", logits);
        }
    }

    /// What stands before every head: dense, activation, norm. x: (…,C); returns (…,C).
    fn dense(&self, g: &mut Graph, x: Value) -> Value {
        let h = self.names.linear(g, x, "head.dense", self.info.hidden, self.biases.head);
        let h = g.act(h, self.head_act);
        self.norm(g, h, "head.norm")
    }

    /// Scores of the vocabulary. x: (B,M,C); returns (B,M,V).
    fn predictions(&self, g: &mut Graph, x: Value) -> Value {
        let (w, vocabulary) = (&self.names, self.info.vocabulary);
        let h = self.dense(g, x);
        let table = if w.has(DECODER) { DECODER } else { WORDS };
        let table = w.value(g, table, [vocabulary, self.info.hidden]);
        let bias = self.biases.decoder.then(|| w.value(g, "decoder.bias", [vocabulary]));
        g.linear(h, table, bias)
    }
}
