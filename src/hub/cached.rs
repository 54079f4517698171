//! What a Hugging Face cache on this machine holds. Nothing here opens a socket or writes.

use std::fs;
use std::path::{Path, PathBuf};

use super::id::{ModelId, is_commit};
use super::wanted::{Lack, lack};
use crate::checkpoint::{self, WeightFiles};

/// What the cache has of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cached {
    /// A snapshot with everything that its repository has for this program.
    Complete(PathBuf),
    /// A snapshot that can be used. Whether its repository has one more file is not known here.
    Usable {
        /// The snapshot.
        folder: PathBuf,
        /// The file.
        lacks: String,
    },
    /// Nothing usable; why, as the end of a sentence that starts with the model's name.
    Missing(String),
}

/// Looks a model up in a cache. Opens no socket and writes nothing.
pub fn cached(id: &ModelId, cache: &Path) -> Cached {
    let found = look(id, &id.cache_folder(cache));
    // Other programs keep a model under the short name that they were given.
    match (&found, id.short_cache_folder(cache)) {
        (Cached::Missing(_), Some(short)) => match look(id, &short) {
            Cached::Missing(_) => found,
            there => there,
        },
        _ => found,
    }
}

fn look(id: &ModelId, folder: &Path) -> Cached {
    let commit = if is_commit(id.revision()) {
        id.revision().to_owned()
    } else {
        match fs::read_to_string(folder.join("refs").join(id.revision())) {
            Ok(commit) if is_commit(commit.trim()) => commit.trim().to_owned(),
            Ok(_) => return Cached::Missing(format!("has a damaged reference `{}`", id.revision())),
            Err(_) => return Cached::Missing("is not".into()),
        }
    };
    state(folder, &commit)
}

/// What a model's folder in the cache has of a commit.
pub(super) fn state(folder: &Path, commit: &str) -> Cached {
    let snapshot = folder.join("snapshots").join(commit);
    if let Some(file) = lacks(&snapshot) {
        return Cached::Missing(format!("lacks {file}"));
    }
    match lack(&snapshot, &absent(folder, commit)) {
        Lack::Nothing => Cached::Complete(snapshot),
        Lack::Perhaps(lacks) => Cached::Usable { folder: snapshot, lacks },
        Lack::Surely(file) => Cached::Missing(format!("lacks {file}")),
    }
}

/// Where files are noted that the repository does not have.
pub(super) fn absent(folder: &Path, commit: &str) -> PathBuf {
    folder.join(".no_exist").join(commit)
}

/// The first thing a model folder lacks of configuration and weights.
pub(super) fn lacks(folder: &Path) -> Option<String> {
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
/// models, and references that are damaged, are skipped.
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
            let complete = !matches!(state(&cache.join(&entry), &commit), Cached::Missing(_));
            models.push(CachedModel { id, commit, folder, bytes, complete });
        }
    }
    models.sort_by(|a, b| a.id.cmp(&b.id));
    models
}
