//! Models by name: `org/name[@revision]`, found in the Hugging Face cache on this machine.
//!
//! The cache is shared with every other program that follows the same layout
//! (`models--org--name/{refs,snapshots,blobs}`), and reading it needs no network and no feature.
//! [`resolve`] goes to the network only if the cache has no usable copy, the `hub` feature is built
//! in, and nobody said offline. [`locate`] is what a `-m` flag means: a path first, then a name.
//!
//! Names are checked before anything else happens, since they become paths and URLs. Where things
//! lie is decided by a plain [`HubEnv`], read from the process environment once, so that nothing
//! here depends on hidden state; if it cannot be decided, that is an error and never `/tmp`.

#[cfg(feature = "hub")]
mod blob;
mod cached;
#[cfg(feature = "hub")]
mod disk;
#[cfg(feature = "hub")]
pub mod download;
pub mod env;
#[cfg(feature = "hub")]
mod failure;
#[cfg(feature = "hub")]
mod guard;
#[cfg(feature = "hub")]
mod http;
mod id;
#[cfg(feature = "hub")]
mod identity;
mod options;
#[cfg(feature = "hub")]
mod part;
mod path;
mod proxy;
#[cfg(feature = "hub")]
mod redirect;
#[cfg(feature = "hub")]
mod route;
#[cfg(feature = "hub")]
mod wait;
mod wanted;

use std::path::{Path, PathBuf};

use crate::error::{Advice, Error, Result};
pub use crate::hub::cached::{Cached, CachedModel, cached, list};
pub use crate::hub::env::{HubEnv, Token};
pub use crate::hub::id::ModelId;
pub use crate::hub::options::{HubOptions, Notice, Patience, Progress};
pub use crate::hub::path::as_path;
use crate::hub::path::{is_file_name, is_path};
pub use crate::hub::proxy::{Proxies, ProxySetting};
pub(crate) use crate::hub::wanted::{SENTENCE_SETTINGS, beside};
use crate::printable::printable;

/// What a model argument turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A weights file.
    File(PathBuf),
    /// A folder with `config.json` and weights.
    Folder(PathBuf),
    /// A folder of the hub cache.
    Snapshot {
        /// The name it was asked for by.
        id: ModelId,
        /// The folder; its last component is the commit.
        folder: PathBuf,
    },
}

impl Location {
    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Location::File(path) | Location::Folder(path) | Location::Snapshot { folder: path, .. } => path,
        }
    }
}

/// Finds the model that a `-m` argument means: an existing file or folder, else a hub model. A
/// folder `a/b` hides the hub model `a/b`; `hf://a/b` always means the hub, `./a/b` always a path.
///
/// # Errors
/// [`Error::Model`] for a path that is not there, [`Error::Usage`] for what is neither a path nor a
/// name, otherwise as [`resolve`].
pub fn locate(spec: &str, options: &HubOptions, progress: &mut Progress<'_>) -> Result<Location> {
    if spec.starts_with("hf://") {
        let id = ModelId::parse(spec)?;
        let folder = resolve(&id, options, progress)?;
        return Ok(Location::Snapshot { id, folder });
    }
    if let Ok(metadata) = Path::new(spec).metadata() {
        let path = PathBuf::from(spec);
        return Ok(if metadata.is_dir() { Location::Folder(path) } else { Location::File(path) });
    }
    if is_path(spec) {
        let help = "check the path; a hub model is written org/name";
        return Err(Error::model(printable(spec), "no such file or folder", help));
    }
    let id = match ModelId::parse(spec) {
        Ok(id) => id,
        Err(_) if is_file_name(spec) => {
            let what = "no such file or folder, and no model of a hub: those are written org/name";
            return Err(Error::model(printable(spec), what, "check the path or the name"));
        }
        Err(e) => return Err(e),
    };
    let folder = resolve(&id, options, progress).map_err(|e| match e {
        // Whoever meant a path must see that it was looked for.
        Error::Hub { what, help } => Error::Hub {
            what: format!("{what} (and there is no file or folder `{}`)", printable(spec)),
            help,
        },
        e => e,
    })?;
    Ok(Location::Snapshot { id, folder })
}

/// The folder of a hub model: the cached snapshot if it is complete, else a fresh download. A snapshot of which
/// the hub alone could say that nothing is missing is used where the hub cannot be asked.
///
/// # Errors
/// [`Error::Hub`] if there is no cache to look in, or the model is not there and may not, cannot, or
/// fails to be downloaded.
pub fn resolve(id: &ModelId, options: &HubOptions, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let cache = options.env.cache()?;
    let reason = match cached(id, &cache) {
        Cached::Complete(folder) => return Ok(folder),
        Cached::Usable { folder, .. } if options.is_offline() || !cfg!(feature = "hub") => return Ok(folder),
        Cached::Usable { folder, lacks } => {
            let reason = format!("may lack {lacks}");
            return match fetch(id, options, progress, &cache, &reason) {
                Err(Error::Interrupted) => Err(Error::Interrupted),
                Err(e) => {
                    let why = e.message();
                    options.notice.say(&format!("the cached copy of {id} is used, which {reason}: {why}"));
                    Ok(folder)
                }
                complete => complete,
            };
        }
        Cached::Missing(reason) => reason,
    };
    if options.is_offline() {
        return Err(Error::Hub {
            what: format!("{id} {reason} in {}, and going online is off", cache.display()),
            help: Advice::GoOnline { model: Some(id.to_string()) },
        });
    }
    fetch(id, options, progress, &cache, &reason)
}

#[cfg(feature = "hub")]
fn fetch(
    id: &ModelId,
    options: &HubOptions,
    progress: &mut Progress<'_>,
    _: &Path,
    _: &str,
) -> Result<PathBuf> {
    download::pull(id, options, progress)
}

#[cfg(not(feature = "hub"))]
fn fetch(id: &ModelId, _: &HubOptions, _: &mut Progress<'_>, cache: &Path, reason: &str) -> Result<PathBuf> {
    Err(Error::Hub {
        what: format!(
            "{id} {reason} in {}, and this build cannot download (no `hub` feature)",
            cache.display()
        ),
        help: format!("run `hf download {}`, or pass a folder", id.repository()).into(),
    })
}
