//! Weights on the device, shared by every executor of a model. Uploads go through bounded staging,
//! so that a checkpoint never lies in memory twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayon::prelude::*;

use super::Gpu;
use crate::error::Result;
use crate::graph::Weight;
use crate::ops::WeightSlot;
use crate::plan::Plan;
use crate::tensor::{HostTensor, Shape};

/// Largest single copy to the device, in bytes.
const CHUNK: usize = 16 << 20;
/// Bytes in flight before the host waits for the device.
const IN_FLIGHT: usize = 64 << 20;

/// Where weights come from: a recipe and the shape it must fill, to f32 elements.
pub type LoadWeight<'a> = dyn Fn(&Weight, Shape) -> Result<HostTensor> + Sync + 'a;

/// Device buffers of weights, by what they hold and how.
#[derive(Default)]
pub struct Store {
    buffers: Mutex<HashMap<WeightSlot, Vec<Arc<wgpu::Buffer>>>>,
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of all weights held.
    pub fn bytes(&self) -> u64 {
        let buffers = self.buffers.lock().expect("no panic happens while this lock is held");
        buffers.values().flatten().map(|b| b.size()).sum()
    }

    /// Uploads the weights of a plan that are not here yet.
    ///
    /// # Errors
    /// Whatever `load` says; [`crate::Error::OutOfMemory`] from the device.
    pub fn load(&self, gpu: &Gpu, plan: &Plan, load: &LoadWeight) -> Result<()> {
        let missing: Vec<&WeightSlot> = {
            let buffers = self.buffers.lock().expect("no panic happens while this lock is held");
            plan.weights.iter().filter(|w| !buffers.contains_key(*w)).collect()
        };
        let mut in_flight = 0;
        for group in missing.chunks(rayon::current_num_threads().max(2)) {
            let packed: Vec<Vec<Vec<u8>>> = group
                .par_iter()
                .map(|slot| {
                    let tensor = load(&slot.weight, slot.shape)?;
                    let data = tensor.to_f32();
                    Ok((0..slot.parts.len()).map(|part| slot.pack(part, &data)).collect())
                })
                .collect::<Result<_>>()?;
            for (slot, parts) in group.iter().zip(packed) {
                let mut uploaded = Vec::with_capacity(parts.len());
                for bytes in parts {
                    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                    let buffer = gpu.buffer(&slot.weight.to_string(), bytes.len() as u64, usage)?;
                    for (i, chunk) in bytes.chunks(CHUNK).enumerate() {
                        gpu.queue.write_buffer(&buffer, (i * CHUNK) as u64, chunk);
                        in_flight += chunk.len();
                        if in_flight >= IN_FLIGHT {
                            flush(gpu)?;
                            in_flight = 0;
                        }
                    }
                    uploaded.push(Arc::new(buffer));
                }
                let mut buffers = self.buffers.lock().expect("no panic happens while this lock is held");
                buffers.insert((*slot).clone(), uploaded);
            }
        }
        flush(gpu)
    }

    /// The parts of a weight that [`Store::load`] has uploaded.
    pub(super) fn get(&self, slot: &WeightSlot) -> Option<Vec<Arc<wgpu::Buffer>>> {
        self.buffers.lock().expect("no panic happens while this lock is held").get(slot).cloned()
    }
}

fn flush(gpu: &Gpu) -> Result<()> {
    let submission = gpu.queue.submit([]);
    gpu.wait("the upload of weights", &submission, Duration::from_secs(60))
}
