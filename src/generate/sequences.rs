//! A batch of sequences in the making: its states, and the plans of a prompt and of the steps after it.
//! One token a step is one plan; where a step draws several, there is a plan for each number of tokens
//! drawn before and then.

use std::ops::Range;

use super::generator::{Generator, NOT_DRAWN};
use super::request::Request;
use super::request::schedule;
use crate::error::Result;
use crate::graph::Graph;
use crate::models::sequence::{CLASSES, New, ROTARY, STEP, TOKENS};
use crate::ops::Op;
use crate::plan::{Buffer, Plan};
use crate::session::{ENTROPY, SETTINGS, STREAMS, TokenLoop};
use crate::tensor::HostTensor;

/// Sequences of one batch.
pub(super) struct Sequences<'a> {
    samples: usize,
    rows: usize,
    /// Places of the raster in the order they are drawn.
    order: Vec<u32>,
    /// Every step after the prompt.
    steps: Vec<New>,
    /// The kinds of steps there are; the loop's graph behind the prompt's, in this order.
    kinds: Vec<New>,
    /// How many of them were run.
    done: usize,
    token_loop: TokenLoop<'a>,
}

/// The prompt's graph.
const PROMPT: usize = 0;

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
        let all = [New::Prompt(given)].into_iter().chain(kinds.iter().copied());
        let graphs = all.map(|new| generator.graph(samples, guided, new)).collect::<Result<_>>()?;
        let token_loop = TokenLoop::new(&generator.runtime, graphs)?;
        let rows = if guided { 2 * samples } else { samples };
        let order = request.order.places(total, given, request.sampling.seed);
        Ok(Self { samples, rows, order, steps, kinds, done: 0, token_loop })
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
        self.token_loop.write(STEP, HostTensor::u32([4], vec![0; 4]))?;
        self.token_loop.write(TOKENS, HostTensor::u32([self.samples, length], tokens))?;
        self.token_loop.write(SETTINGS, request.sampling.tensor())?;
        self.token_loop.write(
            STREAMS,
            HostTensor::u32([self.samples], samples.map(|s| request.first.wrapping_add(s as u32)).collect()),
        )?;
        self.token_loop
            .write(ENTROPY, HostTensor::f32([self.samples, length], vec![0.0; self.samples * length]))?;
        if info.classes.is_some() {
            self.token_loop.write(CLASSES, HostTensor::u32([self.rows], classes))?;
        }
        let rotary = generator.decoder.rotary(&self.order);
        rotary.map_or(Ok(()), |table| self.token_loop.write(ROTARY, table))
    }

    /// Runs the prompt and draws the first token.
    pub(super) fn prompt(&mut self) -> Result<()> {
        self.token_loop.submit(&[(PROMPT, 1)])
    }

    /// Draws so many tokens more, or a few beyond where several are drawn at a time, and says how many:
    /// submitted while those before may still be under way.
    pub(super) fn steps(&mut self, count: usize) -> Result<usize> {
        // Equal steps one after the other are one submission.
        let mut groups: Vec<(usize, u32)> = Vec::new();
        let mut drawn = 0;
        while drawn < count && self.done < self.steps.len() {
            let step = self.steps[self.done];
            let graph = self.graph_of(step);
            match groups.last_mut() {
                Some((kind, times)) if *kind == graph => *times += 1,
                _ => groups.push((graph, 1)),
            }
            drawn += step.next();
            self.done += 1;
        }
        self.token_loop.submit(&groups)?;
        Ok(drawn)
    }

    /// The loop's graph for a kind of step.
    fn graph_of(&self, step: New) -> usize {
        let found = self.kinds.iter().position(|kind| *kind == step);
        PROMPT + 1 + found.expect("there is one for every kind of step")
    }

    /// How many steps follow the prompt.
    pub(super) fn count(&self) -> usize {
        self.steps.len()
    }

    /// Waits for all that was submitted.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.token_loop.finish()
    }

    /// The first `count` tokens of each sequence, in raster order as far as the last of them.
    pub(super) fn tokens(&mut self, count: usize) -> Result<Vec<Vec<u32>>> {
        let all = self.token_loop.read(TOKENS)?;
        let words = all.as_u32().unwrap_or_default();
        let length = self.order.iter().take(count).max().map_or(0, |&last| last as usize + 1);
        let raster = |row: &[u32]| in_raster(&self.order, &row[1..=count], NOT_DRAWN, length);
        Ok(words.chunks(words.len() / self.samples).map(raster).collect())
    }

    /// The entropies of all draws of each sequence in raster order, in nats.
    pub(super) fn entropy(&mut self) -> Result<Vec<Vec<f32>>> {
        let all = self.token_loop.read(ENTROPY)?.to_f32();
        let raster = |row: &[f32]| in_raster(&self.order, &row[1..], 0.0, self.order.len());
        Ok(all.chunks(all.len() / self.samples).map(raster).collect())
    }

    /// How many draws met scores that are not finite.
    pub(super) fn broken(&mut self) -> Result<usize> {
        Ok(self.token_loop.read(STEP)?.as_u32().map_or(0, |step| step[2] as usize))
    }

    /// Bytes that a step must read and its launches, on the average.
    pub(super) fn step_cost(&self) -> (u64, usize) {
        let (mut bytes, mut launches) = (0, 0);
        for kind in &self.kinds {
            let Some(plan) = self.token_loop.plan(self.graph_of(*kind)) else { return (0, 0) };
            let times = self.steps.iter().filter(|step| *step == kind).count();
            bytes += times as u64 * bytes_read(plan);
            launches += times * plan.steps.len();
        }
        let steps = self.steps.len().max(1);
        (bytes / steps as u64, launches.div_ceil(steps))
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
    let declared =
        |n: &str| graph.nodes().iter().any(|node| matches!(&node.op, Op::State { name, .. } if name == n));
    let mut once = TokenLoop::new(&generator.runtime, vec![graph.clone()])?;
    for (name, tensor) in contents.into_iter().filter(|(name, _)| declared(name)) {
        once.write(name, tensor)?;
    }
    once.run(0)
}
