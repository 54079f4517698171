//! Which model, on which device, how.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::ModelFiles;
use super::lora::{Base, base_of_adapter};
use crate::error::{Error, Result};
use crate::gpu::DeviceChoice;
use crate::hub::{self, HubOptions};
use crate::ops::Choices;
use crate::plan::Precision;

/// What runs the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A GPU adapter.
    Gpu(DeviceChoice),
    /// The plain CPU reference: slow, and the oracle.
    Reference,
}

/// How a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What runs the graph.
    pub device: Device,
    /// Storage types; `None` takes f32.
    pub precision: Option<Precision>,
    /// Fuse the graph; off only to compare.
    pub fuse: bool,
    /// Map weight files instead of reading them.
    pub mmap: bool,
    /// Kernel variants that the user insists on.
    pub choices: Choices,
    /// Time that may go into measuring kernel variants on first use; zero neither measures nor uses what
    /// was measured. Needs a cache folder.
    pub tuning_budget: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Gpu(DeviceChoice::default()),
            precision: None,
            fuse: true,
            mmap: true,
            choices: Choices::default(),
            tuning_budget: Duration::ZERO,
        }
    }
}

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSource {
    /// Embedded in the library: [`super::BUILTIN`] or [`super::BUILTIN_GENERATOR`].
    Builtin(String),
    /// Random weights of a named size, made on the fly: `vit-b/16`, `llamagen-b`, `bert-base`.
    Synthetic(String),
    /// A folder with `config.json` and weights, or a weights file beside its `config.json`.
    Path(PathBuf),
    /// A path, or `org/name[@revision]` on the Hugging Face hub: from its cache, or downloaded there.
    Hub(String),
    /// A model with a LoRA adapter laid over it, by the adapter's folder.
    Adapted {
        /// The base.
        base: Box<ModelSource>,
        /// The folder of the adapter.
        adapter: PathBuf,
    },
}

impl ModelSource {
    /// What a name stands for: `builtin:NAME`, a path, or a model of the hub.
    pub fn named(name: &str) -> Self {
        match name.strip_prefix("builtin:") {
            Some(builtin) => Self::Builtin(builtin.to_owned()),
            None => Self::Hub(name.to_owned()),
        }
    }

    /// Reads the model's files, whatever it does.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for files that are missing or damaged, [`crate::Error::Usage`] for a name
    /// that does not exist, [`crate::Error::Hub`] where the hub cannot deliver.
    pub fn read(&self, mmap: bool) -> Result<ModelFiles> {
        match self {
            ModelSource::Path(path) => in_folder(path, mmap),
            ModelSource::Builtin(name) => ModelFiles::builtin(name),
            ModelSource::Synthetic(name) => ModelFiles::synthetic(name),
            ModelSource::Hub(name) => {
                let found = hub::locate(name, &HubOptions::from_env(), &mut |_, _, _| {})?;
                in_folder(found.path(), mmap)
            }
            ModelSource::Adapted { base, adapter } => base.read(mmap)?.with_adapter(adapter, mmap),
        }
    }
}

/// A model's folder, or that of an adapter, whose base is looked for.
fn in_folder(path: &Path, mmap: bool) -> Result<ModelFiles> {
    let base = match base_of_adapter(path)? {
        None => return ModelFiles::in_folder(path, mmap),
        Some(Base::Path(base)) => ModelFiles::in_folder(&base, mmap),
        Some(Base::Named(name)) => ModelSource::named(&name).read(mmap),
    };
    base.map_err(|e| base_error(e, path))?.with_adapter(path, mmap)
}

/// What is wrong with the base of an adapter, which nobody named but the adapter.
pub(crate) fn base_error(error: Error, adapter: &Path) -> Error {
    let named = |what: String| format!("{what} (the base of the adapter {})", adapter.display());
    match error {
        Error::Model { model, what, help } => Error::Model { model, what: named(what), help },
        Error::Hub { what, help } => Error::Hub { what: named(what), help },
        Error::Usage { what, help } => Error::Usage { what: named(what), help },
        other => other,
    }
}

impl From<&str> for ModelSource {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}
