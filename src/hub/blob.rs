//! Feature `hub`. One file from a hub to the cache's `blobs` folder, whole or not at all.
//!
//! A blob is named by its content (the hub's etag), so two processes that fetch the same file write
//! the same bytes, and whoever renames last replaces like with like: no lock is needed for that. What an
//! attempt leaves is taken over by the next one (`hub::part`).
//!
//! A blob gets its name only after its length and, where the etag is one, its SHA-256 or git's SHA-1 have been
//! checked and it has been flushed to disk. Content that fails the check is deleted.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::hub::Progress;
use crate::hub::disk::PIECE_BYTES;
use crate::hub::failure::{Failure, hub_error};
use crate::hub::http::{Answer, Client};
use crate::hub::identity::{Identity, content_range, has_sha1};
use crate::hub::part::Part;

/// New bytes in one attempt that count as progress, so that a long download may be cut often.
const PROGRESS_BYTES: u64 = 8 << 20;

/// Largest file accepted without a stated length or hash, in bytes.
const MAX_UNSTATED_BYTES: u64 = 64 << 20;

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
            && is_sound(&blob, &identity)
        {
            return Ok(blob);
        }
        let part = slot.insert(Part::claim(blobs, &identity)?);
        if part.is_whole() {
            let Some(part) = slot.take() else { unreachable!("the part was made above") };
            return part.finish(file, blobs);
        }
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

/// Whether a blob that is there already is what the hub names. A large one is taken at its word, as every other
/// program does; a small one is read.
fn is_sound(blob: &Path, identity: &Identity) -> bool {
    let Ok(metadata) = blob.metadata() else { return false };
    let same_length = metadata.is_file() && identity.bytes.is_none_or(|n| n == metadata.len());
    let same_hash = |sha: &str| {
        let checked = File::open(blob).and_then(|mut file| has_sha1(&mut file, sha));
        checked.is_ok_and(|(same, _)| same)
    };
    same_length && identity.sha1().is_none_or(same_hash)
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
