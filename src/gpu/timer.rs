//! How long the device takes, and when: timestamp queries around compute passes, and the device's
//! clock laid beside the host's.
//!
//! Nothing is taken on trust. Before a device's timestamps are used, work of a known length is timed
//! with them and by wall clock; where the two disagree, everything is timed by wall clock and
//! [`Clock::Wall`] says why. No interface of wgpu tells how far apart the two clocks are, but cause
//! comes before effect: nothing on the device begins before it was submitted, and nothing ends after
//! the host was told so. Every submission narrows the offset that way ([`Timer::offset`]).

use std::sync::Arc;
use std::time::Duration;

use super::Gpu;
pub use super::probe::CLOCKS_RISE;
use super::probe::{Arithmetic, FmaShape};
use super::wait::block;
use crate::clock::Instant;
use crate::error::Result;

/// Most timestamps in one query set, as WebGPU has it.
const MAX_QUERIES: u32 = 4096;

/// Longest wait for one timed submission.
const DEADLINE: Duration = Duration::from_secs(120);

/// Where times come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps written by the device.
    Gpu,
    /// The host's clock around a submission that is waited for; with the reason.
    Wall(String),
}

impl Clock {
    /// `GPU timestamps` or `wall clock`.
    pub fn name(&self) -> &'static str {
        match self {
            Clock::Gpu => "GPU timestamps",
            Clock::Wall(_) => "wall clock",
        }
    }
}

/// From when to when, in nanoseconds of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// Begin.
    pub start: f64,
    /// End.
    pub end: f64,
}

impl Span {
    /// Nanoseconds from begin to end.
    pub fn nanoseconds(&self) -> f64 {
        self.end - self.start
    }

    /// The same span on a clock that is `offset` nanoseconds ahead.
    pub fn shifted(&self, offset: f64) -> Self {
        Self { start: self.start + offset, end: self.end + offset }
    }
}

/// Times passes on one device. Device times count from its first timestamp, host times from its
/// making.
pub struct Timer {
    gpu: Arc<Gpu>,
    clock: Clock,
    epoch: Instant,
    queries: Option<Queries>,
    /// What may be added to device times to get host times, in nanoseconds: lowest and highest.
    bounds: (f64, f64),
}

struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readable: wgpu::Buffer,
    /// Nanoseconds a tick.
    period: f64,
    /// The first tick ever read.
    base: Option<u64>,
}

impl Timer {
    /// A timer that uses the device's timestamps if it has them and they can be believed.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(gpu: &Arc<Gpu>) -> Result<Self> {
        let bounds = (f64::NEG_INFINITY, f64::INFINITY);
        let mut timer =
            Self { gpu: gpu.clone(), clock: Clock::Gpu, epoch: Instant::now(), queries: None, bounds };
        if !gpu.report.timestamps {
            timer.clock = Clock::Wall("timestamp queries are not offered, or are disabled".to_owned());
            return Ok(timer);
        }
        timer.queries = Some(Queries::new(gpu)?);
        if let Some(reason) = timer.disbelief()? {
            timer.queries = None;
            timer.clock = Clock::Wall(reason);
        }
        Ok(timer)
    }

    /// Where times come from.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Passes that one submission can time: each takes two timestamps.
    pub fn passes(&self) -> usize {
        MAX_QUERIES as usize / 2
    }

    /// The host's clock now, in nanoseconds.
    pub fn now(&self) -> f64 {
        self.epoch.elapsed().as_nanos() as f64
    }

    /// What to add to device times to get host times, and how far off that may be, in nanoseconds.
    pub fn offset(&self) -> (f64, f64) {
        let (low, high) = self.bounds;
        if self.clock != Clock::Gpu || !low.is_finite() || !high.is_finite() {
            return (0.0, 0.0);
        }
        (f64::midpoint(low, high), (high - low).abs() / 2.0)
    }

    /// Timestamps at both ends of pass `i` of a submission; nothing without queries.
    pub(super) fn around(&self, i: usize) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let i = u32::try_from(i).expect("callers stay below Timer::passes");
        self.queries.as_ref().map(|q| wgpu::ComputePassTimestampWrites {
            query_set: &q.set,
            beginning_of_pass_write_index: Some(2 * i),
            end_of_pass_write_index: Some(2 * i + 1),
        })
    }

    /// Records that the timestamps of the first `passes` passes are brought to where they can be read.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder, passes: usize) {
        if let Some(q) = &self.queries {
            let n = 2 * u32::try_from(passes).expect("callers stay below Timer::passes");
            encoder.resolve_query_set(&q.set, 0..n, &q.resolved, 0);
            encoder.copy_buffer_to_buffer(&q.resolved, 0, &q.readable, 0, u64::from(n) * 8);
        }
    }

    /// Waits for a submission whose timestamps were resolved, and reads them; none without queries.
    /// `submitted` is the host's clock from before the submission.
    pub(super) fn read(
        &mut self,
        submission: &wgpu::SubmissionIndex,
        passes: usize,
        submitted: f64,
        deadline: Duration,
    ) -> Result<Vec<Span>> {
        let Some(q) = &mut self.queries else {
            self.gpu.wait("a timed run", submission, deadline)?;
            return Ok(Vec::new());
        };
        let slice = q.readable.slice(..passes as u64 * 16);
        let epoch = self.epoch;
        let read = |mapped: &[u8]| (epoch.elapsed().as_nanos() as f64, bytemuck::pod_collect_to_vec(mapped));
        let (done, ticks): (f64, Vec<u64>) =
            block(self.gpu.mapped("a timed run", submission, deadline, slice, read))?;
        let base = *q.base.get_or_insert(ticks.first().copied().unwrap_or_default());
        let at = |tick: u64| tick.wrapping_sub(base).cast_signed() as f64 * q.period;
        let spans: Vec<Span> =
            ticks.as_chunks::<2>().0.iter().map(|[s, e]| Span { start: at(*s), end: at(*e) }).collect();
        if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
            self.bounds = narrowed(self.bounds, (submitted - first.start, done - last.end));
        }
        Ok(spans)
    }

    /// Runs one pass and times it: by the device's clock if there is one, and by wall clock.
    pub(super) fn pass(&mut self, record: impl FnOnce(&mut wgpu::ComputePass)) -> Result<Timed> {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let timestamp_writes = self.around(0);
            let descriptor = wgpu::ComputePassDescriptor { label: Some("timed"), timestamp_writes };
            record(&mut encoder.begin_compute_pass(&descriptor));
        }
        self.resolve(&mut encoder, 1);
        let commands = encoder.finish();
        let submitted = self.now();
        let submission = self.gpu.queue.submit([commands]);
        let spans = self.read(&submission, 1, submitted, DEADLINE)?;
        let wall = self.now() - submitted;
        Ok(Timed { wall, device: spans.first().map(Span::nanoseconds) })
    }

    /// Runs a probe once and times it.
    pub(super) fn work(&mut self, work: &Arithmetic, rounds: u32) -> Result<Timed> {
        work.set_rounds(&self.gpu, rounds);
        self.pass(|pass| work.record(pass))
    }

    /// Why the device's timestamps cannot be believed, if they cannot.
    fn disbelief(&mut self) -> Result<Option<String>> {
        let work = Arithmetic::fma(&self.gpu, FmaShape::SIMPLE)?;
        let mut rounds = 16;
        // The first run also pays for compilation and first use.
        self.work(&work, rounds)?;
        loop {
            let timed = self.work(&work, rounds)?;
            if timed.wall < 4e6 && rounds < 1 << 24 {
                rounds *= 4;
                continue;
            }
            let device = timed.device.unwrap_or_default();
            // Waking the host costs a little; starting late may cost a time slice.
            let plausible = device > 0.4 * timed.wall && device < 1.05 * timed.wall;
            let again = self.work(&work, rounds)?;
            let plausible_again = again.device.is_some_and(|d| d > 0.4 * again.wall && d < 1.05 * again.wall);
            return Ok((!plausible && !plausible_again).then(|| {
                format!(
                    "the driver's timestamps do not tell how long work takes: {:.3} ms where the wall \
                     clock says {:.3} ms",
                    device / 1e6,
                    timed.wall / 1e6
                )
            }));
        }
    }
}

/// What one pass took, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    /// From before its submission to after the wait.
    pub(super) wall: f64,
    /// By the device's clock.
    pub(super) device: Option<f64>,
}

impl Timed {
    /// By the device's clock, or what there is.
    pub(super) fn best(&self) -> f64 {
        self.device.unwrap_or(self.wall)
    }
}

impl Queries {
    fn new(gpu: &Gpu) -> Result<Self> {
        let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: MAX_QUERIES,
        });
        let bytes = u64::from(MAX_QUERIES) * 8;
        let from = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let to = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Self {
            set,
            resolved: gpu.buffer("timestamps", bytes, from)?,
            readable: gpu.buffer("timestamps to read", bytes, to)?,
            period: f64::from(gpu.queue.get_timestamp_period()),
            base: None,
        })
    }
}

/// Bounds on an offset after another observation. Where the two contradict each other, the clocks
/// have drifted apart, and the newer one holds.
fn narrowed(old: (f64, f64), new: (f64, f64)) -> (f64, f64) {
    let both = (old.0.max(new.0), old.1.min(new.1));
    if both.0 <= both.1 { both } else { new }
}

#[cfg(test)]
mod tests {
    use super::narrowed;

    #[test]
    fn causality_narrows_the_offset() {
        let any = (f64::NEG_INFINITY, f64::INFINITY);
        let first = narrowed(any, (10.0, 30.0));
        assert_eq!(first, (10.0, 30.0));
        assert_eq!(narrowed(first, (5.0, 20.0)), (10.0, 20.0));
        assert_eq!(narrowed(first, (40.0, 50.0)), (40.0, 50.0), "the clocks have drifted");
    }
}
