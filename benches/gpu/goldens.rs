//! `vit-gpu verify` on every recorded model of tests/golden, each in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use crate::{Result, items};

#[derive(clap::Args)]
pub struct Args {
    /// Where the models are
    #[arg(long, default_value = "tests/golden")]
    folder: PathBuf,
    #[arg(long, value_name = "f32|f16", default_value = "f32")]
    dtype: String,
    /// Only models whose names hold this
    #[arg(long)]
    only: Option<String>,
    /// Leave out what this file names
    #[arg(long, value_name = "FILE")]
    skip: Option<PathBuf>,
}

/// 1 if a model's outputs differ.
pub fn run(args: &Args) -> Result<ExitCode> {
    let skipped = items::skipped(args.skip.as_deref())?;
    let entries = std::fs::read_dir(&args.folder).map_err(|e| format!("{}: {e}", args.folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    folders.retain(|f| f.join("golden.safetensors").is_file() && has_weights(f));
    folders.sort();
    let mut failed = false;
    for folder in folders {
        let model = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{model} {}", args.dtype);
        if skipped.contains(&name) || args.only.as_ref().is_some_and(|only| !model.contains(only.as_str())) {
            continue;
        }
        items::begin(&name);
        let gave = verify(&folder, &args.dtype)?;
        failed |= gave["pass"] == false;
        items::end(&name, gave);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether a folder holds more than the recorded outputs.
fn has_weights(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
    let names = files.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".safetensors")).count() > 1
}

/// Whether the outputs agree, how many there are, and by how much the worst differs.
fn verify(folder: &Path, dtype: &str) -> Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["verify", "-q", "--allow-missing", "--format", "json", "--dtype", dtype, "-m"]).arg(folder);
    let done = command.stdin(Stdio::null()).output()?;
    let Ok(document) = serde_json::from_slice::<Value>(&done.stdout) else {
        let said = String::from_utf8_lossy(&done.stderr);
        let error = said.lines().find(|l| l.starts_with("error: ")).or(said.lines().last());
        let why = format!("{}: {}", done.status, error.unwrap_or("it said nothing"));
        return Ok(json!({ "pass": false, "failure": why }));
    };
    let outputs = document["outputs"].as_array().cloned().unwrap_or_default();
    if outputs.iter().all(|o| o["missing"] == true) {
        return Ok(json!({ "skipped": "no recorded output is one that this command knows" }));
    }
    let worst = outputs.iter().filter_map(|o| o["max_abs"].as_f64()).fold(0.0, f64::max);
    let wrong: Vec<&Value> = outputs.iter().filter(|o| o["pass"] != true).map(|o| &o["name"]).collect();
    Ok(json!({ "pass": document["pass"], "outputs": outputs.len(), "max_error": worst, "wrong": wrong }))
}
