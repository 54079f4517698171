//! `Dense` of sentence-transformers: a linear layer behind the pooling, and an activation.

use std::path::Path;

use serde_json::Value;

use super::disk::{AGAIN, json};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::ops::Act;
use crate::printable::printable;

/// Widest vector that is believed.
const MAX_WIDTH: u64 = 1 << 20;

/// A linear layer with its activation; computed in f64 from f32 weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    inputs: usize,
    outputs: usize,
    /// Row by row, one row an output.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    act: Option<Act>,
}

impl Dense {
    /// Reads `config.json` and `model.safetensors` of a module's folder.
    ///
    /// # Errors
    /// [`Error::Model`] naming what is missing, does not fit, or is not known here.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("config.json");
        let wrong = |what: String| Error::model(file.display(), what, AGAIN);
        let config = json(&file)?.ok_or_else(|| wrong("no such file".to_owned()))?;
        let width = |key: &str| {
            let n = config[key].as_u64().filter(|n| (1..=MAX_WIDTH).contains(n));
            n.map(|n| n as usize).ok_or_else(|| wrong(format!("`{key}` is no width")))
        };
        let (inputs, outputs) = (width("in_features")?, width("out_features")?);
        if let Some(key) = unknown(&config) {
            return Err(wrong(format!("`{key}` is not known here")));
        }
        for key in ["module_input_name", "module_output_name"] {
            if let Some(name) = config[key].as_str().filter(|name| *name != "sentence_embedding") {
                return Err(wrong(format!("`{key}` is `{}`, which is not supported", printable(name))));
            }
        }
        let act = match config["activation_function"].as_str() {
            None => Some(Act::Tanh),
            Some(name) => activation(name).map_err(wrong)?,
        };
        let weights = folder.join("model.safetensors");
        if !weights.is_file() {
            let help = "save the model again by sentence-transformers: weights are read as safetensors";
            return Err(Error::model(weights.display(), "no such file", help));
        }
        let weights = Checkpoint::open(&weights, false)?;
        let tensor = |name: &str, dims: &[usize]| {
            let tensor = weights.read(name)?;
            if tensor.shape().dims() != dims {
                let what = format!("`{name}` has shape {}, expected {dims:?}", tensor.shape());
                return Err(Error::model(weights.name(), what, AGAIN));
            }
            Ok(tensor.to_f32().to_vec())
        };
        let weight = tensor("linear.weight", &[outputs, inputs])?;
        let has_bias = config["bias"].as_bool().unwrap_or(true);
        let bias = has_bias.then(|| tensor("linear.bias", &[outputs])).transpose()?;
        Ok(Self { inputs, outputs, weight, bias, act })
    }

    /// Numbers it takes, and numbers it gives.
    pub(super) fn widths(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// What it makes of a vector of as many numbers as it takes.
    pub(super) fn apply(&self, vector: &[f32]) -> Vec<f32> {
        let row = |(i, row): (usize, &[f32])| {
            let products = row.iter().zip(vector).map(|(w, x)| f64::from(*w) * f64::from(*x));
            let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
            let sum = (products.sum::<f64>() + bias) as f32;
            self.act.map_or(sum, |act| act.apply(sum))
        };
        self.weight.chunks(self.inputs).enumerate().map(row).collect()
    }
}

/// An activation by the class that torch has for it; none for the identity.
fn activation(name: &str) -> Result<Option<Act>, String> {
    Ok(Some(match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => return Ok(None),
        "Tanh" => Act::Tanh,
        "ReLU" => Act::Relu,
        "GELU" => Act::Gelu,
        "SiLU" => Act::Silu,
        "Sigmoid" => Act::Sigmoid,
        _ => return Err(format!("the activation `{}` is not known here", printable(name))),
    }))
}

/// A setting that is set to something and not known here.
fn unknown(config: &Value) -> Option<String> {
    const KNOWN: [&str; 6] = [
        "in_features",
        "out_features",
        "bias",
        "activation_function",
        "module_input_name",
        "module_output_name",
    ];
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let strange = |(key, value): (&String, &Value)| {
        (set(value) && !KNOWN.contains(&key.as_str())).then(|| printable(key))
    };
    config.as_object()?.iter().find_map(strange)
}
