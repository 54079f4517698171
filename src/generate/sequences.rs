//! A batch of sequences in the making: its states, and the plans of a prompt and of one token over them.

use std::ops::Range;

use super::{ENTROPY, Generator, HostStates, Request, SETTINGS, STREAMS};
use crate::error::{Error, Result};
use crate::gpu::{Executor, Repeated, States};
use crate::graph::Graph;
use crate::models::sequence::{CLASSES, New, ROTARY, STEP, TOKENS};
use crate::plan::Buffer;
use crate::reference;
use crate::session::Engine;
use crate::tensor::HostTensor;

/// Sequences of one batch.
pub(super) struct Sequences<'a> {
    generator: &'a Generator,
    samples: usize,
    rows: usize,
    place: Place,
}

/// Where the sequences lie and what moves them on.
enum Place {
    Device(Box<OnDevice>),
    Reference(Box<OnHost>),
}

struct OnHost {
    prompt: Graph,
    step: Graph,
    states: HostStates,
}

struct OnDevice {
    states: States,
    prompt: Executor,
    step: Executor,
    /// The submission before the last, which is waited for before another is made.
    running: Option<Repeated>,
}

impl<'a> Sequences<'a> {
    /// Plans and states for a batch whose sequences begin with `given` tokens.
    pub(super) fn new(generator: &'a Generator, samples: usize, guided: bool, given: usize) -> Result<Self> {
        let prompt = generator.graph(samples, guided, New::Prompt(given))?;
        let step = generator.graph(samples, guided, New::Last)?;
        let rows = if guided { 2 * samples } else { samples };
        let place = match &generator.engine {
            Engine::Reference => {
                Place::Reference(Box::new(OnHost { prompt, step, states: HostStates::new() }))
            }
            Engine::Gpu { gpu, store } => {
                let states = States::new();
                let mut ready = Vec::with_capacity(2);
                for graph in [&prompt, &step] {
                    let plan = generator.compile(graph)?;
                    store.load(gpu, &plan, &|w, s| generator.weight(w, s))?;
                    ready.push(Executor::with_states(gpu.clone(), plan, store, &states)?);
                }
                let step = ready.remove(1);
                Place::Device(Box::new(OnDevice { states, prompt: ready.remove(0), step, running: None }))
            }
        };
        Ok(Self { generator, samples, rows, place })
    }

    /// Writes what a request says into the states.
    pub(super) fn begin(
        &mut self,
        generator: &Generator,
        request: &Request,
        samples: Range<usize>,
    ) -> Result<()> {
        let info = generator.info();
        let none = info.classes.unwrap_or(0) as u32;
        let class = |row: usize| {
            let wanted = request.classes[samples.start + row % self.samples];
            if row < self.samples { wanted.map_or(none, |c| c as u32) } else { none }
        };
        let classes: Vec<u32> = (0..self.rows).map(class).collect();
        let length = info.tokens + 1;
        let tokens = (0..self.samples).flat_map(|_| sequence(info.start, &request.prime, length)).collect();
        self.write(STEP, HostTensor::u32([4], vec![0; 4]))?;
        self.write(TOKENS, HostTensor::u32([self.samples, length], tokens))?;
        self.write(SETTINGS, request.sampling.tensor())?;
        self.write(
            STREAMS,
            HostTensor::u32([self.samples], samples.map(|s| request.first.wrapping_add(s as u32)).collect()),
        )?;
        self.write(ENTROPY, HostTensor::f32([self.samples, length], vec![0.0; self.samples * length]))?;
        if info.classes.is_some() {
            self.write(CLASSES, HostTensor::u32([self.rows], classes))?;
        }
        generator.decoder.rotary().map_or(Ok(()), |table| self.write(ROTARY, table))
    }

    /// Runs the prompt and draws the first token.
    pub(super) fn prompt(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => d.running = Some(d.prompt.repeat(1)?),
            Place::Reference(h) => {
                let generator = self.generator;
                reference::run_with_states(&h.prompt, &|w, s| generator.weight(w, s), &[], &mut h.states)?;
            }
        }
        Ok(())
    }

    /// Draws so many tokens more: submitted while those before may still be under way.
    pub(super) fn steps(&mut self, count: usize) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => {
                let next = d.step.repeat(count as u32)?;
                d.running.replace(next).map_or(Ok(()), Repeated::wait)
            }
            Place::Reference(h) => {
                let generator = self.generator;
                for _ in 0..count {
                    reference::run_with_states(&h.step, &|w, s| generator.weight(w, s), &[], &mut h.states)?;
                }
                Ok(())
            }
        }
    }

    /// Waits for all that was submitted.
    pub(super) fn finish(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => d.running.take().map_or(Ok(()), Repeated::wait),
            Place::Reference(_) => Ok(()),
        }
    }

    /// The first `count` tokens of each sequence.
    pub(super) fn tokens(&mut self, count: usize) -> Result<Vec<Vec<u32>>> {
        let all = self.read(TOKENS)?;
        let words = all.as_u32().unwrap_or_default();
        Ok(words.chunks(words.len() / self.samples).map(|row| row[1..=count].to_vec()).collect())
    }

    /// The entropies of the first `count` draws of each sequence, in nats.
    pub(super) fn entropy(&mut self, count: usize) -> Result<Vec<Vec<f32>>> {
        let all = self.read(ENTROPY)?.to_f32();
        Ok(all.chunks(all.len() / self.samples).map(|row| row[1..=count].to_vec()).collect())
    }

    /// How many draws met scores that are not finite.
    pub(super) fn broken(&mut self) -> Result<usize> {
        Ok(self.read(STEP)?.as_u32().map_or(0, |step| step[2] as usize))
    }

    /// Bytes that a run of one token must read, and its launches.
    pub(super) fn step_cost(&self) -> (u64, usize) {
        let Place::Device(d) = &self.place else { return (0, 0) };
        let plan = d.step.plan();
        // Of an embedding table only the rows of the tokens are read.
        let weights =
            plan.steps.iter().filter(|s| s.op != "embed" && s.op != "gather").flat_map(|s| &s.binds);
        let mut seen: Vec<Buffer> = weights.copied().filter(|b| matches!(b, Buffer::Weight(..))).collect();
        seen.sort();
        seen.dedup();
        let weights: u64 = seen.into_iter().map(|b| plan.buffer_bytes(b)).sum();
        let caches = plan.states.iter().filter(|s| s.name.starts_with("kv."));
        (weights + caches.map(|s| s.desc.bytes() as u64 / 2).sum::<u64>(), plan.steps.len())
    }

    fn write(&mut self, name: &str, tensor: HostTensor) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => match &self.generator.engine {
                Engine::Gpu { gpu, .. } => d.states.write(gpu, name, tensor),
                Engine::Reference => Ok(()),
            },
            Place::Reference(h) => {
                h.states.insert(name.to_owned(), tensor);
                Ok(())
            }
        }
    }

    fn read(&mut self, name: &str) -> Result<HostTensor> {
        let missing = || Error::usage(format!("there is no state `{name}`"), "begin first");
        match &self.place {
            Place::Device(d) => match &self.generator.engine {
                Engine::Gpu { gpu, .. } => d.states.read(gpu, name),
                Engine::Reference => Err(missing()),
            },
            Place::Reference(h) => h.states.get(name).cloned().ok_or_else(missing),
        }
    }
}

/// The start token, the tokens given, zeros.
fn sequence(start: u32, given: &[u32], length: usize) -> Vec<u32> {
    let rest = std::iter::repeat(0);
    std::iter::once(start).chain(given.iter().copied()).chain(rest).take(length).collect()
}

/// Runs a graph of whole sequences once.
pub(super) fn run_once(
    generator: &Generator,
    graph: &Graph,
    classes: &[u32],
    tokens: &[Vec<u32>],
) -> Result<Vec<HostTensor>> {
    let info = generator.info();
    let length = info.tokens + 1;
    let words = tokens.iter().flat_map(|t| sequence(info.start, t, length)).collect();
    let mut contents = vec![
        (STEP, HostTensor::u32([4], vec![0; 4])),
        (TOKENS, HostTensor::u32([tokens.len(), length], words)),
    ];
    if info.classes.is_some() {
        contents.push((CLASSES, HostTensor::u32([classes.len()], classes.to_vec())));
    }
    contents.extend(generator.decoder.rotary().map(|table| (ROTARY, table)));
    match &generator.engine {
        Engine::Reference => {
            let mut states = contents.into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
            reference::run_with_states(graph, &|w, s| generator.weight(w, s), &[], &mut states)
        }
        Engine::Gpu { gpu, store } => {
            let plan = generator.compile(graph)?;
            store.load(gpu, &plan, &|w, s| generator.weight(w, s))?;
            let states = States::new();
            let declared: Vec<String> = plan.states.iter().map(|s| s.name.clone()).collect();
            let mut executor = Executor::with_states(gpu.clone(), plan, store, &states)?;
            for (name, tensor) in contents.into_iter().filter(|(n, _)| declared.iter().any(|d| d == n)) {
                states.write(gpu, name, tensor)?;
            }
            executor.run(&[])
        }
    }
}
