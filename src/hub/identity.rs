//! Feature `hub`. What the hub says a file's content is, and whether a content is that.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use sha1::Sha1;
use sha2::Digest as _;

use crate::error::Result;
use crate::hub::disk::PIECE_BYTES;
use crate::hub::failure::hub_error;
use crate::hub::http::Answer;

/// What a file's content is, as far as the hub says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Name of the blob.
    pub(super) etag: Option<String>,
    /// Length in bytes.
    pub(super) bytes: Option<u64>,
}

impl Identity {
    pub(super) fn of(answer: &Answer, file: &str) -> Result<Self> {
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
    pub(super) fn sha256(&self) -> Option<&str> {
        self.hexadecimal(64)
    }

    /// The SHA-1 by which the hub names a file that is not in LFS (40 hexadecimal digits).
    pub(super) fn sha1(&self) -> Option<&str> {
        self.hexadecimal(40)
    }

    fn hexadecimal(&self, digits: usize) -> Option<&str> {
        self.etag.as_deref().filter(|t| t.len() == digits && t.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// First byte and total of a `Content-Range: bytes 5-9/10`.
pub(super) fn content_range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let (range, total) = answer.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// Whether a file's content has the SHA-1 that a hub names it by: git's of a blob, or, as some mirrors state,
/// that of the bytes alone. The answer, and git's.
///
/// # Errors
/// As reading the file.
pub(super) fn has_sha1(file: &mut File, expected: &str) -> io::Result<(bool, String)> {
    let length = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let (mut git, mut plain) = (Sha1::new(), Sha1::new());
    git.update(format!("blob {length}\0"));
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => {
                git.update(&piece[..n]);
                plain.update(&piece[..n]);
            }
        }
    }
    let [git, plain] = [git, plain].map(|hash| hexadecimal(&hash.finalize()));
    Ok((expected.eq_ignore_ascii_case(&git) || expected.eq_ignore_ascii_case(&plain), git))
}

/// Bytes as hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_sha1_of_git_and_of_the_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        // `printf 'hello\n' | git hash-object --stdin`, and `| sha1sum`.
        let (git, plain) =
            ("ce013625030ba8dba906f756967f9e9ca394464a", "f572d396fae9206628714fb2ce00f72e94f2258f");
        assert_eq!(has_sha1(&mut file, git).unwrap(), (true, git.into()));
        assert!(has_sha1(&mut file, &git.to_uppercase()).unwrap().0);
        assert!(has_sha1(&mut file, plain).unwrap().0);
        file.set_len(4).unwrap();
        assert!(!has_sha1(&mut file, git).unwrap().0);
    }
}
