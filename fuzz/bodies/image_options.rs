//! An image file of any content under any decoding options, then preprocessed.
//!
//! An input is two bytes of options and the file.

use vit_gpu::image::preprocess::Preprocess;
use vit_gpu::image::{DecodeOptions, decode_bytes};

/// Limits on pixels; small, because decoding a legal picture of the default limit takes seconds.
const MAX_PIXELS: [u64; 4] = [1, 300, 4096, 1 << 16];

/// Runs one input.
pub fn run(input: &[u8]) {
    let Some((&[flags, limit], file)) = input.split_first_chunk::<2>() else { return };
    let options = DecodeOptions {
        max_pixels: MAX_PIXELS[usize::from(limit) % MAX_PIXELS.len()],
        apply_exif: flags & 1 != 0,
        allow_truncated: flags & 2 != 0,
        background: (flags & 4 != 0).then_some([255, 128, 0]),
    };
    let image = match decode_bytes("image", file, &options) {
        Ok(image) => image,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            return;
        }
    };
    assert!(image.width > 0 && image.height > 0);
    assert!(image.width as u64 * image.height as u64 <= options.max_pixels);
    assert_eq!(image.rgb.len(), image.width * image.height * 3);

    let family = if flags & 8 != 0 { "clip" } else { "timm" };
    let preprocess = Preprocess::default_for(family, [24, 16]).expect("the family is known");
    let pixels = preprocess.pixels(&image).expect("an image within the limits can be resized");
    assert_eq!(pixels.len(), 24 * 16 * 3);
}
