//! `vit-gpu train`: a model learns from images or texts, epoch by epoch, into a folder that other commands take.

pub(super) mod args;
mod asked;
mod pixels;
mod report;
mod texts;

use std::io::Write;
use std::path::Path;

use super::args::ModelArgs;
use super::locate::{chosen, locate};
use super::outcome::Outcome;
use super::talk::Talk;
use super::{filename, interrupt, open};
use crate::error::{Error, Result};
use crate::models;
use crate::session::{ModelFiles, ModelKind, ModelSource, Options};
use crate::synthetic::fresh;
use crate::textfile;
use crate::train::data::ImageSet;
use crate::train::lora::LoraWishes;
use crate::train::save::{self, Output, State};
use crate::train::{CaptionedImages, ImageClasses, Recipe, Scope, Task, Trainer, fit, head};
use args::{Objective, TrainArgs};
use asked::{Asked, Kind};
use pixels::Pixels;
use report::{Batches, Report};
use texts::Learned;

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 64 << 20;

/// Runs the command and yields its exit code.
pub(super) fn run(args: &TrainArgs, talk: Talk, out: &mut impl Write) -> Outcome {
    let begun = match &args.resume {
        Some(folder) => resumed(folder, !args.model.no_mmap)?,
        None => begun(args, talk)?,
    };
    let output = begun.output.clone();
    let outcome = learn(args, begun, talk, out);
    if outcome.is_err() {
        output.discard_empty();
    }
    outcome
}

/// A run, and where it stands.
struct Begun {
    files: ModelFiles,
    asked: Asked,
    output: Output,
    state: State,
}

fn learn(args: &TrainArgs, begun: Begun, talk: Talk, out: &mut impl Write) -> Outcome {
    let Begun { files, mut asked, output, mut state } = begun;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let (mut learning, mut trainer) = loop {
        let (mut learning, data) = Learning::new(files.clone(), &asked, talk)?;
        if args.resume.is_some() && state.data != data {
            let what = format!("{} is not what it was when the run began", asked.data);
            return Err(Error::usage(what, "bring the data back as it was, or begin another run").into());
        }
        state.data = data;
        if let Some(wishes) = asked.lora().filter(|_| args.resume.is_none()) {
            learning.adapt(&wishes)?;
        }
        let opened = learning.trainer(&options, asked.trainable, &asked.recipe(), talk);
        match (opened, learning.batch()) {
            (Err(Error::OutOfMemory { .. } | Error::Limit { .. }), batch) if batch > 1 => {
                talk.warn(format_args!(
                    "a batch of {batch} does not fit the device; its parts come one after the other"
                ));
                asked.split_batch(batch);
                state.asked = serde_json::to_value(&asked).unwrap_or_default();
            }
            (trainer, _) => break (learning, trainer?),
        }
    };
    open::say_device(trainer.device(), talk);
    report::memory(&trainer, talk);
    let resumed_at = state.step;
    if args.resume.is_some() {
        save::resume(&mut trainer, &output.last(), &state)?;
    }
    let (files, batch, task) = (learning.files().clone(), learning.batch(), learning.task());
    let run = asked.run(task.batches());
    let listening = interrupt::listen();
    let batches =
        Batches { count: task.batches() / run.parts, size: batch * run.parts, metrics: task.metrics() };
    let mut report = Report::new(talk, out, args.format, run, batches, &output);
    report.begin(&state.log)?;
    let watch = &mut |event: fit::Event<'_>| report.event(event) && !interrupt::asked();
    let state = fit::fit(&mut trainer, task, &files, &run, state, &output, watch);
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
    if let (Some((epoch, best)), Some(metric)) = (state.best, learning.task().metrics().first()) {
        let (command, input) = learning.example();
        let found = report::said(metric, best);
        let model = output.best();
        talk.note(format_args!(
            "best: epoch {epoch}, {found}; try `vit-gpu {command} -m {} {input}`",
            model.display()
        ));
    }
    Ok(0)
}

/// What is learned: classes of images, what images look like, or from texts.
enum Learning {
    Images(Box<ImageClasses>),
    Pixels(Pixels),
    Captions(Box<CaptionedImages>),
    Texts(Box<Learned>),
}

impl Learning {
    /// And few digits by which the data is known again.
    fn new(files: ModelFiles, asked: &Asked, talk: Talk) -> Result<(Self, String)> {
        let texts = files.kind() == Some(ModelKind::Text);
        if asked.kind(&files.config) == Kind::Captions {
            let (task, data) = captions(files, asked, talk)?;
            return Ok((Self::Captions(Box::new(task)), data));
        }
        if asked.objective == Some(Objective::Contrastive) {
            let what = format!("{} has no text tower, so it finds no captions", files.name);
            return Err(Error::usage(what, "take a whole CLIP or SigLIP"));
        }
        if let Some(path) = asked.texts() {
            if !texts {
                let what = format!("{} reads no texts, and the data is a list of texts", files.name);
                return Err(Error::usage(what, "name a text model, as in -m google-bert/bert-base-uncased"));
            }
            let (learned, data) = Learned::new(files, path, asked, talk)?;
            return Ok((Self::Texts(Box::new(learned)), data));
        }
        if texts {
            let what = format!("{} reads texts, not images", files.name);
            return Err(Error::usage(what, "its data is train.jsonl, .csv, .tsv or .txt, or one such file"));
        }
        if asked.objective.is_some() {
            return Err(Error::usage("--objective is of texts, and the data is images", "leave it out"));
        }
        if asked.kind(&files.config) != Kind::Classes {
            let (pixels, data) = Pixels::new(files, asked, talk)?;
            return Ok((Self::Pixels(pixels), data));
        }
        let model = models::from_config(&files.config, files.checkpoint.index(), None);
        let model = model.and_then(models::AnyModel::vision).map_err(|e| e.within(&files.name))?;
        let side = model.info().image_size;
        let sets = asked.images(side.height.max(side.width), Kind::Classes)?;
        talk.note(format_args!(
            "{} images of {} classes to train on, {} to validate on",
            sets[0].len(),
            sets[0].classes.len(),
            sets[1].len()
        ));
        let feeding = asked.feeding(sets[0].len());
        let data = sets.each_ref().map(ImageSet::digest).concat();
        let task = ImageClasses::new(files, sets, &feeding)?;
        if task.new_head() {
            talk.note("the classes are not the model's: it gets a new classifier");
        }
        Ok((Self::Images(Box::new(task)), data))
    }

    fn adapt(&mut self, wishes: &LoraWishes) -> Result<()> {
        match self {
            Self::Images(task) => task.adapt(wishes),
            Self::Pixels(_) => Pixels::adapt(),
            Self::Captions(task) => task.adapt(wishes),
            Self::Texts(learned) => learned.task.adapt(wishes),
        }
    }

    fn files(&self) -> &ModelFiles {
        match self {
            Self::Images(task) => task.files(),
            Self::Pixels(pixels) => pixels.files(),
            Self::Captions(task) => task.files(),
            Self::Texts(learned) => learned.task.files(),
        }
    }

    /// Images or texts of a step.
    fn batch(&self) -> usize {
        match self {
            Self::Images(task) => task.batch(),
            Self::Pixels(pixels) => pixels.batch(),
            Self::Captions(task) => task.batch(),
            Self::Texts(learned) => learned.task.sizes().batch,
        }
    }

    fn trainer(&mut self, options: &Options, scope: Scope, recipe: &Recipe, talk: Talk) -> Result<Trainer> {
        match self {
            Self::Images(task) => {
                let trainer = task.trainer(options, scope, recipe)?;
                if task.has_features() {
                    talk.note("what is frozen is computed once for each image");
                }
                Ok(trainer)
            }
            Self::Pixels(pixels) => pixels.trainer(options, scope, recipe),
            Self::Captions(task) => task.trainer(options, scope, recipe),
            Self::Texts(learned) => learned.task.trainer(options, scope, recipe),
        }
    }

    fn task(&mut self) -> &mut dyn Task {
        match self {
            Self::Images(task) => &mut **task,
            Self::Pixels(pixels) => pixels.task(),
            Self::Captions(task) => &mut **task,
            Self::Texts(learned) => &mut learned.task,
        }
    }

    /// The command that tries the model, and what it takes.
    fn example(&self) -> (&'static str, &'static str) {
        match self {
            Self::Images(_) => ("infer", "IMAGE"),
            Self::Pixels(pixels) => pixels.example(),
            Self::Captions(_) => ("infer", "IMAGE --labels \"ONE,OTHER\""),
            Self::Texts(learned) => learned.example(),
        }
    }
}

/// Images with captions, for a model of two towers.
fn captions(files: ModelFiles, asked: &Asked, talk: Talk) -> Result<(CaptionedImages, String)> {
    let side = models::from_config(&files.config, files.checkpoint.index(), None)
        .and_then(models::AnyModel::vision)
        .map_err(|e| e.within(&files.name))?
        .info()
        .image_size;
    let sets = asked.captioned(side.height.max(side.width))?;
    let [training, held_out] = sets.each_ref().map(ImageSet::len);
    let captions = sets[0].classes.len();
    let data = sets.each_ref().map(ImageSet::digest).concat();
    let task = CaptionedImages::new(files, sets, &asked.feeding(training))?;
    talk.note(format_args!(
        "contrastive: {training} images to train on, {held_out} to validate on, of {captions} captions"
    ));
    Ok((task, data))
}

/// A run that begins.
fn begun(args: &TrainArgs, talk: Talk) -> Result<Begun> {
    let folder = args.output.as_deref().unwrap_or(Path::new(""));
    filename::check_name(folder)?;
    // VIT_GPU_MODEL stands for a flag that was not given, and another flag is in its place.
    let from_environment = std::env::var_os("VIT_GPU_MODEL") == args.model.model;
    if args.new.is_some() && args.model.model.is_some() && !from_environment {
        return Err(Error::usage("-m and --new each name a model to begin with", "pass one of them"));
    }
    let (files, id) = match &args.new {
        Some(name) => (new_model(name, args)?, format!("new:{name}")),
        None => model(&args.model, talk)?,
    };
    let files = if args.new_head { head::anew(&files, args.course.seed)? } else { files };
    let data = Path::new(args.data.as_deref().unwrap_or_default());
    let asked = Asked::new(args, id, Kind::of(&files.config, data, args.objective))?;
    let inside = |inner: &Path, outer: &Path| {
        let real =
            |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_default();
        real(inner).starts_with(real(outer))
    };
    if Path::new(&asked.data).is_dir() && inside(folder, Path::new(&asked.data)) {
        let what = format!("{} lies in the data", folder.display());
        return Err(Error::usage(what, "write the run beside it"));
    }
    if files.folder.as_ref().is_some_and(|model| inside(model, folder)) {
        let what = format!("the model it begins with lies in {}", folder.display());
        return Err(Error::usage(what, "write the run to another folder"));
    }
    let output = Output::new(folder)?;
    if let Some(stranger) = output.stranger() {
        let what = format!("{} is no folder of a run, and is not replaced", stranger.display());
        return Err(Error::usage(what, "write the run to another folder"));
    }
    if output.is_taken() && !args.force {
        let what = format!("there is a run in {} already", folder.display());
        return Err(Error::usage(
            what,
            "go on with it by --resume, write over it by --force, or name another folder",
        ));
    }
    output.clean();
    let state = State { asked: serde_json::to_value(&asked).unwrap_or_default(), ..State::default() };
    Ok(Begun { files, asked, output, state })
}

/// The model that is trained further, and what an adapter calls it: its path, or its name on a hub.
fn model(args: &ModelArgs, talk: Talk) -> Result<(ModelFiles, String)> {
    if chosen(args)?.is_none() {
        talk.note("no -m given: the built-in model is trained further");
    }
    let found = locate(args, Talk::quiet())?.read(!args.no_mmap)?;
    let path = Path::new(&found.id);
    let id = match path.exists() {
        true => std::path::absolute(path).unwrap_or(path.to_owned()).display().to_string(),
        false => found.id.clone(),
    };
    Ok((found.files, id))
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
    let files = ModelFiles::made(format!("new:{name}"), made);
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut files = files.completed_from(beside, !args.model.no_mmap)?;
    let text = files.kind() == Some(ModelKind::Text);
    if args.tokenizer.is_some() && !text {
        return Err(Error::usage(
            "--tokenizer is of texts, and the new model looks at images",
            "leave it out",
        ));
    }
    files.folder = args.tokenizer.clone().or_else(|| path.parent().map(Path::to_owned)).filter(|_| text);
    Ok(files)
}

/// A run that goes on.
fn resumed(folder: &Path, mmap: bool) -> Result<Begun> {
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
    Ok(Begun { files, asked, output, state })
}
