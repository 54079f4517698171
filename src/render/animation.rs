//! Frames as an animation, GIF or animated PNG, and PNG files that hold text. A frame is
//! written as the smallest rectangle that differs from the one before.

use gif::{DisposalMethod, Frame, Repeat};
use image::RgbImage;
use png::{BitDepth, BlendOp, ColorType, DisposeOp, Encoder};

use super::palette::Palette;
use crate::generate::recipe::KEYWORD;

/// How long the last frame stays, in hundredths of a second.
const HOLD: u16 = 200;

/// Hundredths of a second that each of `frames` frames is shown: about four seconds in all.
pub fn delays(frames: usize) -> Vec<u16> {
    let each = (400 / frames.max(1)).clamp(4, 25) as u16;
    let mut delays = vec![each; frames];
    if let Some(last) = delays.last_mut() {
        *last = HOLD;
    }
    delays
}

fn encoder<'a>(
    out: &'a mut Vec<u8>,
    picture: &RgbImage,
    settings: Option<&str>,
) -> Result<Encoder<'a, &'a mut Vec<u8>>, png::EncodingError> {
    let mut encoder = Encoder::new(out, picture.width(), picture.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let program = concat!("vit-gpu ", env!("CARGO_PKG_VERSION"));
    encoder.add_text_chunk("Software".to_owned(), program.to_owned())?;
    if let Some(settings) = settings {
        encoder.add_itxt_chunk(KEYWORD.to_owned(), settings.to_owned())?;
    }
    Ok(encoder)
}

/// An image as PNG.
pub fn still(picture: &RgbImage, settings: Option<&str>) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut writer = encoder(&mut out, picture, settings)?.write_header()?;
    writer.write_image_data(picture.as_raw())?;
    writer.finish()?;
    Ok(out)
}

/// Frames of one size as an animated PNG that plays forever; `delays` in hundredths of a second. Where
/// animation is not known, the last frame is shown.
pub fn apng(
    frames: &[RgbImage],
    delays: &[u16],
    settings: Option<&str>,
) -> Result<Vec<u8>, png::EncodingError> {
    let Some(last) = frames.last() else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    let mut encoder = encoder(&mut out, last, settings)?;
    encoder.set_animated(frames.len() as u32, 0)?;
    encoder.set_sep_def_img(true)?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(last.as_raw())?;
    let mut before: Option<&RgbImage> = None;
    for (frame, delay) in frames.iter().zip(delays) {
        let Area { left, top, width, height } = changed(before, frame);
        writer.reset_frame_position()?;
        writer.set_frame_dimension(width, height)?;
        writer.set_frame_position(left, top)?;
        writer.set_frame_delay(*delay, 100)?;
        writer.set_blend_op(BlendOp::Source)?;
        writer.set_dispose_op(DisposeOp::None)?;
        let part = image::imageops::crop_imm(frame, left, top, width, height).to_image();
        writer.write_image_data(part.as_raw())?;
        before = Some(frame);
    }
    writer.finish()?;
    Ok(out)
}

/// Frames of one size as a GIF that plays forever; a single one is an image. All share one palette.
pub fn gif(frames: &[RgbImage], delays: &[u16]) -> Result<Vec<u8>, gif::EncodingError> {
    let Some(first) = frames.first() else { return Ok(Vec::new()) };
    let side = |n: u32| u16::try_from(n).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput));
    let (width, height) = (side(first.width())?, side(first.height())?);
    let mut palette = Palette::of(frames);
    let mut encoder = gif::Encoder::new(Vec::new(), width, height, &palette.bytes())?;
    if frames.len() > 1 {
        encoder.set_repeat(Repeat::Infinite)?;
    }
    let mut before: Option<&RgbImage> = None;
    for (picture, delay) in frames.iter().zip(delays) {
        let Area { left, top, width, height } = changed(before, picture);
        let part = image::imageops::crop_imm(picture, left, top, width, height).to_image();
        let indices: Vec<u8> = part.pixels().map(|p| palette.index(p.0)).collect();
        encoder.write_frame(&Frame {
            left: side(left)?,
            top: side(top)?,
            width: side(width)?,
            height: side(height)?,
            delay: *delay,
            dispose: DisposalMethod::Keep,
            buffer: indices.into(),
            ..Frame::default()
        })?;
        before = Some(picture);
    }
    encoder.into_inner()
}

/// A part of an image, in pixels.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

/// The smallest area that holds every pixel that differs; one pixel if none does.
fn changed(before: Option<&RgbImage>, now: &RgbImage) -> Area {
    let (width, height) = now.dimensions();
    let Some(before) = before else { return Area { left: 0, top: 0, width, height } };
    let (mut left, mut top, mut right, mut bottom) = (width, height, 0, 0);
    for ((x, y, a), b) in now.enumerate_pixels().zip(before.pixels()) {
        if a != b {
            (left, top) = (left.min(x), top.min(y));
            (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
        }
    }
    if right == 0 {
        return Area { left: 0, top: 0, width: 1, height: 1 };
    }
    Area { left, top, width: right - left, height: bottom - top }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Cursor;

    use image::codecs::{gif::GifDecoder, png::PngDecoder};
    use image::{AnimationDecoder as _, Rgb};

    use super::*;

    /// Squares that fill an image one after the other.
    fn growth() -> Vec<RgbImage> {
        let mut picture = RgbImage::from_pixel(12, 8, Rgb([128; 3]));
        let mut frames = vec![picture.clone()];
        for i in 0..6u32 {
            for (x, y) in (0..4).flat_map(|y| (0..4).map(move |x| (x, y))) {
                let colour = Rgb([(40 * i) as u8, 255 - (40 * i) as u8, 30]);
                picture.put_pixel(i % 3 * 4 + x, i / 3 * 4 + y, colour);
            }
            frames.push(picture.clone());
        }
        frames.push(picture);
        frames
    }

    #[test]
    fn frames_come_back() {
        let frames = growth();
        let delays = delays(frames.len());
        assert_eq!((delays[0], delays[7]), (25, HOLD));

        let bytes = apng(&frames, &delays, Some("{}")).unwrap();
        let decoder = PngDecoder::new(Cursor::new(&bytes)).unwrap();
        let back = decoder.apng().unwrap().into_frames().collect_frames().unwrap();
        assert_eq!(back.len(), frames.len());
        for (frame, want) in back.iter().zip(&frames) {
            let rgb = image::DynamicImage::ImageRgba8(frame.buffer().clone()).to_rgb8();
            assert!(rgb == *want);
        }
        assert_eq!(back[7].delay().numer_denom_ms().0 / back[7].delay().numer_denom_ms().1, 2000);
        let still = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert!(still == frames[7], "without animation the last frame is seen");

        let bytes = gif(&frames, &delays).unwrap();
        let back = GifDecoder::new(Cursor::new(&bytes)).unwrap().into_frames().collect_frames().unwrap();
        assert_eq!(back.len(), frames.len());
        for (frame, want) in back.iter().zip(&frames) {
            let rgb = image::DynamicImage::ImageRgba8(frame.buffer().clone()).to_rgb8();
            assert!(rgb == *want, "few colours stay as they are");
        }
    }

    #[test]
    fn only_what_changed() {
        let frames = growth();
        assert_eq!(changed(Some(&frames[5]), &frames[6]), Area { left: 8, top: 4, width: 4, height: 4 });
        assert_eq!(changed(Some(&frames[6]), &frames[7]), Area { left: 0, top: 0, width: 1, height: 1 });
        assert_eq!(delays(64)[0], 6);
        assert_eq!(delays(1000)[0], 4);
    }
}
