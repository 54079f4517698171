//! What was written and how, as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::cli::output::{DeviceFacts, SCHEMA_VERSION};
use crate::cli::texts::{Opened, TextFacts};
use crate::error::{Error, Result};
use crate::text::{Constraints, Ended, GenerateStats};

/// How tokens were chosen.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Way {
    /// The likeliest each time.
    Greedy {},
    /// By chance.
    Chance { seed: u64, temperature: f32, top_k: u32, top_p: f32 },
    /// By a search for the likeliest text.
    Beams { beams: usize, length_penalty: f32, early_stopping: bool },
}

/// One finished text.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) sample: usize,
    pub(super) text: String,
    /// `end token`, `stop` or `length`.
    pub(super) ended: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop: Option<String>,
    /// Of a search: the logarithm of its probability over its length to the penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    pub(super) ids: Vec<u32>,
}

impl Sample {
    pub(super) fn new(sample: usize, text: String, ids: Vec<u32>, ended: &Ended) -> Self {
        let (ended, stop) = match ended {
            Ended::EndToken => ("end token", None),
            Ended::Stop(stop) => ("stop", Some(stop.clone())),
            Ended::Length => ("length", None),
        };
        Self { sample, text, ended, stop, score: None, ids }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    model: &'a TextFacts,
    device: &'a DeviceFacts,
    prompt: &'a str,
    /// How tokens were chosen; nothing if the likeliest was taken.
    #[serde(flatten)]
    way: Way,
    /// What else was asked of tokens; nothing if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    constraints: Option<&'a Constraints>,
    samples: &'a [Sample],
    #[serde(skip_serializing_if = "Option::is_none")]
    timing_ms: Option<Timing>,
}

#[derive(Serialize)]
struct Timing {
    prompt_tokens: usize,
    first_token: f64,
    prompt: f64,
    decode: f64,
}

/// Everything about what was written.
///
/// # Errors
/// Never, but for a bug in the serializer.
pub(super) fn document(
    opened: &Opened,
    prompt: &str,
    (way, constraints): (Way, &Constraints),
    samples: &[Sample],
    stats: Option<&GenerateStats>,
) -> Result<Vec<u8>> {
    let millis = |d: Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
    let timing_ms = stats.map(|s| Timing {
        prompt_tokens: s.prompt_tokens,
        first_token: millis(s.first_token),
        prompt: millis(s.prompt),
        decode: millis(s.decode),
    });
    let (model, device) = (&opened.model, &opened.device);
    let constraints = Some(constraints).filter(|c| **c != Constraints::default());
    let schema_version = SCHEMA_VERSION;
    let document = Document { schema_version, model, device, prompt, way, constraints, samples, timing_ms };
    let mut bytes = serde_json::to_vec_pretty(&document)
        .map_err(|e| Error::Write { path: "JSON".to_owned(), what: e.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}
