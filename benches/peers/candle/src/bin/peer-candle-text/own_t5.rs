//! T5 with candle-nn: caches of keys and values for the tokens and for the text, buckets of distances as
//! the original has them.

use candle_core::{D, Device, IndexOp, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::{Embedding, Linear, Module, RmsNorm, VarBuilder, embedding, linear_no_bias, rms_norm};
use serde_json::Value;

use super::{Result, number, open};

struct Attention {
    norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
}

struct Block {
    own: Attention,
    cache: KvCache,
    /// The decoder's, and the keys and values of the text.
    cross: Option<(Attention, Option<(Tensor, Tensor)>)>,
    norm: RmsNorm,
    /// Two where the MLP is gated.
    up: Vec<Linear>,
    down: Linear,
}

struct Stack {
    blocks: Vec<Block>,
    norm: RmsNorm,
    /// By buckets of distances, what is added to the scores.
    distances: Embedding,
    /// Whether keys after a query have buckets of their own: the encoder's do.
    both: bool,
}

pub struct T5 {
    heads: usize,
    furthest: usize,
    tokens: Embedding,
    encoder: Stack,
    decoder: Stack,
    /// Of the decoder, for all places there can be.
    bias: Tensor,
    head: Linear,
    scale: f64,
}

impl Attention {
    fn load(c: usize, inner: usize, epsilon: f64, w: VarBuilder, name: &str) -> Result<Self> {
        let part = |part: &str| linear_no_bias(c, inner, w.pp(name).pp(part));
        Ok(Self {
            norm: rms_norm(c, epsilon, w.pp("layer_norm"))?,
            q: part("q")?,
            k: part("k")?,
            v: part("v")?,
            o: linear_no_bias(inner, c, w.pp(name).pp("o"))?,
        })
    }

    /// `x` plus what these queries see. Scores are not scaled.
    fn mix(&self, x: &Tensor, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let mut scores = q.matmul(&k.t()?)?;
        if let Some(bias) = bias {
            scores = scores.broadcast_add(bias)?;
        }
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(v)?;
        Ok((x + self.o.forward(&mixed.transpose(1, 2)?.flatten_from(2)?)?)?)
    }
}

/// (B,T,HD) as (B,H,T,D).
fn split(x: Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, c) = x.dims3()?;
    Ok(x.reshape((b, t, heads, c / heads))?.transpose(1, 2)?.contiguous()?)
}

impl Block {
    fn forward(&mut self, x: &Tensor, heads: usize, bias: &Tensor) -> Result<Tensor> {
        let hidden = self.own.norm.forward(x)?;
        let part = |by: &Linear| split(by.forward(&hidden)?, heads);
        let (q, mut k, mut v) = (part(&self.own.q)?, part(&self.own.k)?, part(&self.own.v)?);
        if self.cross.is_some() {
            (k, v) = self.cache.append(&k, &v)?;
        }
        let mut x = self.own.mix(x, &q, &k, &v, Some(bias))?;
        if let Some((cross, seen)) = &self.cross {
            let (k, v) = seen.as_ref().ok_or("no text was encoded")?;
            let q = split(cross.q.forward(&cross.norm.forward(&x)?)?, heads)?;
            x = cross.mix(&x, &q, k, v, None)?;
        }
        let hidden = self.norm.forward(&x)?;
        let hidden = match &self.up[..] {
            [gate, up] => (gate.forward(&hidden)?.gelu()? * up.forward(&hidden)?)?,
            up => up[0].forward(&hidden)?.relu()?,
        };
        Ok((&x + self.down.forward(&hidden)?)?)
    }
}

impl Stack {
    fn load(config: &Value, name: &str, places: usize, w: VarBuilder) -> Result<Self> {
        let (c, hidden) = (number(config, "d_model")?, number(config, "d_ff")?);
        let (heads, buckets) =
            (number(config, "num_heads")?, number(config, "relative_attention_num_buckets")?);
        let inner = heads * number(config, "d_kv")?;
        let epsilon = config["layer_norm_epsilon"].as_f64().ok_or("config.json: layer_norm_epsilon")?;
        let both = name == "encoder";
        let layers = if both { "num_layers" } else { "num_decoder_layers" };
        let gated = config["feed_forward_proj"].as_str().is_some_and(|text| text.contains("gated"));
        let w = w.pp(name);
        let block = |w: VarBuilder| -> Result<Block> {
            let cross = |w| Attention::load(c, inner, epsilon, w, "EncDecAttention");
            let mlp = w.pp(if both { "1" } else { "2" });
            let names = if gated { &["wi_0", "wi_1"][..] } else { &["wi"][..] };
            let up = |name: &&str| linear_no_bias(c, hidden, mlp.pp("DenseReluDense").pp(*name));
            Ok(Block {
                own: Attention::load(c, inner, epsilon, w.pp("0"), "SelfAttention")?,
                cache: KvCache::new(2, places),
                cross: if both { None } else { Some((cross(w.pp("1"))?, None)) },
                norm: rms_norm(c, epsilon, mlp.pp("layer_norm"))?,
                up: names.iter().map(up).collect::<candle_core::Result<_>>()?,
                down: linear_no_bias(hidden, c, mlp.pp("DenseReluDense.wo"))?,
            })
        };
        let blocks = (0..number(config, layers)?).map(|l| block(w.pp(format!("block.{l}.layer"))));
        Ok(Self {
            blocks: blocks.collect::<Result<_>>()?,
            norm: rms_norm(c, epsilon, w.pp("final_layer_norm"))?,
            distances: embedding(
                buckets,
                heads,
                w.pp("block.0.layer.0.SelfAttention.relative_attention_bias"),
            )?,
            both,
        })
    }

    /// What is added to scores, (1,H,n,n): rows are queries.
    fn bias(&self, n: usize, furthest: usize) -> Result<Tensor> {
        let buckets = self.distances.embeddings().dim(0)? / if self.both { 2 } else { 1 };
        let near = buckets / 2;
        let bucket = |q: usize, k: usize| {
            let far = if self.both { q.abs_diff(k) } else { q.saturating_sub(k) };
            let spread = (far.max(1) as f32 / near as f32).ln() / (furthest as f32 / near as f32).ln();
            let coarse = near + (spread * (buckets - near) as f32) as usize;
            let bucket = if far < near { far } else { coarse.min(buckets - 1) };
            (bucket + if self.both && k > q { buckets } else { 0 }) as u32
        };
        let buckets = (0..n).flat_map(|q| (0..n).map(move |k| bucket(q, k)));
        let bias = self.distances.forward(&Tensor::from_iter(buckets, &Device::Cpu)?.reshape((n, n))?)?;
        Ok(bias.permute((2, 0, 1))?.contiguous()?.unsqueeze(0)?)
    }
}

impl T5 {
    pub fn load(folder: &str, places: usize) -> Result<Self> {
        let (config, w) = open(folder)?;
        let config: Value = serde_json::from_str(&config)?;
        let (c, v) = (number(&config, "d_model")?, number(&config, "vocab_size")?);
        let tied = config["tie_word_embeddings"].as_bool().unwrap_or(true);
        let tokens = embedding(v, c, w.pp("shared"))?;
        let head = if w.contains_tensor("lm_head.weight") {
            linear_no_bias(c, v, w.pp("lm_head"))?
        } else {
            Linear::new(tokens.embeddings().clone(), None)
        };
        let furthest = number(&config, "relative_attention_max_distance")?;
        let decoder = Stack::load(&config, "decoder", places, w.clone())?;
        Ok(Self {
            heads: number(&config, "num_heads")?,
            furthest,
            tokens,
            encoder: Stack::load(&config, "encoder", 1, w)?,
            bias: decoder.bias(places, furthest)?,
            decoder,
            head,
            scale: if tied { (c as f64).powf(-0.5) } else { 1.0 },
        })
    }

    /// (1,T,C) of a text.
    pub fn encode(&mut self, ids: &[u32]) -> Result<Tensor> {
        let bias = self.encoder.bias(ids.len(), self.furthest)?;
        let mut x = self.tokens.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?)?;
        for block in &mut self.encoder.blocks {
            x = block.forward(&x, self.heads, &bias)?;
        }
        Ok(self.encoder.norm.forward(&x)?)
    }

    /// Lays the keys and values of the text ready, and begins anew.
    pub fn begin(&mut self, encoded: &Tensor) -> Result<()> {
        for block in &mut self.decoder.blocks {
            block.cache.k_cache_mut().reset();
            block.cache.v_cache_mut().reset();
            if let Some((cross, seen)) = &mut block.cross {
                let part = |by: &Linear| split(by.forward(encoded)?, self.heads);
                *seen = Some((part(&cross.k)?, part(&cross.v)?));
            }
        }
        Ok(())
    }

    /// Scores (V) after `ids` (1,1), the token at `place`.
    pub fn logits(&mut self, ids: &Tensor, place: usize) -> Result<Tensor> {
        let bias = self.bias.i((.., .., place..place + 1, ..place + 1))?;
        let mut x = self.tokens.forward(ids)?;
        for block in &mut self.decoder.blocks {
            x = block.forward(&x, self.heads, &bias)?;
        }
        let last = (self.decoder.norm.forward(&x)?.i((.., 0))?.contiguous()? * self.scale)?;
        Ok(self.head.forward(&last)?.squeeze(D::Minus2)?)
    }
}
