//! `vit-gpu train`: a model learns classes of images, epoch by epoch, into a folder that other commands take.

pub(super) mod args;
mod asked;
mod report;

use std::io::Write;
use std::path::Path;

use super::args::ModelArgs;
use super::locate::{chosen, locate};
use super::outcome::Outcome;
use super::talk::Talk;
use super::{filename, interrupt, open};
use crate::error::{Error, Result};
use crate::session::{ModelFiles, ModelKind, ModelSource};
use crate::synthetic::fresh;
use crate::textfile;
use crate::train::save::{self, Output, State};
use crate::train::{ImageClasses, Recipe, Task as _, fit, scope};
use args::TrainArgs;
use asked::Asked;
use report::Report;

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 64 << 20;

/// Runs the command and yields its exit code.
pub(super) fn run(args: &TrainArgs, talk: Talk, out: &mut impl Write) -> Outcome {
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let (files, asked, output, state) = match &args.resume {
        Some(folder) => resumed(folder, !args.model.no_mmap)?,
        None => begun(args, talk)?,
    };
    let side = crate::models::from_config(&files.config, files.checkpoint.index(), None)
        .and_then(crate::models::AnyModel::vision)
        .map_err(|e| e.within(&files.name))?
        .info()
        .image_size;
    let sets = asked.sets(side.height.max(side.width))?;
    talk.note(format_args!(
        "{} images of {} classes to train on, {} to validate on",
        sets[0].len(),
        sets[0].classes.len(),
        sets[1].len()
    ));
    let feeding = asked.feeding(sets[0].len());
    let mut task = ImageClasses::new(files, sets, &feeding)?;
    if task.new_head() {
        talk.note("the classes are not the model's: it gets a new classifier");
    }
    let (optimizer, clip) = asked.optimizer();
    let recipe = Recipe { optimizer, clip, decays: &scope::decays };
    let mut trainer = task.trainer(&options, asked.trainable, &recipe)?;
    open::say_device(trainer.device(), talk);
    report::memory(&trainer, talk);
    if task.has_features() {
        talk.note("what is frozen is computed once for each image");
    }
    let resumed_at = state.step;
    if args.resume.is_some() {
        save::resume(&mut trainer, &output.last(), &state)?;
    }
    let run = asked.run(task.batches());
    let files = task.files().clone();
    let listening = interrupt::listen();
    let mut report = Report::new(talk, out, args.format, run, task.batches(), feeding.batch, &output);
    report.begin(&state.log)?;
    let watch = &mut |event: fit::Event<'_>| report.event(event) && !interrupt::asked();
    let state = fit::fit(&mut trainer, &mut task, &files, &run, state, &output, watch);
    drop(listening);
    report.end()?;
    let state = state.map_err(|e| report::worded(e, &output))?;
    if state.epoch < run.epochs {
        let shown =
            args.resume.as_ref().or(args.output.as_ref()).map_or(String::new(), |p| p.display().to_string());
        talk.note(format_args!("saved at step {}; go on with `vit-gpu train --resume {shown}`", state.step));
        return Err(Error::Interrupted.into());
    }
    if resumed_at == state.step {
        talk.note("the run was at its end already");
    }
    if let Some((epoch, best)) = state.best {
        talk.note(format_args!(
            "best: epoch {epoch}, top-1 {:.2} %; try `vit-gpu infer -m {} IMAGE`",
            100.0 * best,
            output.best().display()
        ));
    }
    Ok(0)
}

/// A run that begins.
fn begun(args: &TrainArgs, talk: Talk) -> Result<(ModelFiles, Asked, Output, State)> {
    let folder = args.output.as_deref().unwrap_or(Path::new(""));
    filename::check_name(folder)?;
    let files = match &args.new {
        Some(name) => new_model(name, args)?,
        None => model(&args.model, talk)?,
    };
    let asked = Asked::new(args, files.name.clone())?;
    let output = Output::new(folder)?;
    if output.is_taken() && !args.force {
        let what = format!("there is a run in {} already", folder.display());
        return Err(Error::usage(
            what,
            "go on with it by --resume, write over it by --force, or name another folder",
        ));
    }
    output.clean();
    let state = State { asked: serde_json::to_value(&asked).unwrap_or_default(), ..State::default() };
    Ok((files, asked, output, state))
}

fn model(args: &ModelArgs, talk: Talk) -> Result<ModelFiles> {
    if chosen(args)?.is_none() {
        talk.note("no -m given: the built-in model is trained further");
    }
    let found = locate(args, Talk::quiet())?.read(!args.no_mmap)?;
    found.expect(ModelKind::Vision)?;
    Ok(found.files)
}

/// A model of random weights.
fn new_model(name: &str, args: &TrainArgs) -> Result<ModelFiles> {
    let seed = args.course.seed;
    let path = Path::new(name);
    let made = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let wrong = |e: textfile::Unread| Error::model(name, e.what, e.help);
        let config = textfile::read_json(path, MAX_CONFIG).map_err(wrong)?;
        let config = config.ok_or_else(|| Error::model(name, "there is no such file", "check the path"))?;
        fresh::of_config(name, &config, seed)?
    } else {
        fresh::timm(name, &args.model_args, seed)?
    };
    Ok(ModelFiles::made(format!("new:{name}"), made))
}

/// A run that goes on.
fn resumed(folder: &Path, mmap: bool) -> Result<(ModelFiles, Asked, Output, State)> {
    if !folder.is_dir() {
        return Err(Error::model(
            folder.display(),
            "there is no such folder",
            "name the folder that a run was written to",
        ));
    }
    let output = Output::new(folder)?;
    output.clean();
    let last = output.last();
    let state = save::read_state(&last)?;
    let asked: Asked = serde_json::from_value(state.asked.clone()).map_err(|e| {
        Error::model(
            last.display(),
            format!("its trainer_state.json is of another program: {e}"),
            "begin anew",
        )
    })?;
    let files = ModelSource::Path(last).read(mmap)?;
    Ok((files, asked, output, state))
}
