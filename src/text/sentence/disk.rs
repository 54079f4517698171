//! The small files of sentence-transformers as they lie on disk.

use std::path::Path;

use serde_json::Value;

use crate::error::{Advice, Error, Result};
use crate::textfile;

/// Most bytes of one of these files.
const MAX_BYTES: u64 = 1 << 20;

/// What to do about one that is wrong.
pub(super) const AGAIN: Advice = Advice::NamePooling;

/// A small JSON file that may be missing.
pub(super) fn json(path: &Path) -> Result<Option<Value>> {
    let wrong = |what: String| Error::model(path.display(), what, AGAIN);
    match std::fs::metadata(path) {
        Ok(m) if m.is_file() && m.len() <= MAX_BYTES => {}
        Ok(_) => return Err(wrong("it is not a small file".to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    textfile::json(&bytes).map(Some).map_err(wrong)
}
