//! What is looked for, and where.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::args::SearchArgs;
use crate::cli::filename::plain;
use crate::cli::inputs::{self, Input};
use crate::cli::open;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::printable::escaped;

/// What is looked for.
pub(super) enum Query {
    Words(String),
    Image(Input),
    /// Nothing: only the index is wanted.
    None,
}

/// Images that are searched in.
pub(super) struct Places {
    /// What was named, from the root on: it names the index in the cache.
    named: Vec<PathBuf>,
    /// What they came to, in order: files, and what yields none.
    pub(super) inputs: Vec<Input>,
}

/// The query, and the images that are named, if any are.
///
/// # Errors
/// [`Error::Usage`] where something is missing or too much.
pub(super) fn asked(args: &SearchArgs, talk: Talk) -> Result<(Query, Option<Places>)> {
    let (query, places) = match (&args.image, args.index_only, &args.arguments[..]) {
        (Some(image), _, places) => {
            let list = inputs::expand(std::slice::from_ref(image), false)?.list;
            let [input] = <[Input; 1]>::try_from(list).map_err(|list| {
                let what = format!("--image names {} images", list.len());
                Error::usage(what, "name one file; images to search in come without a flag")
            })?;
            (Query::Image(input), places)
        }
        (None, true, []) => {
            let what = "there are no images to make an index of";
            return Err(Error::usage(what, "name files, directories, 'globs' or @lists"));
        }
        (None, true, places) => (Query::None, places),
        (None, false, []) => {
            let help = "write words in quotation marks, or pass --image FILE, and name a folder of images";
            return Err(Error::usage("there is nothing to look for", help));
        }
        (None, false, [words, places @ ..]) => (Query::Words(words_of(words, places)?), places),
    };
    if places.is_empty() {
        if args.index.is_none() {
            let help = "name a folder of images behind it, or an index with --index";
            return Err(Error::usage("there are no images to search in", help));
        }
        if args.rebuild {
            let what = "--rebuild needs the images";
            return Err(Error::usage(what, "name them as when the index was made"));
        }
        return Ok((query, None));
    }
    if places.iter().any(|place| place == "-") {
        let what = "an index is of files, not of standard input";
        return Err(Error::usage(what, "write the image to a file, or look for it with --image -"));
    }
    let found = inputs::expand(places, args.recursive)?;
    found.skipped.iter().for_each(|skipped| talk.warn(escaped(skipped)));
    let name = |place: &Path| if place.is_dir() { real(place) } else { absolute(place) };
    let named = places.iter().map(|place| name(Path::new(place))).collect();
    Ok((query, Some(Places { named, inputs: found.list })))
}

/// The first argument as words.
fn words_of(words: &OsString, places: &[OsString]) -> Result<String> {
    let Some(text) = words.to_str() else {
        return Err(Error::usage("the words are not text in this system's encoding", "write them as UTF-8"));
    };
    if text.trim().is_empty() {
        return Err(Error::usage("the words are empty", "write what to look for"));
    }
    if places.is_empty() && Path::new(words).exists() {
        let what = format!("`{text}` is a place to search in, and there is nothing to look for");
        let help = format!(
            "write words in front of it: `vit-gpu search \"a red car\" {text}`; or pass --image FILE, or --index-only"
        );
        return Err(Error::usage(what, help));
    }
    Ok(text.to_owned())
}

/// A path from the root on, links as they are.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A folder behind all links: one name for it, however it was named.
fn real(folder: &Path) -> PathBuf {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(path) = fs::canonicalize(folder) else { return absolute(folder) };
    if cfg!(windows) { PathBuf::from(plain(&path)) } else { path }
}

impl Places {
    /// Files by their path in the folder as [`real`] has it: each once, as it was named first.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, &Path> {
        let mut folders: HashMap<&Path, PathBuf> = HashMap::new();
        let mut files = BTreeMap::new();
        for path in self.inputs.iter().filter_map(Input::file) {
            let place = match (path.parent(), path.file_name()) {
                (Some(folder), Some(name)) => {
                    folders.entry(folder).or_insert_with(|| real(folder)).join(name)
                }
                _ => absolute(path),
            };
            files.entry(place).or_insert(path);
        }
        files
    }

    /// Folders that were named and have images: what is missing in one of them is gone, and not merely a disk that is
    /// not there.
    pub(super) fn folders(&self, files: &BTreeMap<PathBuf, &Path>) -> Vec<PathBuf> {
        let has_images = |folder: &&PathBuf| files.keys().any(|file| file.starts_with(folder));
        self.named.iter().filter(|place| place.is_dir()).filter(has_images).cloned().collect()
    }

    /// Where the index of these images lies that a model with this fingerprint makes.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no place for a cache; [`Error::Write`].
    pub(super) fn index(&self, weights: &str) -> Result<PathBuf> {
        let Some(cache) = open::cache_dir() else {
            let what = "there is no place for a cache";
            let help = format!("name a folder with --index, or set {}", open::CACHE_VARIABLES);
            return Err(Error::usage(what, help));
        };
        let mut digest = Sha256::new();
        for place in &self.named {
            digest.update(place.as_os_str().as_encoded_bytes());
            digest.update([0]);
        }
        digest.update(weights);
        let name: String = digest.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        let folder = cache.join("search");
        fs::create_dir_all(&folder)
            .map_err(|e| Error::Write { path: folder.display().to_string(), what: e.to_string() })?;
        Ok(folder.join(name))
    }
}
