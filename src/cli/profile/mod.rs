//! `vit-gpu profile`: where the time of a forward pass goes, launch by launch, against what
//! the adapter can do at best.

pub(super) mod args;
use std::io::Write;
use std::path::Path;

mod document;
mod generation;

use super::inspect::facts::default_outputs;
use super::locate::{Located, locate};
use super::open::{self, Opened};
use super::outcome::Outcome;
use super::outfile::OutFile;
use super::output::json;
use super::sink::{self, Sink};
use super::talk::Talk;
use crate::cli::profile::args::{ProfileArgs, Tabular};
use crate::error::{Error, Result};
use crate::gpu::ceilings::Ceilings;
use crate::gpu::timer::{Clock, Timer};
use crate::profile::Profile;
use crate::session::Device;
use crate::train;
use document::{Picture, document, files, heading};

/// Runs the command and yields its exit code.
pub(super) fn run(args: &ProfileArgs, talk: Talk, out: &mut Sink<'_, Tabular>) -> Outcome {
    // What cannot be written should fail before minutes of measuring.
    if let Some(trace) = &args.trace {
        sink::expect_kind(trace, "--trace", "json")?;
    }
    let pictures = [("--trace", &args.trace), ("--roofline", &args.roofline)];
    let pictures: Vec<(&str, &Path)> =
        pictures.into_iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?))).collect();
    out.distinct(&pictures)?;
    if args.generate {
        return generation::run(args, talk, out);
    }
    let trace = args.trace.as_deref().map(OutFile::create).transpose()?;
    let roofline =
        args.roofline.as_deref().map(|path| Ok::<_, Error>((Picture::of(path)?, OutFile::create(path)?)));
    let roofline = roofline.transpose()?;
    let located = match &args.synthetic {
        Some(name) => Located::synthetic(name),
        None => locate(&args.model, talk)?,
    };
    let found = located.read(!args.model.no_mmap)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    if options.device == Device::Reference {
        let what = "--device reference has no launches to measure";
        return Err(Error::usage(what, "choose an adapter of `vit-gpu devices`").into());
    }
    let opened = open::open(found, &options, talk)?;
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
    let own = session.preprocess().size().unwrap_or(session.info().image_size);
    let size = args.image_size.unwrap_or(own);
    let all = session.output_names(size)?;
    let outputs = default_outputs(&all);
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let batch = args.batch_size as usize;
    let mut prepared = match args.train {
        true => train::prepare_images(session, batch)?,
        false => session.prepare(batch, size, &names)?,
    };
    let runs = args.runs as usize;
    let mut bar = talk.progress("rounds", runs as u64, false);
    let profile = Profile::measure(session, &mut prepared, &mut timer, ceilings, runs, &mut |done| {
        bar.at(done as u64);
    })?;
    Ok((profile, !measured))
}
