//! What a file is that should have been a safetensors file, by its first bytes.
//!
//! The commonest broken "checkpoint" is not a damaged one but something else altogether: a pointer
//! that git-LFS left behind, a web page saved in its place, a pickle. All of them would be reported
//! as an absurd header length; here they are recognised and named, with the way out. Nothing is
//! parsed, nothing is unpickled: reading a pickle means running it, so pickles are always refused.

use std::path::{Path, PathBuf};

use crate::error::{Advice, Error, Result};
use crate::printable::printable;

/// How many bytes from the start of a file are worth passing to [`refuse`].
pub(crate) const HEAD_BYTES: usize = 4096;

/// Longest header a safetensors file may have, in bytes (the format's own limit).
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The error for a file that is recognisably not safetensors; `None` if nothing was recognised,
/// which does not make it a good file.
///
/// `file` is the name for messages, `head` the first [`HEAD_BYTES`] bytes or fewer.
pub(crate) fn refuse(file: &str, head: &[u8]) -> Option<Error> {
    if looks_like_safetensors(head) {
        return None;
    }
    let (what, help) = kind(file, head)?;
    Some(Error::model(file, what, help))
}

/// Weights of other programs, by their extensions.
const FOREIGN: [(&str, &str); 9] = [
    (".onnx", "ONNX"),
    (".gguf", "GGUF (llama.cpp)"),
    (".ggml", "GGML"),
    (".h5", "HDF5 (Keras, TensorFlow)"),
    (".keras", "Keras"),
    (".msgpack", "Flax"),
    (".tflite", "TensorFlow Lite"),
    (".mlmodel", "Core ML"),
    (".engine", "TensorRT"),
];

/// The error for a folder without weights that are read, by the names of the other files in it.
pub(crate) fn without(folder: impl std::fmt::Display, mut names: Vec<String>) -> Error {
    names.sort();
    let foreign = names.iter().find_map(|name| {
        let lower = name.to_ascii_lowercase();
        FOREIGN.iter().find(|(end, _)| lower.ends_with(end)).map(|(_, form)| (name, form))
    });
    let Some((name, form)) = foreign else {
        let help = "looked for model.safetensors, model.safetensors.index.json and *.safetensors";
        return Error::model(folder, "has no weights", help);
    };
    let what = format!("has no weights that are read: {} is of another form, {form}", printable(name));
    let help = "take the same model in safetensors, or load it in Python with transformers and save it by \
                `save_pretrained`";
    Error::model(folder, what, help)
}

/// Refuses a folder in which a file that is read is not there yet: git-LFS left a pointer in its place.
///
/// # Errors
/// [`Error::Model`] naming the file.
pub(crate) fn refuse_pointers(folder: &Path) -> Result<()> {
    /// Pointers are shorter by far, and everything else that is so short is read anyway.
    const LONGEST: u64 = 1024;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut short: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json" || e == "txt" || e == "model"))
        .filter(|path| path.metadata().is_ok_and(|m| m.is_file() && m.len() <= LONGEST))
        .collect();
    short.sort();
    for file in short {
        if std::fs::read(&file).is_ok_and(|bytes| is_pointer(&bytes)) {
            let what = "this is a git-LFS pointer, the file itself was never fetched";
            return Err(Error::model(file.display(), what, Advice::FetchWeights));
        }
    }
    Ok(())
}

/// Whether a file is what git-LFS leaves in the place of another until that is fetched.
fn is_pointer(head: &[u8]) -> bool {
    head.starts_with(b"version https://git-lfs") || head.starts_with(b"version https://hawser")
}

/// A plausible header length followed by the brace every header starts with. Checked first, since
/// the length's low bytes may be any other format's magic.
fn looks_like_safetensors(head: &[u8]) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= MAX_HEADER_BYTES && rest.first() == Some(&b'{')
}

fn kind(file: &str, head: &[u8]) -> Option<(&'static str, Advice)> {
    let ends = |extensions: &[&str]| {
        let name = file.to_ascii_lowercase();
        extensions.iter().any(|e| name.ends_with(e))
    };
    let has = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
    let text: Vec<u8> = head
        .iter()
        .take(64)
        .copied()
        .skip_while(u8::is_ascii_whitespace)
        .map(|b| b.to_ascii_lowercase())
        .collect();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);

    if head.is_empty() {
        return Some(("the file is empty", "download it again".into()));
    }
    if is_pointer(head) {
        let what = "this is a git-LFS pointer, the weights themselves were never fetched";
        return Some((what, Advice::FetchWeights));
    }
    if text.starts_with(b"<!doctype") || text.starts_with(b"<html") || text.starts_with(b"<?xml") {
        let help =
            "on the Hugging Face hub, download from `/resolve/`, not `/blob/`; gated models need a token";
        return Some(("this is a web page (HTML), not a checkpoint", help.into()));
    }
    if head.starts_with(b"PK\x03\x04") {
        if has(b"data.pkl") || ends(&[".bin", ".pt", ".pth", ".ckpt", ".pkl"]) {
            return Some((
                "this is a PyTorch pickle (zip); pickles can run code and are never read",
                convert(file).into(),
            ));
        }
        return Some((
            "this is a zip archive, not a safetensors file",
            "unpack it and pass what is inside".into(),
        ));
    }
    if head.len() >= 2 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        return Some((
            "this is a Python pickle; pickles can run code and are never read",
            convert(file).into(),
        ));
    }
    if head.starts_with(b"GGUF") || [b"lmgg", b"tjgg", b"fmgg"].iter().any(|m| head.starts_with(*m)) {
        return Some(("this is a GGUF/GGML file; only safetensors can be read", original()));
    }
    if (head.len() > 2
        && head[0] == 0x08
        && (1..=32).contains(&head[1])
        && matches!(head[2], 0x12 | 0x1a | 0x3a))
        || ends(&[".onnx"])
    {
        return Some(("this is an ONNX model; only safetensors can be read", original()));
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Some(("this is an HDF5 (Keras) file; only safetensors can be read", original()));
    }
    if head.starts_with(b"\x93NUMPY") {
        return Some(("this is a NumPy array; only safetensors can be read", original()));
    }
    if head.starts_with(b"\x1f\x8b") || head.get(257..262) == Some(b"ustar") {
        return Some(("this is a compressed or tar archive", "unpack it and pass what is inside".into()));
    }
    let images: [&[u8]; 3] = [b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8"];
    if images.iter().any(|magic| head.starts_with(magic)) || head.get(8..12) == Some(b"WEBP") {
        let help = "name the model's folder, or a model of the hub; the image is an input beside it";
        return Some(("this is an image, not a model", help.into()));
    }
    if text.first() == Some(&b'{')
        && text.get(1).is_some_and(|c| c.is_ascii_whitespace() || b"\"}".contains(c))
    {
        let help = "pass the folder, the .safetensors file, or model.safetensors.index.json";
        return Some(("this is JSON, not a safetensors file", help.into()));
    }
    None
}

/// The command that turns a pickled state dict into safetensors, to be run where the file is trusted.
pub(crate) fn convert(file: &str) -> String {
    // The name ends up in a command that people paste, so only harmless characters may stay.
    let harmless = |c: char| c.is_ascii_alphanumeric() || "/._-+=@:".contains(c);
    let file = if file.chars().all(harmless) { file } else { "pytorch_model.bin" };
    format!(
        "take the repository's model.safetensors; or, if you trust the file, convert it: python -c \"import torch; \
         from safetensors.torch import save_file; d = torch.load(r'{file}', map_location='cpu', weights_only=True); \
         d = d.get('state_dict', d); save_file({{k: v.contiguous().clone() for k, v in d.items()}}, \
         'model.safetensors')\""
    )
}

fn original() -> Advice {
    "look for model.safetensors in the repository that this file was made from".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(file: &str, head: &[u8]) -> String {
        refuse(file, head).map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn kinds_are_named() {
        assert!(said("m", b"").contains("empty"));
        assert!(said("m", b"version https://git-lfs.github.com/spec/v1\noid sha256:").contains("git-LFS"));
        assert!(said("m", b"\n <!DOCTYPE html><html>").contains("HTML"));
        assert!(said("m", b"PK\x03\x04\0\0archive/data.pkl").contains("PyTorch pickle"));
        assert!(said("x/pytorch_model.bin", b"PK\x03\x04").contains("PyTorch pickle"));
        assert!(said("m", b"PK\x03\x04").contains("zip archive"));
        for version in 2..=5 {
            assert!(said("m", &[0x80, version, 0x8a, 0x0a]).contains("pickle"));
        }
        assert!(said("m", b"GGUF\x03\0\0\0").contains("GGUF"));
        assert!(said("m", b"\x08\x07\x12\x07pytorch").contains("ONNX"));
        assert!(said("m", b"\x89HDF\r\n\x1a\n").contains("HDF5"));
        assert!(said("cat.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF").contains("an image"));
        assert!(said("m", b"{\"model_type\": \"vit\"}").contains("JSON"));
        assert_eq!(said("m", b"\x01\x02"), "");
    }

    #[test]
    fn lengths_that_look_like_magic_stay_safetensors() {
        // 640 and 1152 bytes of header: the length starts like a pickle of protocol 2 and 4.
        for length in [0x0280u64, 0x0480, 0x12_0708] {
            let mut head = length.to_le_bytes().to_vec();
            head.extend(b"{\"a\":");
            assert!(refuse("m", &head).is_none(), "{length:#x}");
        }
    }

    #[test]
    fn the_way_out_of_a_pickle_is_a_command() {
        let error = refuse("a/pytorch_model.bin", b"PK\x03\x04").expect("a zip is refused");
        let hint = error.hint().expect("there is a way out").to_string();
        assert!(hint.contains("weights_only=True") && hint.contains("a/pytorch_model.bin"), "{hint}");
        assert!(!convert("x'); evil('$(id)').bin").contains("evil"));
    }
}
