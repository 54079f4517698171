//! Optimizers: each a single pass over a parameter, its gradient and what is remembered of earlier ones, all
//! of which but the gradient are states and are written in place. Numbers that change from step to step are
//! operands, so that one plan serves all steps.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, f32s};
use crate::ops::elementwise::LANES;
use crate::ops::lower::{LowerCx, to_u32};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW` computes it. Operands: parameter of any shape, first
/// and second moment of the same, all three states stored as declared; gradient of as many elements; clip (3),
/// see [`ClipFactor`](super::ClipFactor); rates (4), see [`AdamW::rates`]. Nothing changes where clip says that
/// the norm is not finite. The result (1) marks the op in its graph and holds nothing: it is no operand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Weight decay, times the learning rate.
    pub decay: f32,
    /// Times the learning rate of the step.
    pub scale: f32,
}

/// Stochastic gradient descent as `torch.optim.SGD` computes it without dampening. Operands: parameter and
/// momentum buffer, both states; then as [`AdamW`]; of the rates the first is read. Result as there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// What is kept of the buffer; 0 for none.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub decay: f32,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Times the learning rate of the step.
    pub scale: f32,
}

/// Lion (Chen et al. 2023). Operands: parameter and momentum, both states; then as [`AdamW`]; of the rates
/// the first is read. Result as there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Share of the momentum in the update.
    pub beta1: f32,
    /// Decay of the momentum.
    pub beta2: f32,
    /// Weight decay, times the learning rate.
    pub decay: f32,
    /// Times the learning rate of the step.
    pub scale: f32,
}

/// As `torch.optim.AdamW` has it: betas 0.9 and 0.999, eps 1e-8, decay 0.01.
impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.01, scale: 1.0 }
    }
}

/// As `torch.optim.SGD` has it, with momentum 0.9.
impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, decay: 0.0, nesterov: false, scale: 1.0 }
    }
}

/// As the paper has it: betas 0.9 and 0.99, no decay.
impl Default for Lion {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, decay: 0.0, scale: 1.0 }
    }
}

params! {
    /// Parameters of the AdamW kernel.
    struct AdamWParams { count: u32, beta1: f32, beta2: f32, eps: f32, decay: f32, scale: f32 }
}

params! {
    /// Parameters of the SGD kernel.
    struct SgdParams { count: u32, momentum: f32, decay: f32, scale: f32 }
}

params! {
    /// Parameters of the Lion kernel.
    struct LionParams { count: u32, beta1: f32, beta2: f32, decay: f32, scale: f32 }
}

static ADAMW: Kernel = Kernel { name: "adamw", source: shader!("adamw.wgsl"), params: AdamWParams::FIELDS };
static SGD: Kernel = Kernel { name: "sgd", source: shader!("sgd.wgsl"), params: SgdParams::FIELDS };
static LION: Kernel =
    Kernel { name: "lion", source: shader!("lib/finite.wgsl", "lion.wgsl"), params: LionParams::FIELDS };

impl Graph {
    /// A step of AdamW. states: parameter, first and second moment; others: gradient, clip (3), rates (4).
    pub fn adamw(&mut self, op: AdamW, states: [Value; 3], others: [Value; 3]) -> Value {
        self.push(op, [states, others].concat())
    }

    /// A step of gradient descent. states: parameter and momentum buffer; others: gradient, clip (3), rates (4).
    pub fn sgd(&mut self, op: Sgd, states: [Value; 2], others: [Value; 3]) -> Value {
        self.push(op, [&states[..], &others].concat())
    }

    /// A step of Lion. states: parameter and momentum; others: gradient, clip (3), rates (4).
    pub fn lion(&mut self, op: Lion, states: [Value; 2], others: [Value; 3]) -> Value {
        self.push(op, [&states[..], &others].concat())
    }
}

impl AdamW {
    /// The rates of a step, counted from 1: learning rate, 1 - beta1^step, 1 - beta2^step, 0. The betas are
    /// those of the kernel, in f32, so that the first step's moments are corrected exactly.
    pub fn rates(&self, rate: f32, step: u32) -> HostTensor {
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(f64::from(step))) as f32;
        HostTensor::f32([4], vec![rate, correction(self.beta1), correction(self.beta2), 0.0])
    }
}

/// Checks the operands of an optimizer with so many states.
fn marker(inputs: &[TensorDesc], states: usize) -> Result<TensorDesc, String> {
    arity(inputs, states + 3)?;
    if inputs.iter().any(|d| d.dtype != DType::F32) {
        return Err("an operand is not f32".to_owned());
    }
    let (parameter, gradient) = (inputs[0].shape, inputs[states].shape);
    if let Some(other) = inputs[..states].iter().find(|d| d.shape != parameter) {
        return Err(format!("parameter has shape {parameter}, a state has {}", other.shape));
    }
    if gradient.elements() != parameter.elements() {
        return Err(format!("parameter has shape {parameter}, gradient has {gradient}"));
    }
    let [clip, rates] = [inputs[states + 1].shape, inputs[states + 2].shape];
    if clip.dims() != [3] || rates.dims() != [4] {
        return Err(format!("clip has shape {clip}, rates have {rates}, expected [3] and [4]"));
    }
    Ok(TensorDesc::f32([1]))
}

/// What the S states hold after a step: `step` makes each element's from the clipped gradient and the rates.
fn stepped<const S: usize>(
    inputs: &[&HostTensor],
    step: impl Fn([f32; S], f32, &[f32]) -> [f32; S],
) -> Vec<HostTensor> {
    let [gradient, clip, rates] = [0, 1, 2].map(|i| f32s(inputs[S + i]));
    let mut states: Vec<Vec<f32>> = inputs[..S].iter().map(|t| f32s(t).to_vec()).collect();
    for (i, g) in gradient.iter().enumerate().filter(|_| clip[2] != 0.0) {
        let new = step(std::array::from_fn(|s| states[s][i]), g * clip[0], rates);
        states.iter_mut().zip(new).for_each(|(state, new)| state[i] = new);
    }
    states.into_iter().zip(inputs).map(|(v, t)| HostTensor::f32(t.shape(), v)).collect()
}

/// Bytes of a step: states move twice.
fn step_bytes(inputs: &[TensorDesc], states: usize) -> u64 {
    inputs.iter().chain(&inputs[..states]).map(|d| d.bytes() as u64).sum()
}

/// The launch of a step with so many states; kernels bind what they write behind what they read.
fn launch<P: bytemuck::Pod>(
    cx: &mut LowerCx,
    kernel: &'static Kernel,
    variant: Variant,
    params: impl FnOnce(u32) -> P,
    states: usize,
) -> Result<()> {
    let count = cx.input(0).shape.elements();
    let params = params(to_u32("parameter", count)?);
    let variant = variant.with_type("G", cx.input(states).dtype).with_u32("WG", LANES);
    let binds = (states..states + 3).chain(0..states).map(|i| cx.operand(i)).collect();
    cx.dispatch(kernel, variant, params, binds, count.div_ceil(LANES))
}

impl OpDef for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        marker(inputs, 3)
    }

    fn writes(&self) -> Vec<usize> {
        vec![0, 1, 2]
    }

    fn reference(&self, _inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::zeros(*out)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let Self { beta1, beta2, eps, decay, scale } = *self;
        stepped(inputs, |[p, m, v], g, rates| {
            let m = beta1 * m + (1.0 - beta1) * g;
            let v = beta2 * v + (1.0 - beta2) * g * g;
            let (rate, root) = (rates[0] * scale, v.sqrt() / rates[2].sqrt() + eps);
            [p * (1.0 - rate * decay) - rate / rates[1] * m / root, m, v]
        })
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        16 * inputs[0].shape.elements() as u64
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        Some(step_bytes(inputs, 3))
    }

    fn wide_operands(&self) -> &[usize] {
        &[4, 5]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let Self { beta1, beta2, eps, decay, scale } = *self;
        let params = |count| AdamWParams { count, beta1, beta2, eps, decay, scale };
        launch(cx, &ADAMW, Variant::new(), params, 3)
    }
}

impl OpDef for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        marker(inputs, 2)
    }

    fn writes(&self) -> Vec<usize> {
        vec![0, 1]
    }

    fn reference(&self, _inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::zeros(*out)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let Self { momentum, decay, nesterov, scale } = *self;
        stepped(inputs, |[p, buffer], g, rates| {
            let g = g + decay * p;
            let buffer = momentum * buffer + g;
            [p - rates[0] * scale * if nesterov { g + momentum * buffer } else { buffer }, buffer]
        })
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        9 * inputs[0].shape.elements() as u64
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        Some(step_bytes(inputs, 2))
    }

    fn wide_operands(&self) -> &[usize] {
        &[3, 4]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let Self { momentum, decay, nesterov, scale } = *self;
        let params = |count| SgdParams { count, momentum, decay, scale };
        launch(cx, &SGD, Variant::new().with_bool("NESTEROV", nesterov), params, 2)
    }
}

impl OpDef for Lion {
    fn name(&self) -> &'static str {
        "lion"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        marker(inputs, 2)
    }

    fn writes(&self) -> Vec<usize> {
        vec![0, 1]
    }

    fn reference(&self, _inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        HostTensor::zeros(*out)
    }

    fn reference_states(&self, inputs: &[&HostTensor]) -> Vec<HostTensor> {
        let Self { beta1, beta2, decay, scale } = *self;
        stepped(inputs, |[p, m], g, rates| {
            let mixed = beta1 * m + (1.0 - beta1) * g;
            // A NaN stays one; `signum` makes 1 of 0.
            let sign = if mixed == 0.0 { 0.0 } else { mixed.signum() };
            [p * (1.0 - rates[0] * scale * decay) - rates[0] * scale * sign, beta2 * m + (1.0 - beta2) * g]
        })
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        12 * inputs[0].shape.elements() as u64
    }

    fn cost_bytes(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> Option<u64> {
        Some(step_bytes(inputs, 2))
    }

    fn wide_operands(&self) -> &[usize] {
        &[3, 4]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let Self { beta1, beta2, decay, scale } = *self;
        let params = |count| LionParams { count, beta1, beta2, decay, scale };
        launch(cx, &LION, Variant::new(), params, 2)
    }
}
