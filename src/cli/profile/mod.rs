//! `vit-gpu profile`: where the time of a forward pass goes, launch by launch, against what
//! the adapter can do at best.

pub(super) mod args;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

mod generation;

use super::open::{self, Opened};
use super::outcome::Outcome;
use super::outfile::{OutFile, distinct};
use super::output::{DeviceFacts, ModelFacts, SCHEMA_VERSION, json};
use super::sink::{self, Sink};
use super::talk::Talk;
use crate::cli::profile::args::{ProfileArgs, Tabular};
use crate::error::{Error, Result};
use crate::gpu::ceilings::Ceilings;
use crate::gpu::timer::{Clock, Timer};
use crate::profile::{Profile, Row, Totals};
use crate::session::{Device, ModelSource};

/// What was measured, as JSON. Times in microseconds where the name says so.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    model: ModelFacts,
    device: DeviceFacts,
    /// `GPU timestamps` or `wall clock`.
    clock: &'static str,
    batch: usize,
    image_size: [usize; 2],
    runs: usize,
    ceilings: Ceilings,
    totals: Totals,
    kernels: Vec<Row>,
    layers: Vec<Row>,
    launches: Vec<Value>,
    remarks: Vec<String>,
}

/// Runs the command and yields its exit code.
pub(super) fn run(args: &ProfileArgs, talk: Talk, out: &mut Sink<'_, Tabular>) -> Outcome {
    // What cannot be written should fail before minutes of measuring.
    if let Some(trace) = &args.trace {
        sink::expect_kind(trace, "--trace", "json")?;
    }
    let pictures = [("--trace", &args.trace), ("--roofline", &args.roofline)];
    let pictures: Vec<(&str, &Path)> =
        pictures.into_iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?))).collect();
    distinct(&pictures, &[])?;
    out.spare(&pictures.iter().map(|(_, path)| *path).collect::<Vec<_>>(), None)?;
    if args.generate {
        return generation::run(args, talk, out);
    }
    let trace = args.trace.as_deref().map(OutFile::create).transpose()?;
    let roofline =
        args.roofline.as_deref().map(|path| Ok::<_, Error>((Picture::of(path)?, OutFile::create(path)?)));
    let roofline = roofline.transpose()?;
    let (id, source) = match &args.synthetic {
        Some(name) => (name.clone(), ModelSource::Synthetic(name.clone())),
        None => open::locate(&args.model, talk)?,
    };
    let options = open::options(&args.device, !args.model.no_mmap)?;
    if options.device == Device::Reference {
        let what = "--device reference has no launches to measure";
        return Err(Error::usage(what, "choose an adapter of `vit-gpu devices`").into());
    }
    let opened = open::open_with(id, source, &options, talk)?;
    let (profile, kept) = measure(args, &opened, talk)?;
    for warning in opened.session.warnings() {
        talk.warn(warning);
    }
    let Opened { model, device, .. } = opened;
    files(&profile, &model, &device, trace, roofline)?;
    match out.format {
        Tabular::Json => json(out, &document(&profile, model, device))?,
        Tabular::Csv => write!(out, "{}", profile.csv())?,
        Tabular::Md => {
            writeln!(out, "{}\n\n{}", heading(&profile, &model, &device), profile.markdown())?;
        }
        Tabular::Text => {
            writeln!(out, "{}", heading(&profile, &model, &device))?;
            write!(out, "{}", profile.text())?;
        }
    }
    if kept {
        talk.detail("the roofs were measured earlier; --fresh measures them again");
    }
    out.flush()?;
    Ok(0)
}

/// Writes the trace and the picture that were asked for.
fn files(
    profile: &Profile,
    model: &ModelFacts,
    device: &DeviceFacts,
    trace: Option<OutFile>,
    roofline: Option<(Picture, OutFile)>,
) -> Result<()> {
    if let Some(file) = trace {
        let json = profile.trace(&model.id, &device.name);
        file.finish(format!("{json}\n").as_bytes())?;
    }
    if let Some((picture, file)) = roofline {
        let scene = profile.roofline(&format!("{} {}", model.id, model.dtype), &device.name);
        match picture {
            Picture::Svg => file.finish(scene.svg().as_bytes())?,
            Picture::Png => file.finish(&scene.png()?)?,
        }
    }
    Ok(())
}

/// Measures; true if the ceilings were known already.
fn measure(args: &ProfileArgs, opened: &Opened, talk: Talk) -> Result<(Profile, bool)> {
    let session = &opened.session;
    let Some(gpu) = session.gpu() else { unreachable!("run refuses the reference") };
    let mut timer = Timer::new(gpu)?;
    if let Clock::Wall(reason) = timer.clock() {
        talk.warn(format_args!("times are by wall clock: {reason}"));
    }
    let cache = open::cache_dir();
    let (ceilings, measured) = Ceilings::of(&mut timer, cache.as_deref(), args.fresh)?;
    if measured {
        talk.detail(format_args!("measured the adapter's roofs in {:.1} s", ceilings.took));
    }
    let own = session.preprocess().size().map_or(session.info().image_size, |(h, w)| [h, w]);
    let size = args.image_size.unwrap_or(own);
    let all = session.output_names(size)?;
    let outputs = super::inspect::default_outputs(&all);
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut prepared = session.prepare(args.batch_size as usize, size, &names)?;
    let runs = args.runs as usize;
    let mut bar = talk.progress("rounds", runs as u64, false);
    let profile = Profile::measure(session, &mut prepared, &mut timer, ceilings, runs, &mut |done| {
        bar.at(done as u64);
    })?;
    Ok((profile, !measured))
}

/// What was measured on what, in two lines.
fn heading(profile: &Profile, model: &ModelFacts, device: &DeviceFacts) -> String {
    let [height, width] = profile.size;
    let rounds = match profile.rounds.len() {
        1 => "one round".to_owned(),
        n => format!("medians of {n} rounds"),
    };
    format!(
        "{} {}, batch {}, {height}x{width} pixels, on {} ({}, {})\n{}, {rounds}; vit-gpu {}",
        model.id,
        model.dtype,
        profile.batch,
        device.name,
        device.kind,
        device.driver,
        match profile.clock {
            Clock::Gpu => "GPU timestamps",
            Clock::Wall(_) => "Wall clock",
        },
        env!("CARGO_PKG_VERSION"),
    )
}

fn document(profile: &Profile, model: ModelFacts, device: DeviceFacts) -> Document {
    let launches = profile.launches.iter().map(|l| {
        let times: Vec<f64> = l.times.iter().map(|t| t / 1e3).collect();
        json!({
            "label": l.label, "kernel": l.kernel, "shapes": l.shapes, "dtype": l.dtype,
            "flops": l.cost.flops, "bytes": l.cost.bytes, "times_us": times,
        })
    });
    Document {
        schema_version: SCHEMA_VERSION,
        clock: profile.clock.name(),
        batch: profile.batch,
        image_size: profile.size,
        runs: profile.rounds.len(),
        ceilings: profile.ceilings.clone(),
        totals: profile.totals(),
        kernels: profile.kernels(),
        layers: profile.layers(),
        launches: launches.collect(),
        remarks: profile.remarks(),
        model,
        device,
    }
}

/// The form of a picture, by the name of its file.
enum Picture {
    Svg,
    Png,
}

impl Picture {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Picture::Svg),
            Some("png") => Ok(Picture::Png),
            _ => {
                let what = format!("--roofline {}: the name ends in neither .svg nor .png", path.display());
                Err(Error::usage(what, "name it roofline.svg or roofline.png"))
            }
        }
    }
}
