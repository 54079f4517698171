//! Autoencoders of masked patches (He et al. 2021): what is hidden, and what is to be painted there.

use super::ModelInfo;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::tensor::HostTensor;

/// Which patches are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Images B.
    pub batch: usize,
    /// Patches N of an image.
    pub patches: usize,
    /// Patches K that are kept, each image's in the order in which they are read: (B,K).
    pub kept: Vec<u32>,
    /// Where the original's shuffled list has each patch: (B,N); below K it is kept.
    pub restore: Vec<u32>,
}

impl Mask {
    /// The mask that the original draws by noise (B,N): the patches of least noise are kept.
    ///
    /// # Errors
    /// [`Error::Usage`] unless the noise is a number for each patch of images of the model's size.
    pub fn from_noise(noise: &HostTensor, info: &ModelInfo, ratio: f32) -> Result<Self> {
        let ([rows, columns], shape) = (info.grid(), noise.shape());
        let patches = rows * columns;
        let &[batch, n] = shape.dims() else { return Err(misfit(noise, patches)) };
        if batch == 0 || n != patches || patches == 0 {
            return Err(misfit(noise, patches));
        }
        let noise = noise.to_f32();
        let keep = ((patches as f64 * (1.0 - f64::from(ratio))) as usize).clamp(1, patches);
        let (mut kept, mut restore) = (Vec::with_capacity(batch * keep), vec![0; noise.len()]);
        for (b, noise) in noise.chunks(patches).enumerate() {
            let mut order: Vec<usize> = (0..patches).collect();
            order.sort_by(|&i, &j| noise[i].total_cmp(&noise[j]));
            kept.extend(order[..keep].iter().map(|&i| i as u32));
            order.iter().enumerate().for_each(|(place, &i)| restore[b * patches + i] = place as u32);
        }
        Ok(Self { batch, patches, kept, restore })
    }

    /// A mask drawn at random for an image of the model's size by each list of numbers, the same for the same ones.
    ///
    /// # Errors
    /// [`Error::Usage`] for no images.
    pub fn drawn(keys: &[Vec<u64>], info: &ModelInfo, ratio: f32) -> Result<Self> {
        let [rows, columns] = info.grid();
        let image = |keys: &Vec<u64>| {
            let mut random = Random::of(keys);
            (0..rows * columns).map(move |_| random.unit() as f32)
        };
        let noise = keys.iter().flat_map(image).collect();
        Self::from_noise(&HostTensor::f32([keys.len(), rows * columns], noise), info, ratio)
    }

    /// Patches K that are kept of each image.
    pub fn keep(&self) -> usize {
        self.kept.len() / self.batch
    }

    /// True for the patches that are hidden: (B,N).
    pub fn hidden(&self) -> Vec<bool> {
        let keep = self.keep() as u32;
        self.restore.iter().map(|&place| place >= keep).collect()
    }

    /// What the graph reads: `kept` (B,K), and `restore` (B,N), in which K stands for everything hidden.
    pub fn tensors(&self) -> [HostTensor; 2] {
        let keep = self.keep();
        let restore = self.restore.iter().map(|&place| place.min(keep as u32)).collect();
        [
            HostTensor::u32([self.batch, keep], self.kept.clone()),
            HostTensor::u32([self.batch, self.patches], restore),
        ]
    }
}

fn misfit(noise: &HostTensor, patches: usize) -> Error {
    let what = format!("noise of shape {} is no number for each of {patches} patches", noise.shape());
    Error::usage(what, format!("it has shape [B,{patches}]"))
}

/// The pixels of each patch as they are to be painted: (B·N, P·P·Ch), channels innermost. image: (B,Ch,H,W).
///
/// # Errors
/// [`Error::Usage`] for an image that is no whole number of patches.
pub fn pixels_of_patches(image: &HostTensor, info: &ModelInfo, normalised: bool) -> Result<HostTensor> {
    let shape = image.shape();
    let [ph, pw] = info.patch;
    let &[batch, channels, height, width] = shape.dims() else {
        return Err(Error::usage(format!("an image has shape {shape}"), "pass (B,Ch,H,W)"));
    };
    if !height.is_multiple_of(ph) || !width.is_multiple_of(pw) {
        let what = format!("an image of {height}x{width} pixels is no whole number of patches of {ph}x{pw}");
        return Err(Error::usage(what, "take the size of the model"));
    }
    let (rows, columns, elements) = (height / ph, width / pw, ph * pw * channels);
    let x = image.to_f32();
    let mut all = Vec::with_capacity(x.len());
    for patch in 0..batch * rows * columns {
        let (b, row, column) = (patch / (rows * columns), patch / columns % rows, patch % columns);
        let pixel = |i: usize| {
            let (y, at, c) = (i / (pw * channels), i / channels % pw, i % channels);
            x[((b * channels + c) * height + row * ph + y) * width + column * pw + at]
        };
        let mut patch: Vec<f32> = (0..elements).map(pixel).collect();
        if normalised {
            let mean = patch.iter().sum::<f32>() / elements as f32;
            // As the original estimates it, by one less than there are.
            let square: f32 = patch.iter().map(|x| (x - mean) * (x - mean)).sum();
            let deviation = (square / (elements.max(2) - 1) as f32 + 1e-6).sqrt();
            patch.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
        }
        all.extend(patch);
    }
    Ok(HostTensor::f32([batch * rows * columns, elements], all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Shape, Size};

    #[test]
    fn the_patches_of_least_noise_are_kept() {
        let info = ModelInfo { image_size: Size::square(4), patch: [2, 2], ..ModelInfo::default() };
        let noise = HostTensor::f32([2, 4], vec![0.4, 0.1, 0.9, 0.2, 0.1, 0.2, 0.3, 0.4]);
        let mask = Mask::from_noise(&noise, &info, 0.5).expect("it fits");
        assert_eq!((mask.kept.as_slice(), mask.keep()), (&[1, 3, 0, 1][..], 2));
        assert_eq!(mask.restore, [2, 0, 3, 1, 0, 1, 2, 3]);
        assert_eq!(mask.hidden(), [true, false, true, false, false, false, true, true]);
        let [_, restore] = mask.tensors();
        assert_eq!(restore.as_u32().unwrap_or_default(), [2, 0, 2, 1, 0, 1, 2, 2]);
        for shape in [&[0, 4][..], &[2, 3], &[8]] {
            let shape = Shape::new(shape);
            let noise = HostTensor::f32(shape, vec![0.0; shape.elements()]);
            assert!(Mask::from_noise(&noise, &info, 0.5).is_err(), "{shape}");
        }
    }

    #[test]
    fn masks_are_functions_of_their_numbers() {
        let info = ModelInfo { image_size: Size::square(16), patch: [2, 2], ..ModelInfo::default() };
        let drawn = |keys: &[Vec<u64>]| Mask::drawn(keys, &info, 0.75).expect("images");
        let both = drawn(&[vec![1, 2], vec![1, 3]]);
        assert_eq!((both.keep(), both.patches), (16, 64));
        assert_eq!(both.kept[..16], drawn(&[vec![1, 2]]).kept);
        assert_eq!(both.kept[16..], drawn(&[vec![1, 3]]).kept);
        assert_ne!(both.kept[..16], both.kept[16..]);
        assert_eq!(both.hidden().iter().filter(|hidden| **hidden).count(), 96);
        // Each patch is hidden about as often as it should be.
        let keys: Vec<Vec<u64>> = (0..2000).map(|i| vec![i]).collect();
        let hidden = drawn(&keys).hidden();
        let share = |patch| hidden.iter().skip(patch).step_by(64).filter(|h| **h).count() as f64 / 2000.0;
        assert!((0..64).all(|patch| (share(patch) - 0.75).abs() < 0.05));
        assert!(Mask::drawn(&[], &info, 0.5).is_err());
    }

    #[test]
    fn pixels_have_their_channels_innermost() {
        let info = ModelInfo { patch: [1, 2], ..ModelInfo::default() };
        let image = HostTensor::f32([1, 2, 2, 2], (0..8).map(|i| i as f32).collect());
        let patches = pixels_of_patches(&image, &info, false).expect("whole patches");
        assert_eq!(patches.to_f32(), [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        assert!(pixels_of_patches(&HostTensor::f32([1, 2, 2, 3], vec![0.0; 12]), &info, false).is_err());
    }
}
