//! Counts and times of `infer`.

use crate::cli::outcome::{FAILED, exit_code};
use crate::cli::output::Timing;
use crate::cli::talk::Talk;
use crate::error::Error;

/// Counts and times over the whole run.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) inputs: usize,
    failures: usize,
    worst: u8,
    pub(super) timing: Timing,
}

impl Tally {
    pub(super) fn failed(&mut self, e: &Error) {
        self.failures += 1;
        self.worst = self.worst.max(exit_code(e)).max(FAILED);
    }

    pub(super) fn exit_code(&self) -> u8 {
        self.worst
    }

    pub(super) fn say(&self, talk: Talk) {
        let t = &self.timing;
        talk.detail(format_args!(
            "{} inputs, {} failed; load {:.0} ms, decode {:.0} ms, run {:.0} ms, total {:.0} ms",
            self.inputs, self.failures, t.load, t.decode, t.run, t.total
        ));
        if self.failures > 0 && self.inputs > 1 {
            talk.warn(format_args!("{} of {} inputs failed", self.failures, self.inputs));
        }
    }
}
