//! Graphs over one set of states, run again and again with nothing passing between host and device: what
//! makes a sequence token by token. On the reference the same graphs run one after the other.

use std::sync::Arc;

use super::device::Engine;
use super::runtime::Runtime;
use crate::error::{Error, Result};
use crate::gpu::{Executor, Gpu, Repeated, States};
use crate::graph::Graph;
use crate::plan::Plan;
use crate::reference;
use crate::tensor::HostTensor;

/// Graphs and the states they share.
pub(crate) struct TokenLoop<'a> {
    runtime: &'a Runtime,
    place: Place,
}

enum Place {
    Device(Box<OnDevice>),
    Reference { graphs: Vec<Graph>, states: reference::States },
}

struct OnDevice {
    gpu: Arc<Gpu>,
    states: States,
    executors: Vec<Executor>,
    /// The submission before the last, which is waited for before another is made.
    running: Option<Repeated>,
}

impl<'a> TokenLoop<'a> {
    /// Plans, weights and states of graphs, which are known by their place in the list from here on.
    ///
    /// # Errors
    /// As [`Runtime::compile`]; device errors.
    pub(crate) fn new(runtime: &'a Runtime, graphs: Vec<Graph>) -> Result<Self> {
        let place = match &runtime.engine {
            Engine::Reference => Place::Reference { graphs, states: reference::States::new() },
            Engine::Gpu { gpu, .. } => {
                let states = States::new();
                let executors = graphs.iter().map(|graph| runtime.executor(graph, &states));
                let executors = executors.collect::<Result<_>>()?;
                Place::Device(Box::new(OnDevice { gpu: gpu.clone(), states, executors, running: None }))
            }
        };
        Ok(Self { runtime, place })
    }

    /// Runs graphs, each so many times: submitted while what was submitted before may still be under way.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn submit(&mut self, runs: &[(usize, u32)]) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => {
                let mut last = None;
                for &(graph, times) in runs {
                    last = Some(d.executors[graph].repeat(times)?);
                }
                std::mem::replace(&mut d.running, last).map_or(Ok(()), Repeated::wait)
            }
            Place::Reference { graphs, states } => {
                for &(graph, times) in runs {
                    for _ in 0..times {
                        self.runtime.reference(&graphs[graph], &[], states)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Waits for all that was submitted.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => d.running.take().map_or(Ok(()), Repeated::wait),
            Place::Reference { .. } => Ok(()),
        }
    }

    /// Runs a graph once and returns its outputs.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn run(&mut self, graph: usize) -> Result<Vec<HostTensor>> {
        match &mut self.place {
            Place::Device(d) => d.executors[graph].run(&[]),
            Place::Reference { graphs, states } => self.runtime.reference(&graphs[graph], &[], states),
        }
    }

    /// The plan of a graph; the reference has none.
    pub(crate) fn plan(&self, graph: usize) -> Option<&Plan> {
        match &self.place {
            Place::Device(d) => Some(d.executors[graph].plan()),
            Place::Reference { .. } => None,
        }
    }

    /// Replaces the contents of a state.
    ///
    /// # Errors
    /// [`Error::Usage`] if no graph has it on the device, or in another shape.
    pub(crate) fn write(&mut self, name: &str, tensor: HostTensor) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => d.states.write(&d.gpu, name, tensor),
            Place::Reference { states, .. } => {
                states.insert(name.to_owned(), tensor);
                Ok(())
            }
        }
    }

    /// The contents of a state, once all submitted work is done.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such state; device errors.
    pub(crate) fn read(&self, name: &str) -> Result<HostTensor> {
        match &self.place {
            Place::Device(d) => d.states.read(&d.gpu, name),
            Place::Reference { states, .. } => states
                .get(name)
                .cloned()
                .ok_or_else(|| Error::usage(format!("there is no state `{name}`"), "begin first")),
        }
    }
}
