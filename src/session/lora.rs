//! A LoRA adapter laid over a model's files: whose names its modules have, and what becomes of the configuration.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::files::{Applied, ModelFiles};
use super::folder;
use crate::checkpoint::lora::{self, Lora};
use crate::checkpoint::{LowRank, Overlay};
use crate::error::{Error, Result};
use crate::models::TensorNames;
use crate::printable::printable;
use crate::tensor::Shape;

/// Fields that say how many classes there are, and what they are called.
const LABELS: [&str; 7] = [
    "num_labels",
    "_num_labels",
    "id2label",
    "label2id",
    "problem_type",
    "label_names",
    "label_descriptions",
];

/// The base model of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A file or folder that is there.
    Path(PathBuf),
    /// A path, or a name on the hub.
    Named(String),
}

/// The model that the adapter in this folder was made for; `None` if it holds no adapter, or a whole model beside
/// one. A relative path is looked for from the adapter's folder first, then from the working directory.
///
/// # Errors
/// [`Error::Model`] for a configuration that cannot be read, or names no base.
pub fn base_of_adapter(path: &Path) -> Result<Option<Base>> {
    if !path.is_dir() || !folder::is_adapter(path) {
        return Ok(None);
    }
    let file = path.join(lora::CONFIG);
    let config = folder::read(&file)?.unwrap_or_default();
    let name = config.get("base_model_name_or_path").and_then(Json::as_str).filter(|name| !name.is_empty());
    let Some(name) = name else {
        let what = "`base_model_name_or_path` names no model that it was made for";
        return Err(Error::model(file.display(), what, "name that model, and this as its adapter"));
    };
    let beside = path.join(name);
    // An adapter on an adapter, or on itself, would be looked through without end.
    for base in [&beside, Path::new(name)] {
        if base.is_dir() && folder::is_adapter(base) {
            let what = format!("{} is made for an adapter, {}", path.display(), printable(name));
            return Err(Error::usage(what, "merge that one into its model"));
        }
    }
    Ok(Some(if beside.exists() { Base::Path(beside) } else { Base::Named(name.to_owned()) }))
}

impl ModelFiles {
    /// These files with the adapter of a folder laid over the tensors. A `config.json` there names the classes.
    ///
    /// # Errors
    /// As [`Lora::open`] and [`ModelFiles::with_lora`].
    pub fn with_adapter(self, path: &Path, mmap: bool) -> Result<Self> {
        let lora = Lora::open(path, mmap)?;
        let labels = folder::read(&path.join("config.json"))?;
        let own = self.folder.as_deref().is_some_and(|own| same(own, path));
        let mut files = self.with_lora(&lora)?;
        if own && let Some(beside) = folder::adapter_beside(path) {
            files.warnings.retain(|warning| *warning != beside);
        }
        if let (Some(to), Some(from)) = (files.config.as_object_mut(), labels.as_ref().filter(|_| !own)) {
            let said = LABELS.iter().filter_map(|key| Some((*key, from.get(key)?)));
            to.extend(said.map(|(key, value)| (key.to_owned(), value.clone())));
            // One name stands for classes of texts and for those of tokens: the class says which.
            let class = from.get("architectures").filter(|list| {
                list[0].as_str().is_some_and(|class| class.ends_with("ForTokenClassification"))
            });
            to.extend(class.map(|class| ("architectures".to_owned(), class.clone())));
        }
        files.adapter = files.adapter.map(|adapter| Applied { folder: Some(path.to_owned()), ..adapter });
        Ok(files)
    }

    /// These files with an adapter laid over the tensors: whatever spelling of the family's names it has, each of
    /// its modules finds the file's tensor. A head with another number of classes takes the old one's names away.
    ///
    /// # Errors
    /// [`Error::Model`] for a module that the model does not have, and for factors that do not fit.
    pub fn with_lora(mut self, lora: &Lora) -> Result<Self> {
        let file = lora.checkpoint.name();
        let names =
            TensorNames::new(&self.config, self.checkpoint.index()).map_err(|e| e.within(&self.name))?;
        let unknown = |tensor: &str| {
            let near =
                names.near(tensor).map_or(String::new(), |near| format!(" (it has `{}`)", printable(&near)));
            let what = format!("`{}` is not in {}{near}", printable(tensor), self.name);
            Error::model(file, what, "the adapter was made for another model")
        };
        let mut overlay = Overlay::default();
        for pair in &lora.pairs {
            let weight = format!("{}.weight", pair.module);
            let tensor = names.find(&weight).ok_or_else(|| unknown(&weight))?;
            let turned = names.is_in_out(&tensor);
            let low = LowRank { a: pair.a.clone(), b: pair.b.clone(), scale: pair.scale, turned };
            if overlay.low_rank.insert(tensor.clone(), low).is_some() {
                let what = format!(
                    "two modules are `{}` of the model, one `{}`",
                    printable(&tensor),
                    printable(&pair.a)
                );
                return Err(Error::model(file, what, "save the adapter again"));
            }
        }
        let mut classes: Option<(bool, usize)> = None;
        for saved in &lora.saved {
            let tensor = match names.find(&saved.tensor) {
                Some(tensor) => tensor,
                None if lora.config.is_saved(&saved.tensor) => names.missing(&saved.tensor),
                None => return Err(unknown(&saved.tensor)),
            };
            let rows = |of: Option<&Shape>| of.and_then(|shape| shape.dims().first().copied());
            let before = rows(self.checkpoint.index().get(&tensor));
            let after = rows(lora.checkpoint.index().get(&saved.name));
            if let Some(after) = after.filter(|after| names.is_classes(&tensor) && before != Some(*after)) {
                classes = Some((before.is_none(), after));
            }
            if overlay.low_rank.contains_key(&tensor) {
                let what = format!("`{}` is both adapted and replaced", printable(&tensor));
                return Err(Error::model(file, what, "save the adapter again"));
            }
            if let Some(other) = overlay.replaced.insert(tensor, saved.name.clone()) {
                let what = format!("`{}` and `{}` are one tensor", printable(&other), printable(&saved.name));
                return Err(Error::model(file, what, "save the adapter again"));
            }
        }
        let adapted = self.checkpoint.overlaid(&lora.checkpoint, overlay)?;
        if let (Some(config), Some((new, classes))) = (self.config.as_object_mut(), classes) {
            config.retain(|key, _| !LABELS.contains(&key.as_str()));
            for at in ["/num_classes", "/model_args/num_classes", "/pretrained_cfg/num_classes"] {
                if let Some(number) = config_at(config, at) {
                    *number = classes.into();
                }
            }
            // By the number of these others know how many there are.
            let named = |i: usize| format!("LABEL_{i}");
            let by_id = (0..classes).map(|i| (i.to_string(), Json::from(named(i))));
            let by_name = (0..classes).map(|i| (named(i), Json::from(i)));
            config.insert("id2label".to_owned(), Json::Object(by_id.collect()));
            config.insert("label2id".to_owned(), Json::Object(by_name.collect()));
            // A base without a head is by its class another model than the adapter was trained in.
            let class =
                lora.json.pointer("/auto_mapping/base_model_class").filter(|class| new && class.is_string());
            if let Some(class) = class {
                config.insert("architectures".to_owned(), Json::Array(vec![class.clone()]));
            }
        }
        let elements =
            |name: &str| lora.checkpoint.index().get(name).map_or(0, |shape| shape.elements() as u64);
        self.adapter = Some(Applied {
            name: lora.name.clone(),
            folder: None,
            rank: lora.config.rank,
            alpha: lora.config.alpha,
            adapted: lora.pairs.len(),
            replaced: lora.saved.len(),
            parameters: lora.names().iter().map(|name| elements(name)).sum(),
            names: lora.names().into_iter().map(str::to_owned).collect(),
            config: lora.json.clone(),
        });
        self.checkpoint = adapted;
        Ok(self)
    }
}

/// A value of a configuration by its path of keys.
fn config_at<'a>(config: &'a mut serde_json::Map<String, Json>, path: &str) -> Option<&'a mut Json> {
    let mut keys = path.split('/').skip(1);
    let first = config.get_mut(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get_mut(key))
}

/// Whether two paths are one folder.
fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
