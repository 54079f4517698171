//! BERT, GPT-2 and T5 in candle on the CPU, greedy, timed as `python/text_models.py` times them.
//! `peer-candle-text bert|gpt2|t5|t5-library FOLDER IDS.json [RUNS]`; `RAYON_NUM_THREADS` says on how many
//! threads.
//!
//! BERT's encoder is candle-transformers' own. GPT-2 is written with candle-nn as that library's language
//! models are, since it has none. T5 is candle-transformers' own as `t5-library`, which makes the keys and
//! values of the text anew for every token and takes the encoder's buckets of distances for the decoder
//! too, so that its ids part from the original's sooner or later; as `t5` it is written here without either.

use std::time::Instant;

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};
use candle_transformers::models::{bert, t5};
use serde_json::{Value, json};

mod gpt2;
mod own_t5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What one run took, and what it answered.
type Run = (Vec<(&'static str, f64)>, Value);

/// The configuration and the weights of a folder.
fn open(folder: &str) -> Result<(String, VarBuilder<'static>)> {
    let file = std::fs::read(format!("{folder}/model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(file, DType::F32, &Device::Cpu)?;
    Ok((std::fs::read_to_string(format!("{folder}/config.json"))?, weights))
}

/// A number of a configuration.
fn number(config: &Value, key: &str) -> Result<usize> {
    config[key].as_u64().map(|n| n as usize).ok_or_else(|| format!("config.json: {key}").into())
}

/// Draws tokens with `logits`, which takes the ids that are new and the place of the first of them.
fn drawn(
    ids: &[u32],
    mut place: usize,
    count: usize,
    start: Instant,
    mut logits: impl FnMut(&Tensor, usize) -> Result<Tensor>,
) -> Result<Run> {
    let (mut new, mut got, mut first) = (ids.to_vec(), Vec::with_capacity(count), start);
    for _ in 0..count {
        let row = Tensor::new(&new[..], &Device::Cpu)?.unsqueeze(0)?;
        let id = logits(&row, place)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
        place += new.len();
        got.push(id);
        new = vec![id];
        if got.len() == 1 {
            first = Instant::now();
        }
    }
    let speed = (count - 1) as f64 / first.elapsed().as_secs_f64();
    Ok((
        vec![("first_seconds", (first - start).as_secs_f64()), ("tokens_per_second", speed)],
        json!({"ids": got}),
    ))
}

struct Bert {
    encoder: bert::BertModel,
    pooler: Linear,
    classifier: Linear,
}

impl Bert {
    fn load(folder: &str) -> Result<Self> {
        let (config, w) = open(folder)?;
        let parsed: Value = serde_json::from_str(&config)?;
        let (c, classes) =
            (number(&parsed, "hidden_size")?, parsed["id2label"].as_object().map_or(2, |l| l.len()));
        Ok(Self {
            encoder: bert::BertModel::load(w.clone(), &serde_json::from_str(&config)?)?,
            pooler: linear(c, c, w.pp("bert.pooler.dense"))?,
            classifier: linear(c, classes, w.pp("classifier"))?,
        })
    }

    fn run(&mut self, rows: &[Vec<u32>]) -> Result<Run> {
        let start = Instant::now();
        let ids = Tensor::new(rows.to_vec(), &Device::Cpu)?;
        let hidden = self.encoder.forward(&ids, &ids.zeros_like()?, None)?.i((.., 0))?.contiguous()?;
        let logits = self.classifier.forward(&self.pooler.forward(&hidden)?.tanh()?)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        Ok((vec![("seconds", start.elapsed().as_secs_f64())], json!({"logits": logits})))
    }
}

fn library_t5(model: &mut t5::T5ForConditionalGeneration, ids: &[u32], count: usize) -> Result<Run> {
    model.clear_kv_cache();
    let start = Instant::now();
    let encoded = model.encode(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?)?;
    let middle = start.elapsed().as_secs_f64();
    let (mut figures, answer) =
        drawn(&[0], 0, count, start, |new, _| Ok(model.decode(new, &encoded)?.squeeze(0)?))?;
    figures.push(("encode_seconds", middle));
    Ok((figures, answer))
}

/// The middle of several times.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (kind, folder, asked, runs) = match &args[..] {
        [kind, folder, asked] => (kind, folder, asked, 1),
        [kind, folder, asked, runs] => (kind, folder, asked, runs.parse()?),
        _ => return Err("usage: peer-candle-text bert|gpt2|t5|t5-library FOLDER IDS.json [RUNS]".into()),
    };
    let asked: Value = serde_json::from_str(&std::fs::read_to_string(asked)?)?;
    let rows: Vec<Vec<u32>> = serde_json::from_value(asked["ids"].clone())?;
    let (count, row) = (number(&asked, "new")?, rows.first().ok_or("no ids")?.clone());
    let mut run: Box<dyn FnMut() -> Result<Run>> = match kind.as_str() {
        "bert" => {
            let mut model = Bert::load(folder)?;
            Box::new(move || model.run(&rows))
        }
        "gpt2" => {
            let mut model = gpt2::Gpt2::load(folder, row.len() + count)?;
            Box::new(move || {
                model.forget();
                drawn(&row, 0, count, Instant::now(), |new, place| model.logits(new, place))
            })
        }
        "t5" => {
            let mut model = own_t5::T5::load(folder, count)?;
            Box::new(move || {
                let start = Instant::now();
                let encoded = model.encode(&row)?;
                let middle = start.elapsed().as_secs_f64();
                model.begin(&encoded)?;
                let (mut figures, answer) =
                    drawn(&[0], 0, count, start, |new, place| model.logits(new, place))?;
                figures.push(("encode_seconds", middle));
                Ok((figures, answer))
            })
        }
        "t5-library" => {
            let (config, w) = open(folder)?;
            let mut model = t5::T5ForConditionalGeneration::load(w, &serde_json::from_str(&config)?)?;
            Box::new(move || library_t5(&mut model, &row, count))
        }
        other => return Err(format!("no model `{other}`").into()),
    };
    run()?;
    let all = (0..runs).map(|_| run()).collect::<Result<Vec<Run>>>()?;
    let (last, answer) = all.last().ok_or("no runs")?;
    let mut report = answer.clone();
    report["engine"] =
        json!(if kind == "t5-library" { "candle 0.11.1, its own T5" } else { "candle 0.11.1" });
    for (i, (key, _)) in last.iter().enumerate() {
        report[*key] = json!(median(all.iter().map(|(figures, _)| figures[i].1).collect()));
    }
    println!("{report}");
    Ok(())
}
