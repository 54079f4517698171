//! The files of a model, read but not understood: configuration, preprocessing, checkpoints; from a
//! folder, from a weights file with its configuration beside it, embedded in the binary, or made on the
//! fly. A folder is one of Hugging Face's (`config.json`, `model.safetensors`, `preprocessor_config.json`), or
//! holds LlamaGen's tensors (`config.json`, `gpt.safetensors`, `vq.safetensors`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::folder;
use crate::checkpoint::{Checkpoint, DECODER, TOKENIZER, sniff};
use crate::error::{Error, Result};
use crate::models::{self, ModelKind};
use crate::synthetic;

/// Name of the embedded model of images, as `builtin:shapes`.
pub const BUILTIN: &str = "shapes";

/// Name of the embedded model that generates images, as `builtin:shapes-gpt`.
pub const BUILTIN_GENERATOR: &str = "shapes-gpt";

/// Name of the embedded model of images and words, as `builtin:shapes-clip`.
pub const BUILTIN_DUAL: &str = "shapes-clip";

/// The files of a model before they are understood. [`super::ModelSource::read`] reads them; a program
/// whose weights lie elsewhere fills one in. Clones share the weight files.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// What messages call it: the folder, file or builtin name.
    pub name: String,
    /// Where further files may lie: a tokenizer.
    pub folder: Option<PathBuf>,
    /// `config.json`.
    pub config: Json,
    /// Name and contents of `preprocessor_config.json`, or of the like that says how images are prepared.
    pub preprocessor: Option<(String, String)>,
    /// `tokenizer.json` and `tokenizer_config.json` of an embedded model; others have theirs in the folder.
    pub tokenizer: Option<[&'static str; 2]>,
    /// `generation_config.json`: how a model of texts is to be sampled.
    pub generation: Option<Json>,
    /// The model's tensors.
    pub checkpoint: Checkpoint,
    /// The codec's tensors (of images by tokens), where they are a file of their own.
    pub codec: Option<Checkpoint>,
    /// The adapter that is laid over the tensors, if one is.
    pub adapter: Option<Applied>,
    /// What a user should hear of them.
    pub warnings: Vec<String>,
}

/// A LoRA adapter that is laid over a model's tensors.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What messages call it: its folder.
    pub name: String,
    /// Its folder, if it lies in one.
    pub folder: Option<PathBuf>,
    /// Rank, where no pattern says otherwise.
    pub rank: usize,
    /// Alpha, where no pattern says otherwise.
    pub alpha: f64,
    /// How many weights have a product added.
    pub adapted: usize,
    /// How many tensors are in the place of others, or new.
    pub replaced: usize,
    /// Elements of all its tensors.
    pub parameters: u64,
    /// Names of its tensors in its own file: what is trained of it.
    pub names: BTreeSet<String>,
    /// Its `adapter_config.json`.
    pub config: Json,
}

impl ModelFiles {
    /// A model of a configuration and tensors in memory.
    pub fn new(name: impl Into<String>, config: Json, checkpoint: Checkpoint) -> Self {
        let name = name.into();
        Self {
            name,
            folder: None,
            config,
            preprocessor: None,
            tokenizer: None,
            generation: None,
            checkpoint,
            codec: None,
            adapter: None,
            warnings: Vec::new(),
        }
    }

    /// What the model does, by its configuration; `None` if that names no model that is known.
    pub fn kind(&self) -> Option<ModelKind> {
        models::kind(&self.config)
    }

    /// Whether it is a model of images that has a text tower beside.
    pub fn has_words(&self) -> bool {
        models::has_text_tower(&self.config)
    }

    /// Reads a folder, or a weights file and what lies beside it.
    pub(super) fn in_folder(path: &Path, mmap: bool) -> Result<Self> {
        let folder = folder::of(path);
        sniff::refuse_pointers(folder)?;
        // A file that is damaged is told of behind weights that are not there at all.
        let config = folder::read(&folder.join("config.json"));
        let kind = config.as_ref().ok().and_then(|json| models::kind(json.as_ref()?));
        let part = |file: &str| {
            let file = folder.join(file);
            (kind == Some(ModelKind::Generator) && file.exists())
                .then(|| Checkpoint::open(&file, mmap))
                .transpose()
        };
        if path.is_dir() && matches!(config, Ok(None)) {
            return Err(folder::no_model(folder));
        }
        // Weights first: of a file that is no model at all, that is the thing to say.
        let checkpoint = match part(DECODER)? {
            Some(found) => found,
            None => Checkpoint::open(path, mmap).map_err(|e| folder::adapter_alone(path).unwrap_or(e))?,
        };
        let config = config?.ok_or_else(|| folder::no_model(folder))?;
        let preprocessor = match folder::preprocessor(folder)? {
            // timm's configurations say how images are prepared.
            None if config.get("architecture").is_some() => {
                Some((folder.join("config.json").display().to_string(), config.to_string()))
            }
            found => found,
        };
        let generation = folder::read(&folder.join("generation_config.json"))?;
        let warnings = folder::adapter_beside(folder).into_iter().collect();
        let name = path.display().to_string();
        let (codec, folder) = (part(TOKENIZER)?, Some(folder.to_owned()));
        let adapter = None;
        let tokenizer = None;
        Ok(Self {
            name,
            folder,
            config,
            preprocessor,
            tokenizer,
            generation,
            checkpoint,
            codec,
            adapter,
            warnings,
        })
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
            BUILTIN_DUAL => {
                let weights = include_bytes!("../../assets/builtin-shapes-clip/model.safetensors");
                let preprocessor = include_str!("../../assets/builtin-shapes-clip/preprocessor_config.json");
                Ok(Self {
                    preprocessor: Some((
                        format!("{place}/preprocessor_config.json"),
                        preprocessor.to_owned(),
                    )),
                    tokenizer: Some([
                        include_str!("../../assets/builtin-shapes-clip/tokenizer.json"),
                        include_str!("../../assets/builtin-shapes-clip/tokenizer_config.json"),
                    ]),
                    ..Self::new(
                        place.clone(),
                        config(include_str!("../../assets/builtin-shapes-clip/config.json"))?,
                        open("", weights)?,
                    )
                })
            }
            _ => Err(Error::usage(
                format!("there is no builtin model `{name}`"),
                format!(
                    "there are builtin:{BUILTIN}, which names shapes, builtin:{BUILTIN_DUAL}, which finds them by \
                     words, and builtin:{BUILTIN_GENERATOR}, which draws them"
                ),
            )),
        }
    }

    /// A model of a named size with random weights.
    pub(super) fn synthetic(size: &str) -> Result<Self> {
        let made = synthetic::named(size)?;
        let name = format!("synthetic:{}", made.name);
        Ok(Self::made(name, made))
    }

    /// A model that was made, not read.
    pub fn made(name: String, made: synthetic::Made) -> Self {
        let preprocessor =
            made.preprocessor.map(|json| (format!("{name}/preprocessor_config.json"), json.to_string()));
        Self { preprocessor, codec: made.codec, ..Self::new(name, made.config, made.checkpoint) }
    }

    /// The same with what lies in a folder and these files lack: what a generator makes tokens of images by.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that cannot be read.
    pub fn completed_from(mut self, place: &Path, mmap: bool) -> Result<Self> {
        if self.kind() == Some(ModelKind::Generator) {
            let codec = place.join(TOKENIZER);
            if self.codec.is_none() && codec.exists() {
                self.codec = Some(Checkpoint::open(&codec, mmap)?);
            }
            if self.preprocessor.is_none() {
                self.preprocessor = folder::preprocessor(place)?;
            }
        }
        Ok(self)
    }
}
