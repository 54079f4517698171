//! Recorded outputs of an autoencoder of masked patches: what it paints, by the mask that recorded noise draws.

use super::compare::{Tolerance, Verdict, compare};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::graph::Graph;
use crate::models::MaskedAutoencoder;
use crate::models::masked::{Mask, pixels_of_patches};
use crate::session::Session;
use crate::tensor::HostTensor;

/// Name of the noise (B,N) that decides which patches are hidden.
pub(super) const NOISE: &str = "in.noise";
/// Places agree or do not.
const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

/// One verdict for each recorded output.
///
/// # Errors
/// A file that cannot be read or does not fit the model; device errors.
pub(super) fn verdicts(
    session: &Session,
    model: &dyn MaskedAutoencoder,
    file: &Checkpoint,
    tolerance: Tolerance,
) -> Result<Vec<Verdict>> {
    let (image, noise) = (file.read("in.pixel_values")?, file.read(NOISE)?);
    let mask = Mask::from_noise(&noise, session.info(), model.mask_ratio())?;
    let [kept, restore] = mask.tensors();
    let graph = || {
        let mut g = Graph::new();
        let inputs = [("image", &image), ("kept", &kept), ("restore", &restore)];
        let [image, kept, restore] = inputs.map(|(name, tensor)| g.input(name, tensor.desc()));
        let painted = model.build_masked(&mut g, image, kept, restore)?;
        g.output("logits", painted);
        g.select(&["logits"])
    };
    let inputs = [("image", image.clone()), ("kept", kept.clone()), ("restore", restore.clone())];
    let painted = session.runtime().run(&("masked", image.shape()), graph, &inputs)?.remove(0);
    let target = pixels_of_patches(&image, session.info(), model.normalised_pixels())?;
    let numbers = |values: Vec<f32>| HostTensor::f32(noise.shape(), values);
    let hidden = mask.hidden();
    let outputs = file.index().keys().filter_map(|name| Some((name, name.strip_prefix("out.")?)));
    let verdict = |(name, output): (&String, &str)| {
        Ok(match output {
            "logits" => compare(name, &painted, &file.read(name)?, tolerance),
            "mask" => {
                let got = hidden.iter().map(|&hidden| f32::from(u8::from(hidden))).collect();
                compare(name, &numbers(got), &file.read(name)?, EXACT)
            }
            "ids_restore" => {
                let want = file.ids(name)?.to_f32();
                let got = mask.restore.iter().map(|&place| place as f32).collect();
                compare(name, &numbers(got), &numbers(want), EXACT)
            }
            "loss" => {
                let loss = mean_square(&painted.to_f32(), &target, &hidden);
                compare(name, &HostTensor::f32([1], vec![loss]), &file.read(name)?.reshaped([1]), tolerance)
            }
            other => {
                let reason = Some(format!("this model does not produce `{other}` of masked patches"));
                Verdict { name: name.clone(), reason, missing: true, ..Verdict::default() }
            }
        })
    };
    outputs.map(verdict).collect()
}

/// The mean of the squared errors of hidden patches.
fn mean_square(painted: &[f32], target: &HostTensor, hidden: &[bool]) -> f32 {
    let (width, target) = (target.shape().width(), target.to_f32());
    let rows = painted.chunks(width).zip(target.chunks(width)).zip(hidden).filter(|(_, hidden)| **hidden);
    let errors = rows.flat_map(|((p, t), _)| p.iter().zip(t).map(|(p, t)| f64::from((p - t) * (p - t))));
    let count = hidden.iter().filter(|hidden| **hidden).count() * width;
    (errors.sum::<f64>() / count as f64) as f32
}
