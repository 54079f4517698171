//! Rows of a tensor that may be larger than memory.

use std::ops::Range;

use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::printable::printable;

impl Checkpoint {
    /// Some outermost rows of a tensor of f32, behind each other; nothing else of it is read.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no such tensor, it is of another type, it has fewer rows, or the file changed or
    /// fails underneath.
    pub fn read_rows(&self, tensor: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let (source, stored) = self.stored(tensor)?;
        let available = stored.dims.first().copied().unwrap_or(1);
        let wrong = |what: String| {
            let what = format!("tensor `{}` {what}", printable(tensor));
            Error::model(source.name(), what, "the file may belong to something else")
        };
        if stored.dtype != "F32" {
            return Err(wrong(format!("is of type {}, not F32", printable(&stored.dtype))));
        }
        if rows.start > rows.end || rows.end > available {
            return Err(wrong(format!("has no rows {}..{}", rows.start, rows.end)));
        }
        let bytes = stored.bytes.end - stored.bytes.start;
        let each = bytes / (available.max(1) as u64);
        let at = |row: usize| stored.bytes.start + row as u64 * each;
        let mut values = Vec::with_capacity((at(rows.end) - at(rows.start)) as usize / 4);
        source.read(at(rows.start)..at(rows.end), |piece| {
            values.extend(piece.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        })?;
        Ok(values)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::tensor::HostTensor;

    #[test]
    fn some_rows() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let tensor = HostTensor::f32([4, 3], values.clone());
        let checkpoint = Checkpoint::from_tensors("x", [("a".to_owned(), tensor)]).unwrap();
        for (from, to) in [(0, 4), (1, 3), (2, 2), (3, 4)] {
            assert_eq!(checkpoint.read_rows("a", from..to).unwrap(), values[3 * from..3 * to]);
        }
        assert!(checkpoint.read_rows("a", 3..5).is_err() && checkpoint.read_rows("b", 0..1).is_err());
    }
}
