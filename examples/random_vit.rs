//! Writes a Hugging Face ViT folder of a named size with random weights, to time and test real
//! sizes without a download: `cargo run --release --example random_vit -- b/16 target/vit-b`.
//!
//! Weights are uniform with deviation 1/sqrt(fan-in), so that activations stay of order one
//! through all layers; the seed is fixed, so two runs write the same bytes.
#![allow(missing_docs, reason = "an example")]

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [size, folder] = args.as_slice() else {
        return Err("usage: random_vit (ti|s|b|l)/PATCH FOLDER".into());
    };
    let (name, patch) = size.split_once('/').ok_or("a size looks like b/16")?;
    let patch: usize = patch.parse()?;
    let (hidden, layers, heads) = match name {
        "ti" => (192, 12, 3),
        "s" => (384, 12, 6),
        "b" => (768, 12, 12),
        "l" => (1024, 24, 16),
        _ => return Err("sizes are ti, s, b, l".into()),
    };
    let tokens = (224 / patch) * (224 / patch) + 1;
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| shapes.push((name.to_owned(), shape.to_vec()));
    add("vit.embeddings.cls_token", &[1, 1, hidden]);
    add("vit.embeddings.position_embeddings", &[1, tokens, hidden]);
    add("vit.embeddings.patch_embeddings.projection.weight", &[hidden, 3, patch, patch]);
    add("vit.embeddings.patch_embeddings.projection.bias", &[hidden]);
    for layer in 0..layers {
        let p = format!("vit.encoder.layer.{layer}");
        for (part, out, inner) in [
            ("attention.attention.query", hidden, hidden),
            ("attention.attention.key", hidden, hidden),
            ("attention.attention.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", 4 * hidden, hidden),
            ("output.dense", hidden, 4 * hidden),
        ] {
            add(&format!("{p}.{part}.weight"), &[out, inner]);
            add(&format!("{p}.{part}.bias"), &[out]);
        }
        for norm in ["layernorm_before", "layernorm_after"] {
            add(&format!("{p}.{norm}.weight"), &[hidden]);
            add(&format!("{p}.{norm}.bias"), &[hidden]);
        }
    }
    add("vit.layernorm.weight", &[hidden]);
    add("vit.layernorm.bias", &[hidden]);
    add("classifier.weight", &[1000, hidden]);
    add("classifier.bias", &[1000]);

    let mut state = 1u64;
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, shape) in shapes {
        let fan_in: usize = shape.iter().skip(1).product();
        let deviation = if shape.len() > 1 { (fan_in as f32).sqrt().recip() } else { 0.1 };
        let offset = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let count: usize = shape.iter().product();
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Uniform in (-√3, √3) has deviation one.
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 3f32.sqrt() * deviation + offset
        };
        let bytes = (0..count).flat_map(|_| next().to_le_bytes()).collect();
        tensors.insert(name, (shape, bytes));
    }
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, (shape, bytes))| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()?;
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?;
    let config = serde_json::json!({
        "architectures": ["ViTForImageClassification"], "model_type": "vit",
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, "patch_size": patch, "image_size": 224, "num_channels": 3,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "qkv_bias": true,
        "id2label": (0..1000).map(|i| (i.to_string(), format!("LABEL_{i}"))).collect::<BTreeMap<_, _>>(),
    });
    std::fs::write(folder.join("config.json"), serde_json::to_string_pretty(&config)?)?;
    let preprocessor = serde_json::json!({
        "image_processor_type": "ViTImageProcessor", "do_resize": true, "resample": 2,
        "size": {"height": 224, "width": 224}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
        "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    std::fs::write(folder.join("preprocessor_config.json"), serde_json::to_string_pretty(&preprocessor)?)?;
    println!("wrote {} tensors to {}", tensors.len(), folder.display());
    Ok(())
}
