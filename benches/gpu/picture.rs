//! Draws an image by LlamaGen through the library, greedily and guided, as `llamagen.py` does it in PyTorch:
//! one run that does not count, then medians, as one line of JSON.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use vit_gpu::generate::{Generator, Order, Request};
use vit_gpu::ops::{Guidance, Sampling};
use vit_gpu::plan::Precision;
use vit_gpu::session::{Device, ModelSource, Options};

use crate::ops::median;
use crate::{Result, device, items};

#[derive(clap::Args)]
pub struct Args {
    /// With config.json, gpt.safetensors and vq.safetensors
    folder: PathBuf,
    #[arg(long, default_value_t = 207)]
    class: usize,
    /// Of classifier-free guidance
    #[arg(long, default_value_t = 4.0)]
    scale: f32,
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Dtype {
    F32,
    F16,
}

impl Dtype {
    /// What a session is opened with.
    pub fn options(self) -> Options {
        let precision = match self {
            Dtype::F32 => Precision::F32,
            Dtype::F16 => Precision::F16,
        };
        Options {
            precision: Some(precision),
            device: Device::Gpu(device::choice()),
            // More than on first use by others, so that compiling does not eat it up.
            tuning_budget: Duration::from_secs(15),
            ..Options::default()
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let generator = Generator::open(&ModelSource::Path(args.folder.clone()), &args.dtype.options())?;
    let guidance = Guidance { first: args.scale, last: args.scale, places: 1 };
    let request = Request {
        classes: vec![Some(args.class)],
        first: 0,
        sampling: Sampling { seed: 1, temperature: 0.0, top_k: 0, top_p: 1.0, guidance },
        prime: Vec::new(),
        order: Order::Raster,
        every: 0,
        parallel: None,
    };
    let (mut first, mut rates, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    let mut document = json!({});
    for run in 0..=args.runs {
        if let (Some(gpu), 1) = (generator.gpu(), run) {
            gpu.raise_clocks()?;
        }
        let made = generator.generate(&request, &mut |_| Ok(()))?;
        let start = Instant::now();
        generator.decode_values(&made.tokens)?;
        let picture = start.elapsed();
        if run > 0 {
            let stats = made.stats;
            first.push(stats.first_token.as_secs_f64());
            rates.push((made.tokens[0].len() - 1) as f64 / stats.decode.as_secs_f64());
            pictures.push(picture.as_secs_f64());
            document = json!({
                "launches_per_token": stats.launches_per_step,
                "bytes_per_token": stats.bytes_per_step,
                "ids": made.tokens[0],
            });
        }
    }
    let device = generator.device();
    document["engine"] = format!("vit-gpu ({}, {})", device.name, device.driver).into();
    document["dtype"] = generator.precision().to_string().into();
    document["first_seconds"] = median(&mut first).into();
    document["tokens_per_second"] = median(&mut rates).into();
    document["picture_seconds"] = median(&mut pictures).into();
    items::line(&document);
    Ok(ExitCode::SUCCESS)
}
