//! vit-gpu itself, through its library, on the adapter it would choose.
//!
//! Environment: `PEER_TUNE` is the number of seconds that tuning may take on first use, 2 if absent as
//! in the command line; 0 leaves the order that is built in. What was measured is kept beside the file
//! of logits and so is forgotten with it.

use std::time::Duration;

use peer_common::{Job, Result};
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::session::{Device, ModelSource, Options, Session};
use vit_gpu::tensor::HostTensor;

fn main() -> Result<()> {
    let job = Job::from_args()?;
    let seconds: f64 = match std::env::var("PEER_TUNE") {
        Ok(text) => text.parse().map_err(|_| format!("PEER_TUNE={text}: expected a number of seconds"))?,
        Err(_) => 2.0,
    };
    let cache_dir = job.logits.parent().map(|folder| folder.join("vit-gpu-cache"));
    let options = Options {
        device: Device::Gpu(DeviceChoice { cache_dir, ..DeviceChoice::default() }),
        tuning_budget: Duration::try_from_secs_f64(seconds)?,
        ..Options::default()
    };
    let session = Session::open(&ModelSource::Path(job.model.clone()), &options)?;
    let image = HostTensor::f32(job.shape, job.image.clone());
    let device = session.device();
    let about = format!(
        r#"{{"engine": "vit-gpu", "version": "this commit", "device": "{}, {}", "settings": "{}, tuning {seconds} s"}}"#,
        device.name,
        device.driver,
        session.precision(),
    );
    job.serve(&about, || {
        let outputs = session.run_tensor(&image, &["logits"])?;
        Ok(outputs[0].to_f32())
    })
}
