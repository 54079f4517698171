//! `vit-gpu verify`: a model's outputs against recorded ones, the answer to "is it right?"
//! for any checkpoint. It compares what it can and counts what it cannot as failed: silence is never
//! agreement.

use crate::printable::escaped;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::args::{DeviceArgs, ModelArgs, Plain, tolerance};
use super::open::{self, Opened};
use super::outcome::{FAILED, Outcome};
use super::output::json;
use super::sink::{Sink, SinkArgs};
use super::talk::Talk;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::generate::Generator;
use crate::plan::Precision;
use crate::session::{self, ModelKind, Session};
use crate::text::TextSession;
use crate::verify::compare::{Tolerance, Verdict, compare};
use crate::verify::{sequences, texts};
use clap::Args;
use std::path::PathBuf;

pub(super) const VERIFY_HELP: &str = "\
The golden file holds `in.pixel_values` (B,3,H,W) and any of `out.logits`, `out.hidden.N`,
`out.attention.N`, `out.last_hidden_state`, `out.pooler_output`, `out.image_embeds`, `out.features`,
`out.cls_logits`, `out.distillation_logits`, `out.embedding`. Pictures of another size are
`in.pixel_values.SUFFIX` with `out.interpolated.SUFFIX`.

max rel is taken over the elements whose expected size is above the absolute tolerance. For logits,
the first class must agree too, unless the expected first two are closer than the tolerance.

Exit code 0 if every output agrees, 1 if one does not or cannot be produced.";

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Recorded inputs and outputs [default: golden.safetensors in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// Absolute tolerance [default: 1e-4, with --dtype f16 2e-2]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub atol: Option<f32>,
    /// Tolerance relative to the expected value [default: 1e-4, with --dtype f16 2e-2]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub rtol: Option<f32>,
    /// Pass over outputs that the model cannot produce
    #[arg(long)]
    pub allow_missing: bool,
    #[command(flatten)]
    pub sink: SinkArgs<Plain>,
}

/// Name of the one input every model takes.
const IMAGE: &str = "in.pixel_values";

#[derive(Serialize)]
struct Document<'a> {
    outputs: &'a [Verdict],
    pass: bool,
}

/// Runs the command and yields its exit code: 1 if an output differs or is missing.
pub(super) fn run(args: &VerifyArgs, talk: Talk, out: &mut Sink<'_, Plain>) -> Outcome {
    if args.model.model.is_none() && args.golden.is_none() {
        return Err(Error::usage(
            "no model to verify",
            "pass -m DIR, or --golden FILE for the built-in model",
        )
        .into());
    }
    let (id, source) = open::locate(&args.model, talk)?;
    let options = open::options(&args.device, !args.model.no_mmap)?;
    let path = match (&args.golden, open::folder(&source)) {
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
    let kind = session::kind(&source);
    let (verdicts, device, dtype) = if kind == ModelKind::Text {
        let session = TextSession::open(&source, &options)?;
        session.warnings().iter().for_each(|w| talk.warn(w));
        let golden = Golden::open(&path, !args.model.no_mmap)?;
        let verdicts = texts::verdicts(&session, &golden.file, tolerance)?;
        if out.format == Plain::Text {
            verdicts.iter().try_for_each(|v| line(v, args.allow_missing, out))?;
        }
        (verdicts, session.device().name.clone(), session.precision().to_string())
    } else if kind == ModelKind::Generator {
        let generator = Generator::open(&source, &options)?;
        generator.warnings().iter().for_each(|w| talk.warn(w));
        let golden = Golden::open(&path, !args.model.no_mmap)?;
        let verdicts = sequences::verdicts(&generator, &golden.file, tolerance)?;
        if out.format == Plain::Text {
            verdicts.iter().try_for_each(|v| line(v, args.allow_missing, out))?;
        }
        (verdicts, generator.device().name.clone(), generator.precision().to_string())
    } else {
        let opened = open::open_with(id, source, &options, talk)?;
        opened.session.warnings().iter().for_each(|w| talk.warn(w));
        let golden = Golden::open(&path, !args.model.no_mmap)?;
        let mut verdicts = Vec::new();
        for case in golden.cases() {
            let done = verdicts.len();
            verdicts.extend(case.verify(&golden, &opened, tolerance)?);
            if out.format == Plain::Text {
                verdicts[done..].iter().try_for_each(|v| line(v, args.allow_missing, out))?;
            }
        }
        (verdicts, opened.device.name.clone(), opened.model.dtype.clone())
    };
    conclude(args, verdicts, [&device, &dtype], tolerance, out)
        .inspect(|&compared| {
            if compared.0 == 0 {
                talk.warn(format_args!("{}: nothing could be compared", path.display()));
            }
        })
        .map(|(_, code)| code)
}

/// Prints the last line, or the document; yields how many outputs were compared and the exit code.
fn conclude(
    args: &VerifyArgs,
    mut verdicts: Vec<Verdict>,
    [device, dtype]: [&str; 2],
    tolerance: Tolerance,
    out: &mut Sink<'_, Plain>,
) -> Result<(usize, u8), super::outcome::Stop> {
    let compared = verdicts.iter().filter(|v| !v.missing).count();
    if args.allow_missing {
        verdicts.iter_mut().filter(|v| v.missing).for_each(|v| v.pass = true);
    }
    let pass = compared > 0 && verdicts.iter().all(|v| v.pass);
    match out.format {
        Plain::Json => json(out, &Document { outputs: &verdicts, pass })?,
        Plain::Text => {
            let agree = verdicts.iter().filter(|v| v.pass && !v.missing).count();
            let word = if pass { "pass" } else { "FAIL" };
            writeln!(
                out,
                "{word}: {agree} of {compared} outputs agree, {} not produced ({}, {}, tolerance {:e} + {:e}|x|)",
                verdicts.len() - compared,
                device,
                dtype,
                tolerance.atol,
                tolerance.rtol
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
        "{:<24} {shape:<16} max abs {:<9} max rel {:<9} {word}",
        escaped(&v.name),
        number(v.max_abs),
        number(v.max_rel)
    )?;
    match &v.reason {
        Some(reason) => writeln!(out, ": {}", escaped(reason))?,
        None => writeln!(out)?,
    }
    out.flush()
}

/// A file of recorded inputs and outputs.
struct Golden {
    file: Checkpoint,
    name: String,
}

/// One picture size: the input, and the outputs recorded for it.
#[derive(Debug, PartialEq)]
struct Case {
    /// Name of the input tensor; absent if it is not in the file.
    input: Option<String>,
    /// (name in the file, name of the model's output), in the order of the forward pass. The second
    /// is absent where the recorded output is whatever the model's main output is.
    outputs: Vec<(String, Option<String>)>,
    /// Why these outputs cannot be produced.
    reason: Option<String>,
}

impl Golden {
    fn open(path: &Path, mmap: bool) -> Result<Self> {
        let name = path.display().to_string();
        if !path.exists() {
            let help = "pass --golden FILE: a safetensors file with in.pixel_values and out.* tensors";
            return Err(Error::model(name, "there are no recorded outputs", help));
        }
        let file = Checkpoint::open(path, mmap)?;
        if !file.index().keys().any(|n| n.starts_with("out.")) {
            return Err(Error::model(
                name,
                "holds no tensor named out.*",
                "see `vit-gpu verify --help` for the names",
            ));
        }
        Ok(Self { file, name })
    }

    fn cases(&self) -> Vec<Case> {
        cases(self.file.index().keys().map(String::as_str))
    }
}

/// Sorts a file's tensors into cases.
fn cases<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Case> {
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut others = Vec::new();
    for name in names {
        if name.starts_with("out.") {
            outputs.push(name);
        } else if name == IMAGE || name.strip_prefix(IMAGE).is_some_and(|rest| rest.starts_with('.')) {
            inputs.push(name);
        } else if name.starts_with("in.") {
            others.push(name);
        }
    }
    // Another input than the picture decides what was recorded, so nothing recorded can be matched.
    let foreign = (!others.is_empty()).then(|| {
        let list: Vec<String> = others.iter().map(|n| format!("`{n}`")).collect();
        format!("it was recorded with {}, which this model does not take", list.join(", "))
    });
    let mut by_input: BTreeMap<&str, Vec<(String, Option<String>)>> = BTreeMap::new();
    for output in outputs {
        let bare = &output["out.".len()..];
        match bare.strip_prefix("interpolated.") {
            Some(suffix) => by_input.entry(suffix).or_default().push((output.to_owned(), None)),
            None => by_input.entry("").or_default().push((output.to_owned(), Some(bare.to_owned()))),
        }
    }
    let case = |(suffix, mut outputs): (&str, Vec<(String, Option<String>)>)| {
        let wanted = if suffix.is_empty() { IMAGE.to_owned() } else { format!("{IMAGE}.{suffix}") };
        let input = inputs.contains(&wanted.as_str()).then_some(wanted.clone());
        let absent = input.is_none().then(|| format!("the file has no `{wanted}`"));
        outputs.sort_by_key(|(name, output)| (order(output.as_deref()), name.clone()));
        Case { input, outputs, reason: foreign.clone().or(absent) }
    };
    by_input.into_iter().map(case).collect()
}

/// Layers in order, hidden states before attention, what comes after the layers last, scores at the
/// very end: so the first difference that is printed is where things go wrong.
fn order(output: Option<&str>) -> (u8, usize, u8) {
    let Some(output) = output else { return (2, 0, 0) };
    match output.split_once('.').map(|(stem, n)| (stem, n.parse::<usize>())) {
        // hidden.N enters layer N, attention.N happens in it.
        Some(("hidden", Ok(layer))) => (0, layer, 0),
        Some((_, Ok(layer))) => (0, layer, 1),
        _ => (1, 0, u8::from(output.contains("logits"))),
    }
}

impl Case {
    fn verify(&self, golden: &Golden, opened: &Opened, tolerance: Tolerance) -> Result<Vec<Verdict>> {
        let session = &opened.session;
        let missing = |name: &str, reason: String| {
            let shape = golden.file.index().get(name).map(|s| s.dims().to_vec()).unwrap_or_default();
            let (name, reason) = (name.to_owned(), Some(reason));
            Verdict { name, shape, max_abs: None, max_rel: None, pass: false, reason, missing: true }
        };
        let input = match (&self.input, &self.reason) {
            (Some(input), None) => input,
            (_, reason) => {
                let reason = reason.as_deref().unwrap_or("its input is missing");
                return Ok(self.outputs.iter().map(|(name, _)| missing(name, reason.to_owned())).collect());
            }
        };
        let image = golden.file.read(input)?;
        let &[_, _, height, width] = image.shape().dims() else {
            let what = format!("`{input}` has shape {}, expected (B,3,H,W)", image.shape());
            return Err(Error::model(&golden.name, what, "record the model's normalised input"));
        };
        let all = match session.output_names([height, width]) {
            Ok(all) => all,
            Err(e) => return Ok(self.outputs.iter().map(|(name, _)| missing(name, e.to_string())).collect()),
        };
        let mut verdicts: Vec<Option<Verdict>> = Vec::new();
        let mut wanted: Vec<(usize, String)> = Vec::new();
        for (i, (name, output)) in self.outputs.iter().enumerate() {
            verdicts.push(match produced(session, &golden.file, name, output.as_deref(), &all) {
                Ok(output) => {
                    wanted.push((i, output));
                    None
                }
                Err(reason) => Some(missing(name, reason)),
            });
        }
        // One output may be recorded under two names; it is computed once.
        let mut outputs: Vec<&str> = Vec::new();
        for (_, output) in &wanted {
            if !outputs.contains(&output.as_str()) {
                outputs.push(output);
            }
        }
        let results = if outputs.is_empty() { vec![] } else { session.run_tensor(&image, &outputs)? };
        for (i, output) in &wanted {
            let name = &self.outputs[*i].0;
            let want = golden.file.read(name)?;
            let result = outputs.iter().position(|o| o == output).map(|at| &results[at]);
            verdicts[*i] = result.map(|got| compare(name, got, &want, tolerance));
        }
        Ok(verdicts.into_iter().flatten().collect())
    }
}

/// The model's output that a recorded one is to be compared with, or why there is none.
fn produced(
    session: &Session,
    file: &Checkpoint,
    name: &str,
    output: Option<&str>,
    all: &[String],
) -> Result<String, String> {
    let want = file.readable(name).map_err(|e| e.to_string())?;
    let has = |n: &str| all.iter().any(|a| a == n);
    let headless = session.info().classes.is_none();
    match output {
        // Without a head, timm's model returns the pooled features in place of logits.
        Some("logits") if headless && !has("logits") && want.dims().len() == 2 && has("embedding") => {
            Ok("embedding".to_owned())
        }
        Some(output) if has(output) => Ok(output.to_owned()),
        Some(output) => Err(format!("this model does not produce `{output}`")),
        // A recorded main output, known by its rank alone.
        None => {
            let by_rank: &[&str] = match want.dims().len() {
                2 => &["logits", "embedding", "pooler_output", "image_embeds"],
                3 => &["last_hidden_state", "features"],
                _ => &[],
            };
            let found = by_rank.iter().find(|n| has(n));
            found
                .map(|n| (*n).to_owned())
                .ok_or_else(|| format!("no output of this model has {} dimensions", want.dims().len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_sorted_into_cases() {
        let names =
            ["in.pixel_values", "in.pixel_values.28x56", "out.hidden.10", "out.hidden.2", "out.attention.2"];
        let more = ["out.logits", "out.interpolated.28x56", "out.interpolated.7x7", "out.pooler_output"];
        let cases = cases(names.into_iter().chain(more));
        let all = |i: usize| cases[i].outputs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>();
        assert_eq!(
            all(0),
            ["out.hidden.2", "out.attention.2", "out.hidden.10", "out.pooler_output", "out.logits"]
        );
        assert_eq!(cases[1].input.as_deref(), Some("in.pixel_values.28x56"));
        assert_eq!(all(1), ["out.interpolated.28x56"]);
        assert!(cases[2].reason.as_ref().is_some_and(|r| r.contains("in.pixel_values.7x7")));
        assert!(cases[0].reason.is_none() && cases[1].reason.is_none());
    }

    #[test]
    fn a_foreign_input_spoils_everything_recorded() {
        let cases = cases(["in.noise", "in.pixel_values", "out.logits"].into_iter());
        assert!(cases[0].reason.as_ref().is_some_and(|r| r.contains("`in.noise`")));
    }
}
