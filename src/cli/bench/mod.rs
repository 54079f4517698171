//! `vit-gpu bench`: how fast whole models are on this machine, every combination of model,
//! storage type, device and batch a row, in the manner of llama-bench; and how long a process takes
//! from its start to its first answer, with and without what earlier ones left on disk.

pub(super) mod args;
mod report;
mod start;
mod subject;

use std::io::Write;

use super::locate::Found;
use super::open;
use super::outcome::{FAILED, Outcome};
use super::talk::Talk;
use crate::cli::bench::args::{BenchArgs, Rows};
use crate::cli::sink::Sink;
use crate::error::{Error, Result};
use crate::session::{ModelKind, Session};
use crate::tensor::Size;
use report::{Report, Row, Stats};
use start::Start;
use subject::{Subject, forget_peak, name_of, outputs, peak, subjects};

/// Runs the command and yields its exit code: 1 if a row could not be measured.
pub(super) fn run(args: &BenchArgs, talk: Talk, out: &mut Sink<'_, Rows>) -> Outcome {
    let subjects = subjects(args, talk)?;
    if let Some(begun) = args.answer_once {
        let subject = subjects.first().ok_or_else(nothing)?;
        let start = start::answer(args, subject, begun, talk)?;
        serde_json::to_writer(&mut *out, &start).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(0);
    }
    // What cannot be measured is refused before the rest is.
    let read = |subject: &Subject| {
        let found = subject.located.clone().read(!args.no_mmap)?;
        found.expect(ModelKind::Vision)?;
        Ok(found)
    };
    let models = subjects.iter().map(read).collect::<Result<Vec<Found>>>()?;
    let format = out.format;
    let mut report = Report::new(out, format, args.device.len() > 1, &subjects);
    report.begin()?;
    let mut failed = false;
    for (subject, found) in subjects.iter().zip(models) {
        let what = format!("{} {}", found.id, name_of(subject.device.dtype));
        talk.detail(&what);
        let options = open::options(&subject.device, !args.no_mmap, talk)?;
        let opened = match open::open(found, &options, talk) {
            Ok(opened) => opened,
            // A storage type that one of several devices does not have is a row, not the end.
            Err(e @ Error::NoDevice { .. }) if subjects.len() > 1 => {
                failed = true;
                talk.warn(format_args!("{what}: {}", e.message()));
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let blank = Row::blank(&opened.model, &opened.device);
        let own = opened.session.preprocess().size();
        let own = own.unwrap_or(opened.session.info().image_size);
        let size = args.image_size.unwrap_or(own);
        for &batch in &args.batch_size {
            let row = Row { batch, image_size: size, ..blank.clone() };
            match time(args, &opened.session, batch as usize, size, talk) {
                Ok(timed) => {
                    let images = timed.samples.iter().map(|ms| f64::from(batch) * 1e3 / ms);
                    report.row(Row {
                        images_per_second: Some(Stats::of(images)),
                        ms: Some(Stats::of(timed.samples.iter().copied())),
                        samples_ms: timed.samples,
                        peak_device_bytes: Some(timed.device_bytes),
                        peak_host_bytes: timed.host_bytes,
                        ..row
                    })?;
                }
                Err(e @ (Error::OutOfMemory { .. } | Error::Limit { .. })) => {
                    failed = true;
                    report.row(Row { error: Some(e.message()), ..row })?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        // The device is free for other processes before they start.
        drop(opened);
        let row = Row { batch: args.batch_size[0], image_size: size, ..blank };
        match start::spawn(args, subject, talk) {
            Ok(starts) => {
                for (test, starts) in starts {
                    report.row(started(row.clone(), test, starts))?;
                }
            }
            Err(e) => {
                failed = true;
                report.row(Row { test: "start", error: Some(e.message()), ..row })?;
            }
        }
    }
    report.end()?;
    Ok(if failed { FAILED } else { 0 })
}

/// What a row of runs is made of.
struct Timed {
    /// Milliseconds from pixels on the host to results on the host.
    samples: Vec<f64>,
    device_bytes: u64,
    host_bytes: Option<u64>,
}

fn time(args: &BenchArgs, session: &Session, batch: usize, size: Size, talk: Talk) -> Result<Timed> {
    forget_peak();
    let outputs = outputs(session, size)?;
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut prepared = session.prepare(batch, size, &names)?;
    let mut bar = talk.progress("runs", u64::from(args.warmup + args.runs), false);
    for i in 0..args.warmup {
        prepared.run()?;
        bar.at(u64::from(i) + 1);
    }
    if let (Some(gpu), true) = (session.gpu(), args.warmup > 0) {
        gpu.raise_clocks()?;
    }
    let mut samples = Vec::with_capacity(args.runs as usize);
    for i in 0..args.runs {
        samples.push(prepared.run()? * 1e3);
        bar.at(u64::from(args.warmup + i) + 1);
    }
    let weights = prepared.plan().weight_bytes();
    Ok(Timed { samples, device_bytes: weights + prepared.device_bytes(), host_bytes: peak() })
}

/// A row of starts.
fn started(row: Row, test: &'static str, starts: Vec<Start>) -> Row {
    let samples: Vec<f64> = starts.iter().map(|s| s.total).collect();
    Row {
        test,
        ms: Some(Stats::of(samples.iter().copied())),
        samples_ms: samples,
        peak_device_bytes: starts.iter().map(|s| s.device_bytes).max(),
        peak_host_bytes: starts.iter().filter_map(|s| s.host_bytes).max(),
        starts,
        ..row
    }
}

fn nothing() -> Error {
    Error::usage("nothing to measure", "pass -m or --synthetic")
}
