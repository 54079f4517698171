//! Adapters written as PEFT writes them.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use super::{CONFIG, WEIGHTS};
use crate::checkpoint::write::{Content, Entry, Stored, write};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;

/// Writes an adapter's folder, made if it is not there: its tensors under PEFT's names, and its configuration behind
/// them, each whole or not at all.
///
/// # Errors
/// [`Error::Write`] if a file cannot be written; what was there before is there still.
pub fn save(folder: &Path, config: &Json, tensors: &[(String, HostTensor)]) -> Result<()> {
    let file = folder.join(CONFIG);
    let failed = |e: std::io::Error| Error::Write { path: file.display().to_string(), what: e.to_string() };
    fs::create_dir_all(folder).map_err(failed)?;
    let entry = |(name, tensor): &(String, HostTensor)| Entry {
        name: name.clone(),
        content: Content::Memory(Cow::Owned(tensor.clone()), Stored::F32),
    };
    write(&folder.join(WEIGHTS), &tensors.iter().map(entry).collect::<Vec<_>>())?;
    let draft = folder.join(format!(".vit-gpu.{}.adapter.tmp", std::process::id()));
    let text = format!("{config:#}\n");
    let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &file));
    if written.is_err() {
        _ = fs::remove_file(&draft);
    }
    written.map_err(failed)
}
