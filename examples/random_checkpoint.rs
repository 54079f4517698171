//! Writes a model folder of a named size with random weights, to give other programs the very weights
//! that `--synthetic` makes on the fly:
//! `cargo run --release --example random_checkpoint -- vit-b/16 target/vit-b`
//! `cargo run --release --example random_checkpoint -- llamagen-b target/llamagen-b`
//! `cargo run --release --example random_checkpoint -- gpt2 target/gpt2`.
#![allow(missing_docs, reason = "an example")]

use std::path::Path;

use vit_gpu::synthetic::folder::write_folder;
use vit_gpu::synthetic::text::SyntheticText;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [size, folder] = args.as_slice() else {
        let texts = SyntheticText::names().collect::<Vec<_>>().join("|");
        return Err(format!("usage: random_checkpoint vit-b/16|llamagen-b|{texts} FOLDER").into());
    };
    for (path, parameters) in write_folder(size, Path::new(folder)).map_err(|e| e.to_string())? {
        println!("wrote {}: {parameters} parameters", path.display());
    }
    Ok(())
}
