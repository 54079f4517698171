//! The files of an index, and how they are written: both in a folder of their own that is put in its place when it
//! is whole. Each knows the other, so that two of different indexes are noticed.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::entry::{Image, Maker};
use crate::error::{Error, Result};
use crate::exchange::sync;

/// The file of embeddings.
pub(super) const EMBEDDINGS: &str = "embeddings.safetensors";
/// The tensor in it: (N,E) of f32.
pub(super) const TENSOR: &str = "embeddings";
/// The file with a line for each row.
pub(super) const IMAGES: &str = "images.jsonl";
/// What is embedded already and not in the index yet: a folder of indexes.
pub(super) const PARTS: &str = "parts";

/// Version of the form; raised when older programs must not read it.
const VERSION: &str = "1";
/// Most bytes of a header: nothing in it grows with the rows.
const MAX_HEADER: u64 = 1 << 20;

/// Digits of bytes.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of a regular file.
///
/// # Errors
/// What is wrong, for a message.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |what: String| format!("{} {what}", path.file_name().unwrap_or_default().display());
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(wrong("is no file".to_owned())),
        _ => fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}"))),
    }
}

/// What a file of embeddings says of itself: its maker, and the SHA-256 of the images' file.
///
/// # Errors
/// What is wrong, for a message.
pub(super) fn about(path: &Path) -> Result<(Maker, String), String> {
    let header = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(MAX_HEADER)).read_to_end(&mut header)?;
        Ok(header)
    };
    let header = header().map_err(|e| format!("{EMBEDDINGS} cannot be read: {e}"))?;
    let header: Value =
        serde_json::from_slice(&header).map_err(|e| format!("{EMBEDDINGS} has no readable header: {e}"))?;
    let about = &header["__metadata__"];
    let get = |key: &str| {
        about[key].as_str().map(str::to_owned).ok_or_else(|| format!("{EMBEDDINGS} does not say its `{key}`"))
    };
    let version = get("vit_gpu_index")?;
    if version != VERSION {
        return Err(format!("its form is version {version}, and {VERSION} is the one that is known"));
    }
    let maker = Maker {
        model: get("model")?,
        weights: get("weights")?,
        output: get("output")?,
        preprocessing: get("preprocessing")?,
    };
    Ok((maker, get("images_sha256")?))
}

/// Writes both files into a folder that is there: `images` by row, and `blocks` of rows of `width` numbers that are
/// as many in all.
///
/// # Errors
/// [`Error::Write`]; those of `blocks`.
pub(super) fn write<'a>(
    folder: &Path,
    maker: &Maker,
    width: usize,
    images: impl Iterator<Item = &'a Image>,
    blocks: impl Iterator<Item = Result<Vec<f32>>>,
) -> Result<()> {
    let path = folder.join(IMAGES);
    let failed = |e: std::io::Error| failed(&path, &e);
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    let (mut digest, mut rows) = (Sha256::new(), 0);
    for image in images {
        let mut line = serde_json::to_vec(image).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        digest.update(&line);
        file.write_all(&line).map_err(failed)?;
        rows += 1;
    }
    finish(file).map_err(failed)?;
    let digest = hexadecimal(&digest.finalize());

    let path = folder.join(EMBEDDINGS);
    let failed = |e: std::io::Error| self::failed(&path, &e);
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    file.write_all(&header(maker, &digest, [rows, width])).map_err(failed)?;
    let mut left = rows * width;
    for block in blocks {
        let block = block?;
        left = left.checked_sub(block.len()).expect("there are as many rows as images");
        file.write_all(bytemuck::cast_slice(&little(block))).map_err(failed)?;
    }
    assert_eq!(left, 0, "there are as many rows as images");
    finish(file).map_err(failed)?;
    sync(folder);
    Ok(())
}

/// The length of the header and the header, spaces behind it, so that numbers begin at a multiple of their size.
fn header(maker: &Maker, digest: &str, [rows, width]: [usize; 2]) -> Vec<u8> {
    let about = [
        ("vit_gpu_index", VERSION),
        ("model", &maker.model),
        ("weights", &maker.weights),
        ("output", &maker.output),
        ("preprocessing", &maker.preprocessing),
        ("images_sha256", digest),
        ("made_by", concat!("vit-gpu ", env!("CARGO_PKG_VERSION"))),
    ];
    let about: Map<String, Value> =
        about.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
    let shape = json!({"dtype": "F32", "shape": [rows, width], "data_offsets": [0, 4 * rows * width]});
    let header = json!({"__metadata__": about, TENSOR: shape});
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header].concat()
}

/// Numbers whose bytes are as files have them.
fn little(mut block: Vec<f32>) -> Vec<f32> {
    if cfg!(target_endian = "big") {
        block.iter_mut().for_each(|x| *x = f32::from_le_bytes(x.to_ne_bytes()));
    }
    block
}

fn finish(file: BufWriter<File>) -> std::io::Result<()> {
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

pub(super) fn failed(path: &Path, e: &std::io::Error) -> Error {
    Error::Write { path: path.display().to_string(), what: e.to_string() }
}
