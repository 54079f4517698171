//! Bringing an index up to date with files: which are new, changed, moved or gone, and their embeddings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::asked::Places;
use super::embedder::Embedder;
use crate::cli::inputs::Input;
use crate::cli::interrupt;
use crate::cli::outcome::{FAILED, exit_code};
use crate::cli::output::{Timing, millis};
use crate::cli::pixels::Ready;
use crate::cli::talk::{self, Progress, Talk};
use crate::error::{Advice, Error, Result};
use crate::image::{self, MAX_FILE_BYTES};
use crate::search::{Image, Update};

/// What is done is kept after this time, then after twice as long, up to the most.
const FIRST_KEPT: Duration = Duration::from_secs(1);
const KEPT_EVERY: Duration = Duration::from_secs(30);

/// A file that may have to be embedded.
struct Waiting<'a> {
    /// Its absolute path, which names it in the index.
    path: String,
    /// As it was named.
    named: &'a Path,
    bytes: u64,
    modified_us: i64,
}

/// A file that was read.
struct Read {
    image: Image,
    /// Nothing where the index has an image of this content.
    ready: Option<Ready>,
}

/// Brings an index up to date, and yields the exit code of what could not be read. Whoever calls listens to Ctrl-C.
///
/// # Errors
/// [`Error::Interrupted`] by Ctrl-C, and device errors: what is done is kept; [`Error::Write`].
pub(super) fn refresh(
    update: &mut Update,
    places: &Places,
    files: &BTreeMap<PathBuf, &Path>,
    embedder: &mut Embedder,
    batch: usize,
    timing: &mut Timing,
    talk: Talk,
) -> Result<u8> {
    let mut run = Refresh { update, embedder, timing, worst: 0, kept: Instant::now(), pause: FIRST_KEPT };
    let failed = places.inputs.iter().filter_map(|input| match input {
        Input::Failed(e) => Some(e),
        _ => None,
    });
    failed.for_each(|e| run.tell(e));
    let waiting = run.waiting(files);
    let mut progress = talk.progress("indexing", waiting.len() as u64, false);
    let outcome = run.embed(&waiting, batch, &mut progress);
    drop(progress);
    if let Err(e) = outcome {
        run.update.keep()?;
        talk.note("what was embedded is kept: the same command goes on with it");
        return Err(e);
    }
    let worst = run.worst;
    let folders = places.folders(files);
    update.forget_all(&|path| {
        let path = Path::new(path);
        let beneath = || folders.iter().any(|folder| path.starts_with(folder));
        !files.contains_key(path) && beneath() && !path.exists()
    });
    Ok(worst)
}

struct Refresh<'a> {
    update: &'a mut Update,
    embedder: &'a mut Embedder,
    timing: &'a mut Timing,
    worst: u8,
    /// When the last part was written, and how long to wait for the next.
    kept: Instant,
    pause: Duration,
}

impl Refresh<'_> {
    fn tell(&mut self, e: &Error) {
        talk::error(e);
        self.worst = self.worst.max(exit_code(e)).max(FAILED);
    }

    /// An image that there is no embedding of.
    fn lacks(&mut self, path: &str, e: &Error) {
        self.tell(e);
        self.update.forget(path);
    }

    /// Files that are not in the index as they are.
    fn waiting<'b>(&mut self, files: &BTreeMap<PathBuf, &'b Path>) -> Vec<Waiting<'b>> {
        let list: Vec<(&PathBuf, &&Path)> = files.iter().collect();
        let looked: Vec<Result<Waiting>> = list.par_iter().map(|(path, named)| look(path, named)).collect();
        let mut waiting = Vec::new();
        for ((path, _), looked) in list.into_iter().zip(looked) {
            match looked {
                Ok(file) if self.update.is_current(&file.path, file.bytes, file.modified_us) => {}
                Ok(file) => waiting.push(file),
                // A file that is not there is told of, and its row is another question.
                Err(e) => match path.exists() {
                    true => self.lacks(&path.to_string_lossy(), &e),
                    false => self.tell(&e),
                },
            }
        }
        waiting
    }

    fn embed(&mut self, waiting: &[Waiting], batch: usize, progress: &mut Progress) -> Result<()> {
        let mut done = 0;
        for chunk in waiting.chunks(batch) {
            if interrupt::asked() {
                return Err(Error::Interrupted);
            }
            let (update, embedder) = (&*self.update, &*self.embedder);
            let read: Vec<Result<Read>> = chunk.par_iter().map(|file| read(file, embedder, update)).collect();
            let (mut images, mut ready) = (Vec::new(), Vec::new());
            for (file, read) in chunk.iter().zip(read) {
                match read {
                    Ok(Read { image, ready: Some(one) }) => {
                        self.timing.decode += millis(one.took);
                        images.push(image);
                        ready.push(one);
                    }
                    Ok(Read { image, ready: None }) => drop(self.update.adopt(image)),
                    Err(e) => self.lacks(&file.path, &e),
                }
            }
            let begun = Instant::now();
            let vectors = self.embedder.vectors(&mut ready)?;
            self.timing.run += millis(begun.elapsed());
            for (image, vector) in images.into_iter().zip(vectors) {
                let path = image.path.clone();
                if let Err(e) = vector.and_then(|vector| self.update.add(image, vector)) {
                    self.lacks(&path, &e);
                }
            }
            done += chunk.len();
            progress.at(done as u64);
            if self.kept.elapsed() >= self.pause {
                self.update.keep()?;
                (self.kept, self.pause) = (Instant::now(), (2 * self.pause).min(KEPT_EVERY));
            }
        }
        Ok(())
    }
}

/// What a file is known by without reading it.
fn look<'a>(path: &Path, named: &'a Path) -> Result<Waiting<'a>> {
    let wrong = |what: String, help: Advice| Error::Input { input: named.display().to_string(), what, help };
    let Some(text) = path.to_str() else {
        let what = "its name is not UTF-8, which an index cannot hold".to_owned();
        return Err(wrong(what, "rename it".into()));
    };
    let metadata = fs::metadata(path)
        .map_err(|e| wrong(format!("cannot be read: {e}"), "check the path, and its permissions".into()))?;
    if !metadata.is_file() {
        return Err(wrong("is not a regular file".to_owned(), "name files, or folders of them".into()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        let what = format!("has {} bytes, more than the limit of {MAX_FILE_BYTES}", metadata.len());
        return Err(wrong(what, "convert it to a compressed format or scale it down".into()));
    }
    let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    let modified_us = metadata.modified().map_or(0, |time| {
        time.duration_since(UNIX_EPOCH).map_or_else(|before| -micros(before.duration()), micros)
    });
    Ok(Waiting { path: text.to_owned(), named, bytes: metadata.len(), modified_us })
}

/// Reads a file once: its content is what it is known by, and what is decoded.
fn read(file: &Waiting, embedder: &Embedder, update: &Update) -> Result<Read> {
    let start = Instant::now();
    let name = file.named.to_string_lossy().into_owned();
    let bytes = fs::read(file.named)
        .map_err(|e| Error::input(&name, format!("cannot be read: {e}"), "check the file's permissions"))?;
    let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    let known = update.knows(&sha256);
    let image =
        Image { path: file.path.clone(), bytes: bytes.len() as u64, modified_us: file.modified_us, sha256 };
    if known {
        return Ok(Read { image, ready: None });
    }
    let decoded = image::decode_bytes(&name, &bytes, &embedder.decoding);
    Ok(Read { image, ready: Some(Ready::new(name, decoded, &embedder.preprocess, start)) })
}
