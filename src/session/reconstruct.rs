//! What a masked autoencoder paints of an image that it sees in part.

use super::vision::Session;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::models::masked::{Mask, pixels_of_patches};
use crate::tensor::{DType, HostTensor, Size, TensorDesc};

/// What was hidden of an image, and what was painted there.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconstruction {
    /// True for each patch that was hidden, in raster order: (N).
    pub hidden: Vec<bool>,
    /// The image (H,W,3) with hidden patches painted, and the others as they are.
    pub painted: Vec<u8>,
    /// Mean squared error of hidden patches, in the units that the model is trained in: pixels normalised as its input, or
    /// each patch less its mean and over its deviation.
    pub error: f32,
}

impl Session {
    /// Hides patches of images (H,W,3) of the model's own size, and has the model paint them. The same seed and ratio hide
    /// the same patches of every image. Where a model paints patches less their mean and over their deviation, those are
    /// the hidden patch's own, as in the authors' pictures.
    ///
    /// `ratio`: share of patches that is hidden; `None` for that of training.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model that paints no patches, images of another size, no images, and a ratio that leaves no
    /// patch or hides none; device errors.
    pub fn reconstruct(
        &self,
        images: &[Vec<u8>],
        ratio: Option<f32>,
        seed: u64,
    ) -> Result<Vec<Reconstruction>> {
        let info = self.info();
        let Some(model) = self.model().masked() else {
            let what = format!("{} paints no masked patches", self.name());
            return Err(Error::usage(what, "take a ViT-MAE with its decoder, a checkpoint of pretraining"));
        };
        let (batch, Size { height, width }) = (images.len(), info.image_size);
        if images.iter().any(|image| image.len() != height * width * 3) {
            return Err(Error::usage(
                format!("images are not all of {height}x{width} pixels"),
                "a masked autoencoder takes its own size",
            ));
        }
        let ratio = ratio.unwrap_or(model.mask_ratio());
        let mask = Mask::drawn(&vec![vec![seed]; batch], info, ratio)?;
        if !(0.0..1.0).contains(&ratio) || mask.keep() == mask.patches {
            let what = format!("a mask ratio of {ratio} hides {} patches", mask.patches - mask.keep());
            return Err(Error::usage(what, "hide at least one patch, and keep one: 0.75 is usual"));
        }
        let desc = TensorDesc::new(DType::U8, [batch, height, width, 3]);
        let ([kept, restore], (scale, offset)) = (mask.tensors(), self.preprocess().normalise());
        let graph = || {
            let mut g = Graph::new();
            let pixels = g.input("pixels", desc);
            let [kept, restore] =
                [("kept", kept.desc()), ("restore", restore.desc())].map(|(name, desc)| g.input(name, desc));
            g.scope("pixels");
            let image = g.normalise(pixels, scale, offset);
            let painted = model.build_masked(&mut g, image, kept, restore)?;
            g.output("image", image);
            g.output("painted", painted);
            g.select(&["image", "painted"])
        };
        let key = ("reconstruct", desc.shape, mask.keep());
        let inputs = [
            ("pixels", HostTensor::u8(desc.shape, images.concat())),
            ("kept", kept.clone()),
            ("restore", restore.clone()),
        ];
        let mut results = self.runtime().run(&key, graph, &inputs)?;
        let (painted, image) = (results.remove(1), results.remove(0));
        let plain = pixels_of_patches(&image, info, false)?.into_f32();
        let normalised = model.normalised_pixels();
        let target =
            if normalised { pixels_of_patches(&image, info, true)?.into_f32() } else { plain.clone() };
        let painted = painted.into_f32();
        let bad = painted.iter().filter(|x| !x.is_finite()).count();
        if bad > 0 {
            let what = format!("what {} paints", self.name());
            return Err(Error::NonFinite { what, count: bad, total: painted.len() });
        }
        let each = painted.len() / batch;
        let one = |i: usize| {
            let part = i * each..(i + 1) * each;
            let hidden = mask.hidden()[i * mask.patches..(i + 1) * mask.patches].to_vec();
            let [painted, target, plain] = [&painted, &target, &plain].map(|all| &all[part.clone()]);
            let layout = Layout { width, patch: info.patch, scale, offset };
            let error = error(painted, target, &hidden);
            let statistics = normalised.then_some(plain);
            let painted = layout.paint(&images[i], painted, statistics, &hidden);
            Reconstruction { hidden, painted, error }
        };
        Ok((0..batch).map(one).collect())
    }
}

/// Mean squared error of the hidden ones of N patches of as many elements each.
fn error(painted: &[f32], target: &[f32], hidden: &[bool]) -> f32 {
    let elements = painted.len() / hidden.len();
    let rows =
        painted.chunks(elements).zip(target.chunks(elements)).zip(hidden).filter(|(_, hidden)| **hidden);
    let errors = rows.flat_map(|((p, t), _)| p.iter().zip(t).map(|(p, t)| f64::from((p - t) * (p - t))));
    let count = hidden.iter().filter(|hidden| **hidden).count() * elements;
    (errors.sum::<f64>() / count as f64) as f32
}

/// Where patches lie in an image of bytes, and how bytes become the model's input.
struct Layout {
    width: usize,
    patch: [usize; 2],
    scale: [f32; 3],
    offset: [f32; 3],
}

impl Layout {
    /// An image with its hidden patches painted. painted: (N,P·P·3), channels innermost; `statistics`: the patches
    /// themselves, where what is painted is less their mean and over their deviation.
    fn paint(&self, image: &[u8], painted: &[f32], statistics: Option<&[f32]>, hidden: &[bool]) -> Vec<u8> {
        let ([rows, columns], mut out) = (self.patch, image.to_vec());
        let (elements, across) = (rows * columns * 3, self.width / columns);
        for patch in (0..hidden.len()).filter(|&patch| hidden[patch]) {
            let range = patch * elements..(patch + 1) * elements;
            let (mean, deviation) = statistics.map_or((0.0, 1.0), |all| moments(&all[range.clone()]));
            let (top, left) = (patch / across * rows, patch % across * columns);
            for (i, value) in painted[range].iter().enumerate() {
                let (y, x, c) = (top + i / (3 * columns), left + i / 3 % columns, i % 3);
                let byte = (value * deviation + mean - self.offset[c]) / self.scale[c];
                out[(y * self.width + x) * 3 + c] = byte.round_ties_even().clamp(0.0, 255.0) as u8;
            }
        }
        out
    }
}

/// Mean and deviation of a patch as [`pixels_of_patches`] has them.
fn moments(patch: &[f32]) -> (f32, f32) {
    let mean = patch.iter().sum::<f32>() / patch.len() as f32;
    let square: f32 = patch.iter().map(|x| (x - mean) * (x - mean)).sum();
    (mean, (square / (patch.len().max(2) - 1) as f32 + 1e-6).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_patches_are_painted_in_their_places() {
        // Two patches of 1x2 pixels a row, two rows; bytes are 100 times a value plus 50.
        let layout = Layout { width: 4, patch: [1, 2], scale: [0.01; 3], offset: [-0.5; 3] };
        let image: Vec<u8> = (0..24).collect();
        let painted: Vec<f32> = (0..24).map(|i| i as f32 * 0.1).collect();
        let hidden = [false, true, true, false];
        let out = layout.paint(&image, &painted, None, &hidden);
        let want = |i: usize| if (6..18).contains(&i) { (i * 10 + 50) as u8 } else { i as u8 };
        assert_eq!(out, (0..24).map(want).collect::<Vec<u8>>());
        // Painted about the patch's own mean: a patch of one colour has no deviation to speak of.
        let flat = vec![0.7; 24];
        let out = layout.paint(&image, &painted, Some(&flat), &hidden);
        assert_eq!(out[6..18], [120; 12]);
        assert!(
            (error(&painted, &[0.0; 24], &hidden)
                - (6..18).map(|i| 0.01 * (i * i) as f32).sum::<f32>() / 12.0)
                .abs()
                < 1e-5
        );
    }
}
