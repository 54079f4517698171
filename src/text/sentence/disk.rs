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
    textfile::read_json(path, MAX_BYTES).map_err(|wrong| Error::model(path.display(), wrong.what, AGAIN))
}
