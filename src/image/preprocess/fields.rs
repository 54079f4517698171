//! Typed reading of a JSON object with errors that name the file, the field, what was
//! found and what is expected. A `null` counts as absent, as it does for transformers and timm.

use serde_json::{Map, Value};

use super::spec::MAX_MODEL_SIDE;
use crate::error::{Advice, Error, Result};

/// A JSON object and the name of the file it came from.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub name: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(name: &'a str, value: &'a Value) -> Result<Self> {
        match value.as_object() {
            Some(map) => Ok(Self { name, map }),
            None => Err(Error::model(
                name,
                format!("a JSON object is expected, not {}", short(value)),
                "download the file again",
            )),
        }
    }

    pub fn error(&self, what: String, help: impl Into<Advice>) -> Error {
        Error::model(self.name, what, help)
    }

    /// "field is X, expected Y".
    pub fn unexpected(&self, key: &str, value: &Value, expected: &str) -> Error {
        self.error(
            format!("`{key}` is {}, expected {expected}", short(value)),
            format!("correct `{key}` in {}", self.name),
        )
    }

    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub fn object(&self, key: &str) -> Option<Fields<'a>> {
        Some(Fields { name: self.name, map: self.get(key)?.as_object()? })
    }

    pub fn string(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(self.unexpected(key, other, "a string")),
        }
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(other) => Err(self.unexpected(key, other, "true or false")),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|n| n.is_finite()) {
                Some(n) => Ok(Some(n)),
                None => Err(self.unexpected(key, value, "a number")),
            },
        }
    }

    /// A side in pixels, 1 to [`MAX_MODEL_SIDE`]; `key` is what errors call it.
    pub fn side(&self, key: &str, value: &Value) -> Result<usize> {
        // Whole floats count: 224.0.
        let whole = value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as u64));
        match whole.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=MAX_MODEL_SIDE).contains(n)) {
            Some(n) => Ok(n),
            None => Err(self.unexpected(
                key,
                value,
                &format!("a whole number of pixels from 1 to {MAX_MODEL_SIDE}"),
            )),
        }
    }

    /// Three numbers, or one for all three where `one` allows a list of length 1; a bare number
    /// always counts for all three.
    pub fn channels(&self, key: &str, default: [f64; 3], one: bool) -> Result<[f64; 3]> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let numbers: Option<Vec<f64>> = match value {
            Value::Array(list) => list.iter().map(Value::as_f64).collect(),
            other => other.as_f64().map(|n| vec![n; 3]),
        };
        match numbers.as_deref() {
            Some(&[r, g, b]) => Ok([r, g, b]),
            Some(&[all]) if one => Ok([all; 3]),
            _ => Err(self.unexpected(key, value, "three numbers (R, G, B)")),
        }
    }

    /// Mean and deviation, the latter above 0.
    pub fn mean_std(
        &self,
        keys: [&str; 2],
        defaults: [[f64; 3]; 2],
        one: bool,
    ) -> Result<([f64; 3], [f64; 3])> {
        let mean = self.channels(keys[0], defaults[0], one)?;
        let std = self.channels(keys[1], defaults[1], one)?;
        for (key, list, low) in [(keys[0], mean, f64::NEG_INFINITY), (keys[1], std, 0.0)] {
            // Judged as f32, which is what the arithmetic uses.
            if !list.iter().all(|n| (*n as f32).is_finite() && *n as f32 > low as f32) {
                let value = self.get(key).cloned().unwrap_or_default();
                let expected = if low == 0.0 { "three numbers above 0" } else { "three finite numbers" };
                return Err(self.unexpected(key, &value, expected));
            }
        }
        Ok((mean, std))
    }
}

/// A value as messages show it: its JSON, cut after 60 characters.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
