//! `vit-gpu tune`: measures the kernel variants of a model's ops on this adapter, shows
//! every time, and keeps the fastest for later runs.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, Plain, image_size, seconds};
use super::locate::{Located, locate};
use super::open;
use super::outcome::Outcome;
use super::output::{DeviceFacts, ModelFacts, SCHEMA_VERSION, json};
use super::sink::{Sink, SinkArgs};
use super::talk::Talk;
use crate::error::Error;
use crate::gpu::tune::Report;
use crate::ops;
use crate::tensor::Size;
use clap::Args;

pub(super) const TUNE_HELP: &str = "\
Examples:
    vit-gpu tune -m FOLDER -b 1,8,32
    vit-gpu tune --list

What is measured is kept beside the compiled pipelines, by adapter and driver, and used by every later
run; other runs measure on first use, for at most 2 seconds. A choice changes speed, never a result
beyond the tolerance: `vit-gpu doctor` checks every variant.";

#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// Tune for random weights of a named size instead of a model: vit-b/16
    #[arg(long, value_name = "NAME", conflicts_with = "adapter")]
    pub synthetic: Option<String>,
    /// Batch sizes to tune for
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: Vec<u32>,
    /// Another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<Size>,
    /// Seconds to spend on each batch size at most [default: as long as it takes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub budget: Option<f64>,
    /// Measure again what is known
    #[arg(long)]
    pub fresh: bool,
    /// Print the kernel variants there are, as --variant takes them, and measure nothing
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub sink: SinkArgs<Plain>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    model: &'a ModelFacts,
    device: &'a DeviceFacts,
    /// Where the choices are kept; nothing is kept without a cache folder.
    file: Option<String>,
    batches: Vec<Batch>,
}

#[derive(Serialize)]
struct Batch {
    batch: u32,
    seconds: f64,
    known: usize,
    left: usize,
    measured: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    key: String,
    first: String,
    launches: usize,
    estimate: &'static str,
    chosen: &'static str,
    microseconds: Vec<(&'static str, f64)>,
}

/// Runs the command and yields its exit code.
pub(super) fn run(args: &TuneArgs, talk: Talk, out: &mut Sink<'_, Plain>) -> Outcome {
    if args.list {
        if out.format != Plain::Text {
            return Err(Error::usage("the list of variants is text", "name the file .txt").into());
        }
        for (op, names) in ops::variants() {
            for name in names {
                writeln!(out, "{op}={name}")?;
            }
        }
        return Ok(0);
    }
    let located = match &args.synthetic {
        Some(name) => Located::synthetic(name),
        None => locate(&args.model, talk)?,
    };
    let found = located.read(!args.model.no_mmap)?;
    let mut options = open::options(&args.device, !args.model.no_mmap, talk)?;
    // Nothing is measured behind the back of a command that measures.
    options.tuning_budget = Duration::from_nanos(1);
    let opened = open::open(found, &options, talk)?;
    let session = &opened.session;
    if session.device().kind == "reference" {
        return Err(Error::usage("the reference has no kernel variants", "choose an adapter").into());
    }
    let size = args.image_size.unwrap_or(session.info().image_size);
    let names = session.output_names(size)?;
    let main = if names.iter().any(|n| n == "logits") { "logits" } else { "embedding" };
    let budget = args.budget.map_or(Duration::from_secs(3600), Duration::from_secs_f64);
    let mut batches = Vec::new();
    for (i, &batch) in args.batch_size.iter().enumerate() {
        let fresh = args.fresh && i == 0;
        let Some(report) = session.tune(batch as usize, size, &[main], budget, fresh)? else { continue };
        if out.format == Plain::Text {
            text(out, batch, &report)?;
            out.flush()?;
        }
        batches.push(rows(batch, report));
    }
    let file = session.tuning_file().map(|f| f.display().to_string());
    if out.format == Plain::Json {
        let (model, device) = (&opened.model, &opened.device);
        json(out, &Document { schema_version: SCHEMA_VERSION, model, device, file, batches })?;
    } else if let Some(file) = file {
        talk.note(format_args!("kept in {file}"));
    }
    Ok(0)
}

fn rows(batch: u32, report: Report) -> Batch {
    let row = |m: crate::gpu::tune::Measured| Row {
        key: m.key,
        first: m.label,
        launches: m.launches,
        estimate: m.estimate,
        chosen: m.times[0].0,
        microseconds: m.times,
    };
    let (seconds, known, left) = (report.seconds, report.known, report.left);
    Batch { batch, seconds, known, left, measured: report.measured.into_iter().map(row).collect() }
}

fn text(out: &mut impl Write, batch: u32, report: &Report) -> std::io::Result<()> {
    writeln!(
        out,
        "batch {batch}: {} measured in {:.2} s, {} known before, {} left",
        report.measured.len(),
        report.seconds,
        report.known,
        report.left
    )?;
    for m in &report.measured {
        writeln!(out, "   {}  ({} launches, first {})", m.key, m.launches, m.label)?;
        for (name, time) in &m.times {
            let mark = match (*name == m.times[0].0, *name == m.estimate) {
                (true, true) => "chosen, as estimated",
                (true, false) => "chosen",
                (false, true) => "estimated best",
                (false, false) => "",
            };
            let line = format!("      {name:<20} {time:>10.1} us  {:>5.2}x  {mark}", time / m.times[0].1);
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}
