//! Batches of images, prepared on all cores a few ahead of the device. What a batch holds depends on seed, epoch
//! and number alone, so that a run that is resumed goes on with the same ones.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;

use super::augment::Augment;
use super::mix::{Mix, mix};
use super::{ImageSet, Images, prepared};
use crate::error::{Error, Result};
use crate::image::DecodeOptions;
use crate::image::preprocess::Preprocess;
use crate::random::Random;
use crate::tensor::{HostTensor, Size};

/// Batches that wait for the device.
const AHEAD: usize = 2;
/// Images that may be tried in place of one that cannot be read.
const TRIES: usize = 20;

/// Images of one step.
pub(in crate::train) struct Batch {
    /// (B,H,W,3) u8.
    pub(in crate::train) pixels: HostTensor,
    /// Class of each image, by the model's numbers.
    pub(in crate::train) labels: Vec<u32>,
    /// Class of what each was mixed with.
    pub(in crate::train) others: Vec<u32>,
    /// Share of the own class.
    pub(in crate::train) share: f32,
    /// How many images are not there only to fill the batch.
    pub(in crate::train) count: usize,
    /// What could not be read, and was left out.
    pub(in crate::train) unreadable: Vec<String>,
}

/// A set of images, and how batches are made of it.
#[derive(Clone)]
pub(in crate::train) struct Feed {
    pub(in crate::train) set: ImageSet,
    /// The model's number of each class of the set.
    pub(in crate::train) places: Vec<u32>,
    pub(in crate::train) preprocess: Preprocess,
    pub(in crate::train) size: Size,
    pub(in crate::train) decode: DecodeOptions,
    pub(in crate::train) batch: usize,
    pub(in crate::train) seed: u64,
    /// `None` for batches in order, each image once.
    pub(in crate::train) training: Option<Varied>,
}

/// How images of a training set are varied.
#[derive(Clone, Copy, Default)]
pub(in crate::train) struct Varied {
    pub(in crate::train) augment: Option<Augment>,
    pub(in crate::train) mix: Mix,
}

/// Batches as they become ready.
pub(in crate::train) struct Batches {
    ready: Receiver<Result<Batch>>,
}

impl Batches {
    /// The next batch; `None` behind the last.
    ///
    /// # Errors
    /// [`Error::Input`] if too many images cannot be read.
    pub(in crate::train) fn next(&self) -> Option<Result<Batch>> {
        self.ready.recv().ok()
    }
}

impl Feed {
    /// Whether every epoch has the same images, unvaried.
    pub(in crate::train) fn is_fixed(&self) -> bool {
        let varied = self.training.is_some_and(|v| v.augment.is_some() || v.mix != Mix::default());
        !varied && !matches!(self.set.images, Images::Shapes { fresh: true, .. })
    }

    /// The order of the images in an epoch.
    pub(in crate::train) fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.set.len()).collect();
        if self.training.is_some() {
            Random::of(&[self.seed, epoch as u64]).shuffle(&mut order);
        }
        order
    }

    /// The same images in their own order, each once, as they are prepared for inference.
    pub(in crate::train) fn plain(&self) -> Self {
        Self { training: None, ..self.clone() }
    }

    /// Batches of an epoch: whole ones in training; in validation the last may be filled up.
    pub(in crate::train) fn batches(&self) -> usize {
        let n = self.set.len();
        if self.training.is_some() { n / self.batch } else { n.div_ceil(self.batch) }
    }

    /// The batches of an epoch from a number on. They are made by another thread, which ends when nobody waits.
    pub(in crate::train) fn from(&self, epoch: usize, first: usize) -> Batches {
        let (sender, ready) = sync_channel(AHEAD);
        let feed = Arc::new(self.clone());
        std::thread::spawn(move || {
            let order = feed.order(epoch);
            for number in first..feed.batches() {
                let made = feed.batch(epoch, number, &order);
                let failed = made.is_err();
                if sender.send(made).is_err() || failed {
                    break;
                }
            }
        });
        Batches { ready }
    }

    fn batch(&self, epoch: usize, number: usize, order: &[usize]) -> Result<Batch> {
        let first = number * self.batch;
        let count = self.batch.min(order.len() - first);
        let images: Vec<(Vec<u8>, u32, Vec<String>)> = (first..first + count)
            .into_par_iter()
            .map(|at| self.image(epoch, at, order))
            .collect::<Result<_>>()?;
        let bytes = self.size.width * self.size.height * 3;
        let mut pixels = Vec::with_capacity(self.batch * bytes);
        let (mut labels, mut unreadable) = (Vec::new(), Vec::new());
        for (image, label, failed) in images {
            pixels.extend(image);
            labels.push(label);
            unreadable.extend(failed);
        }
        pixels.resize(self.batch * bytes, 0);
        labels.resize(self.batch, 0);
        let wanted = self.training.map_or(Mix::default(), |varied| varied.mix);
        let mut random = Random::of(&[self.seed, epoch as u64, number as u64, 1]);
        let share = mix(wanted, &mut pixels, self.size, &mut random);
        let others = labels.iter().rev().copied().collect();
        let dims = [self.batch, self.size.height, self.size.width, 3];
        Ok(Batch { pixels: HostTensor::u8(dims, pixels), labels, others, share, count, unreadable })
    }

    /// The image in a place of an epoch's order, and its class; where it cannot be read, the next that can.
    fn image(&self, epoch: usize, at: usize, order: &[usize]) -> Result<(Vec<u8>, u32, Vec<String>)> {
        let mut failed = Vec::new();
        for i in 0..TRIES.min(order.len()) {
            let chosen = order[(at + i) % order.len()];
            let made = self.set.get(epoch, chosen, &self.decode).and_then(|(image, class)| {
                let mut random = Random::of(&[self.seed, epoch as u64, chosen as u64, 0]);
                let augment = self.training.and_then(|varied| varied.augment);
                let augment = augment.as_ref().map(|augment| (augment, &mut random));
                Ok((prepared(&image, &self.preprocess, self.size, augment)?, class))
            });
            match made {
                Ok((pixels, class)) if pixels.len() == self.size.width * self.size.height * 3 => {
                    return Ok((pixels, self.places[class as usize], failed));
                }
                Ok(_) => {
                    let what = format!("images are not all prepared to {}", self.size);
                    return Err(Error::usage(what, "take a model that crops images to one size"));
                }
                Err(e) => failed.push(e.message()),
            }
        }
        let what = format!("{TRIES} images one after the other cannot be read, the first as {}", failed[0]);
        Err(Error::input("the training data", what, "check the files"))
    }
}
