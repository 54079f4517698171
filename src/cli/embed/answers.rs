//! What came of the inputs of `embed`: printed or put into a file as it comes.

use std::io::Write;
use std::time::Instant;

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::embed::args::Vector;
use crate::cli::outcome::{FAILED, Outcome, Stop, exit_code};
use crate::cli::output::{DeviceFacts, Printed, Report, Timing, millis};
use crate::cli::sink::Sink;
use crate::cli::talk::{self, Talk};
use crate::cli::vectors::Vectors;
use crate::error::{Error, Result};

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
struct Facts<'a, M: Serialize> {
    #[serde(flatten)]
    model: M,
    pool: &'a str,
    normalized: bool,
}

/// Where rows go, and what came of them so far.
pub(super) struct Answers<'a, 'b> {
    report: Report<&'a mut Sink<'b, Vector>, Row>,
    store: Option<Vectors>,
    printed: bool,
    normalize: bool,
    begun: Instant,
    pub(super) timing: Timing,
    inputs: usize,
    failures: usize,
    worst: u8,
    talk: Talk,
}

impl<'a, 'b> Answers<'a, 'b> {
    pub(super) fn new(normalize: bool, out: &'a mut Sink<'b, Vector>, begun: Instant, talk: Talk) -> Self {
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

    pub(super) fn good(
        &mut self,
        line: Option<usize>,
        input: String,
        mut embedding: Vec<f32>,
    ) -> Result<(), Stop> {
        self.inputs += 1;
        if self.normalize {
            normalize(&mut embedding);
        }
        if let Some(store) = &mut self.store {
            store.push(&input, &embedding)?;
            return Ok(());
        }
        self.row(Row { line, input, embedding: Some(embedding), error: None })
    }

    pub(super) fn bad(
        &mut self,
        line: Option<usize>,
        input: String,
        what: String,
        e: &Error,
    ) -> Result<(), Stop> {
        self.inputs += 1;
        self.failures += 1;
        self.worst = self.worst.max(exit_code(e)).max(FAILED);
        talk::error(e);
        self.row(Row { line, input, embedding: None, error: Some(what) })
    }

    fn row(&mut self, row: Row) -> Result<(), Stop> {
        if self.printed { self.report.row(row).map_err(Stop::Stdout) } else { Ok(()) }
    }

    /// Ends the document, or writes the file unless `outcome` is an error.
    pub(super) fn end(
        mut self,
        (model, pool): (impl Serialize, &str),
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
