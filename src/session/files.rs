//! The files of a model, read but not understood: configuration, preprocessing, checkpoints; from a
//! folder, from a weights file with its configuration beside it, embedded in the binary, or made on the
//! fly. A folder is one of Hugging Face's (`config.json`, `model.safetensors`, `preprocessor_config.json`), or
//! holds LlamaGen's tensors (`config.json`, `gpt.safetensors`, `vq.safetensors`).

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{BUILTIN, BUILTIN_GENERATOR, ModelSource};
use crate::checkpoint::{Checkpoint, DECODER, TOKENIZER};
use crate::error::{Error, Result};
use crate::models::{self, ModelKind};
use crate::synthetic::llamagen::SyntheticLlamaGen;
use crate::synthetic::text::SyntheticText;
use crate::synthetic::vision::Synthetic;

/// Largest JSON file read, in bytes: configurations with tens of thousands of labels stay far below.
const MAX_JSON: u64 = 64 << 20;

/// What the model of a source does; [`ModelKind::Vision`] where its configuration cannot be read, which is told when
/// it is opened.
pub fn kind(source: &ModelSource) -> ModelKind {
    let read = |folder: &Path| -> Option<Json> {
        serde_json::from_str(&read_json(&folder.join("config.json")).ok()??).ok()
    };
    match source {
        ModelSource::Path(path) => {
            read(folder_of(path)).map_or(ModelKind::Vision, |config| models::kind(&config))
        }
        ModelSource::Builtin(name) if name == BUILTIN_GENERATOR => ModelKind::Generator,
        ModelSource::Synthetic(name) if SyntheticLlamaGen::named(name).is_ok() => ModelKind::Generator,
        ModelSource::Synthetic(name) if SyntheticText::named(name).is_ok() => ModelKind::Text,
        ModelSource::Builtin(_) | ModelSource::Synthetic(_) => ModelKind::Vision,
    }
}

/// The files of a model before they are understood.
pub(crate) struct Files {
    /// The folder, file or builtin name.
    pub(crate) name: String,
    /// Where further files may lie.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) config: Json,
    /// Name and contents.
    pub(crate) preprocessor: Option<(String, String)>,
    pub(crate) checkpoint: Checkpoint,
    /// The tokenizer of images, where it is a file of its own.
    pub(crate) codec: Option<Checkpoint>,
}

/// Reads the files of a model that is to be of some kind.
///
/// # Errors
/// [`Error::Model`] for files that are missing or damaged; [`Error::Usage`] for a name that is none of that
/// kind.
pub(crate) fn read(source: &ModelSource, wanted: ModelKind, mmap: bool) -> Result<Files> {
    match source {
        ModelSource::Path(path) => in_folder(path, wanted, mmap),
        ModelSource::Builtin(name) => builtin(name, wanted),
        ModelSource::Synthetic(name) => synthetic(name, wanted),
    }
}

fn folder_of(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) }
}

fn in_folder(path: &Path, wanted: ModelKind, mmap: bool) -> Result<Files> {
    let folder = folder_of(path);
    // Weights first: of a file that is no model at all, that is the thing to say.
    let part = |file: &str| {
        let file = folder.join(file);
        (wanted == ModelKind::Generator && file.exists()).then(|| Checkpoint::open(&file, mmap)).transpose()
    };
    let checkpoint = match part(DECODER)? {
        Some(found) => found,
        None => Checkpoint::open(path, mmap)?,
    };
    let text = read_json(&folder.join("config.json"))?.ok_or_else(|| {
        let help = match wanted {
            ModelKind::Generator => {
                "a model folder holds config.json and its weights; see the README for published .pt files"
            }
            _ => "a model folder holds config.json and model.safetensors, as on the Hugging Face hub",
        };
        Error::model(folder.display(), "there is no config.json", help)
    })?;
    let name = path.display().to_string();
    let config: Json = serde_json::from_str(&text).map_err(|e| {
        let what = format!("not valid JSON: {e}");
        Error::model(format!("{name}/config.json"), what, "download it again")
    })?;
    let file = folder.join("preprocessor_config.json");
    let preprocessor = match read_json(&file)? {
        Some(text) => Some((file.display().to_string(), text)),
        // timm's configurations say how images are prepared.
        None if config.get("architecture").is_some() => {
            Some((folder.join("config.json").display().to_string(), text))
        }
        None => None,
    };
    let (codec, folder) = (part(TOKENIZER)?, Some(folder.to_owned()));
    Ok(Files { name, folder, config, preprocessor, checkpoint, codec })
}

/// A model that is embedded: an ordinary folder, inside the binary.
fn builtin(name: &str, wanted: ModelKind) -> Result<Files> {
    let place = format!("builtin:{name}");
    let config = |text: &str| {
        serde_json::from_str(text)
            .map_err(|e| Error::model(&place, format!("config.json: {e}"), "build the program anew"))
    };
    let open = |file: &str, bytes: &'static [u8]| Checkpoint::from_static(&format!("{place}{file}"), bytes);
    match wanted {
        ModelKind::Vision if name == BUILTIN => Ok(Files {
            config: config(include_str!("../../assets/builtin-shapes/config.json"))?,
            preprocessor: Some((
                format!("{place}/preprocessor_config.json"),
                include_str!("../../assets/builtin-shapes/preprocessor_config.json").to_owned(),
            )),
            checkpoint: open("", include_bytes!("../../assets/builtin-shapes/model.safetensors"))?,
            codec: None,
            folder: None,
            name: place.clone(),
        }),
        ModelKind::Generator if name == BUILTIN_GENERATOR => {
            let decoder = include_bytes!("../../assets/builtin-shapes-gpt/gpt.safetensors");
            let codec = include_bytes!("../../assets/builtin-shapes-gpt/vq.safetensors");
            Ok(Files {
                config: config(include_str!("../../assets/builtin-shapes-gpt/config.json"))?,
                preprocessor: None,
                checkpoint: open(&format!("/{DECODER}"), decoder)?,
                codec: Some(open(&format!("/{TOKENIZER}"), codec)?),
                folder: None,
                name: place.clone(),
            })
        }
        ModelKind::Vision => Err(Error::usage(
            format!("there is no builtin model `{name}`"),
            format!("there is builtin:{BUILTIN}"),
        )),
        ModelKind::Generator => Err(Error::usage(
            format!("`{name}` does not generate pictures"),
            format!("builtin:{BUILTIN_GENERATOR} does"),
        )),
        ModelKind::Text => Err(Error::usage("no text model is built in", "pass the folder of a checkpoint")),
    }
}

/// A model of a named size with random weights.
fn synthetic(size: &str, wanted: ModelKind) -> Result<Files> {
    let (name, folder) = (format!("synthetic:{size}"), None);
    Ok(match wanted {
        ModelKind::Vision => {
            let made = Synthetic::named(size)?;
            let preprocessor = (format!("{name}/preprocessor_config.json"), made.preprocessor().to_string());
            let (config, checkpoint) = (made.config(), made.checkpoint());
            Files { name, folder, config, preprocessor: Some(preprocessor), checkpoint, codec: None }
        }
        ModelKind::Generator => {
            let made = SyntheticLlamaGen::named(size)?;
            let (config, checkpoint, codec) = (made.config(), made.decoder(), Some(made.tokenizer()));
            Files { name, folder, config, preprocessor: None, checkpoint, codec }
        }
        ModelKind::Text => {
            let made = SyntheticText::named(size)?;
            let (config, checkpoint) = (made.config(), made.checkpoint());
            Files { name, folder, config, preprocessor: None, checkpoint, codec: None }
        }
    })
}

/// The text of a JSON file, `None` if there is no such file.
fn read_json(path: &Path) -> Result<Option<String>> {
    let metadata = match std::fs::metadata(path) {
        Ok(m) => m,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::model(path.display(), e.to_string(), "check its permissions")),
    };
    if metadata.len() > MAX_JSON {
        let what = format!("{} bytes are too many for a configuration", metadata.len());
        return Err(Error::model(path.display(), what, "is this the right file?"));
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) => Err(Error::model(path.display(), e.to_string(), "it should be a UTF-8 text file")),
    }
}
