//! Images beside each other in one, and image files by their extension.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::animation;
use crate::error::{Advice, Error, Result};
use crate::generate::GeneratedImage;
use crate::tensor::Size;

/// Pixels between images, before enlarging.
const GAP: u32 = 2;
/// Most pixels of an image file that is written.
const MAX_PIXELS: u64 = 1 << 28;
/// What is between images.
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);

/// Where samples go on a sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    /// Samples.
    count: u32,
    /// Samples beside each other.
    columns: u32,
    /// Width and height of a sample in pixels.
    cell: [u32; 2],
    /// How many times it is enlarged.
    zoom: u32,
}

impl Sheet {
    /// A sheet of `count` images of (height, width); `columns` where the user says how many.
    ///
    /// # Errors
    /// [`Error::Usage`] if it would be too large to be an image file.
    pub fn new(count: usize, columns: Option<u32>, picture: impl Into<Size>, zoom: u32) -> Result<Self> {
        let picture = picture.into();
        let too_large = |width: u64, height: u64| {
            let what = format!("{count} samples on one sheet would be {width}x{height} pixels");
            Error::usage(what, Advice::SmallerSheet)
        };
        let small = || too_large(picture.width as u64, picture.height as u64);
        let [height, width] = <[usize; 2]>::from(picture).map(u32::try_from);
        let (Ok(height), Ok(width), Ok(count)) = (height, width, u32::try_from(count)) else {
            return Err(small());
        };
        let count = count.max(1);
        let columns = columns.unwrap_or_else(|| square(count)).clamp(1, count);
        let sheet = Self { count, columns, cell: [width, height], zoom };
        let [width, height] = sheet.wide_size();
        if width.max(height) > 65_535 || width * height > MAX_PIXELS {
            return Err(too_large(width, height));
        }
        Ok(sheet)
    }

    fn wide_size(&self) -> [u64; 2] {
        let rows = self.count.div_ceil(self.columns);
        let side = |count: u32, cell: u32| {
            (u64::from(count) * u64::from(cell) + u64::from(count - 1) * u64::from(GAP))
                * u64::from(self.zoom)
        };
        [side(self.columns, self.cell[0]), side(rows, self.cell[1])]
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [u32; 2] {
        // `new` has checked that they fit.
        self.wide_size().map(|side| u32::try_from(side).unwrap_or(u32::MAX))
    }

    /// The sheet with these images on it, in order; what is too much is left out.
    pub fn draw(&self, pictures: &[GeneratedImage]) -> RgbImage {
        let [width, height] = self.size();
        let mut sheet = RgbImage::from_pixel(width, height, PAPER);
        for (i, picture) in pictures.iter().enumerate().take(self.count as usize) {
            let i = i as u32;
            let left = (i % self.columns) * (self.cell[0] + GAP) * self.zoom;
            let top = (i / self.columns) * (self.cell[1] + GAP) * self.zoom;
            place(&mut sheet, picture, left, top, self.zoom);
        }
        sheet
    }
}

/// Draws an image on another, enlarged.
pub fn place(onto: &mut RgbImage, picture: &GeneratedImage, left: u32, top: u32, zoom: u32) {
    for (y, line) in picture.pixels.chunks_exact((picture.width * 3).max(1)).enumerate() {
        for (x, pixel) in line.as_chunks::<3>().0.iter().enumerate() {
            for dy in 0..zoom {
                for dx in 0..zoom {
                    let (x, y) = (left + x as u32 * zoom + dx, top + y as u32 * zoom + dy);
                    if let Some(p) = onto.get_pixel_mut_checked(x, y) {
                        p.0 = *pixel;
                    }
                }
            }
        }
    }
}

/// Columns for a nearly square sheet, with few places left empty.
pub(super) fn square(count: u32) -> u32 {
    let least = (1..=count).find(|c| c * c >= count).unwrap_or(1);
    let most = (least + least / 2).min(count);
    let empty = |c: u32| count.div_ceil(c) * c - count;
    (least..=most).min_by_key(|c| (empty(*c), *c)).unwrap_or(least)
}

/// Kinds of image files that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PNG, which may hold settings as text.
    Png,
    /// GIF, of at most 256 colors.
    Gif,
    /// What the `image` crate writes.
    Other(ImageFormat),
}

impl Kind {
    /// The kind that a file's extension tells; `flag` is what the file was named by.
    ///
    /// # Errors
    /// [`Error::Usage`] for an extension that tells none.
    pub fn of(path: &Path, flag: &str) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        Ok(match extension.as_deref() {
            Some("png" | "apng") => Kind::Png,
            Some("gif") => Kind::Gif,
            Some("jpg" | "jpeg") => Kind::Other(ImageFormat::Jpeg),
            Some("webp") => Kind::Other(ImageFormat::WebP),
            Some("bmp") => Kind::Other(ImageFormat::Bmp),
            Some("tif" | "tiff") => Kind::Other(ImageFormat::Tiff),
            Some("ppm" | "pnm") => Kind::Other(ImageFormat::Pnm),
            other => {
                let what = match other {
                    Some(e) => format!("{flag} {}: `.{e}` is no kind of image file", path.display()),
                    None => format!("{flag} {}: no extension tells the kind of file", path.display()),
                };
                return Err(Error::usage(what, "name it .png, .jpg, .webp, .bmp, .tiff, .ppm or .gif"));
            }
        })
    }

    /// An image as a file of this kind; PNG files hold `settings` as text.
    ///
    /// # Errors
    /// [`Error::Write`] that names `path` if it cannot be encoded.
    pub fn encode(self, picture: &RgbImage, settings: Option<&str>, path: &Path) -> Result<Vec<u8>> {
        let wrong = |e: String| Error::Write { path: path.display().to_string(), what: e };
        match self {
            Kind::Png => animation::still(picture, settings).map_err(|e| wrong(e.to_string())),
            Kind::Gif => {
                animation::gif(std::slice::from_ref(picture), &[0]).map_err(|e| wrong(e.to_string()))
            }
            Kind::Other(ImageFormat::Jpeg) => {
                let mut out = Vec::new();
                let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 95);
                picture.write_with_encoder(encoder).map_err(|e| wrong(e.to_string()))?;
                Ok(out)
            }
            Kind::Other(format) => {
                let mut out = Cursor::new(Vec::new());
                let picture = DynamicImage::ImageRgb8(picture.clone());
                picture.write_to(&mut out, format).map_err(|e| wrong(e.to_string()))?;
                Ok(out.into_inner())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn flat(side: usize, grey: u8) -> GeneratedImage {
        GeneratedImage { height: side, width: side, pixels: vec![grey; side * side * 3] }
    }

    #[test]
    fn nearly_square() {
        let columns: Vec<u32> = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 48, 100].map(square).to_vec();
        assert_eq!(columns, [1, 2, 3, 2, 3, 3, 4, 4, 5, 4, 5, 4, 8, 10]);
    }

    #[test]
    fn places_and_sizes() {
        let sheet = Sheet::new(3, Some(2), [4, 6], 1).unwrap();
        assert_eq!(sheet.size(), [14, 10]);
        assert_eq!(Sheet::new(1, Some(9), [4, 6], 3).unwrap().size(), [18, 12]);
        let drawn = Sheet::new(3, Some(2), [4, 4], 2).unwrap().draw(&[flat(4, 1), flat(4, 2), flat(4, 3)]);
        assert_eq!(drawn.dimensions(), (20, 20));
        let at = |x, y| drawn.get_pixel(x, y).0[0];
        assert_eq!((at(0, 0), at(7, 7), at(8, 0), at(12, 0), at(0, 12), at(19, 19)), (1, 1, 255, 2, 3, 255));
    }

    #[test]
    fn too_large_is_refused() {
        let e = Sheet::new(65_536, None, [256, 256], 1).unwrap_err();
        assert!(matches!(&e, Error::Usage { what, .. } if what.contains("pixels")), "{e}");
        assert!(Sheet::new(1, None, [4096, 4096], 64).is_err());
        assert!(Sheet::new(300, Some(1), [256, 256], 1).is_err(), "a side that no JPEG has");
    }

    #[test]
    fn kinds_by_extension() {
        let kind = |name: &str| Kind::of(Path::new(name), "the output");
        assert_eq!(kind("a/b.PNG"), Ok(Kind::Png));
        assert_eq!(kind("b.jpeg"), Ok(Kind::Other(ImageFormat::Jpeg)));
        for bad in ["a", "a.txt", "a.", "png", ".png"] {
            assert!(matches!(kind(bad), Err(Error::Usage { .. })), "{bad}");
        }
        let picture = RgbImage::from_pixel(5, 3, Rgb([9, 200, 90]));
        for name in ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tiff", "a.ppm", "a.gif"] {
            let bytes = kind(name).unwrap().encode(&picture, Some("{}"), Path::new(name)).unwrap();
            let back = image::load_from_memory(&bytes).unwrap().to_rgb8();
            assert_eq!(back.dimensions(), (5, 3), "{name}");
            let near = back.pixels().all(|p| p.0.iter().zip([9u8, 200, 90]).all(|(a, b)| a.abs_diff(b) < 8));
            assert!(near, "{name}");
        }
    }
}
