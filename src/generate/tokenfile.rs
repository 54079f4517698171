//! Tokens of images as JSON: written a row of patches a line, and read with suspicion.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::GeneratorInfo;
use super::recipe::Recipe;
use crate::error::{Error, Result};

/// Largest token file that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// A token file's text. `recipe` tells what drew the samples, if they were drawn.
pub fn write(model: &str, info: &GeneratorInfo, recipe: Option<&Recipe>, tokens: &[Vec<u32>]) -> String {
    let mut out = format!(
        "{{\"model\": {}, \"grid\": [{}, {}], \"vocabulary\": {}, \"samples\": [",
        Value::from(model),
        info.grid[0],
        info.grid[1],
        info.vocabulary
    );
    for (i, tokens) in tokens.iter().enumerate() {
        out.push_str(if i == 0 { "\n  {" } else { ",\n  {" });
        if let Some(recipe) = recipe
            && let Some(subject) = recipe.samples.get(i)
        {
            out.push_str(&format!("\"sample\": {}, ", subject.sample));
            if let Some(class) = subject.class {
                out.push_str(&format!("\"class\": {class}, \"name\": {}, ", json!(subject.name)));
            }
            out.push_str(&format!("\"seed\": {}, ", recipe.seed));
        }
        out.push_str("\"tokens\": [");
        for (r, row) in tokens.chunks(info.grid[1].max(1)).enumerate() {
            let ids: Vec<String> = row.iter().map(u32::to_string).collect();
            let before = if r == 0 { "" } else { "," };
            out.push_str(&format!("{before}\n    [{}]", ids.join(", ")));
        }
        out.push_str("\n  ]}");
    }
    out.push_str("\n]}\n");
    out
}

#[derive(Deserialize)]
struct TokenFile {
    grid: [usize; 2],
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    tokens: Vec<Vec<u32>>,
}

/// The tokens of a file, in raster order, for this model.
///
/// # Errors
/// [`Error::Input`] that names the file for anything that this model cannot draw.
pub fn read(path: &Path, info: &GeneratorInfo) -> Result<Vec<Vec<u32>>> {
    let wrong = |what: String, help: &str| Error::input(path.display(), what, help);
    let unreadable = |e: std::io::Error| wrong(format!("cannot be read: {e}"), "check the path");
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let what = format!("is no regular file of at most {} MB", MAX_BYTES >> 20);
        return Err(wrong(what, "name a file of tokens that this program wrote"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let file: TokenFile = serde_json::from_slice(&bytes).map_err(|e| {
        wrong(format!("is no token file: {e}"), "compare it with a file of tokens that this program wrote")
    })?;
    let [rows, columns] = info.grid;
    if file.grid != info.grid {
        let what = format!("has {}x{} patches, the model {rows}x{columns}", file.grid[0], file.grid[1]);
        return Err(wrong(what, "open the model that made the tokens"));
    }
    if file.samples.is_empty() {
        return Err(wrong(
            "has no samples".into(),
            "compare it with a file of tokens that this program wrote",
        ));
    }
    let mut samples = Vec::new();
    for (i, sample) in file.samples.into_iter().enumerate() {
        if sample.tokens.len() > rows {
            let what = format!("sample {i} has {} rows, the model's images {rows}", sample.tokens.len());
            return Err(wrong(what, "open the model that made the tokens"));
        }
        let last = sample.tokens.len().saturating_sub(1);
        for (r, row) in sample.tokens.iter().enumerate() {
            let full = row.len() == columns || (r == last && row.len() < columns);
            if !full {
                let what = format!("sample {i}: row {r} has {} tokens instead of {columns}", row.len());
                return Err(wrong(what, "only the last row may be shorter"));
            }
            if let Some(id) = row.iter().find(|id| **id as usize >= info.vocabulary) {
                let what = format!("sample {i}, row {r}: there is no token {id}");
                return Err(wrong(
                    what,
                    &format!("tokens go from 0 to {}", info.vocabulary.saturating_sub(1)),
                ));
            }
        }
        samples.push(sample.tokens.concat());
    }
    Ok(samples)
}
