//! A run under way. It holds all that is needed to wait for it, so that the next run can be written,
//! recorded and submitted while the device still works on this one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::wait::block;
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
    /// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::Timeout`](crate::Error::Timeout),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn wait(self) -> Result<()> {
        block(self.wait_async())
    }

    /// As [`Repeated::wait`], for who may not block.
    ///
    /// # Errors
    /// As [`Repeated::wait`].
    pub async fn wait_async(self) -> Result<()> {
        self.gpu.finished("generating", &self.submission, self.deadline).await
    }
}

impl Running {
    /// Waits for the results, in the plan's order.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::Timeout`](crate::Error::Timeout),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn wait(self) -> Result<Vec<HostTensor>> {
        block(self.wait_async())
    }

    /// As [`Running::wait`], for who may not block.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub async fn wait_async(self) -> Result<Vec<HostTensor>> {
        let read = |mapped: &[u8]| {
            let mut offset = 0;
            let results = self.outputs.iter().map(|port| {
                let bytes = &mapped[offset..offset + port.desc.bytes()];
                offset += output_bytes(port) as usize;
                decode(port, bytes)
            });
            results.collect()
        };
        let slice = self.staging.slice(..);
        let waited = self.gpu.mapped("the forward pass", &self.submission, self.deadline, slice, read);
        let results = waited.await?;
        self.idle.lock().expect("no panic happens while this lock is held").push(self.staging);
        Ok(results)
    }
}

/// Bytes of an output as copied: whole words.
pub(super) fn output_bytes(port: &Port) -> u64 {
    (port.desc.bytes() as u64).next_multiple_of(4)
}

fn decode(port: &Port, bytes: &[u8]) -> HostTensor {
    match port.desc.dtype {
        DType::F32 => HostTensor::f32(port.desc.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::U32 => HostTensor::u32(port.desc.shape, bytemuck::pod_collect_to_vec(bytes)),
        DType::U8 => HostTensor::u8(port.desc.shape, bytes.to_vec()),
        DType::F16 => unreachable!("the plan keeps results in f32"),
    }
}
