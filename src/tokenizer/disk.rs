//! The files of a tokenizer as they lie on disk: bounded, and told of by name where they are wrong.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::textfile;

/// Largest file, in bytes; the largest vocabularies in use take half of it.
const MAX_BYTES: u64 = 64 << 20;
/// What to do about a file that is wrong.
pub(super) const AGAIN: &str = "download it again, or write it anew with `AutoTokenizer.from_pretrained(…).save_pretrained(…)` in Python";

/// What to say of a file that is not there.
pub(super) fn missing(path: &Path) -> Error {
    Error::model(path.display(), "no such file", "copy it from where the checkpoint is from")
}

/// A file's bytes; `None` if there is no such file.
pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail =
        |e: std::io::Error| Error::model(path.display(), e.to_string(), "check the file and its permissions");
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(Error::model(path.display(), "it is not a regular file", "")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(e)),
    }
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut found = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut found).map_err(fail)?;
    if found.len() as u64 > MAX_BYTES {
        let what = format!("more than {} MiB are too many for a tokenizer", MAX_BYTES >> 20);
        return Err(Error::model(path.display(), what, "is this the right file?"));
    }
    Ok(Some(found))
}

/// A text file that must be there.
pub(super) fn text(path: &Path) -> Result<String> {
    let found = bytes(path)?.ok_or_else(|| missing(path))?;
    let text = textfile::text(&found).map(Cow::into_owned);
    text.map_err(|what| Error::model(path.display(), what, AGAIN))
}

/// JSON in the bytes of a file.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Value> {
    textfile::json(bytes).map_err(|what| Error::model(path.display(), what, AGAIN))
}

/// A small JSON file that may be missing.
pub(super) fn object(folder: &Path, file: &str) -> Result<Option<Map<String, Value>>> {
    let path = folder.join(file);
    let Some(bytes) = bytes(&path)? else { return Ok(None) };
    match parse(&path, &bytes)? {
        Value::Object(map) => Ok(Some(map)),
        _ => Err(Error::model(path.display(), "it is not a JSON object", AGAIN)),
    }
}
