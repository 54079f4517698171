//! How parameters move: the backward half, clipping and the optimizer, put behind a loss.

use std::collections::BTreeMap;

use super::objective::LOSS;
use super::parameters::Parameter;
use super::scope;
use crate::error::{Error, Result};
use crate::graph::{Graph, Storage, Value, differentiate, recompute};
use crate::ops::{AdamW, Lion, Op, Sgd};
use crate::tensor::{HostTensor, TensorDesc};

/// What moves parameters against their gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// `torch.optim.AdamW`.
    AdamW(AdamW),
    /// `torch.optim.SGD`, with momentum.
    Sgd(Sgd),
    /// Lion (Chen et al. 2023).
    Lion(Lion),
}

impl Optimizer {
    /// What the kernels read of a step, counted from 1, at a learning rate.
    pub(super) fn rates(&self, rate: f32, step: u32) -> HostTensor {
        match self {
            Optimizer::AdamW(op) => op.rates(rate, step),
            Optimizer::Sgd(_) | Optimizer::Lion(_) => HostTensor::f32([4], vec![rate, 1.0, 1.0, 0.0]),
        }
    }

    /// Names of the states that it remembers earlier gradients of a parameter in; each has the parameter's shape.
    pub(super) fn memory(&self, parameter: &str) -> Vec<String> {
        let parts: &[&str] = match self {
            Optimizer::AdamW(_) => &["mean", "square"],
            Optimizer::Sgd(_) | Optimizer::Lion(_) => &["momentum"],
        };
        parts.iter().map(|part| format!("{part} of {parameter}")).collect()
    }

    /// Puts the update of a parameter behind a graph; `others` are its gradient, the clip and the rates.
    fn update(
        &self,
        g: &mut Graph,
        parameter: &Parameter,
        value: Value,
        others: [Value; 3],
        (decays, scale): (bool, f32),
    ) {
        let memory: Vec<Value> = self
            .memory(&parameter.name)
            .iter()
            .map(|name| g.state(name, TensorDesc::f32(parameter.shape), Storage::AsDeclared))
            .collect();
        let decay = |decay: f32| if decays { decay } else { 0.0 };
        match *self {
            Optimizer::AdamW(op) => {
                let op = AdamW { decay: decay(op.decay), scale, ..op };
                g.adamw(op, [value, memory[0], memory[1]], others);
            }
            Optimizer::Sgd(op) => {
                let op = Sgd { decay: decay(op.decay), scale, ..op };
                g.sgd(op, [value, memory[0]], others);
            }
            Optimizer::Lion(op) => {
                let op = Lion { decay: decay(op.decay), scale, ..op };
                g.lion(op, [value, memory[0]], others);
            }
        }
    }
}

/// How a step is made, and how it changes parameters.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// The optimizer; its decay only where [`Recipe::decays`].
    pub optimizer: Optimizer,
    /// Largest norm of all gradients together; 0 for no limit.
    pub clip: f32,
    /// Whether weight decay holds for a parameter.
    pub decays: &'a dyn Fn(&Parameter) -> bool,
    /// What the learning rate falls by from layer to layer, towards the first; 1 for the same everywhere.
    pub layer_decay: f32,
    /// The most parts that the batch of a step comes in, one after the other; gradients are added up.
    pub parts: usize,
    /// Decay of the moving average of the parameters, where one is kept.
    pub average: Option<f32>,
    /// Whether what a layer computes is thrown away and computed again on the way back.
    pub recompute: bool,
}

/// AdamW, gradients clipped to a norm of 1, decay as timm has it; a batch at once, no average.
impl Default for Recipe<'_> {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::AdamW(AdamW::default()),
            clip: 1.0,
            decays: &scope::decays,
            layer_decay: 1.0,
            parts: 1,
            average: None,
            recompute: false,
        }
    }
}

/// Learning rate and the corrections of the optimizer's means (4) f32.
pub(super) const RATES: &str = "rates";
/// Output: factor on gradients, their norm, 1 if that is finite.
pub(super) const CLIP: &str = "clip";
/// What the sum of gradients keeps of earlier parts of the batch, and the share of this one (2) f32.
pub(super) const SHARES: &str = "shares";
/// What the moving average keeps, and what is new of it (2) f32.
pub(super) const AVERAGING: &str = "averaging";
/// State: sums of squares of the gradients of each parameter.
const SQUARES: &str = "squares of gradients";

/// Output of a parameter's gradient.
pub(super) fn gradient_of(name: &str) -> String {
    format!("grad.{name}")
}

/// State: the moving average of a parameter.
pub(super) fn average_of(name: &str) -> String {
    format!("average of {name}")
}

/// State: the sum of a parameter's gradients over the parts of a batch.
fn sum_of(name: &str) -> String {
    format!("sum of {name}")
}

/// The loss and the gradients of all parameters as outputs.
///
/// # Errors
/// As [`differentiate`].
pub(super) fn gradients(graph: &Graph, parameters: &[Parameter]) -> Result<Graph> {
    let (mut g, _, gradients) = backward(graph, parameters)?;
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        g.output(gradient_of(&parameter.name), gradient);
    }
    Ok(g)
}

/// What a step runs, one after the other: a graph for the whole, or one for each part of the batch and one behind
/// all of them. Outputs are the loss and [`CLIP`]. `scales` are factors on the learning rates of parameters, by name.
///
/// # Errors
/// As [`differentiate`].
pub(super) fn steps(
    graph: &Graph,
    parameters: &[Parameter],
    scales: &BTreeMap<String, f32>,
    recipe: &Recipe,
) -> Result<Vec<Graph>> {
    let (mut g, values, mut gradients) = backward(graph, parameters)?;
    if recipe.recompute {
        (g, gradients) = recompute(&g, loss_of(&g)?, &gradients)?;
    }
    if recipe.parts <= 1 {
        update(&mut g, parameters, [&values, &gradients], scales, recipe)?;
        return Ok(vec![g]);
    }
    g.scope("sum");
    let shares = g.input(SHARES, TensorDesc::f32([2]));
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let sum = g.state(&sum_of(&parameter.name), TensorDesc::f32(parameter.shape), Storage::AsDeclared);
        g.blend(sum, gradient, shares);
    }
    g.check()?;
    let mut behind = Graph::new();
    let state = |g: &mut Graph, name: &str, p: &Parameter| {
        g.state(name, TensorDesc::f32(p.shape), Storage::AsDeclared)
    };
    let values: Vec<Value> = parameters.iter().map(|p| state(&mut behind, &p.name, p)).collect();
    let sums: Vec<Value> = parameters.iter().map(|p| state(&mut behind, &sum_of(&p.name), p)).collect();
    update(&mut behind, parameters, [&values, &sums], scales, recipe)?;
    Ok(vec![g, behind])
}

/// Clipping, the optimizer's updates, and the averages behind them.
fn update(
    g: &mut Graph,
    parameters: &[Parameter],
    [values, gradients]: [&[Value]; 2],
    scales: &BTreeMap<String, f32>,
    recipe: &Recipe,
) -> Result<()> {
    g.scope("clip");
    let squares = g.state(SQUARES, TensorDesc::f32([parameters.len()]), Storage::AsDeclared);
    for (i, &gradient) in gradients.iter().enumerate() {
        g.square_sum(gradient, squares, i);
    }
    let clip = g.clip_factor(squares, recipe.clip);
    g.output(CLIP, clip);
    let rates = g.input(RATES, TensorDesc::f32([4]));
    for ((parameter, &value), &gradient) in parameters.iter().zip(values).zip(gradients) {
        g.scope(format!("update.{}", parameter.name));
        let own = ((recipe.decays)(parameter), scales.get(&parameter.name).copied().unwrap_or(1.0));
        recipe.optimizer.update(g, parameter, value, [gradient, clip, rates], own);
    }
    if recipe.average.is_some() {
        g.scope("average");
        let shares = g.input(AVERAGING, TensorDesc::f32([2]));
        for (parameter, &value) in parameters.iter().zip(values) {
            let average = average_of(&parameter.name);
            let average = g.state(&average, TensorDesc::f32(parameter.shape), Storage::AsDeclared);
            g.blend(average, value, shares);
        }
    }
    g.check()
}

/// The graph with its backward half, the parameters, and their gradients.
fn backward(graph: &Graph, parameters: &[Parameter]) -> Result<(Graph, Vec<Value>, Vec<Value>)> {
    let mut g = graph.select(&[LOSS])?;
    let loss = loss_of(&g)?;
    let state = |wanted: &str| {
        let at = |op: &Op| matches!(op, Op::State { name, .. } if name == wanted);
        let found = g.nodes().iter().position(|node| at(&node.op));
        found
            .and_then(|i| g.value(i))
            .ok_or_else(|| Error::usage(format!("the loss does not read `{wanted}`"), "freeze it"))
    };
    let values = parameters.iter().map(|p| state(&p.name)).collect::<Result<Vec<_>>>()?;
    let gradients = differentiate(&mut g, loss, &values)?;
    Ok((g, values, gradients))
}

fn loss_of(g: &Graph) -> Result<Value> {
    let loss = g.outputs().iter().find(|(name, _)| name == LOSS).map(|(_, v)| *v);
    loss.ok_or_else(|| Error::usage("the graph has no loss", "declare it as an output"))
}
