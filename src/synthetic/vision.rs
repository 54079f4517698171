//! Plain Vision Transformers of the well-known sizes with random weights, made on the fly:
//! to profile, time and test real sizes there need not be a download or a file.
//!
//! What is made is what a Hugging Face ViT folder holds: a configuration, a preprocessor
//! configuration and tensors. Elements are made when they are read, by a generator seeded with the
//! tensor's name: uniform with deviation 1/sqrt(fan-in), so that activations stay of order one
//! through all layers, and the same in every run. The answers mean nothing.

use std::collections::BTreeMap;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Sizes by name: width C, layers, heads H, hidden width F of the MLP.
const SIZES: [(&str, [usize; 4]); 6] = [
    ("vit-ti", [192, 12, 3, 768]),
    ("vit-s", [384, 12, 6, 1536]),
    ("vit-b", [768, 12, 12, 3072]),
    ("vit-l", [1024, 24, 16, 4096]),
    ("vit-h", [1280, 32, 16, 5120]),
    ("vit-g", [1408, 40, 16, 6144]),
];

/// Sides of a patch in pixels.
const PATCHES: [usize; 5] = [8, 14, 16, 28, 32];

/// Side of the image in pixels.
const SIDE: usize = 224;

/// Number of classes.
const CLASSES: usize = 1000;

/// A ViT of a named size, not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synthetic {
    name: String,
    width: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    patch: usize,
    side: usize,
    classes: usize,
}

impl Synthetic {
    /// A size by name, as in `vit-b/16`; `b/16` will do.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn named(name: &str) -> Result<Self> {
        let text = name.trim().to_ascii_lowercase();
        let found = text.split_once('/').and_then(|(size, patch)| {
            let patch = patch.parse().ok().filter(|p| PATCHES.contains(p))?;
            let is = |known: &str| known == size || known.trim_start_matches("vit-") == size;
            let (known, sizes) = SIZES.iter().find(|(known, _)| is(known))?;
            Some((*known, *sizes, patch))
        });
        let Some((size, [width, layers, heads, hidden], patch)) = found else {
            let sizes: Vec<&str> = SIZES.iter().map(|(size, _)| *size).collect();
            let patches: Vec<String> = PATCHES.iter().map(usize::to_string).collect();
            let help = format!(
                "one of {}, a slash, and a patch of {} pixels: vit-b/16",
                sizes.join(", "),
                patches.join(", ")
            );
            return Err(Error::usage(format!("there is no synthetic model `{name}`"), help));
        };
        Ok(Self {
            name: format!("{size}/{patch}"),
            width,
            layers,
            heads,
            hidden,
            patch,
            side: SIDE,
            classes: CLASSES,
        })
    }

    /// The size that a Hugging Face configuration of a ViT describes.
    ///
    /// # Errors
    /// [`Error::Model`] for another type of model, or a field that is missing.
    pub fn of_config(name: &str, config: &serde_json::Value) -> Result<Self> {
        if config["model_type"] != "vit" {
            let what = "is no configuration that a new model is made by (`model_type`: vit, vit_mae, bert, gpt2, t5, \
                        llamagen, imagegpt)";
            return Err(Error::model(name, what, "name an architecture of timm instead"));
        }
        let field = |key: &str| {
            let found = config[key].as_u64().filter(|n| (1..=1 << 20).contains(n));
            found.map(|n| n as usize).ok_or_else(|| {
                Error::model(
                    name,
                    format!("`{key}` is not a number above 0"),
                    "see the configuration of a ViT",
                )
            })
        };
        let classes = config["id2label"].as_object().map_or(2, serde_json::Map::len);
        Ok(Self {
            name: name.to_owned(),
            width: field("hidden_size")?,
            layers: field("num_hidden_layers")?,
            heads: field("num_attention_heads")?,
            hidden: field("intermediate_size")?,
            patch: field("patch_size")?,
            side: field("image_size")?,
            classes,
        })
    }

    /// Its name in full.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `config.json` would say.
    pub fn config(&self) -> serde_json::Value {
        let labels: BTreeMap<String, String> =
            (0..self.classes).map(|i| (i.to_string(), format!("LABEL_{i}"))).collect();
        serde_json::json!({
            "architectures": ["ViTForImageClassification"], "model_type": "vit",
            "hidden_size": self.width, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "intermediate_size": self.hidden,
            "patch_size": self.patch, "image_size": self.side, "num_channels": 3,
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": true, "id2label": labels,
        })
    }

    /// What `preprocessor_config.json` would say.
    pub fn preprocessor(&self) -> serde_json::Value {
        serde_json::json!({
            "image_processor_type": "ViTImageProcessor", "do_resize": true, "resample": 2,
            "size": {"height": self.side, "width": self.side}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        })
    }

    /// The tensors, by name.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::generated(&format!("synthetic:{}", self.name), self.tensors(), generate)
    }

    /// Names and dimensions of the tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { width, layers, hidden, patch, side, classes, .. } = *self;
        let tokens = (side / patch) * (side / patch) + 1;
        let mut list: Vec<(String, Vec<usize>)> = Vec::new();
        let mut add = |name: String, dims: &[usize]| list.push((name, dims.to_vec()));
        let embeddings = "vit.embeddings";
        add(format!("{embeddings}.cls_token"), &[1, 1, width]);
        add(format!("{embeddings}.position_embeddings"), &[1, tokens, width]);
        add(format!("{embeddings}.patch_embeddings.projection.weight"), &[width, 3, patch, patch]);
        add(format!("{embeddings}.patch_embeddings.projection.bias"), &[width]);
        for layer in 0..layers {
            let layer = format!("vit.encoder.layer.{layer}");
            for (part, out, inner) in [
                ("attention.attention.query", width, width),
                ("attention.attention.key", width, width),
                ("attention.attention.value", width, width),
                ("attention.output.dense", width, width),
                ("intermediate.dense", hidden, width),
                ("output.dense", width, hidden),
            ] {
                add(format!("{layer}.{part}.weight"), &[out, inner]);
                add(format!("{layer}.{part}.bias"), &[out]);
            }
            for norm in ["layernorm_before", "layernorm_after"] {
                add(format!("{layer}.{norm}.weight"), &[width]);
                add(format!("{layer}.{norm}.bias"), &[width]);
            }
        }
        for (name, rows) in [("vit.layernorm", None), ("classifier", Some(classes))] {
            add(format!("{name}.weight"), &rows.map_or(vec![width], |rows| vec![rows, width]));
            add(format!("{name}.bias"), &[rows.unwrap_or(width)]);
        }
        list
    }
}

/// The elements of a tensor.
pub(super) fn generate(name: &str, dims: &[usize]) -> Vec<f32> {
    let fan_in: usize = dims.iter().skip(1).product();
    let deviation = if dims.len() > 1 { (fan_in as f32).sqrt().recip() } else { 0.1 };
    let offset = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
    uniform(name, dims, deviation, offset)
}

/// Elements of this deviation about `offset`, by a generator that is seeded with the name.
pub(crate) fn uniform(name: &str, dims: &[usize], deviation: f32, offset: f32) -> Vec<f32> {
    // Uniform in (-√3, √3) has deviation one.
    let scale = 3f32.sqrt() * deviation;
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale + offset
    };
    (0..dims.iter().product::<usize>()).map(|_| next()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_papers() {
        for (name, millions) in [
            ("vit-ti/16", 5.7),
            ("s/16", 22.1),
            ("ViT-B/16", 86.6),
            ("vit-b/32", 88.2),
            ("vit-l/16", 304.3),
            ("vit-h/14", 632.0),
        ] {
            let checkpoint = Synthetic::named(name).unwrap().checkpoint();
            let got = checkpoint.parameters() as f64 / 1e6;
            assert!((got - millions).abs() < 0.06, "{name}: {got}");
        }
    }

    #[test]
    fn unknown_names_are_told_what_there_is() {
        for name in ["vit-b", "vit-b/15", "vit-x/16", "", "b/", "vit-b/16/16", "vit-b/99999999999999999999"] {
            let e = Synthetic::named(name).unwrap_err();
            assert!(
                e.hint().map(ToString::to_string).is_some_and(|h| h.contains("vit-ti") && h.contains("14")),
                "{name}: {e}"
            );
        }
        assert_eq!(Synthetic::named(" B/16 ").unwrap().name(), "vit-b/16");
    }

    #[test]
    fn elements_repeat_and_have_the_deviation_they_should() {
        let values = generate("a.weight", &[300, 400]);
        assert_eq!(values, generate("a.weight", &[300, 400]));
        assert_ne!(values[..9], generate("b.weight", &[300, 400])[..9]);
        let square = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
        assert!((square.sqrt() * 20.0 - 1.0).abs() < 0.02, "{square}");
        let norm = generate("norm.weight", &[1000]);
        assert!((norm.iter().sum::<f32>() / 1000.0 - 1.0).abs() < 0.02);
    }
}
