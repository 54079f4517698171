//! Buffers, and what there is no room for.

use super::Gpu;
use super::finish::MEMORY;
use super::wait::block;
use crate::error::{Error, Result};

impl Gpu {
    /// Creates a buffer of at least 16 bytes; empty ones do not exist.
    pub(super) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        self.allocate(label, bytes, || self.unscoped_buffer(label, bytes, usage))
    }

    /// What `make` makes of buffers, `bytes` in all. None of it is to be used if there is no room.
    pub(super) fn allocate<T>(&self, what: &str, bytes: u64, make: impl FnOnce() -> Result<T>) -> Result<T> {
        self.fault()?;
        let (made, error) = block(self.scoped(MEMORY, make));
        self.fault()?;
        match error {
            None => made,
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::OutOfMemory { what: what.to_owned(), bytes: size_of_buffer(bytes) })
            }
            Some(e) => Err(Error::DeviceLost { reason: e.to_string() }),
        }
    }

    /// As [`Gpu::buffer`] within [`Gpu::allocate`].
    pub(super) fn unscoped_buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        let size = size_of_buffer(bytes);
        let limits = self.device.limits();
        if size > limits.max_buffer_size {
            let what = format!("{label}: one buffer");
            return Err(Error::Limit { what, need: size, have: limits.max_buffer_size });
        }
        let label = Some(label);
        let descriptor = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false };
        Ok(self.device.create_buffer(&descriptor))
    }

    /// Copies host bytes to a buffer; wgpu wants whole words.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(buffer, 0, &bytes[..whole]);
        if whole < bytes.len() {
            let mut tail = [0; 4];
            tail[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(buffer, whole as u64, &tail);
        }
    }
}

/// Bytes of a buffer that must hold this many.
fn size_of_buffer(bytes: u64) -> u64 {
    bytes.next_multiple_of(4).max(16)
}
