//! Whether weights are the same ones as before.

use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// Bytes read of a tensor at its beginning, in its middle and at its end; tensors up to three times as long are
/// read as a whole.
const PIECE: u64 = 64 << 10;

impl Checkpoint {
    /// 32 hexadecimal digits by the names, types, dimensions and bytes of all tensors, of long tensors in three
    /// places: what trains or converts weights changes them everywhere.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if a file changed or fails underneath.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let listed = self.index().keys().map(|name| (name.as_str(), String::new()));
        for (name, words) in listed.chain(self.beneath()) {
            let (source, stored) = self.stored(name)?;
            hash.update(format!("{name}\0{}\0{:?}\0{words}", stored.dtype, stored.dims));
            let (start, end) = (stored.bytes.start, stored.bytes.end);
            // Weights that lie in no file are made of their names and dimensions.
            if end > source.length() {
                continue;
            }
            let middle = start + (end - start) / 2;
            let whole = end - start <= 3 * PIECE;
            let places = if whole { vec![start] } else { vec![start, middle, end - PIECE] };
            let length = if whole { end - start } else { PIECE };
            for place in places {
                source.read(place..place + length, |bytes| hash.update(bytes))?;
            }
        }
        Ok(hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A checkpoint of one tensor of f32.
    fn of(name: &str, values: &[f32]) -> Checkpoint {
        let n = values.len();
        let header =
            format!("{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{n}],\"data_offsets\":[0,{}]}}}}", 4 * n);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        Checkpoint::from_bytes("x", bytes).unwrap()
    }

    #[test]
    fn changes_show() {
        let long: Vec<f32> = (0..200_000).map(|i| i as f32).collect();
        let print = |name: &str, values: &[f32]| of(name, values).fingerprint().unwrap();
        let first = print("a", &long);
        assert_eq!(first.len(), 32);
        assert_eq!(first, print("a", &long));
        assert_ne!(first, print("b", &long));
        for place in [0, 100_000, 199_999] {
            let mut other = long.clone();
            other[place] += 1.0;
            assert_ne!(first, print("a", &other), "{place}");
        }
        assert_ne!(print("a", &[1.0, 2.0]), print("a", &[1.0, 3.0]));
    }
}
