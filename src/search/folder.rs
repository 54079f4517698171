//! The folder of an index: what lies in it and beside it, and whose it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::disk::{EMBEDDINGS, IMAGES, PARTS, failed};
#[cfg(unix)]
use crate::error::Error;
use crate::error::Result;

/// Something in a folder that no index has.
pub(super) fn stranger(folder: &Path) -> Result<Option<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(folder, &e)),
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut strangers = names.filter(|name| ![EMBEDDINGS, IMAGES, PARTS].contains(&name.as_str()));
    Ok(strangers.next())
}

/// The parts of an index by number.
pub(super) fn parts(folder: &Path) -> Vec<(usize, PathBuf)> {
    let entries = fs::read_dir(folder.join(PARTS)).into_iter().flatten().flatten();
    let numbered =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let mut parts: Vec<(usize, PathBuf)> = numbered.collect();
    parts.sort();
    parts
}

/// What begins the names of drafts of a folder.
fn prefix(place: &Path) -> String {
    format!(".{}.vit-gpu.", place.file_name().unwrap_or_default().display())
}

/// A name beside a folder, of this process's own.
pub(super) fn draft_of(place: &Path, what: &str) -> PathBuf {
    place.with_file_name(format!("{}{}.{what}.tmp", prefix(place), std::process::id()))
}

/// Drafts of a folder that a process left which was killed.
pub(super) fn drafts(place: &Path) -> Vec<PathBuf> {
    let (prefix, parent) = (prefix(place), place.parent().unwrap_or(place));
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&prefix) && name.ends_with(".tmp")
    });
    ours.map(|entry| entry.path()).collect()
}

/// Removes an index, and nothing that is none.
pub(super) fn discard(folder: &Path) {
    for (_, part) in parts(folder) {
        discard(&part);
    }
    let inside = folder.join(PARTS);
    drafts(&inside.join("x")).iter().for_each(|draft| discard(draft));
    [EMBEDDINGS, IMAGES].iter().for_each(|name| drop(fs::remove_file(folder.join(name))));
    _ = fs::remove_dir(inside);
    _ = fs::remove_dir(folder);
}

/// Holds a folder for one process, where the file system can. A process that is killed lets go.
#[cfg(unix)]
pub(super) fn lock(folder: &Path) -> Result<Option<File>> {
    use rustix::fs::{FlockOperation, flock};
    let file = File::open(folder).map_err(|e| failed(folder, &e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::input(
            folder.display(),
            "another process is bringing this index up to date",
            "wait until it is done",
        )),
        _ => Ok(Some(file)),
    }
}

/// Elsewhere nothing holds a folder.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "on Unix it may fail")]
pub(super) fn lock(_: &Path) -> Result<Option<File>> {
    Ok(None)
}
