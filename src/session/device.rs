//! Opening the device of a session, and what people are told of it.

use std::sync::Arc;

use super::options::Device;
use crate::error::{Advice, Error, Result};
use crate::gpu::{Gpu, Store};
use crate::plan::Precision;

/// The device that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Adapter name, or `reference`.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu`, `other`, or `reference`.
    pub kind: String,
    /// `vulkan`, `metal`, `dx12`, or `none`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// True if the work is done by the CPU after all.
    pub cpu: bool,
}

/// What runs graphs, and the weights it holds.
pub(crate) enum Engine {
    Gpu { gpu: Arc<Gpu>, store: Store },
    Reference,
}

/// Opens what runs the graph.
pub(crate) fn open_device(device: &Device, precision: Precision) -> Result<(Engine, DeviceInfo)> {
    let Device::Gpu(choice) = device else {
        let info = DeviceInfo {
            name: "reference".to_owned(),
            kind: "reference".to_owned(),
            backend: "none".to_owned(),
            driver: String::new(),
            cpu: true,
        };
        return Ok((Engine::Reference, info));
    };
    let gpu = Gpu::open(choice)?;
    let report = gpu.report();
    if precision == Precision::F16 && !gpu.target().f16 {
        return Err(Error::NoDevice {
            what: format!("adapter `{}` has no f16 arithmetic (or it is disabled)", report.name),
            help: Advice::WiderTypeOrOtherDevice,
        });
    }
    let info = DeviceInfo {
        name: report.name.clone(),
        kind: report.kind.to_owned(),
        backend: report.backend.clone(),
        driver: report.driver.clone(),
        cpu: report.target.cpu,
    };
    Ok((Engine::Gpu { gpu: Arc::new(gpu), store: Store::new() }, info))
}
