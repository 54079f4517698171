//! vit-gpu itself, through its library, on the adapter it would choose.

use peer_common::{Job, Result};
use vit_gpu::session::{ModelSource, Options, Session};
use vit_gpu::tensor::HostTensor;

fn main() -> Result<()> {
    let job = Job::from_args()?;
    let session = Session::open(&ModelSource::Path(job.model.clone()), &Options::default())?;
    let image = HostTensor::f32(job.shape, job.image.clone());
    let device = session.device();
    let about = format!(
        r#"{{"engine": "vit-gpu", "version": "this commit", "device": "{}, {}", "settings": "{}"}}"#,
        device.name,
        device.driver,
        session.precision(),
    );
    job.serve(&about, || {
        let outputs = session.run_tensor(&image, &["logits"])?;
        Ok(outputs[0].to_f32())
    })
}
