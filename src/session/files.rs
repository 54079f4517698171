//! The files of a model, read but not understood: configuration, preprocessing, checkpoint; from a
//! folder, from a weights file with its configuration beside it, embedded in the binary, or made on the
//! fly.

use std::path::Path;

use super::{BUILTIN, ModelSource};
use crate::data::synthetic::Synthetic;
use crate::data::weights::Checkpoint;
use crate::error::{Error, Result};

/// Largest JSON file read, in bytes: configurations with tens of thousands of labels stay far below.
const MAX_JSON: u64 = 64 << 20;

/// The files of a model before they are understood.
pub(super) struct Files {
    pub(super) name: String,
    pub(super) config: String,
    pub(super) preprocessor: Option<(String, String)>,
    pub(super) checkpoint: Checkpoint,
}

pub(super) fn read_files(source: &ModelSource, mmap: bool) -> Result<Files> {
    let path = match source {
        ModelSource::Builtin(name) if name == BUILTIN => return builtin(),
        ModelSource::Builtin(name) => {
            return Err(Error::usage(
                format!("there is no builtin model `{name}`"),
                format!("there is builtin:{BUILTIN}"),
            ));
        }
        ModelSource::Synthetic(name) => {
            let made = Synthetic::named(name)?;
            return Ok(Files {
                name: format!("synthetic:{name}"),
                config: made.config().to_string(),
                preprocessor: Some((
                    format!("synthetic:{name}/preprocessor_config.json"),
                    made.preprocessor().to_string(),
                )),
                checkpoint: made.checkpoint(),
            });
        }
        ModelSource::Path(path) => path,
    };
    let checkpoint = Checkpoint::open(path, mmap)?;
    let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(Path::new(".")) };
    let config = read_json(&folder.join("config.json"))?.ok_or_else(|| {
        let help = "a model folder holds config.json and model.safetensors, as on the Hugging Face hub";
        Error::model(folder.display(), "there is no config.json", help)
    })?;
    let file = folder.join("preprocessor_config.json");
    let is_timm = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).is_ok_and(|v| v.get("architecture").is_some())
    };
    let preprocessor = match read_json(&file)? {
        Some(text) => Some((file.display().to_string(), text)),
        None if is_timm(&config) => Some((folder.join("config.json").display().to_string(), config.clone())),
        None => None,
    };
    Ok(Files { name: path.display().to_string(), config, preprocessor, checkpoint })
}

/// The embedded classifier of shapes: an ordinary Hugging Face folder, inside the binary.
fn builtin() -> Result<Files> {
    let name = format!("builtin:{BUILTIN}");
    Ok(Files {
        config: include_str!("../../assets/builtin-shapes/config.json").to_owned(),
        preprocessor: Some((
            format!("{name}/preprocessor_config.json"),
            include_str!("../../assets/builtin-shapes/preprocessor_config.json").to_owned(),
        )),
        checkpoint: Checkpoint::from_static(
            &name,
            include_bytes!("../../assets/builtin-shapes/model.safetensors"),
        )?,
        name,
    })
}

/// The text of a JSON file, `None` if there is no such file.
pub(crate) fn read_json(path: &Path) -> Result<Option<String>> {
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
