//! `vit-gpu verify`: a model's outputs against recorded ones, the answer to "is it right?"
//! for any checkpoint. It compares what it can and counts what it cannot as failed: silence is never
//! agreement.

use crate::printable::escaped;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, Plain, tolerance};
use super::locate::locate;
use super::open;
use super::outcome::{FAILED, Outcome};
use super::outfile;
use super::output::{SCHEMA_VERSION, json};
use super::sink::{Sink, SinkArgs};
use super::talk::Talk;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::open::AnySession;
use crate::plan::Precision;
use crate::session::{ModelFiles, Options};
use crate::textfile;
use crate::verify::compare::{Tolerance, Verdict};
use crate::verify::training::tolerances;
use crate::verify::{images, pairs, sequences, texts};
use clap::Args;
use std::path::PathBuf;

pub(super) const VERIFY_HELP: &str = "\
Examples:
    vit-gpu verify -m FOLDER
    vit-gpu verify -m FOLDER --golden recorded.safetensors --format json
    vit-gpu verify -m FOLDER --training

The golden file holds `in.pixel_values` (B,3,H,W) and any of `out.logits`, `out.hidden.N`,
`out.attention.N`, `out.last_hidden_state`, `out.pooler_output`, `out.image_embeds`, `out.features`,
`out.cls_logits`, `out.distillation_logits`, `out.embedding`. Images of another size are
`in.pixel_values.SUFFIX` with `out.interpolated.SUFFIX`. Of models of two towers also `in.input_ids` and
`in.attention_mask` (B,T), of NaFlex `in.spatial_shapes` (B,2) beside rows of pixels: `out.text_embeds` and
`out.image_embeds` at length 1, `out.logits_per_image`.

The file of --training holds the batch (`in.*`), `losses` (before each step, and after the last),
`grad_norm`, and `grad.NAME` and `after.NAME` for each trained tensor; a .json beside it the settings
of AdamW and which tensors decay, and `noise` if the model magnifies rounding: how far losses and
gradients in f32 are from those in f64. A gradient is compared by the length of the difference.

max rel is taken over the elements whose expected size is above the absolute tolerance. For logits,
the first class must agree too, unless the expected first two are closer than the tolerance.

Exit code 0 if every output agrees, 1 if one does not or cannot be produced.";

/// Most bytes of a recorded run's settings.
const MOST_SETTINGS: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Recorded inputs and outputs [default: golden.safetensors in the folder of the model, or of
    /// the adapter]
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// Compare a recorded training run instead: losses, gradients, weights after its steps [default:
    /// training.safetensors in the model's folder, settings beside it as .json]
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["golden", "atol", "rtol"])]
    pub training: Option<Option<PathBuf>>,
    /// Absolute tolerance [default: 1e-4, with --dtype f16 2e-2]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub atol: Option<f32>,
    /// Tolerance relative to the expected value [default: 1e-4, with --dtype f16 2e-2]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub rtol: Option<f32>,
    /// Skip outputs that the model cannot produce
    #[arg(long)]
    pub allow_missing: bool,
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
    outputs: &'a [Verdict],
    pass: bool,
}

/// Runs the command and yields its exit code: 1 if an output differs or is missing.
pub(super) fn run(args: &VerifyArgs, talk: Talk, out: &mut Sink<'_, Plain>) -> Outcome {
    if args.model.model.is_none() && args.golden.is_none() && args.training.is_none() {
        return Err(Error::usage(
            "no model to verify",
            "pass -m DIR, or --golden FILE for the built-in model",
        )
        .into());
    }
    let found = locate(&args.model, talk)?.read(!args.model.no_mmap)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    if let Some(path) = &args.training {
        return training(args, path.as_deref(), found.files, &options, talk, out);
    }
    let path = match (&args.golden, recorded_in(&found.files)) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => folder.join("golden.safetensors"),
        (None, None) => {
            return Err(
                Error::usage("the built-in model has no recorded outputs", "pass --golden FILE").into()
            );
        }
    };
    let usual = if options.precision == Some(Precision::F16) { 2e-2 } else { 1e-4 };
    let tolerance = Tolerance { atol: args.atol.unwrap_or(usual), rtol: args.rtol.unwrap_or(usual) };
    let session = AnySession::from_files(found.files, &options)?;
    let (device, precision, warnings) = match &session {
        AnySession::Text(session) => (session.device(), session.precision(), session.warnings()),
        AnySession::Generator(generator) => (generator.device(), generator.precision(), generator.warnings()),
        AnySession::Vision(session) => (session.device(), session.precision(), session.warnings()),
        AnySession::Dual(model) => {
            let session = model.images();
            (session.device(), session.precision(), session.warnings())
        }
    };
    open::say_device(device, talk);
    warnings.iter().for_each(|w| talk.warn(w));
    let golden = recorded(&path, options.mmap, "out.", "--golden")?;
    let verdicts = match &session {
        AnySession::Text(session) => texts::verdicts(session, &golden, tolerance)?,
        AnySession::Generator(generator) => sequences::verdicts(generator, &golden, tolerance)?,
        AnySession::Vision(session) => images::verdicts(session, &golden, tolerance)?,
        AnySession::Dual(model) => pairs::verdicts(model, &golden, tolerance)?,
    };
    if out.format == Plain::Text {
        verdicts.iter().try_for_each(|v| line(v, args.allow_missing, out))?;
    }
    let near = format!("{:e} + {:e}|x|", tolerance.atol, tolerance.rtol);
    conclude(args, verdicts, [&device.name, &precision.to_string()], &near, out)
        .inspect(|&compared| {
            if compared.0 == 0 {
                talk.warn(format_args!("{}: nothing could be compared", path.display()));
            }
        })
        .map(|(_, code)| code)
}

/// Where outputs of a model are recorded: what an adapter makes of it, beside the adapter.
fn recorded_in(files: &ModelFiles) -> Option<&Path> {
    let adapter = files.adapter.as_ref().and_then(|adapter| adapter.folder.as_deref());
    adapter.or(files.folder.as_deref())
}

/// Steps of training against recorded ones.
fn training(
    args: &VerifyArgs,
    path: Option<&Path>,
    files: ModelFiles,
    options: &Options,
    talk: Talk,
    out: &mut Sink<'_, Plain>,
) -> Outcome {
    let path = match (path, recorded_in(&files)) {
        (Some(path), _) => path.to_owned(),
        (None, Some(folder)) => folder.join("training.safetensors"),
        (None, None) => {
            let what = "the built-in model has no recorded training run";
            return Err(Error::usage(what, "pass --training FILE").into());
        }
    };
    let recorded = recorded(&path, options.mmap, "losses", "--training")?;
    let settings = path.with_extension("json");
    let read = textfile::read_json(&settings, MOST_SETTINGS);
    let json =
        read.map_err(|wrong| Error::model(settings.display(), wrong.what, wrong.help))?.ok_or_else(|| {
            let help = "a recorded run has its settings (lr, betas, eps, weight_decay, …) beside it";
            Error::model(settings.display(), "is not there", help)
        })?;
    let (verdicts, device) = crate::verify::training::verdicts(files, options, &recorded, &json)?;
    open::say_device(&device, talk);
    if out.format == Plain::Text {
        verdicts.iter().try_for_each(|v| line(v, args.allow_missing, out))?;
    }
    let name = [&device.name[..], "f32"];
    let (_, code) = conclude(args, verdicts, name, &tolerances(&json), out)?;
    Ok(code)
}

/// Prints the last line, or the document; yields how many outputs were compared and the exit code.
fn conclude(
    args: &VerifyArgs,
    mut verdicts: Vec<Verdict>,
    [device, dtype]: [&str; 2],
    tolerance: &str,
    out: &mut Sink<'_, Plain>,
) -> Result<(usize, u8), super::outcome::Stop> {
    let compared = verdicts.iter().filter(|v| !v.missing).count();
    if args.allow_missing {
        verdicts.iter_mut().filter(|v| v.missing).for_each(|v| v.pass = true);
    }
    let pass = compared > 0 && verdicts.iter().all(|v| v.pass);
    match out.format {
        Plain::Json => json(out, &Document { schema_version: SCHEMA_VERSION, outputs: &verdicts, pass })?,
        Plain::Text => {
            let agree = verdicts.iter().filter(|v| v.pass && !v.missing).count();
            let word = if pass { "pass" } else { "FAIL" };
            writeln!(
                out,
                "{word}: {agree} of {compared} outputs agree, {} not produced ({}, {}, tolerance {})",
                verdicts.len() - compared,
                device,
                dtype,
                tolerance
            )?;
        }
    }
    Ok((compared, if pass { 0 } else { FAILED }))
}

fn line(v: &Verdict, allow_missing: bool, out: &mut impl Write) -> io::Result<()> {
    let number = |x: Option<f32>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.2e}"));
    let shape = format!("{:?}", v.shape).replace(' ', "");
    let word = match (v.pass, v.missing && allow_missing) {
        (_, true) => "skipped",
        (true, _) => "pass",
        (false, _) => "FAIL",
    };
    write!(
        out,
        "{:<24} {shape:<16} max abs {:<9} {} {:<9} {word}",
        escaped(&v.name),
        number(v.max_abs),
        if v.of_norm.is_some() { "of norm" } else { "max rel" },
        number(v.of_norm.or(v.max_rel))
    )?;
    match &v.reason {
        Some(reason) => writeln!(out, ": {}", escaped(reason))?,
        None => writeln!(out)?,
    }
    out.flush()
}

/// A file of recorded inputs and outputs, with tensors that are named so; `flag` names another.
fn recorded(path: &Path, mmap: bool, start: &str, flag: &str) -> Result<Checkpoint> {
    let name = path.display();
    if !path.exists() {
        let help = format!("pass {flag} FILE, a safetensors file: `vit-gpu verify --help` lists its tensors");
        return Err(Error::model(name, "there are no recorded outputs", help));
    }
    outfile::protect(path)?;
    let file = Checkpoint::open(path, mmap)?;
    if !file.index().keys().any(|n| n.starts_with(start)) {
        let help = "see `vit-gpu verify --help` for the names";
        return Err(Error::model(name, format!("holds no tensor named {start}*"), help));
    }
    Ok(file)
}
