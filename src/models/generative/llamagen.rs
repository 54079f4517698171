//! LlamaGen's class-conditional decoder (Sun et al. 2024, "Autoregressive Model Beats Diffusion"): a
//! Llama over a grid of VQ codes. RMS norm, SwiGLU, no biases; rotary positions turn half of the pairs of
//! a head by the token's row and half by its column. Place 0 is the class, whose cosine and sine are both
//! zero in the original, so that its q and k vanish.
//!
//! Tensors under the original names, sizes in a small `config.json`; the published `.pt` files have none.
//! RandAR is the same [`Llama`] over other rows.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, Storage, TensorIndex, Value, Weight};
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::Naming;
use crate::models::sequence::{
    Codec, Defaults, GeneratorInfo, ImageDecoder, New, ROTARY, Sequence, TokenDecoder,
};
use crate::models::{fields, parts};
use crate::ops::{Act, EmbedSequence};
use crate::tensor::{HostTensor, Size, TensorDesc};

/// Left aside: what training needed.
const ASIDE: &[&str] = &["freqs_cis"];

/// Table of token embeddings.
pub(crate) const TOKEN_TABLE: &str = "tok_embeddings.weight";

/// Table of class embeddings; the row behind the last class, if there is one, stands for none.
pub(crate) const CLASS_TABLE: &str = "cls_embedding.embedding_table.weight";

pub(crate) const NAMING: Naming = Naming { ignored: ASIDE, ..Naming::PLAIN };

struct LlamaGen {
    llama: Llama,
}

/// A class, blocks over the cache, and a head.
pub(crate) struct Llama {
    pub(crate) info: GeneratorInfo,
    pub(crate) names: Names,
    mlp: usize,
    eps: f32,
    rope_base: f64,
}

/// Reads a `config.json` of LlamaGen's sizes.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn ImageDecoder>> {
    let fields = Fields::new(config)?;
    let defaults = Defaults { temperature: 1.0, top_k: 2000, top_p: 1.0, cfg_scale: 4.0, rising: false };
    let info = GeneratorInfo {
        family: "llamagen",
        architecture: "LlamaGen".to_owned(),
        defaults,
        ..GeneratorInfo::default()
    };
    let mut model = LlamaGen { llama: Llama::read(&fields, index, info)? };
    let checked = model.llama.names.check_decoder(&model, &fields)?;
    model.llama.found(checked);
    Ok(Box::new(model))
}

impl ImageDecoder for LlamaGen {
    fn info(&self) -> &GeneratorInfo {
        &self.llama.info
    }

    fn rotary(&self, _order: &[u32]) -> Option<HostTensor> {
        let (n, d) = (self.llama.info.tokens, self.llama.head_width());
        // The class is turned to nothing; the last place of the raster is never fed.
        let mut table = vec![0.0; d];
        table.extend_from_slice(&self.llama.raster()[..(n - 1) * d]);
        Some(HostTensor::f32([n, d], table))
    }
}

impl TokenDecoder for LlamaGen {
    fn build(&self, g: &mut Graph, s: &Sequence, new: New) -> Result<Value> {
        g.scope("embeddings");
        let x = match new {
            New::Prompt(0) => self.llama.class(g, s),
            New::Prompt(given) => {
                let class = self.llama.class(g, s);
                let given = self.tokens(g, s, 1, given);
                g.concat_tokens(s.rows, &[class, given])
            }
            New::Step { drawn, .. } => self.tokens(g, s, 0, drawn),
        };
        let table = self.llama.table(g, s.positions);
        self.llama.blocks(g, x, table, s, new)
    }

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        self.llama.head(g, x)
    }
}

impl LlamaGen {
    /// Some tokens of the image, the first of them so many places after the step. Returns (R,T,C).
    fn tokens(&self, g: &mut Graph, s: &Sequence, first: usize, count: usize) -> Value {
        let GeneratorInfo { vocabulary, hidden, .. } = self.llama.info;
        let table = self.llama.names.value(g, TOKEN_TABLE, [vocabulary, hidden]);
        let op = EmbedSequence { rows: s.rows, count, first, positions: false };
        g.embed_sequence(op, [table, s.tokens, s.step], None)
    }
}

impl Llama {
    /// Reads the sizes; `like` holds what they do not say.
    pub(crate) fn read(fields: &Fields, index: &TensorIndex, like: GeneratorInfo) -> Result<Self> {
        let names = Names::new(index, &NAMING);
        let hidden = fields.width("dim", 768)?;
        let heads = fields.depth("n_head", 12)?;
        fields::check_heads(("dim", hidden), ("n_head", heads))?;
        if !(hidden / heads).is_multiple_of(4) {
            let what = format!("head width {} is no multiple of 4, as two rotary axes need", hidden / heads);
            return Err(Error::model(fields::FILE, what, "`dim` divided by `n_head` is the head width"));
        }
        let tokens = fields.width("block_size", 256)?;
        let side = tokens.isqrt();
        if side * side != tokens {
            let what = format!("`block_size` {tokens} is no square");
            return Err(Error::model(fields::FILE, what, "it counts the tokens of a square image"));
        }
        if fields.optional("cls_token_num", 0, 1024)?.is_some_and(|n| n != 1) {
            let what = "`cls_token_num` is not 1: text-conditional models are not supported";
            return Err(Error::model(fields::FILE, what, "use a class-conditional (c2i) checkpoint"));
        }
        if fields.optional("n_kv_head", 1, 1024)?.is_some_and(|n| n != heads) {
            let what = "`n_kv_head` differs from `n_head`";
            return Err(Error::model(fields::FILE, what, "grouped heads are not supported"));
        }
        let rows = |name: &str| names.dims(name).and_then(|d| d.first().copied());
        let classes = fields.count("num_classes", 1000)?;
        // The row after the last class stands for none; it exists if the model was trained with dropout.
        let guided = rows(CLASS_TABLE).is_some_and(|n| n > classes);
        let doubling = fields.get("ch_mult").and_then(Json::as_array).map_or(5, Vec::len).clamp(1, 8) - 1;
        let generation = fields.nested("generation")?;
        let number = |key: &str, usual: f32| match &generation {
            Some(given) => given.number(key, f64::from(usual)).map(|n| n as f32),
            None => Ok(usual),
        };
        let usual = like.defaults;
        let info = GeneratorInfo {
            grid: [side, side],
            tokens,
            vocabulary: fields.width("vocab_size", 16384)?,
            classes: Some(classes),
            guided,
            image_size: Size::square(side << doubling),
            hidden,
            layers: fields.depth("n_layer", 12)?,
            heads,
            codec: Codec::Vq,
            defaults: Defaults {
                temperature: number("temperature", usual.temperature)?,
                top_k: number("top_k", usual.top_k as f32)? as u32,
                top_p: number("top_p", usual.top_p)?,
                cfg_scale: number("cfg_scale", usual.cfg_scale)?,
                ..usual
            },
            ..like
        };
        let mlp = rows("layers.0.feed_forward.w1.weight").unwrap_or((8 * hidden / 3).next_multiple_of(256));
        let eps = fields.number("norm_eps", 1e-5)? as f32;
        let rope_base = fields.number("rope_base", 10_000.0)?;
        Ok(Self { info, names, mlp, eps, rope_base })
    }

    /// Keeps what comparing with the checkpoint found.
    pub(crate) fn found(&mut self, (parameters, warnings): (u64, Vec<String>)) {
        self.info.parameters = parameters;
        self.info.warnings.extend(warnings);
    }

    pub(crate) fn head_width(&self) -> usize {
        self.info.hidden / self.info.heads
    }

    /// The class, which stands at place 0: (R,1,C).
    pub(crate) fn class(&self, g: &mut Graph, s: &Sequence) -> Value {
        let c = self.info.hidden;
        let rows = self.info.classes.unwrap_or(0) + usize::from(self.info.guided);
        let ids = s.classes(g);
        let table = self.names.value(g, CLASS_TABLE, [rows, c]);
        let class = g.gather(table, ids);
        g.reshape(class, [s.rows, 1, c])
    }

    /// The rotary table, whose first rows are of the places in the cache.
    pub(crate) fn table(&self, g: &mut Graph, rows: usize) -> Value {
        g.state(ROTARY, TensorDesc::f32([rows, self.head_width()]), Storage::AsDeclared)
    }

    /// All blocks. x: (R,T,C), new rows; table: (P,D), rotary; returns (R,T,C).
    pub(crate) fn blocks(
        &self,
        g: &mut Graph,
        mut x: Value,
        table: Value,
        s: &Sequence,
        new: New,
    ) -> Result<Value> {
        let GeneratorInfo { hidden, layers, .. } = self.info;
        g.output("hidden.0", x);
        for l in 0..layers {
            let p = format!("layers.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = self.norm(g, x, &format!("{p}.attention_norm"));
            let a = self.attention(g, h, l, table, s, new);
            let a = self.names.linear(g, a, &format!("{p}.attention.wo"), hidden, false);
            x = g.add(a, x);

            g.scope(format!("layer.{l}.mlp"));
            let h = self.norm(g, x, &format!("{p}.ffn_norm"));
            let gate = self.names.linear(g, h, &format!("{p}.feed_forward.w1"), self.mlp, false);
            let gate = g.act(gate, Act::Silu);
            let value = self.names.linear(g, h, &format!("{p}.feed_forward.w3"), self.mlp, false);
            let h = g.mul(gate, value); // (R,T,F)
            let m = self.names.linear(g, h, &format!("{p}.feed_forward.w2"), hidden, false);
            x = g.add(m, x);
            g.output(format!("hidden.{}", l + 1), x);
        }
        g.check()?;
        Ok(x)
    }

    /// Scores of the next token. x: (…,C); returns (…,V).
    pub(crate) fn head(&self, g: &mut Graph, x: Value) -> Value {
        g.scope("head");
        let x = self.norm(g, x, "norm");
        self.names.linear(g, x, "output", self.info.vocabulary, false)
    }

    /// Cosines and sines of the raster, (N·D): see [`raster`].
    pub(crate) fn raster(&self) -> Vec<f32> {
        raster(self.info.grid, self.head_width(), self.rope_base)
    }

    fn norm(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        self.names.rms_norm(g, x, name, self.eps)
    }

    /// Attention over the cache; q, k and v are row ranges of one tensor. x: (R,T,C); returns (R,T,C).
    fn attention(&self, g: &mut Graph, x: Value, l: usize, table: Value, s: &Sequence, new: New) -> Value {
        let (c, heads) = (self.info.hidden, self.info.heads);
        let name = self.names.in_file(&format!("layers.{l}.attention.wqkv.weight"));
        let [q, k, v] = [0, 1, 2].map(|third| {
            let weight = g.weight(Weight::rows(name.clone(), third * c..(third + 1) * c), [c, c]);
            let projected = g.linear(x, weight, None);
            g.split_heads(projected, heads) // (R,H,T,D)
        });
        let [q, k] = [q, k].map(|x| g.rotary(x, table, s.place));
        s.attention(g, l, [q, k, v], new, None, parts::attention_scale(c / heads))
    }
}

/// Cosines and sines of a raster of places, (rows·columns, D). D/4 frequencies base^(-4j/D); the first half
/// of the pairs turns by the row.
fn raster([rows, columns]: [usize; 2], d: usize, base: f64) -> Vec<f32> {
    let quarter = d / 4;
    let frequency = |j: usize| (1.0 / (base as f32).powf((2 * j) as f32 / (d / 2) as f32)) as f64;
    let mut table = Vec::with_capacity(rows * columns * d);
    for i in 0..rows * columns {
        let (row, column) = (i / columns, i % columns);
        for pair in 0..d / 2 {
            let along = if pair < quarter { row } else { column };
            // In f32, as the original multiplies.
            let angle = f64::from(along as f32 * frequency(pair % quarter) as f32);
            table.extend([angle.cos() as f32, angle.sin() as f32]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_turned_by_its_row_and_column() {
        let table = raster([3, 3], 8, 10_000.0);
        let row = |i: usize| &table[i * 8..][..8];
        assert_eq!(table.len(), 9 * 8);
        assert_eq!(row(0), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        // Token 5 is in row 1, column 2.
        let (slow, fast) = (0.01f32, 1.0f32);
        let want = [fast, slow, 2.0 * fast, 2.0 * slow].map(|a| [a.cos(), a.sin()]);
        for (got, want) in row(5).iter().zip(want.as_flattened()) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }
}
