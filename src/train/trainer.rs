//! A model in training: its parameters and the optimizer's memory on the device, and the graph of one step.

use std::collections::{BTreeMap, BTreeSet};

use super::objective::{LOSS, OTHERS, Objective, WEIGHTS};
use super::parameters::{Parameter, Parameterised, parameterise};
use super::recipe::{self, AVERAGING, CLIP, Optimizer, RATES, Recipe, SHARES, average_of, gradient_of};
use super::scope;
use crate::error::{Error, Result};
use crate::gpu::{Executor, States};
use crate::graph::{Graph, Node};
use crate::ops::Op;
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
    /// Activations and gradients.
    pub activations: u64,
    /// What the activations would be if layers were computed again on the way back; they are, where this is the same.
    pub recomputed: u64,
}

/// A model in training.
pub struct Trainer {
    runtime: Runtime,
    forward: Parameterised,
    /// What a step runs: a graph for the whole, or one for each part of the batch and one behind them.
    graphs: Vec<Graph>,
    optimizer: Optimizer,
    average: Option<f32>,
    /// Activations now, and if layers were computed again, in bytes.
    activations: [u64; 2],
    held: Held,
    /// Other graphs made ready, by their length and outputs.
    forwards: Vec<((usize, Vec<String>), Executor)>,
    /// Steps taken.
    steps: u32,
}

/// Where the states lie.
enum Held {
    Device { executors: Vec<Executor>, states: States },
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
        let scales = match recipe.layer_decay {
            1.0 => BTreeMap::new(),
            decay => scope::rates_by_layer(&objective.graph, decay),
        };
        let graphs = recipe::steps(&forward.graph, &forward.parameters, &scales, recipe)?;
        let largest = |graphs: &[Graph]| -> Result<u64> {
            let plans = graphs.iter().map(|graph| Ok(runtime.plan(graph)?.activation_bytes()));
            Ok(plans.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
        };
        let again = Recipe { recompute: true, ..*recipe };
        let activations = [
            largest(&graphs)?,
            largest(&recipe::steps(&forward.graph, &forward.parameters, &scales, &again)?)?,
        ];
        let mut contents = forward.contents(&runtime.checkpoint)?;
        if recipe.average.is_some() {
            let named = |p: &Parameter| contents.iter().find(|(name, _)| *name == p.name);
            let averages = forward.parameters.iter().filter_map(named);
            let averages: Vec<_> = averages.map(|(name, t)| (average_of(name), t.clone())).collect();
            contents.extend(averages);
        }
        let held = match runtime.gpu() {
            None => Held::Reference(contents.into_iter().collect()),
            Some(gpu) => {
                let states = States::new();
                let executors = graphs.iter().map(|graph| runtime.executor(graph, &states));
                let executors = executors.collect::<Result<_>>()?;
                for (name, value) in contents {
                    states.write(gpu, &name, value)?;
                }
                Held::Device { executors, states }
            }
        };
        let (optimizer, average) = (recipe.optimizer, recipe.average);
        Ok(Self {
            runtime,
            forward,
            graphs,
            optimizer,
            average,
            activations,
            held,
            forwards: vec![],
            steps: 0,
        })
    }

    /// The device that works.
    pub fn device(&self) -> &DeviceInfo {
        &self.runtime.device
    }

    /// Bytes that a step needs on the device.
    pub fn memory_needs(&self) -> Needs {
        let sum = |bytes: &dyn Fn(&Parameter) -> u64| self.forward.parameters.iter().map(bytes).sum();
        let memory = |p: &Parameter| (self.remembered(&p.name).len() * p.shape.elements() * 4) as u64;
        let states = self.forward.parameters.iter().map(|p| (p.shape.elements() * 4) as u64).sum::<u64>();
        let [activations, recomputed] = self.activations;
        Needs { parameters: states, optimizer: sum(&memory), activations, recomputed }
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
        self.step_of(&[inputs], rate)
    }

    /// One step over a batch that comes in parts, as many as [`Recipe::parts`] or fewer. Each counts by how many of
    /// its weights are not 0, so that the step is that of the whole batch, whose loss is a mean over them.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Usage`] for no part, or several where the recipe takes one.
    pub fn step_of(&mut self, parts: &[&[(&str, HostTensor)]], rate: f32) -> Result<Progress> {
        let whole = self.graphs.len() == 1;
        if parts.is_empty() || (whole && parts.len() > 1) {
            let what = format!("a step of {} parts, where the recipe takes one", parts.len());
            return Err(Error::usage(what, "say in the recipe how many there are"));
        }
        let rates = self.optimizer.rates(rate, self.steps.saturating_add(1));
        let averaging = self.averaging();
        let behind = [(RATES, &rates), (AVERAGING, &averaging)];
        let counts: Vec<f64> = parts.iter().map(|part| counted(part)).collect();
        let total: f64 = counts.iter().sum();
        let (mut loss, mut norm) = (0.0, f32::NAN);
        for (i, (part, count)) in parts.iter().zip(counts).enumerate() {
            let share = if total > 0.0 { (count / total) as f32 } else { 1.0 / parts.len() as f32 };
            let shares = HostTensor::f32([2], vec![if i == 0 { 0.0 } else { 1.0 }, share]);
            let mut inputs: Vec<(&str, &HostTensor)> = part.iter().map(|(name, t)| (*name, t)).collect();
            match whole {
                true => inputs.extend(behind),
                false => inputs.push((SHARES, &shares)),
            }
            let found = self.launch(0, &inputs)?;
            loss += share * found[0];
            norm = found[1];
        }
        if !whole {
            norm = self.launch(1, &behind)?[1];
        }
        self.steps += 1;
        Ok(Progress { loss, norm })
    }

    /// Runs one of the graphs of a step: its loss and the norm of the gradients, where it has them.
    fn launch(&mut self, graph: usize, inputs: &[(&str, &HostTensor)]) -> Result<[f32; 2]> {
        let results = match &mut self.held {
            Held::Reference(states) => {
                let inputs: Vec<_> = inputs.iter().map(|(name, t)| (*name, (*t).clone())).collect();
                self.runtime.reference(&self.graphs[graph], &inputs, states)?
            }
            Held::Device { executors, .. } => executors[graph].run(inputs)?,
        };
        Ok([(LOSS, 0), (CLIP, 1)].map(|(name, i)| {
            let at = self.graphs[graph].outputs().iter().position(|(n, _)| n == name);
            at.and_then(|at| results[at].as_f32()).map_or(f32::NAN, |values| values[i])
        }))
    }

    /// What the averages keep in this step and take: few early steps count for as much as their number.
    fn averaging(&self) -> HostTensor {
        let step = f64::from(self.steps) + 1.0;
        let keep = self.average.map_or(0.0, |decay| f64::from(decay).min((1.0 + step) / (10.0 + step)));
        HostTensor::f32([2], vec![keep as f32, (1.0 - keep) as f32])
    }

    /// Whether averages of the parameters are kept.
    pub fn has_averages(&self) -> bool {
        self.average.is_some()
    }

    /// What the forward pass gives for a batch, by the averages of the parameters where they are kept: outputs of the
    /// objective's graph, by name.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Usage`] for an unknown output.
    pub fn forward(&mut self, inputs: &[(&str, HostTensor)], outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let graph = self.forward.graph.select(outputs)?;
        self.run(&graph, inputs)
    }

    /// A graph that reads the averages in place of the parameters, where they are kept.
    fn averaged(&self, graph: &Graph) -> Graph {
        if self.average.is_none() {
            return graph.clone();
        }
        let mut averaged = Graph::new();
        for node in graph.nodes() {
            let op = match &node.op {
                Op::State { name, store } if self.forward.parameters.iter().any(|p| p.name == *name) => {
                    Op::State { name: average_of(name), store: *store }
                }
                op => op.clone(),
            };
            averaged.insert(Node { op, ..node.clone() });
        }
        for (name, v) in graph.outputs() {
            averaged.output(name.clone(), *v);
        }
        averaged
    }

    /// Runs another graph over the checkpoint's weights and the parameters as they are now, or their averages. Up to
    /// two are kept ready.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub(super) fn run(&mut self, graph: &Graph, inputs: &[(&str, HostTensor)]) -> Result<Vec<HostTensor>> {
        let graph = &self.averaged(graph);
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

    /// What a parameter is to be saved as: its average where that is kept, else what it holds.
    ///
    /// # Errors
    /// As [`Trainer::parameter`].
    pub fn averaged_parameter(&self, name: &str) -> Result<HostTensor> {
        if self.average.is_some() { self.parameter(&average_of(name)) } else { self.parameter(name) }
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

    /// Names of the states that a parameter has besides itself from step to step.
    fn remembered(&self, parameter: &str) -> Vec<String> {
        let average = self.average.map(|_| average_of(parameter));
        self.optimizer.memory(parameter).into_iter().chain(average).collect()
    }

    /// Steps taken so far, and what the optimizer remembers of them: a tensor of its parameter's shape each.
    ///
    /// # Errors
    /// Device errors.
    pub fn memory(&self) -> Result<(u32, Vec<(String, HostTensor)>)> {
        let names = self.forward.parameters.iter().flat_map(|p| self.remembered(&p.name));
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
            self.forward.parameters.iter().flat_map(|p| self.remembered(&p.name)).collect();
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

/// How many rows of a part of a batch count in its loss.
fn counted(part: &[(&str, HostTensor)]) -> f64 {
    let weights = |wanted: &str| part.iter().find(|(name, _)| *name == wanted).and_then(|(_, t)| t.as_f32());
    // Of images that are mixed either label may count for nothing.
    let (Some(own), others) = (weights(WEIGHTS), weights(OTHERS[1])) else { return 1.0 };
    let counts =
        |i: usize| own[i] != 0.0 || others.is_some_and(|others| others.get(i).is_some_and(|w| *w != 0.0));
    (0..own.len()).filter(|&i| counts(i)).count() as f64
}
