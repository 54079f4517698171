//! `vit-gpu infer`: images in, classes, embeddings and attention heatmaps out; texts in
//! `infer/texts.rs`.
//!
//! One thread decodes a batch ahead (on all cores) while the device works on the one before; a
//! channel of one batch between them bounds memory. A batch that is ready is brought to the device
//! before the one there is waited for. Rows come out in the order of the inputs.

use crate::printable::escaped;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use rayon::prelude::*;

use super::advice::with_flag;
use super::args::Format;
use super::inputs::{self, Input};
use super::locate::{locate, locate_or};
use super::open::{self, Opened};
use super::outcome::{Outcome, Stop};
use super::output::{Report, Row, columns, millis};
use super::pixels::{Ready, decode, decode_options, of_one_size, preprocess};
use super::sink::Sink;
use super::talk::{self, Talk};
use crate::cli::infer::args::InferArgs;
use crate::dual::DualEncoder;
use crate::error::{Error, Result};
use crate::image::DecodeOptions;
use crate::image::preprocess::{Pixels, Preprocess};
use crate::session::{BUILTIN_DUAL, Pending};
use crate::tensor::{HostTensor, Size};
use files::{Embeddings, Pictures};
use labels::Asked;
use tally::Tally;

pub(super) mod args;
mod files;
mod labels;
mod principal;
mod reconstruct;
mod rows;
mod tally;
mod texts;

/// A batch that the device works on: its inputs, and their indices by size with what is under way.
struct Started<'a> {
    ready: Vec<Ready>,
    groups: Vec<(Vec<usize>, Pending<'a>)>,
}

/// Runs the command and yields its exit code.
pub(super) fn run(args: &InferArgs, talk: Talk, out: &mut Sink<'_, Format>) -> Outcome {
    let asked = args.ask.labels_images().then(|| Asked::new(&args.ask)).transpose()?;
    if let Some(flag) = args.ask.given().filter(|_| asked.is_none()) {
        return texts::run(args, super::texts::find(&args.model, flag, talk)?, talk, out);
    }
    if let Some(path) = &args.reconstruct {
        return reconstruct::run(args, path, talk, out);
    }
    if let Some(path) = &args.features_pca {
        return principal::run(args, path, talk, out);
    }
    let start = Instant::now();
    let inputs = inputs::expand(&args.inputs, args.recursive)?;
    for skipped in &inputs.skipped {
        talk.warn(escaped(skipped));
    }
    files::check(args, out)?;
    let mut embeddings = Embeddings::create(args)?;
    let mut pictures = Pictures::create(args, &inputs.list)?;
    let found = match asked {
        Some(_) => locate_or(&args.model, &format!("builtin:{BUILTIN_DUAL}"), talk)?,
        None => locate(&args.model, talk)?,
    };
    let found = found.read(!args.model.no_mmap)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let opened = match asked {
        Some(Asked { labels, wording, too_long }) => {
            let name = |model: DualEncoder| model.into_classifier(labels, &wording, too_long);
            open::dual(found, &options, talk, name)?
        }
        None => open::open(found, &options, talk)?,
    };
    let preprocess = preprocess(&args.image, &opened, talk)?;
    let mut work = Work::new(args, &opened, &preprocess, talk)?;
    let load = start.elapsed();

    let format = out.format;
    let mut report = Report::new(out, format, args.logits);
    report.begin(&columns(opened.session.labels().scoring, args.logits))?;
    let mut tally = Tally::default();
    tally.timing.load = millis(load);
    let options = decode_options(&args.image);
    let batch = work.batch(args.batch_size.unwrap_or(8) as usize);
    let mut progress =
        (inputs.list.len() > 1).then(|| talk.progress("images", inputs.list.len() as u64, false));
    let outcome = std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        scope.spawn(|| decode_all(&inputs.list, batch, &options, &preprocess, args.fail_fast, sender));
        let mut done = 0;
        let mut pending: Option<Started<'_>> = None;
        loop {
            // Without a batch at hand, what is under way is answered first.
            let ready = match &pending {
                Some(_) => receiver.try_recv().ok(),
                None => match receiver.recv() {
                    Ok(ready) => Some(ready),
                    Err(_) => return Ok::<(), Stop>(()),
                },
            };
            let next = ready.map(|ready| work.start(ready, &mut tally)).transpose();
            if let Some(before) = pending.take() {
                done += before.ready.len() as u64;
                for (row, error) in work.finish(before, &mut embeddings, &mut pictures, &mut tally)? {
                    let failed = error.is_some();
                    if let Some(e) = error {
                        talk::error(&e);
                        tally.failed(&e);
                    }
                    if !(failed && format == Format::Text) {
                        report.row(row)?;
                    }
                    if failed && args.fail_fast {
                        return stop(receiver);
                    }
                }
                if let Some(progress) = &mut progress {
                    progress.at(done);
                }
            }
            pending = next?;
        }
    });
    drop(progress);
    if let Err(Stop::Stdout(e)) = outcome {
        return Err(e.into());
    }
    if outcome.is_ok() {
        embeddings.finish(&opened.model.id, talk)?;
    }
    tally.timing.total = millis(start.elapsed());
    // Also after a fatal error: what was answered is not lost, and JSON is whole.
    report.end(&opened.model, &opened.device, tally.timing)?;
    outcome?;
    tally.say(talk);
    Ok(tally.exit_code())
}

/// Lets the decoding thread end: its next batch finds nobody listening.
fn stop(receiver: Receiver<Vec<Ready>>) -> Result<(), Stop> {
    drop(receiver);
    Ok(())
}

/// Decodes and preprocesses everything in batches, in order, until nobody listens.
fn decode_all(
    inputs: &[Input],
    batch: usize,
    options: &DecodeOptions,
    preprocess: &Preprocess,
    fail_fast: bool,
    sender: SyncSender<Vec<Ready>>,
) {
    for chunk in inputs.chunks(batch) {
        let ready: Vec<Ready> = chunk.par_iter().map(|input| decode(input, options, preprocess)).collect();
        let over = fail_fast && ready.iter().any(|r| r.picture.is_err());
        if sender.send(ready).is_err() || over {
            return;
        }
    }
}

/// What is asked of the model, and what becomes of its answers.
struct Work<'a> {
    args: &'a InferArgs,
    opened: &'a Opened,
    talk: Talk,
    /// Names of the outputs to compute, in this order: logits, embeddings, attention.
    outputs: Vec<String>,
    /// How many of them come before the attention.
    plain: usize,
    has_logits: bool,
    preprocess: &'a Preprocess,
    /// Warnings of the session that were said already.
    said: usize,
}

impl<'a> Work<'a> {
    fn new(args: &'a InferArgs, opened: &'a Opened, preprocess: &'a Preprocess, talk: Talk) -> Result<Self> {
        let session = &opened.session;
        let info = session.info();
        let size = preprocess.size().unwrap_or(info.image_size);
        let all = session.output_names(size)?;
        let has = |name: &str| all.iter().any(|n| n == name);
        let has_logits = has("logits");
        let mut outputs = Vec::new();
        if has_logits {
            outputs.push("logits".to_owned());
        } else if args.embeddings.is_none() && args.attention.is_none() {
            // A head under another name is among the tensors that are not used.
            session.warnings().iter().for_each(|warning| talk.warn(warning));
            let help = match session.model().masked() {
                Some(_) => {
                    "pass --reconstruct FILE.png to see what it paints of an image that it sees in part, or \
                            --embeddings FILE.safetensors for its features"
                }
                None if opened.words => {
                    "pass --labels \"a cat,a dog\" to name what it sees in words, or --embeddings FILE.safetensors for its \
                     features"
                }
                None => "pass --embeddings FILE.safetensors for its features, or a checkpoint with a head",
            };
            return Err(Error::usage(
                format!("{} has no classifier head, so there are no classes to show", opened.model.id),
                help,
            ));
        } else if args.logits {
            return Err(Error::usage(
                format!("{} has no classifier head, so no logits", opened.model.id),
                "",
            ));
        }
        if args.embeddings.is_some() {
            if !has(files::EMBEDDING) {
                return Err(Error::usage(
                    format!("{} has no pooled features", opened.model.id),
                    "leave --embeddings away",
                ));
            }
            outputs.push(files::EMBEDDING.to_owned());
        }
        let plain = outputs.len();
        if args.attention.is_some() {
            let layers = files::view(args).layers(info.layers, info.heads);
            let layers = layers.map_err(|e| with_flag("--attention-", e))?;
            outputs.extend(layers.iter().map(|layer| format!("attention.{layer}")));
            if let Some(missing) = outputs[plain..].iter().find(|n| !has(n)) {
                return Err(Error::usage(
                    format!("this model does not produce `{missing}`"),
                    "leave --attention away",
                ));
            }
        }
        let mut work = Self { args, opened, talk, outputs, plain, has_logits, preprocess, said: 0 };
        work.say_warnings();
        Ok(work)
    }

    /// Images at a time: attention maps of all layers are large, so those go one by one.
    fn batch(&self, asked: usize) -> usize {
        if self.args.attention.is_some() { 1 } else { asked }
    }

    /// Brings one batch to the device, images of one size at a time.
    fn start(&mut self, ready: Vec<Ready>, tally: &mut Tally) -> Result<Started<'a>> {
        let begun = Instant::now();
        let mut waiting: Vec<usize> = Vec::new();
        for (i, r) in ready.iter().enumerate() {
            tally.inputs += 1;
            tally.timing.decode += millis(r.took);
            for note in &r.notes {
                self.talk.detail(format_args!("{}: {note}", escaped(&r.name)));
            }
            if r.picture.is_ok() {
                waiting.push(i);
            }
        }
        let mut started = Started { ready, groups: Vec::new() };
        while let Some(&first) = waiting.first() {
            let size_of = |i: usize| started.ready[i].picture.as_ref().map(|p| p.size).ok();
            let (members, rest): (Vec<usize>, Vec<usize>) =
                waiting.iter().partition(|&&i| size_of(i) == size_of(first));
            waiting = rest;
            let mut pixels = Vec::new();
            let mut size = Size::default();
            for &i in &members {
                if let Ok(picture) = &mut started.ready[i].picture {
                    pixels.push(std::mem::replace(&mut picture.pixels, Pixels::Bytes(Vec::new())));
                    size = picture.size;
                }
            }
            let pending = self.opened.session.start(pixels, size, &self.output_names());
            self.say_warnings();
            match pending {
                Ok(pending) => started.groups.push((members, pending)),
                Err(e) if of_one_size(&e, self.preprocess) => {
                    members.iter().for_each(|&i| started.ready[i].refuse(&e));
                }
                Err(e) => return Err(e),
            }
        }
        tally.timing.run += millis(begun.elapsed());
        Ok(started)
    }

    /// The answers of one batch: a row for each input, with the error where it failed.
    fn finish(
        &mut self,
        mut started: Started<'a>,
        embeddings: &mut Embeddings,
        pictures: &mut Pictures,
        tally: &mut Tally,
    ) -> Result<Vec<(Row, Option<Error>)>> {
        let groups = std::mem::take(&mut started.groups);
        let mut rows: Vec<Option<(Row, Option<Error>)>> = started.ready.iter().map(|_| None).collect();
        let mut features = BTreeMap::new();
        for (members, pending) in groups {
            // Only heatmaps of attention are drawn over the image.
            let shown = |image: &Pixels| self.preprocess.shown(image);
            let drawn = self.args.attention.is_some();
            let pixels: Vec<Vec<u8>> =
                if drawn { pending.images().iter().map(shown).collect() } else { Vec::new() };
            let begun = Instant::now();
            let results = pending.wait();
            tally.timing.run += millis(begun.elapsed());
            self.say_warnings();
            let results = match results {
                Ok(results) => results,
                Err(e) if of_one_size(&e, self.preprocess) => {
                    members.iter().for_each(|&i| started.ready[i].refuse(&e));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let ready = &started.ready;
            for (n, &i) in members.iter().enumerate() {
                let one: Vec<&[f32]> = results.iter().map(|t| slice(t, n, members.len())).collect();
                rows[i] = Some(match self.answer(&ready[i].name, &one) {
                    Ok(mut row) => {
                        let info = self.opened.session.info();
                        // Where embeddings are asked for, they stand between logits and attention.
                        if let Some(row) = one[..self.plain].get(usize::from(self.has_logits)) {
                            features.insert(i, row.to_vec());
                        }
                        if let (Some(pixels), Ok(picture)) = (pixels.get(n), &ready[i].picture) {
                            row.attention =
                                pictures.write(i, pixels, picture.size, info, &one[self.plain..])?;
                        }
                        (row, None)
                    }
                    Err(e) => failed(&ready[i].name, &e),
                });
            }
        }
        let ready = &started.ready;
        for (row, r) in rows.iter_mut().zip(ready) {
            if let Err(e) = &r.picture {
                *row = Some(failed(&r.name, e));
            }
        }
        for (i, row) in features {
            embeddings.push(&ready[i].name, &row)?;
        }
        pictures.advance(ready.len());
        Ok(rows.into_iter().flatten().collect())
    }

    fn output_names(&self) -> Vec<&str> {
        self.outputs.iter().map(String::as_str).collect()
    }

    /// The row of one image, from its part of each output.
    fn answer(&self, name: &str, outputs: &[&[f32]]) -> Result<Row> {
        for (output, values) in self.outputs.iter().zip(outputs) {
            let count = values.iter().filter(|x| !x.is_finite()).count();
            if count > 0 {
                let what = format!("{output} for {name}");
                return Err(Error::NonFinite { what, count, total: values.len() });
            }
        }
        let logits = self.has_logits.then(|| outputs[0]);
        Ok(Row {
            input: name.to_owned(),
            predictions: logits.map(|l| self.opened.session.labels().ranked(l, self.args.top_k)),
            logits: logits.filter(|_| self.args.logits).map(<[f32]>::to_vec),
            attention: None,
            error: None,
        })
    }

    /// Weights are looked at when they are loaded, so warnings may come with the first batch.
    fn say_warnings(&mut self) {
        let warnings = self.opened.session.warnings();
        for warning in warnings.iter().skip(self.said) {
            self.talk.warn(warning);
        }
        self.said = warnings.len();
    }
}

/// The `n`-th of `batch` images' part of an output.
fn slice(tensor: &HostTensor, n: usize, batch: usize) -> &[f32] {
    let all = tensor.as_f32().unwrap_or_default();
    let each = all.len() / batch;
    &all[n * each..(n + 1) * each]
}

fn failed(name: &str, e: &Error) -> (Row, Option<Error>) {
    let what = match e {
        Error::Input { what, .. } => what.clone(),
        other => other.message(),
    };
    let row =
        Row { input: name.to_owned(), predictions: None, logits: None, attention: None, error: Some(what) };
    (row, Some(e.clone()))
}
