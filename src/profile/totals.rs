//! The pass as a whole, and what a reader must know to read a profile right.

use serde::Serialize;

use super::{Bound, Profile, Round, median};
use crate::gpu::TimedRun;
use crate::gpu::timer::{Clock, Span};

/// The pass as a whole. Times in microseconds, medians over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Totals {
    /// Launches of a pass.
    pub launches: usize,
    /// Sum of all launches, each timed.
    pub steps_us: f64,
    /// The smallest such sum of a round: what else the machine does only ever adds.
    pub steps_best_us: f64,
    /// Between launches, where each is timed.
    pub step_gaps_us: f64,
    /// The pass as usual, from its first begin to its last end by the same clock.
    pub pass_us: f64,
    /// The shortest such pass.
    pub pass_best_us: f64,
    /// Within it, between submissions.
    pub pass_gaps_us: f64,
    /// From images on the host to results on the host, by wall clock, without timestamps.
    pub end_to_end_us: f64,
    /// Images a second by that.
    pub images_per_second: f64,
    /// Part of a run, from upload to results, in which the device computes, 0 to 1.
    pub busy: f64,
    /// Decoding and resizing of the batch's images, which runs beside the device.
    pub decode_us: f64,
    /// Floating-point operations a second over the pass, in billions.
    pub gflops: f64,
}

impl Totals {
    /// By how much the sum of launches exceeds the pass as usual, as part of the latter; each in its
    /// fastest round, because rounds differ by what else the machine does.
    pub fn excess(&self) -> f64 {
        (self.steps_best_us - self.pass_best_us) / self.pass_best_us.max(1e-3)
    }
}

impl Profile {
    /// The pass as a whole.
    pub fn totals(&self) -> Totals {
        let over = |f: &dyn Fn(&Round) -> f64| median(self.rounds.iter().map(f)) / 1e3;
        let sum = |run: &TimedRun| run.device.iter().map(Span::nanoseconds).sum::<f64>();
        let best =
            |f: &dyn Fn(&Round) -> f64| self.rounds.iter().map(f).reduce(f64::min).unwrap_or_default() / 1e3;
        let pass_us = over(&|r| extent(&r.whole));
        let end_to_end_us = over(&|r| r.end_to_end * 1e9);
        let flops: u64 = self.launches.iter().map(|l| l.cost.flops).sum();
        Totals {
            launches: self.launches.len(),
            steps_us: over(&|r| sum(&r.steps)),
            steps_best_us: best(&|r| sum(&r.steps)),
            step_gaps_us: over(&|r| extent(&r.steps) - sum(&r.steps)),
            pass_us,
            pass_best_us: best(&|r| extent(&r.whole)),
            pass_gaps_us: over(&|r| extent(&r.whole) - sum(&r.whole)),
            end_to_end_us,
            images_per_second: self.batch as f64 / end_to_end_us.max(1e-3) * 1e6,
            busy: over(&|r| sum(&r.whole) / r.whole.total.nanoseconds().max(1.0)) * 1e3,
            decode_us: over(&|r| r.decode.nanoseconds()),
            gflops: flops as f64 / pass_us.max(1e-3) / 1e3,
        }
    }

    /// What a reader must know to read the numbers right.
    pub fn remarks(&self) -> Vec<String> {
        let t = self.totals();
        let mut remarks = Vec::new();
        if let Clock::Wall(reason) = &self.clock {
            remarks.push(format!(
                "wall clock: {reason}. Every launch was submitted and waited for alone, which each time \
                 includes"
            ));
        }
        let off = t.excess();
        let percent = off.abs() * 100.0;
        let few = match self.rounds.len() {
            1 | 2 => " (with so few rounds it may be what else the machine does)",
            _ => "",
        };
        let slow = t.pass_us / t.pass_best_us.max(1e-3) - 1.0;
        if slow > 0.2 {
            remarks.push(format!(
                "half of the rounds took at least {:.0}% longer than the fastest: something else keeps the \
                 machine busy, and these times are not its best",
                slow * 100.0
            ));
        }
        if off > 0.1 && self.clock == Clock::Gpu {
            remarks.push(format!(
                "launches sum up to {percent:.0}% more than the pass takes as usual: some overlap there, \
                 and each pass around one launch costs time of its own{few}"
            ));
        } else if off > 0.1 {
            remarks.push(format!(
                "launches sum up to {percent:.0}% more than the pass takes as usual: that is what submitting \
                 and waiting for each costs{few}"
            ));
        } else if off < -0.1 && t.step_gaps_us > 0.05 * t.steps_us {
            remarks.push(format!(
                "launches sum up to {percent:.0}% less than the pass takes as usual: the rest lies between \
                 them, in barriers and starts{few}"
            ));
        } else if off < -0.1 {
            let passes = self.rounds.iter().map(|r| extent(&r.whole) / 1e6);
            let (low, high) = passes.fold((f64::MAX, 0.0), |(l, h), p| (f64::min(l, p), f64::max(h, p)));
            remarks.push(format!(
                "launches sum up to {percent:.0}% less than the pass takes as usual, and only {:.1} ms lie \
                 between them: rounds differ by what else the machine does (passes took {low:.1} to \
                 {high:.1} ms){few}",
                t.step_gaps_us / 1e3
            ));
        }
        let above = |bound| self.kernels().iter().any(|r| r.roofline > 1.0 && r.bound == bound);
        if above(Bound::Memory) {
            remarks.push("above the copy roof: caches serve what counts as memory traffic".to_owned());
        }
        if above(Bound::Compute) {
            remarks.push(
                "above the roof of arithmetic: it was measured while the machine was busy; measure it afresh"
                    .to_owned(),
            );
        }
        remarks
    }
}

/// Nanoseconds from the first begin to the last end on the device.
fn extent(run: &TimedRun) -> f64 {
    match (run.device.first(), run.device.last()) {
        (Some(first), Some(last)) => last.end - first.start,
        _ => 0.0,
    }
}
