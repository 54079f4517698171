//! From a decoded image to the pixels a checkpoint was trained on: resize, crop,
//! rescale, normalise, as described by the checkpoint's own files.
//!
//! A [`Preprocess`] is plain data. It is read from a Hugging Face `preprocessor_config.json`
//! (`preprocess/hf.rs`) or a timm `config.json` (`preprocess/timm.rs`), or made up from the
//! model family when neither exists ([`Preprocess::default_for`]). The geometric part
//! ([`Preprocess::pixels`]) runs on bytes, exactly as Pillow, torchvision or timm would, so it
//! can be uploaded as bytes and normalised on the device ([`Preprocess::normalise`]), except for
//! [`Backend::TorchvisionFloats`], whose images are made on the host ([`Preprocess::prepare`]); the host
//! version ([`Preprocess::tensor`]) repeats the original's f32 operations one by one and is
//! bit-equal to it. References: transformers 5.23 `image_processing_backends.py` and
//! `image_transforms.py`, timm 1.0.31 `transforms_factory.py` and `transforms.py`.
//!
//! It refuses processors that it does not know, padding to a batch's largest image, and values
//! that cannot be meant (a deviation of 0, a filter 99): a wrong guess here would lower a
//! model's accuracy without a word.

mod fields;
mod hf;
mod spec;
mod timm;

use crate::error::{Error, Result};
use crate::image::Decoded;
use crate::image::resize::{Resampler, Window, resize_window};
use crate::image::resize_floats;
use crate::tensor::{HostTensor, Size};
use crate::textfile;
use fields::Fields;
pub use spec::{Backend, CropMode, Geometry, MAX_MODEL_SIDE, Pixels, Preprocess, Resize};

/// Largest side of the resized image that a crop is taken from, in pixels; some resamplers look at
/// every position of it.
const MAX_RESIZED_SIDE: usize = 1 << 22;
/// Most pixels that the result may have when it follows the image's own shape.
const MAX_RESULT_PIXELS: usize = 178_956_970;

/// The part of a resized image that is wanted, in a frame that may be larger.
struct Framed {
    /// Size (W, H) of the whole resized image.
    resized: (usize, usize),
    /// Size (W, H) of the frame.
    size: (usize, usize),
    /// The part of the resized image that the frame shows.
    window: Window,
    /// Where in the frame (x, y) it begins.
    at: (usize, usize),
    /// Colour of the rest.
    fill: [u8; 3],
}

impl Framed {
    /// The frame around a part (h, w, 3).
    fn filled<T: Copy>(&self, part: Vec<T>, fill: [T; 3]) -> Vec<T> {
        let ((width, height), (x, y)) = (self.size, self.at);
        if (self.window.width, self.window.height) == self.size {
            return part;
        }
        let mut out = fill.repeat(width * height);
        for (row, line) in part.chunks_exact(self.window.width * 3).enumerate() {
            out[((y + row) * width + x) * 3..][..line.len()].copy_from_slice(line);
        }
        out
    }
}

/// One image's way through the geometry.
struct Steps {
    /// Size (W, H) of the whole resized image.
    resized: (usize, usize),
    /// Size (W, H) of the centre crop.
    crop: Option<(usize, usize)>,
    /// Colour of pixels that the crop adds.
    fill: [u8; 3],
}

impl Preprocess {
    /// Reads either kind of file. `name` is the file as errors should call it, `text` its JSON;
    /// `family` is the model's `model_type`, which decides the processor class where an old file
    /// does not name one (without it, ViT).
    ///
    /// # Errors
    /// [`Error::Model`] that names the file and the field: not JSON, an unknown processor,
    /// or a value that cannot be meant.
    pub fn from_json(name: &str, text: &str, family: Option<&str>) -> Result<Self> {
        let again = "download the file again; it should be a JSON object";
        let value = textfile::json(text.as_bytes()).map_err(|what| Error::model(name, what, again))?;
        let fields = Fields::new(name, &value)?;
        if timm::is_timm(&fields) { timm::parse(&fields) } else { hf::parse(&fields, family) }
    }

    /// The usual preprocessing of a family at an image size, for a folder without preprocessor_config.json. Families are `model_type` values (`vit`, `deit`,
    /// `dinov2`, `clip_vision_model`, `siglip`, `beit`, `imagegpt`, ...) and `timm`.
    ///
    /// # Errors
    /// [`Error::Model`] if the family has no image input or the size is out of range.
    pub fn default_for(family: &str, size: impl Into<Size>) -> Result<Self> {
        let size = size.into();
        let made = if family.starts_with("timm") {
            timm::default_for((size.height, size.width))
        } else {
            hf::default_for(family).ok_or_else(|| {
                Error::model(
                    format!("model family {family:?}"),
                    "no preprocessing is known for it",
                    "put the checkpoint's preprocessor_config.json beside its config.json",
                )
            })?
        };
        made.with_size(size)
    }

    /// The same preprocessing for another resolution: the result gets this size, and an image resized beyond its crop stays so in proportion.
    ///
    /// # Errors
    /// [`Error::Model`] if a side is 0 or above [`MAX_MODEL_SIDE`].
    pub fn with_size(&self, size: impl Into<Size>) -> Result<Self> {
        let size = size.into();
        let Size { height, width } = size;
        for side in [height, width] {
            if !(1..=MAX_MODEL_SIDE).contains(&side) {
                return Err(Error::model(
                    &self.processor,
                    format!("image size {size} is out of range"),
                    format!("sides go from 1 to {MAX_MODEL_SIDE} pixels"),
                ));
            }
        }
        let geometry = match self.geometry {
            Geometry::Timm { crop_pct, mode, .. } => Geometry::Timm { height, width, crop_pct, mode },
            Geometry::Hf { resize: Resize::None, crop: Some(_) } => {
                Geometry::Hf { resize: Resize::None, crop: Some((height, width)) }
            }
            Geometry::Hf { crop: None, .. } => {
                Geometry::Hf { resize: Resize::Exact { height, width }, crop: None }
            }
            Geometry::Hf { resize, crop: Some((ch, cw)) } => {
                let tall = |n: usize| (n * height / ch).max(1);
                let wide = |n: usize| (n * width / cw).max(1);
                let resize = match resize {
                    Resize::None => Resize::None,
                    Resize::Exact { height, width } => {
                        Resize::Exact { height: tall(height), width: wide(width) }
                    }
                    Resize::Within { height, width } => {
                        Resize::Within { height: tall(height), width: wide(width) }
                    }
                    Resize::Patches { .. } => Resize::Exact { height, width },
                    Resize::ShortestEdge { edge, longest } => {
                        let grown = |n| tall(n).max(wide(n));
                        Resize::ShortestEdge { edge: grown(edge), longest: longest.map(grown) }
                    }
                };
                Geometry::Hf { resize, crop: Some((height, width)) }
            }
        };
        Ok(Self { geometry, ..self.clone() })
    }

    /// Size of the result where it does not depend on the image.
    pub fn size(&self) -> Option<Size> {
        match self.geometry {
            Geometry::Timm { height, width, .. } => Some(Size { height, width }),
            Geometry::Hf { crop: Some((height, width)), .. } => Some(Size { height, width }),
            Geometry::Hf { resize: Resize::Exact { height, width }, .. } => Some(Size { height, width }),
            Geometry::Hf { .. } => None,
        }
    }

    /// Size of the result for an image of some size.
    pub fn output_size(&self, image: impl Into<Size>) -> Size {
        let image = image.into();
        let steps = self.steps(image.width.max(1), image.height.max(1));
        let (width, height) = steps.crop.unwrap_or(steps.resized);
        Size { height, width }
    }

    /// The image as the model takes it, of size [`Preprocess::output_size`].
    ///
    /// # Errors
    /// As [`Preprocess::pixels`].
    pub fn prepare(&self, image: &Decoded) -> Result<Pixels> {
        Ok(match self.backend {
            Backend::TorchvisionFloats => Pixels::Floats(self.floats(image)?),
            _ => Pixels::Bytes(self.pixels(image)?),
        })
    }

    /// What [`Preprocess::prepare`] made, as a picture to look at: (H, W, 3) bytes.
    pub fn shown(&self, pixels: &Pixels) -> Vec<u8> {
        let planes = match pixels {
            Pixels::Bytes(bytes) => return bytes.clone(),
            Pixels::Floats(planes) => planes,
        };
        let (scale, offset) = self.normalise();
        let n = planes.len() / 3;
        let byte = |i: usize| {
            let c = i % 3;
            ((planes[c * n + i / 3] - offset[c]) / scale[c]).round().clamp(0.0, 255.0) as u8
        };
        (0..3 * n).map(byte).collect()
    }

    /// Rescaled, resized as floats, normalised: (3, H, W).
    fn floats(&self, image: &Decoded) -> Result<Vec<f32>> {
        let framed = self.framed(image)?;
        let factor = self.rescale.unwrap_or(1.0) as f32;
        let levels: [f32; 256] = std::array::from_fn(|byte| byte as f32 * factor);
        let size = (image.width, image.height);
        let Framed { resized, window, .. } = framed;
        let part = resize_floats::resize_window(&image.rgb, size, resized, window, self.filter, &levels);
        let whole = framed.filled(part, framed.fill.map(|byte| levels[usize::from(byte)]));
        let mut planes = Vec::with_capacity(whole.len());
        for c in 0..3 {
            let (mean, std) = self.mean_std.map_or((0.0, 1.0), |(mean, std)| (mean[c] as f32, std[c] as f32));
            planes.extend(whole.iter().skip(c).step_by(3).map(|x| (x - mean) / std));
        }
        Ok(planes)
    }

    /// The geometric part: (H, W, 3) bytes of size [`Preprocess::output_size`], as upload for a
    /// device that normalises by itself. Of [`Backend::TorchvisionFloats`] these are the
    /// bytes that torchvision would make, which are near.
    ///
    /// # Errors
    /// [`Error::Input`] if the image is inconsistent, or so long and thin that the resized one
    /// is beyond reason.
    pub fn pixels(&self, image: &Decoded) -> Result<Vec<u8>> {
        let framed = self.framed(image)?;
        let resampler = match self.backend {
            Backend::Torchvision | Backend::TorchvisionFloats => Resampler::Torch,
            Backend::Pil | Backend::Timm => Resampler::Pillow(self.pillow),
        };
        let size = (image.width, image.height);
        let part = resize_window(&image.rgb, size, framed.resized, framed.window, self.filter, resampler);
        Ok(framed.filled(part, framed.fill))
    }

    /// What is wanted of an image's resized one.
    fn framed(&self, image: &Decoded) -> Result<Framed> {
        let (w, h) = (image.width, image.height);
        if w == 0 || h == 0 || w.checked_mul(h).and_then(|n| n.checked_mul(3)) != Some(image.rgb.len()) {
            let what = format!("{} bytes do not make a {w}x{h} RGB image", image.rgb.len());
            return Err(Error::input("image", what, "pass width x height x 3 bytes"));
        }
        let Steps { resized: (rw, rh), crop, fill } = self.steps(w, h);
        let (cw, ch) = crop.unwrap_or((rw, rh));
        if rw.max(rh) > MAX_RESIZED_SIDE || cw.saturating_mul(ch) > MAX_RESULT_PIXELS {
            let what = format!("a {w}x{h} image would be resized to {rw}x{rh}");
            return Err(Error::input("image", what, "crop it to a less extreme shape first"));
        }
        let (left, top) = (self.crop_offset(rw, cw), self.crop_offset(rh, ch));
        // The part of the crop that lies on the resized image.
        let (x, y) = (left.max(0) as usize, top.max(0) as usize);
        let window = Window {
            x,
            y,
            width: ((left + cw as i64) as usize).min(rw) - x,
            height: ((top + ch as i64) as usize).min(rh) - y,
        };
        let at = ((-left).max(0) as usize, (-top).max(0) as usize);
        Ok(Framed { resized: (rw, rh), size: (cw, ch), window, at, fill })
    }

    /// Per channel, `scale` and `offset` such that a byte `x` becomes `x * scale + offset`:
    /// [`Preprocess::tensor`] up to rounding.
    pub fn normalise(&self) -> ([f32; 3], [f32; 3]) {
        let rescale = self.rescale.unwrap_or(1.0);
        let (mean, std) = self.mean_std.unwrap_or(([0.0; 3], [1.0; 3]));
        let scale = std::array::from_fn(|c| (rescale / std[c]) as f32);
        let offset = std::array::from_fn(|c| (-mean[c] / std[c]) as f32);
        (scale, offset)
    }

    /// The model's input: f32 (1, 3, H, W), bit-equal to what the original returns (of
    /// [`Backend::TorchvisionFloats`] up to the rounding of sums).
    ///
    /// # Errors
    /// As [`Preprocess::pixels`].
    pub fn tensor(&self, image: &Decoded) -> Result<HostTensor> {
        let Size { height, width } = self.output_size(image.size());
        if self.backend == Backend::TorchvisionFloats {
            return Ok(HostTensor::f32([1, 3, height, width], self.floats(image)?));
        }
        let pixels = self.pixels(image)?;
        let mut out = Vec::with_capacity(pixels.len());
        for channel in 0..3 {
            let table: [f32; 256] = std::array::from_fn(|byte| self.value(byte as u8, channel));
            out.extend(pixels.iter().skip(channel).step_by(3).map(|&byte| table[usize::from(byte)]));
        }
        Ok(HostTensor::f32([1, 3, height, width], out))
    }

    /// One byte of one channel through the original's rescaling and normalising.
    fn value(&self, byte: u8, channel: usize) -> f32 {
        let x = f32::from(byte);
        let mean_std = self.mean_std.map(|(mean, std)| (mean[channel] as f32, std[channel] as f32));
        match (self.backend, self.rescale, mean_std) {
            // Fused: bytes against mean and deviation brought to their units.
            (Backend::Torchvision, Some(rescale), Some((mean, std))) => {
                let unit = (1.0 / rescale) as f32;
                (x - mean * unit) / (std * unit)
            }
            (Backend::Torchvision, Some(rescale), None) => x * rescale as f32,
            (backend, rescale, mean_std) => {
                let x = match (backend, rescale) {
                    (_, None) => x,
                    (Backend::Timm, Some(_)) => x / 255.0,
                    (_, Some(rescale)) => (f64::from(byte) * rescale) as f32,
                };
                mean_std.map_or(x, |(mean, std)| (x - mean) / std)
            }
        }
    }

    /// First position of a centre crop of `crop` in `side` pixels; negative where it pads.
    fn crop_offset(&self, side: usize, crop: usize) -> i64 {
        let spare = side as i64 - crop as i64;
        match self.backend {
            Backend::Pil => spare.div_euclid(2),
            _ if spare < 0 => -(-spare / 2),
            Backend::Torchvision | Backend::TorchvisionFloats => spare / 2,
            Backend::Timm => (spare as f64 / 2.0).round_ties_even() as i64,
        }
    }

    fn steps(&self, width: usize, height: usize) -> Steps {
        match self.geometry {
            Geometry::Hf { resize, crop } => Steps {
                resized: hf::resized(resize, width, height),
                crop: crop.map(|(h, w)| (w, h)),
                fill: [0; 3],
            },
            Geometry::Timm { height: to_height, width: to_width, crop_pct, mode } => {
                let mean = self.mean_std.map_or([0.0; 3], |(mean, _)| mean);
                let fill = match mode {
                    CropMode::Border => mean.map(|m| (m * 255.0).round_ties_even() as u8),
                    CropMode::Center | CropMode::Squash => [0; 3],
                };
                let resized = timm::resized((width, height), (to_width, to_height), crop_pct, mode);
                Steps { resized, crop: Some((to_width, to_height)), fill }
            }
        }
    }
}
