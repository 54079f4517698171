//! Labels in words: by flag or one a line of a file, and the templates they are put into.

use std::path::Path;

use crate::cli::texts::{self, args::AskArgs};
use crate::dual::Wording;
use crate::error::Result;
use crate::text::TooLong;

/// The name of the templates by which CLIP was measured.
const IMAGENET: &str = "imagenet";

/// Labels that images are asked about, and how they are put.
pub(super) struct Asked {
    pub(super) labels: Vec<String>,
    pub(super) wording: Wording,
    pub(super) too_long: TooLong,
}

impl Asked {
    /// # Errors
    /// [`crate::Error::Input`] for a file that cannot be read, [`crate::Error::Usage`] for a template without a place
    /// for the label.
    pub(super) fn new(ask: &AskArgs) -> Result<Self> {
        let wording = match &ask.template[..] {
            [] => Wording::default(),
            [name] if name.eq_ignore_ascii_case(IMAGENET) => Wording::imagenet(),
            templates => Wording::new(templates.iter().cloned())?,
        };
        let too_long = if ask.texts.truncate { TooLong::Cut } else { TooLong::Refuse };
        Ok(Self { labels: labels(ask)?, wording, too_long })
    }
}

/// The labels of the flag; `@FILE` stands for the lines of a file that are not empty.
///
/// # Errors
/// [`crate::Error::Input`] for a file that cannot be read.
pub(super) fn labels(ask: &AskArgs) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for label in &ask.labels {
        match label.strip_prefix('@') {
            Some(file) if !file.is_empty() => {
                let text = texts::read(Path::new(file), "--labels")?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                all.extend(lines.map(str::to_owned));
            }
            _ => all.push(label.trim().to_owned()),
        }
    }
    Ok(all)
}
