//! The files of a generative model, read but not understood: a Hugging Face folder (`config.json`,
//! `model.safetensors`, `preprocessor_config.json`), or LlamaGen's tensors in a folder of `config.json`,
//! `gpt.safetensors` and `vq.safetensors`.

use serde_json::Value as Json;

use super::BUILTIN;
use crate::data::synthetic_llamagen::SyntheticLlamaGen;
use crate::data::weights::{Checkpoint, DECODER, TOKENIZER};
use crate::error::{Error, Result};
use crate::session::{ModelSource, read_json};

/// The files of a model before they are understood.
pub(super) struct Files {
    pub(super) name: String,
    pub(super) config: Json,
    /// Name and contents.
    pub(super) preprocessor: Option<(String, String)>,
    pub(super) checkpoint: Checkpoint,
    pub(super) tokenizer: Option<Checkpoint>,
}

impl Files {
    /// Height and width that the preprocessor states, if it does so plainly.
    pub(super) fn picture_size(&self) -> Option<[usize; 2]> {
        let json: Json = serde_json::from_str(&self.preprocessor.as_ref()?.1).ok()?;
        let side =
            |v: &Json| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=8192).contains(n));
        let size = json.get("size")?;
        match side(size) {
            Some(side) => Some([side, side]),
            None => Some([side(size.get("height")?)?, side(size.get("width")?)?]),
        }
    }
}

pub(super) fn read(source: &ModelSource, mmap: bool) -> Result<Files> {
    let folder = match source {
        ModelSource::Path(path) => path,
        ModelSource::Builtin(name) if name == BUILTIN => return builtin(),
        ModelSource::Synthetic(name) => {
            let made = SyntheticLlamaGen::named(name)?;
            return Ok(Files {
                name: format!("synthetic:{name}"),
                config: made.config(),
                preprocessor: None,
                checkpoint: made.decoder(),
                tokenizer: Some(made.tokenizer()),
            });
        }
        ModelSource::Builtin(name) => {
            return Err(Error::usage(
                format!("`{name}` does not generate pictures"),
                format!("builtin:{BUILTIN} does"),
            ));
        }
    };
    let folder = if folder.is_dir() { folder.as_path() } else { folder.parent().unwrap_or(folder) };
    let name = folder.display().to_string();
    let config = read_json(&folder.join("config.json"))?.ok_or_else(|| {
        let help = "a model folder holds config.json and its weights; see the README for published .pt files";
        Error::model(&name, "there is no config.json", help)
    })?;
    let config: Json = serde_json::from_str(&config).map_err(|e| {
        Error::model(format!("{name}/config.json"), format!("not valid JSON: {e}"), "write it again")
    })?;
    let file = folder.join("preprocessor_config.json");
    let preprocessor = read_json(&file)?.map(|text| (file.display().to_string(), text));
    let open = |file: &str| {
        let path = folder.join(file);
        path.exists().then(|| Checkpoint::open(&path, mmap)).transpose()
    };
    let checkpoint = match open(DECODER)? {
        Some(found) => found,
        None => Checkpoint::open(folder, mmap)?,
    };
    Ok(Files { name, config, preprocessor, checkpoint, tokenizer: open(TOKENIZER)? })
}

/// The configuration of a source, if it has one that can be read.
pub(super) fn read_config(source: &ModelSource) -> Option<Json> {
    let folder = match source {
        ModelSource::Path(path) if path.is_dir() => path.as_path(),
        ModelSource::Path(path) => path.parent()?,
        ModelSource::Builtin(name) if name == BUILTIN => return Some(builtin().ok()?.config),
        ModelSource::Synthetic(name) => return SyntheticLlamaGen::named(name).ok().map(|made| made.config()),
        ModelSource::Builtin(_) => return None,
    };
    serde_json::from_str(&read_json(&folder.join("config.json")).ok()??).ok()
}

/// The embedded generator of shapes: an ordinary LlamaGen folder, inside the binary.
fn builtin() -> Result<Files> {
    let name = format!("builtin:{BUILTIN}");
    let config = include_str!("../../assets/builtin-shapes-gpt/config.json");
    let open = |part: &str, bytes: &'static [u8]| Checkpoint::from_static(&format!("{name}/{part}"), bytes);
    Ok(Files {
        config: serde_json::from_str(config)
            .map_err(|e| Error::model(&name, format!("config.json: {e}"), "build the program anew"))?,
        preprocessor: None,
        checkpoint: open(DECODER, include_bytes!("../../assets/builtin-shapes-gpt/gpt.safetensors"))?,
        tokenizer: Some(open(TOKENIZER, include_bytes!("../../assets/builtin-shapes-gpt/vq.safetensors"))?),
        name,
    })
}
