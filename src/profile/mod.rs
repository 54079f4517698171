//! Where the time of a forward pass goes, as plain data: what was measured, rows by kernel
//! and by layer against the adapter's measured ceilings, and the same as tables, a trace and a
//! image. Nothing here prints or writes files.
//!
//! Each of R rounds runs the pass three times: with every launch timed, as usual with timestamps only
//! around it, and as usual without any. Sums of launches are compared with the second, shares of the
//! time the host waits with the third; what does not add up is said ([`Profile::remarks`]).

mod picture;
mod roofline;
mod table;
#[cfg(test)]
mod tests;
mod totals;
mod trace;

pub use totals::Totals;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::Result;
use crate::gpu::ceilings::Ceilings;
use crate::gpu::timer::{Clock, Span, Timer};
use crate::gpu::{HostSpan, TimedRun};
use crate::image::{DecodeOptions, decode_bytes};
use crate::ops::Cost;
use crate::plan::Step;
use crate::session::Session;
use crate::session::measure::Prepared;
use crate::tensor::Size;

/// A launch and how long it took in each round.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Where in the model.
    pub label: String,
    /// Kernel, and the way where there are several: `matmul_tile tile64`.
    pub kernel: String,
    /// Shapes of operands and result.
    pub shapes: String,
    /// Storage type of the result.
    pub dtype: String,
    /// Work and traffic.
    pub cost: Cost,
    /// The rate of arithmetic it cannot exceed, in operations a second.
    pub roof: f64,
    /// Nanoseconds, one for each round.
    pub times: Vec<f64>,
}

/// What one round was, for the trace.
#[derive(Debug, Clone)]
pub struct Round {
    /// Decoding and resizing of the batch's images.
    pub decode: Span,
    /// Every launch timed.
    pub steps: TimedRun,
    /// As usual.
    pub whole: TimedRun,
    /// Seconds from images to results, without any timestamps.
    pub end_to_end: f64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Where launches' times come from.
    pub clock: Clock,
    /// Images computed at a time.
    pub batch: usize,
    /// Height and width in pixels.
    pub size: Size,
    /// The adapter's ceilings.
    pub ceilings: Ceilings,
    /// Every launch, in order.
    pub launches: Vec<Launch>,
    /// Every round.
    pub rounds: Vec<Round>,
    /// What to add to device times for host times, and how far off it may be, in nanoseconds.
    pub offset: (f64, f64),
}

/// What keeps a launch from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The memory roof is the lower one.
    Memory,
    /// The arithmetic roof is the lower one.
    Compute,
    /// It takes little longer than a launch that does nothing.
    Launch,
}

impl Bound {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Memory => "memory",
            Bound::Compute => "compute",
            Bound::Launch => "launch",
        }
    }
}

/// Launches taken together.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What they have in common: a kernel, shapes, or a layer.
    pub name: String,
    /// How many of them a pass has.
    pub calls: usize,
    /// Of one call, in microseconds.
    pub median_us: f64,
    /// Of one call, in microseconds: 95 of 100 are not slower.
    pub p95_us: f64,
    /// Of all calls of a pass together, in microseconds; the median over rounds.
    pub total_us: f64,
    /// Part of the sum of all launches, 0 to 1.
    pub share: f64,
    /// Billions of floating-point operations a second.
    pub gflops: f64,
    /// Billions of bytes a second, each operand counted once.
    pub gbytes: f64,
    /// Work in floating-point operations for each byte.
    pub intensity: f64,
    /// Time that the lower roof would take, as part of the time taken, 0 to 1 (more where caches serve
    /// what counts as memory traffic).
    pub roofline: f64,
    /// What keeps it from being faster.
    pub bound: Bound,
    /// The same by shapes, where shapes differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Row>,
}

impl Profile {
    /// Measures `runs` rounds of what `prepared` runs for `session`; `progress` hears of every round.
    ///
    /// # Errors
    /// Device errors.
    pub fn measure(
        session: &Session,
        prepared: &mut Prepared,
        timer: &mut Timer,
        ceilings: Ceilings,
        runs: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let &[batch, height, width, _] = prepared.plan().inputs[0].desc.shape.dims() else {
            unreachable!("Session::prepare makes plans of images as bytes (B,H,W,3)")
        };
        let jpeg = picture::jpeg();
        let preprocess = session.preprocess().with_size(Size { height, width })?;
        let decode = || -> Result<()> {
            let one = |_| preprocess.pixels(&decode_bytes("image", &jpeg, &DecodeOptions::default())?);
            (0..batch).into_par_iter().map(one).try_for_each(|pixels| pixels.map(drop))
        };
        let what = (batch, Size { height, width });
        Self::measure_plan(prepared, what, &decode, timer, ceilings, runs, progress)
    }

    /// As [`Profile::measure`], for any plan: `what` it is run on (samples; the size of their
    /// images), and what the host does before it.
    ///
    /// # Errors
    /// Device errors, and those of `decode`.
    pub fn measure_plan(
        prepared: &mut Prepared,
        what: (usize, Size),
        decode: &dyn Fn() -> Result<()>,
        timer: &mut Timer,
        ceilings: Ceilings,
        runs: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        // First runs pay for pages, pipelines and caches.
        decode()?;
        prepared.time_steps(timer)?;
        prepared.run()?;
        let mut rounds = Vec::with_capacity(runs);
        for round in 0..runs {
            let start = timer.now();
            decode()?;
            let decode = Span { start, end: timer.now() };
            // What the host does between rounds lets a GPU's clocks sink.
            timer.gpu().raise_clocks()?;
            let steps = prepared.time_steps(timer)?;
            let whole = prepared.time_run(timer)?;
            let end_to_end = prepared.run()?;
            rounds.push(Round { decode, steps, whole, end_to_end });
            progress(round + 1);
        }
        let launch = |(i, step): (usize, &Step)| Launch {
            label: step.label.clone(),
            kernel: match &step.choice {
                Some(choice) => format!("{} {}", step.kernel.name, choice.name),
                None => step.kernel.name.to_owned(),
            },
            shapes: step.shapes.clone(),
            dtype: step.dtype.to_string(),
            cost: step.cost,
            roof: roof(step, &ceilings),
            times: rounds.iter().map(|r| r.steps.device[i].nanoseconds()).collect(),
        };
        let launches = prepared.plan().steps.iter().enumerate().map(launch).collect();
        let (clock, offset) = (timer.clock().clone(), timer.offset());
        let (batch, size) = what;
        Ok(Self { clock, batch, size, ceilings, launches, rounds, offset })
    }

    /// Rows by kernel, costliest first.
    pub fn kernels(&self) -> Vec<Row> {
        let mut rows = self.grouped(self.launches.iter().collect(), |l| l.kernel.clone());
        for row in &mut rows {
            let members = self.launches.iter().filter(|l| l.kernel == row.name).collect();
            let parts = self.grouped(members, |l| l.shapes.clone());
            row.parts = if parts.len() > 1 { parts } else { Vec::new() };
        }
        rows.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
        rows
    }

    /// Rows by layer, in order.
    pub fn layers(&self) -> Vec<Row> {
        self.grouped(self.launches.iter().collect(), |l| layer(&l.label).to_owned())
    }

    fn grouped(&self, launches: Vec<&Launch>, key: impl Fn(&Launch) -> String) -> Vec<Row> {
        let mut groups: Vec<(String, Vec<&Launch>)> = Vec::new();
        for launch in launches {
            let name = key(launch);
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, members)) => members.push(launch),
                None => groups.push((name, vec![launch])),
            }
        }
        let mut rows: Vec<Row> = groups.into_iter().map(|(name, members)| self.row(name, &members)).collect();
        if rows.iter().all(|r| r.name.contains("->")) {
            rows.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
        }
        rows
    }

    fn row(&self, name: String, members: &[&Launch]) -> Row {
        let rounds = self.rounds.len();
        let mut all: Vec<f64> = members.iter().flat_map(|l| l.times.iter().copied()).collect();
        let sums = (0..rounds).map(|r| members.iter().map(|l| l.times[r]).sum());
        let total = median(sums);
        let whole = self.totals().steps_us * 1e3;
        let (mut flops, mut bytes, mut memory, mut compute, mut limit) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for launch in members {
            let m = launch.cost.bytes as f64 / self.ceilings.copy() * 1e9;
            let c = launch.cost.flops as f64 / launch.roof * 1e9;
            flops += launch.cost.flops as f64;
            bytes += launch.cost.bytes as f64;
            memory += m;
            compute += c;
            limit += f64::max(m, c);
        }
        let calls = members.len();
        // Twice the time of a launch that does nothing.
        let bound = if total < 2.0 * self.ceilings.launch * 1e9 * calls as f64 {
            Bound::Launch
        } else if memory >= compute {
            Bound::Memory
        } else {
            Bound::Compute
        };
        all.sort_by(f64::total_cmp);
        let time = total.max(1.0);
        Row {
            name,
            calls,
            median_us: quantile(&all, 0.5) / 1e3,
            p95_us: quantile(&all, 0.95) / 1e3,
            total_us: total / 1e3,
            share: total / whole.max(1.0),
            gflops: flops / time,
            gbytes: bytes / time,
            intensity: if bytes > 0.0 { flops / bytes } else { 0.0 },
            roofline: limit / time,
            bound,
            parts: Vec::new(),
        }
    }
}

/// The rate of arithmetic that a step's kernel cannot exceed. Kernels compute in f32 whatever the
/// storage type, except those on cooperative matrices.
fn roof(step: &Step, ceilings: &Ceilings) -> f64 {
    match ceilings.matrix {
        Some(matrix) if step.variant.uses_matrices() => matrix,
        _ => ceilings.f32,
    }
}

/// `layer.3` of `layer.3.mlp`; else the first part of a label.
fn layer(label: &str) -> &str {
    let mut dots = label.match_indices('.').map(|(i, _)| i);
    let first = dots.next();
    let numbered = first.is_some_and(|i| label[i + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let end = if numbered { dots.next() } else { first };
    &label[..end.unwrap_or(label.len())]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// The value that a part `q` of the sorted values is not above; between neighbours by interpolation.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Host spans of a round besides decoding, in order.
fn host_spans(round: &Round) -> impl Iterator<Item = &HostSpan> {
    round.steps.host.iter().chain(&round.whole.host)
}
