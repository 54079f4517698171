//! CLIP and SigLIP of well-known sizes with random weights: both towers, without a tokenizer. Elements are made when they
//! are read, as those of [`super::vision`] are.

use serde_json::{Value as Json, json};

use super::vision::generate;
use crate::checkpoint::Checkpoint;

/// Width C, layers, heads H, hidden width F of the MLP.
type Sizes = [usize; 4];

/// A model of two towers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntheticTowers {
    name: &'static str,
    siglip: bool,
    image: Sizes,
    patch: usize,
    side: usize,
    text: Sizes,
    vocabulary: usize,
    positions: usize,
    /// Width of the shared space E.
    shared: usize,
}

const BASE: Sizes = [768, 12, 12, 3072];
const SO400M: Sizes = [1152, 27, 16, 4304];

const CLIP_BASE: SyntheticTowers = SyntheticTowers {
    name: "clip-b/32",
    siglip: false,
    image: BASE,
    patch: 32,
    side: 224,
    text: [512, 12, 8, 2048],
    vocabulary: 49408,
    positions: 77,
    shared: 512,
};

const SIGLIP_BASE: SyntheticTowers = SyntheticTowers {
    name: "siglip-b/16",
    siglip: true,
    image: BASE,
    patch: 16,
    side: 224,
    text: BASE,
    vocabulary: 32_000,
    positions: 64,
    shared: 768,
};

/// Those there are.
const ALL: [SyntheticTowers; 5] = [
    CLIP_BASE,
    SyntheticTowers { name: "clip-b/16", patch: 16, ..CLIP_BASE },
    SyntheticTowers {
        name: "clip-l/14",
        image: [1024, 24, 16, 4096],
        patch: 14,
        text: BASE,
        shared: 768,
        ..CLIP_BASE
    },
    SIGLIP_BASE,
    SyntheticTowers {
        name: "siglip-so400m/14",
        image: SO400M,
        patch: 14,
        side: 384,
        text: SO400M,
        shared: 1152,
        ..SIGLIP_BASE
    },
];

impl SyntheticTowers {
    /// A model by name, as in `clip-b/32`.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|model| model.name == name.trim().to_ascii_lowercase())
    }

    /// The names there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|model| model.name)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What `config.json` would say.
    pub fn config(&self) -> Json {
        let tower = |[c, layers, heads, f]: Sizes| {
            json!({
                "hidden_size": c, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": f,
            })
        };
        let (mut text, mut vision) = (tower(self.text), tower(self.image));
        text["vocab_size"] = self.vocabulary.into();
        text["max_position_embeddings"] = self.positions.into();
        vision["image_size"] = self.side.into();
        vision["patch_size"] = self.patch.into();
        if !self.siglip {
            text["eos_token_id"] = (self.vocabulary - 1).into();
        }
        let (class, model_type) = if self.siglip { ("SiglipModel", "siglip") } else { ("CLIPModel", "clip") };
        json!({
            "architectures": [class], "model_type": model_type, "projection_dim": self.shared,
            "text_config": text, "vision_config": vision,
        })
    }

    /// What `preprocessor_config.json` would say.
    pub fn preprocessor(&self) -> Json {
        match self.siglip {
            true => json!({
                "image_processor_type": "SiglipImageProcessor", "size": {"height": self.side, "width": self.side},
            }),
            false => json!({
                "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": self.side},
                "crop_size": {"height": self.side, "width": self.side},
            }),
        }
    }

    /// The tensors, by name.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::generated(&format!("synthetic:{}", self.name), self.tensors(), generate)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { siglip, image, patch, side, text, vocabulary, positions, shared, .. } = *self;
        let mut list: Vec<(String, Vec<usize>)> = Vec::new();
        let c = image[0];
        let grid = (side / patch) * (side / patch);
        let prefix = "vision_model.embeddings";
        list.push((format!("{prefix}.patch_embedding.weight"), vec![c, 3, patch, patch]));
        list.push((format!("{prefix}.position_embedding.weight"), vec![grid + usize::from(!siglip), c]));
        norm(&mut list, "vision_model.post_layernorm", c);
        layers(&mut list, "vision_model", image);
        let [c_text, ..] = text;
        let prefix = "text_model.embeddings";
        list.push((format!("{prefix}.token_embedding.weight"), vec![vocabulary, c_text]));
        list.push((format!("{prefix}.position_embedding.weight"), vec![positions, c_text]));
        norm(&mut list, "text_model.final_layer_norm", c_text);
        layers(&mut list, "text_model", text);
        if siglip {
            list.push(("vision_model.embeddings.patch_embedding.bias".to_owned(), vec![c]));
            list.push(("vision_model.head.probe".to_owned(), vec![1, 1, c]));
            list.push(("vision_model.head.attention.in_proj_weight".to_owned(), vec![3 * c, c]));
            list.push(("vision_model.head.attention.in_proj_bias".to_owned(), vec![3 * c]));
            linear(&mut list, "vision_model.head.attention.out_proj", [c, c]);
            norm(&mut list, "vision_model.head.layernorm", c);
            linear(&mut list, "vision_model.head.mlp.fc1", [image[3], c]);
            linear(&mut list, "vision_model.head.mlp.fc2", [c, image[3]]);
            linear(&mut list, "text_model.head", [shared, c_text]);
            list.push(("logit_bias".to_owned(), vec![1]));
        } else {
            norm(&mut list, "vision_model.pre_layrnorm", c);
            list.push(("vision_model.embeddings.class_embedding".to_owned(), vec![c]));
            list.push(("visual_projection.weight".to_owned(), vec![shared, c]));
            list.push(("text_projection.weight".to_owned(), vec![shared, c_text]));
        }
        list.push(("logit_scale".to_owned(), vec![1]));
        list
    }
}

fn norm(list: &mut Vec<(String, Vec<usize>)>, name: &str, c: usize) {
    list.extend(["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![c])));
}

fn linear(list: &mut Vec<(String, Vec<usize>)>, name: &str, [out, inner]: [usize; 2]) {
    list.push((format!("{name}.weight"), vec![out, inner]));
    list.push((format!("{name}.bias"), vec![out]));
}

fn layers(list: &mut Vec<(String, Vec<usize>)>, tower: &str, [c, layers, _, f]: Sizes) {
    for layer in 0..layers {
        let layer = format!("{tower}.encoder.layers.{layer}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            linear(list, &format!("{layer}.self_attn.{part}"), [c, c]);
        }
        linear(list, &format!("{layer}.mlp.fc1"), [f, c]);
        linear(list, &format!("{layer}.mlp.fc2"), [c, f]);
        norm(list, &format!("{layer}.layer_norm1"), c);
        norm(list, &format!("{layer}.layer_norm2"), c);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::models;

    #[test]
    fn both_towers_are_whole() {
        for name in SyntheticTowers::names() {
            let made = SyntheticTowers::named(name).unwrap();
            let (config, checkpoint) = (made.config(), made.checkpoint());
            let vision = models::from_config(&config, checkpoint.index(), None).unwrap().vision().unwrap();
            let text = models::text_tower(&config, checkpoint.index()).unwrap().unwrap();
            assert!(vision.info().warnings.is_empty() && text.info().warnings.is_empty(), "{name}");
        }
    }
}
