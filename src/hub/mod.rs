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
#[cfg(feature = "hub")]
pub mod download;
pub mod env;
#[cfg(feature = "hub")]
mod guard;
#[cfg(feature = "hub")]
mod http;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{fmt, fs};

use crate::checkpoint::{self, WeightFiles};
use crate::error::{Advice, Error, Result};
pub use crate::hub::env::{HubEnv, Token};
use crate::printable::printable;

/// Told about a download as it goes: file name, bytes done, bytes in all if known.
pub type Progress<'a> = dyn FnMut(&str, u64, Option<u64>) + 'a;

/// A hub model's name, checked: every part is safe in a path and in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    organisation: String,
    name: String,
    revision: Option<String>,
}

impl ModelId {
    /// Parses `org/name`, `org/name@revision`, or either after `hf://`.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything else. Neither the file system nor the network is touched.
    pub fn parse(spec: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let what = format!("`{}` is not a model name: {why}", printable(spec));
            Error::usage(
                what,
                "a hub model is written org/name or org/name@revision, as google/vit-base-patch16-224",
            )
        };
        let rest = spec.strip_prefix("hf://").unwrap_or(spec);
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (rest, None),
        };
        if repository.len() > 96 {
            return Err(wrong("it is too long"));
        }
        let Some((organisation, name)) = repository.split_once('/') else {
            return Err(wrong("there is no `/` between organisation and name"));
        };
        for part in [organisation, name] {
            check_part(part).map_err(|why| wrong(&why))?;
        }
        if let Some(revision) = revision {
            check_revision(revision).map_err(|why| wrong(&why))?;
        }
        Ok(Self {
            organisation: organisation.to_owned(),
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }

    /// `org/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// Branch, tag or commit; `main` if none was given.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The model's folder in a cache.
    pub fn cache_folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}--{}", self.organisation, self.name))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// The hub's own rules for an organisation's or a repository's name.
fn check_part(part: &str) -> std::result::Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if part.is_empty() {
        return Err("a part of it is empty".into());
    }
    if let Some(c) = part.chars().find(|&c| !allowed(c)) {
        return Err(format!("`{}` is not allowed in it", c.escape_default()));
    }
    if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
        return Err("a part of it starts or ends with `-` or `.`".into());
    }
    if part.contains("--") || part.contains("..") || part.ends_with(".git") {
        return Err("`--`, `..` and a final `.git` are not allowed in it".into());
    }
    Ok(())
}

/// git's rules for a reference, narrowed to what hubs use (`main`, `v1.0`, `refs/pr/3`, a commit).
fn check_revision(revision: &str) -> std::result::Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let good_part = |part: &str| !part.is_empty() && !part.starts_with(['-', '.']) && !part.ends_with(['.']);
    let good = revision.len() <= 200
        && revision.chars().all(allowed)
        && revision.split('/').all(good_part)
        && !revision.contains("..")
        && !revision.ends_with(".lock");
    if good { Ok(()) } else { Err(format!("`{}` is not a revision", printable(revision))) }
}

/// Whether this is a full commit id: 40 lower-case hexadecimal digits.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// How patient to be with a network.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Times one file is tried before giving up; progress made in between starts the count anew.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub first_wait: Duration,
    /// Longest wait before an attempt, also where a server asks for one.
    pub longest_wait: Duration,
    /// Longest wait for a connection, and for a name to be resolved.
    pub connect: Duration,
    /// Longest silence in the middle of an answer.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(10),
        }
    }
}

/// How models are found and fetched.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Cache, endpoint, token.
    pub env: HubEnv,
    /// Never open a socket, whatever the environment says.
    pub offline: bool,
    /// Time-outs and retries.
    pub patience: Patience,
    /// Set from another thread to stop a download at its next piece ([`Error::Interrupted`]).
    pub cancel: Arc<AtomicBool>,
}

impl HubOptions {
    /// Defaults with the process environment.
    pub fn from_env() -> Self {
        Self { env: HubEnv::read(), ..Self::default() }
    }

    /// Whether the network is out of bounds, by flag or by `HF_HUB_OFFLINE`.
    pub fn is_offline(&self) -> bool {
        self.offline || self.env.offline
    }
}

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
    if !spec.starts_with("hf://") {
        if let Ok(metadata) = Path::new(spec).metadata() {
            let path = PathBuf::from(spec);
            return Ok(if metadata.is_dir() { Location::Folder(path) } else { Location::File(path) });
        }
        let starts = ["./", "../", "/", "~", "\\", ".\\", "..\\"].iter().any(|s| spec.starts_with(s));
        let ends = [".safetensors", ".json", ".bin", ".pt", ".pth", "/"].iter().any(|s| spec.ends_with(s));
        if (starts || ends) && !spec.contains('\0') {
            let help = "check the path; a hub model is written org/name";
            return Err(Error::model(printable(spec), "no such file or folder", help));
        }
    }
    let id = ModelId::parse(spec)?;
    let folder = resolve(&id, options, progress)?;
    Ok(Location::Snapshot { id, folder })
}

/// The folder of a hub model: the cached snapshot if it is complete, else a fresh download.
///
/// # Errors
/// [`Error::Hub`] if there is no cache to look in, or the model is not there and may not, cannot, or
/// fails to be downloaded.
pub fn resolve(id: &ModelId, options: &HubOptions, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let cache = options.env.cache()?;
    let reason = match cached(id, &cache) {
        Cached::Complete(folder) => return Ok(folder),
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

/// What the cache has of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached {
    /// A snapshot with a configuration and all its weights.
    Complete(PathBuf),
    /// Nothing usable; why, as the end of a sentence that starts with the model's name.
    Missing(String),
}

/// Looks a model up in a cache. Opens no socket and writes nothing.
pub fn cached(id: &ModelId, cache: &Path) -> Cached {
    let folder = id.cache_folder(cache);
    let commit = if is_commit(id.revision()) {
        id.revision().to_owned()
    } else {
        match fs::read_to_string(folder.join("refs").join(id.revision())) {
            Ok(commit) if is_commit(commit.trim()) => commit.trim().to_owned(),
            Ok(_) => return Cached::Missing(format!("has a damaged reference `{}`", id.revision())),
            Err(_) => return Cached::Missing("is not".into()),
        }
    };
    let snapshot = folder.join("snapshots").join(commit);
    match lacks(&snapshot) {
        None => Cached::Complete(snapshot),
        Some(file) => Cached::Missing(format!("lacks {file}")),
    }
}

/// The first thing a model folder lacks to be usable; `None` if it is complete.
pub(crate) fn lacks(folder: &Path) -> Option<String> {
    let is_there = |path: &Path| path.metadata().is_ok_and(|m| m.is_file());
    if !is_there(&folder.join("config.json")) {
        return Some("config.json".into());
    }
    if is_there(&folder.join(checkpoint::DECODER)) {
        let tokenizer = folder.join(checkpoint::TOKENIZER);
        return (!is_there(&tokenizer)).then(|| checkpoint::TOKENIZER.into());
    }
    match checkpoint::find(folder) {
        Ok(WeightFiles::Single(file)) => (!is_there(&file)).then(|| file.display().to_string()),
        Ok(WeightFiles::Sharded(index)) => match checkpoint::shards(&index) {
            Ok(shards) => shards.into_iter().find(|shard| !is_there(&folder.join(shard))),
            Err(_) => Some(checkpoint::INDEX.into()),
        },
        Err(_) => Some("usable weights (*.safetensors)".into()),
    }
}

/// A model in the cache, by one of its references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModel {
    /// Name, with the reference as its revision.
    pub id: ModelId,
    /// The commit the reference points to.
    pub commit: String,
    /// The snapshot's folder.
    pub folder: PathBuf,
    /// Size of the snapshot's files in bytes.
    pub bytes: u64,
    /// Whether it can be used without a network.
    pub complete: bool,
}

/// All models of a cache by name. A cache that does not exist is empty; folders that are not
/// models, and references that are damaged, are passed over.
pub fn list(cache: &Path) -> Vec<CachedModel> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let mut models = Vec::new();
    for entry in names(cache) {
        let Some((organisation, name)) = entry.strip_prefix("models--").and_then(|n| n.split_once("--"))
        else {
            continue;
        };
        let refs = cache.join(&entry).join("refs");
        let requests = names(&refs.join("refs/pr")).into_iter().map(|n| format!("refs/pr/{n}"));
        for revision in names(&refs).into_iter().chain(requests) {
            let Ok(id) = ModelId::parse(&format!("{organisation}/{name}@{revision}")) else { continue };
            let Ok(commit) = fs::read_to_string(refs.join(&revision)) else { continue };
            let commit = commit.trim().to_owned();
            if !is_commit(&commit) {
                continue;
            }
            let folder = cache.join(&entry).join("snapshots").join(&commit);
            let size = |file: String| {
                folder.join(file).metadata().map_or(0, |m| if m.is_file() { m.len() } else { 0 })
            };
            let bytes = names(&folder).into_iter().map(size).sum();
            let complete = lacks(&folder).is_none();
            models.push(CachedModel { id, commit, folder, bytes, complete });
        }
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    models
}
