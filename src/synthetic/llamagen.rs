//! LlamaGen's and RandAR's sizes with random weights, made on the fly, decoder and image
//! tokenizer: to profile and time real sizes there need not be a download or a file. Elements as in
//! [`crate::synthetic::vision`]; the images mean nothing.

use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::synthetic::vision::generate;

/// Sizes by name: width C, layers, heads H.
const SIZES: [(&str, [usize; 3]); 7] = [
    ("llamagen-b", [768, 12, 12]),
    ("llamagen-l", [1024, 24, 16]),
    ("llamagen-xl", [1280, 36, 20]),
    ("llamagen-xxl", [1536, 48, 24]),
    ("llamagen-3b", [3200, 24, 32]),
    ("randar-0.3b", [1024, 24, 16]),
    ("randar-0.7b", [1280, 36, 20]),
];
/// Codes, their width, classes.
const CODES: usize = 16_384;
const CODE_WIDTH: usize = 8;
const CLASSES: usize = 1000;
/// The tokenizer VQ-16.
const CH: usize = 128;
const MULT: [usize; 5] = [1, 1, 2, 2, 4];
const LATENT: usize = 256;
const BLOCKS: usize = 2;

/// A LlamaGen or RandAR of a named size, not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticLlamaGen {
    name: &'static str,
    width: usize,
    layers: usize,
    heads: usize,
    side: usize,
}

/// Names and dimensions.
type Tensors = Vec<(String, Vec<usize>)>;

impl SyntheticLlamaGen {
    /// A size by name, as in `llamagen-b`, or `llamagen-b/384` for images of 384 pixels.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn named(name: &str) -> Result<Self> {
        let text = name.trim().to_ascii_lowercase();
        let (size, picture) = text.split_once('/').unwrap_or((&text, "256"));
        let side = match picture {
            "256" => Some(16),
            "384" => Some(24),
            _ => None,
        };
        let found = SIZES.iter().find(|(known, _)| *known == size).zip(side);
        let Some(((name, [width, layers, heads]), side)) = found else {
            let sizes: Vec<&str> = SIZES.iter().map(|(size, _)| *size).collect();
            let help = format!("one of {}, and /384 for the larger image", sizes.join(", "));
            return Err(Error::usage(format!("there is no synthetic model `{name}`"), help));
        };
        Ok(Self { name, width: *width, layers: *layers, heads: *heads, side })
    }

    /// What `config.json` would say.
    pub fn config(&self) -> Value {
        json!({
            "model_type": if self.any_order() { "randar" } else { "llamagen" },
            "dim": self.width, "n_layer": self.layers, "n_head": self.heads, "vocab_size": CODES,
            "num_classes": CLASSES, "block_size": self.side * self.side, "cls_token_num": 1,
            "norm_eps": 1e-5, "rope_base": 10_000, "codebook_embed_dim": CODE_WIDTH,
            "codebook_l2_norm": true, "ch": CH, "ch_mult": MULT, "z_channels": LATENT,
        })
    }

    /// The decoder's tensors.
    pub fn decoder(&self) -> Checkpoint {
        Checkpoint::generated(&format!("synthetic:{}", self.name), self.decoder_tensors(), generate)
    }

    /// The tokenizer's tensors.
    pub fn tokenizer(&self) -> Checkpoint {
        Checkpoint::generated("synthetic:vq-16", tokenizer_tensors(), generate)
    }

    fn any_order(&self) -> bool {
        self.name.starts_with("randar")
    }

    fn decoder_tensors(&self) -> Tensors {
        let c = self.width;
        let mlp = (8 * c / 3).next_multiple_of(256);
        let mut list: Tensors = vec![
            ("cls_embedding.embedding_table.weight".to_owned(), vec![CLASSES + 1, c]),
            ("tok_embeddings.weight".to_owned(), vec![CODES, c]),
        ];
        if self.any_order() {
            list.push(("pos_instruct_embeddings".to_owned(), vec![1, c]));
        }
        for l in 0..self.layers {
            for (part, dims) in [
                ("attention.wqkv", vec![3 * c, c]),
                ("attention.wo", vec![c, c]),
                ("feed_forward.w1", vec![mlp, c]),
                ("feed_forward.w3", vec![mlp, c]),
                ("feed_forward.w2", vec![c, mlp]),
                ("attention_norm", vec![c]),
                ("ffn_norm", vec![c]),
            ] {
                list.push((format!("layers.{l}.{part}.weight"), dims));
            }
        }
        list.push(("norm.weight".to_owned(), vec![c]));
        list.push(("output.weight".to_owned(), vec![CODES, c]));
        list
    }
}

/// Convolutions and norms, collected.
#[derive(Default)]
struct Collected(Tensors);

impl Collected {
    fn conv(&mut self, name: &str, out: usize, inner: usize, side: usize) {
        self.0.push((format!("{name}.weight"), vec![out, inner, side, side]));
        self.0.push((format!("{name}.bias"), vec![out]));
    }

    fn norm(&mut self, name: &str, channels: usize) {
        for part in ["weight", "bias"] {
            self.0.push((format!("{name}.{part}"), vec![channels]));
        }
    }

    fn block(&mut self, name: &str, inner: usize, out: usize) {
        self.norm(&format!("{name}.norm1"), inner);
        self.conv(&format!("{name}.conv1"), out, inner, 3);
        self.norm(&format!("{name}.norm2"), out);
        self.conv(&format!("{name}.conv2"), out, out, 3);
        if inner != out {
            self.conv(&format!("{name}.nin_shortcut"), out, inner, 1);
        }
    }

    fn attention(&mut self, name: &str, channels: usize) {
        self.norm(&format!("{name}.norm"), channels);
        for part in ["q", "k", "v", "proj_out"] {
            self.conv(&format!("{name}.{part}"), channels, channels, 1);
        }
    }

    fn mid(&mut self, name: &str, channels: usize) {
        self.block(&format!("{name}.mid.0"), channels, channels);
        self.attention(&format!("{name}.mid.1"), channels);
        self.block(&format!("{name}.mid.2"), channels, channels);
    }

    fn level(&mut self, name: &str, blocks: usize, mut inner: usize, level: usize) -> usize {
        let out = CH * MULT[level];
        for r in 0..blocks {
            self.block(&format!("{name}.res.{r}"), inner, out);
            if level + 1 == MULT.len() {
                self.attention(&format!("{name}.attn.{r}"), out);
            }
            inner = out;
        }
        out
    }
}

fn tokenizer_tensors() -> Tensors {
    let last = MULT.len() - 1;
    let deepest = CH * MULT[last];
    let mut all = Collected(vec![("quantize.embedding.weight".to_owned(), vec![CODES, CODE_WIDTH])]);
    all.conv("post_quant_conv", LATENT, CODE_WIDTH, 1);
    all.conv("decoder.conv_in", deepest, LATENT, 3);
    all.mid("decoder", deepest);
    let mut channels = deepest;
    for (block, level) in (0..=last).rev().enumerate() {
        let name = format!("decoder.conv_blocks.{block}");
        channels = all.level(&name, BLOCKS + 1, channels, level);
        if level > 0 {
            all.conv(&format!("{name}.upsample.conv"), channels, channels, 3);
        }
    }
    all.norm("decoder.norm_out", channels);
    all.conv("decoder.conv_out", 3, channels, 3);

    all.conv("encoder.conv_in", CH, 3, 3);
    channels = CH;
    for level in 0..=last {
        let name = format!("encoder.conv_blocks.{level}");
        channels = all.level(&name, BLOCKS, channels, level);
        if level < last {
            all.conv(&format!("{name}.downsample.conv"), channels, channels, 3);
        }
    }
    all.mid("encoder", channels);
    all.norm("encoder.norm_out", channels);
    all.conv("encoder.conv_out", LATENT, channels, 3);
    all.conv("quant_conv", CODE_WIDTH, LATENT, 1);
    all.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_paper() {
        for (name, millions) in
            [("llamagen-b", 111.0), ("llamagen-l/384", 343.0), ("llamagen-xl", 775.0), ("randar-0.3b", 343.0)]
        {
            let got = SyntheticLlamaGen::named(name).unwrap().decoder().parameters() as f64 / 1e6;
            assert!((got - millions).abs() < 1.0, "{name}: {got}");
        }
        let tokenizer = SyntheticLlamaGen::named("llamagen-b").unwrap().tokenizer();
        assert!((tokenizer.parameters() as f64 / 1e6 - 71.9).abs() < 0.1, "{}", tokenizer.parameters());
        for name in ["llamagen", "llamagen-b/512", "vit-b/16", ""] {
            assert!(
                SyntheticLlamaGen::named(name)
                    .unwrap_err()
                    .hint()
                    .is_some_and(|h| h.to_string().contains("llamagen-xl"))
            );
        }
    }
}
