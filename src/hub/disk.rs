//! Feature `hub`. The cache as files: opened so that their owner is known, flushed, and told of where they
//! cannot be written.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::Error;
use crate::hub::failure::hub_error;
use crate::printable::printable;

/// Bytes read and written at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Whether a process writes an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// None does, and this one now holds it, until the file is closed.
    Held,
    /// Another does.
    #[cfg_attr(not(unix), allow(dead_code, reason = "opening says so there"))]
    Busy,
    /// The file system does not say.
    Unknown,
}

/// Opens a file that one process at a time appends to, for reading and appending.
///
/// # Errors
/// As opening; on Windows also if another process has it open for writing.
pub(super) fn open_part(path: &Path, new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(new);
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt as _;
        /// FILE_SHARE_READ and FILE_SHARE_DELETE: no second writer, but it may be renamed.
        const ONE_WRITER: u32 = 1 | 4;
        options.share_mode(ONE_WRITER);
    }
    options.open(path)
}

/// Takes hold of an open part. A process that is killed lets go.
pub(super) fn hold(file: &File) -> Hold {
    #[cfg(unix)]
    {
        use rustix::fs::{FlockOperation, flock};
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Hold::Held,
            Err(rustix::io::Errno::WOULDBLOCK) => Hold::Busy,
            Err(_) => Hold::Unknown,
        }
    }
    #[cfg(not(unix))]
    {
        _ = file;
        // On Windows opening it was the question.
        if cfg!(windows) { Hold::Held } else { Hold::Unknown }
    }
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
