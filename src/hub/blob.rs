//! Feature `hub`. One file from a hub to the cache's `blobs` folder, whole or not at all.
//!
//! A blob is named by its content (the hub's etag), so two processes that fetch the same file write
//! the same bytes, and whoever renames last replaces like with like: no lock is needed. Each writes
//! to a file of its own. One that gives up leaves its part under a name that the next attempt finds;
//! one that was killed leaves it under its own name, which is taken over, by copy, once it is old.
//! Other programs' parts are left alone: they may be written out of order.
//!
//! A blob gets its name only after its length and, where the etag is one, its SHA-256 have been
//! checked and it has been flushed to disk. Content that fails the check is deleted.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hub::Progress;
use crate::hub::http::{Answer, Client, Failure, hub_error};
use crate::printable::printable;

/// Bytes read and written at once.
const PIECE_BYTES: usize = 256 << 10;

/// New bytes in one attempt that count as progress, so that a long download may be cut often.
const PROGRESS_BYTES: u64 = 8 << 20;

/// Largest file accepted without a stated length or hash, in bytes.
const MAX_UNSTATED_BYTES: u64 = 64 << 20;

/// Age after which another process's part counts as left behind: far beyond its longest silence.
const STALE: Duration = Duration::from_secs(15 * 60);

/// End of the name of a part in the making, and of one that was left.
const PART: &str = ".part.vit-gpu.incomplete";
const REST: &str = ".rest.vit-gpu.incomplete";

/// What a file's content is, as far as the hub says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// Name of the blob.
    etag: Option<String>,
    /// Length in bytes.
    bytes: Option<u64>,
}

impl Identity {
    fn of(answer: &Answer, file: &str) -> Result<Self> {
        let hub = |name: &str| answer.hub_headers.get(name).and_then(|v| v.to_str().ok());
        let etag = hub("x-linked-etag")
            .or_else(|| hub("etag"))
            .map(|t| t.trim_start_matches("W/").trim_matches('"'));
        // It becomes a file name.
        let safe = |t: &&str| (1..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric());
        let linked = hub("x-linked-size").and_then(|v| v.parse().ok());
        let encoded = answer.header("content-encoding").is_some_and(|e| e != "identity");
        let stated = match answer.status {
            206 => content_range(answer).and_then(|(_, total)| total),
            _ if encoded => None,
            _ => answer.header("content-length").and_then(|v| v.parse().ok()),
        };
        if let (Some(linked), Some(stated)) = (linked, stated)
            && linked != stated
        {
            let what = format!("{file}: the hub lists {linked} bytes, the server offers {stated}");
            return Err(hub_error(what, "the hub or a mirror is out of order; try again later"));
        }
        Ok(Self { etag: etag.filter(safe).map(str::to_owned), bytes: linked.or(stated) })
    }

    /// The SHA-256 of the content, if the etag is one (64 hexadecimal digits).
    fn sha256(&self) -> Option<&str> {
        self.etag.as_deref().filter(|t| t.len() == 64 && t.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// First byte and total of a `Content-Range: bytes 5-9/10`.
fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let (range, total) = answer.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// Fetches `url` into `blobs` unless it is there; `file` names it for people. Returns the blob.
///
/// # Errors
/// [`Error::Hub`] if it cannot be fetched, does not check, or cannot be written;
/// [`Error::Interrupted`].
pub(crate) fn fetch(
    client: &Client,
    url: &str,
    file: &str,
    blobs: &Path,
    status_error: &dyn Fn(&Answer) -> Failure,
    progress: &mut Progress<'_>,
) -> Result<PathBuf> {
    let mut part: Option<Part> = None;
    client.retry(|| attempt(client, url, file, blobs, status_error, progress, &mut part))
    // Dropping `part` after a failure leaves it for the next time, if it can be resumed at all.
}

fn attempt(
    client: &Client,
    url: &str,
    file: &str,
    blobs: &Path,
    status_error: &dyn Fn(&Answer) -> Failure,
    progress: &mut Progress<'_>,
    slot: &mut Option<Part>,
) -> Result<PathBuf, Failure> {
    let mut answer = client.get(url, slot.as_ref().map_or(0, |p| p.length))?;
    if answer.status == 416 {
        // There is nothing after what we have, yet it was not complete: start over.
        discard(slot);
        return Err(Failure::again(format!("{file}: the server cannot continue the download")));
    }
    if !matches!(answer.status, 200 | 206) {
        return Err(status_error(&answer));
    }
    let identity = Identity::of(&answer, file)?;

    if slot.as_ref().is_some_and(|p| p.identity.etag != identity.etag) {
        discard(slot);
        return Err(Failure::again(format!("{file} changed on the server during the download")));
    }
    if slot.is_none() {
        if let Some(blob) = identity.etag.as_ref().map(|etag| blobs.join(etag))
            && blob.metadata().is_ok_and(|m| m.is_file() && identity.bytes.is_none_or(|n| n == m.len()))
        {
            return Ok(blob);
        }
        let part = slot.insert(Part::claim(blobs, &identity)?);
        if part.length > 0 {
            answer = client.get(url, part.length)?;
            if !matches!(answer.status, 200 | 206) || Identity::of(&answer, file)?.etag != identity.etag {
                discard(slot);
                return Err(Failure::again(format!("{file}: the server cannot continue the download")));
            }
        }
    }
    let Some(part) = slot.as_mut() else { unreachable!("the part was made above") };
    if answer.status == 206 {
        if content_range(&answer).is_some_and(|(start, _)| start != part.length) {
            discard(slot);
            return Err(Failure::again(format!("{file}: the server continued from the wrong place")));
        }
    } else if part.length > 0 {
        part.restart()?;
    }

    let before = part.length;
    let outcome = copy(client, &mut answer, file, part, identity.bytes, progress);
    let advanced = part.length.saturating_sub(before) >= PROGRESS_BYTES;
    match outcome {
        Ok(()) => {}
        Err(Failure::Again { what, wait, .. }) => {
            return Err(Failure::Again { what, wait, progress: advanced });
        }
        Err(last) => return Err(last),
    }
    let Some(part) = slot.take() else { unreachable!("the part was made above") };
    part.finish(file, blobs)
}

fn discard(slot: &mut Option<Part>) {
    if let Some(mut part) = slot.take() {
        part.keep = false;
    }
}

/// Appends an answer's body to a part until it ends or exceeds `total` bytes.
fn copy(
    client: &Client,
    answer: &mut Answer,
    file: &str,
    part: &mut Part,
    total: Option<u64>,
    progress: &mut Progress<'_>,
) -> Result<(), Failure> {
    let unstated = if part.identity.sha256().is_some() { u64::MAX } else { MAX_UNSTATED_BYTES };
    let limit = total.unwrap_or(unstated);
    let mut reader = answer.body.with_config().limit(u64::MAX).reader();
    let mut piece = vec![0; PIECE_BYTES];
    progress(file, part.length, total);
    loop {
        client.check_cancelled()?;
        let n = match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failure::again(format!("{file}: the transfer broke off ({e})"))),
        };
        if n as u64 > limit - part.length {
            part.keep = false;
            let what = format!("{file}: the server sends more than the {limit} bytes it may have");
            return Err(hub_error(what, "the hub or a mirror is out of order; try again later").into());
        }
        part.append(&piece[..n], total)?;
        progress(file, part.length, total);
    }
    match total {
        Some(total) if part.length < total => {
            Err(Failure::again(format!("{file}: the transfer ended after {} of {total} bytes", part.length)))
        }
        _ => Ok(()),
    }
}

/// A blob in the making: a file of this process alone.
struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    /// Bytes written so far.
    length: u64,
    /// Whether the first of them are from an earlier process.
    resumed: bool,
    identity: Identity,
    /// Whether dropping it unfinished leaves it for later.
    keep: bool,
    /// Where it is left.
    rest: Option<PathBuf>,
}

impl Part {
    /// A part for this content: what an earlier attempt left of it, or a new one.
    fn claim(blobs: &Path, identity: &Identity) -> Result<Self> {
        let name = identity.etag.as_deref().unwrap_or("unnamed");
        // Random, since process ids repeat between the machines and containers that share a cache.
        let own = RandomState::new().build_hasher().finish();
        let path = blobs.join(format!("{name}.{own:016x}{PART}"));
        // Only content that a hash will vouch for is worth continuing.
        let rest = identity.sha256().map(|sha| blobs.join(format!("{sha}{REST}")));
        let adopted = adopt(blobs, name, rest.as_deref(), &path);
        let cannot = |e: io::Error| cannot_write(&path, &e, identity.bytes);
        let mut open = OpenOptions::new();
        let open = open.read(true).append(true).create_new(!adopted);
        let file = open.open(&path).map_err(cannot)?;
        let (keep, identity) = (rest.is_some(), identity.clone());
        let mut part =
            Self { path, file, hash: Sha256::new(), length: 0, resumed: false, identity, keep, rest };
        part.rehash().map_err(|e| cannot_write(&part.path, &e, part.identity.bytes))?;
        part.resumed = part.length > 0;
        if part.identity.bytes.is_some_and(|n| part.length >= n) {
            // A complete part would have become a blob; this one is of no use.
            part.restart()?;
        }
        Ok(part)
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

    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| cannot_write(&self.path, &e, self.identity.bytes))?;
        self.hash = Sha256::new();
        self.length = 0;
        self.resumed = false;
        Ok(())
    }

    fn append(&mut self, piece: &[u8], total: Option<u64>) -> Result<()> {
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
    fn finish(mut self, file: &str, blobs: &Path) -> Result<PathBuf, Failure> {
        self.keep = false;
        let sha: String = self.hash.finalize_reset().iter().map(|b| format!("{b:02x}")).collect();
        if let Some(expected) = self.identity.sha256()
            && !expected.eq_ignore_ascii_case(&sha)
        {
            if self.resumed {
                return Err(Failure::again(format!(
                    "{file}: what was left of an earlier download does not fit"
                )));
            }
            let what =
                format!("{file}: the content's SHA-256 is {sha}, the hub lists {expected}; it was deleted");
            let help = "pull again; if it repeats, something between here and the hub alters files";
            return Err(hub_error(what, help).into());
        }
        if self.identity.bytes.is_none() && self.identity.sha256().is_none() {
            let text = fs::read(&self.path).unwrap_or_default();
            if file.ends_with(".json") && serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_err() {
                let what =
                    format!("{file}: arrived without a stated length and is not whole JSON; it was deleted");
                return Err(hub_error(what, "pull again").into());
            }
        }
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

/// Takes over what earlier attempts at a blob left, as the file `own`; whether there was anything.
/// Parts too old to be in use are removed on the way.
fn adopt(blobs: &Path, name: &str, rest: Option<&Path>, own: &Path) -> bool {
    // Renaming is atomic: of several processes one gets it.
    let mut adopted = rest.is_some_and(|rest| fs::rename(rest, own).is_ok());
    let Ok(entries) = fs::read_dir(blobs) else { return adopted };
    for path in entries.flatten().map(|e| e.path()).filter(|p| is_part_of(p, name)) {
        let age = path.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            // Copied, because a process that only seems dead may still hold the old file open.
            if rest.is_some() && !adopted {
                adopted = fs::copy(&path, own).is_ok();
                if !adopted {
                    _ = fs::remove_file(own);
                }
            }
            _ = fs::remove_file(&path);
        }
    }
    adopted
}

/// Whether a file is a process's own part of the blob `name`.
fn is_part_of(path: &Path, name: &str) -> bool {
    let file = path.file_name().and_then(|n| n.to_str());
    let own = file.and_then(|n| n.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(PART));
    own.is_some_and(|own| own.len() == 16 && own.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Makes a rename in `folder` durable, where the system lets folders be flushed.
pub(crate) fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        _ = File::open(folder).and_then(|f| f.sync_all());
    }
}

/// The error for a cache that cannot be written; `missing` is how many bytes were still to come.
pub(crate) fn cannot_write(path: &Path, e: &io::Error, missing: Option<u64>) -> Error {
    let path = printable(&path.display().to_string());
    let need = missing.map_or(String::new(), |n| format!(" ({n} more bytes are needed)"));
    let help = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, or set HF_HUB_CACHE to a folder on another disk"
        }
        _ => "set HF_HUB_CACHE to a folder that can be written",
    };
    hub_error(format!("cannot write the cache: {path}: {e}{need}"), help)
}
