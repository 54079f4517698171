//! Every family of models there is, one row each, and which of them a `config.json` means.

use serde_json::Value as Json;

use super::generative::{imagegpt, llamagen, randar};
use super::model::Model;
use super::naming::Naming;
use super::sequence::ImageDecoder;
use super::text::{self, TextModel, bert, gpt2, modernbert, t5};
use super::vision::{beit, clip, deit, dinov2, dinov3, siglip, siglip2, vit, vit_mae};
use super::{fields, timm};
use crate::error::{Error, Result};
use crate::graph::TensorIndex;
use crate::printable::printable;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// It looks at images: [`crate::session::Session`].
    Vision,
    /// It generates images token by token: [`crate::generate::Generator`].
    Generator,
    /// It reads and writes texts: [`crate::text::TextSession`].
    Text,
}

/// A model of any kind.
pub enum AnyModel {
    /// It looks at images.
    Vision(Box<dyn Model>),
    /// It generates images token by token.
    Generator(Box<dyn ImageDecoder>),
    /// It reads and writes texts.
    Text(Box<dyn TextModel>),
}

impl AnyModel {
    /// The vision model that this is.
    ///
    /// # Errors
    /// [`Error::Model`] if it is none.
    pub fn vision(self) -> Result<Box<dyn Model>> {
        match self {
            AnyModel::Vision(model) => Ok(model),
            other => Err(other.misplaced("a vision model")),
        }
    }

    /// The generator of images that this is.
    ///
    /// # Errors
    /// [`Error::Model`] if it is none.
    pub fn generator(self) -> Result<Box<dyn ImageDecoder>> {
        match self {
            AnyModel::Generator(model) => Ok(model),
            other => Err(other.misplaced("a generator of images")),
        }
    }

    /// The text model that this is.
    ///
    /// # Errors
    /// [`Error::Model`] if it is none.
    pub fn text(self) -> Result<Box<dyn TextModel>> {
        match self {
            AnyModel::Text(model) => Ok(model),
            other => Err(other.misplaced("a text model")),
        }
    }

    fn misplaced(&self, wanted: &str) -> Error {
        let (is, help) = match self {
            AnyModel::Vision(_) => ("a vision model", "open it as a `Session`"),
            AnyModel::Generator(_) => ("a generator of images", "open it as a `Generator`"),
            AnyModel::Text(_) => ("a text model", "open it as a `TextSession`"),
        };
        Error::model(fields::FILE, format!("describes {is}, not {wanted}"), help)
    }
}

/// How a family makes a model of its configuration and the names and shapes of its tensors.
enum Open {
    Vision(OpenVision),
    /// Of images, and of the texts beside them.
    Towers(OpenVision, OpenText),
    Generator(OpenGenerator),
    Text(OpenText),
}

type OpenVision = fn(&Json, &TensorIndex) -> Result<Box<dyn Model>>;
type OpenText = fn(&Json, &TensorIndex) -> Result<Box<dyn TextModel>>;
/// The last is the size (height, width) of images that the preprocessor states.
type OpenGenerator = fn(&Json, &TensorIndex, Option<[usize; 2]>) -> Result<Box<dyn ImageDecoder>>;

/// One family of models.
pub struct Family {
    /// Short name.
    pub name: &'static str,
    /// What `config.json` says in `model_type`; timm's and LlamaGen's own forms need none.
    pub model_types: &'static [&'static str],
    /// One line for help texts and the README.
    pub about: &'static str,
    open: Open,
    /// How it names its tensors.
    pub(super) naming: &'static Naming,
}

impl Family {
    /// What its models do.
    pub fn kind(&self) -> ModelKind {
        match self.open {
            Open::Vision(_) | Open::Towers(..) => ModelKind::Vision,
            Open::Generator(_) => ModelKind::Generator,
            Open::Text(_) => ModelKind::Text,
        }
    }
}

/// Every family, in the order of the README's tables.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "vit",
        model_types: &["vit"],
        about: "ViT: ViTForImageClassification, ViTModel",
        open: Open::Vision(vit::open),
        naming: &vit::NAMING,
    },
    Family {
        name: "deit",
        model_types: &["deit"],
        about: "DeiT: one head, or class and distillation heads",
        open: Open::Vision(deit::open),
        naming: &deit::NAMING,
    },
    Family {
        name: "dinov2",
        model_types: &["dinov2", "dinov2_with_registers"],
        about: "DINOv2, with or without registers, MLP or SwiGLU",
        open: Open::Vision(dinov2::open),
        naming: &dinov2::NAMING,
    },
    Family {
        name: "dinov3_vit",
        model_types: &["dinov3_vit"],
        about: "DINOv3 ViT: rotary positions, MLP or gated MLP; features of the image and of its patches",
        open: Open::Vision(dinov3::open),
        naming: &dinov3::NAMING,
    },
    Family {
        name: "clip",
        model_types: &["clip_vision_model", "clip"],
        about: "CLIP: images and texts in one space; its image tower alone, and its classifier",
        open: Open::Towers(clip::open, text::clip::open),
        naming: &clip::NAMING,
    },
    Family {
        name: "siglip",
        model_types: &["siglip_vision_model", "siglip"],
        about: "SigLIP, SigLIP 2 of fixed size: images and texts in one space; the image tower alone, and its classifier",
        open: Open::Towers(siglip::open, text::siglip::open),
        naming: &clip::NAMING,
    },
    Family {
        name: "siglip2",
        model_types: &["siglip2_vision_model", "siglip2"],
        about: "SigLIP 2 NaFlex: the same, for images of any aspect ratio",
        open: Open::Towers(siglip2::open, text::siglip::open),
        naming: &clip::NAMING,
    },
    Family {
        name: "beit",
        model_types: &["beit"],
        about: "BEiT: relative position bias, layer scale, mean pooling",
        open: Open::Vision(beit::open),
        naming: &beit::NAMING,
    },
    Family {
        name: "vit_mae",
        model_types: &["vit_mae"],
        about: "ViT-MAE: the encoder without masking; masked, with the decoder, for reconstructions and in training",
        open: Open::Vision(vit_mae::open),
        naming: &vit_mae::NAMING,
    },
    Family {
        name: TIMM,
        model_types: &["timm_wrapper"],
        about: "timm: vit_*, deit*, flexivit, eva_large, beit3, aimv2, RADIO, two convolution stems",
        open: Open::Vision(timm::open),
        naming: &timm::NAMING,
    },
    Family {
        name: "imagegpt",
        model_types: &["imagegpt"],
        about: "ImageGPT: generates small images pixel by pixel, in 512 colors",
        open: Open::Generator(imagegpt::open),
        naming: &imagegpt::NAMING,
    },
    Family {
        name: LLAMAGEN,
        model_types: &["llamagen", "randar"],
        about: "LlamaGen and RandAR: generate images of a class, patch by patch, in raster or any order",
        open: Open::Generator(llamagen_or_randar),
        naming: &llamagen::NAMING,
    },
    Family {
        name: "bert",
        model_types: &["bert"],
        about: "BERT: classes, answers, masked words, next sentence, embeddings",
        open: Open::Text(bert::open),
        naming: &bert::BERT_NAMING,
    },
    Family {
        name: "distilbert",
        model_types: &["distilbert"],
        about: "DistilBERT: classes, answers, masked words, embeddings",
        open: Open::Text(bert::open_distilbert),
        naming: &bert::DISTILBERT_NAMING,
    },
    Family {
        name: "roberta",
        model_types: &["roberta"],
        about: "RoBERTa: classes, answers, masked words, embeddings",
        open: Open::Text(bert::open_roberta),
        naming: &bert::ROBERTA_NAMING,
    },
    Family {
        name: "modernbert",
        model_types: &["modernbert"],
        about: "ModernBERT: classes, tags, answers, masked words, embeddings; texts of 8192 tokens",
        open: Open::Text(modernbert::open),
        naming: &modernbert::NAMING,
    },
    Family {
        name: "gpt2",
        model_types: &["gpt2"],
        about: "GPT-2 of every size: goes on with a text, says how likely one is; classes",
        open: Open::Text(gpt2::open),
        naming: &gpt2::NAMING,
    },
    Family {
        name: "t5",
        model_types: &["t5"],
        about: "T5 v1.0, v1.1 and flan: writes an answer to a text",
        open: Open::Text(t5::open),
        naming: &t5::NAMING,
    },
];

const TIMM: &str = "timm";
const LLAMAGEN: &str = "llamagen";

/// The same keys; RandAR has a tensor of its own.
fn llamagen_or_randar(
    config: &Json,
    index: &TensorIndex,
    _image: Option<[usize; 2]>,
) -> Result<Box<dyn ImageDecoder>> {
    let named = config.get("model_type").and_then(Json::as_str) == Some("randar");
    if named || index.keys().any(|name| name.ends_with(randar::INSTRUCTION)) {
        randar::open(config, index)
    } else {
        llamagen::open(config, index)
    }
}

/// What a configuration's model does; `None` where no family fits, of which [`from_config`] tells.
pub fn kind(config: &Json) -> Option<ModelKind> {
    family(config).ok().map(Family::kind)
}

/// The short name of the family that a configuration means; `None` where none fits.
pub fn family_name(config: &Json) -> Option<&'static str> {
    family(config).ok().map(|family| family.name)
}

/// Chooses the family by `model_type` (or by the keys of timm's or LlamaGen's own forms), reads the
/// configuration, checks it against the checkpoint and yields the model. `image` is the size (height,
/// width) that the preprocessor states.
///
/// # Errors
/// [`Error::Model`] naming the field or the tensors that do not fit.
pub fn from_config(config: &Json, index: &TensorIndex, image: Option<[usize; 2]>) -> Result<AnyModel> {
    Ok(match &family(config)?.open {
        Open::Vision(open) | Open::Towers(open, _) => AnyModel::Vision(open(config, index)?),
        Open::Generator(open) => AnyModel::Generator(open(config, index, image)?),
        Open::Text(open) => AnyModel::Text(open(config, index)?),
    })
}

/// The half that reads texts, of a model that brings images and texts into one space; `None` of any other, and of
/// an image tower alone.
///
/// # Errors
/// As [`from_config`].
pub fn text_tower(config: &Json, index: &TensorIndex) -> Result<Option<Box<dyn TextModel>>> {
    match &family(config)?.open {
        Open::Towers(_, open) if has_text_tower(config) => open(config, index).map(Some),
        _ => Ok(None),
    }
}

/// Whether a configuration is of a model that brings images and texts into one space.
pub fn has_text_tower(config: &Json) -> bool {
    let towers = |family: &Family| matches!(family.open, Open::Towers(..));
    let described = ["text_config", "text_config_dict"];
    family(config).is_ok_and(towers)
        && described.iter().any(|key| config.get(key).is_some_and(Json::is_object))
}

pub(super) fn family(config: &Json) -> Result<&'static Family> {
    let wrong = |what: &str| Err(Error::model(fields::FILE, what, supported()));
    let Some(object) = config.as_object() else {
        return Err(Error::model(fields::FILE, "is not a JSON object", ""));
    };
    let named = |name: &str| Ok(FAMILIES.iter().find(|f| f.name == name).expect("it is in the list above"));
    match object.get("model_type") {
        Some(Json::String(model_type)) => {
            let found = FAMILIES.iter().find(|f| f.model_types.contains(&model_type.as_str()));
            found.map_or_else(
                || wrong(&format!("model_type `{}` is not supported", printable(model_type))),
                Ok,
            )
        }
        None | Some(Json::Null) if object.contains_key("architecture") => named(TIMM),
        None | Some(Json::Null) if object.contains_key("n_layer") && object.contains_key("dim") => {
            named(LLAMAGEN)
        }
        None | Some(Json::Null) => {
            let said = object.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str);
            let said =
                said.map_or(String::new(), |name| format!(" (`architectures` says {})", printable(name)));
            wrong(&format!("has neither `model_type` nor timm's `architecture`{said}"))
        }
        Some(other) => wrong(&format!("`model_type` is {other}, expected a string")),
    }
}

fn supported() -> String {
    let of = |kind: ModelKind| -> String {
        let families = FAMILIES.iter().filter(|f| f.kind() == kind);
        families.flat_map(|f| f.model_types).copied().collect::<Vec<_>>().join(", ")
    };
    format!(
        "supported: {}; generators {}; text models {}",
        of(ModelKind::Vision),
        of(ModelKind::Generator),
        of(ModelKind::Text)
    )
}
