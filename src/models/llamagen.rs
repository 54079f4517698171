//! LlamaGen's class-conditional decoder (Sun et al. 2024, "Autoregressive Model Beats Diffusion"): a
//! Llama over a grid of VQ codes. RMS norm, SwiGLU, no biases; rotary positions turn half of the pairs of
//! a head by the token's row and half by its column. Place 0 is the class, whose cosine and sine are both
//! zero in the original, so that its q and k vanish.
//!
//! Tensors under the original names, sizes in a small `config.json`; the published `.pt` files have none.

use serde_json::Value as Json;

use super::fields::{self, Fields};
use super::names::Names;
use super::parts;
use super::sequence::{Codec, Defaults, GeneratorInfo, New, ROTARY, Sequence, TokenDecoder};
use crate::error::{Error, Result};
use crate::graph::{Graph, Storage, TensorIndex, Value, Weight};
use crate::ops::{Act, EmbedSequence};
use crate::tensor::{HostTensor, TensorDesc};

/// Left aside: what training needed.
const ASIDE: &[&str] = &["freqs_cis"];

struct LlamaGen {
    info: GeneratorInfo,
    names: Names,
    mlp: usize,
    eps: f32,
    rope_base: f64,
}

/// Reads a `config.json` of LlamaGen's sizes.
pub(super) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn TokenDecoder>> {
    let fields = Fields::new(config)?;
    let names = Names::new(index, &[], &[], ASIDE);
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
        return Err(Error::model(fields::FILE, what, "it counts the tokens of a square picture"));
    }
    if fields.optional("cls_token_num", 0, 1024)?.is_some_and(|n| n != 1) {
        let what = "`cls_token_num` is not 1: text-conditional models are not supported";
        return Err(Error::model(fields::FILE, what, "use a class-conditional (c2i) checkpoint"));
    }
    if fields.optional("n_kv_head", 1, 1024)?.is_some_and(|n| n != heads) {
        return Err(Error::model(
            fields::FILE,
            "`n_kv_head` differs from `n_head`",
            "grouped heads are not supported",
        ));
    }
    let rows = |name: &str| names.dims(name).and_then(|d| d.first().copied());
    let classes = fields.count("num_classes", 1000)?;
    // The row after the last class stands for none; it exists if the model was trained with dropout.
    let guided = rows("cls_embedding.embedding_table.weight").is_some_and(|n| n > classes);
    let doubling = fields.get("ch_mult").and_then(Json::as_array).map_or(5, Vec::len).clamp(1, 8) - 1;
    let generation = fields.nested("generation")?;
    let number =
        |key: &str, default: f64| generation.as_ref().map_or(Ok(default), |g| g.number(key, default));
    let info = GeneratorInfo {
        family: "llamagen",
        architecture: "LlamaGen".to_owned(),
        grid: [side, side],
        tokens,
        vocabulary: fields.width("vocab_size", 16384)?,
        classes: Some(classes),
        guided,
        start: 0,
        picture: [side << doubling; 2],
        hidden,
        layers: fields.depth("n_layer", 12)?,
        heads,
        parameters: 0,
        codec: Codec::Vq,
        defaults: Defaults {
            temperature: number("temperature", 1.0)? as f32,
            top_k: number("top_k", 2000.0)? as u32,
            top_p: number("top_p", 1.0)? as f32,
            cfg_scale: number("cfg_scale", 4.0)? as f32,
        },
        warnings: Vec::new(),
    };
    let mlp = rows("layers.0.feed_forward.w1.weight").unwrap_or((8 * hidden / 3).next_multiple_of(256));
    let (eps, rope_base) = (fields.number("norm_eps", 1e-5)? as f32, fields.number("rope_base", 10_000.0)?);
    let mut model = LlamaGen { info, names, mlp, eps, rope_base };
    let (parameters, warnings) = model.names.check_decoder(&model, &fields)?;
    model.info.parameters = parameters;
    model.info.warnings.extend(warnings);
    Ok(Box::new(model))
}

impl TokenDecoder for LlamaGen {
    fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    fn build(&self, g: &mut Graph, sequence: &Sequence, new: New) -> Result<Value> {
        let GeneratorInfo { hidden, layers, .. } = self.info;
        g.scope("embeddings");
        let mut x = self.embed(g, sequence, new); // (R,T,C)
        g.output("hidden.0", x);
        let table = TensorDesc::f32([sequence.positions, hidden / self.info.heads]);
        let table = g.state(ROTARY, table, Storage::AsDeclared);
        for l in 0..layers {
            let p = format!("layers.{l}");

            g.scope(format!("layer.{l}.attention"));
            let h = self.norm(g, x, &format!("{p}.attention_norm"));
            let a = self.attention(g, h, l, table, sequence, new);
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

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        g.scope("head");
        let x = self.norm(g, x, "norm");
        self.names.linear(g, x, "output", self.info.vocabulary, false)
    }

    fn rotary(&self) -> Option<HostTensor> {
        let [rows, columns] = self.info.grid;
        Some(grid_table([rows, columns], self.info.hidden / self.info.heads, self.rope_base))
    }
}

/// Cosines and sines of a raster of places: (rows·columns, D), place 0 zeros, then the grid without its
/// last, which is never fed. D/4 frequencies base^(-4j/D); the first half of the pairs turns by the row.
fn grid_table([rows, columns]: [usize; 2], d: usize, base: f64) -> HostTensor {
    let quarter = d / 4;
    let frequency = |j: usize| (1.0 / (base as f32).powf((2 * j) as f32 / (d / 2) as f32)) as f64;
    let mut table = vec![0.0; d];
    for i in 0..rows * columns - 1 {
        let (row, column) = (i / columns, i % columns);
        for pair in 0..d / 2 {
            let along = if pair < quarter { row } else { column };
            // In f32, as the original multiplies.
            let angle = f64::from(along as f32 * frequency(pair % quarter) as f32);
            table.extend([angle.cos() as f32, angle.sin() as f32]);
        }
    }
    HostTensor::f32([rows * columns, d], table)
}

impl LlamaGen {
    fn norm(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        g.rms_norm(x, self.names.weight(&format!("{name}.weight")), self.eps)
    }

    /// The class, and tokens of the picture. Returns (R,T,C).
    fn embed(&self, g: &mut Graph, s: &Sequence, new: New) -> Value {
        let (w, c) = (&self.names, self.info.hidden);
        let tokens = |g: &mut Graph, first: usize, count: usize| {
            let table = g.weight(w.weight("tok_embeddings.weight"), [self.info.vocabulary, c]);
            let op = EmbedSequence { rows: s.rows, count, first, positions: false };
            g.embed_sequence(op, [table, s.tokens, s.step], None)
        };
        let New::Prompt(given) = new else { return tokens(g, 0, 1) };
        let classes = s.classes(g);
        let rows = self.info.classes.unwrap_or(0) + usize::from(self.info.guided);
        let class = g.gather(w.weight("cls_embedding.embedding_table.weight"), [rows, c], classes);
        let class = g.reshape(class, [s.rows, 1, c]);
        if given == 0 {
            return class;
        }
        let given = tokens(g, 1, given);
        g.concat_tokens(s.rows, &[class, given])
    }

    /// Attention over the cache; q, k and v are row ranges of one tensor. x: (R,T,C); returns (R,T,C).
    fn attention(&self, g: &mut Graph, x: Value, l: usize, table: Value, s: &Sequence, new: New) -> Value {
        let (c, heads) = (self.info.hidden, self.info.heads);
        let name = self.names.in_file(&format!("layers.{l}.attention.wqkv.weight"));
        let [q, k, v] = [0, 1, 2].map(|third| {
            let weight = Weight::rows(name.clone(), third * c..(third + 1) * c);
            let projected = g.linear(x, weight, None, c);
            g.split_heads(projected, heads) // (R,H,T,D)
        });
        let [q, k] = [q, k].map(|x| g.rotary(x, table, s.step));
        let cache = s.cache(g, l, heads, c / heads);
        g.cached_attention([q, k, v], cache, s.step, new.prompt(), parts::attention_scale(c / heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_turned_to_nothing_and_a_token_by_its_row_and_column() {
        let table = grid_table([3, 3], 8, 10_000.0);
        let row = |i: usize| &table.as_f32().expect("it is f32")[i * 8..][..8];
        assert_eq!(table.shape().dims(), [9, 8]);
        assert_eq!(row(0), [0.0; 8]);
        assert_eq!(row(1), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        // Token 5 is in row 1, column 2.
        let (slow, fast) = (0.01f32, 1.0f32);
        let want = [fast, slow, 2.0 * fast, 2.0 * slow].map(|a| [a.cos(), a.sin()]);
        for (got, want) in row(6).iter().zip(want.as_flattened()) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }
}
