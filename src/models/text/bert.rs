//! BERT (Devlin et al. 2019) and its kin: DistilBERT (Sanh et al. 2019) is BERT without segments and
//! pooler, RoBERTa (Liu et al. 2019) counts positions from behind the id of padding and has other heads.
//! Every head that the checkpoint has is built. Not built: multiple choice, causal and cross attention.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::block::{Block, Order, Storage};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::{Naming, Written};
use crate::models::text::{Kind, Task, Text, TextInfo, TextModel};
use crate::models::{fields, parts};
use crate::ops::{Act, NormKind, Scores};

/// What a relative calls BERT's configuration fields and tensors, and what it changes.
struct Dialect {
    family: &'static str,
    class: &'static str,
    naming: &'static Naming,
    /// Its keys for width, layers, heads, width of the MLP, activation.
    keys: [&'static str; 5],
    /// Segments by default.
    types: usize,
    /// Padding by default.
    pad: usize,
    counted_positions: bool,
    /// Layer between token 0 and the classes, and its activation.
    before_classes: Option<(&'static str, Act)>,
    classes: &'static str,
}

const KEYS: [&str; 5] =
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"];

const BERT: Dialect = Dialect {
    family: "bert",
    class: "BertModel",
    naming: &BERT_NAMING,
    keys: KEYS,
    types: 2,
    pad: 0,
    counted_positions: false,
    before_classes: None,
    classes: "classifier",
};

const DISTILBERT: Dialect = Dialect {
    family: "distilbert",
    class: "DistilBertModel",
    naming: &DISTILBERT_NAMING,
    keys: ["dim", "n_layers", "n_heads", "hidden_dim", "activation"],
    types: 0,
    pad: 0,
    counted_positions: false,
    before_classes: Some(("pre_classifier", Act::Relu)),
    classes: "classifier",
};

const ROBERTA: Dialect = Dialect {
    family: "roberta",
    class: "RobertaModel",
    naming: &ROBERTA_NAMING,
    keys: KEYS,
    types: 2,
    pad: 1,
    counted_positions: true,
    before_classes: Some(("classifier.dense", Act::Tanh)),
    classes: "classifier.out_proj",
};

/// Norms as TensorFlow names them.
const GAMMA: &[(&str, &str)] = &[(".gamma", ".weight"), (".beta", ".bias")];

/// Beside a decoder that brings its own bias, this is a copy of it.
const COPY: &[&str] = &["cls.predictions.bias"];

pub(crate) const BERT_NAMING: Naming = Naming {
    prefixes: &["bert."],
    renames: &[GAMMA],
    ignored: COPY,
    in_out: &[],
    written: Some(Written { wrapped: true, renames: &[], heads: &["classifier", "cls.", "qa_outputs"] }),
};

const DISTILBERT_RENAMES: &[(&str, &str)] = &[
    ("^transformer.layer.", "encoder.layer."),
    ("attention.q_lin", "attention.self.query"),
    ("attention.k_lin", "attention.self.key"),
    ("attention.v_lin", "attention.self.value"),
    ("attention.out_lin", "attention.output.dense"),
    ("sa_layer_norm", "attention.output.LayerNorm"),
    ("ffn.lin1", "intermediate.dense"),
    ("ffn.lin2", "output.dense"),
    ("output_layer_norm", "output.LayerNorm"),
    ("^vocab_transform", "cls.predictions.transform.dense"),
    ("^vocab_layer_norm", "cls.predictions.transform.LayerNorm"),
    ("^vocab_projector", "cls.predictions.decoder"),
];

pub(crate) const DISTILBERT_NAMING: Naming = Naming {
    prefixes: &["distilbert."],
    renames: &[DISTILBERT_RENAMES],
    ignored: COPY,
    in_out: &[],
    written: Some(Written {
        wrapped: true,
        renames: &[DISTILBERT_RENAMES],
        heads: &["classifier", "pre_classifier", "cls.", "qa_outputs"],
    }),
};

const ROBERTA_RENAMES: &[(&str, &str)] = &[
    ("^lm_head.dense", "cls.predictions.transform.dense"),
    ("^lm_head.layer_norm", "cls.predictions.transform.LayerNorm"),
    ("^lm_head.decoder", "cls.predictions.decoder"),
    ("^lm_head.bias", "cls.predictions.bias"),
];

pub(crate) const ROBERTA_NAMING: Naming = Naming {
    prefixes: &["roberta."],
    renames: &[GAMMA, ROBERTA_RENAMES],
    ignored: COPY,
    in_out: &[],
    written: Some(Written {
        wrapped: true,
        renames: &[ROBERTA_RENAMES],
        heads: &["classifier", "cls.", "qa_outputs"],
    }),
};

/// How architectures that give each token a class end.
const TAGS: &str = "ForTokenClassification";
const PREDICTIONS: &str = "cls.predictions.transform.dense";
const FOLLOWS: &str = "cls.seq_relationship";
const WORDS: &str = "embeddings.word_embeddings.weight";

struct Bert {
    info: TextInfo,
    dialect: &'static Dialect,
    names: Names,
    act: Act,
    eps: f32,
    /// Rows of the position table.
    positions: usize,
    /// The layer that makes the classes.
    head: &'static str,
}

pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    open_as(&BERT, config, index)
}

pub(crate) fn open_distilbert(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    open_as(&DISTILBERT, config, index)
}

pub(crate) fn open_roberta(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    open_as(&ROBERTA, config, index)
}

fn open_as(dialect: &'static Dialect, config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, dialect.naming);
    let [width, layers, heads, mlp, act] = dialect.keys;
    let kind = fields.text("position_embedding_type")?.unwrap_or("absolute");
    if kind != "absolute" || fields.switch("is_decoder", false)? {
        let what = format!("position_embedding_type `{kind}`, or is_decoder");
        return Err(Error::model(fields::FILE, what, "only encoders with absolute positions are supported"));
    }
    let positions = fields.width("max_position_embeddings", 512)?;
    let pad = fields.count("pad_token_id", dialect.pad)?;
    let before = if dialect.counted_positions { pad + 1 } else { 0 };
    if positions <= before {
        let what = format!("`max_position_embeddings` {positions} leaves no position behind padding {pad}");
        return Err(Error::model(fields::FILE, what, ""));
    }
    let architecture = fields.architecture(dialect.class);
    if architecture.ends_with("ForMultipleChoice") {
        let what = format!("a {architecture} chooses among texts, which is not supported");
        let help = "its one output would mean nothing for a text alone; choose a model of classes";
        return Err(Error::model(fields::FILE, what, help));
    }
    // Classes of tokens come from one layer in every dialect.
    let head = if architecture.ends_with(TAGS) { "classifier" } else { dialect.classes };
    let info = TextInfo {
        family: dialect.family,
        architecture,
        kind: Kind::Encoder,
        vocabulary: fields.width("vocab_size", 30522)?,
        positions: Some(positions - before),
        counted_positions: dialect.counted_positions,
        types: if dialect.types == 0 { 0 } else { fields.count("type_vocab_size", dialect.types)? },
        hidden: fields.width(width, 768)?,
        layers: fields.depth(layers, if dialect.family == "distilbert" { 6 } else { 12 })?,
        heads: fields.depth(heads, 12)?,
        mlp: fields.width(mlp, 3072)?,
        classes: parts::classes(&names, head, &fields)?,
        pooled: names.has("pooler.dense.weight"),
        pad: Some(pad as u32),
        ..TextInfo::default()
    };
    fields::check_heads((width, info.hidden), (heads, info.heads))?;
    let act = fields.act(act, "gelu")?;
    let eps = fields.number("layer_norm_eps", 1e-12)? as f32;
    let mut model = Bert { info, dialect, names, act, eps, positions, head };
    model.info.tasks = model.tasks();
    let (parameters, warnings) = model.names.check_text(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl TextModel for Bert {
    fn info(&self) -> &TextInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, text: &Text) -> Result<()> {
        let (w, c) = (&self.names, self.info.hidden);
        let block = self.block();

        g.scope("embeddings");
        let words = w.value(g, WORDS, [self.info.vocabulary, c]);
        let mut x = g.gather_padded(words, text.ids, self.info.pad); // (B,T,C)
        let table = w.value(g, "embeddings.position_embeddings.weight", [self.positions, c]);
        // Where positions are counted, padding has one of its own.
        let padding = self.info.pad.filter(|_| self.dialect.counted_positions);
        let positions = g.gather_padded(table, text.positions, padding);
        x = g.add(x, positions);
        if self.info.types > 0 {
            let table = w.value(g, "embeddings.token_type_embeddings.weight", [self.info.types, c]);
            let types = g.gather(table, text.types);
            x = g.add(x, types);
        }
        x = block.norm(g, x, "embeddings.LayerNorm");
        g.output("hidden.0", x);

        for l in 0..self.info.layers {
            let p = format!("encoder.layer.{l}");

            g.scope(format!("layer.{l}.attention"));
            x = block.residual(g, x, &format!("{p}.attention.output.LayerNorm"), |g, h| {
                let qkv = ["query", "key", "value"].map(|name| {
                    let projected = block.linear(g, h, &format!("{p}.attention.self.{name}"), c);
                    g.split_heads(projected, self.info.heads) // (B,H,T,D)
                });
                let a = self.attention(g, qkv, text, l);
                block.linear(g, a, &format!("{p}.attention.output.dense"), c)
            });

            g.scope(format!("layer.{l}.mlp"));
            x = block.residual(g, x, &format!("{p}.output.LayerNorm"), |g, h| {
                let [up, down] = ["intermediate.dense", "output.dense"].map(|name| format!("{p}.{name}"));
                block.mlp(g, h, [&up, &down], self.info.mlp, self.act)
            });
            g.output(format!("hidden.{}", l + 1), x);
        }
        self.heads(g, x, text);
        g.check()
    }
}

impl Bert {
    fn block(&self) -> Block<'_> {
        Block {
            names: &self.names,
            order: Order::NormLast,
            norm: NormKind::Layer,
            eps: self.eps,
            storage: Storage::OutIn,
            bias: true,
        }
    }

    fn tasks(&self) -> Vec<Task> {
        let tags = self.info.architecture.ends_with(TAGS);
        let classes = if tags { Task::Tag } else { Task::Classify };
        let has = [
            (classes, self.info.classes.is_some()),
            (Task::Answer, self.names.has("qa_outputs.weight")),
            (Task::FillMask, self.names.has(&format!("{PREDICTIONS}.weight"))),
            (Task::NextSentence, self.names.has(&format!("{FOLLOWS}.weight"))),
        ];
        has.into_iter().filter_map(|(task, has)| has.then_some(task)).collect()
    }

    fn attention(&self, g: &mut Graph, [q, k, v]: [Value; 3], text: &Text, l: usize) -> Value {
        let scale = parts::attention_scale(self.info.hidden / self.info.heads);
        let scores = Scores { lengths: Some(text.lengths), ..Scores::scaled(scale) };
        let weights = g.attention_weights([q, k], scores);
        g.output(format!("attention.{l}"), weights);
        g.attention([q, k, v], scores)
    }

    /// x: (B,T,C).
    fn heads(&self, g: &mut Graph, x: Value, text: &Text) {
        let (block, c) = (self.block(), self.info.hidden);
        g.scope("head");
        g.output("last_hidden_state", x);
        let mean = g.mean_of(x, text.lengths);
        g.output("mean", mean);
        let cls = g.token(x, 0); // (B,C)
        g.output("embedding", cls);
        let pooled = self.info.pooled.then(|| {
            let dense = block.linear(g, cls, "pooler.dense", c);
            g.act(dense, Act::Tanh)
        });
        if let Some(pooled) = pooled {
            g.output("pooler_output", pooled);
        }
        if self.info.can(Task::NextSentence) {
            let scores = block.linear(g, pooled.unwrap_or(cls), FOLLOWS, 2);
            g.output("seq_relationship_logits", scores);
            g.output("logits", scores);
        }
        if self.info.can(Task::FillMask) {
            let scores = self.predictions(g, x, text);
            g.output("prediction_logits", scores);
            g.output("logits", scores);
        }
        if self.info.can(Task::Answer) {
            let &[batch, tokens, _] = g.shape(x).dims() else { return };
            for (row, name) in ["start_logits", "end_logits"].into_iter().enumerate() {
                let scores = block.outputs(g, x, "qa_outputs", row..row + 1); // (B,T,1)
                let scores = g.reshape(scores, [batch, tokens]);
                g.output(name, scores);
            }
        }
        if let Some(k) = self.info.classes {
            let read = match (self.info.can(Task::Tag), self.dialect.before_classes) {
                (true, _) => x,
                (false, None) => pooled.unwrap_or(cls),
                (false, Some((name, act))) => {
                    let dense = block.linear(g, cls, name, c);
                    g.act(dense, act)
                }
            };
            let logits = block.linear(g, read, self.head, k);
            g.output("logits", logits);
        }
    }

    /// Scores of the vocabulary at places: (B,M,V). The decoder is the word table, unless the file has
    /// another.
    fn predictions(&self, g: &mut Graph, x: Value, text: &Text) -> Value {
        let (block, w) = (self.block(), &self.names);
        let x = g.take_tokens(x, text.places); // (B,M,C)
        let x = block.linear(g, x, PREDICTIONS, self.info.hidden);
        let x = g.act(x, self.act);
        let x = block.norm(g, x, "cls.predictions.transform.LayerNorm");
        let own = "cls.predictions.decoder.weight";
        let (vocabulary, c) = (self.info.vocabulary, self.info.hidden);
        let table = w.value(g, if w.has(own) { own } else { WORDS }, [vocabulary, c]);
        let biases = ["cls.predictions.decoder.bias", "cls.predictions.bias"];
        let bias = biases.into_iter().find(|name| w.has(name)).unwrap_or(biases[1]);
        let bias = w.value(g, bias, [vocabulary]);
        g.linear(x, table, Some(bias))
    }
}
