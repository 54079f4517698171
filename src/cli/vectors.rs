//! Vectors of inputs as a safetensors file: one tensor (N,E) f32, the inputs as the tensor `inputs`, whose bytes
//! are a JSON list, and in the metadata the model and how the vectors were made. The header of such a file
//! may have 100 MB, so nothing that grows with the inputs stands in it. Nothing is written where no input
//! worked.
//!
//! Rows go to the file as they come, behind room for the header, once there are many of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::outfile::OutFile;
use super::talk::Talk;
use crate::error::{Error, Result};

/// Bytes of rows that wait before they are written.
const WAITING: usize = 8 << 20;
/// Bytes for the header of a file whose rows were written before it.
const HEADER: usize = 64 << 10;
/// The tensor with the inputs.
const INPUTS: &str = "inputs";

/// Rows, written as they come.
pub(super) struct Vectors {
    file: OutFile,
    path: PathBuf,
    rows: usize,
    /// Bytes of rows that are in the file.
    written: usize,
    /// Bytes of rows that are not.
    waiting: Vec<u8>,
    /// The inputs, as a JSON list without its end.
    inputs: Vec<u8>,
}

impl Vectors {
    /// Begins the file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self::new((path.to_owned(), OutFile::create(path)?)))
    }

    /// For a file that was begun.
    pub(super) fn new((path, file): (PathBuf, OutFile)) -> Self {
        Self { file, path, rows: 0, written: 0, waiting: Vec::new(), inputs: Vec::new() }
    }

    /// Takes one row.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn push(&mut self, input: &str, row: &[f32]) -> Result<()> {
        self.inputs.push(if self.rows == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.inputs, input).map_err(|e| self.wrong(e.to_string()))?;
        self.rows += 1;
        self.waiting.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        if self.waiting.len() >= WAITING && self.file.can_go_back() {
            if self.written == 0 {
                self.file.append(&[b' '; HEADER])?;
            }
            self.file.append(&self.waiting)?;
            self.written += self.waiting.len();
            self.waiting.clear();
        }
        Ok(())
    }

    fn wrong(&self, what: String) -> Error {
        Error::Write { path: self.path.display().to_string(), what }
    }

    /// Ends the file: the tensor's name, and what the metadata says.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn finish(mut self, tensor: &str, about: &[(&str, String)], talk: Talk) -> Result<()> {
        if self.rows == 0 {
            talk.warn(format_args!("{} is not written: no input worked", self.path.display()));
            return Ok(());
        }
        self.inputs.push(b']');
        let bytes = self.written + self.waiting.len();
        let about: Map<String, Value> =
            about.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
        let header = json!({
            "__metadata__": about,
            tensor: {"dtype": "F32", "shape": [self.rows, bytes / 4 / self.rows], "data_offsets": [0, bytes]},
            INPUTS: {
                "dtype": "U8",
                "shape": [self.inputs.len()],
                "data_offsets": [bytes, bytes + self.inputs.len()],
            },
        });
        let mut header = header.to_string().into_bytes();
        // Spaces behind it are part of the format; numbers begin at a multiple of their size.
        let length = if self.written > 0 { HEADER - 8 } else { header.len().next_multiple_of(8) };
        if header.len() > length {
            return Err(self.wrong(format!("a header of {} bytes is too long", header.len())));
        }
        header.resize(length, b' ');
        let head = [&(length as u64).to_le_bytes()[..], &header].concat();
        if self.written > 0 {
            self.file.begin_with(&head)?;
        } else {
            self.file.append(&head)?;
        }
        self.file.append(&self.waiting)?;
        self.file.finish(&self.inputs)?;
        talk.note(format_args!("{} embeddings in {}", self.rows, self.path.display()));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cli::args::TalkArgs;

    #[test]
    fn many_rows_are_written_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let talk = Talk::new(TalkArgs { quiet: true, verbose: 0 });
        // One that waits to the end, and one of three parts.
        for rows in [3, 2 * WAITING / 4 / 1024 + 5] {
            let path = folder.path().join(format!("{rows}.safetensors"));
            let mut vectors = Vectors::create(&path).unwrap();
            let row = |i: usize| -> Vec<f32> { (0..1024).map(|c| (i * 7 + c) as f32).collect() };
            for i in 0..rows {
                vectors.push(&format!("text \"{i}\""), &row(i)).unwrap();
            }
            assert!(vectors.waiting.len() < WAITING);
            vectors.finish("embeddings", &[("model", "m".to_owned())], talk).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let (_, about) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            assert_eq!(about.metadata().as_ref().unwrap()["model"], "m");
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let found = file.tensor("embeddings").unwrap();
            assert_eq!(found.shape(), [rows, 1024]);
            let last: Vec<u8> = row(rows - 1).iter().flat_map(|x| x.to_le_bytes()).collect();
            assert!(found.data().ends_with(&last));
            let inputs: Vec<String> = serde_json::from_slice(file.tensor(INPUTS).unwrap().data()).unwrap();
            assert_eq!((inputs.len(), inputs[2].as_str()), (rows, "text \"2\""));
        }
    }
}
