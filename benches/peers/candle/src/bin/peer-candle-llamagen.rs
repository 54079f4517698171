//! LlamaGen's token loop in candle on the CPU, as its own language models are written: a KV cache, one
//! batch of two rows for guidance, greedy. Prints the ids and what drawing them took, as JSON.
//! `peer-candle-llamagen FOLDER CLASS SCALE TOKENS`; `RAYON_NUM_THREADS` says on how many threads.

use std::time::Instant;

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::{Embedding, Linear, Module, RmsNorm, VarBuilder, embedding, linear_no_bias, rms_norm};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Block {
    attention_norm: RmsNorm,
    wqkv: Linear,
    wo: Linear,
    ffn_norm: RmsNorm,
    w1: Linear,
    w2: Linear,
    w3: Linear,
    cache: KvCache,
}

struct Model {
    heads: usize,
    classes: Embedding,
    tokens: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    output: Linear,
    cos: Tensor,
    sin: Tensor,
}

impl Block {
    fn forward(&mut self, x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let qkv = self.wqkv.forward(&self.attention_norm.forward(x)?)?;
        let part =
            |i: usize| qkv.narrow(D::Minus1, i * c, c)?.reshape((b, t, heads, c / heads))?.transpose(1, 2);
        let turned = |x: Tensor| candle_nn::rotary_emb::rope_i(&x.contiguous()?, cos, sin);
        let (q, k, v) = (turned(part(0)?)?, turned(part(1)?)?, part(2)?.contiguous()?);
        let (k, v) = self.cache.append(&k, &v)?;
        let scores = (q.matmul(&k.t()?)? * (((c / heads) as f64).powf(-0.5)))?;
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
        let x = (x + self.wo.forward(&mixed.transpose(1, 2)?.reshape((b, t, c))?)?)?;
        let h = self.ffn_norm.forward(&x)?;
        let h = (self.w1.forward(&h)?.silu()? * self.w3.forward(&h)?)?;
        Ok((&x + self.w2.forward(&h)?)?)
    }
}

impl Model {
    fn load(folder: &str) -> Result<(Self, usize)> {
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(format!("{folder}/config.json"))?)?;
        let number =
            |key: &str| config[key].as_u64().map(|n| n as usize).ok_or(format!("config.json: {key}"));
        let (c, layers, heads) = (number("dim")?, number("n_layer")?, number("n_head")?);
        let (v, n, classes) = (number("vocab_size")?, number("block_size")?, number("num_classes")?);
        let hidden = (8 * c / 3).next_multiple_of(256);
        let file = std::fs::read(format!("{folder}/gpt.safetensors"))?;
        let w = VarBuilder::from_buffered_safetensors(file, DType::F32, &Device::Cpu)?;
        let block = |w: VarBuilder| -> Result<Block> {
            let (attention, mlp) = (w.pp("attention"), w.pp("feed_forward"));
            Ok(Block {
                attention_norm: rms_norm(c, 1e-5, w.pp("attention_norm"))?,
                wqkv: linear_no_bias(c, 3 * c, attention.pp("wqkv"))?,
                wo: linear_no_bias(c, c, attention.pp("wo"))?,
                ffn_norm: rms_norm(c, 1e-5, w.pp("ffn_norm"))?,
                w1: linear_no_bias(c, hidden, mlp.pp("w1"))?,
                w2: linear_no_bias(hidden, c, mlp.pp("w2"))?,
                w3: linear_no_bias(c, hidden, mlp.pp("w3"))?,
                cache: KvCache::new(2, n),
            })
        };
        // Place 0, the class, has neither cosine nor sine in the original.
        let (d, side) = (c / heads, n.isqrt());
        let mut angles = vec![None; d / 2];
        for i in 0..n - 1 {
            angles.extend((0..d / 2).map(|p| {
                let along = if p < d / 4 { i / side } else { i % side };
                Some(along as f32 * 10_000f32.powf(-((2 * (p % (d / 4))) as f32) / (d / 2) as f32))
            }));
        }
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|a| a.map_or(0.0, f)).collect();
            Tensor::from_vec(values, (n, d / 2), &Device::Cpu)
        };
        let model = Self {
            heads,
            classes: embedding(classes + 1, c, w.pp("cls_embedding.embedding_table"))?,
            tokens: embedding(v, c, w.pp("tok_embeddings"))?,
            blocks: (0..layers).map(|l| block(w.pp(format!("layers.{l}")))).collect::<Result<_>>()?,
            norm: rms_norm(c, 1e-5, w.pp("norm"))?,
            output: linear_no_bias(c, v, w.pp("output"))?,
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
        };
        Ok((model, classes))
    }

    fn logits(&mut self, mut x: Tensor, place: usize) -> Result<Tensor> {
        let (cos, sin) = (self.cos.narrow(0, place, 1)?, self.sin.narrow(0, place, 1)?);
        for block in &mut self.blocks {
            x = block.forward(&x, self.heads, &cos, &sin)?;
        }
        Ok(self.output.forward(&self.norm.forward(&x)?.i((.., 0))?)?)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, class, scale, count] = &args[..] else {
        return Err("usage: peer-candle-llamagen FOLDER CLASS SCALE TOKENS".into());
    };
    let (class, scale, count): (u32, f64, usize) = (class.parse()?, scale.parse()?, count.parse()?);
    let (mut model, none) = Model::load(folder)?;
    let rows = |ids: [u32; 2]| Tensor::new(&ids, &Device::Cpu)?.reshape((2, 1));
    let mut x = model.classes.forward(&rows([class, none as u32])?)?;
    let mut ids = Vec::with_capacity(count);
    let mut start = Instant::now();
    for place in 0..count {
        let logits = model.logits(x, place)?;
        let (given, free) = (logits.i(0)?, logits.i(1)?);
        let id = (&free + ((given - &free)? * scale)?)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
        ids.push(id);
        x = model.tokens.forward(&rows([id, id])?)?;
        if place == 0 {
            start = Instant::now();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"engine\": \"candle 0.11.1\", \"tokens_per_second\": {}, \"ids\": {ids:?}}}",
        (count - 1) as f64 / seconds
    );
    Ok(())
}
