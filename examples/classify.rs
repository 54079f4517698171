//! Classifies images with the library alone:
//! `cargo run --release --example classify -- assets/samples/heart.png`.
//! Pass a model first to use another: `classify FOLDER IMAGE...`.
#![allow(missing_docs, reason = "an example")]

use vit_gpu::image::{DecodeOptions, decode_file};
use vit_gpu::{ModelSource, Options, Session};

fn main() -> vit_gpu::Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let folder = args.next_if(|arg| std::path::Path::new(arg).is_dir());
    let model = ModelSource::named(folder.as_deref().unwrap_or("builtin:shapes"));
    let session = Session::open(&model, &Options::default())?;
    for file in args {
        let image = decode_file(&file, &DecodeOptions::default())?;
        let best = &session.classify(&[image])?[0][0];
        println!("{file}: {} ({:.3})", best.label, best.score.value());
    }
    Ok(())
}
