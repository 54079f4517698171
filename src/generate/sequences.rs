//! A batch of sequences in the making: its states, and the plans of a prompt and of the steps after it.
//! One token a step is one plan; where a step draws several, there is a plan for each number of tokens
//! drawn before and then.

use std::ops::Range;

use super::request::schedule;
use super::{ENTROPY, Generator, HostStates, NOT_DRAWN, Request, SETTINGS, STREAMS};
use crate::error::{Error, Result};
use crate::gpu::{Executor, Repeated, States};
use crate::graph::Graph;
use crate::models::sequence::{CLASSES, New, ROTARY, STEP, TOKENS};
use crate::plan::{Buffer, Plan};
use crate::reference;
use crate::session::Engine;
use crate::tensor::HostTensor;

/// Sequences of one batch.
pub(super) struct Sequences<'a> {
    generator: &'a Generator,
    samples: usize,
    rows: usize,
    /// Places of the raster in the order they are drawn.
    order: Vec<u32>,
    /// Every step after the prompt.
    steps: Vec<New>,
    /// How many of them were run.
    done: usize,
    place: Place,
}

/// Where the sequences lie and what moves them on.
enum Place {
    Device(Box<OnDevice>),
    Reference(Box<OnHost>),
}

struct OnHost {
    prompt: Graph,
    steps: Vec<(New, Graph)>,
    states: HostStates,
}

struct OnDevice {
    states: States,
    prompt: Executor,
    steps: Vec<(New, Executor)>,
    /// The submission before the last, which is waited for before another is made.
    running: Option<Repeated>,
}

/// What is kept for one kind of step.
fn of<T>(steps: &mut [(New, T)], new: New) -> &mut T {
    let found = steps.iter_mut().find(|(kind, _)| *kind == new);
    &mut found.expect("there is one for every kind of step").1
}

impl<'a> Sequences<'a> {
    /// Plans and states for a batch of what a request says.
    pub(super) fn new(
        generator: &'a Generator,
        samples: usize,
        guided: bool,
        request: &Request,
    ) -> Result<Self> {
        let (total, given) = (generator.info().tokens, request.prime.len());
        let counts = schedule(total - given, request.parallel);
        let steps: Vec<New> = counts.windows(2).map(|n| New::Step { drawn: n[0], next: n[1] }).collect();
        let mut kinds = Vec::new();
        for step in &steps {
            if !kinds.contains(step) {
                kinds.push(*step);
            }
        }
        let prompt = generator.graph(samples, guided, New::Prompt(given))?;
        let graphs = kinds.into_iter().map(|new| Ok((new, generator.graph(samples, guided, new)?)));
        let graphs = graphs.collect::<Result<Vec<(New, Graph)>>>()?;
        let rows = if guided { 2 * samples } else { samples };
        let place = match &generator.engine {
            Engine::Reference => {
                Place::Reference(Box::new(OnHost { prompt, steps: graphs, states: HostStates::new() }))
            }
            Engine::Gpu { gpu, store } => {
                let states = States::new();
                let ready = |graph: &Graph| {
                    let plan = generator.compile(graph)?;
                    store.load(gpu, &plan, &|w, s| generator.weight(w, s))?;
                    Executor::with_states(gpu.clone(), plan, store, &states)
                };
                let prompt = ready(&prompt)?;
                let steps = graphs.iter().map(|(new, graph)| Ok((*new, ready(graph)?)));
                let steps = steps.collect::<Result<_>>()?;
                Place::Device(Box::new(OnDevice { states, prompt, steps, running: None }))
            }
        };
        let order = request.order.places(total, given, request.sampling.seed);
        Ok(Self { generator, samples, rows, order, steps, done: 0, place })
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
        let rotary = generator.decoder.rotary(&self.order);
        rotary.map_or(Ok(()), |table| self.write(ROTARY, table))
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

    /// Draws so many tokens more, or a few beyond where several are drawn at a time, and says how many:
    /// submitted while those before may still be under way.
    pub(super) fn steps(&mut self, count: usize) -> Result<usize> {
        // Equal steps one after the other are one submission.
        let mut groups: Vec<(New, u32)> = Vec::new();
        let mut drawn = 0;
        while drawn < count && self.done < self.steps.len() {
            let step = self.steps[self.done];
            match groups.last_mut() {
                Some((kind, times)) if *kind == step => *times += 1,
                _ => groups.push((step, 1)),
            }
            drawn += step.next();
            self.done += 1;
        }
        match &mut self.place {
            Place::Device(d) => {
                let mut last = None;
                for (new, times) in groups {
                    last = Some(of(&mut d.steps, new).repeat(times)?);
                }
                std::mem::replace(&mut d.running, last).map_or(Ok(()), Repeated::wait)?;
            }
            Place::Reference(h) => {
                let load = |w: &_, s| self.generator.weight(w, s);
                for (new, times) in groups {
                    let graph = of(&mut h.steps, new);
                    for _ in 0..times {
                        reference::run_with_states(graph, &load, &[], &mut h.states)?;
                    }
                }
            }
        }
        Ok(drawn)
    }

    /// How many steps follow the prompt.
    pub(super) fn count(&self) -> usize {
        self.steps.len()
    }

    /// Waits for all that was submitted.
    pub(super) fn finish(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Device(d) => d.running.take().map_or(Ok(()), Repeated::wait),
            Place::Reference(_) => Ok(()),
        }
    }

    /// The first `count` tokens of each sequence, in raster order as far as the last of them.
    pub(super) fn tokens(&mut self, count: usize) -> Result<Vec<Vec<u32>>> {
        let all = self.read(TOKENS)?;
        let words = all.as_u32().unwrap_or_default();
        let length = self.order.iter().take(count).max().map_or(0, |&last| last as usize + 1);
        let raster = |row: &[u32]| in_raster(&self.order, &row[1..=count], NOT_DRAWN, length);
        Ok(words.chunks(words.len() / self.samples).map(raster).collect())
    }

    /// The entropies of all draws of each sequence in raster order, in nats.
    pub(super) fn entropy(&mut self) -> Result<Vec<Vec<f32>>> {
        let all = self.read(ENTROPY)?.to_f32();
        let raster = |row: &[f32]| in_raster(&self.order, &row[1..], 0.0, self.order.len());
        Ok(all.chunks(all.len() / self.samples).map(raster).collect())
    }

    /// How many draws met scores that are not finite.
    pub(super) fn broken(&mut self) -> Result<usize> {
        Ok(self.read(STEP)?.as_u32().map_or(0, |step| step[2] as usize))
    }

    /// Bytes that a step must read and its launches, on the average.
    pub(super) fn step_cost(&self) -> (u64, usize) {
        let Place::Device(d) = &self.place else { return (0, 0) };
        let (mut bytes, mut launches) = (0, 0);
        for (kind, executor) in &d.steps {
            let times = self.steps.iter().filter(|step| *step == kind).count();
            bytes += times as u64 * bytes_read(executor.plan());
            launches += times * executor.plan().steps.len();
        }
        let steps = self.steps.len().max(1);
        (bytes / steps as u64, launches.div_ceil(steps))
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

/// What a run of a step's plan must read: its weights once, and half of the cache, its mean filling.
pub(crate) fn bytes_read(plan: &Plan) -> u64 {
    // Of an embedding table only the rows of the tokens are read.
    let weights = plan.steps.iter().filter(|s| !s.op.starts_with("embed") && s.op != "gather");
    let weights = weights.flat_map(|s| &s.binds).copied().filter(|b| matches!(b, Buffer::Weight(..)));
    let mut seen: Vec<Buffer> = weights.collect();
    seen.sort();
    seen.dedup();
    let weights: u64 = seen.into_iter().map(|b| plan.buffer_bytes(b)).sum();
    let caches = plan.states.iter().filter(|s| s.name.starts_with("kv."));
    weights + caches.map(|s| s.desc.bytes() as u64 / 2).sum::<u64>()
}

/// What was drawn in an order, put where it belongs; `missing` elsewhere.
fn in_raster<T: Copy>(order: &[u32], drawn: &[T], missing: T, length: usize) -> Vec<T> {
    let mut raster = vec![missing; length];
    order.iter().zip(drawn).for_each(|(&place, &x)| raster[place as usize] = x);
    raster
}

/// The start token, the tokens given, zeros.
fn sequence(start: u32, given: &[u32], length: usize) -> Vec<u32> {
    let rest = std::iter::repeat(0);
    std::iter::once(start).chain(given.iter().copied()).chain(rest).take(length).collect()
}

/// Runs a graph of whole sequences once, whose tokens are at the places of an order.
pub(super) fn run_once(
    generator: &Generator,
    graph: &Graph,
    order: &[u32],
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
    contents.extend(generator.decoder.rotary(order).map(|table| (ROTARY, table)));
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
