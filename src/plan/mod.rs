//! Exactly which launches run, in which buffers: plain data, made from a [`Graph`] for one
//! [`Target`], printed as text, and read alike by the executor, the profiler and the tests. No
//! wgpu type appears here.
//!
//! `compile` = fuse -> choose storage types -> lower every op -> assign buffers.

pub mod fuse;
pub mod memory;
mod storage;
mod text;

use std::fmt;

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant};
use crate::ops::{
    Choice, Choices, Cost, Dispatch, LowerCx, LowerInput, Op, Operand, Target, WeightLayout, WeightSlot,
};
use crate::tensor::{DType, Shape, TensorDesc};
use memory::Life;
use storage::{Homes, is_slot, storage_types};

/// How weights and activations are stored. Arithmetic is f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Everything in f32.
    #[default]
    F32,
    /// Matrix weights and activations in f16; the residual stream, norms, biases and results in f32.
    F16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
        })
    }
}

/// What `compile` may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Storage types.
    pub precision: Precision,
    /// Run the rewrites of [`fuse`]; off only to compare.
    pub fuse: bool,
    /// Ways of computing ops that are preferred to the static order.
    pub choices: Choices,
}

impl Default for Options {
    fn default() -> Self {
        Self { precision: Precision::F32, fuse: true, choices: Choices::default() }
    }
}

/// A buffer of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// An input, by index in [`Plan::inputs`].
    Input(usize),
    /// A slot, by index in [`Plan::slots`].
    Slot(usize),
    /// A weight part, by index in [`Plan::weights`] and part.
    Weight(usize, usize),
    /// A state, by index in [`Plan::states`].
    State(usize),
}

/// One launch.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where in the model: `layer.3.attention`.
    pub label: String,
    /// Name of the op the launch belongs to.
    pub op: &'static str,
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its specialisation.
    pub variant: Variant,
    /// Bytes of the parameter struct.
    pub params: Vec<u8>,
    /// Storage bindings in the kernel's order.
    pub binds: Vec<Buffer>,
    /// Workgroups per dimension.
    pub workgroups: [u32; 3],
    /// Shapes of operands and result, for people.
    pub shapes: String,
    /// Storage type of the result.
    pub dtype: DType,
    /// Work and traffic of this launch.
    pub cost: Cost,
    /// The way that was chosen, where the op has several.
    pub choice: Option<Choice>,
}

/// A named tensor that enters or leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Type and shape.
    pub desc: TensorDesc,
    /// Where it lies.
    pub buffer: Buffer,
}

/// Launches, buffers and ports.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Launches in order.
    pub steps: Vec<Step>,
    /// Bytes of each activation buffer.
    pub slots: Vec<u64>,
    /// What the caller passes.
    pub inputs: Vec<Port>,
    /// What stays on the device between runs, under names that plans share.
    pub states: Vec<Port>,
    /// What comes back, never narrowed.
    pub outputs: Vec<Port>,
    /// Weights as stored.
    pub weights: Vec<WeightSlot>,
    /// The most activation bytes live at one step: what [`Plan::slots`] cannot go below.
    pub largest_live_set: u64,
}

impl Plan {
    /// Bytes of all activation buffers.
    pub fn activation_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// Bytes of all weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().flat_map(|w| (0..w.parts.len()).map(|p| w.part_bytes(p))).sum()
    }

    /// Work and traffic of one run.
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |a, s| Cost {
            flops: a.flops + s.cost.flops,
            bytes: a.bytes + s.cost.bytes,
        })
    }

    /// Bytes of what lies in a buffer.
    pub fn buffer_bytes(&self, buffer: Buffer) -> u64 {
        match buffer {
            Buffer::Input(i) => self.inputs[i].desc.bytes() as u64,
            Buffer::Slot(i) => self.slots[i],
            Buffer::Weight(i, part) => self.weights[i].part_bytes(part),
            Buffer::State(i) => self.states[i].desc.bytes() as u64,
        }
    }
}

/// Compiles a graph for an adapter.
///
/// # Errors
/// Shape errors kept by the graph; [`Error::Limit`] where a tensor fits no binding of the adapter.
pub fn compile(graph: &Graph, target: &Target, options: Options) -> Result<Plan> {
    graph.check()?;
    let graph = &if options.fuse { fuse::fuse(graph)? } else { graph.clone() };
    let f16 = options.precision == Precision::F16 && target.f16;
    let homes = Homes::of(graph);
    let descs = storage_types(graph, &homes, f16);
    let mut builder = Builder {
        graph,
        target,
        choices: &options.choices,
        f16,
        homes: &homes,
        descs: &descs,
        plan: Plan::default(),
        launches: vec![],
        scratch: vec![],
    };
    for v in 0..graph.nodes().len() {
        builder.lower(Value(v as u32))?;
    }
    builder.finish()
}

/// A launch whose activations are still values, not slots.
struct Launch {
    node: usize,
    dispatch: Dispatch,
    cost: Cost,
    /// Where the node's scratch buffers begin among all.
    scratch: usize,
}

struct Builder<'a> {
    graph: &'a Graph,
    target: &'a Target,
    choices: &'a Choices,
    f16: bool,
    homes: &'a Homes,
    descs: &'a [TensorDesc],
    plan: Plan,
    launches: Vec<Launch>,
    /// Bytes of the buffers that nodes use between their own launches.
    scratch: Vec<u64>,
}

impl Builder<'_> {
    fn lower(&mut self, v: Value) -> Result<()> {
        let node = self.graph.node(v);
        let desc = self.descs[v.index()];
        if !matches!(node.op, Op::Weight(_)) && padded(&desc) > self.target.max_binding_bytes {
            return Err(Error::Limit {
                what: format!("{} {desc} as one storage binding", node.label),
                need: padded(&desc),
                have: self.target.max_binding_bytes,
            });
        }
        if let Op::Input { name } = &node.op {
            let buffer = Buffer::Input(self.plan.inputs.len());
            self.plan.inputs.push(Port { name: name.clone(), desc, buffer });
        }
        if let Op::State { name, .. } = &node.op {
            let buffer = Buffer::State(self.plan.states.len());
            self.plan.states.push(Port { name: name.clone(), desc, buffer });
        }
        let Some(def) = node.op.def() else { return Ok(()) };
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (i, &u) in node.inputs.iter().enumerate() {
            let source = self.graph.node(Value(self.homes.root[u.index()] as u32));
            let layout = def.weight_layout(i, self.target);
            inputs.push(match &source.op {
                // Under another shape a weight is what it is only where it lies row by row.
                Op::Weight(weight) if source.desc == self.graph.desc(u) || layout == WeightLayout::Plain => {
                    let slot = self.store(weight, source.desc.shape, layout)?;
                    let stored = self.plan.weights[slot].clone();
                    let desc = TensorDesc::new(stored.dtype, self.graph.shape(u));
                    LowerInput { desc, value: None, weight: Some((slot, stored)) }
                }
                _ => {
                    if !matches!(layout, WeightLayout::Plain | WeightLayout::Table) && !def.packs(i) {
                        return Err(Error::usage(
                            format!("{}: operand {i} of {} is computed", node.label, node.op.name()),
                            "make it a weight: kernels read that operand as weights are stored",
                        ));
                    }
                    LowerInput { desc: self.descs[u.index()], value: Some(u), weight: None }
                }
            });
        }
        let in_place = self.homes.in_place[v.index()];
        let operand_descs: Vec<TensorDesc> = inputs.iter().map(|i| i.desc).collect();
        let mut cx = LowerCx::new(self.target, self.choices, inputs, v, desc, in_place);
        def.lower(&mut cx)?;
        let (dispatches, scratch) = cx.finish();
        let total = node.op.cost(&operand_descs, &desc);
        let n = dispatches.iter().filter(|d| d.moves.is_none()).count().max(1) as u64;
        let share = Cost { flops: total.flops / n, bytes: total.bytes / n };
        let first = self.scratch.len();
        self.scratch.extend(scratch);
        let launch = |dispatch: Dispatch| {
            let cost = dispatch.moves.map_or(share, |bytes| Cost { flops: 0, bytes });
            Launch { node: v.index(), dispatch, cost, scratch: first }
        };
        self.launches.extend(dispatches.into_iter().map(launch));
        Ok(())
    }

    /// Index of the stored form of a weight, split by rows where one binding does not hold it.
    fn store(&mut self, weight: &crate::graph::Weight, shape: Shape, layout: WeightLayout) -> Result<usize> {
        let narrow = self.f16 && layout != WeightLayout::Plain;
        let mut slot = WeightSlot {
            weight: weight.clone(),
            shape,
            layout,
            dtype: if narrow { DType::F16 } else { DType::F32 },
            parts: vec![],
        };
        let rows = shape.dims().first().copied().unwrap_or(1);
        let unit = slot.rows_bytes(slot.row_step());
        let most = self.target.max_binding_bytes / unit.max(1);
        let fits = slot.rows_bytes(rows) <= self.target.max_binding_bytes;
        if !fits && (layout == WeightLayout::Plain || most == 0) {
            return Err(Error::Limit {
                what: format!("weight {weight} {shape} as one storage binding"),
                need: slot.rows_bytes(rows),
                have: self.target.max_binding_bytes,
            });
        }
        let step = if fits { rows.max(1) } else { most as usize * slot.row_step() };
        slot.parts = (0..rows.max(1)).step_by(step).map(|r| (r, (r + step).min(rows))).collect();
        let found = self.plan.weights.iter().position(|w| *w == slot);
        Ok(found.unwrap_or_else(|| {
            self.plan.weights.push(slot);
            self.plan.weights.len() - 1
        }))
    }

    fn finish(self) -> Result<Plan> {
        let Self { graph, homes, descs, mut plan, launches, scratch, .. } = self;
        // Lives by root value, those of scratch buffers behind.
        let values = graph.nodes().len();
        let mut lives: Vec<Option<Life>> = vec![None; values + scratch.len()];
        let mut touch = |v: usize, step: usize| {
            let bytes = if v < values { padded(&descs[v]) } else { scratch[v - values] };
            let life = lives[v].get_or_insert(Life { start: step, end: step, bytes });
            life.end = step;
        };
        let is_slot = |v: usize| is_slot(&graph.nodes()[v].op);
        for (step, launch) in launches.iter().enumerate() {
            for bind in &launch.dispatch.binds {
                match bind {
                    Operand::Value(v) if is_slot(homes.root[v.index()]) => touch(homes.root[v.index()], step),
                    Operand::Scratch(i) => touch(values + launch.scratch + i, step),
                    Operand::Value(_) | Operand::Weight { .. } => {}
                }
            }
        }
        for (_, v) in graph.outputs().iter().filter(|(_, v)| is_slot(homes.root[v.index()])) {
            touch(homes.root[v.index()], launches.len());
        }
        let (live, lives): (Vec<usize>, Vec<Life>) =
            lives.iter().enumerate().filter_map(|(v, l)| l.map(|l| (v, l))).unzip();
        let slots = memory::assign(&lives);
        plan.largest_live_set = memory::largest_live_set(&lives);
        plan.slots = slots.bytes;
        let slot_of = |v: usize| {
            let i = live.binary_search(&v).expect("every bound value was given a life above");
            Buffer::Slot(slots.of[i])
        };
        let names = |ports: &[Port]| ports.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        let (input_names, state_names) = (names(&plan.inputs), names(&plan.states));
        let buffer = |v: Value| -> Result<Buffer> {
            let root = homes.root[v.index()];
            match &graph.nodes()[root].op {
                Op::Input { name } => Ok(Buffer::Input(
                    input_names.iter().position(|n| n == name).expect("inputs were listed while lowering"),
                )),
                Op::State { name, .. } => Ok(Buffer::State(
                    state_names.iter().position(|n| n == name).expect("states were listed while lowering"),
                )),
                Op::Weight(w) => Err(Error::usage(
                    format!("weight {w} cannot itself be an output"),
                    "read it from the file",
                )),
                _ => Ok(slot_of(root)),
            }
        };
        for Launch { node, dispatch, cost, scratch } in launches {
            let n = &graph.nodes()[node];
            let bind = |&o: &Operand| match o {
                Operand::Value(v) => buffer(v),
                Operand::Weight { slot, part } => Ok(Buffer::Weight(slot, part)),
                Operand::Scratch(i) => Ok(slot_of(values + scratch + i)),
            };
            let operands: Vec<String> = n.inputs.iter().map(|v| graph.shape(*v).to_string()).collect();
            plan.steps.push(Step {
                label: n.label.clone(),
                op: n.op.name(),
                kernel: dispatch.kernel,
                variant: dispatch.variant,
                params: dispatch.params,
                binds: dispatch.binds.iter().map(bind).collect::<Result<_>>()?,
                workgroups: dispatch.workgroups,
                shapes: format!("{} -> {}", operands.join(" "), n.desc.shape),
                dtype: descs[node].dtype,
                cost,
                choice: dispatch.choice,
            });
        }
        for (name, v) in graph.outputs() {
            plan.outputs.push(Port { name: name.clone(), desc: descs[v.index()], buffer: buffer(*v)? });
        }
        Ok(plan)
    }
}

/// Size in bytes as allocated: whole words, never empty.
fn padded(desc: &TensorDesc) -> u64 {
    (desc.bytes() as u64).next_multiple_of(4).max(16)
}
