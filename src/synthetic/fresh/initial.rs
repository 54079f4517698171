//! First values of the tensors of a model that is to be trained from nothing.

use serde_json::Value as Json;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::tensor::{HostTensor, Shape};

/// Most elements of all tensors together.
const MOST: usize = 1 << 31;

/// What a tensor begins with.
pub(super) enum Initial {
    /// One number everywhere: a bias, the gain of a norm.
    All(f32),
    /// The normal distribution of this deviation about 0.
    Normal(f64),
    /// Evenly within this distance of 0.
    Uniform(f64),
    /// These numbers.
    Given(Vec<f32>),
}

/// A tensor: its name, its dimensions, and what it begins with.
pub(super) type Begun = (String, Vec<usize>, Initial);

/// Refuses so many elements, if they are more than a model has that is made here.
///
/// # Errors
/// [`Error::Model`].
pub(super) fn check_size(name: &str, elements: usize) -> Result<()> {
    if elements > MOST {
        let what = format!("a model of {elements} elements is too large to be made");
        return Err(Error::model(name, what, "see that its configuration is meant so"));
    }
    Ok(())
}

/// Tensors with their first values, drawn by `seed` and each one's name.
///
/// # Errors
/// [`Error::Model`] for too many elements.
pub(super) fn drawn(name: &str, tensors: Vec<Begun>, seed: u64) -> Result<Checkpoint> {
    let elements = |(_, dims, _): &Begun| dims.iter().fold(1usize, |n, side| n.saturating_mul(*side));
    check_size(name, tensors.iter().map(elements).fold(0, usize::saturating_add))?;
    let make = |(tensor, dims, initial): Begun| {
        let mut random = Random::named(seed, &tensor);
        let n: usize = dims.iter().product();
        let values = match initial {
            Initial::All(value) => vec![value; n],
            Initial::Normal(deviation) => (0..n).map(|_| (deviation * random.normal()) as f32).collect(),
            Initial::Uniform(bound) => (0..n).map(|_| random.uniform(-bound, bound) as f32).collect(),
            Initial::Given(values) => values,
        };
        (tensor, HostTensor::f32(Shape::new(&dims), values))
    };
    Checkpoint::from_tensors(name, tensors.into_iter().map(make))
}

/// A whole number above 0 of a configuration, or what it is where nothing is said.
///
/// # Errors
/// [`Error::Model`] that names the field for anything else.
pub(super) fn count(name: &str, config: &Json, key: &str, usual: usize) -> Result<usize> {
    match config.get(key).filter(|value| !value.is_null()) {
        None => Ok(usual),
        Some(value) => {
            let found = value.as_u64().filter(|n| (1..=1 << 20).contains(n));
            found.map(|n| n as usize).ok_or_else(|| {
                Error::model(
                    name,
                    format!("`{key}` is not a number above 0"),
                    "compare it with a published one",
                )
            })
        }
    }
}
