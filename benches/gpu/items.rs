//! What a command that measures many items prints, and what it leaves out.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::Result;

/// Names in a file given by `--skip`, one a line.
pub fn skipped(file: Option<&Path>) -> Result<BTreeSet<String>> {
    let Some(file) = file else { return Ok(BTreeSet::new()) };
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Announces an item.
pub fn begin(name: &str) {
    line(&json!({ "begin": name }));
}

/// Prints what an item gave: an object, to which its name is added.
pub fn end(name: &str, mut gave: Value) {
    gave["item"] = name.into();
    line(&gave);
}

/// One line of JSON, at once: what comes next may end the process.
pub fn line(value: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: then nobody misses it.
    _ = writeln!(out, "{value}").and_then(|()| out.flush());
}
