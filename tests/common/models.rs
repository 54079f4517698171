//! The models that the tests of shaders, plans, recording and faults share: the embedded one, the
//! golden cases, ViT-B/16, and small ViTs of any shape whose weights are noise.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::materialise::materialise;
use vit_gpu::graph::{Graph, TensorIndex, Weight};
use vit_gpu::models::{self, FAMILIES, Family, Model, ModelKind};
use vit_gpu::tensor::{DType, HostTensor, Shape, TensorDesc};
use vit_gpu::{Result, selftest};

/// A model and where its weights come from.
pub struct Net {
    /// Name in messages and of snapshot files.
    pub name: String,
    /// The model.
    pub model: Box<dyn Model>,
    /// The checkpoint; without one, weights are noise.
    pub checkpoint: Option<Checkpoint>,
}

impl Net {
    /// A model of a checkpoint folder; weights may lie in another folder.
    fn open(name: &str, folder: &Path, weights: &Path) -> Self {
        let checkpoint = Checkpoint::open(weights, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        let config = read_json(&folder.join("config.json")).unwrap_or_else(|| panic!("{name}: no config"));
        let model = models::from_config(&config, checkpoint.index(), None)
            .and_then(models::AnyModel::vision)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), model, checkpoint: Some(checkpoint) }
    }

    /// The classifier of shapes that the library embeds.
    pub fn builtin() -> Self {
        let folder = root().join("assets/builtin-shapes");
        Self::open("builtin_shapes", &folder, &folder)
    }

    /// One case of `tests/golden`.
    pub fn golden(name: &str) -> Self {
        let goldens = root().join("tests/golden");
        let folder = goldens.join(name);
        let case = read_json(&folder.join("case.json")).unwrap_or_else(|| panic!("{name}: no case.json"));
        let weights = case["weights_from"].as_str().map_or(folder.clone(), |other| goldens.join(other));
        Self::open(name, &folder, &weights)
    }

    /// Every case of `tests/golden` that is a model and not refused, by name.
    pub fn goldens() -> Vec<Self> {
        let entries = std::fs::read_dir(root().join("tests/golden")).unwrap();
        let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        folders.sort();
        let names = folders.iter().filter_map(|folder| {
            let case = read_json(&folder.join("case.json"))?;
            let family = case["family"].as_str()?.to_owned();
            let pickle = folder.join("pytorch_model.bin").exists();
            // An adapter is no model: tests/lora.rs.
            let adapter = folder.join("adapter_config.json").exists();
            let vision = |f: &Family| f.kind() == ModelKind::Vision && f.name == family;
            // Two towers: tests/dual.rs.
            let towers = case["tensors"]["in.input_ids"].is_array();
            let known = FAMILIES.iter().any(vision) && !pickle && !adapter && !towers;
            known.then(|| folder.file_name().unwrap().to_str().unwrap())
        });
        names.map(Self::golden).collect()
    }

    /// ViT-B/16 at 224x224 with the 1000 classes of ImageNet.
    pub fn vit_base() -> Self {
        let shape =
            VitShape { image: 224, patch: 16, hidden: 768, heads: 12, mlp: 3072, layers: 12, classes: 1000 };
        Self { name: "vit_base_patch16_224".to_owned(), ..shape.net() }
    }

    /// A small timm ViT without class token, mean-pooled: one token if the image is one patch.
    pub fn gap(image: usize, patch: usize, hidden: usize, heads: usize, classes: usize) -> Self {
        let config = json!({
            "architecture": "vit_medium_patch16_gap_256",
            "num_classes": classes,
            "model_args": {
                "img_size": [image, image], "patch_size": patch, "embed_dim": hidden, "depth": 1,
                "num_heads": heads, "in_chans": 3, "global_pool": "avg",
            },
        });
        let tokens = (image / patch) * (image / patch);
        let mut index = TensorIndex::new();
        let mut add = |name: &str, dims: &[usize]| {
            index.insert(name.to_owned(), Shape::new(dims));
        };
        add("patch_embed.proj.weight", &[hidden, 3, patch, patch]);
        add("patch_embed.proj.bias", &[hidden]);
        add("pos_embed", &[1, tokens, hidden]);
        add("blocks.0.attn.qkv.weight", &[3 * hidden, hidden]);
        for (name, rows, columns) in
            [("attn.proj", hidden, hidden), ("mlp.fc1", 4 * hidden, hidden), ("mlp.fc2", hidden, 4 * hidden)]
        {
            add(&format!("blocks.0.{name}.weight"), &[rows, columns]);
            add(&format!("blocks.0.{name}.bias"), &[rows]);
        }
        for name in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
            add(&format!("{name}.weight"), &[hidden]);
            add(&format!("{name}.bias"), &[hidden]);
        }
        for name in ["blocks.0.ls1.gamma", "blocks.0.ls2.gamma"] {
            add(name, &[hidden]);
        }
        add("head.weight", &[classes, hidden]);
        add("head.bias", &[classes]);
        let model = models::from_config(&config, &index, None)
            .and_then(models::AnyModel::vision)
            .unwrap_or_else(|e| panic!("gap: {e}"));
        Self { name: format!("gap {image}/{patch}x{hidden}"), model, checkpoint: None }
    }

    /// The graph of every output for a batch of the trained size: from bytes, as images come, or
    /// from planes, as tensors come. The input is named `image`.
    pub fn whole_graph(&self, batch: usize, bytes: bool) -> Graph {
        let info = self.model.info();
        let [h, w] = info.image_size.into();
        let mut g = Graph::new();
        let image = if bytes {
            let image = g.input("image", TensorDesc::new(DType::U8, [batch, h, w, 3]));
            g.scope("pixels");
            g.normalise(image, [1.0 / 127.5; 3], [-1.0; 3])
        } else {
            g.input("image", TensorDesc::f32([batch, info.channels, h, w]))
        };
        self.model.build(&mut g, image).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        g
    }

    /// The output people ask for first: logits, or what a model without classes gives.
    pub fn main_output(&self) -> &'static str {
        let info = self.model.info();
        let outputs = self.whole_graph(1, false);
        let has = |name: &str| outputs.outputs().iter().any(|(n, _)| n == name);
        let wanted = if info.classes.is_some() { "logits" } else { "embedding" };
        if has(wanted) { wanted } else { "last_hidden_state" }
    }

    /// The graph of the main output alone.
    pub fn graph(&self, batch: usize, bytes: bool) -> Graph {
        self.whole_graph(batch, bytes).select(&[self.main_output()]).unwrap()
    }

    /// A weight: from the checkpoint, or noise that keeps activations of order one.
    pub fn weight(&self, weight: &Weight, shape: Shape) -> Result<HostTensor> {
        match &self.checkpoint {
            Some(checkpoint) => materialise(weight, shape, checkpoint),
            None => Ok(noise_weight(weight, shape)),
        }
    }
}

/// Sizes of a ViT as Hugging Face builds it: class token, learned positions, pre-norm, one head.
#[derive(Debug, Clone, Copy)]
pub struct VitShape {
    /// Pixels of a side.
    pub image: usize,
    /// Pixels of a patch's side.
    pub patch: usize,
    /// Token width C.
    pub hidden: usize,
    /// Heads H.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Layers.
    pub layers: usize,
    /// Classes.
    pub classes: usize,
}

impl VitShape {
    /// Tokens T: the class token and the patches.
    pub fn tokens(&self) -> usize {
        1 + (self.image / self.patch) * (self.image / self.patch)
    }

    /// The model, with noise for weights.
    pub fn net(&self) -> Net {
        let model = models::from_config(&self.config(), &self.index(), None)
            .and_then(models::AnyModel::vision)
            .unwrap_or_else(|e| panic!("{self:?}: {e}"));
        Net { name: format!("{self:?}"), model, checkpoint: None }
    }

    fn config(&self) -> Json {
        json!({
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            "image_size": self.image,
            "patch_size": self.patch,
            "num_channels": 3,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.mlp,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "qkv_bias": true,
            "num_labels": self.classes,
        })
    }

    /// Names and shapes of the checkpoint that would belong to the configuration.
    fn index(&self) -> TensorIndex {
        let c = self.hidden;
        let mut index = TensorIndex::new();
        let mut add = |name: String, dims: &[usize]| {
            index.insert(name, Shape::new(dims));
        };
        add("vit.embeddings.cls_token".to_owned(), &[1, 1, c]);
        add("vit.embeddings.position_embeddings".to_owned(), &[1, self.tokens(), c]);
        add("vit.embeddings.patch_embeddings.projection.weight".to_owned(), &[c, 3, self.patch, self.patch]);
        add("vit.embeddings.patch_embeddings.projection.bias".to_owned(), &[c]);
        let mut norms = vec!["vit.layernorm".to_owned()];
        let mut linears = vec![("classifier".to_owned(), self.classes, c)];
        for l in 0..self.layers {
            let p = format!("vit.encoder.layer.{l}");
            norms.extend([format!("{p}.layernorm_before"), format!("{p}.layernorm_after")]);
            let attention = ["attention.query", "attention.key", "attention.value", "output.dense"];
            linears.extend(attention.map(|name| (format!("{p}.attention.{name}"), c, c)));
            linears.push((format!("{p}.intermediate.dense"), self.mlp, c));
            linears.push((format!("{p}.output.dense"), c, self.mlp));
        }
        for name in norms {
            add(format!("{name}.weight"), &[c]);
            add(format!("{name}.bias"), &[c]);
        }
        for (name, rows, columns) in linears {
            add(format!("{name}.weight"), &[rows, columns]);
            add(format!("{name}.bias"), &[rows]);
        }
        index
    }
}

/// Noise in place of a checkpoint, matrices scaled so that sums over their rows stay of order one.
pub fn noise_weight(weight: &Weight, shape: Shape) -> HostTensor {
    let inner: usize = shape.dims().iter().skip(1).product();
    let scale = if shape.dims().len() > 1 { (3.0 / inner as f32).sqrt() } else { 1.0 };
    let data = selftest::weight(weight, shape).to_f32();
    HostTensor::f32(shape, data.into_iter().map(|x| x * scale).collect())
}

/// An image of noise in about [-1, 1], different for each seed.
pub fn noise_image(shape: impl Into<Shape>, seed: u64) -> HostTensor {
    let shape = shape.into();
    let name = format!("image {seed}");
    HostTensor::f32(shape, selftest::weight(&Weight::tensor(name), shape).to_f32())
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_json(path: &Path) -> Option<Json> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}
