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

/// What a row was measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Of {
    pub commit: String,
    pub scale: String,
    /// Name and driver.
    pub adapter: String,
}

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub row: String,
    /// Of which code, sizes and adapter: a row of others is no reason not to run it.
    #[serde(flatten)]
    pub of: Of,
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

impl Record {
    /// Whether this one says more than one that came before it: what was not finished and has less to show
    /// takes nobody's place.
    fn replaces(&self, old: &Self) -> bool {
        self.of != old.of || self.status.is_final() || self.output.len() >= old.output.len()
    }
}

/// The file of a report.
pub struct Report {
    file: File,
    records: BTreeMap<String, Record>,
}

impl Report {
    /// Reads what is there; a last line that was cut off counts for nothing.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).unwrap_or_default();
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let mut file = opened.map_err(|e| format!("{}: {e}", path.display()))?;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            writeln!(file)?;
        }
        Ok(Self { file, records: records(&bytes) })
    }

    /// Adds the rows of another report that were measured on the same and say more.
    pub fn adopt(&mut self, path: &Path, of: &Of) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for (row, record) in records(&bytes) {
            let own = self.records.get(&row);
            if record.of == *of && own.is_none_or(|own| !own.status.is_final() && record.replaces(own)) {
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
        keep(&mut self.records, record);
        Ok(())
    }
}

/// Records by row.
fn records(bytes: &[u8]) -> BTreeMap<String, Record> {
    let mut records = BTreeMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Ok(record) = serde_json::from_str::<Record>(line) {
            keep(&mut records, record);
        }
    }
    records
}

fn keep(records: &mut BTreeMap<String, Record>, record: Record) {
    if records.get(&record.row).is_none_or(|old| record.replaces(old)) {
        records.insert(record.row.clone(), record);
    }
}
