//! `vit-gpu embed`: a vector for each text or image, as JSON or as a safetensors file.
//!
//! Texts are pooled as the checkpoint's sentence-transformers files say, images as the model's own head
//! would; what a model cannot give is refused, and never replaced by something near it.

pub(super) mod args;
mod images;
mod texts;

use crate::printable::escaped;
use std::io::Write;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::Format;
use super::outcome::{FAILED, Outcome, Stop};
use super::output::{DeviceFacts, Printed, Report, Timing};
use super::sink::Sink;
use super::talk::{self, Talk};
use super::texts::locate;
use super::vectors::Vectors;
use super::{inputs, open};
use crate::cli::embed::args::{EmbedArgs, Vector};
use crate::error::{Error, Result};
use crate::session::{self, ModelKind};

/// Runs the command and yields its exit code.
pub(super) fn run(args: &EmbedArgs, talk: Talk, out: &mut Sink<'_, Vector>) -> Outcome {
    if let Some(flag) = args.texts.given() {
        let (id, source) = locate(&args.model, flag, talk)?;
        return texts::run(args, (id, &source), talk, out);
    }
    if args.inputs.is_empty() {
        let help = "pass --text or --input, or name images, directories, 'globs', @lists, or -";
        return Err(Error::usage("no input", help).into());
    }
    let list = inputs::expand(&args.inputs, args.recursive)?;
    for skipped in &list.skipped {
        talk.warn(escaped(skipped));
    }
    let (id, source) = open::locate(&args.model, talk)?;
    if session::kind(&source) == ModelKind::Text {
        super::texts::without(Some("an image"), &id)?;
    }
    images::run(args, (id, source), &list.list, talk, out)
}

/// One embedding, or why there is none.
#[derive(Debug, Clone, Serialize)]
struct Row {
    /// Its line in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The text, or the image as the user named it.
    input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Embeddings are for programs: neither form is offered.
impl Printed for Row {
    fn text(&self, _: &mut impl Write, _: bool) -> std::io::Result<()> {
        Ok(())
    }

    fn csv(&self, _: &mut impl Write, _: bool) -> std::io::Result<()> {
        Ok(())
    }
}

/// The model and how its vectors are made, as JSON describes them.
#[derive(Serialize)]
struct Facts<M: Serialize> {
    #[serde(flatten)]
    model: M,
    pool: &'static str,
    normalized: bool,
}

/// Where rows go, and what came of them so far.
struct Answers<'a, 'b> {
    report: Report<&'a mut Sink<'b, Vector>, Row>,
    store: Option<Vectors>,
    printed: bool,
    normalize: bool,
    begun: Instant,
    timing: Timing,
    inputs: usize,
    failures: usize,
    worst: u8,
    talk: Talk,
}

impl<'a, 'b> Answers<'a, 'b> {
    fn new(normalize: bool, out: &'a mut Sink<'b, Vector>, begun: Instant, talk: Talk) -> Self {
        let (format, store) = match out.format {
            Vector::Json => (Format::Json, None),
            Vector::Jsonl => (Format::Jsonl, None),
            Vector::Safetensors => (Format::Json, out.take().map(Vectors::new)),
        };
        let timing = Timing { load: millis(begun.elapsed()), ..Timing::default() };
        Self {
            report: Report::new(out, format, false),
            printed: store.is_none(),
            store,
            normalize,
            begun,
            timing,
            inputs: 0,
            failures: 0,
            worst: 0,
            talk,
        }
    }

    fn good(&mut self, line: Option<usize>, input: String, mut embedding: Vec<f32>) -> Result<(), Stop> {
        self.inputs += 1;
        if self.normalize {
            normalize(&mut embedding);
        }
        if let Some(store) = &mut self.store {
            store.push(&input, &embedding);
        }
        self.row(Row { line, input, embedding: Some(embedding), error: None })
    }

    fn bad(&mut self, line: Option<usize>, input: String, what: String, e: &Error) -> Result<(), Stop> {
        self.inputs += 1;
        self.failures += 1;
        self.worst = self.worst.max(e.exit_code()).max(FAILED);
        talk::error(e);
        self.row(Row { line, input, embedding: None, error: Some(what) })
    }

    fn row(&mut self, row: Row) -> Result<(), Stop> {
        if self.printed { self.report.row(row).map_err(Stop::Stdout) } else { Ok(()) }
    }

    /// Ends the document, or writes the file unless `outcome` is an error.
    fn end(
        mut self,
        (model, pool): (impl Serialize, &'static str),
        device: &DeviceFacts,
        outcome: Result<(), Stop>,
        id: &str,
    ) -> Outcome {
        if let Err(Stop::Stdout(e)) = outcome {
            return Err(e.into());
        }
        self.timing.total = millis(self.begun.elapsed());
        if self.printed {
            let facts = Facts { model, pool, normalized: self.normalize };
            self.report.end(&facts, device, self.timing)?;
        }
        outcome?;
        if let Some(store) = self.store {
            let about = [
                ("model", id.to_owned()),
                ("pool", pool.to_owned()),
                ("normalized", self.normalize.to_string()),
            ];
            store.finish("embeddings", &about, self.talk)?;
        }
        if self.failures > 0 && self.inputs > 1 {
            self.talk.warn(format_args!("{} of {} inputs failed", self.failures, self.inputs));
        }
        Ok(self.worst)
    }
}

/// Brings a vector to length 1; one of length 0 stays.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
