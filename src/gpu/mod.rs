//! The only place that names wgpu: adapters, the device and its faults, pipelines,
//! buffers, execution. It knows plans, not models or files.
//!
//! Nothing here panics because of a driver: allocations run inside error scopes, waits have
//! deadlines, a lost device is an [`Error::DeviceLost`], and whatever wgpu reports outside a scope
//! is kept and returned by the next call.

mod adapter;
mod cache;
pub mod ceilings;
mod executor;
mod kept;
mod pipeline;
mod probe;
mod states;
mod store;
pub mod timer;
pub mod tune;

pub use adapter::{AdapterReport, Adapters, DeviceChoice, DeviceSpec, Disabled};
pub use executor::{Executor, HostSpan, Repeated, Running, TimedRun};
pub use probe::probes;
pub use states::States;
pub use store::Store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{Advice, Error, Result};
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

/// Leave to use cooperative matrices, which wgpu counts as an experiment.
#[expect(unsafe_code, reason = "our own kernels: loads and stores of matrices stay in workgroup memory")]
fn experimental(matrices: bool) -> wgpu::ExperimentalFeatures {
    if matrices {
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// What the driver has told us outside any error scope.
#[derive(Default)]
struct Faults {
    lost: OnceLock<String>,
    other: Mutex<Option<wgpu::Error>>,
}

impl Gpu {
    /// Opens the adapter that `choice` names, with all the limits it offers.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is none, or none that matches; it lists what there is.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        let (adapter, report) = adapter::pick(choice)?;
        let mut target = report.target.clone();
        target.f16 &= !choice.disabled.f16;
        if let Some(bytes) = choice.max_binding_bytes {
            target.max_binding_bytes = target.max_binding_bytes.min(bytes);
        }
        let optional = [
            (wgpu::Features::SHADER_F16, target.f16),
            (wgpu::Features::SUBGROUP, report.subgroups),
            (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, target.matrices.is_some()),
            (wgpu::Features::TIMESTAMP_QUERY, report.timestamps),
            (wgpu::Features::PIPELINE_CACHE, report.pipeline_cache),
        ];
        let on = optional.iter().filter(|(_, on)| *on).map(|(f, _)| *f);
        let features = on.fold(wgpu::Features::empty(), std::ops::BitOr::bitor);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("vit-gpu"),
            required_features: features,
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::Performance,
            experimental_features: experimental(target.matrices.is_some()),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| {
            let what = format!("adapter `{}` gave no device: {e}", report.name);
            Error::NoDevice { what, help: Advice::OtherDevice }
        })?;
        let faults = Arc::new(Faults::default());
        let seen = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = seen.lost.set(format!("{reason:?}: {message}").trim_end_matches(": ").to_owned());
        });
        let seen = faults.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut other) = seen.other.lock() {
                other.get_or_insert(e);
            }
        }));
        let cache = match (&choice.cache_dir, report.pipeline_cache) {
            (Some(dir), true) => Some(cache::PipelineCache::open(&device, dir, &report)),
            _ => None,
        };
        let pipelines = Mutex::default();
        Ok(Self { device, queue, report, target, checked: choice.checked, cache, pipelines, faults })
    }

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
        let _ = self.device.poll(wgpu::PollType::Poll);
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

    /// Creates a buffer of at least 16 bytes; empty ones do not exist.
    fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let size = bytes.next_multiple_of(4).max(16);
        let limits = self.device.limits();
        if size > limits.max_buffer_size {
            let what = format!("{label}: one buffer");
            return Err(Error::Limit { what, need: size, have: limits.max_buffer_size });
        }
        self.fault()?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        });
        let invalid = pollster::block_on(validation.pop());
        let full = pollster::block_on(memory.pop());
        self.fault()?;
        match full.or(invalid) {
            None => Ok(buffer),
            Some(_) => Err(Error::OutOfMemory { what: label.to_owned(), bytes: size }),
        }
    }

    /// Copies host bytes to a buffer; wgpu wants whole words.
    fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(buffer, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut tail = [0; 4];
            tail[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(buffer, whole as u64, &tail);
        }
    }

    /// Waits for a submission, at most until the deadline.
    fn wait(&self, what: &str, submission: &wgpu::SubmissionIndex, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            self.fault()?;
            let left = deadline.saturating_duration_since(Instant::now());
            // Short waits, so that a lost device is noticed long before the deadline.
            let poll = self.device.poll(wgpu::PollType::Wait {
                submission_index: Some(submission.clone()),
                timeout: Some(left.min(Duration::from_millis(500))),
            });
            match poll {
                Ok(_) => return self.fault(),
                Err(wgpu::PollError::Timeout) if left.is_zero() => {
                    return Err(Error::Timeout { what: what.to_owned(), seconds: limit.as_secs() });
                }
                Err(wgpu::PollError::Timeout) => {}
                Err(e) => {
                    // The submission was refused; why is known once wgpu has been polled.
                    let _ = self.device.poll(wgpu::PollType::Poll);
                    self.fault()?;
                    return Err(Error::DeviceLost { reason: e.to_string() });
                }
            }
        }
    }
}
