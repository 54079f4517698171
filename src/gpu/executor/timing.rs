//! Measured runs of an executor. The ordinary run knows nothing of them.
//!
//! [`Executor::time_steps`] puts every launch into a compute pass of its own with a timestamp at
//! both ends: passes wait for each other where they share buffers, so a launch that would have
//! overlapped its neighbour in an ordinary run is timed alone. [`Executor::time_run`] is the ordinary
//! run with timestamps only around its passes, which shows what the extra passes cost. Without
//! timestamps, launches are submitted and waited for one by one, and their times are wall clock.

use std::ops::Range;

use super::{Executor, Launch};
use crate::error::Result;
use crate::gpu::timer::{Span, Timer};
use crate::tensor::HostTensor;

/// What the host did in a measured run, and when by its clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostSpan {
    /// `upload`, `record`, `submit`, `wait` or `read`.
    pub what: &'static str,
    /// When.
    pub span: Span,
}

/// One measured run.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedRun {
    /// Device spans: of every launch ([`Executor::time_steps`]), or of every submission
    /// ([`Executor::time_run`]; by wall clock from its submission to the end of the wait). On the
    /// host's clock if the timer has no other.
    pub device: Vec<Span>,
    /// Host spans in order.
    pub host: Vec<HostSpan>,
    /// From the first to the last thing the host did.
    pub total: Span,
}

impl Executor {
    /// Runs once and times every launch.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn time_steps(&mut self, timer: &mut Timer, inputs: &[(&str, &HostTensor)]) -> Result<TimedRun> {
        let mut log = Log::start(timer);
        self.write_inputs(inputs)?;
        let staging = self.staging()?;
        log.done(timer, "upload");
        let mut device = Vec::with_capacity(self.launches.len());
        // As many passes between waits as there are timestamps for; without any, one.
        let most = if timer.around(0).is_some() { timer.passes() } else { 1 };
        for start in (0..self.launches.len()).step_by(most) {
            let part = start..(start + most).min(self.launches.len());
            let cut = |r: Range<usize>| r.start.max(part.start)..r.end.min(part.end);
            let submissions: Vec<Vec<&[Launch]>> = self
                .submissions()
                .map(cut)
                .filter(|r| r.start < r.end)
                .map(|r| self.launches[r].chunks(1).collect())
                .collect();
            let results = (part.end == self.launches.len()).then_some(&staging);
            device.extend(self.timed(timer, &mut log, &submissions, results)?);
        }
        self.finish(timer, log, device, staging)
    }

    /// Nanoseconds that the launches of these steps take, of `times` such rounds one right after the other
    /// on what the buffers hold: no upload, no wait, nothing read.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn time_rounds(&self, timer: &mut Timer, steps: impl Fn(usize) -> bool, times: u32) -> Result<f64> {
        let chosen: Vec<&Launch> =
            self.launches.iter().enumerate().filter(|(i, _)| steps(*i)).map(|(_, l)| l).collect();
        let timed = timer.pass(|pass| {
            for _ in 0..times {
                chosen.iter().for_each(|launch| launch.record(pass));
            }
        })?;
        Ok(timed.best() / f64::from(times.max(1)))
    }

    /// Runs once as [`Executor::run`] does and times its submissions.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn time_run(&mut self, timer: &mut Timer, inputs: &[(&str, &HostTensor)]) -> Result<TimedRun> {
        let mut log = Log::start(timer);
        self.write_inputs(inputs)?;
        let staging = self.staging()?;
        log.done(timer, "upload");
        let submissions: Vec<Vec<&[Launch]>> =
            self.submissions().map(|range| vec![&self.launches[range]]).collect();
        let device = self.timed(timer, &mut log, &submissions, Some(&staging))?;
        self.finish(timer, log, device, staging)
    }

    /// Submissions of passes of launches, waited for at the end; every pass is timed.
    fn timed(
        &self,
        timer: &mut Timer,
        log: &mut Log,
        submissions: &[Vec<&[Launch]>],
        results: Option<&wgpu::Buffer>,
    ) -> Result<Vec<Span>> {
        let mut passes = 0;
        let mut first = None;
        let mut last = None;
        for (i, submission) in submissions.iter().enumerate() {
            let descriptor = wgpu::CommandEncoderDescriptor::default();
            let mut encoder = self.gpu.device.create_command_encoder(&descriptor);
            for launches in submission {
                let timestamp_writes = timer.around(passes);
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                launches.iter().for_each(|launch| launch.record(&mut pass));
                passes += 1;
            }
            if i + 1 == submissions.len() {
                if let Some(staging) = results {
                    self.copy_results(&mut encoder, staging);
                }
                timer.resolve(&mut encoder, passes);
            }
            let commands = encoder.finish();
            log.done(timer, "record");
            first.get_or_insert(log.at);
            last = Some(self.gpu.queue.submit([commands]));
            log.done(timer, "submit");
        }
        let (Some(submitted), Some(last)) = (first, last) else { return Ok(Vec::new()) };
        let spans = timer.read(&last, passes, submitted, self.deadline)?;
        log.done(timer, "wait");
        Ok(if spans.is_empty() { vec![Span { start: submitted, end: log.at }] } else { spans })
    }

    /// Reads the results, as a run does, and drops them.
    fn finish(
        &self,
        timer: &Timer,
        mut log: Log,
        device: Vec<Span>,
        staging: wgpu::Buffer,
    ) -> Result<TimedRun> {
        let submission = self.gpu.queue.submit([]);
        self.running(submission, staging).wait()?;
        log.done(timer, "read");
        let total = Span { start: log.begun, end: log.at };
        Ok(TimedRun { device, host: log.spans, total })
    }
}

/// What the host did so far: each thing from the end of the one before.
struct Log {
    begun: f64,
    at: f64,
    spans: Vec<HostSpan>,
}

impl Log {
    fn start(timer: &Timer) -> Self {
        let now = timer.now();
        Self { begun: now, at: now, spans: Vec::new() }
    }

    fn done(&mut self, timer: &Timer, what: &'static str) {
        let now = timer.now();
        self.spans.push(HostSpan { what, span: Span { start: self.at, end: now } });
        self.at = now;
    }
}
