//! Folders that are there whole or not at all: one is written beside its place, then both change places.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Brings names of files in a folder to the disk, where the system can.
pub(crate) fn sync(folder: &Path) {
    _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Puts a folder in the place of another: at once where the system has both change places, else by two renames.
/// What was there is then where the new one was.
///
/// # Errors
/// As the renames.
pub(crate) fn replace(new: &Path, place: &Path) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(new, place);
    }
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    let before = place.with_extension("before");
    _ = fs::remove_dir_all(&before);
    fs::rename(place, &before)?;
    fs::rename(new, place)?;
    fs::rename(&before, new)
}
