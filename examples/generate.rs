//! Generates an image with the library alone:
//! `cargo run --release --example generate -- star.png star`, the file and the class.
//! Pass a checkpoint folder first to use another model: `generate FOLDER FILE [CLASS]`.
#![allow(missing_docs, reason = "an example")]

use vit_gpu::{Generator, ModelSource, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let folder = args.next_if(|arg| std::path::Path::new(arg).is_dir());
    let model = ModelSource::named(folder.as_deref().unwrap_or("builtin:shapes-gpt"));
    let generator = Generator::open(&model, &Options::default())?;
    let file = args.next().unwrap_or_else(|| "generated.png".to_owned());
    let class = args.next().and_then(|name| generator.labels().names.iter().position(|n| *n == name));
    let class = class.or(generator.info().classes.map(|_| 0));

    let generated = generator.generate(&generator.request(vec![class], 1), &mut |progress| {
        println!("{} of {} patches", progress.done, progress.total);
        Ok(())
    })?;
    let image = generator.decode(&generated.tokens)?.remove(0);
    let (width, height) = (image.width as u32, image.height as u32);
    image::save_buffer(&file, &image.pixels, width, height, image::ColorType::Rgb8)?;
    println!("{file}: {width}x{height} pixels");
    Ok(())
}
