//! Models to be trained from nothing: ViTs by timm's names, with its arguments, or models by their configuration; their
//! weights drawn as the originals draw them.

mod generative;
mod initial;
mod masked;
mod texts;

use serde_json::{Map, Value as Json, json};

use super::Made;
use super::vision::Synthetic;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::models::family_name;
use crate::models::timm::table::{self, Arch, Mlp};
use crate::random::Random;
use crate::tensor::{HostTensor, Shape};

/// Deviation of weights of linear layers, tokens and positions: timm's `init_weights_vit_timm`, transformers'
/// `initializer_range`.
const DEVIATION: f64 = 0.02;

/// Arguments of timm's `VisionTransformer` that are followed here.
const ARGUMENTS: &[&str] = &[
    "class_token",
    "depth",
    "embed_dim",
    "global_pool",
    "img_size",
    "in_chans",
    "init_values",
    "mlp_ratio",
    "num_heads",
    "patch_size",
    "pos_embed",
    "qkv_bias",
    "reg_tokens",
];

/// A ViT by timm's name, such as `vit_tiny_patch16_224`, with arguments such as `img_size` = 64. Weights are drawn
/// by `seed`.
///
/// # Errors
/// [`Error::Usage`] for a name or an argument that is not known here.
pub fn timm(name: &str, arguments: &[(String, Json)], seed: u64) -> Result<Made> {
    let arch = table::find(name).filter(plain);
    let arch = arch.ok_or_else(|| {
        let known = table::names().filter(|known| table::find(known).is_some_and(|arch| plain(&arch)));
        let mut near: Vec<(usize, &str)> =
            known.map(|known| (strsim::levenshtein(known, name), known)).collect();
        near.sort_unstable();
        let near: Vec<&str> =
            near.into_iter().filter(|(far, _)| *far <= 6).take(4).map(|(_, known)| known).collect();
        let help = if near.is_empty() {
            "take one such as vit_tiny_patch16_224".to_owned()
        } else {
            format!("near: {}", near.join(", "))
        };
        Error::usage(format!("`{name}` is no plain Vision Transformer of timm"), help)
    })?;
    let mut args: Map<String, Json> = Map::new();
    for (key, value) in arguments {
        if !ARGUMENTS.contains(&key.as_str()) {
            let what = format!("the argument `{key}` is not known for a new model");
            return Err(Error::usage(what, format!("there are {}", ARGUMENTS.join(", "))));
        }
        args.insert(key.clone(), value.clone());
    }
    let sizes = Sizes::new(&arch, &args)?;
    // timm reads the width of heads and layers from here, whatever the name says.
    args.insert("embed_dim".to_owned(), json!(sizes.width));
    args.insert("num_heads".to_owned(), json!(sizes.heads));
    args.insert("depth".to_owned(), json!(sizes.depth));
    args.insert("img_size".to_owned(), json!(sizes.image));
    args.insert("patch_size".to_owned(), json!(sizes.patch));
    args.insert("num_classes".to_owned(), json!(sizes.classes));
    let config = json!({
        "architecture": name,
        "num_classes": sizes.classes,
        "num_features": sizes.width,
        "global_pool": args.get("global_pool").cloned().unwrap_or(json!(arch.pool)),
        "model_args": args,
        "pretrained_cfg": {
            "input_size": [sizes.channels, sizes.image, sizes.image], "fixed_input_size": true,
            "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": sizes.classes,
            "pool_size": null, "first_conv": "patch_embed.proj", "classifier": "head",
        },
    });
    let checkpoint = drawn(name, sizes.tensors(), sizes.layer_scale.unwrap_or(1.0), seed)?;
    let preprocessor = Some(config.clone());
    Ok(Made { name: name.to_owned(), config, preprocessor, checkpoint, codec: None })
}

/// A model by its `config.json`: a Hugging Face ViT, ViT-MAE, BERT, GPT-2, T5 or ImageGPT, or a LlamaGen (the last two
/// without what makes tokens of images).
///
/// # Errors
/// [`Error::Model`] for another type, or a field that is missing or cannot be meant.
pub fn of_config(name: &str, config: &Json, seed: u64) -> Result<Made> {
    match family_name(config) {
        Some("vit_mae") => return masked::of_config(name, config, seed),
        // RandAR, of the same family, says so.
        Some("llamagen") if config["model_type"] != "randar" => {
            return generative::llamagen(name, config, seed);
        }
        Some("imagegpt") => return generative::imagegpt(name, config, seed),
        _ => {}
    }
    if let Some((config, checkpoint)) = texts::of_config(name, config, seed)? {
        return Ok(Made { name: name.to_owned(), config, preprocessor: None, checkpoint, codec: None });
    }
    let made = Synthetic::of_config(name, config)?;
    let checkpoint = drawn(name, made.tensors(), 1.0, seed)?;
    let (config, preprocessor) = (config.clone(), Some(made.preprocessor()));
    Ok(Made { name: name.to_owned(), config, preprocessor, checkpoint, codec: None })
}

/// Whether an architecture is the plain pre-norm encoder that [`Sizes::tensors`] lists.
fn plain(arch: &Arch) -> bool {
    arch.mlp == Mlp::Plain
        && !arch.rms_norm
        && !arch.pre_norm
        && arch.final_norm
        && !arch.no_embed_class
        && !arch.layer_scale
}

/// What decides the tensors of a timm ViT.
struct Sizes {
    image: usize,
    patch: usize,
    channels: usize,
    width: usize,
    depth: usize,
    heads: usize,
    hidden: usize,
    classes: usize,
    /// Class token and registers.
    tokens: [usize; 2],
    positions: bool,
    qkv_bias: bool,
    layer_scale: Option<f64>,
    /// The norm stands behind the mean over tokens.
    mean: bool,
}

impl Sizes {
    fn new(arch: &Arch, args: &Map<String, Json>) -> Result<Self> {
        let wrong = |key: &str, value: &Json| {
            Error::usage(
                format!("{key} = {value} is not possible"),
                "see timm's VisionTransformer for what it takes",
            )
        };
        let count = |key: &str, usual: usize, least: u64| match args.get(key) {
            None => Ok(usual),
            Some(value) => match value.as_u64().filter(|n| (least..=8192).contains(n)) {
                Some(n) => Ok(n as usize),
                None => Err(wrong(key, value)),
            },
        };
        let switch = |key: &str, usual: bool| match args.get(key) {
            None => Ok(usual),
            Some(value) => value.as_bool().ok_or_else(|| wrong(key, value)),
        };
        let image = count("img_size", arch.image_size[0], 1)?;
        let width = count("embed_dim", arch.hidden, 1)?;
        let usual = arch.mlp_hidden as f64 / arch.hidden as f64;
        let ratio = match args.get("mlp_ratio") {
            None => usual,
            Some(value) => value
                .as_f64()
                .filter(|x| (0.01..=64.0).contains(x))
                .ok_or_else(|| wrong("mlp_ratio", value))?,
        };
        let positions = match args.get("pos_embed").and_then(Json::as_str) {
            None | Some("learn") => true,
            Some("none" | "") => false,
            Some(other) => return Err(wrong("pos_embed", &json!(other))),
        };
        let pool = args.get("global_pool").and_then(Json::as_str).unwrap_or(arch.pool);
        if !["token", "avg"].contains(&pool) {
            return Err(wrong("global_pool", &json!(pool)));
        }
        let class_token = switch("class_token", arch.class_token)?;
        if pool == "token" && !class_token {
            return Err(Error::usage(
                "a model without a class token cannot pool it",
                "set global_pool = avg",
            ));
        }
        let sizes = Self {
            image,
            patch: count("patch_size", arch.patch, 1)?,
            channels: count("in_chans", 3, 1)?,
            width,
            depth: count("depth", arch.depth, 1)?,
            heads: count("num_heads", arch.heads, 1)?,
            hidden: (width as f64 * ratio) as usize,
            classes: 1000,
            tokens: [usize::from(class_token), count("reg_tokens", arch.registers, 0)?],
            positions,
            qkv_bias: switch("qkv_bias", arch.qkv_bias)?,
            layer_scale: args.get("init_values").and_then(Json::as_f64),
            mean: pool == "avg",
        };
        if sizes.patch > image || !sizes.width.is_multiple_of(sizes.heads) {
            let what = format!(
                "patches of {} in {image} pixels, width {width} over {} heads",
                sizes.patch, sizes.heads
            );
            return Err(Error::usage(
                what,
                "a patch fits into the image, and the heads share the width evenly",
            ));
        }
        Ok(sizes)
    }

    /// Names and dimensions of the tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { width, hidden, patch, .. } = *self;
        let grid = self.image / patch;
        let mut list: Vec<(String, Vec<usize>)> = Vec::new();
        let mut add = |name: &str, dims: &[usize]| list.push((name.to_owned(), dims.to_vec()));
        let [cls, registers] = self.tokens;
        if cls > 0 {
            add("cls_token", &[1, 1, width]);
        }
        if registers > 0 {
            add("reg_token", &[1, registers, width]);
        }
        if self.positions {
            add("pos_embed", &[1, cls + registers + grid * grid, width]);
        }
        add("patch_embed.proj.weight", &[width, self.channels, patch, patch]);
        add("patch_embed.proj.bias", &[width]);
        for i in 0..self.depth {
            let block = format!("blocks.{i}");
            for norm in ["norm1", "norm2"] {
                add(&format!("{block}.{norm}.weight"), &[width]);
                add(&format!("{block}.{norm}.bias"), &[width]);
            }
            for (part, out, inner) in [
                ("attn.qkv", 3 * width, width),
                ("attn.proj", width, width),
                ("mlp.fc1", hidden, width),
                ("mlp.fc2", width, hidden),
            ] {
                add(&format!("{block}.{part}.weight"), &[out, inner]);
                if part != "attn.qkv" || self.qkv_bias {
                    add(&format!("{block}.{part}.bias"), &[out]);
                }
            }
            if self.layer_scale.is_some() {
                add(&format!("{block}.ls1.gamma"), &[width]);
                add(&format!("{block}.ls2.gamma"), &[width]);
            }
        }
        let norm = if self.mean { "fc_norm" } else { "norm" };
        add(&format!("{norm}.weight"), &[width]);
        add(&format!("{norm}.bias"), &[width]);
        add("head.weight", &[self.classes, width]);
        add("head.bias", &[self.classes]);
        list
    }
}

/// Tensors with their first values: gains of norms one, biases nothing, all else of the normal distribution; the
/// kernel of patches evenly within 1/sqrt(fan-in), as PyTorch's convolutions begin.
fn drawn(name: &str, tensors: Vec<(String, Vec<usize>)>, layer_scale: f64, seed: u64) -> Result<Checkpoint> {
    let make = |(tensor, dims): (String, Vec<usize>)| {
        let mut random = Random::named(seed, &tensor);
        let fan_in: usize = dims.iter().skip(1).product();
        let bound = (fan_in as f64).sqrt().recip();
        let mut value = || match () {
            () if tensor.contains("norm") && tensor.ends_with("weight") => 1.0,
            () if tensor.ends_with("bias") => 0.0,
            () if tensor.ends_with("gamma") => layer_scale,
            () if dims.len() == 4 => random.uniform(-bound, bound),
            () => DEVIATION * random.normal(),
        };
        let values = (0..dims.iter().product()).map(|_: usize| value() as f32).collect();
        (tensor, HostTensor::f32(Shape::new(&dims), values))
    };
    Checkpoint::from_tensors(name, tensors.into_iter().map(make))
}
