//! A model in training: its parameters and the optimizer's memory on the device, and the graph of one step.

use std::collections::BTreeSet;

use super::objective::{LOSS, Objective};
use super::parameters::{Parameter, Parameterised, parameterise};
use super::recipe::{self, CLIP, Optimizer, RATES, Recipe, gradient_of};
use crate::error::{Error, Result};
use crate::gpu::{Executor, States};
use crate::graph::Graph;
use crate::plan::Precision;
use crate::reference;
use crate::session::{DeviceInfo, ModelFiles, Options, Runtime};
use crate::tensor::HostTensor;

/// What a step gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The loss, before the step changed anything.
    pub loss: f32,
    /// Norm of all gradients together, before clipping. Where it is not finite nothing was changed.
    pub norm: f32,
}

/// Bytes that a step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Parameters that are trained.
    pub parameters: u64,
    /// What the optimizer remembers.
    pub optimizer: u64,
    /// Activations and gradients; unknown, and 0, on the reference.
    pub activations: u64,
}

/// A model in training.
pub struct Trainer {
    runtime: Runtime,
    forward: Parameterised,
    step: Graph,
    optimizer: Optimizer,
    held: Held,
    /// Other graphs made ready, by their length and outputs.
    forwards: Vec<((usize, Vec<String>), Executor)>,
    /// Steps taken.
    steps: u32,
}

/// Where the states lie.
enum Held {
    Device { executor: Box<Executor>, states: States },
    Reference(reference::States),
}

impl Trainer {
    /// Makes a model ready to be trained on an objective, which was built of it; `trained` names the tensors of
    /// its file that are to change.
    ///
    /// # Errors
    /// [`Error::Usage`] if a tensor cannot be trained, or not in the storage type asked for;
    /// [`Error::NoDevice`], [`Error::Limit`], [`Error::OutOfMemory`].
    pub fn open(
        files: ModelFiles,
        options: &Options,
        objective: Objective,
        trained: &dyn Fn(&str) -> bool,
        recipe: &Recipe,
    ) -> Result<Self> {
        let runtime = Runtime::open(files.name, files.checkpoint, files.warnings, options)?;
        if runtime.precision != Precision::F32 {
            return Err(Error::usage("training is in f32", "leave the storage type at that"));
        }
        let mut forward = parameterise(&objective.graph, &runtime.checkpoint, trained)?;
        if forward.parameters.is_empty() {
            return Err(Error::usage("nothing is to be trained", "name at least one tensor"));
        }
        forward.constants.extend(objective.constants);
        let step = recipe::step(&forward.graph, &forward.parameters, recipe)?;
        let contents = forward.contents(&runtime.checkpoint)?;
        let held = match runtime.gpu() {
            None => Held::Reference(contents.into_iter().collect()),
            Some(gpu) => {
                let states = States::new();
                let executor = Box::new(runtime.executor(&step, &states)?);
                for (name, value) in contents {
                    states.write(gpu, &name, value)?;
                }
                Held::Device { executor, states }
            }
        };
        let forwards = Vec::new();
        Ok(Self { runtime, forward, step, optimizer: recipe.optimizer, held, forwards, steps: 0 })
    }

    /// The device that works.
    pub fn device(&self) -> &DeviceInfo {
        &self.runtime.device
    }

    /// Bytes that a step needs on the device.
    pub fn memory_needs(&self) -> Needs {
        let sum = |bytes: &dyn Fn(&Parameter) -> u64| self.forward.parameters.iter().map(bytes).sum();
        let memory = |p: &Parameter| (self.optimizer.memory(&p.name).len() * p.shape.elements() * 4) as u64;
        let states = self.forward.parameters.iter().map(|p| (p.shape.elements() * 4) as u64).sum::<u64>();
        let activations = match &self.held {
            Held::Device { executor, .. } => executor.device_bytes(),
            Held::Reference(_) => 0,
        };
        Needs { parameters: states, optimizer: sum(&memory), activations }
    }

    /// The tensors that are trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.forward.parameters
    }

    /// One step at a learning rate. Inputs by name, as the objective declares them.
    ///
    /// # Errors
    /// [`Error::Usage`] for a missing or misshapen input; device errors.
    pub fn step(&mut self, inputs: &[(&str, HostTensor)], rate: f32) -> Result<Progress> {
        let rates = self.optimizer.rates(rate, self.steps.saturating_add(1));
        let results = match &mut self.held {
            Held::Reference(states) => {
                let inputs: Vec<_> = inputs.iter().cloned().chain([(RATES, rates)]).collect();
                self.runtime.reference(&self.step, &inputs, states)?
            }
            Held::Device { executor, .. } => {
                let inputs = inputs.iter().map(|(name, t)| (*name, t));
                executor.run(&inputs.chain([(RATES, &rates)]).collect::<Vec<_>>())?
            }
        };
        self.steps += 1;
        let [loss, norm] = [(LOSS, 0), (CLIP, 1)].map(|(name, i)| {
            let at = self.step.outputs().iter().position(|(n, _)| n == name);
            at.and_then(|at| results[at].as_f32()).map_or(f32::NAN, |values| values[i])
        });
        Ok(Progress { loss, norm })
    }

    /// What the forward pass gives for a batch: outputs of the objective's graph, by name.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Usage`] for an unknown output.
    pub fn forward(&mut self, inputs: &[(&str, HostTensor)], outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let graph = self.forward.graph.select(outputs)?;
        self.run(&graph, inputs)
    }

    /// Runs another graph over the checkpoint's weights and the parameters as they are now. Up to two are kept
    /// ready.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub(super) fn run(&mut self, graph: &Graph, inputs: &[(&str, HostTensor)]) -> Result<Vec<HostTensor>> {
        let states = match &mut self.held {
            Held::Reference(states) => return self.runtime.reference(graph, inputs, states),
            Held::Device { states, .. } => states,
        };
        let named = |graph: &Graph| graph.outputs().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let key = (graph.nodes().len(), named(graph));
        let at = match self.forwards.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None => {
                self.forwards.truncate(1);
                self.forwards.insert(0, (key, self.runtime.executor(graph, states)?));
                0
            }
        };
        let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
        self.forwards[at].1.run(&inputs)
    }

    /// Loss and gradients for a batch, by parameter, without changing anything.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradients(&mut self, inputs: &[(&str, HostTensor)]) -> Result<(f32, Vec<(String, HostTensor)>)> {
        let graph = recipe::gradients(&self.forward.graph, &self.forward.parameters)?;
        let results = match &mut self.held {
            Held::Reference(states) => self.runtime.reference(&graph, inputs, states)?,
            Held::Device { states, .. } => {
                let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
                self.runtime.executor(&graph, states)?.run(&inputs)?
            }
        };
        let mut loss = f32::NAN;
        let mut gradients = Vec::new();
        for ((name, _), result) in graph.outputs().iter().zip(results) {
            match self.forward.parameters.iter().find(|p| gradient_of(&p.name) == *name) {
                Some(parameter) => gradients.push((parameter.name.clone(), result)),
                None => loss = result.as_f32().map_or(f32::NAN, |values| values[0]),
            }
        }
        Ok((loss, gradients))
    }

    /// What a parameter holds now.
    ///
    /// # Errors
    /// [`Error::Usage`] for one that is not trained; device errors.
    pub fn parameter(&self, name: &str) -> Result<HostTensor> {
        let unknown = || Error::usage(format!("`{name}` is not trained"), "see Trainer::parameters");
        match (&self.held, self.runtime.gpu()) {
            (Held::Device { states, .. }, Some(gpu)) => states.read(gpu, name),
            (Held::Reference(states), _) => states.get(name).cloned().ok_or_else(unknown),
            (Held::Device { .. }, None) => Err(unknown()),
        }
    }

    /// Steps taken so far, and what the optimizer remembers of them: a tensor of its parameter's shape each.
    ///
    /// # Errors
    /// Device errors.
    pub fn memory(&self) -> Result<(u32, Vec<(String, HostTensor)>)> {
        let names = self.forward.parameters.iter().flat_map(|p| self.optimizer.memory(&p.name));
        let read = |name: String| match (&self.held, self.runtime.gpu()) {
            // The reference begins with zeros when the first step is made.
            (Held::Reference(states), _) => Ok(states.get(&name).map(|t| (name.clone(), t.clone()))),
            (Held::Device { states, .. }, Some(gpu)) => Ok(Some((name.clone(), states.read(gpu, &name)?))),
            (Held::Device { .. }, None) => Ok(None),
        };
        let all = names.map(read).collect::<Result<Vec<_>>>()?;
        Ok((self.steps, all.into_iter().flatten().collect()))
    }

    /// Goes on where another trainer of the same objective, parameters and recipe was.
    ///
    /// # Errors
    /// [`Error::Usage`] for tensors that are not the optimizer's, or of another shape; device errors.
    pub fn resume(&mut self, steps: u32, memory: Vec<(String, HostTensor)>) -> Result<()> {
        let known: BTreeSet<String> =
            self.forward.parameters.iter().flat_map(|p| self.optimizer.memory(&p.name)).collect();
        let given: BTreeSet<String> = memory.iter().map(|(name, _)| name.clone()).collect();
        if let Some(name) = known.symmetric_difference(&given).next() {
            let what = format!("`{name}` is remembered by one run and not by the other");
            return Err(Error::usage(what, "go on with the same optimizer and the same parameters"));
        }
        match (&mut self.held, self.runtime.gpu()) {
            (Held::Device { states, .. }, Some(gpu)) => {
                memory.into_iter().try_for_each(|(name, tensor)| states.write(gpu, &name, tensor))?;
            }
            (Held::Reference(states), _) => states.extend(memory),
            (Held::Device { .. }, None) => {}
        }
        self.steps = steps;
        Ok(())
    }
}
