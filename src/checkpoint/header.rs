//! The header of a safetensors file, read strictly.
//!
//! The format is eight bytes of length, a JSON object naming every tensor, and the elements. What
//! the header claims decides how much is allocated and read, so every claim is checked first, in
//! checked arithmetic, against the real length of the file: offsets in order and without holes,
//! shape times element size equal to the bytes given, the last tensor ending where the file ends.
//! Stricter than the format's own crate in one point: a name given twice is refused, because two
//! readers could each believe in a different tensor. Element types are not judged here; a file may
//! hold integers or 8-bit floats that nobody asks for.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::checkpoint::sniff;
use crate::checkpoint::sniff::{HEAD_BYTES, MAX_HEADER_BYTES};
use crate::checkpoint::source::Source;
use crate::error::{Error, Result};
use crate::printable::printable;

/// One tensor as a header describes it, checked.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Element type as the file spells it: `F32`, `BF16`, ...
    pub dtype: String,
    /// Dimensions, outermost first; their product fits `usize`.
    pub dims: Vec<usize>,
    /// Where its elements lie, in bytes from the start of the file; inside the file.
    pub bytes: Range<u64>,
}

impl Stored {
    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// All tensors of a file by name, in file order.
///
/// # Errors
/// [`Error::Model`] naming the file, and the tensor where one is to blame.
pub(crate) fn read(source: &Source) -> Result<Vec<(String, Stored)>> {
    let file = source.name();
    let length = source.length();
    let head = source.bytes(0..length.min(HEAD_BYTES as u64))?;
    if let Some(error) = sniff::refuse(file, &head) {
        return Err(error);
    }
    let bad = |what: String| {
        Error::model(file, what, "is this a safetensors file? delete it and download it again")
    };
    let Some(first) = head.first_chunk::<8>() else {
        return Err(bad(format!("is {length} bytes long, too short for a safetensors header")));
    };
    let header_bytes = u64::from_le_bytes(*first);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(bad(format!(
            "claims a header of {header_bytes} bytes, the format allows {MAX_HEADER_BYTES}"
        )));
    }
    let data_start = 8 + header_bytes;
    if data_start > length {
        return Err(bad(format!("claims a header of {header_bytes} bytes but is only {length} bytes long")));
    }
    let json = source.bytes(8..data_start)?;
    if json.first() != Some(&b'{') {
        return Err(bad("the header does not start with `{`".into()));
    }
    let json = std::str::from_utf8(&json).map_err(|e| bad(format!("the header is not UTF-8: {e}")))?;
    let Header(entries) =
        serde_json::from_str(json).map_err(|e| bad(format!("the header cannot be read: {e}")))?;
    check(file, entries, data_start, length)
}

/// Checks each entry by itself, then that together they cover the file.
fn check(
    file: &str,
    entries: Vec<(String, Entry)>,
    start: u64,
    length: u64,
) -> Result<Vec<(String, Stored)>> {
    let bad = |name: &str, what: String| {
        let what = format!("tensor `{}` {what}", printable(name));
        Error::model(file, what, "the file is damaged or was written by a faulty program")
    };
    // Ends relative to the data section; `Stored::bytes` becomes absolute at the end.
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let (from, to) = entry.data_offsets;
        if to < from {
            return Err(bad(&name, format!("ends at byte {to}, before its start at {from}")));
        }
        let dims = entry.shape.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<usize>>>();
        // The product of any of the dimensions must fit, so zeros do not excuse the others.
        let fits =
            |dims: &Vec<usize>| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).is_some();
        let Some(dims) = dims.filter(fits) else {
            return Err(bad(&name, "has a shape whose element count overflows".into()));
        };
        let elements: usize = dims.iter().product();
        if let Some(bits) = bits(&entry.dtype) {
            let expected = (elements as u64).checked_mul(bits).filter(|b| b % 8 == 0).map(|b| b / 8);
            if expected != Some(to - from) {
                let (have, dtype) = (to - from, &entry.dtype);
                return Err(bad(&name, format!("has shape {dims:?} of {dtype} but {have} bytes of data")));
            }
        }
        tensors.push((name, Stored { dtype: entry.dtype, dims, bytes: from..to }));
    }

    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(bad(&pair[0].0, "appears twice in the header".into()));
    }

    tensors.sort_by_key(|(_, t)| (t.bytes.start, t.bytes.end));
    let available = length - start;
    let mut end = 0;
    for (name, tensor) in &mut tensors {
        let Range { start: from, end: to } = tensor.bytes;
        if from < end {
            return Err(bad(
                name,
                format!("starts at byte {from}, inside the tensor before it (which ends at {end})"),
            ));
        }
        if from > end {
            return Err(bad(name, format!("starts at byte {from}, leaving a hole of {} bytes", from - end)));
        }
        if to > available {
            return Err(Error::model(
                file,
                format!(
                    "is cut short: tensor `{}` ends at byte {to} of the data, the file has {available}",
                    printable(name)
                ),
                "the download was interrupted; delete the file and pull it again",
            ));
        }
        end = to;
        // Cannot overflow: `to` is at most `length - start`.
        tensor.bytes = start + from..start + to;
    }
    if end != available {
        return Err(Error::model(
            file,
            format!("has {} bytes after the last tensor that belong to nothing", available - end),
            "the file was altered or joined with another; download it again",
        ));
    }
    Ok(tensors)
}

/// Bits of one element; `None` for a type this program has never heard of.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Every entry in the order written, duplicates included (a map type would drop them).
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = Vec::new();
                let mut described = false;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if described {
                            return Err(A::Error::custom("`__metadata__` appears twice"));
                        }
                        described = true;
                        map.next_value::<Option<HashMap<String, String>>>()
                            .map_err(|e| A::Error::custom(format!("`__metadata__`: {e}")))?;
                    } else {
                        let entry = map
                            .next_value::<Entry>()
                            .map_err(|e| A::Error::custom(format!("tensor `{}`: {e}", printable(&name))))?;
                        entries.push((name, entry));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
