//! Floor 6. Embeddings as a safetensors file: `embeddings` (N,E) f32, and in its metadata the model, how
//! the vectors were made, and the inputs as a JSON list.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::cli::outfile::OutFile;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};

/// Name of the tensor.
const EMBEDDINGS: &str = "embeddings";

/// Rows, collected and written at the end.
pub(super) struct Store {
    file: OutFile,
    path: PathBuf,
    names: Vec<String>,
    /// Row by row.
    rows: Vec<f32>,
}

impl Store {
    /// Begins the file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: OutFile::create(path)?, path: path.to_owned(), names: Vec::new(), rows: Vec::new() })
    }

    /// Keeps one row.
    pub(super) fn push(&mut self, input: &str, row: &[f32]) {
        self.names.push(input.to_owned());
        self.rows.extend_from_slice(row);
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn finish(self, model: &str, pool: &str, normalized: bool, talk: Talk) -> Result<()> {
        if self.names.is_empty() {
            talk.warn(format_args!("{} is not written: no input worked", self.path.display()));
            return Ok(());
        }
        let wrong = |e: String| Error::Write { path: self.path.display().to_string(), what: e };
        let shape = vec![self.names.len(), self.rows.len() / self.names.len()];
        let view = TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&self.rows));
        let view = view.map_err(|e| wrong(e.to_string()))?;
        let inputs = serde_json::to_string(&self.names).map_err(|e| wrong(e.to_string()))?;
        let about = HashMap::from([
            ("model".to_owned(), model.to_owned()),
            ("pool".to_owned(), pool.to_owned()),
            ("normalized".to_owned(), normalized.to_string()),
            ("inputs".to_owned(), inputs),
        ]);
        let bytes =
            safetensors::serialize([(EMBEDDINGS, view)], Some(about)).map_err(|e| wrong(e.to_string()))?;
        self.file.finish(&bytes)?;
        talk.note(format_args!("{} embeddings in {}", self.names.len(), self.path.display()));
        Ok(())
    }
}
