//! Floor 3. The model zoo: one file per family, each reading like its paper.
//!
//! A family takes the parsed `config.json` and the checkpoint's [`TensorIndex`] (names and shapes,
//! never elements), and yields a [`Model`] whose `build` writes the forward pass into a [`Graph`].
//! Every file has the same three steps: read and check the fields (`fields`), find the tensors
//! under whatever prefix and naming the file uses (`names`), build. Before a model is handed out
//! it is built once and every weight of the graph is compared with the checkpoint, so that a wrong
//! or truncated checkpoint is refused by name before anything is allocated.
//!
//! Models declare all outputs they can produce; `Graph::select` keeps what the caller wants. The
//! names mean the same everywhere:
//!
//! | output | shape | meaning |
//! | --- | --- | --- |
//! | `logits` | (B,K) | class scores; with two heads (DeiT) their mean |
//! | `cls_logits`, `distillation_logits` | (B,K) | the two heads of a distilled DeiT |
//! | `embedding` | (B,C) | the pooled features a linear head reads, or would read |
//! | `pooler_output` | (B,C) | what the original calls so |
//! | `image_embeds` | (B,E) | CLIP's projection, not normalised |
//! | `last_hidden_state` | (B,T,C) | as the original's output of that name |
//! | `features` | (B,T,C) | timm's `forward_features` |
//! | `hidden.0`, `hidden.1`, … | (B,T,C) | embedded tokens, then each layer's output |
//! | `attention.0`, … | (B,H,T,T) | softmax weights of each layer |

mod beit;
mod bert;
mod block;
mod clip;
mod deit;
mod dinov2;
mod fields;
mod gpt2;
mod imagegpt;
mod llamagen;
mod names;
mod parts;
mod randar;
pub mod sequence;
mod siglip;
mod t5;
pub mod text;
mod timm;
mod timm_args;
mod timm_stem;
mod timm_table;
mod vit;
mod vit_mae;
pub mod vq;

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Value};
use sequence::PictureDecoder;
use text::TextModel;

/// A network that knows its tensors and can write itself into a graph.
pub trait Model: Send + Sync {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// Writes the forward pass. image: (B,Ch,H,W), normalised; H and W may differ from
    /// [`ModelInfo::image_size`], position tables are then resampled as the original does.
    ///
    /// # Errors
    /// If the image does not fit the model, or the first shape error of the graph.
    fn build(&self, g: &mut Graph, image: Value) -> Result<()>;
}

/// What a model is, for `info`, for preprocessing, and for error messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Family, one of [`FAMILIES`].
    pub family: &'static str,
    /// Class or architecture as the checkpoint names it.
    pub architecture: String,
    /// Rows and columns of pixels the model was made for.
    pub image_size: [usize; 2],
    /// Colour channels.
    pub channels: usize,
    /// Rows and columns of pixels in a patch.
    pub patch: [usize; 2],
    /// Token width C.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Tokens in front of the patches (class, distillation, registers).
    pub prefix_tokens: usize,
    /// True if token 0 is a class token.
    pub cls_token: bool,
    /// Classes of the head; `None` if the checkpoint has no head.
    pub classes: Option<usize>,
    /// Elements of all tensors the model uses.
    pub parameters: u64,
    /// Things worth telling the user: tensors that are not used, a head that is missing.
    pub warnings: Vec<String>,
}

impl ModelInfo {
    /// Patches per column and row at the trained size.
    pub fn grid(&self) -> [usize; 2] {
        [self.image_size[0] / self.patch[0], self.image_size[1] / self.patch[1]]
    }
}

/// One family of models.
pub struct Family {
    /// Short name.
    pub name: &'static str,
    /// What `config.json` says in `model_type`; empty for timm, whose own form has none.
    pub model_types: &'static [&'static str],
    /// One line for help texts and the README.
    pub about: &'static str,
    open: fn(&Json, &TensorIndex) -> Result<Box<dyn Model>>,
}

/// Every family, in the order of the README's table.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "vit",
        model_types: &["vit"],
        about: "ViT: ViTForImageClassification, ViTModel",
        open: vit::open,
    },
    Family {
        name: "deit",
        model_types: &["deit"],
        about: "DeiT: one head, or class and distillation heads",
        open: deit::open,
    },
    Family {
        name: "dinov2",
        model_types: &["dinov2", "dinov2_with_registers"],
        about: "DINOv2, with or without registers, MLP or SwiGLU",
        open: dinov2::open,
    },
    Family {
        name: "clip",
        model_types: &["clip_vision_model", "clip"],
        about: "CLIP image tower, with or without projection, and its classifier",
        open: clip::open,
    },
    Family {
        name: "siglip",
        model_types: &["siglip_vision_model", "siglip"],
        about: "SigLIP image tower with attention pooling, and its classifier",
        open: siglip::open,
    },
    Family {
        name: "beit",
        model_types: &["beit"],
        about: "BEiT: relative position bias, layer scale, mean pooling",
        open: beit::open,
    },
    Family {
        name: "vit_mae",
        model_types: &["vit_mae"],
        about: "ViT-MAE: the encoder, without masking; the pixel decoder is not run",
        open: vit_mae::open,
    },
    Family {
        name: "timm",
        model_types: &["timm_wrapper"],
        about: "timm: vit_*, deit*, flexivit, eva_large, beit3, aimv2, RADIO, two convolution stems",
        open: timm::open,
    },
];

/// Chooses the family by `model_type` (or timm's `architecture`), reads the configuration, checks
/// it against the checkpoint and yields the model.
///
/// # Errors
/// [`Error::Model`] naming the field or the tensors that do not fit.
pub fn from_config(config: &Json, index: &TensorIndex) -> Result<Box<dyn Model>> {
    let Some(object) = config.as_object() else {
        return Err(Error::model(fields::FILE, "is not a JSON object", ""));
    };
    let family = match object.get("model_type") {
        Some(Json::String(model_type)) => {
            FAMILIES.iter().find(|f| f.model_types.contains(&model_type.as_str())).ok_or_else(|| {
                Error::model(
                    fields::FILE,
                    format!("model_type `{model_type}` is not supported"),
                    format!("supported: {}", supported_types()),
                )
            })?
        }
        None | Some(Json::Null) if object.contains_key("architecture") => {
            FAMILIES.iter().find(|f| f.name == "timm").expect("timm is in the list above")
        }
        None | Some(Json::Null) => {
            return Err(Error::model(
                fields::FILE,
                "has neither `model_type` nor timm's `architecture`",
                format!("supported values of `model_type`: {}", supported_types()),
            ));
        }
        Some(other) => {
            return Err(Error::model(
                fields::FILE,
                format!("`model_type` is {other}, expected a string"),
                format!("supported: {}", supported_types()),
            ));
        }
    };
    (family.open)(config, index)
}

/// A generative model: Hugging Face's ImageGPT, or LlamaGen by the keys of its small `config.json`, or
/// RandAR, which has the same keys and a tensor of its own.
/// `picture` is the size (height, width) that the preprocessor states.
///
/// # Errors
/// [`Error::Model`] naming the field or the tensors that do not fit.
pub fn decoder_from_config(
    config: &Json,
    index: &TensorIndex,
    picture: Option<[usize; 2]>,
) -> Result<Box<dyn PictureDecoder>> {
    match decoder_family(config) {
        Some("imagegpt") => imagegpt::open(config, index, picture),
        Some("llamagen") if !index.keys().any(|name| name.ends_with(randar::INSTRUCTION)) => {
            llamagen::open(config, index)
        }
        Some(_) => randar::open(config, index),
        None => Err(Error::model(
            fields::FILE,
            match config.get("model_type").and_then(Json::as_str) {
                Some(other) => format!("model_type `{other}` does not generate pictures"),
                None => "is not the configuration of a model that generates pictures".to_owned(),
            },
            "supported: model_type imagegpt, and the keys of LlamaGen and RandAR (dim, n_layer, n_head, ...)",
        )),
    }
}

/// One family of models of texts.
pub struct TextFamily {
    /// Short name.
    pub name: &'static str,
    /// What `config.json` says in `model_type`.
    pub model_type: &'static str,
    /// One line for help texts and the README.
    pub about: &'static str,
    open: fn(&Json, &TensorIndex) -> Result<Box<dyn TextModel>>,
}

/// Every family of models of texts, in the order of the README's table.
pub const TEXT_FAMILIES: &[TextFamily] = &[
    TextFamily {
        name: "bert",
        model_type: "bert",
        about: "BERT: classes, answers, masked words, next sentence, embeddings",
        open: bert::open,
    },
    TextFamily {
        name: "distilbert",
        model_type: "distilbert",
        about: "DistilBERT: classes, answers, masked words, embeddings",
        open: bert::open_distilbert,
    },
    TextFamily {
        name: "roberta",
        model_type: "roberta",
        about: "RoBERTa: classes, answers, masked words, embeddings",
        open: bert::open_roberta,
    },
    TextFamily {
        name: "gpt2",
        model_type: "gpt2",
        about: "GPT-2 of every size: goes on with a text, says how likely one is; classes",
        open: gpt2::open,
    },
    TextFamily {
        name: "t5",
        model_type: "t5",
        about: "T5 v1.0, v1.1 and flan: writes an answer to a text",
        open: t5::open,
    },
];

/// Whether a configuration is of a model of texts.
pub fn is_text(config: &Json) -> bool {
    text_family(config).is_some()
}

fn text_family(config: &Json) -> Option<&'static TextFamily> {
    let model_type = config.get("model_type").and_then(Json::as_str)?;
    TEXT_FAMILIES.iter().find(|f| f.model_type == model_type)
}

/// A model of texts, by `model_type`.
///
/// # Errors
/// [`Error::Model`] naming the field or the tensors that do not fit.
pub fn text_from_config(config: &Json, index: &TensorIndex) -> Result<Box<dyn TextModel>> {
    let Some(family) = text_family(config) else {
        let types: Vec<&str> = TEXT_FAMILIES.iter().map(|f| f.model_type).collect();
        let what = "is not the configuration of a model of texts";
        return Err(Error::model(fields::FILE, what, format!("supported: model_type {}", types.join(", "))));
    };
    (family.open)(config, index)
}

/// Whether a configuration is of a model that generates pictures.
pub fn is_decoder(config: &Json) -> bool {
    decoder_family(config).is_some()
}

fn decoder_family(config: &Json) -> Option<&'static str> {
    let sized = config.get("n_layer").is_some() && config.get("dim").is_some();
    match config.get("model_type").and_then(Json::as_str) {
        Some("imagegpt") => Some("imagegpt"),
        Some("llamagen") => Some("llamagen"),
        Some("randar") => Some("randar"),
        None if sized => Some("llamagen"),
        _ => None,
    }
}

fn supported_types() -> String {
    let types: Vec<&str> = FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
    types.join(", ")
}

#[cfg(test)]
mod tests;
