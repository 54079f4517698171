//! Tensors of whole numbers: ids and labels.

use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::printable::printable;
use crate::tensor::{HostTensor, Shape};

impl Checkpoint {
    /// A tensor of whole numbers that are ids: I32, I64, U32 or U64, each from 0 to 2^32 - 1.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; a number that is no id.
    pub fn ids(&self, tensor: &str) -> Result<HostTensor> {
        self.whole(tensor, |n| u32::try_from(n).ok())
    }

    /// A tensor of labels: as ids, but a number below 0 (PyTorch's -100) asks for nothing and becomes 2^32 - 1.
    ///
    /// # Errors
    /// As [`Checkpoint::ids`].
    pub fn labels(&self, tensor: &str) -> Result<HostTensor> {
        self.whole(tensor, |n| if n < 0 { Some(u32::MAX) } else { u32::try_from(n).ok() })
    }

    fn whole(&self, tensor: &str, word: impl Fn(i64) -> Option<u32>) -> Result<HostTensor> {
        let (shard, stored) = self.stored(tensor)?;
        let wrong = |what: String| Error::model(shard.name(), what, "ids are whole numbers from 0 on");
        let named = || format!("tensor `{}`", printable(tensor));
        let shape = Shape::checked(&stored.dims).ok_or_else(|| wrong(format!("{} is too deep", named())))?;
        let mut out: Vec<Option<u32>> = Vec::with_capacity(stored.elements());
        let known = ["I32", "U32", "I64", "U64"].contains(&stored.dtype.as_str());
        if !known {
            return Err(wrong(format!("{} is of type {}", named(), printable(&stored.dtype))));
        }
        // What only an unsigned number of 64 bits holds is no word either.
        let large = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        shard.read(stored.bytes.clone(), |piece| match stored.dtype.as_str() {
            "I64" => out.extend(piece.as_chunks::<8>().0.iter().map(|b| word(i64::from_le_bytes(*b)))),
            "U64" => out.extend(piece.as_chunks::<8>().0.iter().map(|b| word(large(u64::from_le_bytes(*b))))),
            "I32" => out.extend(piece.as_chunks::<4>().0.iter().map(|b| word(i32::from_le_bytes(*b).into()))),
            _ => out.extend(piece.as_chunks::<4>().0.iter().map(|b| word(u32::from_le_bytes(*b).into()))),
        })?;
        let ids: Option<Vec<u32>> = out.into_iter().collect();
        let ids = ids.ok_or_else(|| wrong(format!("{} holds a number that is no id", named())))?;
        Ok(HostTensor::u32(shape, ids))
    }
}
