//! GPT-2 with candle-nn: a cache of keys and values, the head only where a token is drawn.

use candle_core::{D, Device, IndexOp, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::{Embedding, LayerNorm, Linear, Module, VarBuilder, embedding, layer_norm};

use super::{Result, number, open};

struct Block {
    before: LayerNorm,
    qkv: Linear,
    out: Linear,
    after: LayerNorm,
    up: Linear,
    down: Linear,
    cache: KvCache,
}

pub struct Gpt2 {
    heads: usize,
    tokens: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

/// A matrix that the file holds by (in, out).
fn by_rows(inner: usize, out: usize, w: VarBuilder) -> Result<Linear> {
    Ok(Linear::new(w.get((inner, out), "weight")?.t()?.contiguous()?, Some(w.get(out, "bias")?)))
}

impl Block {
    fn forward(&mut self, x: &Tensor, heads: usize, mask: Option<&Tensor>) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let qkv = self.qkv.forward(&self.before.forward(x)?)?;
        let part = |i: usize| {
            qkv.narrow(D::Minus1, i * c, c)?.reshape((b, t, heads, c / heads))?.transpose(1, 2)?.contiguous()
        };
        let q = (part(0)? * ((c / heads) as f64).powf(-0.5))?;
        let (k, v) = self.cache.append(&part(1)?, &part(2)?)?;
        let mut scores = q.matmul(&k.t()?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
        let x = (x + self.out.forward(&mixed.transpose(1, 2)?.reshape((b, t, c))?)?)?;
        // candle's `gelu` is the one with tanh.
        let hidden = self.up.forward(&self.after.forward(&x)?)?.gelu()?;
        Ok((&x + self.down.forward(&hidden)?)?)
    }
}

impl Gpt2 {
    pub fn load(folder: &str, places: usize) -> Result<Self> {
        let (config, w) = open(folder)?;
        let config = serde_json::from_str(&config)?;
        let (c, layers, heads) =
            (number(&config, "n_embd")?, number(&config, "n_layer")?, number(&config, "n_head")?);
        let (v, positions) = (number(&config, "vocab_size")?, number(&config, "n_positions")?);
        let epsilon = config["layer_norm_epsilon"].as_f64().ok_or("config.json: layer_norm_epsilon")?;
        let w = if w.contains_tensor("wte.weight") { w } else { w.pp("transformer") };
        let block = |w: VarBuilder| -> Result<Block> {
            Ok(Block {
                before: layer_norm(c, epsilon, w.pp("ln_1"))?,
                qkv: by_rows(c, 3 * c, w.pp("attn.c_attn"))?,
                out: by_rows(c, c, w.pp("attn.c_proj"))?,
                after: layer_norm(c, epsilon, w.pp("ln_2"))?,
                up: by_rows(c, 4 * c, w.pp("mlp.c_fc"))?,
                down: by_rows(4 * c, c, w.pp("mlp.c_proj"))?,
                cache: KvCache::new(2, places),
            })
        };
        let tokens = embedding(v, c, w.pp("wte"))?;
        Ok(Self {
            heads,
            head: Linear::new(tokens.embeddings().clone(), None),
            tokens,
            places: embedding(positions, c, w.pp("wpe"))?,
            blocks: (0..layers).map(|l| block(w.pp(format!("h.{l}")))).collect::<Result<_>>()?,
            norm: layer_norm(c, epsilon, w.pp("ln_f"))?,
        })
    }

    /// Begins anew.
    pub fn forget(&mut self) {
        for block in &mut self.blocks {
            block.cache.k_cache_mut().reset();
            block.cache.v_cache_mut().reset();
        }
    }

    /// Scores (V) after `ids` (1,T), which stand at `place` and after.
    pub fn logits(&mut self, ids: &Tensor, place: usize) -> Result<Tensor> {
        let t = ids.dim(1)?;
        let places = Tensor::arange(place as u32, (place + t) as u32, &Device::Cpu)?;
        let mut x = self.tokens.forward(ids)?.broadcast_add(&self.places.forward(&places)?)?;
        let mask = (t > 1).then(|| {
            let hidden = |i| (0..place + t).map(move |j| if j > place + i { f32::NEG_INFINITY } else { 0.0 });
            Tensor::from_iter((0..t).flat_map(hidden), &Device::Cpu)?.reshape((t, place + t))
        });
        let mask = mask.transpose()?;
        for block in &mut self.blocks {
            x = block.forward(&x, self.heads, mask.as_ref())?;
        }
        let last = self.norm.forward(&x.i((.., t - 1))?.contiguous()?)?;
        Ok(self.head.forward(&last)?.squeeze(0)?)
    }
}
