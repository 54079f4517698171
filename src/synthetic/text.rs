//! BERT, GPT-2 and T5 of the published sizes with random weights, made on the fly: to profile
//! and time real sizes there need not be a download or a file.
//!
//! What is made is what a Hugging Face folder holds, without a tokenizer: token ids are given directly.
//! Names are as in the published files: GPT-2 has no prefix and no head of its own. Elements as in
//! [`crate::synthetic::vision`], with the fan-in of each family's matrices, so that activations stay of
//! order one, no softmax is one-hot, and greedy ids differ from token to token, to be compared between
//! engines. The answers mean nothing.

use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::synthetic::vision::uniform;

/// Names and dimensions.
type Tensors = Vec<(String, Vec<usize>)>;

/// Makes the elements of a tensor from its name and dimensions.
type Make = fn(&str, &[usize]) -> Vec<f32>;

/// What the three families need to know of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// With a head for three classes.
    Bert {
        width: usize,
        layers: usize,
        heads: usize,
    },
    Gpt2 {
        width: usize,
        layers: usize,
        heads: usize,
    },
    /// `gated` is v1.1: two input matrices in the MLP and a head of its own.
    T5 {
        width: usize,
        layers: usize,
        heads: usize,
        hidden: usize,
        gated: bool,
    },
}

/// Sizes by name.
const SIZES: [(&str, Size); 10] = [
    ("bert-base", Size::Bert { width: 768, layers: 12, heads: 12 }),
    ("bert-large", Size::Bert { width: 1024, layers: 24, heads: 16 }),
    ("gpt2", Size::Gpt2 { width: 768, layers: 12, heads: 12 }),
    ("gpt2-medium", Size::Gpt2 { width: 1024, layers: 24, heads: 16 }),
    ("gpt2-large", Size::Gpt2 { width: 1280, layers: 36, heads: 20 }),
    ("gpt2-xl", Size::Gpt2 { width: 1600, layers: 48, heads: 25 }),
    ("t5-small", Size::T5 { width: 512, layers: 6, heads: 8, hidden: 2048, gated: false }),
    ("t5-base", Size::T5 { width: 768, layers: 12, heads: 12, hidden: 3072, gated: false }),
    ("flan-t5-small", Size::T5 { width: 512, layers: 8, heads: 6, hidden: 1024, gated: true }),
    ("flan-t5-base", Size::T5 { width: 768, layers: 12, heads: 12, hidden: 2048, gated: true }),
];

/// Tokens known to each family, and places of the two that have a table of places.
const BERT_VOCABULARY: usize = 30_522;
const BERT_PLACES: usize = 512;
const GPT2_VOCABULARY: usize = 50_257;
const GPT2_PLACES: usize = 1024;
const T5_VOCABULARY: usize = 32_128;
/// T5's width of a head, whatever C is, and its buckets of distances.
const T5_HEAD: usize = 64;
const T5_BUCKETS: usize = 32;

/// A BERT, GPT-2 or T5 of a named size, not made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntheticText {
    name: &'static str,
    size: Size,
}

impl SyntheticText {
    /// A size by name, as in `gpt2-medium`.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn named(name: &str) -> Result<Self> {
        let text = name.trim().to_ascii_lowercase();
        let found = SIZES.iter().find(|(known, _)| *known == text);
        let Some((name, size)) = found else {
            let help = format!("one of {}", Self::names().collect::<Vec<_>>().join(", "));
            return Err(Error::usage(format!("there is no synthetic model `{name}`"), help));
        };
        Ok(Self { name, size: *size })
    }

    /// The names there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SIZES.iter().map(|(name, _)| *name)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What `config.json` would say.
    pub fn config(&self) -> Value {
        match self.size {
            Size::Bert { width, layers, heads } => json!({
                "architectures": ["BertForSequenceClassification"], "model_type": "bert",
                "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
                "intermediate_size": 4 * width, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
                "vocab_size": BERT_VOCABULARY, "max_position_embeddings": BERT_PLACES,
                "type_vocab_size": 2, "pad_token_id": 0, "initializer_range": 0.02,
                "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
                "id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"},
                "label2id": {"entailment": 0, "neutral": 1, "contradiction": 2},
            }),
            Size::Gpt2 { width, layers, heads } => json!({
                "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
                "n_embd": width, "n_layer": layers, "n_head": heads,
                "n_positions": GPT2_PLACES, "n_ctx": GPT2_PLACES, "vocab_size": GPT2_VOCABULARY,
                "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
                "bos_token_id": GPT2_VOCABULARY - 1, "eos_token_id": GPT2_VOCABULARY - 1,
            }),
            Size::T5 { width, layers, heads, hidden, gated } => json!({
                "architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
                "d_model": width, "d_kv": T5_HEAD, "d_ff": hidden,
                "num_layers": layers, "num_decoder_layers": layers, "num_heads": heads,
                "vocab_size": T5_VOCABULARY, "relative_attention_num_buckets": T5_BUCKETS,
                "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
                "feed_forward_proj": if gated { "gated-gelu" } else { "relu" },
                "tie_word_embeddings": !gated, "is_encoder_decoder": true,
                "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
                "dropout_rate": 0.1, "initializer_factor": 1.0, "use_cache": true,
            }),
        }
    }

    /// The tensors, by name.
    pub fn checkpoint(&self) -> Checkpoint {
        let (tensors, make): (Tensors, Make) = match self.size {
            Size::Bert { width, layers, .. } => (bert(width, layers), bert_elements),
            Size::Gpt2 { width, layers, .. } => (gpt2(width, layers), gpt2_elements),
            Size::T5 { width, layers, heads, hidden, gated } => {
                (t5(width, layers, heads * T5_HEAD, hidden, gated, heads), t5_elements)
            }
        };
        Checkpoint::generated(&format!("synthetic:{}", self.name), tensors, make)
    }
}

/// `NAME.weight` of these dimensions and `NAME.bias` as long as the `bias` says.
fn with_bias(list: &mut Tensors, name: &str, weight: &[usize], bias: usize) {
    list.push((format!("{name}.weight"), weight.to_vec()));
    list.push((format!("{name}.bias"), vec![bias]));
}

fn bert(c: usize, layers: usize) -> Tensors {
    let mut list: Tensors = Vec::new();
    for (table, rows) in [("word", BERT_VOCABULARY), ("position", BERT_PLACES), ("token_type", 2)] {
        list.push((format!("bert.embeddings.{table}_embeddings.weight"), vec![rows, c]));
    }
    with_bias(&mut list, "bert.embeddings.LayerNorm", &[c], c);
    for layer in 0..layers {
        let layer = format!("bert.encoder.layer.{layer}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value"] {
            with_bias(&mut list, &format!("{layer}.{part}"), &[c, c], c);
        }
        with_bias(&mut list, &format!("{layer}.attention.output.dense"), &[c, c], c);
        with_bias(&mut list, &format!("{layer}.attention.output.LayerNorm"), &[c], c);
        with_bias(&mut list, &format!("{layer}.intermediate.dense"), &[4 * c, c], 4 * c);
        with_bias(&mut list, &format!("{layer}.output.dense"), &[c, 4 * c], c);
        with_bias(&mut list, &format!("{layer}.output.LayerNorm"), &[c], c);
    }
    with_bias(&mut list, "bert.pooler.dense", &[c, c], c);
    with_bias(&mut list, "classifier", &[3, c], 3);
    list
}

fn gpt2(c: usize, layers: usize) -> Tensors {
    let mut list: Tensors = vec![
        ("wte.weight".to_owned(), vec![GPT2_VOCABULARY, c]),
        ("wpe.weight".to_owned(), vec![GPT2_PLACES, c]),
    ];
    for layer in 0..layers {
        // These matrices are stored by (in, out).
        for (part, inner, out) in [
            ("attn.c_attn", c, 3 * c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", c, 4 * c),
            ("mlp.c_proj", 4 * c, c),
        ] {
            with_bias(&mut list, &format!("h.{layer}.{part}"), &[inner, out], out);
        }
        for norm in ["ln_1", "ln_2"] {
            with_bias(&mut list, &format!("h.{layer}.{norm}"), &[c], c);
        }
    }
    with_bias(&mut list, "ln_f", &[c], c);
    list
}

fn t5(c: usize, layers: usize, inner: usize, hidden: usize, gated: bool, heads: usize) -> Tensors {
    let mut list: Tensors = vec![("shared.weight".to_owned(), vec![T5_VOCABULARY, c])];
    let mut add = |name: String, dims: &[usize]| list.push((format!("{name}.weight"), dims.to_vec()));
    for (stack, parts) in
        [("encoder", &["SelfAttention"][..]), ("decoder", &["SelfAttention", "EncDecAttention"][..])]
    {
        for layer in 0..layers {
            let layer_name = format!("{stack}.block.{layer}.layer");
            for (i, part) in parts.iter().enumerate() {
                for matrix in ["q", "k", "v"] {
                    add(format!("{layer_name}.{i}.{part}.{matrix}"), &[inner, c]);
                }
                add(format!("{layer_name}.{i}.{part}.o"), &[c, inner]);
                add(format!("{layer_name}.{i}.layer_norm"), &[c]);
            }
            if layer == 0 {
                add(format!("{layer_name}.0.SelfAttention.relative_attention_bias"), &[T5_BUCKETS, heads]);
            }
            let mlp = format!("{layer_name}.{}", parts.len());
            for matrix in if gated { &["wi_0", "wi_1"][..] } else { &["wi"][..] } {
                add(format!("{mlp}.DenseReluDense.{matrix}"), &[hidden, c]);
            }
            add(format!("{mlp}.DenseReluDense.wo"), &[c, hidden]);
            add(format!("{mlp}.layer_norm"), &[c]);
        }
        add(format!("{stack}.final_layer_norm"), &[c]);
    }
    if gated {
        add("lm_head".to_owned(), &[T5_VOCABULARY, c]);
    }
    list
}

/// Elements of a tensor whose matrix sums over `inner`, `gain` times what keeps the deviation;
/// vectors are norms' weights or biases.
fn elements(name: &str, dims: &[usize], inner: usize, gain: f32, norm: bool) -> Vec<f32> {
    let deviation = if dims.len() > 1 { gain / (inner as f32).sqrt() } else { 0.1 };
    // A head tied to the embedding favours the token that it is given, and greedy drawing would never
    // leave it: the norm before the head turns the sign.
    let last = name.starts_with("ln_f.") || name.starts_with("decoder.final_");
    let one = if last { -1.0 } else { 1.0 };
    uniform(name, dims, deviation, if norm && name.ends_with("weight") { one } else { 0.0 })
}

fn bert_elements(name: &str, dims: &[usize]) -> Vec<f32> {
    elements(name, dims, dims[dims.len() - 1], 1.0, name.contains("LayerNorm"))
}

/// What the blocks add together is less than what the embedding began with, or else all tokens would
/// come to look alike and draw the same one.
const BLOCK_GAIN: f32 = 0.2;

fn gpt2_elements(name: &str, dims: &[usize]) -> Vec<f32> {
    let inner = if name.contains(".c_") { dims[0] } else { dims[dims.len() - 1] };
    let gain = match name {
        "wte.weight" | "wpe.weight" => 4.0,
        _ if name.ends_with(".c_proj.weight") => BLOCK_GAIN * 0.2,
        _ => 1.0,
    };
    elements(name, dims, inner, gain, name.contains("ln_"))
}

fn t5_elements(name: &str, dims: &[usize]) -> Vec<f32> {
    let last = dims[dims.len() - 1];
    // Scores are not divided by the root of the head's width: trained queries are that much smaller.
    let inner = if name.ends_with(".q.weight") { last * T5_HEAD } else { last };
    let gain = match name {
        "shared.weight" => (last as f32).sqrt(),
        _ if name.ends_with(".o.weight") || name.ends_with(".wo.weight") => BLOCK_GAIN,
        _ => 1.0,
    };
    elements(name, dims, inner, gain, name.contains("norm"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_published_files() {
        for (name, parameters) in [
            ("bert-base", 109_484_547),
            ("bert-large", 335_144_963),
            ("gpt2", 124_439_808),
            ("gpt2-medium", 354_823_168),
            ("gpt2-large", 774_030_080),
            ("gpt2-xl", 1_557_611_200),
            ("t5-small", 60_506_624),
            ("t5-base", 222_903_552),
            ("flan-t5-small", 76_961_152),
            ("Flan-T5-base ", 247_577_856),
        ] {
            let made = SyntheticText::named(name).unwrap();
            assert_eq!(made.checkpoint().parameters(), parameters, "{name}");
            assert!(made.config()["model_type"].is_string());
        }
        assert_eq!(SyntheticText::names().count(), SIZES.len());
        for name in ["t5", "bert", "gpt-2", "vit-b/16", ""] {
            let e = SyntheticText::named(name).unwrap_err();
            assert!(e.hint().is_some_and(|h| h.to_string().contains("gpt2-xl")), "{name}: {e}");
        }
    }

    #[test]
    fn elements_have_the_deviation_that_their_place_needs() {
        let deviation = |values: &[f32]| {
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt())
        };
        let near = |got: (f32, f32), mean: f32, want: f32| {
            assert!((got.0 - mean).abs() < 0.05 && (got.1 / want - 1.0).abs() < 0.1, "{got:?} {want}");
        };
        near(
            deviation(&gpt2_elements("h.0.mlp.c_proj.weight", &[3072, 768])),
            0.0,
            0.04 * 3072f32.powf(-0.5),
        );
        near(deviation(&gpt2_elements("h.0.mlp.c_fc.weight", &[768, 3072])), 0.0, 768f32.powf(-0.5));
        near(deviation(&gpt2_elements("h.0.ln_1.weight", &[768])), 1.0, 0.1);
        near(deviation(&gpt2_elements("ln_f.weight", &[768])), -1.0, 0.1);
        near(deviation(&gpt2_elements("wte.weight", &[300, 768])), 0.0, 4.0 * 768f32.powf(-0.5));
        near(deviation(&bert_elements("bert.embeddings.LayerNorm.weight", &[768])), 1.0, 0.1);
        near(deviation(&bert_elements("bert.embeddings.LayerNorm.bias", &[768])), 0.0, 0.1);
        near(
            deviation(&t5_elements("a.SelfAttention.q.weight", &[768, 768])),
            0.0,
            (768f32 * 64.0).powf(-0.5),
        );
        near(deviation(&t5_elements("a.layer_norm.weight", &[768])), 1.0, 0.1);
    }
}
