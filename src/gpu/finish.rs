//! What is waited for: errors that a scope catches, the end of a submission, bytes from the device. All are
//! async; [`super::wait`] is how a thread that may sleep calls them. A platform that cannot poll the device
//! replaces [`Gpu::finished`].

use std::time::Duration;

use super::Gpu;
use super::wait::block;
use crate::clock::Instant;
use crate::error::{Error, Result};

/// Errors that making buffers may meet.
pub(super) const MEMORY: &[wgpu::ErrorFilter] =
    &[wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation];

impl Gpu {
    /// What `make` makes, and what wgpu found wrong meanwhile on this thread: an error of the first of these
    /// kinds that there is one of.
    pub(super) async fn scoped<T>(
        &self,
        kinds: &[wgpu::ErrorFilter],
        make: impl FnOnce() -> T,
    ) -> (T, Option<wgpu::Error>) {
        let scopes: Vec<_> = kinds.iter().map(|kind| self.device.push_error_scope(*kind)).collect();
        let made = make();
        // All are closed before any is waited for: the stack of scopes belongs to this thread.
        let errors: Vec<_> = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect();
        let mut first = None;
        for error in errors {
            first = error.await.or(first);
        }
        (made, first)
    }

    /// How long work may take that a device does in a moment: a minute. Ten on a CPU, whose driver compiles kernels
    /// when they first run, on cores that others may be using.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(if self.report.kind == "cpu" { 600 } else { 60 })
    }

    /// Ends with a submission, at the latest with the deadline. Polling is what waits here, so it sleeps.
    pub(super) async fn finished(
        &self,
        what: &str,
        submission: &wgpu::SubmissionIndex,
        limit: Duration,
    ) -> Result<()> {
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
                    self.poll();
                    self.fault()?;
                    return Err(Error::DeviceLost { reason: e.to_string() });
                }
            }
        }
    }

    /// What `read` makes of a buffer's bytes once the submission that fills them is done.
    pub(super) async fn mapped<T>(
        &self,
        what: &str,
        submission: &wgpu::SubmissionIndex,
        limit: Duration,
        slice: wgpu::BufferSlice<'_>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        slice.map_async(wgpu::MapMode::Read, |_| {});
        let finished = self.finished(what, submission, limit).await;
        let result = finished.and_then(|()| match slice.get_mapped_range() {
            Ok(bytes) => Ok(read(&bytes)),
            Err(e) => Err(Error::DeviceLost { reason: format!("{what}: nothing can be mapped: {e}") }),
        });
        slice.buffer().unmap();
        result
    }

    /// Waits for a submission.
    pub(super) fn wait(&self, what: &str, submission: &wgpu::SubmissionIndex, limit: Duration) -> Result<()> {
        block(self.finished(what, submission, limit))
    }

    /// Lets wgpu tell what it knows by now.
    pub(super) fn poll(&self) {
        let _ = self.device.poll(wgpu::PollType::Poll);
    }
}
