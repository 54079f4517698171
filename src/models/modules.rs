//! Names of modules in other spellings than the file's: those of an adapter, which another version of transformers
//! may have written, and those that transformers 5 knows.

use serde_json::Value as Json;

use super::names::{Names, nearest};
use super::naming::Naming;
use super::registry::{family, has_text_tower};
use crate::error::Result;
use crate::graph::TensorIndex;

/// Canonical names of what makes the scores of classes, in any family.
const CLASSES: [&str; 6] = [
    "classifier.weight",
    "cls_classifier.weight",
    "distillation_classifier.weight",
    "classifier.out_proj.weight",
    "score.weight",
    "head.weight",
];

/// The tensors of a file, found by any spelling of their names that the family knows.
pub struct TensorNames {
    names: Names,
    naming: &'static Naming,
    model_type: String,
    /// No model with a head, as `BertModel`.
    bare: bool,
}

impl TensorNames {
    /// Of a configuration and the tensors of its file.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for a configuration of no family that is known.
    pub fn new(config: &Json, index: &TensorIndex) -> Result<Self> {
        let naming = family(config)?.naming;
        let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default().to_owned();
        let class = config.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str);
        let bare = match class {
            // Not GPT2LMHeadModel.
            // Not GPT2LMHeadModel, nor CLIPModel, which is two.
            Some(class) => class.ends_with("Model") && !class.contains("Head") && !has_text_tower(config),
            None => !index.keys().any(|name| naming.is_head(&naming.canonical(name).1)),
        };
        Ok(Self { names: Names::new(index, naming), naming, model_type, bare })
    }

    /// The tensor of the file that a name in any spelling means, if there is one.
    pub fn find(&self, name: &str) -> Option<String> {
        let canonical = self.naming.canonical(name).1;
        self.names.has(&canonical).then(|| self.names.in_file(&canonical))
    }

    /// What the file would call this tensor, if it had it.
    pub fn missing(&self, name: &str) -> String {
        let canonical = self.naming.canonical(name).1;
        // Heads have no prefix in any file.
        if self.naming.is_head(&canonical) { canonical } else { self.names.in_file(&canonical) }
    }

    /// A name of the file that is near to what was looked for.
    pub fn near(&self, name: &str) -> Option<String> {
        let all: Vec<&str> = self.names.all().collect();
        nearest(&self.missing(name), &all).map(str::to_owned)
    }

    /// The name that transformers 5 gives a tensor of the file.
    pub fn current(&self, name: &str) -> String {
        self.naming.current(&self.naming.canonical(name).1, &self.model_type, self.bare)
    }

    /// Whether a tensor of the file is stored as (K,N).
    pub fn is_in_out(&self, name: &str) -> bool {
        let canonical = self.naming.canonical(name).1;
        canonical.ends_with(".weight") && self.naming.in_out.iter().any(|part| canonical.contains(part))
    }

    /// Whether a tensor of the file makes the scores of classes, one row a class.
    pub fn is_classes(&self, name: &str) -> bool {
        CLASSES.contains(&self.naming.canonical(name).1.as_str())
    }

    /// Whether a tensor of the file belongs to a head.
    pub fn is_head(&self, name: &str) -> bool {
        self.naming.is_head(&self.naming.canonical(name).1)
    }
}
