//! Draws pictures with the library alone:
//! `cargo run --release --example generate -- star.png star`, the picture and the class.
//! Pass a checkpoint folder first to use another model: `generate FOLDER PICTURE [CLASS]`.
#![allow(missing_docs, reason = "an example")]

use vit_gpu::generate::{BUILTIN, Generator, Order, Request};
use vit_gpu::ops::{Guidance, Sampling};
use vit_gpu::session::{ModelSource, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let source = match args.next_if(|arg| std::path::Path::new(arg).is_dir()) {
        Some(folder) => ModelSource::Path(folder.into()),
        None => ModelSource::Builtin(BUILTIN.to_owned()),
    };
    let generator = Generator::open(&source, &Options::default())?;
    let info = generator.info();
    let picture = args.next().unwrap_or_else(|| "generated.png".to_owned());
    let class = args.next().and_then(|name| generator.labels().names.iter().position(|n| *n == name));

    let settings = info.defaults;
    let scale = if info.guided { settings.cfg_scale } else { 1.0 };
    let sampling = Sampling {
        seed: 1,
        temperature: settings.temperature,
        top_k: settings.top_k,
        top_p: settings.top_p,
        guidance: Guidance { first: scale, last: scale, places: 1 },
    };
    let classes = vec![class.or(info.classes.map(|_| 0))];
    let request = Request {
        classes,
        first: 0,
        sampling,
        prime: vec![],
        order: Order::Raster,
        parallel: None,
        every: 16,
    };
    let generated = generator.generate(&request, &mut |progress| {
        println!("{} of {} patches", progress.done, progress.total);
        Ok(())
    })?;
    let drawn = generator.decode(&generated.tokens)?.remove(0);
    let (width, height) = (drawn.width as u32, drawn.height as u32);
    image::save_buffer(&picture, &drawn.pixels, width, height, image::ColorType::Rgb8)?;
    println!("{picture}: {width}x{height} pixels");
    Ok(())
}
