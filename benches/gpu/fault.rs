//! A program that measures two items and then does not come back, or dies: what `rows` must survive.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::{Result, items};

#[derive(clap::Args)]
pub struct Args {
    kind: Kind,
    /// Leave out what this file names
    #[arg(long, value_name = "FILE")]
    skip: Option<PathBuf>,
    #[arg(long)]
    singly: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Kind {
    Hang,
    Crash,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let skipped = items::skipped(args.skip.as_deref())?;
    for name in ["one", "two", "bad", "three"].into_iter().filter(|n| !skipped.contains(*n)) {
        items::begin(name);
        match (name, args.kind) {
            ("bad", Kind::Hang) => std::thread::sleep(Duration::from_secs(3600)),
            ("bad", Kind::Crash) => std::process::abort(),
            _ => items::end(name, json!({ "pass": true })),
        }
    }
    Ok(ExitCode::SUCCESS)
}
