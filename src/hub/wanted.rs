//! Which files a model wants beside its configuration and weights, where its repository has them, and whether a
//! snapshot has what there is of them.
//!
//! Another program's snapshot may hold a part of the repository. Whether a file that is missing exists at all
//! is written where `huggingface_hub` writes it: an empty file `.no_exist/<commit>/<file>` says that it does not.

use std::path::Path;

use serde_json::Value as Json;

use crate::checkpoint::is_plain_file_name;
use crate::models::{self, ModelKind};
use crate::textfile;

/// How images are prepared; the first that is there will do.
const IMAGES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Vocabularies; no text model works without one of them, whole or as parts.
const VOCABULARIES: [&str; 6] = [
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
];

/// What else says how texts are cut up and written.
const TEXTS: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "generation_config.json",
];

/// List of the modules that make an embedding.
pub(super) const MODULES: &str = "modules.json";

/// The file with how long a text may be and in which letters it is read (sentence-transformers), by the kind of
/// model that once was saved; the first that is there counts.
pub(crate) const SENTENCE_SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// How embeddings are made (sentence-transformers).
fn sentences() -> impl Iterator<Item = &'static str> {
    [MODULES, "1_Pooling/config.json", "config_sentence_transformers.json"]
        .into_iter()
        .chain(SENTENCE_SETTINGS)
}

/// Largest file that is read here, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Every file that is taken where it exists, besides the configuration and the weights.
pub(crate) fn beside() -> impl Iterator<Item = &'static str> {
    IMAGES.into_iter().chain(VOCABULARIES).chain(TEXTS).chain(sentences())
}

/// What a snapshot lacks beside configuration and weights.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// All that there is of it is there.
    Nothing,
    /// A file that the repository may have. The model works without, and maybe not as it should.
    Perhaps(String),
    /// What the model does not work without.
    Surely(String),
}

/// What the snapshot `folder` lacks; `absent` is where files are noted that the repository does not have.
pub(super) fn lack(folder: &Path, absent: &Path) -> Lack {
    let there = |file: &str| folder.join(file).is_file();
    let settled = |file: &str| there(file) || absent.join(file).is_file();
    let Some(config) = json(&folder.join("config.json")) else { return Lack::Nothing };
    let first = |files: &[&str]| files.iter().find(|file| !settled(file)).map(|file| (*file).to_owned());
    let images = || if IMAGES.iter().any(|f| there(f)) { None } else { first(&IMAGES) };
    // Of a model that is not known, opening it says more.
    let Some(kind) = models::kind(&config) else { return Lack::Nothing };
    let unsettled = match kind {
        // timm's configurations say how images are prepared.
        ModelKind::Vision if config.get("architecture").is_some() => None,
        ModelKind::Vision => images(),
        // LlamaGen's layout has nothing else.
        ModelKind::Generator if config.get("model_type").is_none() => None,
        ModelKind::Generator => images(),
        ModelKind::Text => {
            if !VOCABULARIES.iter().any(|f| there(f)) && first(&VOCABULARIES).is_some() {
                return Lack::Surely("its tokenizer".to_owned());
            }
            if let Some(file) = modules(folder).into_iter().find(|file| !settled(file)) {
                return Lack::Surely(file);
            }
            first(&VOCABULARIES)
                .filter(|_| !there(VOCABULARIES[0]))
                .or_else(|| first(&TEXTS))
                .or_else(|| sentences().find(|file| !settled(file)).map(str::to_owned))
        }
    };
    unsettled.map_or(Lack::Nothing, Lack::Perhaps)
}

/// The folders beside the model that its `modules.json` names: pooling, dense layers.
pub(super) fn module_folders(folder: &Path) -> Vec<(String, String)> {
    let Some(list) = json(&folder.join(MODULES)) else { return Vec::new() };
    let module = |module: &Json| {
        let (path, kind) = (module.get("path")?.as_str()?, module.get("type")?.as_str()?);
        let plain = !path.is_empty() && is_plain_file_name(path) && !path.starts_with('.');
        plain.then(|| (path.to_owned(), kind.to_owned()))
    };
    list.as_array().into_iter().flatten().filter_map(module).collect()
}

/// The files without which the modules mean nothing.
fn modules(folder: &Path) -> Vec<String> {
    let files = |(path, kind): (String, String)| {
        let weights = kind.ends_with(".Dense").then(|| format!("{path}/model.safetensors"));
        [Some(format!("{path}/config.json")), weights].into_iter().flatten()
    };
    module_folders(folder).into_iter().flat_map(files).collect()
}

/// A JSON file; none if it is not there, or is none.
fn json(path: &Path) -> Option<Json> {
    textfile::read_json(path, MAX_BYTES).ok()?
}

/// Files whose absence is worth noting.
#[cfg(feature = "hub")]
pub(super) fn noted(folder: &Path) -> Vec<String> {
    beside().map(str::to_owned).chain(modules(folder)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn lacks(files: &[(&str, &str)]) -> Lack {
        let folder = folder(files);
        lack(folder.path(), &folder.path().join("absent"))
    }

    #[test]
    fn what_each_kind_of_model_wants() {
        let vit = ("config.json", r#"{"model_type": "vit"}"#);
        assert_eq!(lacks(&[vit]), Lack::Perhaps("preprocessor_config.json".into()));
        assert_eq!(lacks(&[vit, ("processor_config.json", "{}")]), Lack::Nothing);
        assert_eq!(
            lacks(&[vit, ("absent/preprocessor_config.json", ""), ("absent/processor_config.json", "")]),
            Lack::Nothing
        );
        assert_eq!(lacks(&[("config.json", r#"{"architecture": "vit_tiny"}"#)]), Lack::Nothing);

        let bert = ("config.json", r#"{"model_type": "bert"}"#);
        let tokenizer = ("tokenizer.json", "{}");
        assert_eq!(lacks(&[bert]), Lack::Surely("its tokenizer".into()));
        assert_eq!(lacks(&[bert, tokenizer]), Lack::Perhaps("tokenizer_config.json".into()));
        assert_eq!(lacks(&[bert, ("vocab.txt", "")]), Lack::Perhaps("tokenizer.json".into()));
        let modules = r#"[{"path": "", "type": "st.Transformer"}, {"path": "1_Pooling", "type": "st.Pooling"},
                          {"path": "../x", "type": "y"}, {"path": "2_Dense", "type": "st.models.Dense"}]"#;
        let mut sentence = vec![bert, tokenizer, (MODULES, modules)];
        assert_eq!(lacks(&sentence), Lack::Surely("1_Pooling/config.json".into()));
        sentence.extend([("1_Pooling/config.json", "{}"), ("2_Dense/config.json", "{}")]);
        assert_eq!(lacks(&sentence), Lack::Surely("2_Dense/model.safetensors".into()));
        sentence.push(("absent/2_Dense/model.safetensors", ""));
        assert_eq!(lacks(&sentence), Lack::Perhaps("tokenizer_config.json".into()));
        let absent: Vec<String> =
            TEXTS.into_iter().chain(sentences()).map(|f| format!("absent/{f}")).collect();
        sentence.extend(absent.iter().map(|f| (f.as_str(), "")));
        assert_eq!(lacks(&sentence), Lack::Nothing);
    }
}
