//! A ViT of a folder on images that `gpu_torch.py --same` makes by the same formula: the answers of a real
//! size, to be compared, as one line of JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use vit_gpu::session::{ModelSource, Session};
use vit_gpu::tensor::HostTensor;

use crate::picture::Dtype;
use crate::{Result, items};

#[derive(clap::Args)]
pub struct Args {
    /// With config.json and model.safetensors
    folder: PathBuf,
    #[arg(long, default_value_t = 64)]
    batch: usize,
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
}

/// Classes of each image that are printed.
const SHOWN: usize = 16;

pub fn run(args: &Args) -> Result<ExitCode> {
    let session = Session::open(&ModelSource::Path(args.folder.clone()), &args.dtype.options())?;
    let [height, width] = session.info().image_size.into();
    let shape = [args.batch, 3, height, width];
    let count = shape.iter().product::<usize>();
    // Uniform in [-1, 1), exact in f32.
    let pixel = |i: usize| f32::from(((i as u32).wrapping_mul(2_654_435_761) >> 16) as u16) / 32_768.0 - 1.0;
    let image = HostTensor::f32(shape, (0..count).map(pixel).collect());
    let logits = session.run_tensor(&image, &["logits"])?.remove(0).to_f32();
    let rows: Vec<&[f32]> = logits.chunks(logits.len() / args.batch).collect();
    let best = |row: &&[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
    items::line(&json!({
        "engine": format!("vit-gpu ({}, {})", session.device().name, session.device().driver),
        "dtype": session.precision().to_string(),
        "logits": rows.iter().flat_map(|row| &row[..SHOWN.min(row.len())]).collect::<Vec<_>>(),
        "ids": rows.iter().map(best).collect::<Vec<_>>(),
    }));
    Ok(ExitCode::SUCCESS)
}
