//! A model folder of a named size with random weights, for programs that read files: the very
//! weights that `--synthetic` makes on the fly, laid out as they are published.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, View};

use crate::checkpoint::{Checkpoint, DECODER, SINGLE, TOKENIZER};
use crate::error::{Error, Result};

/// A tensor that is made when it is written, so that one at a time is in memory.
struct Lazy<'a> {
    checkpoint: &'a Checkpoint,
    name: &'a str,
    dims: &'a [usize],
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.checkpoint.read(self.name).expect("the name comes from the checkpoint's own list");
        Cow::Owned(tensor.bytes().to_vec())
    }

    fn data_len(&self) -> usize {
        4 * self.dims.iter().product::<usize>()
    }
}

/// Writes the folder of a size (`vit-b/16`, `llamagen-b`, `bert-base`, `gpt2`, `t5-base`, ...), f32, and
/// yields its files of weights with their numbers of parameters. A ViT, BERT, GPT-2 or T5 as Hugging Face
/// lays it out (text models without a tokenizer), or LlamaGen's decoder and image tokenizer.
///
/// # Errors
/// [`Error::Usage`] with the names there are; [`Error::Write`].
pub fn write_folder(size: &str, folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let made = super::named(size)?;
    let (model, codec) = (&made.checkpoint, &made.codec);
    let tensors = match codec {
        Some(codec) => vec![(DECODER, model), (TOKENIZER, codec)],
        None => vec![(SINGLE, model)],
    };
    let mut configurations = vec![("config.json", &made.config)];
    configurations.extend(made.preprocessor.as_ref().map(|json| ("preprocessor_config.json", json)));
    let failed = |path: &Path, what: String| Error::Write { path: path.display().to_string(), what };
    std::fs::create_dir_all(folder).map_err(|e| failed(folder, e.to_string()))?;
    let mut written = Vec::new();
    for (name, checkpoint) in tensors {
        let list = checkpoint.index().iter();
        let list = list.map(|(name, shape)| (name, Lazy { checkpoint, name, dims: shape.dims() }));
        let path = folder.join(name);
        safetensors::serialize_to_file(list, None, &path).map_err(|e| failed(&path, e.to_string()))?;
        written.push((path, checkpoint.parameters()));
    }
    for (name, json) in configurations {
        let path = folder.join(name);
        std::fs::write(&path, format!("{json:#}")).map_err(|e| failed(&path, e.to_string()))?;
    }
    Ok(written)
}
