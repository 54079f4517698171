//! What runs the graphs of a checkpoint, whatever it answers: its weights, a device, what is known of the
//! fastest kernel variants there, executors by what they are for, and what a user should hear. Images, generated images
//! and texts have one each; a checkpoint beside another one on the same device has one of its own.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::device::{DeviceInfo, Engine, open_device};
use super::measure::{Preparation, Prepared};
use super::options::Options;
use super::tuning::Tuning;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::materialise::{materialise, scan};
use crate::clock::Instant;
use crate::error::{Advice, Error, Result};
use crate::gpu::{Executor, Gpu, States, Store, tune};
use crate::graph::{Graph, Weight};
use crate::ops::Target;
use crate::plan::{self, Plan, Precision};
use crate::reference;
use crate::tensor::{HostTensor, Shape};

/// Most executors kept; each holds activation buffers.
const MAX_EXECUTORS: usize = 6;

/// A checkpoint on a device.
pub(crate) struct Runtime {
    pub(crate) name: String,
    /// Tells its executors from those of another checkpoint, which may have the same name.
    serial: u64,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) precision: Precision,
    pub(crate) engine: Engine,
    pub(crate) device: DeviceInfo,
    fuse: bool,
    tuning: Arc<Mutex<Tuning>>,
    warnings: Arc<Mutex<Vec<String>>>,
    /// By what they are for, those of checkpoints beside this one among them, so that whoever runs out of
    /// memory can drop them all; the one used last is last.
    executors: Arc<Mutex<Vec<(String, Executor)>>>,
}

impl Runtime {
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
        let tuning = Arc::new(Mutex::new(Tuning::of(&engine, options)));
        let warnings = Arc::new(Mutex::new(warnings));
        let (fuse, executors) = (options.fuse, Arc::default());
        let serial = serial();
        Ok(Self { name, serial, checkpoint, precision, engine, device, fuse, tuning, warnings, executors })
    }

    /// Another checkpoint on the same device: executors, what is known of variants and what users should hear are
    /// shared.
    pub(crate) fn beside(&self, name: String, checkpoint: Checkpoint) -> Self {
        let engine = match &self.engine {
            Engine::Gpu { gpu, .. } => Engine::Gpu { gpu: gpu.clone(), store: Store::new() },
            Engine::Reference => Engine::Reference,
        };
        let (tuning, warnings) = (self.tuning.clone(), self.warnings.clone());
        let (precision, device, fuse) = (self.precision, self.device.clone(), self.fuse);
        let executors = self.executors.clone();
        let serial = serial();
        Self { name, serial, checkpoint, precision, engine, device, fuse, tuning, warnings, executors }
    }

    /// The device, unless it is the reference.
    pub(crate) fn gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.engine {
            Engine::Gpu { gpu, .. } => Some(gpu),
            Engine::Reference => None,
        }
    }

    /// The device and the weights on it.
    ///
    /// # Errors
    /// [`Error::Usage`] on the reference.
    fn on_device(&self) -> Result<(&Arc<Gpu>, &Store)> {
        match &self.engine {
            Engine::Gpu { gpu, store } => Ok((gpu, store)),
            Engine::Reference => {
                let what = "the reference has no plans and no launches";
                Err(Error::usage(what, Advice::Adapter))
            }
        }
    }

    /// The plan of a graph as it would be now: nothing is measured, and the reference counts as an adapter
    /// of WebGPU's default limits.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub(crate) fn plan(&self, graph: &Graph) -> Result<Plan> {
        let target = self.gpu().map_or_else(Target::portable, |gpu| gpu.target().clone());
        plan::compile(graph, &target, self.plan_options())
    }

    fn plan_options(&self) -> plan::Options {
        let choices = self.tuning().choices().clone();
        plan::Options { precision: self.precision, fuse: self.fuse, choices }
    }

    fn tuning(&self) -> MutexGuard<'_, Tuning> {
        self.tuning.lock().expect("no panic happens while this lock is held")
    }

    /// A weight in f32, as its recipe says; of values that are not finite, or that f16 does not hold, a user
    /// hears.
    pub(crate) fn weight(&self, weight: &Weight, shape: Shape) -> Result<HostTensor> {
        let tensor = materialise(weight, shape, &self.checkpoint)?;
        if let Some(data) = tensor.as_f32()
            && let Some(warning) = scan(data).warning(&weight.to_string(), self.precision == Precision::F16)
        {
            self.warn(warning);
        }
        Ok(tensor)
    }

    /// A graph made ready, by the variants that are known to be fastest here or are measured now, over the weights
    /// of this runtime; and what it took, tuning counted from `begun`.
    fn ready(&self, graph: &Graph, states: &States, begun: Instant) -> Result<(Executor, Preparation)> {
        let (gpu, store) = self.on_device()?;
        // Before the lock is taken: the options are read under it.
        let options = self.plan_options();
        self.tuning().learn(gpu, graph, options)?;
        let tuned = Instant::now();
        let plan = plan::compile(graph, gpu.target(), self.plan_options())?;
        let planned = Instant::now();
        store.load(gpu, &plan, &|w, s| self.weight(w, s))?;
        let uploaded = Instant::now();
        let executor = Executor::with_states(gpu.clone(), plan, store, states)?;
        let preparation = Preparation {
            tune: (tuned - begun).as_secs_f64(),
            plan: (planned - tuned).as_secs_f64(),
            upload: (uploaded - planned).as_secs_f64(),
            pipelines: uploaded.elapsed().as_secs_f64(),
        };
        Ok((executor, preparation))
    }

    /// A graph made ready.
    ///
    /// # Errors
    /// As [`Runtime::plan`]; [`Error::OutOfMemory`]; [`Error::Usage`] on the reference.
    pub(crate) fn executor(&self, graph: &Graph, states: &States) -> Result<Executor> {
        Ok(self.ready(graph, states, Instant::now())?.0)
    }

    /// As [`Runtime::executor`], to be timed on these inputs, with what it took since `begun`.
    ///
    /// # Errors
    /// As [`Runtime::executor`].
    pub(crate) fn prepare(
        &self,
        graph: &Graph,
        states: &States,
        inputs: Vec<(String, HostTensor)>,
        begun: Instant,
    ) -> Result<Prepared> {
        let (executor, preparation) = self.ready(graph, states, begun)?;
        Ok(Prepared::new(executor, inputs, preparation))
    }

    /// What `run` makes of the executor kept for `key`, which is made from `graph` if there is none.
    ///
    /// # Errors
    /// As [`Runtime::executor`], and those of `graph` and `run`.
    pub(crate) fn with_executor<R>(
        &self,
        key: &impl Debug,
        graph: impl FnOnce() -> Result<Graph>,
        run: impl FnOnce(&mut Executor) -> Result<R>,
    ) -> Result<R> {
        let key = format!("{} {key:?}", self.serial);
        let mut executors = self.executors();
        match executors.iter().position(|(known, _)| *known == key) {
            Some(at) => executors[at..].rotate_left(1),
            None => {
                let executor = self.executor(&graph()?, &States::new())?;
                if executors.len() >= MAX_EXECUTORS {
                    executors.remove(0);
                }
                executors.push((key, executor));
            }
        }
        let (_, executor) = executors.last_mut().expect("it was moved or pushed there");
        run(executor)
    }

    /// Runs a graph: on the executor kept for `key`, or by the reference.
    ///
    /// # Errors
    /// As [`Runtime::with_executor`].
    pub(crate) fn run(
        &self,
        key: &impl Debug,
        graph: impl FnOnce() -> Result<Graph>,
        inputs: &[(&str, HostTensor)],
    ) -> Result<Vec<HostTensor>> {
        if matches!(self.engine, Engine::Reference) {
            return self.reference(&graph()?, inputs, &mut reference::States::new());
        }
        let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
        self.with_executor(key, graph, |executor| executor.run(&inputs))
    }

    fn executors(&self) -> MutexGuard<'_, Vec<(String, Executor)>> {
        self.executors.lock().expect("no panic happens while this lock is held")
    }

    /// The result of a batch of `n`; `None` if the device has no room for it: then nothing is kept there
    /// but weights, `most` is half as many, and a user hears of it.
    ///
    /// # Errors
    /// Any other error of `result`, and this one if `n` is 1.
    pub(crate) fn fitting<R>(
        &self,
        result: Result<R>,
        n: usize,
        most: &mut usize,
        what: &str,
    ) -> Result<Option<R>> {
        match result {
            Err(Error::OutOfMemory { .. } | Error::Limit { .. }) if n > 1 => {
                self.executors().clear();
                *most = n / 2;
                self.warn(format!("a batch of {n}{what} does not fit the device; going on with {most}"));
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Measures the kernel variants of a graph, and keeps the fastest; `fresh` forgets what is known. `None`
    /// on the reference, which has one way.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn tune(&self, graph: &Graph, budget: Duration, fresh: bool) -> Result<Option<tune::Report>> {
        let Some(gpu) = self.gpu() else { return Ok(None) };
        let options = self.plan_options();
        let effort = tune::Effort { budget, settle: false };
        self.tuning().measure(gpu, graph, options, effort, fresh).map(Some)
    }

    /// Where measured choices are kept, if they are.
    pub(crate) fn tuning_file(&self) -> Option<PathBuf> {
        let gpu = self.gpu()?;
        self.tuning().dir().map(|dir| tune::file(dir, gpu.report()))
    }

    /// Bytes of weights on the device so far.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.on_device().map_or(0, |(_, store)| store.bytes())
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

/// A number that no other runtime has.
fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
