//! What the files of sentence-transformers beside a checkpoint say of its embeddings: how the
//! vectors of tokens become one, whether it is brought to length 1, how long a text may be.
//!
//! `modules.json` lists what is done after the Transformer; `1_Pooling/config.json` and
//! `sentence_bert_config.json` hold the settings. A folder without `modules.json` says nothing.

use std::path::Path;

use serde_json::Value;

use crate::error::{Advice, Error, Result};
use crate::printable::printable;

/// Most bytes of one of these files.
const MAX_BYTES: u64 = 1 << 20;

/// How the vectors of tokens become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentencePooling {
    /// The first token.
    Cls,
    /// The mean of all tokens.
    Mean,
    /// Something else, by the name of its switch or module.
    Other(String),
}

/// What a folder says of its embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// How the vectors of tokens become one.
    pub pooling: SentencePooling,
    /// Whether embeddings are brought to length 1.
    pub normalize: bool,
    /// Tokens of the longest text.
    pub limit: Option<usize>,
}

impl Sentence {
    /// Reads the files of a checkpoint's folder; `None` if there is no `modules.json`.
    ///
    /// # Errors
    /// [`Error::Model`] for files that cannot be read or say nothing that is known.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let Some(modules) = json(&folder.join("modules.json"))? else { return Ok(None) };
        let name = || folder.join("modules.json").display().to_string();
        let list = modules.as_array().ok_or_else(|| Error::model(name(), "it is not a list", AGAIN))?;
        let mut found = Self { pooling: SentencePooling::Mean, normalize: false, limit: None };
        for module in list {
            // As in "sentence_transformers.models.Pooling".
            let kind = module["type"].as_str().and_then(|t| t.rsplit('.').next()).unwrap_or_default();
            match kind {
                "Transformer" => {}
                "Pooling" => {
                    let path = module["path"].as_str().unwrap_or("1_Pooling");
                    found.pooling = pooling(folder, path)?;
                }
                "Normalize" => found.normalize = true,
                other => found.pooling = SentencePooling::Other(printable(other)),
            }
        }
        let settings = json(&folder.join("sentence_bert_config.json"))?;
        let limit = settings.as_ref().and_then(|s| s["max_seq_length"].as_u64());
        found.limit = limit.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        Ok(Some(found))
    }
}

const AGAIN: Advice = Advice::NamePooling;

fn pooling(folder: &Path, path: &str) -> Result<SentencePooling> {
    if path.is_empty() || path.contains(['/', '\\', ':']) || path.starts_with('.') {
        let what = format!("the module's folder `{}` is none beside it", printable(path));
        return Err(Error::model(folder.join("modules.json").display(), what, AGAIN));
    }
    let file = folder.join(path).join("config.json");
    let config = json(&file)?.ok_or_else(|| Error::model(file.display(), "no such file", AGAIN))?;
    // Older files have a switch for each mode, newer ones the mode's name.
    let mode = config["pooling_mode"].as_str().map(str::to_owned);
    let switches = config.as_object().into_iter().flatten();
    let on: Vec<&str> = switches
        .filter(|(_, v)| **v == Value::Bool(true))
        .filter_map(|(k, _)| k.strip_prefix("pooling_mode_"))
        .collect();
    Ok(match (mode.as_deref(), on.as_slice()) {
        (Some("cls"), _) | (None, ["cls_token"]) => SentencePooling::Cls,
        (Some("mean"), _) | (None, ["mean_tokens"]) => SentencePooling::Mean,
        (Some(other), _) => SentencePooling::Other(printable(other)),
        (None, []) => return Err(Error::model(file.display(), "it names no way of pooling", AGAIN)),
        (None, several) => SentencePooling::Other(printable(&several.join(" and "))),
    })
}

/// A small JSON file that may be missing.
fn json(path: &Path) -> Result<Option<Value>> {
    let wrong = |what: String| Error::model(path.display(), what, AGAIN);
    match std::fs::metadata(path) {
        Ok(m) if m.is_file() && m.len() <= MAX_BYTES => {}
        Ok(_) => return Err(wrong("it is not a small file".to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
    }
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(format!("not valid JSON: {e}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn folder(modules: &str, pooling: &str, limit: Option<&str>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("modules.json"), modules).unwrap();
        std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        std::fs::write(folder.path().join("1_Pooling/config.json"), pooling).unwrap();
        if let Some(limit) = limit {
            std::fs::write(folder.path().join("sentence_bert_config.json"), limit).unwrap();
        }
        folder
    }

    const MODULES: &str = r#"[
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

    #[test]
    fn what_the_files_say() {
        let mean = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        let at = folder(MODULES, mean, Some(r#"{"max_seq_length": 256}"#));
        let said = Sentence::read(at.path()).unwrap().unwrap();
        assert_eq!(said, Sentence { pooling: SentencePooling::Mean, normalize: true, limit: Some(256) });
        let cls = folder(
            "[{\"type\": \"x.Pooling\", \"path\": \"1_Pooling\"}]",
            r#"{"pooling_mode": "cls"}"#,
            None,
        );
        let said = Sentence::read(cls.path()).unwrap().unwrap();
        assert_eq!(said, Sentence { pooling: SentencePooling::Cls, normalize: false, limit: None });
        let max = folder(MODULES, r#"{"pooling_mode_max_tokens": true}"#, None);
        let said = Sentence::read(max.path()).unwrap().unwrap();
        assert_eq!(said.pooling, SentencePooling::Other("max_tokens".to_owned()));
        let dense = folder(r#"[{"type": "sentence_transformers.models.Dense"}]"#, mean, None);
        assert_eq!(
            Sentence::read(dense.path()).unwrap().unwrap().pooling,
            SentencePooling::Other("Dense".into())
        );
        assert_eq!(Sentence::read(tempfile::tempdir().unwrap().path()), Ok(None));
    }

    #[test]
    fn files_that_say_nothing() {
        for (modules, pooling, says) in [
            ("{}", "{}", "not a list"),
            ("[", "{}", "not valid JSON"),
            (MODULES, "{}", "names no way"),
            (MODULES, "[", "not valid JSON"),
            (r#"[{"type": "a.Pooling", "path": "../1_Pooling"}]"#, "{}", "is none beside it"),
            (r#"[{"type": "a.Pooling", "path": "2_Pooling"}]"#, "{}", "no such file"),
        ] {
            let at = folder(modules, pooling, None);
            let e = Sentence::read(at.path()).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
