//! Writes a model folder of a named size with random weights, to give other programs the very weights
//! that `--synthetic` makes on the fly. A ViT, BERT, GPT-2 or T5 as Hugging Face lays it out (text models
//! without a tokenizer), or LlamaGen's decoder and picture tokenizer:
//! `cargo run --release --example random_checkpoint -- vit-b/16 target/vit-b`
//! `cargo run --release --example random_checkpoint -- llamagen-b target/llamagen-b`
//! `cargo run --release --example random_checkpoint -- gpt2 target/gpt2`.
#![allow(missing_docs, reason = "an example")]

use std::borrow::Cow;
use std::path::Path;

use safetensors::tensor::{Dtype, View};
use vit_gpu::data::synthetic::Synthetic;
use vit_gpu::data::synthetic_llamagen::SyntheticLlamaGen;
use vit_gpu::data::synthetic_text::SyntheticText;
use vit_gpu::data::weights::Checkpoint;

/// A tensor that is made when it is written, so that one at a time is in memory.
struct Made<'a> {
    checkpoint: &'a Checkpoint,
    name: &'a str,
    dims: &'a [usize],
}

impl View for Made<'_> {
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [size, folder] = args.as_slice() else {
        let texts = SyntheticText::names().collect::<Vec<_>>().join("|");
        return Err(format!("usage: random_checkpoint vit-b/16|llamagen-b|{texts} FOLDER").into());
    };
    let folder = Path::new(folder);
    let explained = |e: vit_gpu::Error| format!("{e}; {}", e.hint().unwrap_or_default());
    let (tensors, configurations) = if size.trim().to_ascii_lowercase().starts_with("llamagen") {
        let made = SyntheticLlamaGen::named(size).map_err(explained)?;
        let files = vec![("gpt.safetensors", made.decoder()), ("vq.safetensors", made.tokenizer())];
        (files, vec![("config.json", made.config())])
    } else if let Ok(made) = SyntheticText::named(size) {
        (vec![("model.safetensors", made.checkpoint())], vec![("config.json", made.config())])
    } else {
        let made = Synthetic::named(size).map_err(explained)?;
        let files = vec![("config.json", made.config()), ("preprocessor_config.json", made.preprocessor())];
        (vec![("model.safetensors", made.checkpoint())], files)
    };
    std::fs::create_dir_all(folder)?;
    for (name, checkpoint) in &tensors {
        let list = checkpoint.index().iter();
        let list = list.map(|(name, shape)| (name, Made { checkpoint, name, dims: shape.dims() }));
        safetensors::serialize_to_file(list, None, &folder.join(name))?;
        println!("wrote {}: {} parameters", folder.join(name).display(), checkpoint.parameters());
    }
    for (name, json) in &configurations {
        std::fs::write(folder.join(name), format!("{json:#}"))?;
    }
    Ok(())
}
