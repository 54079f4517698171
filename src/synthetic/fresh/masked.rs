//! Masked autoencoders to be trained from nothing, by the configuration of a ViT-MAE; their weights begin as
//! `ViTMAEForPreTraining` of transformers 5.23 means them to: linear layers and tokens of the normal distribution of
//! deviation `initializer_range`, the kernel of patches evenly as a linear layer of Glorot & Bengio (2010), positions
//! fixed sines of both axes (He et al. 2021). Names are those of the published files.

use serde_json::{Value as Json, json};

use super::initial::{Begun, Initial, check_size, count, drawn};
use crate::error::{Error, Result};
use crate::synthetic::Made;

/// A ViT-MAE by its Hugging Face `config.json` (`model_type: vit_mae`), weights drawn by `seed`.
///
/// # Errors
/// [`Error::Model`] for a field that cannot be meant.
pub fn of_config(name: &str, config: &Json, seed: u64) -> Result<Made> {
    let side = count(name, config, "image_size", 224)?;
    let checkpoint = drawn(name, tensors(name, config, side)?, seed)?;
    let preprocessor = json!({
        "image_processor_type": "ViTImageProcessor", "do_resize": true, "resample": 2,
        "size": {"height": side, "width": side}, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
        "do_normalize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    });
    let (name, config, preprocessor) = (name.to_owned(), config.clone(), Some(preprocessor));
    Ok(Made { name, config, preprocessor, checkpoint, codec: None })
}

/// Widths of an encoder's layers: C, F.
struct Layers {
    count: usize,
    width: usize,
    hidden: usize,
}

fn tensors(name: &str, config: &Json, side: usize) -> Result<Vec<Begun>> {
    let field = |key: &str, usual: usize| count(name, config, key, usual);
    let (patch, channels) = (field("patch_size", 16)?, field("num_channels", 3)?);
    let (width, layers) = (field("hidden_size", 768)?, field("num_hidden_layers", 12)?);
    let encoder = Layers { count: layers, width, hidden: field("intermediate_size", 3072)? };
    let (narrow, layers) = (field("decoder_hidden_size", 512)?, field("decoder_num_hidden_layers", 8)?);
    let decoder = Layers { count: layers, width: narrow, hidden: field("decoder_intermediate_size", 2048)? };
    let deviation = config.get("initializer_range").and_then(Json::as_f64).unwrap_or(0.02);
    let bias = config.get("qkv_bias").and_then(Json::as_bool).unwrap_or(true);
    if patch > side {
        let what = format!("a patch of {patch} pixels does not fit into an image of {side}");
        return Err(Error::model(name, what, "`patch_size` is the side of a patch"));
    }
    if let Some(odd) = [width, narrow].iter().find(|width| !width.is_multiple_of(4)) {
        let what = format!("a width of {odd} does not divide into sines and cosines of two axes");
        return Err(Error::model(name, what, "`hidden_size` and `decoder_hidden_size` are multiples of 4"));
    }
    let grid = side / patch;
    let n = grid * grid;
    let elements = patch * patch * channels;
    // The tables are computed before anything is made.
    check_size(name, n.saturating_add(1).saturating_mul(width + narrow))?;
    let normal = |name: &str, dims: &[usize]| (name.to_owned(), dims.to_vec(), Initial::Normal(deviation));
    let zeros = |name: &str, dims: &[usize]| (name.to_owned(), dims.to_vec(), Initial::All(0.0));
    let sines = |name: &str, width: usize| {
        (name.to_owned(), vec![1, 1 + n, width], Initial::Given(positions(grid, width)))
    };
    let embeddings = "vit.embeddings";
    let kernel = Initial::Uniform((6.0 / (elements + width) as f64).sqrt());
    let mut list = vec![
        normal("vit.embeddings.cls_token", &[1, 1, width]),
        sines("vit.embeddings.position_embeddings", width),
        (
            format!("{embeddings}.patch_embeddings.projection.weight"),
            vec![width, channels, patch, patch],
            kernel,
        ),
        zeros(&format!("{embeddings}.patch_embeddings.projection.bias"), &[width]),
    ];
    add_layers(&mut list, "vit.encoder.layer", &encoder, deviation, bias);
    add_norm(&mut list, "vit.layernorm", width);
    list.push(normal("decoder.mask_token", &[1, 1, narrow]));
    list.push(sines("decoder.decoder_pos_embed", narrow));
    list.push(normal("decoder.decoder_embed.weight", &[narrow, width]));
    list.push(zeros("decoder.decoder_embed.bias", &[narrow]));
    add_layers(&mut list, "decoder.decoder_layers", &decoder, deviation, bias);
    add_norm(&mut list, "decoder.decoder_norm", narrow);
    list.push(normal("decoder.decoder_pred.weight", &[elements, narrow]));
    list.push(zeros("decoder.decoder_pred.bias", &[elements]));
    Ok(list)
}

fn add_norm(list: &mut Vec<Begun>, name: &str, width: usize) {
    list.push((format!("{name}.weight"), vec![width], Initial::All(1.0)));
    list.push((format!("{name}.bias"), vec![width], Initial::All(0.0)));
}

fn add_layers(list: &mut Vec<Begun>, stem: &str, layers: &Layers, deviation: f64, qkv_bias: bool) {
    let Layers { count, width, hidden } = *layers;
    for layer in 0..count {
        let layer = format!("{stem}.{layer}");
        for (part, out, inner) in [
            ("attention.attention.query", width, width),
            ("attention.attention.key", width, width),
            ("attention.attention.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", hidden, width),
            ("output.dense", width, hidden),
        ] {
            list.push((format!("{layer}.{part}.weight"), vec![out, inner], Initial::Normal(deviation)));
            if qkv_bias || !part.starts_with("attention.attention") {
                list.push((format!("{layer}.{part}.bias"), vec![out], Initial::All(0.0)));
            }
        }
        add_norm(list, &format!("{layer}.layernorm_before"), width);
        add_norm(list, &format!("{layer}.layernorm_after"), width);
    }
}

/// Sines and cosines of the column, then of the row, of each place of a square grid, behind zeros for the class token:
/// (1+N,C). Published weights have the axes in this order (`initialize_weights` of transformers' ViTMAEEmbeddings).
fn positions(grid: usize, width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let frequency = |i: usize| 10_000f64.powf(-(i as f64) / quarter as f64);
    let mut table = vec![0.0; width];
    for place in 0..grid * grid {
        for along in [place % grid, place / grid] {
            let angles = || (0..quarter).map(|i| along as f64 * frequency(i));
            table.extend(angles().map(|angle| angle.sin() as f32));
            table.extend(angles().map(|angle| angle.cos() as f32));
        }
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn positions_are_sines_of_column_and_row() {
        let table = positions(2, 8);
        assert_eq!(table.len(), 5 * 8);
        assert_eq!(table[..8], [0.0; 8]);
        // The first patch: sin 0, cos 0 of both axes.
        assert_eq!(table[8..16], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        // Row 1, column 0, of frequencies 1 and 1/100.
        let row = [0.0, 0.0, 1.0, 1.0, 1f32.sin(), 0.01f32.sin(), 1f32.cos(), 0.01f32.cos()];
        for (got, want) in table[24..32].iter().zip(row) {
            assert!((got - want).abs() < 1e-7, "{:?}", &table[24..32]);
        }
    }

    #[test]
    fn a_new_model_has_the_tensors_of_a_published_one() {
        let text = std::fs::read_to_string("tests/golden/vit_mae/config.json").unwrap();
        let config = serde_json::from_str(&text).unwrap();
        let made = of_config("new", &config, 3).unwrap();
        let known = crate::checkpoint::Checkpoint::open("tests/golden/vit_mae".as_ref(), false).unwrap();
        // Recorded names are of transformers 5, published ones older.
        let old = |name: &String| name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.");
        let of = |c: &crate::checkpoint::Checkpoint| -> Vec<(String, Vec<usize>)> {
            let mut all: Vec<_> = c.index().iter().map(|(n, s)| (old(n), s.dims().to_vec())).collect();
            all.sort();
            all
        };
        assert_eq!(of(&made.checkpoint), of(&known));
        let read = |name: &str| made.checkpoint.read(name).unwrap().to_f32();
        let deviation = |x: &[f32]| (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
        let linear = deviation(&read("decoder.decoder_pred.weight"));
        assert!((linear / 0.02 - 1.0).abs() < 0.05, "{linear}");
        // Uniform within b has deviation b / sqrt 3.
        let kernel = deviation(&read("vit.embeddings.patch_embeddings.projection.weight"));
        assert!((kernel / (2.0f32 / (192.0 + 36.0)).sqrt() - 1.0).abs() < 0.05, "{kernel}");
        assert!(read("vit.layernorm.weight").iter().all(|x| *x == 1.0));
        let wrong = serde_json::json!({"model_type": "vit_mae", "hidden_size": 30});
        assert!(of_config("new", &wrong, 3).err().unwrap().message().contains("width of 30"));
        let wrong = serde_json::json!({"model_type": "vit_mae", "image_size": 1_000_000});
        assert!(of_config("new", &wrong, 3).err().unwrap().message().contains("too large"));
        let wrong = serde_json::json!({"model_type": "vit_mae", "intermediate_size": 1_000_000});
        assert!(of_config("new", &wrong, 3).err().unwrap().message().contains("too large"));
        let wrong = serde_json::json!({"model_type": "vit_mae", "hidden_size": "wide"});
        assert!(of_config("new", &wrong, 3).err().unwrap().message().contains("`hidden_size`"));
    }
}
