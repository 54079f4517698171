//! `vit-gpu bench`: how fast whole models are on this machine, every combination of model,
//! storage type, device and batch a row, in the manner of llama-bench; and how long a process takes
//! from its start to its first answer, with and without what earlier ones left on disk.

pub(super) mod args;
mod report;
mod start;

use std::io::Write;
use std::time::Instant;

use super::args::{DeviceArgs, DtypeArg, ModelArgs};
use super::open;
use super::outcome::{FAILED, Outcome};
use super::talk::Talk;
use crate::cli::bench::args::{BenchArgs, Rows};
use crate::cli::sink::Sink;
use crate::error::{Error, Result};
use crate::session::{Device, ModelKind, ModelSource, Session};
use report::{Report, Row, Stats};
use start::Start;

/// What is measured: one model in one storage type on one device.
struct Subject {
    id: String,
    source: ModelSource,
    /// Flag and value by which another process means the same model.
    flag: [std::ffi::OsString; 2],
    device: DeviceArgs,
}

/// Runs the command and yields its exit code: 1 if a row could not be measured.
pub(super) fn run(args: &BenchArgs, talk: Talk, out: &mut Sink<'_, Rows>) -> Outcome {
    let subjects = subjects(args, talk)?;
    if let Some(begun) = args.answer_once {
        let subject = subjects.first().ok_or_else(nothing)?;
        let start = start::answer(args, subject, begun)?;
        serde_json::to_writer(&mut *out, &start).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(0);
    }
    let format = out.format;
    let mut report = Report::new(out, format, args.device.len() > 1, &subjects);
    report.begin()?;
    let mut failed = false;
    for subject in &subjects {
        talk.detail(format_args!("{} {}", subject.id, name_of(subject.device.dtype)));
        let opened = match open::open_with(
            subject.id.clone(),
            subject.source.clone(),
            &open::options(&subject.device, !args.no_mmap)?,
            talk,
        ) {
            Ok(opened) => opened,
            // A storage type that one of several devices does not have is a row, not the end.
            Err(e @ Error::NoDevice { .. }) if subjects.len() > 1 => {
                failed = true;
                talk.warn(format_args!("{} {}: {e}", subject.id, name_of(subject.device.dtype)));
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let blank = Row::blank(&opened.model, &opened.device);
        let own = opened.session.preprocess().size();
        let own = own.map_or(opened.session.info().image_size, |(h, w)| [h, w]);
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
                    report.row(Row { error: Some(e.to_string()), ..row })?;
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
                report.row(Row { test: "start", error: Some(e.to_string()), ..row })?;
            }
        }
    }
    report.end()?;
    Ok(if failed { FAILED } else { 0 })
}

/// Every combination of model, storage type and device, each model's together.
fn subjects(args: &BenchArgs, talk: Talk) -> Result<Vec<Subject>> {
    let mut models = Vec::new();
    for name in &args.synthetic {
        // Refuses names that do not exist before anything is measured.
        open::expect(ModelKind::Vision, name, &ModelSource::Synthetic(name.clone()))?;
        let made = crate::synthetic::vision::Synthetic::named(name)?;
        let source = ModelSource::Synthetic(made.name().to_owned());
        models.push((made.name().to_owned(), source, ["--synthetic".into(), made.name().into()]));
    }
    for model in &args.model {
        let one = ModelArgs { model: Some(model.clone()), offline: args.offline, no_mmap: args.no_mmap };
        let (id, source) = open::locate(&one, talk)?;
        models.push((id, source, ["-m".into(), model.clone()]));
    }
    if models.is_empty() {
        // Not by clap: a model of the environment must not join one that was named.
        let model = std::env::var_os("VIT_GPU_MODEL");
        let one = ModelArgs { model, offline: args.offline, no_mmap: args.no_mmap };
        let (id, source) = open::locate(&one, talk)?;
        models.push((id.clone(), source, ["-m".into(), id.into()]));
    }
    let devices: Vec<Option<String>> = match args.device.as_slice() {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    let mut subjects = Vec::new();
    for (id, source, flag) in models {
        for device in &devices {
            for &dtype in &args.dtype {
                let device = DeviceArgs {
                    device: device.clone(),
                    backend: args.backend.clone(),
                    disable: args.disable.clone(),
                    dtype,
                    variant: args.variant.clone(),
                    no_tune: args.no_tune,
                    checked: args.checked,
                };
                if open::device(&device)? == Device::Reference {
                    let what = "--device reference is not there to be fast";
                    return Err(Error::usage(what, "choose an adapter of `vit-gpu devices`"));
                }
                let (id, source, flag) = (id.clone(), source.clone(), flag.clone());
                subjects.push(Subject { id, source, flag, device });
            }
        }
    }
    Ok(subjects)
}

/// What a row of runs is made of.
struct Timed {
    /// Milliseconds from pixels on the host to results on the host.
    samples: Vec<f64>,
    device_bytes: u64,
    host_bytes: Option<u64>,
}

fn time(args: &BenchArgs, session: &Session, batch: usize, size: [usize; 2], talk: Talk) -> Result<Timed> {
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

/// What `infer` would compute.
fn outputs(session: &Session, size: [usize; 2]) -> Result<Vec<String>> {
    Ok(super::inspect::default_outputs(&session.output_names(size)?))
}

fn nothing() -> Error {
    Error::usage("nothing to measure", "pass -m or --synthetic")
}

fn name_of(dtype: DtypeArg) -> &'static str {
    match dtype {
        DtypeArg::Auto | DtypeArg::F32 => "f32",
        DtypeArg::F16 => "f16",
    }
}

/// The most memory that this process has had at a time, in bytes, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Starts the count of [`peak`] anew, where the system can.
fn forget_peak() {
    _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Seconds since an instant, as milliseconds.
fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
