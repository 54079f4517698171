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
use crate::train::{Event, Run, Trainer};

/// Says what a step needs of the device's memory.
pub(super) fn memory(trainer: &Trainer, talk: Talk) {
    let need = trainer.memory_needs();
    talk.detail(format_args!(
        "memory: {} of parameters, {} of the optimizer, {} of activations",
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

/// What a validation found, for people: the loss first, then the others as they come, each under its name.
fn columns(row: &Row) -> impl Iterator<Item = (String, String)> {
    let is_loss = |(name, _): &&(String, f64)| name == "loss";
    let found = row.found.iter().filter(is_loss).chain(row.found.iter().filter(move |n| !is_loss(n)));
    found.map(|(name, value)| match name.as_str() {
        "loss" => ("val loss".to_owned(), format!("{value:.4}")),
        "top1" | "top5" => (name.replace("top", "top-") + " %", format!("{:.2}", 100.0 * value)),
        _ => (name.clone(), format!("{value:.4}")),
    })
}

/// What is said of a run.
pub(super) struct Report<'a, W> {
    talk: Talk,
    out: &'a mut W,
    format: Rows,
    run: Run,
    batches: usize,
    batch: usize,
    output: &'a Output,
    bar: Option<Progress>,
    begun: Instant,
    /// When the epoch under way began, and after how many steps.
    epoch: (Instant, u32),
    failed: Option<std::io::Error>,
    /// Whether the names of the columns are written.
    headed: bool,
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
        batches: usize,
        batch: usize,
        output: &'a Output,
    ) -> Self {
        let now = Instant::now();
        Self {
            talk,
            out,
            format,
            run,
            batches,
            batch,
            output,
            bar: None,
            begun: now,
            epoch: (now, 0),
            failed: None,
            headed: false,
        }
    }

    /// Takes what a run that goes on has behind it.
    pub(super) fn begin(&mut self, log: &[Row]) {
        self.epoch.1 = log.last().map_or(0, |row| row.step);
    }

    /// Takes an event; false if the rows cannot be written any more.
    pub(super) fn event(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Step { step, loss, rate } => {
                let total = (self.run.epochs * self.batches) as u64;
                let epoch = (step as usize - 1) / self.batches + 1;
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
        let images = f64::from(row.step - self.epoch.1) * self.batch as f64;
        self.epoch = (Instant::now(), row.step);
        let speed = images / seconds.max(1e-9);
        let line = match self.format {
            Rows::Jsonl => {
                let line = Line { row, seconds, images_per_second: speed };
                serde_json::to_string(&line).map_err(std::io::Error::from)?
            }
            Rows::Text => {
                let whole = self.begun.elapsed().as_secs();
                let found: String = columns(row).map(|(_, number)| format!("  {number:>8}")).collect();
                format!(
                    "{:5} {:8.4}{found}  {:8.2e} {:7.1}  {}:{:02}",
                    row.epoch,
                    row.train_loss,
                    row.rate,
                    speed,
                    whole / 60,
                    whole % 60
                )
            }
        };
        let head = (self.format == Rows::Text && !std::mem::replace(&mut self.headed, true)).then(|| {
            let found: String = columns(row).map(|(name, _)| format!("  {name:>8}")).collect();
            format!("epoch     loss{found}        lr   img/s   time\n")
        });
        let (out, head) = (&mut *self.out, head.unwrap_or_default());
        beside_the_bar(|| writeln!(out, "{head}{line}").and_then(|()| out.flush()))
    }

    fn curve(&self, log: &[Row]) -> Result<(), Error> {
        self.output.write_text("curve.svg", &curve::draw(log).svg())
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
