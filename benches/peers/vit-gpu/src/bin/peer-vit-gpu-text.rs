//! vit-gpu's text models through its library, on the adapter it would choose, for `text.py`:
//! `peer-vit-gpu-text bert|gpt2|t5 FOLDER IDS.json RUNS`. One run is not counted. Environment: `PEER_DTYPE`
//! is f16 or f32, f32 if absent.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use peer_common::Result;
use serde_json::{Value as Json, json};
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::plan::Precision;
use vit_gpu::session::{Device, ModelSource, Options};
use vit_gpu::text::{Passage, TextSession};

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, folder, ids, runs] = &args[..] else {
        return Err("usage: peer-vit-gpu-text bert|gpt2|t5 FOLDER IDS.json RUNS".into());
    };
    let runs: usize = runs.parse()?;
    let work: Json = serde_json::from_slice(&std::fs::read(ids)?)?;
    let rows: Vec<Vec<u32>> = serde_json::from_value(work["ids"].clone())?;
    let new: usize = serde_json::from_value(work["new"].clone()).unwrap_or(0);
    let cache_dir = Some(std::env::temp_dir().join("peer-vit-gpu-cache"));
    let precision = match std::env::var("PEER_DTYPE").as_deref() {
        Ok("f16") => Precision::F16,
        Ok("f32") | Err(_) => Precision::F32,
        Ok(other) => return Err(format!("PEER_DTYPE={other}: expected f16 or f32").into()),
    };
    let options = Options {
        precision: Some(precision),
        device: Device::Gpu(DeviceChoice { cache_dir, ..DeviceChoice::default() }),
        tuning_budget: Duration::from_secs(2),
        ..Options::default()
    };
    let session = TextSession::open(&ModelSource::Path(PathBuf::from(folder)), &options)?;
    let passage = |ids: &Vec<u32>| Passage { ids: ids.clone(), ..Passage::default() };
    let passages: Vec<Passage> = rows.iter().map(passage).collect();
    let engine = format!("vit-gpu ({}, {})", session.device().name, session.device().driver);
    let pass = |output: &str| -> Result<(f64, Vec<f32>)> {
        let mut seconds = Vec::new();
        let mut made: Vec<f32> = Vec::new();
        for _ in 0..=runs {
            let start = Instant::now();
            let results = session.run(&passages, &[output])?;
            seconds.push(start.elapsed().as_secs_f64());
            made = results.into_iter().flat_map(|mut outputs| outputs.remove(0).to_f32()).collect();
        }
        Ok((median(seconds.split_off(1)), made))
    };
    if kind == "bert" {
        let (seconds, logits) = pass("logits")?;
        println!("{}", json!({ "engine": engine, "seconds": seconds, "logits": logits }));
        return Ok(());
    }
    let encode = if kind == "t5" { Some(pass("encoder_last_hidden_state")?.0) } else { None };
    let (mut first, mut rates, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..=runs {
        let (made, stats) = session.greedy(&rows[0], new, true)?;
        if run > 0 {
            first.push(stats.first_token.as_secs_f64());
            rates.push(stats.steps as f64 / stats.decode.as_secs_f64());
        }
        ids = made;
    }
    let mut document = json!({
        "engine": engine,
        "first_seconds": median(first),
        "tokens_per_second": median(rates),
        "ids": ids,
    });
    if let Some(seconds) = encode {
        document["encode_seconds"] = json!(seconds);
    }
    println!("{document}");
    Ok(())
}
