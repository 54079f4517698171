//! A `preprocessor_config.json`, or timm's `config.json`, and the pixels it makes of small images.
//!
//! An input is the JSON text, optionally followed by a NUL and up to four bytes: the model's
//! family, and width, height and stretch of an image.

use vit_gpu::image::preprocess::Preprocess;
use vit_gpu::image::{Decoded, MAX_SIDE};

/// Families whose processors differ; `None` is a folder that names none.
const FAMILIES: [Option<&str>; 6] =
    [None, Some("deit"), Some("dinov2"), Some("siglip_vision_model"), Some("timm"), Some("unheard_of")];
/// Most pixels of a result that is computed here: the largest model input would take a second.
const PIXELS: usize = 1 << 17;
/// Shapes of images whose result is sized, though not computed.
const SHAPES: [(usize, usize); 6] =
    [(1, 1), (640, 480), (13_377, 13_377), (1, MAX_SIDE as usize), (MAX_SIDE as usize, 1), (65_535, 2_730)];

/// Runs one input.
pub fn run(input: &[u8]) {
    let (text, rest) = super::split(input);
    let byte = |i: usize| rest.get(i).copied().map_or(0, usize::from);
    let family = FAMILIES[byte(0) % FAMILIES.len()];
    let preprocess =
        match Preprocess::from_json("preprocessor_config.json", &String::from_utf8_lossy(text), family) {
            Ok(preprocess) => preprocess,
            Err(e) => {
                assert!(!e.to_string().is_empty());
                return;
            }
        };

    let (mut width, mut height) = (1 + byte(1) % 64, 1 + byte(2) % 64);
    match byte(3) % 3 {
        0 => {}
        1 => width *= 97,
        _ => height *= 97,
    }
    let resized = preprocess.with_size([19, 33]).expect("the size is in range");
    for preprocess in [&preprocess, &resized] {
        for shape in SHAPES {
            let size = preprocess.output_size([shape.1, shape.0]);
            assert!(size.width > 0 && size.height > 0, "an image of {shape:?} becomes {size}");
            assert!(preprocess.size().is_none_or(|promised| promised == size), "a promised size is kept");
        }
        let _ = preprocess.normalise();
        pixels(preprocess, width, height);
    }
    assert_eq!(resized.size(), Some([19, 33].into()));
}

/// The pixels of an image of a size, unless they are too many.
fn pixels(preprocess: &Preprocess, width: usize, height: usize) {
    let size = preprocess.output_size([height, width]);
    if size.width.saturating_mul(size.height) > PIXELS {
        return;
    }
    let rgb = (0..width * height * 3).map(|i| ((i * 37) >> 2) as u8).collect();
    let image = Decoded { width, height, rgb, notes: Vec::new() };
    match preprocess.tensor(&image) {
        Ok(tensor) => assert_eq!(tensor.shape().dims(), [1, 3, size.height, size.width]),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}
