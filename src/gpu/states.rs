//! What stays on the device between runs: KV caches, the ids of a sequence, the place in it. Plans
//! that name the same state see the same buffer; a host reads or writes it only between runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Gpu;
use super::wait::block;
use crate::error::{Error, Result};
use crate::plan::Port;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// How long a copy to the host may take, including the work before it.
const PATIENCE: Duration = Duration::from_secs(300);

/// Device buffers of states, by name.
#[derive(Default)]
pub struct States {
    buffers: Mutex<HashMap<String, (TensorDesc, Arc<wgpu::Buffer>)>>,
}

impl States {
    /// No states yet: each is made, full of zeros, by the first executor that names it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of all states.
    pub fn bytes(&self) -> u64 {
        self.held().values().map(|(_, buffer)| buffer.size()).sum()
    }

    /// Replaces the contents of a state, after all work submitted so far.
    ///
    /// # Errors
    /// [`Error::Usage`] if no executor has made it, or in another shape.
    pub fn write(&self, gpu: &Gpu, name: &str, tensor: HostTensor) -> Result<()> {
        let (desc, buffer) = self.find(name)?;
        let tensor = if desc.dtype == DType::F16 { tensor.to_dtype(DType::F16) } else { tensor };
        if tensor.desc() != desc {
            let what = format!("state `{name}` is {desc}, not {}", tensor.desc());
            return Err(Error::usage(what, "write a tensor of that type and shape"));
        }
        gpu.write(&buffer, tensor.bytes());
        Ok(())
    }

    /// The contents of a state, once all work submitted so far is done; f16 as f32.
    ///
    /// # Errors
    /// [`Error::Usage`] if no executor has made it; device errors.
    pub fn read(&self, gpu: &Gpu, name: &str) -> Result<HostTensor> {
        block(self.read_async(gpu, name))
    }

    /// As [`States::read`], for who may not block.
    ///
    /// # Errors
    /// As [`States::read`].
    pub async fn read_async(&self, gpu: &Gpu, name: &str) -> Result<HostTensor> {
        let (desc, buffer) = self.find(name)?;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.buffer("state", buffer.size(), usage)?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&buffer, 0, &staging, 0, buffer.size());
        let submission = gpu.queue.submit([encoder.finish()]);
        let read = |mapped: &[u8]| {
            let bytes = &mapped[..desc.bytes()];
            match desc.dtype {
                DType::F32 => HostTensor::f32(desc.shape, bytemuck::pod_collect_to_vec(bytes)),
                DType::U32 => HostTensor::u32(desc.shape, bytemuck::pod_collect_to_vec(bytes)),
                DType::U8 => HostTensor::u8(desc.shape, bytes.to_vec()),
                DType::F16 => {
                    let halves: Vec<half::f16> = bytemuck::pod_collect_to_vec(bytes);
                    HostTensor::f32(desc.shape, halves.iter().map(|h| h.to_f32()).collect())
                }
            }
        };
        gpu.mapped("reading a state", &submission, PATIENCE, staging.slice(..), read).await
    }

    /// The buffers of a plan's states; those that no plan has named before are made.
    pub(super) fn buffers(&self, gpu: &Gpu, ports: &[Port]) -> Result<Vec<Arc<wgpu::Buffer>>> {
        let mut held = self.held();
        let missing: Vec<&Port> = ports.iter().filter(|p| !held.contains_key(&p.name)).collect();
        if !missing.is_empty() {
            let usage =
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            let bytes = missing.iter().map(|p| p.desc.bytes() as u64).sum();
            let made = gpu.allocate("states", bytes, || {
                let buffers = missing.iter().map(|p| {
                    let buffer = gpu.unscoped_buffer(&p.name, p.desc.bytes() as u64, usage)?;
                    Ok((p.name.clone(), (p.desc, Arc::new(buffer))))
                });
                buffers.collect::<Result<Vec<_>>>()
            })?;
            held.extend(made);
        }
        let buffer = |port: &Port| {
            let (desc, buffer) = &held[&port.name];
            if *desc == port.desc {
                return Ok(buffer.clone());
            }
            let what = format!("state `{}` is {desc} already, a plan wants {}", port.name, port.desc);
            Err(Error::usage(what, "give each batch size its own states"))
        };
        ports.iter().map(buffer).collect()
    }

    fn find(&self, name: &str) -> Result<(TensorDesc, Arc<wgpu::Buffer>)> {
        let found = self.held().get(name).cloned();
        found.ok_or_else(|| {
            Error::usage(format!("there is no state `{name}`"), "make an executor that has it")
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, (TensorDesc, Arc<wgpu::Buffer>)>> {
        self.buffers.lock().expect("no panic happens while this lock is held")
    }
}
