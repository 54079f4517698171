//! Writes a Hugging Face ViT folder of a named size with random weights, to give other programs the
//! very weights that `--synthetic` makes on the fly:
//! `cargo run --release --example random_vit -- vit-b/16 target/vit-b`.
#![allow(missing_docs, reason = "an example")]

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use vit_gpu::data::synthetic::Synthetic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [size, folder] = args.as_slice() else {
        return Err("usage: random_vit vit-b/16 FOLDER".into());
    };
    let synthetic = Synthetic::named(size).map_err(|e| format!("{e}; {}", e.hint().unwrap_or_default()))?;
    let checkpoint = synthetic.checkpoint();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, dims) in synthetic.tensors() {
        let values = checkpoint.read(&name)?;
        tensors.push((name, dims, values.bytes().to_vec()));
    }
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, dims, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()?;
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))?;
    let write = |name: &str, json: &serde_json::Value| {
        std::fs::write(folder.join(name), format!("{json:#}")).map_err(Box::<dyn std::error::Error>::from)
    };
    write("config.json", &synthetic.config())?;
    write("preprocessor_config.json", &synthetic.preprocessor())?;
    println!("wrote {} tensors to {}", tensors.len(), folder.display());
    Ok(())
}
