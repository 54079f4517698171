//! Models of well-known sizes with random weights, made on the fly: to measure, and to try what needs no
//! trained model. Random weights take as long as trained ones.

pub mod folder;
pub mod fresh;
pub mod llamagen;
pub mod shapes;
pub mod text;
pub mod towers;
pub mod vision;

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// A model made on the fly: what its files would hold.
pub struct Made {
    /// The size's name in full.
    pub name: String,
    /// `config.json`.
    pub config: Value,
    /// `preprocessor_config.json`, of a vision model.
    pub preprocessor: Option<Value>,
    /// The model's tensors.
    pub checkpoint: Checkpoint,
    /// The codec's tensors, of a generator of images.
    pub codec: Option<Checkpoint>,
}

/// A model of a named size: `vit-b/16`, `clip-b/32`, `llamagen-b`, `bert-base`, `gpt2`, `t5-base`, ...
///
/// # Errors
/// [`crate::Error::Usage`] with the names there are.
pub fn named(size: &str) -> Result<Made> {
    let family = size.trim().to_ascii_lowercase();
    if family.starts_with("llamagen") || family.starts_with("randar") {
        let made = llamagen::SyntheticLlamaGen::named(size)?;
        let (config, checkpoint, codec) = (made.config(), made.decoder(), Some(made.tokenizer()));
        return Ok(Made { name: size.to_owned(), config, preprocessor: None, checkpoint, codec });
    }
    if let Ok(made) = text::SyntheticText::named(size) {
        let (name, config, checkpoint) = (made.name().to_owned(), made.config(), made.checkpoint());
        return Ok(Made { name, config, preprocessor: None, checkpoint, codec: None });
    }
    if let Some(made) = towers::SyntheticTowers::named(size) {
        let (name, config, checkpoint) = (made.name().to_owned(), made.config(), made.checkpoint());
        return Ok(Made { name, config, preprocessor: Some(made.preprocessor()), checkpoint, codec: None });
    }
    let made = vision::Synthetic::named(size)?;
    let (name, config, checkpoint) = (made.name().to_owned(), made.config(), made.checkpoint());
    Ok(Made { name, config, preprocessor: Some(made.preprocessor()), checkpoint, codec: None })
}
