//! A run under way. It holds all that is needed to wait for it, so that the next run can be written,
//! recorded and submitted while the device still works on this one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::output_bytes;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::plan::Port;
use crate::tensor::{DType, HostTensor};

/// Buffers that results are read from, between runs.
pub(super) type Idle = Arc<Mutex<Vec<wgpu::Buffer>>>;

/// A submitted run.
pub struct Running {
    pub(super) gpu: Arc<Gpu>,
    pub(super) submission: wgpu::SubmissionIndex,
    pub(super) staging: wgpu::Buffer,
    pub(super) idle: Idle,
    pub(super) outputs: Arc<[Port]>,
    pub(super) deadline: Duration,
}

/// Runs under way whose results stay on the device.
pub struct Repeated {
    pub(super) gpu: Arc<Gpu>,
    pub(super) submission: wgpu::SubmissionIndex,
    pub(super) deadline: Duration,
}

impl Repeated {
    /// Waits until they are done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`], [`Error::OutOfMemory`].
    pub fn wait(self) -> Result<()> {
        self.gpu.wait("generating", &self.submission, self.deadline)
    }
}

impl Running {
    /// Waits for the results, in the plan's order.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`], [`Error::OutOfMemory`].
    pub fn wait(self) -> Result<Vec<HostTensor>> {
        let slice = self.staging.slice(..);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        let waited = self.gpu.wait("the forward pass", &self.submission, self.deadline);
        if let Err(e) = waited {
            self.staging.unmap();
            return Err(e);
        }
        let mut results = Vec::with_capacity(self.outputs.len());
        {
            let mapped = slice
                .get_mapped_range()
                .map_err(|e| Error::DeviceLost { reason: format!("results cannot be mapped: {e}") })?;
            let mut offset = 0;
            for port in self.outputs.iter() {
                let bytes = &mapped[offset..offset + port.desc.bytes()];
                results.push(decode(port, bytes));
                offset += output_bytes(port) as usize;
            }
        }
        self.staging.unmap();
        self.idle.lock().expect("no panic happens while this lock is held").push(self.staging);
        Ok(results)
    }
}

fn decode(port: &Port, bytes: &[u8]) -> HostTensor {
    match port.desc.dtype {
        DType::F32 => HostTensor::f32(port.desc.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::U32 => HostTensor::u32(port.desc.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::U8 => HostTensor::u8(port.desc.shape, bytes.to_vec()),
        DType::F16 => unreachable!("the plan keeps results in f32"),
    }
}
