//! The files that `infer` writes: embeddings as safetensors, attention as images. Every
//! path is checked against every input, and against the model, before any work is done.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::infer::args::InferArgs;
use crate::cli::inputs::Input;
use crate::cli::outfile::{self, OutFile};
use crate::cli::sink::{self, Form, Sink};
use crate::cli::talk::Talk;
use crate::cli::vectors::Vectors;
use crate::error::{Error, Result};
use crate::models::ModelInfo;
use crate::render::overlay;
use crate::render::overlay::{Layout, View};
use crate::tensor::Size;

/// The output that embeddings are, and the name of the tensor in the file.
pub(super) const EMBEDDING: &str = "embedding";

/// Which attention is shown.
pub(super) fn view(args: &InferArgs) -> View {
    View { layer: args.attention_layer, head: args.attention_head }
}

/// Refuses names that contradict their content, two outputs in one file, and outputs in place of inputs.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn check<F: Form>(args: &InferArgs, out: &Sink<'_, F>) -> Result<()> {
    let outputs = [
        ("--embeddings", &args.embeddings, "safetensors"),
        ("--attention", &args.attention, "png"),
        ("--reconstruct", &args.reconstruct, "png"),
        ("--features-pca", &args.features_pca, "png"),
    ];
    let outputs = outputs.into_iter().filter_map(|(flag, path, kind)| Some((flag, path.as_deref()?, kind)));
    let outputs: Vec<(&str, &Path, &str)> = outputs.collect();
    out.distinct(&outputs.iter().map(|(flag, path, _)| (*flag, *path)).collect::<Vec<_>>())?;
    for (flag, path, kind) in outputs.iter().filter(|(_, path, _)| !path.is_dir()) {
        sink::expect_kind(path, flag, kind)?;
    }
    Ok(())
}

/// Pooled features, written as they come.
pub(super) struct Embeddings {
    file: Option<Vectors>,
}

impl Embeddings {
    /// Begins the file, if one was asked for.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn create(args: &InferArgs) -> Result<Self> {
        let file = args.embeddings.as_deref().map(Vectors::create).transpose()?;
        Ok(Self { file })
    }

    /// Takes the features of one image.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn push(&mut self, input: &str, row: &[f32]) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.push(input, row))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn finish(self, model: &str, talk: Talk) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        file.finish(EMBEDDING, &[("model", model.to_owned())], talk)
    }
}

/// Attention images: where each input's goes.
pub(super) struct Pictures {
    view: View,
    /// By position among the inputs; empty if none were asked for.
    paths: Vec<PathBuf>,
    /// The file of the only one, begun.
    only: Option<OutFile>,
    /// Inputs answered so far.
    done: usize,
}

impl Pictures {
    /// Decides where the images go: one input's to the file, several inputs' into a directory.
    ///
    /// # Errors
    /// [`Error::Usage`] if several images would go to one file, or one would replace an input;
    /// [`Error::Write`] if the directory cannot be made.
    pub(super) fn create(args: &InferArgs, inputs: &[Input]) -> Result<Self> {
        let none = Self { view: view(args), paths: Vec::new(), only: None, done: 0 };
        let Some(path) = &args.attention else { return Ok(none) };
        let paths = places("--attention", path, inputs, "attention")?;
        // What cannot be written fails now rather than after the work.
        let only = if let [only] = paths.as_slice() { Some(OutFile::create(only)?) } else { None };
        Ok(Self { paths, only, ..none })
    }

    /// Draws and writes one input's image; `maps` are its attention maps. Returns where it went.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn write(
        &mut self,
        position: usize,
        pixels: &[u8],
        size: Size,
        info: &ModelInfo,
        maps: &[&[f32]],
    ) -> Result<Option<String>> {
        let Some(path) = self.paths.get(self.done + position) else { return Ok(None) };
        let grid = size.grid(info.patch);
        let layout = Layout { prefix: info.prefix_tokens, cls: info.cls_token, grid };
        let heat = overlay::heat(self.view, layout, info.heads, maps);
        let png = overlay::png(pixels, size, &heat, grid, info.patch)?;
        self.only.take().map_or_else(|| OutFile::create(path), Ok)?.finish(&png)?;
        Ok(Some(path.to_string_lossy().into_owned()))
    }

    /// A batch of `count` inputs is over.
    pub(super) fn advance(&mut self, count: usize) {
        self.done += count;
    }
}

/// Where the images of inputs go: one input's to the file, several inputs' into a directory, as `NAME.KIND.png`.
///
/// # Errors
/// As [`Pictures::create`].
pub(super) fn places(flag: &str, path: &Path, inputs: &[Input], kind: &str) -> Result<Vec<PathBuf>> {
    let slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let paths = if inputs.len() == 1 && !path.is_dir() && !slash {
        vec![path.to_owned()]
    } else {
        if !path.is_dir() {
            if path.exists() || (path.extension().is_some() && !slash) {
                let what = format!("{flag} {}: there are {} inputs", path.display(), inputs.len());
                let help = format!("name a directory; each input gets NAME.{kind}.png in it");
                return Err(Error::usage(what, help));
            }
            fs::create_dir(path)
                .map_err(|e| Error::Write { path: path.display().to_string(), what: e.to_string() })?;
        }
        in_directory(path, inputs, kind)
    };
    paths.iter().try_for_each(|path| outfile::spare(path))?;
    Ok(paths)
}

/// Most bytes of a file's name on usual file systems.
const LONGEST_NAME: usize = 255;

/// A name, or its beginning if it has more bytes than that.
fn shortened(name: &OsStr, most: usize) -> OsString {
    if name.len() <= most {
        return name.to_owned();
    }
    let text = name.to_string_lossy();
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].into()
}

/// `NAME.KIND.png` for each input, numbered where names repeat.
fn in_directory(folder: &Path, inputs: &[Input], kind: &str) -> Vec<PathBuf> {
    let mut taken = HashSet::new();
    let name = |input: &Input| {
        let stem = match input {
            Input::File(path) => path.file_stem().map(|s| s.to_owned()),
            _ => None,
        };
        let stem = stem.unwrap_or_else(|| "stdin".into());
        (1..).find_map(|n: usize| {
            let end = if n > 1 { format!("-{n}.{kind}.png") } else { format!(".{kind}.png") };
            let mut file = shortened(&stem, LONGEST_NAME - end.len());
            file.push(end);
            taken.insert(file.clone()).then(|| folder.join(file))
        })
    };
    inputs.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_names_are_numbered() {
        let inputs: Vec<Input> = ["a/x.png", "b/x.jpg", "x"].iter().map(|p| Input::File(p.into())).collect();
        let paths = in_directory(Path::new("out"), &inputs, "attention");
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        assert_eq!(names, ["out/x.attention.png", "out/x-2.attention.png", "out/x-3.attention.png"]);
    }

    #[test]
    fn long_names_are_cut() {
        let long = "\u{e9}".repeat(125);
        let inputs = [format!("a/{long}.png"), format!("b/{long}.png")].map(|p| Input::File(p.into()));
        let paths = in_directory(Path::new("out"), &inputs, "attention");
        let lengths = paths.iter().map(|p| p.file_name().map_or(0, OsStr::len));
        assert!(lengths.max() <= Some(LONGEST_NAME), "{paths:?}");
        assert_ne!(paths[0], paths[1]);
    }
}
