//! BERT, GPT-2 and T5 by a Hugging Face configuration, drawn as transformers begins them (`_init_weights`).

use serde_json::{Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::tensor::{HostTensor, Shape};

/// Most elements of all tensors together.
const MOST: usize = 1 << 31;

/// How a tensor begins: with one number everywhere, or drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draw {
    Filled(f64),
    /// Of the normal distribution of this deviation.
    Normal(f64),
}

/// Name, dimensions, and how it begins.
type Tensor = (String, Vec<usize>, Draw);

/// Configuration and tensors of a model of texts; `None` for other types. BERT begins with the head for masked words,
/// T5 and GPT-2 with theirs for writing.
///
/// # Errors
/// [`Error::Model`] for a field that makes no sense.
pub(super) fn of_config(name: &str, config: &Json, seed: u64) -> Result<Option<(Json, Checkpoint)>> {
    let fields = Fields { name, config };
    let (class, tensors) = match config["model_type"].as_str() {
        Some("bert") => ("BertForMaskedLM", bert(&fields)?),
        Some("gpt2") => ("GPT2LMHeadModel", gpt2(&fields)?),
        Some("t5") => ("T5ForConditionalGeneration", t5(&fields)?),
        _ => return Ok(None),
    };
    let elements = tensors.iter().map(|(_, dims, _)| dims.iter().product::<usize>());
    let all = elements.fold(0usize, usize::saturating_add);
    if all > MOST {
        return Err(Error::model(
            name,
            format!("{all} weights are too many to draw"),
            "take a smaller model",
        ));
    }
    // The row of padding is nothing, in BERT's table of words.
    let padding = (class == "BertForMaskedLM").then(|| fields.count("pad_token_id", 0)).transpose()?;
    let drawn = tensors.into_iter().map(|(tensor, dims, draw)| {
        let mut random = Random::named(seed, &tensor);
        let count = dims.iter().product();
        let mut values: Vec<f32> = match draw {
            Draw::Filled(value) => vec![value as f32; count],
            Draw::Normal(deviation) => (0..count).map(|_| (deviation * random.normal()) as f32).collect(),
        };
        if let Some(row) = padding.filter(|_| tensor.ends_with("word_embeddings.weight")) {
            values.chunks_mut(dims[1]).nth(row).into_iter().flatten().for_each(|x| *x = 0.0);
        }
        (tensor, HostTensor::f32(Shape::new(&dims), values))
    });
    let checkpoint = Checkpoint::from_tensors(name, drawn)?;
    let mut config = config.clone();
    config["architectures"] = json!([class]);
    Ok(Some((config, checkpoint)))
}

/// Fields of a configuration.
struct Fields<'a> {
    name: &'a str,
    config: &'a Json,
}

impl Fields<'_> {
    fn count(&self, key: &str, usual: usize) -> Result<usize> {
        let value = &self.config[key];
        if value.is_null() {
            return Ok(usual);
        }
        let wrong =
            || Error::model(self.name, format!("`{key}` = {value} is not possible"), "it is a whole number");
        value.as_u64().filter(|n| *n <= 1 << 20).map(|n| n as usize).ok_or_else(wrong)
    }

    fn size(&self, key: &str, usual: usize) -> Result<usize> {
        let wrong = || Error::model(self.name, format!("`{key}` is 0"), "it is 1 or more");
        Some(self.count(key, usual)?).filter(|n| *n > 0).ok_or_else(wrong)
    }

    fn number(&self, key: &str, usual: f64) -> Result<f64> {
        let value = &self.config[key];
        let wrong = || {
            Error::model(
                self.name,
                format!("`{key}` = {value} is not possible"),
                "it is a number of 0 or more",
            )
        };
        if value.is_null() { Ok(usual) } else { value.as_f64().filter(|x| *x >= 0.0).ok_or_else(wrong) }
    }
}

/// A list that tensors are added to.
#[derive(Default)]
struct List(Vec<Tensor>);

impl List {
    fn add(&mut self, name: &str, dims: &[usize], draw: Draw) {
        self.0.push((name.to_owned(), dims.to_vec(), draw));
    }

    /// A linear layer with a bias of `bias` zeros.
    fn linear(&mut self, name: &str, dims: [usize; 2], bias: usize, deviation: f64) {
        self.add(&format!("{name}.weight"), &dims, Draw::Normal(deviation));
        self.add(&format!("{name}.bias"), &[bias], Draw::Filled(0.0));
    }

    fn layer_norm(&mut self, name: &str, c: usize) {
        self.add(&format!("{name}.weight"), &[c], Draw::Filled(1.0));
        self.add(&format!("{name}.bias"), &[c], Draw::Filled(0.0));
    }
}

fn bert(fields: &Fields) -> Result<Vec<Tensor>> {
    let c = fields.size("hidden_size", 768)?;
    let (v, f) = (fields.size("vocab_size", 30522)?, fields.size("intermediate_size", 3072)?);
    let deviation = fields.number("initializer_range", 0.02)?;
    let mut list = List::default();
    let tables = [
        ("word", v),
        ("position", fields.size("max_position_embeddings", 512)?),
        ("token_type", fields.size("type_vocab_size", 2)?),
    ];
    for (table, rows) in tables {
        let name = format!("bert.embeddings.{table}_embeddings.weight");
        list.add(&name, &[rows, c], Draw::Normal(deviation));
    }
    list.layer_norm("bert.embeddings.LayerNorm", c);
    for l in 0..fields.size("num_hidden_layers", 12)? {
        let layer = format!("bert.encoder.layer.{l}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            list.linear(&format!("{layer}.attention.{part}"), [c, c], c, deviation);
        }
        list.layer_norm(&format!("{layer}.attention.output.LayerNorm"), c);
        list.linear(&format!("{layer}.intermediate.dense"), [f, c], f, deviation);
        list.linear(&format!("{layer}.output.dense"), [c, f], c, deviation);
        list.layer_norm(&format!("{layer}.output.LayerNorm"), c);
    }
    // The head for masked words does not read it; that for classes does.
    let class = fields.config["architectures"][0].as_str().unwrap_or_default();
    if class != "BertForMaskedLM" {
        list.linear("bert.pooler.dense", [c, c], c, deviation);
    }
    list.linear("cls.predictions.transform.dense", [c, c], c, deviation);
    list.layer_norm("cls.predictions.transform.LayerNorm", c);
    list.add("cls.predictions.bias", &[v], Draw::Filled(0.0));
    Ok(list.0)
}

fn gpt2(fields: &Fields) -> Result<Vec<Tensor>> {
    let c = fields.size("n_embd", 768)?;
    let (layers, f) = (fields.size("n_layer", 12)?, fields.size("n_inner", 4 * c)?);
    let deviation = fields.number("initializer_range", 0.02)?;
    // Two of each layer are added to what goes on.
    let added = deviation / (2.0 * layers as f64).sqrt();
    let mut list = List::default();
    list.add("transformer.wte.weight", &[fields.size("vocab_size", 50257)?, c], Draw::Normal(deviation));
    list.add("transformer.wpe.weight", &[fields.size("n_positions", 1024)?, c], Draw::Normal(deviation));
    for l in 0..layers {
        let layer = format!("transformer.h.{l}");
        list.layer_norm(&format!("{layer}.ln_1"), c);
        // These matrices are stored by (in, out).
        list.linear(&format!("{layer}.attn.c_attn"), [c, 3 * c], 3 * c, deviation);
        list.linear(&format!("{layer}.attn.c_proj"), [c, c], c, added);
        list.layer_norm(&format!("{layer}.ln_2"), c);
        list.linear(&format!("{layer}.mlp.c_fc"), [c, f], f, deviation);
        list.linear(&format!("{layer}.mlp.c_proj"), [f, c], c, added);
    }
    list.layer_norm("transformer.ln_f", c);
    Ok(list.0)
}

fn t5(fields: &Fields) -> Result<Vec<Tensor>> {
    let (c, d) = (fields.size("d_model", 512)?, fields.size("d_kv", 64)?);
    let (heads, f) = (fields.size("num_heads", 8)?, fields.size("d_ff", 2048)?);
    let (v, buckets) =
        (fields.size("vocab_size", 32128)?, fields.size("relative_attention_num_buckets", 32)?);
    let layers = fields.size("num_layers", 6)?;
    let gated = fields.config["feed_forward_proj"].as_str().is_some_and(|act| act.starts_with("gated"));
    let factor = fields.number("initializer_factor", 1.0)?;
    let by = |n: usize| Draw::Normal(factor * (n as f64).sqrt().recip());
    let gain = Draw::Filled(factor);
    let mut list = List::default();
    list.add("shared.weight", &[v, c], Draw::Normal(factor));
    for (stack, layers) in [("encoder", layers), ("decoder", fields.size("num_decoder_layers", layers)?)] {
        for l in 0..layers {
            let mut part = 0;
            let mut attention = |list: &mut List, name: &str, bias: bool| {
                let layer = format!("{stack}.block.{l}.layer.{part}");
                for (matrix, draw) in [("q", by(c * d)), ("k", by(c)), ("v", by(c))] {
                    list.add(&format!("{layer}.{name}.{matrix}.weight"), &[heads * d, c], draw);
                }
                list.add(&format!("{layer}.{name}.o.weight"), &[c, heads * d], by(heads * d));
                if bias {
                    let name = format!("{layer}.{name}.relative_attention_bias.weight");
                    list.add(&name, &[buckets, heads], by(c));
                }
                list.add(&format!("{layer}.layer_norm.weight"), &[c], gain);
                part += 1;
            };
            attention(&mut list, "SelfAttention", l == 0);
            if stack == "decoder" {
                attention(&mut list, "EncDecAttention", false);
            }
            let layer = format!("{stack}.block.{l}.layer.{part}");
            for matrix in if gated { &["wi_0", "wi_1"][..] } else { &["wi"] } {
                list.add(&format!("{layer}.DenseReluDense.{matrix}.weight"), &[f, c], by(c));
            }
            list.add(&format!("{layer}.DenseReluDense.wo.weight"), &[c, f], by(f));
            list.add(&format!("{layer}.layer_norm.weight"), &[c], gain);
        }
        list.add(&format!("{stack}.final_layer_norm.weight"), &[c], gain);
    }
    // Both say v1.1, whose head is no table of words: configurations of transformers 5 only the second.
    if ["tie_word_embeddings", "scale_decoder_outputs"].iter().any(|key| fields.config[*key] == json!(false))
    {
        list.add("lm_head.weight", &[v, c], Draw::Normal(factor));
    }
    Ok(list.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_tensors_are_those_of_the_files() {
        for model in ["golden/bert_mlm", "toys/gpt2-toy", "toys/t5-toy", "golden/t5_v11"] {
            let folder = std::path::Path::new("tests").join(model);
            let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
            let config: Json = serde_json::from_str(&text).unwrap();
            let (_, made) = of_config("made", &config, 1).unwrap().unwrap();
            let file = Checkpoint::open(&folder.join("model.safetensors"), false).unwrap();
            let shapes = |checkpoint: &Checkpoint| -> Vec<(String, Shape)> {
                checkpoint.index().iter().map(|(name, shape)| (name.clone(), *shape)).collect()
            };
            assert_eq!(shapes(&made), shapes(&file), "{model}");
        }
    }

    #[test]
    fn deviations_are_those_of_transformers() {
        let deviation = |config: Json, name: &str| {
            let (_, made) = of_config("made", &config, 1).unwrap().unwrap();
            let values = made.read(name).unwrap().to_f32().to_vec();
            (values.iter().map(|x| f64::from(x * x)).sum::<f64>() / values.len() as f64).sqrt()
        };
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.1, "{got} {want}");
        let gpt2 =
            || json!({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "vocab_size": 50, "n_positions": 8});
        near(deviation(gpt2(), "transformer.h.1.attn.c_attn.weight"), 0.02);
        near(deviation(gpt2(), "transformer.h.1.mlp.c_proj.weight"), 0.01);
        let t5 = || json!({"model_type": "t5", "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 1, "vocab_size": 50});
        near(deviation(t5(), "shared.weight"), 1.0);
        near(deviation(t5(), "decoder.block.0.layer.1.EncDecAttention.q.weight"), 1.0 / 16.0);
        near(deviation(t5(), "encoder.block.0.layer.1.DenseReluDense.wo.weight"), 0.125);
        let bert = json!({"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 9, "pad_token_id": 3});
        let (config, made) = of_config("made", &bert, 1).unwrap().unwrap();
        let words = made.read("bert.embeddings.word_embeddings.weight").unwrap();
        assert!(
            words.to_f32()[24..32].iter().all(|x| *x == 0.0)
                && words.to_f32()[..24].iter().all(|x| *x != 0.0)
        );
        assert_eq!(config["architectures"][0], "BertForMaskedLM");
        assert!(of_config("made", &json!({"model_type": "vit"}), 1).unwrap().is_none());
        let wrong = json!({"model_type": "gpt2", "n_layer": 0});
        assert!(of_config("made", &wrong, 1).err().unwrap().message().contains("`n_layer` is 0"));
    }
}
