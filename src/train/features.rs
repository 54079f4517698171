//! Features of frozen layers, kept on the host: each image goes through those layers once.

use super::data::Feed;
use super::fit::Inputs;
use super::frozen::Cut;
use super::objective::{LABELS, Objective, PIXELS, WEIGHTS};
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::tensor::{HostTensor, TensorDesc};

/// Most bytes of features that are kept.
const MOST: usize = 2 << 30;

/// Features of all images, and where an epoch stands.
pub(super) struct Features {
    frozen: Graph,
    /// Name and shape (B,…) of each.
    descs: Vec<(&'static str, TensorDesc)>,
    /// Of the images to train on, and of those to validate on.
    sets: [Set; 2],
    order: Vec<usize>,
    batch: usize,
}

#[derive(Default)]
struct Set {
    /// By feature: all images, one behind the other.
    values: Vec<Vec<f32>>,
    labels: Vec<u32>,
}

impl Features {
    /// Room for features of so many images, and what is trained on them; `None` if they are too large.
    pub(super) fn of(cut: Cut, images: [usize; 2]) -> Option<(Self, Objective)> {
        let batch = cut.features.first()?.1.shape.dims()[0];
        let bytes: usize = cut.features.iter().map(|(_, desc)| desc.bytes() / batch).sum();
        if bytes.saturating_mul(images[0] + images[1]) > MOST || cut.features.len() > NAMES.len() {
            return None;
        }
        let descs = NAMES.into_iter().zip(cut.features.iter().map(|(_, desc)| *desc)).collect();
        let features = Self { frozen: cut.frozen, descs, sets: Default::default(), order: vec![], batch: 0 };
        Some((features, cut.rest))
    }

    /// Computes them; false where `done` asked for an end.
    ///
    /// # Errors
    /// If images cannot be read; device errors.
    pub(super) fn fill(
        &mut self,
        trainer: &mut Trainer,
        feeds: [&Feed; 2],
        done: &mut dyn FnMut(usize, usize) -> bool,
        notes: &mut Vec<String>,
    ) -> Result<bool> {
        let total = feeds[0].set.len() + feeds[1].set.len();
        let mut seen = 0;
        for (feed, set) in feeds.into_iter().zip(&mut self.sets) {
            *set = Set { values: vec![Vec::new(); self.descs.len()], labels: vec![] };
            let batches = feed.plain().from(0, 0);
            while let Some(batch) = batches.next() {
                let mut batch = batch?;
                notes.append(&mut batch.unreadable);
                set.labels.extend(&batch.labels[..batch.count]);
                let results = trainer.run(&self.frozen, &[(PIXELS, batch.pixels)])?;
                for (values, result) in set.values.iter_mut().zip(results) {
                    let each = result.shape().elements() / feed.batch;
                    values.extend(&result.as_f32().unwrap_or_default()[..each * batch.count]);
                }
                seen += batch.count;
                if !done(seen, total) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Begins an epoch, in this order, at a batch.
    pub(super) fn begin(&mut self, order: Vec<usize>, batch: usize) {
        (self.order, self.batch) = (order, batch);
    }

    /// The inputs of the next step.
    ///
    /// # Errors
    /// [`Error::Usage`] behind the last.
    pub(super) fn next(&mut self, size: usize) -> Result<Inputs> {
        let images = self.order.get(self.batch * size..(self.batch + 1) * size);
        let images = images.ok_or_else(|| Error::usage("the epoch is over", "begin the next"))?;
        self.batch += 1;
        let mut inputs = self.inputs(&self.sets[0], images, size);
        let labels = images.iter().map(|&i| self.sets[0].labels[i]).collect();
        inputs.push((LABELS, HostTensor::u32([size], labels)));
        inputs.push((WEIGHTS, HostTensor::f32([size], vec![1.0 / size as f32; size])));
        Ok(inputs)
    }

    /// Batches to validate on, the last filled up, with their labels.
    pub(super) fn held_out(&self, size: usize) -> impl Iterator<Item = (Inputs, Vec<u32>)> {
        let set = &self.sets[1];
        let numbers: Vec<usize> = (0..set.labels.len()).collect();
        let chunks: Vec<Vec<usize>> = numbers.chunks(size).map(<[usize]>::to_vec).collect();
        chunks.into_iter().map(move |images| {
            let labels = images.iter().map(|&i| set.labels[i]).collect();
            (self.inputs(set, &images, size), labels)
        })
    }

    /// The features of some images, filled up with zeros.
    fn inputs(&self, set: &Set, images: &[usize], size: usize) -> Inputs {
        let tensors = self.descs.iter().zip(&set.values).map(|((name, desc), values)| {
            let each = desc.shape.elements() / size;
            let mut batch: Vec<f32> = Vec::with_capacity(each * size);
            images.iter().for_each(|&i| batch.extend(&values[i * each..(i + 1) * each]));
            batch.resize(each * size, 0.0);
            (*name, HostTensor::f32(desc.shape, batch))
        });
        tensors.collect()
    }
}

/// Names of features: a classifier reads one, two of them where a model has two.
const NAMES: [&str; 4] = ["feature 0", "feature 1", "feature 2", "feature 3"];
