//! What every checkpoint that is made ready has, whatever it answers: its weights, a device, what is known
//! of the fastest ways there, and what a user should hear.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{DeviceInfo, Engine, Options, Tuning, open_device};
use crate::data::materialise::materialise;
use crate::data::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::{Executor, Gpu, States};
use crate::graph::{Graph, Weight};
use crate::ops::Target;
use crate::plan::{self, Plan, Precision};
use crate::reference;
use crate::tensor::{HostTensor, Shape};

/// A checkpoint on a device.
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) precision: Precision,
    pub(crate) engine: Engine,
    pub(crate) device: DeviceInfo,
    fuse: bool,
    tuning: Mutex<Tuning>,
    warnings: Mutex<Vec<String>>,
}

impl Runtime {
    /// The device, unless it is the reference.
    pub(crate) fn gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.engine {
            Engine::Gpu { gpu, .. } => Some(gpu),
            Engine::Reference => None,
        }
    }

    /// Opens the device. Weights are uploaded by the first use.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub(crate) fn open(
        name: String,
        checkpoint: Checkpoint,
        warnings: Vec<String>,
        options: &Options,
    ) -> Result<Self> {
        let precision = options.precision.unwrap_or_default();
        let (engine, device) = open_device(&options.device, precision)?;
        let tuning = Mutex::new(Tuning::of(&engine, options));
        let warnings = Mutex::new(warnings);
        Ok(Self { name, checkpoint, precision, engine, device, fuse: options.fuse, tuning, warnings })
    }

    /// The plan of a graph, in the ways that are known to be fastest here or are measured now.
    ///
    /// # Errors
    /// [`Error::Limit`]; device errors; [`Error::Usage`] on the reference, which has no plans.
    pub(crate) fn compile(&self, graph: &Graph) -> Result<Plan> {
        let Engine::Gpu { gpu, .. } = &self.engine else {
            return Err(Error::usage("the reference has no plans", "choose an adapter of `vit-gpu devices`"));
        };
        let options = self.plan_options();
        self.tuning().learn(gpu, graph, options)?;
        plan::compile(graph, gpu.target(), self.plan_options())
    }

    /// The plan of a graph as it would be now: nothing is measured, and the reference counts as an adapter
    /// of WebGPU's default limits.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub(crate) fn plan(&self, graph: &Graph) -> Result<Plan> {
        let target = match &self.engine {
            Engine::Gpu { gpu, .. } => gpu.target().clone(),
            Engine::Reference => Target::portable(),
        };
        plan::compile(graph, &target, self.plan_options())
    }

    pub(crate) fn plan_options(&self) -> plan::Options {
        let choices = self.tuning().choices().clone();
        plan::Options { precision: self.precision, fuse: self.fuse, choices }
    }

    pub(crate) fn tuning(&self) -> MutexGuard<'_, Tuning> {
        self.tuning.lock().expect("no panic happens while this lock is held")
    }

    pub(crate) fn weight(&self, weight: &Weight, shape: Shape) -> Result<HostTensor> {
        materialise(weight, shape, &self.checkpoint)
    }

    /// A plan made ready, over the weights of this runtime.
    ///
    /// # Errors
    /// As [`Runtime::compile`].
    pub(crate) fn executor(&self, graph: &Graph, states: &States) -> Result<Executor> {
        let plan = self.compile(graph)?;
        let Engine::Gpu { gpu, store } = &self.engine else {
            return Err(Error::usage("the reference has no plans", "choose an adapter of `vit-gpu devices`"));
        };
        store.load(gpu, &plan, &|w, s| self.weight(w, s))?;
        Executor::with_states(gpu.clone(), plan, store, states)
    }

    /// Runs a graph once by the reference.
    ///
    /// # Errors
    /// If a weight cannot be made.
    pub(crate) fn reference(
        &self,
        graph: &Graph,
        inputs: &[(&str, HostTensor)],
        states: &mut reference::States,
    ) -> Result<Vec<HostTensor>> {
        reference::run_with_states(graph, &|w, s| self.weight(w, s), inputs, states)
    }

    /// What a user should hear, as far as known now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().map(|w| w.clone()).unwrap_or_default()
    }

    pub(crate) fn warn(&self, warning: String) {
        if let Ok(mut warnings) = self.warnings.lock()
            && !warnings.contains(&warning)
        {
            warnings.push(warning);
        }
    }
}
