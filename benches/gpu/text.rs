//! Text models through the library, as `text_models.py` runs them in PyTorch: one run that does not count,
//! then medians, as one line of JSON. `benches/peers/text.py` says what it holds.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use vit_gpu::session::ModelSource;
use vit_gpu::text::{Passage, TextSession};

use crate::ops::median;
use crate::picture::Dtype;
use crate::{Result, items};

#[derive(clap::Args)]
pub struct Args {
    kind: Kind,
    /// With config.json and model.safetensors
    folder: PathBuf,
    /// `{"ids": [[...], ...], "new": N}`: rows of token ids, and how many tokens to draw
    ids: PathBuf,
    #[arg(default_value_t = 10)]
    runs: usize,
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Kind {
    Bert,
    Gpt2,
    T5,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let runs = args.runs.max(1);
    let work: Value = serde_json::from_slice(&std::fs::read(&args.ids)?)?;
    let rows: Vec<Vec<u32>> = serde_json::from_value(work["ids"].clone())?;
    let new: usize = serde_json::from_value(work["new"].clone()).unwrap_or(0);
    let session = TextSession::open(&ModelSource::Path(args.folder.clone()), &args.dtype.options())?;
    let passage = |ids: &Vec<u32>| Passage { ids: ids.clone(), ..Passage::default() };
    let passages: Vec<Passage> = rows.iter().map(passage).collect();
    let mut document = json!({
        "engine": format!("vit-gpu ({}, {})", session.device().name, session.device().driver),
        "dtype": session.precision().to_string(),
    });
    // Before the first run that counts, clocks are to be up.
    let warm = |run: usize| match session.gpu() {
        Some(gpu) if run == 1 => gpu.raise_clocks(),
        _ => Ok(()),
    };
    let pass = |output: &str| -> Result<(f64, Vec<f32>)> {
        let mut seconds = Vec::new();
        let mut made: Vec<f32> = Vec::new();
        for run in 0..=runs {
            warm(run)?;
            let start = Instant::now();
            let results = session.run(&passages, &[output])?;
            if run > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            made = results.into_iter().flat_map(|mut outputs| outputs.remove(0).to_f32()).collect();
        }
        Ok((median(&mut seconds), made))
    };
    match args.kind {
        Kind::Bert => {
            let (seconds, logits) = pass("logits")?;
            document["seconds"] = seconds.into();
            document["logits"] = logits.into();
        }
        Kind::T5 => document["encode_seconds"] = pass("encoder_last_hidden_state")?.0.into(),
        Kind::Gpt2 => {}
    }
    if args.kind != Kind::Bert {
        let (mut first, mut rates) = (Vec::new(), Vec::new());
        for run in 0..=runs {
            warm(run)?;
            let (made, stats) = session.greedy(&rows[0], new, true)?;
            if run > 0 {
                first.push(stats.first_token.as_secs_f64());
                rates.push(stats.steps as f64 / stats.decode.as_secs_f64());
            }
            document["ids"] = made.into();
        }
        document["first_seconds"] = median(&mut first).into();
        document["tokens_per_second"] = median(&mut rates).into();
    }
    items::line(&document);
    Ok(ExitCode::SUCCESS)
}
