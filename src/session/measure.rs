//! A plan measured: on a session's device with its weights, run under a timer or a stopwatch, and what it
//! took to get ready.

use crate::clock::Instant;
use crate::error::Result;
use crate::gpu::timer::Timer;
use crate::gpu::{Executor, TimedRun};
use crate::plan::Plan;
use crate::tensor::HostTensor;

/// Seconds of wall clock that it took to open a session.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Opening {
    /// Configuration, preprocessing and tensors' names read and understood.
    pub files: f64,
    /// Adapters listed and the device opened.
    pub device: f64,
}

/// Seconds of wall clock that it took to get ready.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Preparation {
    /// Ways measured that nobody had measured before; the graph too.
    pub tune: f64,
    /// From a graph to a plan.
    pub plan: f64,
    /// Weights read, packed and copied to the device.
    pub upload: f64,
    /// Pipelines compiled or fetched from the cache, buffers, bind groups.
    pub pipelines: f64,
}

/// A plan at work on a session's device, ready to be timed.
pub struct Prepared {
    executor: Executor,
    inputs: Vec<(String, HostTensor)>,
    preparation: Preparation,
}

impl Prepared {
    /// A plan made resident, and what it is run on.
    pub(crate) fn new(
        executor: Executor,
        inputs: Vec<(String, HostTensor)>,
        preparation: Preparation,
    ) -> Self {
        Self { executor, inputs, preparation }
    }

    fn named(inputs: &[(String, HostTensor)]) -> Vec<(&str, &HostTensor)> {
        inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// What it took to get ready.
    pub fn preparation(&self) -> Preparation {
        self.preparation
    }

    /// Bytes on the device besides weights.
    pub fn device_bytes(&self) -> u64 {
        self.executor.device_bytes()
    }

    /// Runs once, from images on the host to results on the host; yields seconds of wall clock.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn run(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.executor.run(&Self::named(&self.inputs))?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// As [`Executor::time_steps`].
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn time_steps(&mut self, timer: &mut Timer) -> Result<TimedRun> {
        self.executor.time_steps(timer, &Self::named(&self.inputs))
    }

    /// As [`Executor::time_run`].
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn time_run(&mut self, timer: &mut Timer) -> Result<TimedRun> {
        self.executor.time_run(timer, &Self::named(&self.inputs))
    }
}
