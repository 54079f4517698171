//! Feature `hub`. A blob in the making, and what earlier attempts at it left.
//!
//! Each process writes to a file of its own, which it holds a lock on, so that the next one sees at once whose
//! owner is gone: a process that gives up, is interrupted or is killed leaves its part to whoever needs the
//! blob next. Where a file system has no locks, a part is left behind once it is old; it is copied then, since
//! a process that only seems dead may still write. Other programs' parts are left alone: they may be written
//! out of order.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::hub::disk::{Hold, PIECE_BYTES, cannot_write, hold, open_part, sync_folder};
use crate::hub::failure::{Failure, hub_error};
use crate::hub::identity::{Identity, has_sha1, hexadecimal};
use crate::textfile;

/// Age after which a part of which no lock tells counts as left behind: far beyond the longest silence.
const STALE: Duration = Duration::from_secs(15 * 60);

/// Age after which nobody is expected to come back for what a download left.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// End of the name of a part in the making, and of one that was left.
const PART: &str = ".part.vit-gpu.incomplete";
const REST: &str = ".rest.vit-gpu.incomplete";

/// A blob in the making: a file of this process alone.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    /// Bytes written so far.
    pub(super) length: u64,
    /// Whether the first of them are from an earlier process.
    resumed: bool,
    pub(super) identity: Identity,
    /// Whether dropping it unfinished leaves it for later.
    pub(super) keep: bool,
    /// Where it is left.
    rest: Option<PathBuf>,
}

impl Part {
    /// A part for this content: what an earlier attempt left of it, or a new one.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::error::Error::Hub) if the cache cannot be written.
    pub(super) fn claim(blobs: &Path, identity: &Identity) -> Result<Self> {
        let name = identity.etag.as_deref().unwrap_or("unnamed");
        // Only content that a hash will vouch for is worth continuing.
        let rest = identity.sha256().map(|sha| blobs.join(format!("{sha}{REST}")));
        let path = own(blobs, name);
        let (path, file) = match adopt(blobs, name, rest.is_some(), &path) {
            Some(file) => (path, file),
            None => create(blobs, name).map_err(|e| cannot_write(&path, &e, identity.bytes))?,
        };
        let (keep, identity) = (rest.is_some(), identity.clone());
        let mut part =
            Self { path, file, hash: Sha256::new(), length: 0, resumed: false, identity, keep, rest };
        part.rehash().map_err(|e| cannot_write(&part.path, &e, part.identity.bytes))?;
        part.resumed = part.length > 0;
        if part.identity.bytes.is_some_and(|n| part.length > n) {
            part.restart()?;
        }
        Ok(part)
    }

    /// Whether every byte is there, as far as the length is known.
    pub(super) fn is_whole(&self) -> bool {
        self.resumed && self.identity.bytes == Some(self.length)
    }

    fn rehash(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match self.file.read(&mut piece)? {
                0 => return Ok(()),
                n => {
                    self.hash.update(&piece[..n]);
                    self.length += n as u64;
                }
            }
        }
    }

    /// Forgets what was written.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::error::Error::Hub) if the file cannot be emptied.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| cannot_write(&self.path, &e, self.identity.bytes))?;
        self.hash = Sha256::new();
        self.length = 0;
        self.resumed = false;
        Ok(())
    }

    /// Writes what comes next of `total` bytes.
    ///
    /// # Errors
    /// [`Error::Hub`](crate::error::Error::Hub) if it cannot be written; the part is then of no use.
    pub(super) fn append(&mut self, piece: &[u8], total: Option<u64>) -> Result<()> {
        let missing = total.map(|t| t - self.length);
        self.file.write_all(piece).map_err(|e| {
            // How much of the piece arrived is unknown.
            self.keep = false;
            cannot_write(&self.path, &e, missing)
        })?;
        self.hash.update(piece);
        self.length += piece.len() as u64;
        Ok(())
    }

    /// Checks the content, flushes it, and gives it its name.
    pub(super) fn finish(mut self, file: &str, blobs: &Path) -> Result<PathBuf, Failure> {
        self.keep = false;
        let sha = hexadecimal(&self.hash.finalize_reset());
        self.check(file, &sha)?;
        let cannot = |e: io::Error| cannot_write(&self.path, &e, self.identity.bytes);
        self.file.sync_all().map_err(cannot)?;
        let blob = blobs.join(self.identity.etag.as_deref().unwrap_or(&sha));
        match fs::rename(&self.path, &blob) {
            // On Windows a blob that another process holds open cannot be replaced; it is the same.
            Err(_) if cfg!(windows) && blob.metadata().is_ok_and(|m| m.len() == self.length) => {}
            renamed => renamed.map_err(cannot)?,
        }
        sync_folder(blobs);
        Ok(blob)
    }

    /// Whether the content, of this SHA-256, is what the hub names it by.
    fn check(&mut self, file: &str, sha: &str) -> Result<(), Failure> {
        let differs = |kind: &str, found: &str, expected: &str| {
            let what =
                format!("{file}: the content's {kind} is {found}, the hub lists {expected}; it was deleted");
            let help = "pull again; if it repeats, something between here and the hub alters files";
            hub_error(what, help)
        };
        if let Some(expected) = self.identity.sha256()
            && !expected.eq_ignore_ascii_case(sha)
        {
            if self.resumed {
                return Err(Failure::again(format!(
                    "{file}: what was left of an earlier download does not fit"
                )));
            }
            return Err(differs("SHA-256", sha, expected).into());
        }
        if self.identity.bytes.is_none() && self.identity.sha256().is_none() {
            let text = fs::read(&self.path).unwrap_or_default();
            if file.ends_with(".json") && textfile::json(&text).is_err() {
                let what =
                    format!("{file}: arrived without a stated length and is not whole JSON; it was deleted");
                return Err(hub_error(what, "pull again").into());
            }
        }
        if let Some(expected) = self.identity.sha1() {
            let checked = has_sha1(&mut self.file, expected);
            let (same, found) = checked.map_err(|e| cannot_write(&self.path, &e, None))?;
            if !same {
                let wrong = differs("SHA-1", &found, expected);
                // Without a length, a transfer that broke off looks like one that ended.
                return Err(match self.identity.bytes {
                    Some(_) => wrong.into(),
                    None => Failure::again(wrong.message()),
                });
            }
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        match &self.rest {
            Some(rest) if self.keep && self.length > 0 => _ = fs::rename(&self.path, rest),
            // Gone already if it became a blob.
            _ => _ = fs::remove_file(&self.path),
        }
    }
}

/// A name for a part of this process: random, since process ids repeat between the machines and containers
/// that share a cache.
fn own(blobs: &Path, name: &str) -> PathBuf {
    let random = RandomState::new().build_hasher().finish();
    blobs.join(format!("{name}.{random:016x}{PART}"))
}

fn create(blobs: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let path = own(blobs, name);
    let file = open_part(&path, true)?;
    // Nobody takes an empty file over, so it cannot be another's by now.
    hold(&file);
    Ok((path, file))
}

/// Takes the longest part of a blob over that nobody writes any more, as the file `own`, and removes the others
/// of that kind; all of them where none is `wanted`.
fn adopt(blobs: &Path, name: &str, wanted: bool, own: &Path) -> Option<File> {
    let mut left: Vec<(u64, PathBuf)> = parts(blobs)
        .filter(|path| blob_of(path) == Some(name))
        .filter_map(|path| Some((path.metadata().ok()?.len(), path)))
        .collect();
    left.sort_by(|a, b| b.cmp(a));
    let mut adopted = None;
    for (length, path) in left {
        let Ok(file) = open_part(&path, false) else { continue };
        match hold(&file) {
            Hold::Held if wanted && adopted.is_none() && length > 0 => {
                // Whoever renames it has it; it is gone if another was faster.
                adopted = fs::rename(&path, own).is_ok().then_some(file);
            }
            Hold::Held if length > 0 || age(&path) > STALE => _ = fs::remove_file(&path),
            Hold::Unknown if age(&path) > STALE => {
                if wanted && adopted.is_none() && length > 0 {
                    adopted = fs::copy(&path, own).and_then(|_| open_part(own, false)).ok();
                }
                _ = fs::remove_file(&path);
            }
            Hold::Held | Hold::Busy | Hold::Unknown => {}
        }
    }
    adopted
}

/// Removes what downloads left in `blobs` that nobody will come back for: parts of blobs that are whole, and
/// old ones.
pub(super) fn sweep(blobs: &Path) {
    for path in parts(blobs) {
        let whole = blob_of(&path).is_some_and(|name| blobs.join(name).is_file());
        if !whole && age(&path) < FORGOTTEN {
            continue;
        }
        let Ok(file) = open_part(&path, false) else { continue };
        let dead = match hold(&file) {
            Hold::Held => true,
            Hold::Busy => false,
            Hold::Unknown => age(&path) > STALE,
        };
        if dead {
            _ = fs::remove_file(&path);
        }
    }
}

/// Removes the unfinished links and references, `.<16 digits>.incomplete`, that killed processes left.
pub(super) fn sweep_drafts(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|e| e.path()) {
        let file = path.file_name().and_then(|n| n.to_str());
        let middle = file.and_then(|n| n.strip_prefix('.')?.strip_suffix(".incomplete"));
        if middle.is_some_and(is_random) && age(&path) > STALE {
            _ = fs::remove_file(&path);
        }
    }
}

/// How long ago a file was written; a link is asked itself.
fn age(path: &Path) -> Duration {
    let written = path.symlink_metadata().and_then(|m| m.modified()).ok();
    written.and_then(|t| t.elapsed().ok()).unwrap_or_default()
}

/// The parts in a folder, this program's own.
fn parts(blobs: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(blobs).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|path| blob_of(path).is_some())
}

/// The blob that a file is a part of.
fn blob_of(path: &Path) -> Option<&str> {
    let file = path.file_name()?.to_str()?;
    if let Some(name) = file.strip_suffix(REST) {
        return Some(name);
    }
    let (name, random) = file.strip_suffix(PART)?.rsplit_once('.')?;
    is_random(random).then_some(name)
}

fn is_random(digits: &str) -> bool {
    digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}
