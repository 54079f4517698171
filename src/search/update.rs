//! Bringing an index up to date. What is new is kept in parts beside what is there, so that little is lost if the
//! process ends; when all is done a new index is written and put in the place of the old one at once. Until then
//! whoever reads the index reads the old one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::mem;
use std::path::{Path, PathBuf};

use super::disk::{self, EMBEDDINGS, PARTS, failed};
use super::entry::{Image, Maker};
use super::folder::{discard, draft_of, drafts, lock, parts, stranger};
use super::index::Index;
use crate::error::{Advice, Error, Result};
use crate::exchange;

/// Rows that are copied at a time.
const COPIED: usize = 4096;

/// What an update came to, in images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones that were embedded.
    pub added: usize,
    /// Embedded anew, because their files had changed.
    pub changed: usize,
    /// Found under another path, too.
    pub moved: usize,
    /// As they were.
    pub unchanged: usize,
    /// Left out, because their files are gone or cannot be read any more, and were not moved.
    pub vanished: usize,
    /// Of these, embedded by a run that did not end.
    pub resumed: usize,
}

/// Where a row lies: in an index that was opened, or in memory.
#[derive(Debug, Clone, Copy)]
struct Place {
    source: usize,
    row: usize,
}

#[derive(Debug)]
struct Entry {
    image: Image,
    place: Place,
}

/// An index that is being brought up to date. Dropping it keeps what [`Update::keep`] has written.
#[derive(Debug)]
pub struct Update {
    folder: PathBuf,
    maker: Maker,
    width: Option<usize>,
    /// The old index, if there is one, and the parts.
    sources: Vec<Index>,
    /// Images in memory and their rows: the source behind all others.
    fresh: Vec<Image>,
    values: Vec<f32>,
    /// By path.
    entries: BTreeMap<String, Entry>,
    by_content: HashMap<String, Place>,
    /// Contents that were found under another path: the old path is no loss.
    found_again: HashSet<String>,
    changes: Changes,
    /// What is to be written differs from the old index.
    differs: bool,
    next_part: usize,
    /// Held while this lives.
    _lock: Option<File>,
}

impl Update {
    /// Begins: reads what is there. `anew` leaves it out of account, but for parts of an interrupted run that replaces
    /// another maker's index.
    ///
    /// # Errors
    /// [`Error::Model`] for an index of another maker, [`Error::Input`] for a damaged one or one that another process
    /// is writing; [`Error::Usage`] for a folder that holds other things; [`Error::Write`].
    pub fn begin(folder: &Path, maker: Maker, anew: bool) -> Result<Self> {
        if let Some(stranger) = stranger(folder)? {
            let what = format!("{} holds `{stranger}` and is no index", folder.display());
            return Err(Error::usage(what, "name a new folder for the index"));
        }
        if !folder.is_dir() {
            fs::create_dir(folder).map_err(|e| failed(folder, &e))?;
        }
        let folder = fs::canonicalize(folder).map_err(|e| failed(folder, &e))?;
        let lock = lock(&folder)?;
        drafts(&folder).iter().chain(&drafts(&folder.join(PARTS).join("x"))).for_each(|draft| discard(draft));
        let mut update = Self {
            folder,
            maker,
            width: None,
            sources: Vec::new(),
            fresh: Vec::new(),
            values: Vec::new(),
            entries: BTreeMap::new(),
            by_content: HashMap::new(),
            found_again: HashSet::new(),
            changes: Changes::default(),
            differs: false,
            next_part: 0,
            _lock: lock,
        };
        update.read(anew)?;
        Ok(update)
    }

    fn read(&mut self, anew: bool) -> Result<()> {
        let mut other = false;
        if self.folder.join(EMBEDDINGS).exists() {
            let index = Index::open(&self.folder);
            other = index.as_ref().is_ok_and(|index| index.maker().difference(&self.maker).is_some());
            if !anew {
                self.take(index?)?;
            }
        }
        for (number, path) in parts(&self.folder) {
            self.next_part = self.next_part.max(number + 1);
            match Index::open(&path) {
                Ok(part) if !anew || (other && part.maker().difference(&self.maker).is_none()) => {
                    self.changes.resumed += part.len();
                    self.take(part)?;
                    self.differs = true;
                }
                // What cannot be read is made again.
                _ => discard(&path),
            }
        }
        Ok(())
    }

    /// Takes over the rows of an index, in place of those of the same paths.
    fn take(&mut self, index: Index) -> Result<()> {
        if let Some(what) = index.maker().difference(&self.maker) {
            let (old, new) = (index.maker(), &self.maker);
            let short = |maker: &Maker| maker.weights.chars().take(8).collect::<String>();
            let what = format!(
                "was made by {} (weights {}…), and this is {} (weights {}…): {what} differ",
                old.model,
                short(old),
                new.model,
                short(new)
            );
            return Err(Error::model(self.folder.display(), what, Advice::IndexOther));
        }
        self.width = Some(index.width());
        let source = self.sources.len();
        for row in 0..index.len() {
            self.enter(index.image(row)?, Place { source, row });
        }
        self.sources.push(index);
        Ok(())
    }

    fn enter(&mut self, image: Image, place: Place) {
        self.by_content.insert(image.sha256.clone(), place);
        self.entries.insert(image.path.clone(), Entry { image, place });
    }

    /// Whether the index has this file as it is, by its length and time: then there is nothing to do.
    pub fn is_current(&mut self, path: &str, bytes: u64, modified_us: i64) -> bool {
        let same = |e: &Entry| e.image.bytes == bytes && e.image.modified_us == modified_us;
        let current = self.entries.get(path).is_some_and(same);
        self.changes.unchanged += usize::from(current);
        current
    }

    /// Whether an image of this content has a row.
    pub fn knows(&self, sha256: &str) -> bool {
        self.by_content.contains_key(sha256)
    }

    /// Takes the row of an image of the same content, if there is one: of a file that was moved, copied or touched.
    pub fn adopt(&mut self, image: Image) -> bool {
        let Some(&place) = self.by_content.get(&image.sha256) else { return false };
        match self.entries.get(&image.path) {
            Some(old) if old.image.sha256 == image.sha256 => self.changes.unchanged += 1,
            Some(_) => self.changes.changed += 1,
            None => {
                self.changes.moved += 1;
                self.found_again.insert(image.sha256.clone());
            }
        }
        self.differs = true;
        self.enter(image, place);
        true
    }

    /// Takes an image and its embedding, which is brought to length 1.
    ///
    /// # Errors
    /// [`Error::Input`] for an embedding that has no direction, or is of another width than the rest.
    pub fn add(&mut self, image: Image, mut embedding: Vec<f32>) -> Result<()> {
        let wrong = |what: String| Error::input(&image.path, what, "");
        let width = *self.width.get_or_insert(embedding.len());
        if embedding.len() != width {
            return Err(wrong(format!(
                "its embedding has {} numbers, those of the index {width}",
                embedding.len()
            )));
        }
        if !to_unit(&mut embedding) {
            return Err(wrong("its embedding has no direction: all zeros, or not finite".to_owned()));
        }
        match self.entries.contains_key(&image.path) {
            true => self.changes.changed += 1,
            false => self.changes.added += 1,
        }
        self.differs = true;
        let place = Place { source: self.sources.len(), row: self.fresh.len() };
        self.fresh.push(image.clone());
        self.values.extend(embedding);
        self.enter(image, place);
        Ok(())
    }

    /// Leaves out an image whose file cannot be read any more.
    pub fn forget(&mut self, path: &str) {
        if self.entries.remove(path).is_some() {
            self.changes.vanished += 1;
            self.differs = true;
        }
    }

    /// Leaves out all images of these paths.
    pub fn forget_all(&mut self, gone: &dyn Fn(&str) -> bool) {
        let before = self.entries.len();
        let Self { entries, found_again, changes, .. } = self;
        entries.retain(|path, entry| {
            let gone = gone(path);
            changes.vanished += usize::from(gone && !found_again.remove(&entry.image.sha256));
            !gone
        });
        self.differs |= self.entries.len() < before;
    }

    /// Writes what was added since the last time, so that it is there if the process ends now.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn keep(&mut self) -> Result<()> {
        let Some(width) = self.width.filter(|_| !self.fresh.is_empty()) else { return Ok(()) };
        let parts = self.folder.join(PARTS);
        fs::create_dir_all(&parts).map_err(|e| failed(&parts, &e))?;
        let (place, draft) =
            (parts.join(format!("{:06}", self.next_part)), draft_of(&parts.join("x"), "part"));
        fs::create_dir(&draft).map_err(|e| failed(&draft, &e))?;
        let values = mem::take(&mut self.values);
        let images = mem::take(&mut self.fresh);
        let written =
            disk::write(&draft, &self.maker, width, images.iter(), std::iter::once(Ok(values.clone())))
                .and_then(|()| fs::rename(&draft, &place).map_err(|e| failed(&place, &e)))
                .and_then(|()| Index::open(&place));
        match written {
            Ok(part) => {
                exchange::sync(&parts);
                self.next_part += 1;
                self.sources.push(part);
                Ok(())
            }
            Err(e) => {
                discard(&draft);
                (self.fresh, self.values) = (images, values);
                Err(e)
            }
        }
    }

    /// How many images there are now.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Writes the new index, puts it in the place of the old one, and opens it. Nothing is written where nothing has
    /// changed.
    ///
    /// # Errors
    /// [`Error::Write`]: then what was there before is untouched; [`Error::Input`] if no image is left.
    pub fn finish(mut self) -> Result<(Index, Changes)> {
        let folder = self.folder.clone();
        let Some(width) = self.width.filter(|_| !self.entries.is_empty()) else {
            let what = "no image would be in the index, so it is left as it is";
            return Err(Error::input(folder.display(), what, "name a folder with images"));
        };
        if self.differs || self.sources.is_empty() {
            let draft = draft_of(&folder, "index");
            discard(&draft);
            fs::create_dir(&draft).map_err(|e| failed(&draft, &e))?;
            let images = self.entries.values().map(|entry| &entry.image);
            let written = disk::write(&draft, &self.maker, width, images, self.blocks(width));
            // Where files are held by those who map them they could not be moved.
            self.sources.clear();
            let placed = written.and_then(|()| {
                exchange::replace(&draft, &folder).map_err(|e| failed(&folder, &e))?;
                folder.parent().into_iter().for_each(exchange::sync);
                Ok(())
            });
            // What was there before, or what could not be written.
            discard(&draft);
            placed?;
        }
        Ok((Index::open(&folder)?, self.changes))
    }

    /// The rows of all entries, in order, a few at a time.
    fn blocks(&self, width: usize) -> impl Iterator<Item = Result<Vec<f32>>> {
        let mut places = self.entries.values().map(|entry| entry.place).peekable();
        std::iter::from_fn(move || {
            let Place { source, row } = places.next()?;
            let mut end = row + 1;
            let next = |p: &Place, end: usize| p.source == source && p.row == end && end - row < COPIED;
            while places.next_if(|p| next(p, end)).is_some() {
                end += 1;
            }
            Some(match self.sources.get(source) {
                Some(index) => index.rows(row..end),
                None => Ok(self.values[row * width..end * width].to_vec()),
            })
        })
    }
}

impl Drop for Update {
    fn drop(&mut self) {
        // Folders of which nothing came; others are not empty.
        _ = fs::remove_dir(self.folder.join(PARTS));
        _ = fs::remove_dir(&self.folder);
    }
}

/// Brings a vector to length 1; false if it has no direction.
fn to_unit(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 || !length.is_finite() {
        return false;
    }
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    true
}

#[cfg(test)]
mod tests;
