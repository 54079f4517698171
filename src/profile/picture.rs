//! An image to decode: like a small photograph to a decoder, and the same every time.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

/// Width and height in pixels, those of many photographs on the web.
const SIZE: [u32; 2] = [640, 480];

/// Soft shapes and some grain as JPEG.
pub(super) fn jpeg() -> Vec<u8> {
    let [width, height] = SIZE;
    let mut state = 1u32;
    let mut grain = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as f32
    };
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = (u * 23.0).sin() * (v * 17.0 + u * 5.0).cos();
            for phase in [0.0f32, 0.3, 0.7] {
                let value = 120.0 + 60.0 * wave + 50.0 * (u - v + phase).sin();
                pixels.push((value + grain()) as u8);
            }
        }
    }
    let mut out = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut out, 88);
    let encoded = encoder.write_image(&pixels, width, height, ExtendedColorType::Rgb8);
    encoded.expect("a whole RGB image goes into memory");
    out
}
