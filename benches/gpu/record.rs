//! What a row gave, and the file that keeps it: a line of JSON for each row as soon as it has ended. A
//! later line of the same row takes the place of an earlier one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// With exit status 0.
    Ok,
    /// To its end, and something in it was wrong.
    Failed,
    /// Killed by a signal, or by a panic.
    Crashed,
    /// Nothing was heard of it for too long.
    Hung,
    /// Its time was up.
    TimedOut,
    /// Never begun.
    NotRun,
}

impl Status {
    /// Whether running it again could only give the same.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Ok | Status::Failed)
    }
}

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub row: String,
    /// Of which code and sizes: a row of others is no reason not to run it.
    pub commit: String,
    pub scale: String,
    pub status: Status,
    /// Why it did not end well.
    pub why: String,
    pub seconds: f64,
    pub limit: f64,
    /// How often it was started.
    pub starts: u32,
    pub command: Vec<String>,
    /// What it printed on standard output, as JSON.
    pub output: Vec<Value>,
    /// Items that it hung in or died of.
    pub lost: Vec<String>,
    /// The end of what it printed on standard error.
    pub stderr: String,
}

/// The file of a report.
pub struct Report {
    file: File,
    records: BTreeMap<String, Record>,
}

impl Report {
    /// Reads what is there; a last line that was cut off counts for nothing.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let records = records(&text);
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let mut file = opened.map_err(|e| format!("{}: {e}", path.display()))?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file)?;
        }
        Ok(Self { file, records })
    }

    /// Adds the rows of another report that this one does not have.
    pub fn adopt(&mut self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for (row, record) in records(&text) {
            if !self.records.contains_key(&row) {
                self.add(record)?;
            }
        }
        Ok(())
    }

    /// What is known of a row.
    pub fn of(&self, row: &str) -> Option<&Record> {
        self.records.get(row)
    }

    /// Adds a row, on disk before this returns.
    pub fn add(&mut self, record: Record) -> Result<()> {
        let mut line = serde_json::to_string(&record)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.records.insert(record.row.clone(), record);
        Ok(())
    }
}

/// Records by row; the last of each row counts.
fn records(text: &str) -> BTreeMap<String, Record> {
    let records = text.lines().filter_map(|l| serde_json::from_str::<Record>(l).ok());
    records.map(|r| (r.row.clone(), r)).collect()
}
