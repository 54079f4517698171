//! An index that is there, read only.

use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::disk::{self, EMBEDDINGS, IMAGES, TENSOR};
use super::entry::{Image, Maker};
use crate::checkpoint::Checkpoint;
use crate::error::{Advice, Error, Result};

/// An index of at least one image. Rows are in the order of their paths.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    maker: Maker,
    checkpoint: Checkpoint,
    width: usize,
    /// `images.jsonl`, and where its lines end.
    lines: Vec<u8>,
    ends: Vec<usize>,
}

impl Index {
    /// Opens a folder. Rows are read when they are asked for.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no index, only the beginning of one, or a damaged one.
    pub fn open(folder: &Path) -> Result<Self> {
        // Between its two files another process may have put a new index in its place: once.
        Self::read(folder).or_else(|_| Self::read(folder))
    }

    fn read(folder: &Path) -> Result<Self> {
        let damaged = |what: String| damaged(folder, what);
        let path = folder.join(EMBEDDINGS);
        if !path.exists() {
            return Err(missing(folder));
        }
        let (maker, digest) = disk::about(&path).map_err(damaged)?;
        let checkpoint = Checkpoint::open(&path, true).map_err(|e| damaged(e.message()))?;
        let Some(&[rows, width]) = checkpoint.index().get(TENSOR).map(|shape| shape.dims()) else {
            return Err(damaged(format!("{EMBEDDINGS} has no matrix `{TENSOR}`")));
        };
        let lines = disk::read(&folder.join(IMAGES)).map_err(damaged)?;
        if disk::hexadecimal(&Sha256::digest(&lines)) != digest {
            return Err(damaged(format!("{IMAGES} is not the one that {EMBEDDINGS} was written with")));
        }
        let ends: Vec<usize> =
            lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(i, _)| i).collect();
        if ends.len() != rows || rows == 0 || width == 0 {
            let what = format!("{EMBEDDINGS} has {rows} rows of {width}, {IMAGES} {} lines", ends.len());
            return Err(damaged(what));
        }
        Ok(Self { folder: folder.to_owned(), maker, checkpoint, width, lines, ends })
    }

    /// What made it.
    pub fn maker(&self) -> &Maker {
        &self.maker
    }

    /// How many images it has; never none.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Numbers in a row, E.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The image of a row.
    ///
    /// # Errors
    /// [`Error::Input`] for a line that is none of ours.
    pub fn image(&self, row: usize) -> Result<Image> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] + 1 };
        let line = &self.lines[start..self.ends[row]];
        serde_json::from_slice(line).map_err(|e| self.damaged(format!("{IMAGES}, line {}: {e}", row + 1)))
    }

    /// Some rows, behind each other: n·E numbers.
    ///
    /// # Errors
    /// [`Error::Input`] if they cannot be read.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        self.checkpoint.read_rows(TENSOR, rows).map_err(|e| self.damaged(e.message()))
    }

    /// An error that says what is wrong with it.
    pub(super) fn damaged(&self, what: String) -> Error {
        damaged(&self.folder, what)
    }
}

pub(super) fn damaged(folder: &Path, what: String) -> Error {
    Error::input(folder.display(), format!("the index is damaged: {what}"), Advice::IndexAnew)
}

fn missing(folder: &Path) -> Error {
    let (what, help) = if folder.join(disk::PARTS).is_dir() {
        ("the index was begun and is not done", Advice::IndexMore)
    } else if folder.exists() {
        ("there is no index in this folder", Advice::IndexFolder)
    } else {
        ("there is no index", Advice::IndexFolder)
    };
    Error::input(folder.display(), what, help)
}
