//! What is said of a run while it goes on: a bar, a row for each epoch, the curve.

use std::io::Write;
use std::time::Instant;

use serde::Serialize;

use super::args::Rows;
use crate::cli::output::bytes;
use crate::cli::talk::{Progress, Talk, beside_the_bar};
use crate::error::Error;
use crate::render::curve;
use crate::train::save::{Output, Row};
use crate::train::{Event, Metric, Run, Trainer};

/// Says what a step needs of the device's memory.
pub(super) fn memory(trainer: &Trainer, talk: Talk) {
    let need = trainer.memory_needs();
    let saved = match need.recomputed * 10 < need.activations * 9 {
        true => format!(" ({} with --grad-checkpointing)", bytes(need.recomputed)),
        false => String::new(),
    };
    talk.note(format_args!(
        "memory: {} of parameters, {} of the optimizer, {} of activations and gradients{saved}",
        bytes(need.parameters),
        bytes(need.optimizer),
        bytes(need.activations)
    ));
}

/// An error of a run, and what is left of it.
pub(super) fn worded(e: Error, output: &Output) -> Error {
    match e {
        Error::NonFinite { what, count, total } if output.is_taken() => {
            let what = format!("{what}; what was saved before is in {}", output.last().display());
            Error::NonFinite { what, count, total }
        }
        e => e,
    }
}

/// A metric as people call it, and its value.
pub(super) fn said(metric: &Metric, value: f64) -> String {
    match metric.share {
        true => format!("{} {:.2} %", called(metric), 100.0 * value),
        false => format!("{} {value:.4}", called(metric)),
    }
}

fn called(metric: &Metric) -> String {
    metric.name.replace('_', " ").replace("top", "top-")
}

/// What an epoch is made of.
#[derive(Clone, Copy)]
pub(super) struct Batches {
    pub(super) count: usize,
    /// Images or texts of one.
    pub(super) size: usize,
    /// What a validation finds.
    pub(super) metrics: &'static [Metric],
}

impl Batches {
    /// Columns of the table: the loss of a validation stands beside that of training, then what else it finds.
    fn columns(&self) -> Vec<(&'static Metric, String)> {
        let (mut losses, others): (Vec<_>, Vec<_>) = self.metrics.iter().partition(|m| m.name == "loss");
        losses.extend(others);
        let head = |metric: &'static Metric| match (metric.name, metric.share) {
            ("loss", _) => "val loss".to_owned(),
            (_, true) => format!("{} %", called(metric)),
            (_, false) => called(metric),
        };
        losses.into_iter().map(|metric| (metric, format!("{:>8}", head(metric)))).collect()
    }
}

/// What is said of a run.
pub(super) struct Report<'a, W> {
    talk: Talk,
    out: &'a mut W,
    format: Rows,
    run: Run,
    batches: Batches,
    output: &'a Output,
    bar: Option<Progress>,
    begun: Instant,
    /// When the epoch under way began, and after how many steps.
    epoch: (Instant, u32),
    failed: Option<std::io::Error>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    row: &'a Row,
    seconds: f64,
    images_per_second: f64,
}

impl<'a, W: Write> Report<'a, W> {
    pub(super) fn new(
        talk: Talk,
        out: &'a mut W,
        format: Rows,
        run: Run,
        batches: Batches,
        output: &'a Output,
    ) -> Self {
        let now = Instant::now();
        Self { talk, out, format, run, batches, output, bar: None, begun: now, epoch: (now, 0), failed: None }
    }

    /// The head of the table.
    pub(super) fn begin(&mut self, log: &[Row]) -> std::io::Result<()> {
        self.epoch.1 = log.last().map_or(0, |row| row.step);
        if self.format == Rows::Text {
            let columns: String =
                self.batches.columns().iter().map(|(_, head)| format!("  {head}")).collect();
            writeln!(self.out, "epoch     loss{columns}        lr     1/s   time")?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// Takes an event; false if the rows cannot be written any more.
    pub(super) fn event(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Step { step, loss, rate } => {
                let total = (self.run.epochs * self.batches.count) as u64;
                let epoch = (step as usize - 1) / self.batches.count + 1;
                let what = format!("epoch {epoch}/{} loss {loss:.4} lr {rate:.2e}", self.run.epochs);
                let talk = self.talk;
                let bar = self.bar.get_or_insert_with(|| talk.progress("", total, false));
                bar.rename(what);
                bar.at(step.into());
                true
            }
            Event::Features { done, total } => {
                let talk = self.talk;
                let bar = self.bar.get_or_insert_with(|| talk.progress("images", total as u64, false));
                bar.at(done as u64);
                if done == total {
                    self.bar = None;
                }
                true
            }
            Event::Note(text) => {
                self.talk.warn(format_args!("left out: {text}"));
                true
            }
            Event::Epoch(log) => {
                let written = self.row(log);
                if let Err(e) = self.curve(log) {
                    self.talk.warn(e.message());
                }
                written.map_err(|e| self.failed = Some(e)).is_ok()
            }
        }
    }

    fn row(&mut self, log: &[Row]) -> std::io::Result<()> {
        let Some(row) = log.last() else { return Ok(()) };
        let seconds = self.epoch.0.elapsed().as_secs_f64();
        let images = f64::from(row.step - self.epoch.1) * self.batches.size as f64;
        self.epoch = (Instant::now(), row.step);
        let speed = images / seconds.max(1e-9);
        let line = match self.format {
            Rows::Jsonl => {
                let line = Line { row, seconds, images_per_second: speed };
                serde_json::to_string(&line).map_err(std::io::Error::from)?
            }
            Rows::Text => {
                let found =
                    |name: &str| row.found.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v);
                let column = |(metric, head): (&Metric, String)| {
                    let (value, digits) = match metric.share {
                        true => (100.0 * found(metric.name), 2),
                        false => (found(metric.name), 4),
                    };
                    format!("  {value:width$.digits$}", width = head.len())
                };
                let columns: String = self.batches.columns().into_iter().map(column).collect();
                let whole = self.begun.elapsed().as_secs();
                format!(
                    "{:5} {:8.4}{columns}  {:8.2e} {:7.1}  {}:{:02}",
                    row.epoch,
                    row.train_loss,
                    row.rate,
                    speed,
                    whole / 60,
                    whole % 60
                )
            }
        };
        let out = &mut *self.out;
        beside_the_bar(|| writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    fn curve(&self, log: &[Row]) -> Result<(), Error> {
        self.output.write_text("curve.svg", &curve::draw(log, self.batches.metrics).svg())
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// What standard output failed with.
    pub(super) fn end(&mut self) -> std::io::Result<()> {
        self.bar = None;
        self.failed.take().map_or(Ok(()), Err)
    }
}
