//! What a session knows of the fastest kernel variants on its device: what the user forced, what earlier runs
//! measured and kept, and what is measured now, on the first use of a shape.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::device::Engine;
use super::options::{Device, Options};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::tune::{self, Effort};
use crate::graph::Graph;
use crate::ops::Choices;
use crate::plan;

/// Choices so far, where they are kept, and how much time may still go into measuring.
pub(crate) struct Tuning {
    choices: Choices,
    dir: Option<PathBuf>,
    left: Duration,
}

impl Tuning {
    /// As the options of a session say, for what runs its graphs.
    pub(crate) fn of(engine: &Engine, options: &Options) -> Self {
        let (gpu, dir) = match (engine, &options.device) {
            (Engine::Gpu { gpu, .. }, Device::Gpu(choice)) => (Some(&**gpu), choice.cache_dir.clone()),
            _ => (None, None),
        };
        Self::new(gpu, &options.choices, dir, options.tuning_budget)
    }

    /// The user's choices; with a budget and a folder also those kept there for this adapter.
    fn new(gpu: Option<&Gpu>, forced: &Choices, dir: Option<PathBuf>, budget: Duration) -> Self {
        let mut choices = forced.clone();
        let on = gpu.filter(|_| !budget.is_zero());
        if let (Some(gpu), Some(dir)) = (on, &dir) {
            tune::load(dir, gpu.report(), &mut choices);
        }
        Self { choices, dir, left: budget }
    }

    /// The choices known now.
    pub(crate) fn choices(&self) -> &Choices {
        &self.choices
    }

    /// The folder choices are kept in.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Measures what a graph needs and nobody knows, as far as the budget goes, and keeps it. Without
    /// a folder to keep it in nothing is measured: it would cost every start anew.
    ///
    /// # Errors
    /// As [`tune::tune`].
    pub(crate) fn learn(&mut self, gpu: &Gpu, graph: &Graph, options: plan::Options) -> Result<()> {
        if self.dir.is_some() && !self.left.is_zero() {
            let effort = Effort { budget: self.left, settle: true };
            let report = self.measure(gpu, graph, options, effort, false)?;
            self.left = self.left.saturating_sub(Duration::from_secs_f64(report.seconds));
        }
        Ok(())
    }

    /// Measures within an effort and keeps what was found, in the folder too if there is one; `fresh`
    /// forgets what earlier runs measured.
    ///
    /// # Errors
    /// As [`tune::tune`].
    pub(super) fn measure(
        &mut self,
        gpu: &Gpu,
        graph: &Graph,
        mut options: plan::Options,
        effort: Effort,
        fresh: bool,
    ) -> Result<tune::Report> {
        if fresh {
            self.choices.forget();
        }
        options.choices = self.choices.clone();
        let report = tune::tune(gpu, graph, &mut options, effort)?;
        self.choices = options.choices;
        let news = !report.measured.is_empty() || (effort.settle && report.left > 0);
        if let (Some(dir), true) = (&self.dir, news) {
            tune::save(dir, gpu.report(), &self.choices);
        }
        Ok(report)
    }
}
