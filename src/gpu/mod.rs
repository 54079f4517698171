//! The only place that names wgpu: adapters, the device and its faults, pipelines,
//! buffers, execution. It knows plans, not models or files.
//!
//! Nothing here panics because of a driver: allocations run inside error scopes, waits have
//! deadlines, a lost device is an [`Error::DeviceLost`], and whatever wgpu reports outside a scope
//! is kept and returned by the next call.

mod adapter;
mod buffers;
mod cache;
pub mod ceilings;
mod executor;
mod finish;
mod kept;
mod open;
mod parallel;
mod pipeline;
mod probe;
mod states;
mod store;
pub mod timer;
pub mod tune;
mod wait;

pub use adapter::{AdapterReport, Adapters, DeviceChoice, DeviceSpec, Disabled};
pub use executor::{Executor, HostSpan, Repeated, Running, TimedRun};
pub use probe::probes;
pub use states::States;
pub use store::Store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::{Error, Result};
use crate::kernel::Variant;
use crate::ops::Target;

/// A device, its queue, and what is known of its adapter.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    report: AdapterReport,
    target: Target,
    checked: bool,
    cache: Option<cache::PipelineCache>,
    pipelines: Mutex<HashMap<(&'static str, Variant), Arc<wgpu::ComputePipeline>>>,
    faults: Arc<Faults>,
}

/// What the driver has told us outside any error scope.
#[derive(Default)]
struct Faults {
    lost: OnceLock<String>,
    other: Mutex<Option<wgpu::Error>>,
}

impl Gpu {
    /// What the adapter is and offers.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// What plans may assume of this device.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// True if shaders run with bounds checks.
    pub fn checked(&self) -> bool {
        self.checked
    }

    /// Breaks the device on purpose, as a driver reset would (tests of what follows).
    pub fn destroy(&self) {
        self.device.destroy();
        // wgpu tells of it when it is next polled, or once what is running has ended.
        self.poll();
    }

    /// Where compiled pipelines are kept on disk, if they are.
    pub fn cache_file(&self) -> Option<PathBuf> {
        self.cache.as_ref().map(|c| c.file().to_owned())
    }

    /// Whatever the driver has reported since the last call, as an error.
    fn fault(&self) -> Result<()> {
        if let Some(reason) = self.faults.lost.get() {
            return Err(Error::DeviceLost { reason: reason.clone() });
        }
        let fault = self.faults.other.lock().ok().and_then(|mut other| other.take());
        match fault {
            None => Ok(()),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::OutOfMemory { what: "a driver allocation".to_owned(), bytes: 0 })
            }
            Some(e) => Err(Error::DeviceLost { reason: e.to_string() }),
        }
    }
}
