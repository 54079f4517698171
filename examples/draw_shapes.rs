//! Writes pictures of shapes and a list of their captions, to try models of images and words on:
//! `cargo run --release --example draw_shapes -- 500 pictures`.
#![allow(missing_docs, reason = "an example")]

use std::fmt::Write as _;
use std::path::Path;

use vit_gpu::synthetic::shapes;

/// Rows and columns of pixels.
const SIDE: u32 = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [count, folder, ..] = args.as_slice() else {
        return Err("usage: draw_shapes COUNT FOLDER [SEED]".into());
    };
    let seed = args.get(2).map_or(Ok(1), |seed| seed.parse())?;
    let (folder, mut list) = (Path::new(folder), String::new());
    std::fs::create_dir_all(folder)?;
    for i in 0..count.parse()? {
        let shapes::Picture { label, colour, pixels } = shapes::picture(seed, i, SIDE as usize);
        let kind = shapes::LABELS[label];
        // Where two names of a colour are as good, none is said.
        let caption = colour.map_or(kind.to_owned(), |colour| format!("{colour} {kind}"));
        let name = format!("{i:04}-{}.png", caption.replace(' ', "-"));
        image::save_buffer(folder.join(&name), &pixels, SIDE, SIDE, image::ColorType::Rgb8)?;
        let article = if caption.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        writeln!(list, "{}", serde_json::json!({"image": name, "caption": format!("{article} {caption}")}))?;
    }
    std::fs::write(folder.join("captions.jsonl"), list)?;
    Ok(())
}
