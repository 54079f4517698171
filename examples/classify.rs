//! Classifies pictures with the library alone:
//! `cargo run --release --example classify -- assets/samples/heart.png`.
//! Pass a checkpoint folder first to use another model: `classify FOLDER PICTURE...`.
#![allow(missing_docs, reason = "an example")]

use vit_gpu::image::{DecodeOptions, decode_file};
use vit_gpu::session::{ModelSource, Options, Session};

fn main() -> vit_gpu::Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    let source = match args.next_if(|arg| std::path::Path::new(arg).is_dir()) {
        Some(folder) => ModelSource::Path(folder.into()),
        None => ModelSource::Builtin("shapes".to_owned()),
    };
    let session = Session::open(&source, &Options::default())?;
    let preprocess = session.preprocess();
    for file in args {
        let image = decode_file(&file, &DecodeOptions::default())?;
        let (width, height) = preprocess.output_size(image.width, image.height);
        let pixels = preprocess.pixels(&image)?;
        let logits = session.run_pixels(&[&pixels], [height, width], &["logits"])?.remove(0).to_f32();
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
        println!("{file}: {} ({:.2})", session.labels().names[best], logits[best]);
    }
    Ok(())
}
