//! The files of a model, read but not understood: configuration, preprocessing, checkpoints; from a
//! folder, from a weights file with its configuration beside it, embedded in the binary, or made on the
//! fly. A folder is one of Hugging Face's (`config.json`, `model.safetensors`, `preprocessor_config.json`), or
//! holds LlamaGen's tensors (`config.json`, `gpt.safetensors`, `vq.safetensors`).

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::checkpoint::{Checkpoint, DECODER, TOKENIZER, sniff};
use crate::error::{Advice, Error, Result};
use crate::models::{self, ModelKind};
use crate::synthetic;

/// Largest JSON file read, in bytes: configurations with tens of thousands of labels stay far below.
const MAX_JSON: u64 = 64 << 20;

/// Name of the embedded model of images, as `builtin:shapes`.
pub const BUILTIN: &str = "shapes";

/// Name of the embedded model that generates images, as `builtin:shapes-gpt`.
pub const BUILTIN_GENERATOR: &str = "shapes-gpt";

/// The files of a model before they are understood. [`super::ModelSource::read`] reads them; a program
/// whose weights lie elsewhere fills one in.
pub struct ModelFiles {
    /// What messages call it: the folder, file or builtin name.
    pub name: String,
    /// Where further files may lie: a tokenizer.
    pub folder: Option<PathBuf>,
    /// `config.json`.
    pub config: Json,
    /// Name and contents of `preprocessor_config.json`.
    pub preprocessor: Option<(String, String)>,
    /// The model's tensors.
    pub checkpoint: Checkpoint,
    /// The codec's tensors (of images by tokens), where they are a file of their own.
    pub codec: Option<Checkpoint>,
}

impl ModelFiles {
    /// A model of a configuration and tensors in memory.
    pub fn new(name: impl Into<String>, config: Json, checkpoint: Checkpoint) -> Self {
        let name = name.into();
        Self { name, folder: None, config, preprocessor: None, checkpoint, codec: None }
    }

    /// What the model does, by its configuration.
    pub fn kind(&self) -> ModelKind {
        models::kind(&self.config)
    }

    /// Reads a folder, or a weights file and what lies beside it.
    pub(super) fn in_folder(path: &Path, mmap: bool) -> Result<Self> {
        let folder = folder_of(path);
        refuse_pointers(folder)?;
        let text = read_json(&folder.join("config.json"))?;
        let kind = text.as_deref().and_then(|t| serde_json::from_str(t).ok()).map(|json| models::kind(&json));
        let part = |file: &str| {
            let file = folder.join(file);
            (kind == Some(ModelKind::Generator) && file.exists())
                .then(|| Checkpoint::open(&file, mmap))
                .transpose()
        };
        // Weights first: of a file that is no model at all, that is the thing to say.
        let checkpoint = match part(DECODER)? {
            Some(found) => found,
            None => Checkpoint::open(path, mmap)?,
        };
        let text = text.ok_or_else(|| {
            let help = "a model folder holds config.json and its weights, as on the Hugging Face hub; see the \
                        README for published .pt files";
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
        Ok(Self { name, folder, config, preprocessor, checkpoint, codec })
    }

    /// A model that is embedded: an ordinary folder, inside the binary.
    pub(super) fn builtin(name: &str) -> Result<Self> {
        let place = format!("builtin:{name}");
        let open =
            |file: &str, bytes: &'static [u8]| Checkpoint::from_static(&format!("{place}{file}"), bytes);
        let config = |text: &str| {
            serde_json::from_str(text)
                .map_err(|e| Error::model(&place, format!("config.json: {e}"), "build the program anew"))
        };
        match name {
            BUILTIN => {
                let weights = include_bytes!("../../assets/builtin-shapes/model.safetensors");
                let preprocessor = include_str!("../../assets/builtin-shapes/preprocessor_config.json");
                Ok(Self {
                    preprocessor: Some((
                        format!("{place}/preprocessor_config.json"),
                        preprocessor.to_owned(),
                    )),
                    ..Self::new(
                        place.clone(),
                        config(include_str!("../../assets/builtin-shapes/config.json"))?,
                        open("", weights)?,
                    )
                })
            }
            BUILTIN_GENERATOR => {
                let decoder = include_bytes!("../../assets/builtin-shapes-gpt/gpt.safetensors");
                let codec = include_bytes!("../../assets/builtin-shapes-gpt/vq.safetensors");
                Ok(Self {
                    codec: Some(open(&format!("/{TOKENIZER}"), codec)?),
                    ..Self::new(
                        place.clone(),
                        config(include_str!("../../assets/builtin-shapes-gpt/config.json"))?,
                        open(&format!("/{DECODER}"), decoder)?,
                    )
                })
            }
            _ => Err(Error::usage(
                format!("there is no builtin model `{name}`"),
                format!(
                    "there are builtin:{BUILTIN}, which names shapes, and builtin:{BUILTIN_GENERATOR}, which \
                     draws them"
                ),
            )),
        }
    }

    /// A model of a named size with random weights.
    pub(super) fn synthetic(size: &str) -> Result<Self> {
        let made = synthetic::named(size)?;
        let name = format!("synthetic:{}", made.name);
        let preprocessor =
            made.preprocessor.map(|json| (format!("{name}/preprocessor_config.json"), json.to_string()));
        Ok(Self { preprocessor, codec: made.codec, ..Self::new(name, made.config, made.checkpoint) })
    }
}

/// Refuses a folder in which a file that is read is not there yet: git-LFS left a pointer in its place.
fn refuse_pointers(folder: &Path) -> Result<()> {
    /// Pointers are shorter by far, and everything else that is so short is read anyway.
    const LONGEST: u64 = 1024;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut short: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json" || e == "txt" || e == "model"))
        .filter(|path| path.metadata().is_ok_and(|m| m.is_file() && m.len() <= LONGEST))
        .collect();
    short.sort();
    for file in short {
        if std::fs::read(&file).is_ok_and(|bytes| sniff::is_pointer(&bytes)) {
            let what = "this is a git-LFS pointer, the file itself was never fetched";
            return Err(Error::model(file.display(), what, Advice::FetchWeights));
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) }
}

/// What the model of a folder does, by its `config.json` alone; vision where that cannot be read, which is
/// told when the model is opened.
pub fn kind(path: &Path) -> ModelKind {
    let text = read_json(&folder_of(path).join("config.json"));
    let json: Option<Json> = text.ok().flatten().and_then(|text| serde_json::from_str(&text).ok());
    json.map_or(ModelKind::Vision, |config| models::kind(&config))
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
