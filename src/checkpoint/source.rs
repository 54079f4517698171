//! The bytes of one checkpoint file: in memory, mapped, or read as needed.
//!
//! Everything above asks for ranges and gets them in pieces, so that widening bf16 to f32 never
//! holds a tensor twice. Large files are memory-mapped if the caller allows it; that is the one
//! `unsafe` of the crate. A mapped file that another process truncates *while* it is being read
//! ends this process with SIGBUS, which cannot be prevented; what can be is done: the length is
//! checked again before every tensor. Without mapping the same fault is an ordinary error.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use memmap2::Mmap;

use crate::error::{Advice, Error, Result};

/// Files below this many bytes are read, not mapped: mapping pays only for large ones.
const MAP_FROM_BYTES: u64 = 64 << 20;

/// Bytes handed over at once. A multiple of every element size.
const PIECE_BYTES: usize = 1 << 20;

/// One file's bytes.
#[derive(Debug)]
pub(crate) struct Source {
    /// Name for messages.
    name: String,
    /// Length in bytes when it was opened.
    length: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Memory(Cow<'static, [u8]>),
    Mapped { map: Mmap, file: File },
    File(Mutex<File>),
}

impl Source {
    /// Bytes that are part of the program, or that the caller has read.
    pub(crate) fn from_memory(name: &str, bytes: Cow<'static, [u8]>) -> Self {
        Self { name: name.to_owned(), length: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    /// A regular file; `mmap` allows mapping it.
    ///
    /// # Errors
    /// [`Error::Model`] if it is missing, unreadable, or not a regular file (opening a FIFO would hang).
    pub(crate) fn open(path: &Path, mmap: bool) -> Result<Self> {
        let name = path.display().to_string();
        let wrong = |e: io::Error| Error::model(&name, format!("cannot be opened: {e}"), hint(&e));
        if !path.metadata().map_err(wrong)?.is_file() {
            return Err(Error::model(
                &name,
                "is not a regular file",
                "pass a .safetensors file or its folder",
            ));
        }
        let file = File::open(path).map_err(wrong)?;
        let length = file.metadata().map_err(wrong)?.len();
        let bytes = if mmap && length >= MAP_FROM_BYTES {
            let cannot = |e: io::Error| {
                Error::model(&name, format!("cannot be mapped into memory: {e}"), mapping_hint(&e))
            };
            Bytes::Mapped { map: map(&file).map_err(cannot)?, file }
        } else {
            Bytes::File(Mutex::new(file))
        };
        Ok(Self { name, length, bytes })
    }

    /// The file's name for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Hands `range` (in bytes) to `sink`, in order, in pieces of 1 MiB and a shorter last one.
    ///
    /// # Errors
    /// [`Error::Model`] if the file has become shorter since it was opened, or cannot be read.
    pub(crate) fn read(&self, range: Range<u64>, mut sink: impl FnMut(&[u8])) -> Result<()> {
        match &self.bytes {
            Bytes::Memory(bytes) => {
                let bytes = slice(bytes, &range).ok_or_else(|| self.shrunk(self.length))?;
                bytes.chunks(PIECE_BYTES).for_each(sink);
            }
            Bytes::Mapped { map, file } => {
                let now = file.metadata().map_err(|e| self.unreadable(&e))?.len();
                if now < self.length {
                    return Err(self.shrunk(now));
                }
                let bytes = slice(map, &range).ok_or_else(|| self.shrunk(now))?;
                bytes.chunks(PIECE_BYTES).for_each(sink);
            }
            Bytes::File(file) => {
                let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                file.seek(SeekFrom::Start(range.start)).map_err(|e| self.unreadable(&e))?;
                let mut left = range.end.saturating_sub(range.start);
                let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
                while left > 0 {
                    let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    file.read_exact(&mut piece[..n]).map_err(|e| match e.kind() {
                        io::ErrorKind::UnexpectedEof => self.shrunk(file.metadata().map_or(0, |m| m.len())),
                        _ => self.unreadable(&e),
                    })?;
                    sink(&piece[..n]);
                    left -= n as u64;
                }
            }
        }
        Ok(())
    }

    /// `range` (in bytes) as a vector.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(crate) fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.read(range, |piece| out.extend_from_slice(piece))?;
        Ok(out)
    }

    fn shrunk(&self, now: u64) -> Error {
        Error::model(
            &self.name,
            format!("the file changed while it was in use: it had {} bytes and now has {now}", self.length),
            "leave the file alone while it is being loaded, or load a copy",
        )
    }

    fn unreadable(&self, e: &io::Error) -> Error {
        Error::model(&self.name, format!("cannot be read: {e}"), hint(e))
    }
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// What to try where a file cannot be mapped: most often there are no addresses left.
fn mapping_hint(e: &io::Error) -> Advice {
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => hint(e),
        _ => Advice::NoMmap,
    }
}

/// The numbers of "too many open files": of a process and of a system; on Windows of a process.
const TOO_MANY_OPEN: &[i32] = if cfg!(windows) { &[4] } else { &[24, 23] };

fn hint(e: &io::Error) -> Advice {
    if e.raw_os_error().is_some_and(|number| TOO_MANY_OPEN.contains(&number)) {
        return Advice::MoreOpenFiles;
    }
    match e.kind() {
        io::ErrorKind::NotFound => "check the path; a dangling link also reads as missing".into(),
        io::ErrorKind::PermissionDenied => "check the file's permissions".into(),
        _ => Advice::Nothing,
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see the module's words on truncation")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this Source. The bytes are plain data, valid for
    // any value, and are copied out before use, so a concurrent writer can change results but not
    // break memory; a concurrent truncation raises SIGBUS (checked against before each read).
    unsafe { Mmap::map(file) }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_system_have_a_way_out() {
        let hint_of = |number| hint(&io::Error::from_raw_os_error(number));
        // EMFILE, ENFILE, ENOENT.
        assert_eq!([hint_of(24), hint_of(23)], [Advice::MoreOpenFiles, Advice::MoreOpenFiles]);
        assert!(hint_of(2).to_string().contains("check the path"));
        // ENOMEM.
        assert_eq!(mapping_hint(&io::Error::from_raw_os_error(12)), Advice::NoMmap);
    }
}
