//! Images varied at random, on bytes and in the model's size, as timm does by default: a random crop that is
//! resized, mirrored half the time, varied by RandAugment, its colors jittered, a rectangle of it erased (timm 1.0.31,
//! `transforms_factory.py` and `random_erasing.py`; the crop is torchvision's `RandomResizedCrop`).

use super::rand_augment::RandAugment;
use crate::error::Result;
use crate::image::Decoded;
use crate::image::preprocess::Preprocess;
use crate::image::resize::{Filter, Resampler, Window, resize, resize_window};
use crate::random::Random;
use crate::tensor::Size;

/// How images are varied.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Augment {
    /// Least and greatest share of the image's area that a crop has.
    pub scale: [f64; 2],
    /// Least and greatest quotient of a crop's width and height.
    pub ratio: [f64; 2],
    /// Probability of being mirrored.
    pub flip: f64,
    /// RandAugment, if that is done.
    #[serde(default)]
    pub rand: Option<RandAugment>,
    /// How far brightness, contrast and saturation may be from 1.
    pub jitter: f64,
    /// Probability that a rectangle is filled with noise.
    pub erase: f64,
}

/// timm's defaults but for the jitter, which is none.
impl Default for Augment {
    fn default() -> Self {
        let (scale, ratio) = ([0.08, 1.0], [3.0 / 4.0, 4.0 / 3.0]);
        Self { scale, ratio, flip: 0.5, rand: None, jitter: 0.0, erase: 0.0 }
    }
}

impl Augment {
    /// The bytes (H,W,3) of a varied image in the model's size.
    ///
    /// # Errors
    /// As [`Preprocess::pixels`].
    pub fn apply(
        &self,
        image: &Decoded,
        preprocess: &Preprocess,
        size: Size,
        random: &mut Random,
    ) -> Result<Vec<u8>> {
        let mut pixels = match self.scale {
            // No crop: as for inference.
            [least, _] if least >= 1.0 => preprocess.pixels(image)?,
            _ => self.cropped(image, preprocess.filter, size, random),
        };
        if random.chance(self.flip) {
            mirror(&mut pixels, size.width);
        }
        if let Some(rand) = self.rand {
            pixels = rand.apply(pixels, size.width, mean(preprocess), random);
        }
        if self.jitter > 0.0 {
            jitter(&mut pixels, self.jitter, random);
        }
        if random.chance(self.erase) {
            erase(&mut pixels, size, random);
        }
        Ok(pixels)
    }

    /// A crop of random area and shape, resized; in the middle where ten tries found none that fits.
    fn cropped(&self, image: &Decoded, filter: Filter, size: Size, random: &mut Random) -> Vec<u8> {
        let [width, height] = [image.width as f64, image.height as f64];
        let [low, high] = self.ratio;
        let tried = (0..10).find_map(|_| {
            let area = width * height * random.uniform(self.scale[0], self.scale[1]);
            let ratio = random.uniform(low.ln(), high.ln()).exp();
            let [w, h] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| side.round().max(1.0));
            let place = |spare: f64, random: &mut Random| random.below(spare as usize + 1);
            (w <= width && h <= height).then(|| {
                let (x, y) = (place(width - w, random), place(height - h, random));
                Window { x, y, width: w as usize, height: h as usize }
            })
        });
        let window = tried.unwrap_or_else(|| {
            let shape = (width / height).clamp(low, high);
            let [w, h] =
                if width / height > shape { [height * shape, height] } else { [width, width / shape] };
            let [w, h] = [w.round().max(1.0), h.round().max(1.0)];
            let (x, y) = (((width - w) / 2.0) as usize, ((height - h) / 2.0) as usize);
            Window { x, y, width: (w as usize).min(image.width), height: (h as usize).min(image.height) }
        });
        let whole = (image.width, image.height);
        let resampler = Resampler::Pillow(Default::default());
        let part = resize_window(&image.rgb, whole, whole, window, filter, resampler);
        resize(&part, (window.width, window.height), (size.width, size.height), filter, resampler)
    }
}

/// The colour that is the mean of the model's images, with which timm fills what is moved in from outside.
fn mean(preprocess: &Preprocess) -> [u8; 3] {
    let mean = preprocess.mean_std.map_or([0.5; 3], |(mean, _)| mean);
    mean.map(|x| (255.0 * x).round_ties_even().clamp(0.0, 255.0) as u8)
}

/// Mirrors images (…,W,3).
pub(in crate::train) fn mirror(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_mut(3 * width) {
        for x in 0..width / 2 {
            (0..3).for_each(|c| row.swap(3 * x + c, 3 * (width - 1 - x) + c));
        }
    }
}

/// Luminance of ITU-R 601, as Pillow takes it.
fn gray(p: &[u8]) -> f32 {
    0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])
}

/// Brightness, contrast and saturation, each by its own factor of [1 - by, 1 + by].
fn jitter(pixels: &mut [u8], by: f64, random: &mut Random) {
    let mut factor = || random.uniform((1.0 - by).max(0.0), 1.0 + by) as f32;
    let (brightness, contrast, saturation) = (factor(), factor(), factor());
    pixels.iter_mut().for_each(|byte| *byte = (f32::from(*byte) * brightness).round().min(255.0) as u8);
    let count = (pixels.len() / 3).max(1) as f32;
    let mean = pixels.chunks_exact(3).map(gray).sum::<f32>() / count;
    let toward = |byte: u8, from: f32, factor: f32| {
        (from + (f32::from(byte) - from) * factor).round().clamp(0.0, 255.0) as u8
    };
    for p in pixels.chunks_exact_mut(3) {
        p.iter_mut().for_each(|byte| *byte = toward(*byte, mean, contrast));
        let own = gray(p);
        p.iter_mut().for_each(|byte| *byte = toward(*byte, own, saturation));
    }
}

/// Fills a rectangle of 2 to 33 % of the area with noise (Zhong et al. 2017).
fn erase(pixels: &mut [u8], size: Size, random: &mut Random) {
    for _ in 0..10 {
        let area = random.uniform(0.02, 1.0 / 3.0) * (size.width * size.height) as f64;
        let ratio = random.uniform(0.3f64.ln(), (1.0 / 0.3f64).ln()).exp();
        let (h, w) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if h >= size.height || w >= size.width {
            continue;
        }
        let (y, x) = (random.below(size.height - h + 1), random.below(size.width - w + 1));
        for row in pixels.chunks_mut(size.width * 3).skip(y).take(h) {
            row[3 * x..3 * (x + w)].iter_mut().for_each(|byte| *byte = random.bits() as u8);
        }
        return;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Decoded {
        let rgb = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
        Decoded { width, height, rgb, notes: vec![] }
    }

    #[test]
    fn images_of_any_shape_get_the_model_s_size_and_the_same_bytes_twice() {
        let size = Size::new(16, 24);
        let preprocess = Preprocess::default_for("vit", size).unwrap();
        let all = Augment { jitter: 0.4, erase: 1.0, ..Augment::default() };
        for (w, h) in [(1, 1), (1, 300), (300, 1), (16, 24), (37, 41)] {
            for seed in 0..20 {
                let image = picture(w, h);
                let varied = |seed| all.apply(&image, &preprocess, size, &mut Random::new(seed)).unwrap();
                assert_eq!(varied(seed).len(), 16 * 24 * 3, "{w}x{h}");
                assert_eq!(varied(seed), varied(seed));
            }
        }
    }

    #[test]
    fn nothing_asked_for_is_nothing_done() {
        let size = Size::square(16);
        let preprocess = Preprocess::default_for("vit", size).unwrap();
        let none = Augment { scale: [1.0; 2], flip: 0.0, ..Augment::default() };
        let image = picture(20, 30);
        assert_eq!(
            none.apply(&image, &preprocess, size, &mut Random::new(1)).unwrap(),
            preprocess.pixels(&image).unwrap()
        );
        let mirrored = Augment { flip: 1.0, ..none };
        let mut twice = mirrored.apply(&image, &preprocess, size, &mut Random::new(1)).unwrap();
        assert_ne!(twice, preprocess.pixels(&image).unwrap());
        mirror(&mut twice, 16);
        assert_eq!(twice, preprocess.pixels(&image).unwrap());
    }
}
