//! Vectors of inputs as a safetensors file: one tensor (N,E) f32, and in its metadata the model,
//! how the vectors were made, and the inputs as a JSON list. Nothing is written where no input worked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::outfile::OutFile;
use super::talk::Talk;
use crate::error::{Error, Result};

/// Rows, collected and written at the end.
pub(super) struct Vectors {
    file: OutFile,
    path: PathBuf,
    names: Vec<String>,
    /// Row by row.
    rows: Vec<f32>,
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
        Self { file, path, names: Vec::new(), rows: Vec::new() }
    }

    /// Keeps one row.
    pub(super) fn push(&mut self, input: &str, row: &[f32]) {
        self.names.push(input.to_owned());
        self.rows.extend_from_slice(row);
    }

    /// Writes the file: the tensor's name, and what the metadata says beside the inputs.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn finish(self, tensor: &str, about: &[(&str, String)], talk: Talk) -> Result<()> {
        if self.names.is_empty() {
            talk.warn(format_args!("{} is not written: no input worked", self.path.display()));
            return Ok(());
        }
        let wrong = |e: String| Error::Write { path: self.path.display().to_string(), what: e };
        let shape = vec![self.names.len(), self.rows.len() / self.names.len()];
        let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&self.rows));
        let view = view.map_err(|e| wrong(e.to_string()))?;
        let inputs = serde_json::to_string(&self.names).map_err(|e| wrong(e.to_string()))?;
        let about = about.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let about: HashMap<_, _> = about.chain([("inputs".to_owned(), inputs)]).collect();
        let bytes =
            safetensors::serialize([(tensor, view)], Some(about)).map_err(|e| wrong(e.to_string()))?;
        self.file.finish(&bytes)?;
        talk.note(format_args!("{} embeddings in {}", self.names.len(), self.path.display()));
        Ok(())
    }
}
