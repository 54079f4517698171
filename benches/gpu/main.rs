//! Everything that `benches/gpu.sh` measures, as one program, so that a machine that can build nothing
//! needs one file:
//!
//! `cargo bench --bench gpu -- ops --gemm 4096x4096x4096 --ways --f16`
//! `cargo bench --bench gpu -- rows quick`
//!
//! `--help` lists the commands; whatever is none of them goes to the command line of `vit-gpu`.
//!
//! Commands that measure many items print a line of JSON before and after each, `{"begin": NAME}` and
//! `{"item": NAME, ...}`, and leave out what a file given by `--skip` names: so `rows` knows which item a
//! program died of, and can go on behind it.
#![allow(missing_docs, reason = "a benchmark")]

mod cases;
mod child;
mod classify;
mod device;
mod fault;
mod goldens;
mod items;
mod kernels;
mod ops;
mod picture;
mod record;
mod rows;
mod table;
mod text;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Anything that can go wrong; the process ends with it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Parser)]
#[command(name = "gpu", about = "Measures a GPU; other commands are those of vit-gpu", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the rows of benches/RESULTS.md, each under its own time limit
    Rows(rows::Args),
    /// Name and driver of the adapter that the others will use
    Adapter,
    /// Single ops by GPU timestamps
    Ops(ops::Args),
    /// Every kernel in every variant against the reference
    Kernels(kernels::Args),
    /// Recorded outputs of tests/golden, a process of its own for each
    Goldens(goldens::Args),
    /// The answers of a ViT, to be compared
    Classify(classify::Args),
    /// Draws an image by LlamaGen, token by token
    Picture(picture::Args),
    /// BERT, GPT-2 or T5 on given token ids
    Text(text::Args),
    /// Writes a model folder with random weights
    Checkpoint { size: String, folder: PathBuf },
    /// Hangs or crashes on purpose
    #[command(hide = true)]
    Fault(fault::Args),
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().filter(|a| a != "--bench").collect();
    let first = arguments.get(1).map(|a| a.to_string_lossy().into_owned());
    let own = [
        "rows",
        "adapter",
        "ops",
        "kernels",
        "goldens",
        "classify",
        "picture",
        "text",
        "checkpoint",
        "fault",
    ];
    let help = ["help", "-h", "--help"];
    if first.as_deref().is_some_and(|name| !own.contains(&name) && !help.contains(&name)) {
        return vit_gpu::cli::main(arguments);
    }
    let outcome = match Cli::parse_from(arguments).command {
        Command::Rows(args) => rows::run(&args),
        Command::Adapter => device::print(),
        Command::Ops(args) => ops::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Goldens(args) => goldens::run(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Picture(args) => picture::run(&args),
        Command::Text(args) => text::run(&args),
        Command::Checkpoint { size, folder } => checkpoint(&size, &folder),
        Command::Fault(args) => fault::run(&args),
    };
    outcome.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::from(if e.is::<vit_gpu::Error>() { child::ENDED } else { 1 })
    })
}

fn checkpoint(size: &str, folder: &Path) -> Result<ExitCode> {
    for (path, parameters) in vit_gpu::synthetic::folder::write_folder(size, folder)? {
        println!("{}", serde_json::json!({ "file": path, "parameters": parameters }));
    }
    Ok(ExitCode::SUCCESS)
}
