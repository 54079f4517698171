//! A recorded training run: losses, gradients and the weights after some steps, against those of the same
//! steps made here.
//!
//! The file holds the batch (`in.*`), `losses` (before each step, and after the last), `grad.NAME` of the first
//! loss for each tensor that is trained, and `after.NAME`; beside it lies a JSON file of the same name with
//! the optimizer's settings and the names of the tensors that decay.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::compare::{Tolerance, Verdict, compare, compare_norm};
use super::texts::last;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::models::masked::{Mask, pixels_of_patches};
use crate::models::sequence::{CLASSES, ImageDecoder};
use crate::models::text::{Kind, TextModel, TextSizes};
use crate::models::{self, AnyModel, Model};
use crate::session::{DeviceInfo, ModelFiles, Options};
use crate::tensor::{HostTensor, Shape};
use crate::train::objective::{
    ANSWERS, IGNORED, LABELS, MASK, Objective, SHOWN, TARGET, TextObjective, WEIGHTS,
};
use crate::train::sequences::READ;
use crate::train::{AdamW, Optimizer, Recipe, Trainer, objective};

/// Losses agree to this. They are differences of scores, so that small ones have no more digits than those.
const LOSSES: Tolerance = Tolerance { atol: 1e-6, rtol: 1e-5 };
/// Weights after the steps agree to this.
const WEIGHTS_AFTER: Tolerance = Tolerance { atol: 1e-4, rtol: 0.0 };
/// Gradients agree to this share of their norm, and of the norm of all together: what is zero but for rounding
/// has no norm of its own to speak of.
const GRADIENT: [f32; 2] = [1e-4, 1e-6];

/// Two runs in f32 are this many times as far apart as one may be from exact arithmetic, where the settings state how far
/// that is (`noise`).
const NOISE: f32 = 2.0;

type Inputs = Vec<(&'static str, HostTensor)>;

/// What is trained for, and the recorded batch.
type Task = (Objective, Inputs);

/// One verdict for the losses and for each recorded gradient and weight, and the device that was asked.
///
/// # Errors
/// Files that cannot be read, or do not fit the model; device errors.
pub fn verdicts(
    files: ModelFiles,
    options: &Options,
    file: &Checkpoint,
    settings: &Json,
) -> Result<(Vec<Verdict>, DeviceInfo)> {
    let model = models::from_config(&files.config, files.checkpoint.index(), None)
        .map_err(|e| e.within(&files.name))?;
    let record = Record { file, settings };
    let parts = |name: &str| ["in.", "losses", "grad_norm"].iter().any(|start| name.starts_with(start));
    if let Some((name, _)) = file.index().iter().find(|(name, shape)| parts(name) && shape.elements() == 0) {
        return Err(Error::model(file.name(), format!("`{name}` has no elements"), "record a batch"));
    }
    let (objective, inputs) = match &model {
        AnyModel::Vision(model) => record.images(&**model)?,
        AnyModel::Text(model) => record.texts(&**model)?,
        AnyModel::Generator(model) => record.sequences(&**model)?,
    };
    let trained: BTreeSet<&str> = file.index().keys().filter_map(|name| name.strip_prefix("grad.")).collect();
    let decayed: BTreeSet<&str> =
        settings["decayed"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let recipe = Recipe {
        optimizer: Optimizer::AdamW(AdamW {
            beta1: record.number("/betas/0")?,
            beta2: record.number("/betas/1")?,
            eps: record.number("/eps")?,
            decay: record.number("/weight_decay")?,
        }),
        clip: record.number("/clip_grad_norm")?,
        decays: &|p| decayed.contains(p.name.as_str()),
    };
    let mut trainer = Trainer::open(files, options, objective, &|name| trained.contains(name), &recipe)?;
    let mut all = record.run(&mut trainer, &inputs)?;
    let known: BTreeSet<&str> = trainer.parameters().iter().map(|p| p.name.as_str()).collect();
    all.extend(trained.difference(&known).map(|name| {
        let reason = Some("the loss does not read it".to_owned());
        Verdict { name: format!("grad.{name}"), reason, missing: true, ..Verdict::default() }
    }));
    Ok((all, trainer.device().clone()))
}

/// The tolerances of a recorded run, in words.
pub fn tolerances(settings: &Json) -> String {
    let losses = LOSSES.rtol.max(noise(settings, "losses"));
    let gradients = GRADIENT[0].max(noise(settings, "gradients"));
    format!("losses {losses:e}, gradients {gradients:e} of their length, weights {:e}", WEIGHTS_AFTER.atol)
}

/// What a model that magnifies rounding adds to the tolerance: the settings' `noise`, the distance of losses or of
/// gradients of runs in f32 from those in f64, relative to their size.
fn noise(settings: &Json, of: &str) -> f32 {
    settings["noise"][of].as_f64().map_or(0.0, |n| NOISE * n as f32)
}

struct Record<'a> {
    file: &'a Checkpoint,
    settings: &'a Json,
}

impl Record<'_> {
    fn number(&self, at: &str) -> Result<f32> {
        self.settings.pointer(at).and_then(Json::as_f64).map(|n| n as f32).ok_or_else(|| {
            let what = format!("the settings of the recorded run have no number at {at}");
            Error::model(self.file.name(), what, "they are a JSON file beside the recorded tensors")
        })
    }

    /// The steps that were recorded.
    fn run(&self, trainer: &mut Trainer, inputs: &Inputs) -> Result<Vec<Verdict>> {
        let want = self.file.read("losses")?;
        let steps = want.shape().elements().saturating_sub(1);
        let rate = self.number("/lr")?;
        let (_, gradients) = trainer.gradients(inputs)?;
        let mut losses = Vec::with_capacity(steps + 1);
        for _ in 0..steps {
            losses.push(trainer.step(inputs, rate)?.loss);
        }
        losses.push(trainer.gradients(inputs)?.0);
        let near = Tolerance { rtol: LOSSES.rtol.max(noise(self.settings, "losses")), ..LOSSES };
        let apart = [GRADIENT[0].max(noise(self.settings, "gradients")), GRADIENT[1]];
        let mut all = vec![compare("losses", &HostTensor::f32([steps + 1], losses), &want, near)];
        let total = self.file.read("grad_norm")?.to_f32()[0];
        for (name, got) in &gradients {
            let name = format!("grad.{name}");
            all.push(compare_norm(&name, got, &self.file.read(&name)?, total, apart));
        }
        for (name, _) in &gradients {
            let after = format!("after.{name}");
            all.push(compare(&after, &trainer.parameter(name)?, &self.file.read(&after)?, WEIGHTS_AFTER));
        }
        Ok(all)
    }

    /// Labels, flat.
    fn labels(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.file.labels(name)?.as_u32().unwrap_or_default().to_vec())
    }

    /// Labels and the weights of their mean.
    fn mean_of(&self, labels: Vec<u32>) -> Inputs {
        let counted = labels.iter().filter(|&&l| l != IGNORED).count().max(1);
        let weight = |&l: &u32| if l == IGNORED { 0.0 } else { 1.0 / counted as f32 };
        let weights = labels.iter().map(weight).collect();
        let n = labels.len();
        vec![(LABELS, HostTensor::u32([n], labels)), (WEIGHTS, HostTensor::f32([n], weights))]
    }

    fn images(&self, model: &dyn Model) -> Result<Task> {
        let image = self.file.read("in.pixel_values")?;
        let (info, shape) = (model.info(), image.shape());
        let want = [info.channels, info.image_size.height, info.image_size.width];
        if shape.dims().len() != 4 || shape.dims()[1..] != want {
            let what = format!("in.pixel_values has shape {shape}, the model takes (B,Ch,H,W) of {want:?}");
            return Err(Error::model(self.file.name(), what, "it was recorded for another model"));
        }
        if self.file.contains("in.noise") {
            return self.masked(model, image);
        }
        let said = self.settings["objective"].as_str().unwrap_or_default();
        let smoothing = said.split("label smoothing ").nth(1).and_then(|n| n.trim().parse().ok());
        let batch = image.shape().dims()[0];
        let objective = objective::classes_of_images(model, batch, smoothing.unwrap_or(0.0))?;
        let mut inputs = self.mean_of(self.labels("in.labels")?);
        inputs.push(("image", image));
        Ok((objective, inputs))
    }

    fn masked(&self, model: &dyn Model, image: HostTensor) -> Result<Task> {
        let (noise, batch) = (self.file.read("in.noise")?, image.shape().dims()[0]);
        let ratio = model.masked().map_or(0.0, |masked| masked.mask_ratio());
        let mask = Mask::from_noise(&noise, model.info(), ratio)?;
        let objective = objective::masked_patches(model, batch, mask.keep())?;
        let normalised = model.masked().is_some_and(|masked| masked.normalised_pixels());
        let target = pixels_of_patches(&image, model.info(), normalised)?;
        let hidden = mask.hidden();
        let count = hidden.iter().filter(|hidden| **hidden).count();
        let weights = hidden.iter().map(|&hidden| if hidden { 1.0 / count as f32 } else { 0.0 }).collect();
        let [kept, restore] = mask.tensors();
        let inputs = vec![
            ("image", image),
            (MASK[0], kept),
            (MASK[1], restore),
            (TARGET, target),
            (WEIGHTS, HostTensor::f32([hidden.len()], weights)),
        ];
        Ok((objective, inputs))
    }

    fn sequences(&self, model: &dyn ImageDecoder) -> Result<Task> {
        let info = model.info();
        let [read, labels] =
            if info.classes.is_some() { ["in.ids", "in.targets"] } else { ["in.input_ids", "in.labels"] };
        let read = self.file.ids(read)?;
        let objective = objective::next_patch(model, read.shape().dims()[0])?;
        let mut inputs = self.mean_of(self.labels(labels)?);
        inputs.push((READ, read));
        if info.classes.is_some() {
            inputs.push((CLASSES, self.file.ids("in.labels")?));
        }
        Ok((objective, inputs))
    }

    fn texts(&self, model: &dyn TextModel) -> Result<Task> {
        let info = model.info();
        let ids = self.file.ids("in.input_ids")?;
        let (&[batch, tokens], 2..) = (ids.shape().dims(), ids.shape().width()) else {
            return Err(Error::model(
                self.file.name(),
                "in.input_ids are no texts of two tokens or more",
                "record (B,T)",
            ));
        };
        let lengths: Vec<u32> = match self.file.contains("in.attention_mask") {
            true => self.labels("in.attention_mask")?.chunks(tokens).map(|row| row.iter().sum()).collect(),
            false => vec![tokens as u32; batch],
        };
        let wants = objective::usual(model);
        let written = match info.kind {
            Kind::EncoderDecoder => self.file.labels("in.labels")?.shape().width(),
            _ => 0,
        };
        let places: Vec<Vec<u32>> = match (wants, info.kind) {
            (TextObjective::Tokens, Kind::Decoder) => vec![(0..tokens as u32 - 1).collect(); batch],
            (TextObjective::Tokens, Kind::Encoder) => vec![(0..tokens as u32).collect(); batch],
            (TextObjective::Tokens, Kind::EncoderDecoder) => vec![(0..written as u32).collect(); batch],
            _ => {
                let rows = ids.as_u32().unwrap_or_default().chunks(tokens);
                rows.map(|row| vec![last(row, info.pad) as u32]).collect()
            }
        };
        let sizes = TextSizes { batch, tokens, written, places: places[0].len() };
        let objective = objective::texts(model, sizes, wants)?;
        let words = |dims: &[usize], data: Vec<u32>| HostTensor::u32(Shape::new(dims), data);
        let positions = (0..batch * tokens).map(|i| (i % tokens) as u32).collect();
        let types = match self.file.contains("in.token_type_ids") {
            true => self.file.ids("in.token_type_ids")?,
            false => words(&[batch, tokens], vec![0; batch * tokens]),
        };
        let mut inputs = vec![
            ("ids", ids),
            ("positions", words(&[batch, tokens], positions)),
            ("types", types),
            ("lengths", words(&[batch], lengths)),
            ("places", words(&[batch, places[0].len()], places.concat())),
        ];
        match wants {
            TextObjective::Answer => {
                let rows = ["in.start_positions", "in.end_positions"];
                for (input, recorded) in ANSWERS.into_iter().zip(rows) {
                    inputs.push((input, self.file.ids(recorded)?));
                }
                // As recorded: padding has its share of the softmax.
                inputs.push((SHOWN, HostTensor::f32([batch, tokens], vec![0.0; batch * tokens])));
                // The mean of both losses, each the mean over texts.
                inputs.push((WEIGHTS, HostTensor::f32([batch], vec![0.5 / batch as f32; batch])));
            }
            TextObjective::Score => {
                inputs.push((TARGET, self.file.read("in.labels")?.reshaped(Shape::new(&[batch, 1]))));
                inputs.push((WEIGHTS, HostTensor::f32([batch], vec![1.0 / batch as f32; batch])));
            }
            TextObjective::Classes => inputs.extend(self.mean_of(self.labels("in.labels")?)),
            TextObjective::Tokens => {
                let labels = self.labels("in.labels")?;
                if written > 0 {
                    let start = info.start.unwrap_or(0);
                    let moved = labels.chunks(written).flat_map(|row| moved_right(row, start)).collect();
                    inputs.push(("written", words(&[batch, written], moved)));
                }
                // What follows each token is to be told, where texts are written from left to right.
                let told = match info.kind {
                    Kind::Decoder => labels.chunks(tokens).flat_map(|row| &row[1..]).copied().collect(),
                    _ => labels,
                };
                inputs.extend(self.mean_of(told));
            }
        }
        Ok((objective, inputs))
    }
}

/// What a decoder reads to write a row of labels: the start token, then all but the last; ignored ones as 0.
fn moved_right(row: &[u32], start: u32) -> Vec<u32> {
    let read = row[..row.len() - 1].iter().map(|&l| if l == IGNORED { 0 } else { l });
    std::iter::once(start).chain(read).collect()
}
