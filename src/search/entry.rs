//! What an index knows of its images, and of what made it.

use serde::{Deserialize, Serialize};

/// An image of an index: a line of `images.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its absolute path.
    pub path: String,
    /// Length of its file in bytes.
    pub bytes: u64,
    /// When its file was written last, in microseconds since 1970 (UTC).
    pub modified_us: i64,
    /// SHA-256 of its file's bytes, in hexadecimal digits.
    pub sha256: String,
}

/// What embeddings are made by. Those of different makers cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// The model as it was named: a folder, a name on the hub, `builtin:NAME`.
    pub model: String,
    /// [`Checkpoint::fingerprint`](crate::checkpoint::Checkpoint::fingerprint) of its weights.
    pub weights: String,
    /// Which of its outputs.
    pub output: String,
    /// How images are prepared, in words.
    pub preprocessing: String,
}

impl Maker {
    /// What is different of another maker, if its embeddings cannot be compared with this one's. The name does not
    /// matter: a model may lie in two places.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let differ: [(&'static str, &String, &String); 3] = [
            ("the weights", &self.weights, &other.weights),
            ("the output that is taken", &self.output, &other.output),
            ("the preprocessing", &self.preprocessing, &other.preprocessing),
        ];
        differ.into_iter().find(|(_, a, b)| a != b).map(|(what, ..)| what)
    }
}
