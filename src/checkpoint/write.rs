//! Writing safetensors files: whole or not at all, beside their place and then renamed, one tensor in memory
//! at a time.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::View;

use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::printable::printable;
use crate::tensor::{Elements, HostTensor};

/// Element types that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As they are in memory.
    F32,
    /// Rounded to the nearest half.
    F16,
    /// Rounded to the nearest bfloat16.
    BF16,
}

/// A tensor to be written.
pub struct Entry<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its elements.
    pub content: Content<'a>,
}

/// Where the elements of a tensor come from.
pub enum Content<'a> {
    /// Memory: f32 as the type says; whole numbers as they are.
    Memory(Cow<'a, HostTensor>, Stored),
    /// What another checkpoint has under this name, byte for byte, in its own type.
    Same(&'a Checkpoint, &'a str),
    /// What another checkpoint makes of this name, in f32, rounded to the type.
    Read(&'a Checkpoint, &'a str, Stored),
}

/// Writes a safetensors file, the same bytes for the same tensors. Its header says `format: pt`, without which
/// transformers does not read it.
///
/// # Errors
/// [`Error::Write`] if the file cannot be written: then what was at `path` is still there;
/// [`Error::Model`] if a checkpoint's tensor cannot be read; [`Error::Usage`] for two tensors of one name.
pub fn write(path: &Path, tensors: &[Entry<'_>]) -> Result<()> {
    let failed = |what: String| Error::Write { path: path.display().to_string(), what };
    let mut seen = BTreeSet::new();
    if let Some(twice) = tensors.iter().find(|t| !seen.insert(&t.name)) {
        let what = format!("two tensors `{}` for one file", printable(&twice.name));
        return Err(Error::usage(what, "give each a name of its own"));
    }
    let failure = RefCell::new(None);
    let views = tensors.iter().map(|t| Ok((t.name.as_str(), Lazy::new(t, &failure)?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    // One pair: of several the order would not be the same every time.
    let info = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let draft = draft_of(path);
    // The library makes a file that only its owner can read.
    let usual = File::create(&draft).and_then(|file| file.metadata());
    let usual = usual.map_err(|e| failed(e.to_string()))?.permissions();
    let written = safetensors::serialize_to_file(views, Some(info), &draft)
        .map_err(|e| failed(e.to_string()))
        .and_then(|()| failure.take().map_or(Ok(()), Err))
        .and_then(|()| {
            // A rename may reach the disk before the bytes do.
            let synced = File::options().write(true).open(&draft).and_then(|file| {
                // Not every file system can.
                _ = file.set_permissions(usual);
                file.sync_all()
            });
            synced.and_then(|()| fs::rename(&draft, path)).map_err(|e| failed(e.to_string()))
        });
    if written.is_err() {
        _ = fs::remove_file(&draft);
    }
    written
}

/// Where a file is written before it is put in its place: a name of its own length.
fn draft_of(path: &Path) -> std::path::PathBuf {
    path.with_file_name(format!(".vit-gpu.{}.tensors.tmp", std::process::id()))
}

/// A tensor whose bytes are made when it is their turn. The writer asks in a way that cannot fail, so what
/// failed is told afterwards.
struct Lazy<'a> {
    content: &'a Content<'a>,
    dtype: Dtype,
    dims: Vec<usize>,
    bytes: usize,
    failure: &'a RefCell<Option<Error>>,
}

impl<'a> Lazy<'a> {
    fn new(entry: &'a Entry<'a>, failure: &'a RefCell<Option<Error>>) -> Result<Self> {
        let (dtype, dims, bytes) = match &entry.content {
            Content::Memory(tensor, stored) => {
                let dtype = match (tensor.elements(), stored) {
                    (Elements::U32(_), _) => Dtype::U32,
                    (Elements::U8(_), _) => Dtype::U8,
                    (_, stored) => stored.dtype(),
                };
                let dims = tensor.shape().dims().to_vec();
                (dtype, dims, tensor.shape().elements() * dtype.bitsize() / 8)
            }
            Content::Read(checkpoint, name, stored) => {
                let dtype = stored.dtype();
                let shape = checkpoint.readable(name)?;
                (dtype, shape.dims().to_vec(), shape.elements() * dtype.bitsize() / 8)
            }
            Content::Same(checkpoint, name) => {
                let (source, stored) = checkpoint.stored(name)?;
                let dtype = serde_json::from_value(serde_json::Value::String(stored.dtype.clone()));
                let dtype = dtype.map_err(|_| {
                    let what = format!("tensor `{}` is of an unknown type", printable(name));
                    Error::model(source.name(), what, "convert it first")
                })?;
                (dtype, stored.dims.clone(), (stored.bytes.end - stored.bytes.start) as usize)
            }
        };
        Ok(Self { content: &entry.content, dtype, dims, bytes, failure })
    }
}

impl Lazy<'_> {
    /// Bytes in the place of those that failed.
    fn failed(&self, e: Error) -> Vec<u8> {
        self.failure.borrow_mut().get_or_insert(e);
        vec![0; self.bytes]
    }
}

impl Stored {
    fn dtype(self) -> Dtype {
        match self {
            Stored::F32 => Dtype::F32,
            Stored::F16 => Dtype::F16,
            Stored::BF16 => Dtype::BF16,
        }
    }

    /// Values as they are written.
    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Stored::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Stored::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Stored::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        }
    }
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.content {
            Content::Memory(tensor, stored) => match tensor.as_f32() {
                Some(values) if *stored != Stored::F32 => Cow::Owned(stored.bytes(values)),
                _ => Cow::Borrowed(tensor.bytes()),
            },
            Content::Read(checkpoint, name, stored) => {
                let read = checkpoint.values(name).map(|(_, values)| stored.bytes(&values));
                Cow::Owned(read.unwrap_or_else(|e| self.failed(e)))
            }
            Content::Same(checkpoint, name) => {
                let read = checkpoint.stored(name).and_then(|(source, s)| source.bytes(s.bytes.clone()));
                Cow::Owned(read.unwrap_or_else(|e| self.failed(e)))
            }
        }
    }

    fn data_len(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn entry(name: &str, content: Content<'static>) -> Entry<'static> {
        Entry { name: name.to_owned(), content }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let values = HostTensor::f32([2, 2], vec![1.0, -2.5, f32::NAN, 1e-8]);
        let memory = |stored| Content::Memory(Cow::Owned(values.clone()), stored);
        let all = [
            entry("b", memory(Stored::F32)),
            entry("a", memory(Stored::F16)),
            entry("c", memory(Stored::BF16)),
        ];
        write(&path, &all).unwrap();
        let first = Checkpoint::open(&path, false).unwrap();
        let bits = |c: &Checkpoint, name: &str| {
            c.read(name).unwrap().to_f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&first, "b"), values.to_f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        assert_eq!(first.dtype_summary(), "BF16 (1), F16 (1), F32 (1)");
        // Byte for byte, over a file that is there.
        let same =
            ["a", "b", "c"].map(|name| Entry { name: name.to_owned(), content: Content::Same(&first, name) });
        let copy = folder.path().join("copy.safetensors");
        fs::write(&copy, "old").unwrap();
        write(&copy, &same).unwrap();
        let second = Checkpoint::open(&copy, false).unwrap();
        assert_eq!(first.fingerprint().unwrap(), second.fingerprint().unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let one = || Content::Memory(Cow::Owned(HostTensor::f32([1], vec![1.0])), Stored::F32);
        let path = folder.path().join("x.safetensors");
        fs::write(&path, "old").unwrap();
        let e = write(&path, &[entry("a", one()), entry("a", one())]).unwrap_err();
        assert!(e.message().contains("two tensors `a`"), "{e}");
        let e = write(&folder.path().join("no/x.safetensors"), &[entry("a", one())]).unwrap_err();
        assert!(matches!(e, Error::Write { .. }), "{e}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
