//! Sample types to RGB bytes, and turning images upright.

use ::image::DynamicImage;

/// RGB bytes (H, W, 3) with their size.
pub(super) struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

/// 16 bits to 8, rounded: 65535 / 257 = 255.
fn byte(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

/// What Pillow's `convert("RGB")` gives, but 16-bit samples are scaled. With a background,
/// transparent pixels are laid over it. `None` for floating-point samples.
pub(super) fn to_rgb(
    image: DynamicImage,
    background: Option<[u8; 3]>,
    notes: &mut Vec<String>,
) -> Option<Picture> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let eight = |v: Vec<u16>| v.into_iter().map(byte).collect();
    let wide = matches!(
        image,
        DynamicImage::ImageLuma16(_)
            | DynamicImage::ImageLumaA16(_)
            | DynamicImage::ImageRgb16(_)
            | DynamicImage::ImageRgba16(_)
    );
    let (samples, channels): (Vec<u8>, usize) = match image {
        DynamicImage::ImageRgb8(i) => (i.into_raw(), 3),
        DynamicImage::ImageLuma8(i) => (i.into_raw(), 1),
        DynamicImage::ImageLumaA8(i) => (i.into_raw(), 2),
        DynamicImage::ImageRgba8(i) => (i.into_raw(), 4),
        DynamicImage::ImageLuma16(i) => (eight(i.into_raw()), 1),
        DynamicImage::ImageLumaA16(i) => (eight(i.into_raw()), 2),
        DynamicImage::ImageRgb16(i) => (eight(i.into_raw()), 3),
        DynamicImage::ImageRgba16(i) => (eight(i.into_raw()), 4),
        _ => return None,
    };
    if wide {
        notes.push("16-bit samples scaled to 8 bits".to_owned());
    }
    if matches!(channels, 2 | 4) && samples.iter().skip(channels - 1).step_by(channels).any(|a| *a < 255) {
        notes.push(match background {
            Some([r, g, b]) => format!("transparent pixels laid over #{r:02x}{g:02x}{b:02x}"),
            None => "transparency dropped".to_owned(),
        });
    }
    let rgb = match channels {
        3 => samples,
        _ => {
            let mut rgb = Vec::with_capacity(width * height * 3);
            for pixel in samples.chunks_exact(channels) {
                let (color, alpha) = match *pixel {
                    [l] => ([l; 3], 255),
                    [l, a] => ([l; 3], a),
                    [r, g, b, a] => ([r, g, b], a),
                    _ => unreachable!("{channels} channels were set above"),
                };
                rgb.extend(match background {
                    Some(under) => std::array::from_fn(|c| over(color[c], under[c], alpha)),
                    None => color,
                });
            }
            rgb
        }
    };
    Some(Picture { width, height, rgb })
}

/// One sample over another, rounded.
fn over(top: u8, under: u8, alpha: u8) -> u8 {
    let (top, under, alpha) = (u32::from(top), u32::from(under), u32::from(alpha));
    ((top * alpha + under * (255 - alpha) + 127) / 255) as u8
}

/// Undoes an EXIF orientation: 2 mirrored, 3 upside down, 4 both, 5 to 8 with sides swapped.
/// Anything else leaves the image as it is.
pub(super) fn upright(picture: Picture, orientation: u8) -> Picture {
    let Picture { width: w, height: h, rgb } = picture;
    let (width, height) = if (5..=8).contains(&orientation) { (h, w) } else { (w, h) };
    // The source pixel of output pixel (x, y).
    let from = |x: usize, y: usize| match orientation {
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        8 => (w - 1 - y, x),
        _ => (x, y),
    };
    if !(2..=8).contains(&orientation) {
        return Picture { width, height, rgb };
    }
    let mut out = vec![0; rgb.len()];
    for (y, row) in out.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (x, y) = from(x, y);
            pixel.copy_from_slice(&rgb[(y * w + x) * 3..][..3]);
        }
    }
    Picture { width, height, rgb: out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientations_undo_what_they_name() {
        // 3 x 2 pixels, the value of each its index.
        let picture = || Picture { width: 3, height: 2, rgb: (0..6u8).flat_map(|i| [i; 3]).collect() };
        let want: [(u8, usize, [u8; 6]); 9] = [
            (1, 3, [0, 1, 2, 3, 4, 5]),
            (2, 3, [2, 1, 0, 5, 4, 3]),
            (3, 3, [5, 4, 3, 2, 1, 0]),
            (4, 3, [3, 4, 5, 0, 1, 2]),
            (5, 2, [0, 3, 1, 4, 2, 5]),
            (6, 2, [3, 0, 4, 1, 5, 2]),
            (7, 2, [5, 2, 4, 1, 3, 0]),
            (8, 2, [2, 5, 1, 4, 0, 3]),
            (9, 3, [0, 1, 2, 3, 4, 5]),
        ];
        for (orientation, width, pixels) in want {
            let got = upright(picture(), orientation);
            assert_eq!((got.width, got.height), (width, 6 / width), "orientation {orientation}");
            assert_eq!(
                got.rgb.iter().step_by(3).copied().collect::<Vec<_>>(),
                pixels,
                "orientation {orientation}"
            );
        }
    }

    #[test]
    fn floats_are_refused() {
        let image = DynamicImage::ImageRgb32F(::image::Rgb32FImage::new(2, 2));
        assert!(to_rgb(image, None, &mut Vec::new()).is_none());
    }

    #[test]
    fn sixteen_bits_scale() {
        assert_eq!([0, 128, 129, 300, 32768, 65535].map(byte), [0, 0, 1, 1, 128, 255]);
        assert_eq!((over(10, 200, 255), over(10, 200, 0), over(0, 255, 127)), (10, 200, 128));
    }
}
