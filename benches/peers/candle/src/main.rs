//! candle's own ViT on the CPU. `RAYON_NUM_THREADS` says on how many threads.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::vit::{Config, Model};
use peer_common::{Job, Result};

fn main() -> Result<()> {
    let job = Job::from_args()?;
    let text = std::fs::read_to_string(job.model.join("config.json"))?;
    let config: Config = serde_json::from_str(&text)?;
    let classes = serde_json::from_str::<serde_json::Value>(&text)?["id2label"]
        .as_object()
        .ok_or("config.json has no id2label")?
        .len();
    let device = Device::Cpu;
    let bytes = std::fs::read(job.weights())?;
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &device)?;
    let model = Model::new(&config, classes, weights)?;
    let [b, c, h, w] = job.shape;
    let about = format!(
        r#"{{"engine": "candle", "version": "0.11.1", "device": "CPU", "settings": "{} threads, avx {}, neon {}"}}"#,
        candle_core::utils::get_num_threads(),
        candle_core::utils::with_avx(),
        candle_core::utils::with_neon(),
    );
    job.serve(&about, || {
        let image = Tensor::from_slice(&job.image, (b, c, h, w), &device)?;
        Ok(model.forward(&image)?.flatten_all()?.to_vec1()?)
    })
}
