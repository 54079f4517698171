//! `vit-gpu search`: the images of a folder that are nearest to words or to an image, by an index of embeddings that
//! is brought up to date first.

pub(super) mod args;
mod asked;
mod embedder;
mod refresh;
mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::ModelArgs;
use super::filename::plain;
use super::interrupt;
use super::locate::{Found, chosen, locate_or};
use super::open;
use super::outcome::Outcome;
use super::outfile::OutFile;
use super::output::{Timing, millis};
use super::sink::{self, Sink};
use super::talk::Talk;
use crate::cli::search::args::{Listing, SearchArgs};
use crate::error::{Advice, Error, Result};
use crate::search::{Changes, Hit, Index, Maker, Product, Update};
use crate::session::BUILTIN_DUAL;
use asked::{Places, asked};
use embedder::Embedder;
use refresh::refresh;
use rows::Found as Hits;

/// Runs the command and yields its exit code.
pub(super) fn run(args: &SearchArgs, talk: Talk, out: &mut Sink<'_, Listing>) -> Outcome {
    let begun = Instant::now();
    let (query, places) = asked(args, talk)?;
    let sheet = sheet(args, out)?;
    // Of an index that is searched as it is, what is wrong is said before anything is opened.
    let there = match (&args.index, &places) {
        (Some(folder), None) => Some(Index::open(folder)?),
        (Some(folder), Some(_)) => Index::open(folder).ok(),
        _ => None,
    };
    let found = model(args, there.as_ref().map(Index::maker), talk)?;
    let weights = found.files.checkpoint.fingerprint()?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let (mut embedder, vector) = Embedder::open(found, weights, &query, &options, &args.decoding, talk)?;
    let mut timing = Timing { load: millis(begun.elapsed()), ..Timing::default() };

    let files = places.as_ref().map(Places::files).unwrap_or_default();
    let (index, code) = match (&places, there) {
        (Some(places), there) => {
            // Its files are mapped, and will change places.
            drop(there);
            let batch = args.batch_size as usize;
            up_to_date(args, places, &files, &mut embedder, batch, &mut timing, talk)?
        }
        (None, Some(index)) => (same_maker(index, &embedder.maker, args)?, 0),
        (None, None) => unreachable!("without images an index is named"),
    };
    let Some(vector) = vector else { return Ok(code) };
    let searched = Instant::now();
    let hits = nearest(&index, vector, places.as_ref().map(|_| &files), args.count, &embedder)?;
    timing.run += millis(searched.elapsed());
    let hits = Hits::new(&query, &index, hits, args.min_score, &files, talk)?;
    if let Some((file, path)) = sheet {
        file.finish(&hits.sheet(path, &embedder.decoding, talk)?)?;
    }
    timing.total = millis(begun.elapsed());
    hits.print(out, &embedder.opened, timing)?;
    Ok(code)
}

/// Begins the sheet, if one is wanted.
fn sheet<'a>(args: &'a SearchArgs, out: &Sink<'_, Listing>) -> Result<Option<(OutFile, &'a Path)>> {
    let Some(path) = args.sheet.as_deref() else { return Ok(None) };
    out.distinct(&[("--sheet", path)])?;
    sink::expect_kind(path, "--sheet", "png")?;
    rows::check_sheet(args.count)?;
    Ok(Some((OutFile::create(path)?, path)))
}

/// The model that is named, else the one that made the index, else the default.
fn model(args: &SearchArgs, maker: Option<&Maker>, talk: Talk) -> Result<Found> {
    let mut model: ModelArgs = args.model.clone();
    if chosen(&model)?.is_none() {
        model.model = maker.map(|maker| maker.model.clone().into());
    }
    locate_or(&model, &format!("builtin:{BUILTIN_DUAL}"), talk)?.read(!model.no_mmap)
}

/// Refuses an index that another model made.
fn same_maker(index: Index, maker: &Maker, args: &SearchArgs) -> Result<Index> {
    let Some(what) = index.maker().difference(maker) else { return Ok(index) };
    let folder = args.index.as_deref().map(plain).unwrap_or_default();
    let what = format!("was made by {}, and this is {}: {what} differ", index.maker().model, maker.model);
    Err(Error::model(folder, what, Advice::IndexOther))
}

/// Brings the index up to date; the exit code is that of images that could not be read.
fn up_to_date(
    args: &SearchArgs,
    places: &Places,
    files: &BTreeMap<PathBuf, &Path>,
    embedder: &mut Embedder,
    batch: usize,
    timing: &mut Timing,
    talk: Talk,
) -> Result<(Index, u8)> {
    let folder = match &args.index {
        Some(folder) => folder.clone(),
        None => places.index(&embedder.maker.weights)?,
    };
    talk.detail(format_args!("index: {}", plain(&folder)));
    // Until the new index is in its place: then nothing half-written is left.
    let _listening = interrupt::listen();
    let mut update = Update::begin(&folder, embedder.maker.clone(), args.rebuild)?;
    let code = refresh(&mut update, places, files, embedder, batch, timing, talk)?;
    let (index, changes) = update.finish()?;
    if interrupt::asked() {
        return Err(Error::Interrupted);
    }
    let summary = summary(changes, index.len());
    if changes == (Changes { unchanged: changes.unchanged, ..Changes::default() }) {
        talk.detail(summary);
    } else {
        talk.note(summary);
    }
    Ok((index, code))
}

/// What became of the index, in words.
fn summary(changes: Changes, total: usize) -> String {
    let Changes { added, changed, moved, unchanged: _, vanished, resumed } = changes;
    let counts = [
        (added, "added"),
        (changed, "changed"),
        (moved, "moved"),
        (vanished, "gone"),
        (resumed, "of an interrupted run"),
    ];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    let counts: Vec<String> = counts.collect();
    let counts = if counts.is_empty() { "nothing changed".to_owned() } else { counts.join(", ") };
    format!("the index has {total} images: {counts}")
}

/// The nearest rows: of the files that are named, or of the whole index where no place was.
fn nearest(
    index: &Index,
    vector: Vec<f32>,
    files: Option<&BTreeMap<PathBuf, &Path>>,
    most: usize,
    embedder: &Embedder,
) -> Result<Vec<Hit>> {
    // The processor that runs a software adapter is several times as fast in plain loops.
    let product = Product::new(embedder.opened.session.gpu().filter(|gpu| !gpu.target().cpu));
    let mut named = None;
    if let Some(files) = files {
        let is_named = |row: usize| Ok(files.contains_key(Path::new(&index.image(row)?.path)));
        named = Some((0..index.len()).map(is_named).collect::<Result<Vec<bool>>>()?);
    }
    let wanted = |row: usize| named.as_ref().is_none_or(|named| named[row]);
    let mut found = product.best(&[vector], index, most, &wanted)?;
    Ok(found.pop().unwrap_or_default())
}
