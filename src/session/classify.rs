//! Images in, classes out.

use super::vision::Session;
use crate::error::{Error, Result};
use crate::image::Decoded;
use crate::image::preprocess::Pixels;
pub use crate::labels::Ranked;

impl Session {
    /// The classes of each image, the most probable first. Images of any size: they are prepared as the
    /// model's preprocessing says, and run in batches of one size.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model has no classes, [`Error::Input`] for an image that cannot be prepared,
    /// [`Error::NonFinite`] for scores that are not numbers; device errors.
    pub fn classify(&self, images: &[Decoded]) -> Result<Vec<Vec<Ranked>>> {
        if self.info().classes.is_none() {
            let what = format!("{} has no classifier head, so there are no classes", self.name());
            return Err(Error::usage(what, "run it for its features, or open a checkpoint with a head"));
        }
        let preprocess = self.preprocess();
        let mut ranked = vec![Vec::new(); images.len()];
        let mut waiting: Vec<usize> = (0..images.len()).collect();
        while let Some(&first) = waiting.first() {
            let size_of = |i: usize| preprocess.output_size(images[i].size());
            let size = size_of(first);
            let (members, rest): (Vec<usize>, Vec<usize>) =
                waiting.iter().partition(|&&i| size_of(i) == size);
            waiting = rest;
            let prepared: Vec<Pixels> =
                members.iter().map(|&i| preprocess.prepare(&images[i])).collect::<Result<_>>()?;
            let logits = self.start(prepared, size, &["logits"])?.wait()?.remove(0).into_f32();
            for (scores, i) in logits.chunks(logits.len() / members.len()).zip(members) {
                let count = scores.iter().filter(|x| !x.is_finite()).count();
                if count > 0 {
                    let what = format!("the scores of image {i}");
                    return Err(Error::NonFinite { what, count, total: scores.len() });
                }
                ranked[i] = self.labels().ranked(scores, 0);
            }
        }
        Ok(ranked)
    }
}
