//! Weights on the device, shared by every executor of a model. Uploads go through bounded staging,
//! so that a checkpoint never lies in memory twice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{Gpu, parallel};
use crate::error::{Error, Result};
use crate::graph::Weight;
use crate::ops::WeightSlot;
use crate::plan::Plan;
use crate::tensor::{HostTensor, Shape};

/// Largest single copy to the device, in bytes.
const CHUNK: usize = 16 << 20;
/// Bytes that are packed at a time; while they are, those before them are on their way.
const GROUP: u64 = 64 << 20;

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
        let mut sent = None;
        let mut rest = &missing[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let heavy = rest.iter().position(|slot| {
                bytes += (0..slot.parts.len()).map(|p| slot.part_bytes(p)).sum::<u64>();
                bytes >= GROUP
            });
            let (group, others) = rest.split_at(heavy.map_or(rest.len(), |last| last + 1));
            rest = others;
            let uploaded = parallel::all(group.to_vec(), |slot| upload(gpu, slot, load))?;
            let mut buffers = self.buffers.lock().expect("no panic happens while this lock is held");
            buffers.extend(group.iter().map(|slot| (*slot).clone()).zip(uploaded));
            drop(buffers);
            if let Some(before) = sent.replace(gpu.queue.submit([])) {
                wait(gpu, &before)?;
            }
        }
        sent.map_or(Ok(()), |last| wait(gpu, &last))
    }

    /// The parts of a weight that [`Store::load`] has uploaded.
    pub(super) fn get(&self, slot: &WeightSlot) -> Option<Vec<Arc<wgpu::Buffer>>> {
        self.buffers.lock().expect("no panic happens while this lock is held").get(slot).cloned()
    }
}

/// Packs a weight into staging memory, from where the device takes it with the next submission.
fn upload(gpu: &Gpu, slot: &WeightSlot, load: &LoadWeight) -> Result<Vec<Arc<wgpu::Buffer>>> {
    let tensor = load(&slot.weight, slot.shape)?;
    slot.weight.filled_by(slot.shape, &tensor)?;
    let data = tensor.as_f32().map_or_else(|| Cow::Owned(tensor.to_f32()), Cow::Borrowed);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let mut parts = Vec::with_capacity(slot.parts.len());
    for part in 0..slot.parts.len() {
        let size = slot.part_bytes(part) as usize;
        let buffer = gpu.buffer(&slot.weight.to_string(), size as u64, usage)?;
        let mut staging = Staging { gpu, buffer: &buffer, size, start: 0, view: None, failed: None };
        slot.pack(part, &data, &mut |at, bytes| staging.write(at, bytes));
        if let Some(e) = staging.failed.take() {
            return Err(e);
        }
        drop(staging);
        parts.push(Arc::new(buffer));
    }
    Ok(parts)
}

/// Staging memory for one buffer, a chunk at a time; a chunk is on its way when the next begins.
struct Staging<'a> {
    gpu: &'a Gpu,
    buffer: &'a wgpu::Buffer,
    size: usize,
    /// Where the open chunk begins.
    start: usize,
    view: Option<wgpu::QueueWriteBufferView>,
    failed: Option<Error>,
}

impl Staging<'_> {
    fn write(&mut self, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_none() {
            let start = at / CHUNK * CHUNK;
            if self.view.is_none() || start != self.start {
                self.start = start;
                self.view = None;
                let length = CHUNK.min(self.size - start);
                let size = wgpu::BufferSize::new(length as u64).expect("a weight is never empty");
                self.view = self.gpu.queue.write_buffer_with(self.buffer, start as u64, size);
            }
            let Some(view) = &mut self.view else {
                self.failed =
                    Some(Error::OutOfMemory { what: "staging memory".to_owned(), bytes: CHUNK as u64 });
                return;
            };
            let (from, n) = (at - start, bytes.len().min(start + CHUNK - at));
            view.slice(from..from + n).copy_from_slice(&bytes[..n]);
            (at, bytes) = (at + n, &bytes[n..]);
        }
    }
}

fn wait(gpu: &Gpu, submission: &wgpu::SubmissionIndex) -> Result<()> {
    gpu.wait("the upload of weights", submission, gpu.patience())
}
