//! What `inspect` shows of models of every kind.

use std::io::{self, Write};

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::cli::inspect::args::InspectArgs;
use crate::cli::output::{bytes, count};
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::labels::{LabelSource, Labels, short};
use crate::models;
use crate::models::text::{TextInfo, TextModel};
use crate::printable::escaped;
use crate::session::{Applied, Device, ModelFiles, Options};

/// The files of a model.
#[derive(Serialize)]
pub(super) struct CheckpointFacts {
    pub(super) dtypes: String,
    pub(super) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) adapter: Option<AdapterFacts>,
}

/// A LoRA adapter that is laid over them.
#[derive(Serialize)]
pub(super) struct AdapterFacts {
    name: String,
    rank: usize,
    alpha: f64,
    /// Weights that have a product added.
    adapted: usize,
    /// Tensors in the place of others.
    replaced: usize,
    parameters: u64,
}

impl CheckpointFacts {
    pub(super) fn new(checkpoint: &Checkpoint, adapter: Option<&Applied>) -> Self {
        let adapter = adapter.map(|a| AdapterFacts {
            name: a.name.clone(),
            rank: a.rank,
            alpha: a.alpha,
            adapted: a.adapted,
            replaced: a.replaced,
            parameters: a.parameters,
        });
        Self { dtypes: checkpoint.dtype_summary(), bytes: checkpoint.total_bytes(), adapter }
    }

    /// Its lines for people.
    pub(super) fn describe(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "checkpoint     {}, {}", bytes(self.bytes), self.dtypes)?;
        let Some(a) = &self.adapter else { return Ok(()) };
        writeln!(
            out,
            "adapter        {}: rank {}, alpha {}, {} weights adapted, {} tensors replaced, {} parameters",
            escaped(&a.name),
            a.rank,
            a.alpha,
            a.adapted,
            a.replaced,
            count(a.parameters)
        )
    }
}

/// The text tower of a model that brings images and texts into one space.
#[derive(Serialize)]
pub(super) struct WordsFacts {
    layers: usize,
    hidden: usize,
    heads: usize,
    vocabulary: usize,
    /// Tokens of the longest text.
    tokens: Option<usize>,
    /// Numbers of a vector in the shared space.
    width: usize,
    parameters: u64,
}

impl WordsFacts {
    /// # Errors
    /// As [`models::text_tower`].
    pub(super) fn new(files: &ModelFiles) -> Result<Option<Self>> {
        let tower = models::text_tower(&files.config, files.checkpoint.index());
        let tower = tower.map_err(|e| e.within(&files.name))?;
        Ok(tower.as_deref().map(TextModel::info).and_then(|info| {
            let width = info.tower.as_ref()?.width;
            let TextInfo { layers, hidden, heads, vocabulary, positions, parameters, .. } = *info;
            Some(Self { layers, hidden, heads, vocabulary, tokens: positions, width, parameters })
        }))
    }

    /// Its line for people.
    pub(super) fn describe(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "words          {} layers, width {}, {} heads, {} tokens of {}; {} numbers in one space with images",
            self.layers,
            self.hidden,
            self.heads,
            self.tokens.unwrap_or_default(),
            count(self.vocabulary as u64),
            self.width
        )
    }
}

/// Names of classes.
#[derive(Serialize)]
pub(super) struct LabelFacts {
    pub(super) count: usize,
    pub(super) source: &'static str,
    pub(super) first: Vec<String>,
}

/// Opens on the device that was asked for; where nothing was asked for and nothing is there, on none.
pub(super) fn somehow<T>(
    args: &InspectArgs,
    options: &Options,
    talk: Talk,
    open: impl Fn(&Options) -> Result<T>,
) -> Result<T> {
    match open(options) {
        Err(Error::NoDevice { what, .. }) if args.device.device.is_none() => {
            talk.note(format_args!("{what}: the plan is made for WebGPU's default limits"));
            open(&Options { device: Device::Reference, ..options.clone() })
        }
        opened => opened,
    }
}

/// What `infer` computes without further flags: class scores, else pooled features, else the last.
pub(crate) fn default_outputs(all: &[String]) -> Vec<String> {
    let known = ["logits", "embedding", "last_hidden_state"];
    let found = known.iter().find(|n| all.iter().any(|a| a == *n)).map(|n| (*n).to_owned());
    found.or_else(|| all.last().cloned()).into_iter().collect()
}

pub(super) fn label_facts(labels: &Labels) -> LabelFacts {
    LabelFacts {
        count: labels.names.len(),
        source: match labels.source {
            LabelSource::Config => "configuration",
            LabelSource::ImageNet => "ImageNet-1k",
            LabelSource::Numbers => "numbers",
            LabelSource::Asked => "asked for",
        },
        first: labels.names.iter().take(16).map(|n| short(n).to_owned()).collect(),
    }
}

/// Names with `hidden.0, hidden.1, ...` written as a range.
pub(super) fn folded(names: &[String]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        match name.split_once('.').filter(|(_, n)| n.parse::<usize>().is_ok()) {
            Some((stem, _)) if seen.contains(&stem) => {}
            Some((stem, first)) => {
                seen.push(stem);
                let of_stem = |n: &&String| n.split_once('.').is_some_and(|(s, _)| s == stem);
                let last = names
                    .iter()
                    .filter(of_stem)
                    .filter_map(|n| n.split_once('.')?.1.parse::<usize>().ok())
                    .max();
                match last {
                    Some(last) if last.to_string() != first => {
                        parts.push(format!("{stem}.{first} to {stem}.{last}"))
                    }
                    _ => parts.push(name.clone()),
                }
            }
            None => parts.push(name.clone()),
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn numbered_outputs_are_ranges() {
        let names: Vec<String> =
            ["hidden.0", "attention.0", "hidden.1", "hidden.10", "logits", "a.b"].map(str::to_owned).into();
        assert_eq!(folded(&names), "hidden.0 to hidden.10, attention.0, logits, a.b");
    }
}
