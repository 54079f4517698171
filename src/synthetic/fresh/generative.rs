//! Generators of images to be trained from nothing, by their configuration. Weights begin as the originals':
//! LlamaGen's (`initialize_weights` of its `gpt.py`) of the normal distribution of deviation 0.02, the output layer
//! zero; ImageGPT's (transformers 5.23) likewise, but for the layers that write to the residual stream, whose
//! deviation is that over the square root of twice the number of layers.

use serde_json::Value as Json;

use super::initial::{Begun, Initial, count, drawn};
use crate::error::Result;
use crate::synthetic::Made;

/// Deviation of weights, where the configuration does not say.
const DEVIATION: f64 = 0.02;

/// A LlamaGen by a `config.json` of its sizes, weights drawn by `seed`; its codec is not made.
///
/// # Errors
/// [`crate::Error::Model`] for a field that cannot be meant.
pub fn llamagen(name: &str, config: &Json, seed: u64) -> Result<Made> {
    let field = |key: &str, usual: usize| count(name, config, key, usual);
    let (c, layers) = (field("dim", 768)?, field("n_layer", 12)?);
    let (vocabulary, classes) = (field("vocab_size", 16_384)?, field("num_classes", 1000)?);
    let hidden = field("hidden_dim", (8 * c / 3).next_multiple_of(256))?;
    let mut list: Vec<Begun> = Vec::new();
    let mut add = |name: String, dims: &[usize], initial: Initial| list.push((name, dims.to_vec(), initial));
    let normal = || Initial::Normal(DEVIATION);
    // One row more, that stands for no class.
    add("cls_embedding.embedding_table.weight".to_owned(), &[classes + 1, c], normal());
    add("tok_embeddings.weight".to_owned(), &[vocabulary, c], normal());
    for l in 0..layers {
        for (part, dims) in [
            ("attention.wqkv", [3 * c, c]),
            ("attention.wo", [c, c]),
            ("feed_forward.w1", [hidden, c]),
            ("feed_forward.w3", [hidden, c]),
            ("feed_forward.w2", [c, hidden]),
        ] {
            add(format!("layers.{l}.{part}.weight"), &dims, normal());
        }
        for norm in ["attention_norm", "ffn_norm"] {
            add(format!("layers.{l}.{norm}.weight"), &[c], Initial::All(1.0));
        }
    }
    add("norm.weight".to_owned(), &[c], Initial::All(1.0));
    add("output.weight".to_owned(), &[vocabulary, c], Initial::All(0.0));
    made(name, config, list, seed)
}

/// An ImageGPT by its Hugging Face `config.json` (`model_type: imagegpt`), weights drawn by `seed`; its colours are
/// not made.
///
/// # Errors
/// [`crate::Error::Model`] for a field that cannot be meant.
pub fn imagegpt(name: &str, config: &Json, seed: u64) -> Result<Made> {
    let field = |key: &str, usual: usize| count(name, config, key, usual);
    let (c, layers) = (field("n_embd", 512)?, field("n_layer", 24)?);
    let (vocabulary, places) = (field("vocab_size", 513)?, field("n_positions", 1024)?);
    let hidden = field("n_inner", 4 * c)?;
    let deviation = config.get("initializer_range").and_then(Json::as_f64).unwrap_or(DEVIATION);
    let mut list: Vec<Begun> = Vec::new();
    let mut add = |name: String, dims: &[usize], initial: Initial| list.push((name, dims.to_vec(), initial));
    add("transformer.wte.weight".to_owned(), &[vocabulary, c], Initial::Normal(deviation));
    add("transformer.wpe.weight".to_owned(), &[places, c], Initial::Normal(deviation));
    for l in 0..layers {
        for (part, dims) in [
            ("attn.c_attn", [c, 3 * c]),
            ("attn.c_proj", [c, c]),
            ("mlp.c_fc", [c, hidden]),
            ("mlp.c_proj", [hidden, c]),
        ] {
            let smaller = if part.ends_with("c_proj") { (2.0 * layers as f64).sqrt() } else { 1.0 };
            add(format!("transformer.h.{l}.{part}.weight"), &dims, Initial::Normal(deviation / smaller));
            add(format!("transformer.h.{l}.{part}.bias"), &dims[1..], Initial::All(0.0));
        }
        for norm in ["ln_1", "ln_2"] {
            add(format!("transformer.h.{l}.{norm}.weight"), &[c], Initial::All(1.0));
        }
    }
    add("transformer.ln_f.weight".to_owned(), &[c], Initial::All(1.0));
    // The start token is never drawn.
    let drawn = vocabulary.saturating_sub(1).max(1);
    add("lm_head.weight".to_owned(), &[drawn, c], Initial::Normal(deviation));
    made(name, config, list, seed)
}

fn made(name: &str, config: &Json, tensors: Vec<Begun>, seed: u64) -> Result<Made> {
    let checkpoint = drawn(name, tensors, seed)?;
    let (name, config) = (name.to_owned(), config.clone());
    Ok(Made { name, config, preprocessor: None, checkpoint, codec: None })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    #[test]
    fn new_models_have_the_tensors_of_published_ones() {
        type Make = fn(&str, &Json, u64) -> Result<Made>;
        for (folder, file, make) in
            [("llamagen", "gpt.safetensors", llamagen as Make), ("imagegpt", "model.safetensors", imagegpt)]
        {
            let place = format!("tests/golden/{folder}");
            let text = std::fs::read_to_string(format!("{place}/config.json")).unwrap();
            let mut config: Json = serde_json::from_str(&text).unwrap();
            if folder == "llamagen" {
                config["hidden_dim"] = 96.into();
            }
            let made = make("new", &config, 3).unwrap().checkpoint;
            let known = Checkpoint::open(format!("{place}/{file}").as_ref(), false).unwrap();
            let shapes = |c: &Checkpoint| c.index().clone();
            assert_eq!(shapes(&made), shapes(&known), "{folder}");
            let deviation = |name: &str| {
                let x = made.read(name).unwrap().to_f32();
                (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt()
            };
            let near = |name: &str, want: f32| {
                assert!((deviation(name) - want).abs() <= 0.06 * want, "{name}: {}", deviation(name));
            };
            if folder == "llamagen" {
                near("layers.1.attention.wqkv.weight", 0.02);
                near("output.weight", 0.0);
            } else {
                near("transformer.h.0.mlp.c_fc.weight", 0.02);
                near("transformer.h.0.mlp.c_proj.weight", 0.01);
                near("transformer.ln_f.weight", 1.0);
            }
        }
    }
}
