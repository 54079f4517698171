//! `vit-gpu profile --generate`: prompt, token and image of a generative model apart, each as
//! a profile of its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::document::{Document, Picture, document, files, heading};
use crate::cli::generate::DEFAULT_MODEL;
use crate::cli::locate::{Located, locate_or};
use crate::cli::open;
use crate::cli::outcome::Outcome;
use crate::cli::outfile::OutFile;
use crate::cli::output::json as print_json;
use crate::cli::profile::args::{ProfileArgs, Tabular};
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::error::Error;
use crate::generate::Generator;
use crate::gpu::ceilings::Ceilings;
use crate::gpu::timer::{Clock, Timer};
use crate::profile::Profile;
use crate::session::{Device, ModelKind};

/// Runs the command and yields its exit code.
pub(super) fn run(args: &ProfileArgs, talk: Talk, out: &mut Sink<'_, Tabular>) -> Outcome {
    // What cannot be written should fail before minutes of measuring.
    if let Some(path) = &args.roofline {
        Picture::of(path)?;
    }
    let located = match &args.synthetic {
        Some(name) => Located::synthetic(name),
        None => locate_or(&args.model, DEFAULT_MODEL, talk)?,
    };
    let found = located.read(!args.model.no_mmap)?;
    found.expect(ModelKind::Generator)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    if options.device == Device::Reference {
        let what = "--device reference has no launches to measure";
        return Err(Error::usage(what, "choose an adapter of `vit-gpu devices`").into());
    }
    let generator = Generator::from_files(found.files, &options)?;
    let samples = args.batch_size as usize;
    let mut parts = generator.prepare(samples)?;
    let Some(gpu) = generator.gpu() else { unreachable!("the reference is refused above") };
    let mut timer = Timer::new(gpu)?;
    if let Clock::Wall(reason) = timer.clock() {
        talk.warn(format_args!("times are by wall clock: {reason}"));
    }
    let (ceilings, _) = Ceilings::of(&mut timer, open::cache_dir().as_deref(), args.fresh)?;
    let info = generator.info();
    let mut documents: Vec<(&str, Document)> = Vec::new();
    for (part, prepared) in &mut parts {
        let of =
            |path: &Option<PathBuf>| path.as_deref().map(|p| OutFile::create(&named(p, part))).transpose();
        let trace = of(&args.trace)?;
        let picture = args.roofline.as_deref().map(Picture::of).transpose()?;
        let roofline = picture.zip(of(&args.roofline)?);
        let runs = args.runs as usize;
        let mut bar = talk.progress(part, runs as u64, false);
        let what = (samples, info.image_size);
        let profile = Profile::measure_plan(
            prepared,
            what,
            &|| Ok(()),
            &mut timer,
            ceilings.clone(),
            runs,
            &mut |done| {
                bar.at(done as u64);
            },
        )?;
        drop(bar);
        let model = open::generator_facts(format!("{} {part}", found.id), &generator);
        let device = open::device_facts(generator.device());
        files(&profile, &model, &device, trace, roofline)?;
        match out.format {
            Tabular::Json => documents.push((part, document(&profile, model, device))),
            Tabular::Csv => write!(out, "{}", profile.csv())?,
            Tabular::Md => writeln!(out, "{}\n\n{}", heading(&profile, &model, &device), profile.markdown())?,
            Tabular::Text => {
                writeln!(out, "{}", heading(&profile, &model, &device))?;
                writeln!(out, "{}", profile.text())?;
            }
        }
        out.flush()?;
    }
    for warning in generator.warnings() {
        talk.warn(warning);
    }
    if out.format == Tabular::Json {
        let parts: Vec<_> = documents.iter().map(|(part, d)| json!({"part": part, "profile": d})).collect();
        print_json(out, &json!({ "parts": parts }))?;
    }
    out.flush()?;
    Ok(0)
}

/// `roofline.png` as `roofline-token.png`.
fn named(path: &Path, part: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{part}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_part() {
        assert_eq!(named(Path::new("a/roof.line.png"), "token"), Path::new("a/roof.line-token.png"));
        assert_eq!(named(Path::new("trace"), "prompt"), Path::new("trace-prompt"));
    }
}
