//! A step of training made ready to be timed.

use std::collections::BTreeMap;

use super::objective::{self, LABELS, WEIGHTS};
use super::parameters::parameterise;
use super::recipe::{self, Optimizer, RATES, Recipe};
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::gpu::States;
use crate::ops::AdamW;
use crate::plan::Precision;
use crate::session::Session;
use crate::session::measure::Prepared;
use crate::tensor::HostTensor;

/// Makes a step of AdamW over all weights of a classifier ready, for a batch of noise at the model's own size.
///
/// # Errors
/// [`Error::Usage`] on the reference, in f16, for a batch of none, and for a model that cannot be trained.
pub fn prepare_images(session: &Session, batch: usize) -> Result<Prepared> {
    let (begun, runtime, model) = (Instant::now(), session.runtime(), session.model());
    let classes = model.info().classes.unwrap_or(1).max(1);
    if batch == 0 || runtime.precision != Precision::F32 {
        return Err(Error::usage(
            "training takes a batch of at least one, in f32",
            "leave the storage type at that",
        ));
    }
    let loss = objective::classes_of_images(model, batch, 0.0)?;
    let made = parameterise(&loss.graph, &runtime.checkpoint, &|_| true)?;
    let optimizer = Optimizer::AdamW(AdamW { decay: 0.05, ..AdamW::default() });
    let recipe = Recipe { optimizer, ..Recipe::default() };
    let step = recipe::steps(&made.graph, &made.parameters, &BTreeMap::new(), &recipe)?.remove(0);
    let info = model.info();
    let dims = [batch, info.channels, info.image_size.height, info.image_size.width];
    let pixels = (0..dims.iter().product()).map(|i: usize| (i * 37 % 211) as f32 / 105.0 - 1.0).collect();
    let inputs = vec![
        ("image".to_owned(), HostTensor::f32(dims, pixels)),
        (LABELS.to_owned(), HostTensor::u32([batch], (0..batch).map(|i| (i % classes) as u32).collect())),
        (WEIGHTS.to_owned(), HostTensor::f32([batch], vec![1.0 / batch as f32; batch])),
        (RATES.to_owned(), optimizer.rates(1e-4, 1)),
    ];
    let states = States::new();
    let prepared = runtime.prepare(&step, &states, inputs, begun)?;
    if let Some(gpu) = runtime.gpu() {
        let contents = made.contents(&runtime.checkpoint)?;
        contents.into_iter().try_for_each(|(name, value)| states.write(gpu, &name, value))?;
    }
    Ok(prepared)
}
