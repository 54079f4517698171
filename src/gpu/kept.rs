//! Files that a later start reads: compiled pipelines, measured choices, ceilings. Losing one costs time and
//! nothing else.

use std::path::Path;

use sha2::{Digest, Sha256};

/// SHA-256 of some text as hexadecimal digits.
pub(super) fn digest(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// What a file name holds of a key: the first 16 of those digits.
pub(super) fn short_digest(key: &str) -> String {
    digest(key.as_bytes())[..16].to_owned()
}

/// What a file holds, if there is one that can be read.
pub(super) fn read(file: &Path) -> Option<Vec<u8>> {
    std::fs::read(file).ok()
}

/// Replaces a file as a whole, by writing beside it and renaming; yields whether it could.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> bool {
    let Some(folder) = file.parent() else { return false };
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&temporary, bytes))
        .and_then(|()| std::fs::rename(&temporary, file));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("file.json");
        assert!(replace(&file, b"first") && replace(&file, b"second"));
        assert_eq!(std::fs::read(&file).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert!(!replace(&file.join("below a file"), b"x"));
    }
}
