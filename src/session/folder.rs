//! What lies in a model's folder beside its weights: configuration, preprocessing, adapters; and what to say
//! of a folder that is no model's.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::checkpoint::{INDEX, SINGLE, lora};
use crate::error::{Error, Result};
use crate::textfile;

/// Largest JSON file read, in bytes: configurations with tens of thousands of labels stay far below.
const MAX_JSON: u64 = 64 << 20;

/// The folder of a model that is a folder, or a file in one.
pub(super) fn of(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// A JSON file, `None` if there is no such file.
///
/// # Errors
/// [`Error::Model`] for a file that cannot be read, and for a link that leads nowhere.
pub(super) fn read(path: &Path) -> Result<Option<Json>> {
    textfile::read_json(path, MAX_JSON).map_err(|wrong| Error::model(path.display(), wrong.what, wrong.help))
}

/// Name and contents of what says how images are prepared, where transformers looks: the part for images of a
/// `processor_config.json` if it has one, else `preprocessor_config.json`.
///
/// # Errors
/// As [`read`].
pub(super) fn preprocessor(folder: &Path) -> Result<Option<(String, String)>> {
    let named = |path: PathBuf, json: &Json| Some((path.display().to_string(), json.to_string()));
    let joint = folder.join("processor_config.json");
    if let Some(found) = read(&joint)?.as_ref().and_then(|json| json.get("image_processor")) {
        return Ok(named(joint, found));
    }
    let own = folder.join("preprocessor_config.json");
    Ok(read(&own)?.and_then(|json| named(own, &json)))
}

/// The model that an adapter in this folder belongs to, `an unnamed model` if it does not say; `None` if there
/// is no adapter.
fn base(folder: &Path) -> Option<String> {
    let described = folder.join(lora::CONFIG).is_file();
    if !described && ![lora::WEIGHTS, lora::PICKLE].iter().any(|file| folder.join(file).is_file()) {
        return None;
    }
    let config = read(&folder.join(lora::CONFIG)).ok().flatten();
    let name = config.as_ref().and_then(|c| c.get("base_model_name_or_path")).and_then(Json::as_str);
    let name = name.filter(|name| !name.is_empty()).map(crate::printable::printable);
    Some(name.unwrap_or_else(|| "an unnamed model".to_owned()))
}

/// Whether this is the folder of an adapter, and of no whole model: other tensors beside it may be recorded ones.
pub(super) fn is_adapter(folder: &Path) -> bool {
    let has = |file: &str| folder.join(file).symlink_metadata().is_ok();
    has(lora::CONFIG) && !has(SINGLE) && !has(INDEX)
}

/// What to say of an adapter that lies beside a whole model.
pub(super) fn adapter_beside(folder: &Path) -> Option<String> {
    let base = base(folder)?;
    Some(format!(
        "there is an adapter beside the model ({}, made for {base}); it is not applied unless it is named as an \
         adapter",
        lora::CONFIG
    ))
}

/// The error for a folder that holds an adapter and no model; `None` where there is none, or a file is meant.
pub(super) fn adapter_alone(folder: &Path) -> Option<Error> {
    let base = base(folder).filter(|_| folder.is_dir())?;
    let what = format!("is an adapter (PEFT), made for {base}, and no whole model");
    let help = "adapters are laid over whole models, of which this is to be one";
    Some(Error::model(folder.display(), what, help))
}

/// Why a folder without `config.json` is no model, as far as can be told: an adapter, a folder above models,
/// a pipeline of several.
pub(super) fn no_model(folder: &Path) -> Error {
    let shown = folder.display();
    if let Some(adapter) = adapter_alone(folder) {
        return adapter;
    }
    if folder.join("model_index.json").is_file() {
        let what = "is a pipeline of several models (model_index.json), which are not run together";
        return Error::model(shown, what, "pass the folder of one of them");
    }
    let below = models_below(folder);
    let help = match below.as_slice() {
        [] => "a model folder holds config.json and its weights, as on the Hugging Face hub; see the README for \
               published .pt files"
            .to_owned(),
        found => format!("a folder below it has one: pass {}", found.join(" or ")),
    };
    Error::model(shown, "there is no config.json", help)
}

/// Folders right below that hold a configuration, the first few by name.
fn models_below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<String> =
        entries.filter(|p| p.join("config.json").is_file()).map(|p| p.display().to_string()).collect();
    found.sort();
    found.truncate(3);
    found
}
