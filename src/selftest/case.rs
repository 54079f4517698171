//! One case: a small graph, the noise it is fed, and what the reference and a device make of it.

use std::sync::Arc;

use crate::error::Result;
use crate::gpu::{Executor, Gpu, States, Store};
use crate::graph::{Graph, Part, Value, Weight};
use crate::ops::{Choices, Op, Target};
use crate::plan::{self, Options};
use crate::reference;
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// One small graph with one output `y`.
pub struct Case {
    /// Op and sizes.
    pub name: String,
    /// The graph; weights are noise, see [`weight`].
    pub graph: Graph,
    /// What its states hold before a run.
    pub states: Vec<(String, HostTensor)>,
    /// Largest f32 difference allowed, absolute and relative.
    pub tolerance: f32,
    /// True for the cases that `doctor` runs: one or two of every kernel.
    pub quick: bool,
    /// True if one element of each f32 input is a NaN, which must come out wherever the reference has one.
    pub poisoned: bool,
}

/// Ids are drawn up to a little beyond this; the case's table has as many rows.
pub(super) const VOCABULARY: u32 = 23;

impl Case {
    /// The inputs, made of noise; a different draw for each input and case.
    pub fn inputs(&self) -> Vec<(&str, HostTensor)> {
        let inputs = self.graph.nodes().iter().filter_map(|n| match &n.op {
            Op::Input { name } => {
                let noise = fill(n.desc, seed(&self.name, name));
                Some((name.as_str(), if self.poisoned { poison(noise) } else { noise }))
            }
            _ => None,
        });
        inputs.collect()
    }

    /// The case with a NaN in its inputs.
    pub(super) fn poisoned(self) -> Self {
        Self { name: format!("NaN in {}", self.name), poisoned: true, ..self }
    }

    /// Every variant of the case on an adapter: each candidate of each op that has several, or the
    /// launches for a GPU and for a CPU adapter where no op has.
    ///
    /// # Errors
    /// None that a case of [`all`] meets.
    pub fn variants(&self, target: &Target, options: &Options) -> Result<Vec<(Target, Options)>> {
        let plan = plan::compile(&self.graph, target, options.clone())?;
        let mut forced: Vec<String> = Vec::new();
        for choice in plan.steps.iter().filter_map(|step| step.choice.as_ref()) {
            forced.extend(choice.candidates.names.iter().map(|name| format!("{}={name}", choice.op)));
        }
        forced.sort();
        forced.dedup();
        if forced.is_empty() {
            let kinds = [target.cpu, !target.cpu];
            return Ok(kinds.map(|cpu| (Target { cpu, ..target.clone() }, options.clone())).into());
        }
        let choices = |f: &String| Choices::forced([f.as_str()]);
        forced
            .iter()
            .map(|f| Ok((target.clone(), Options { choices: choices(f)?, ..options.clone() })))
            .collect()
    }

    /// What the reference makes of the case; what it leaves in its states lies behind the result.
    ///
    /// # Errors
    /// None that a case of [`all`] meets.
    pub fn reference(&self) -> Result<HostTensor> {
        let mut states = self.states.iter().cloned().collect();
        let inputs = self.inputs();
        let y = reference::run_with_states(&self.graph, &|w, s| Ok(weight(w, s)), &inputs, &mut states)?;
        let left = self.states.iter().map(|(name, _)| Ok(states[name].clone()));
        joined(y, left)
    }

    /// What a device makes of the case under a target and options, states behind the result, and which
    /// kernels ran.
    ///
    /// # Errors
    /// Whatever compiling and running a plan may meet.
    pub fn run(
        &self,
        gpu: &Arc<Gpu>,
        target: &Target,
        options: Options,
    ) -> Result<(HostTensor, Vec<&'static str>)> {
        let plan = plan::compile(&self.graph, target, options)?;
        let kernels = plan.steps.iter().map(|s| s.kernel.name).collect();
        let store = Store::new();
        store.load(gpu, &plan, &|w, s| Ok(weight(w, s)))?;
        let inputs = self.inputs();
        let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
        let states = States::new();
        let mut executor = Executor::with_states(gpu.clone(), plan, &store, &states)?;
        for (name, contents) in &self.states {
            states.write(gpu, name, contents.clone())?;
        }
        let results = executor.run(&inputs)?;
        let left = self.states.iter().map(|(name, _)| states.read(gpu, name));
        Ok((joined(results, left)?, kernels))
    }
}

/// The result, and behind it what is left in states, if there are any.
fn joined(
    mut results: Vec<HostTensor>,
    states: impl Iterator<Item = Result<HostTensor>>,
) -> Result<HostTensor> {
    let states = states.collect::<Result<Vec<_>>>()?;
    let y = results.remove(0);
    if states.is_empty() {
        return Ok(y);
    }
    let all: Vec<f32> = std::iter::once(&y).chain(&states).flat_map(HostTensor::to_f32).collect();
    Ok(HostTensor::f32([all.len()], all))
}

/// Deterministic numbers in about [-1, 1] (a PCG step per element), different for each seed.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (((state >> 18) ^ state) >> 27) as u32;
            f32::from(bits.rotate_right((state >> 59) as u32) as u16) / 32_768.0 - 1.0
        })
        .collect()
}

/// A weight by its recipe: noise that depends on the recipe's text.
pub fn weight(recipe: &Weight, shape: Shape) -> HostTensor {
    let inner: usize = shape.dims().iter().skip(1).product();
    let mut data = Vec::new();
    for part in &recipe.parts {
        match part {
            Part::Zeros { rows } => data.extend(std::iter::repeat_n(0.0, rows * inner)),
            Part::Rotary(table) => data.extend(noise(7, table.rows() * inner)),
            Part::Pairs(a, b) => {
                let half = Shape::new(&[&[shape.dims()[0] / 2], &shape.dims()[1..]].concat());
                let [a, b] = [a, b].map(|w| weight(w, half).to_f32());
                data.extend(a.chunks(inner).zip(b.chunks(inner)).flat_map(|(a, b)| a.iter().chain(b)));
            }
            Part::Tensor { name, rows, .. } => {
                let total = shape.dims()[0] / recipe.parts.len();
                let n = rows.as_ref().map_or(total, |r| r.len());
                data.extend(noise(seed(name, "weight"), n * inner));
            }
            Part::NormedTaps { .. } | Part::NormedBias { .. } => {
                let n = shape.dims()[0] / recipe.parts.len();
                data.extend(noise(seed(part.names()[0], "weight"), n * inner));
            }
        }
    }
    HostTensor::f32(shape, data)
}

fn seed(a: &str, b: &str) -> u64 {
    a.bytes().chain(b.bytes()).fold(7, |h, c| h.wrapping_mul(31).wrapping_add(u64::from(c)))
}

fn fill(desc: TensorDesc, seed: u64) -> HostTensor {
    let noise = noise(seed, desc.shape.elements());
    match desc.dtype {
        DType::U8 => HostTensor::u8(desc.shape, noise.iter().map(|x| (x * 127.0 + 128.0) as u8).collect()),
        DType::U32 => {
            let id = |x: &f32| ((x + 1.0) * 0.5 * (VOCABULARY + 2) as f32) as u32;
            HostTensor::u32(desc.shape, noise.iter().map(id).collect())
        }
        _ => HostTensor::f32(desc.shape, noise),
    }
}

/// Puts a NaN into the middle of f32 values.
fn poison(tensor: HostTensor) -> HostTensor {
    if tensor.dtype() != DType::F32 {
        return tensor;
    }
    let shape = tensor.shape();
    let mut values = tensor.into_f32();
    let middle = values.len() / 2;
    values[middle] = f32::NAN;
    HostTensor::f32(shape, values)
}

pub(super) fn case(name: impl Into<String>, tolerance: f32, build: impl FnOnce(&mut Graph) -> Value) -> Case {
    let mut graph = Graph::new();
    graph.scope("case");
    let y = build(&mut graph);
    graph.output("y", y);
    let name = name.into();
    Case { name, graph, states: Vec::new(), tolerance, quick: false, poisoned: false }
}

pub(super) fn x(g: &mut Graph, shape: impl Into<Shape>) -> Value {
    g.input("x", TensorDesc::f32(shape))
}
