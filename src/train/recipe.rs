//! How parameters move: the backward half, clipping and the optimizer, put behind a loss.

use super::objective::LOSS;
use super::parameters::Parameter;
use crate::error::{Error, Result};
use crate::graph::{Graph, Storage, Value, differentiate};
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
    fn update(&self, g: &mut Graph, parameter: &Parameter, value: Value, others: [Value; 3], decays: bool) {
        let memory: Vec<Value> = self
            .memory(&parameter.name)
            .iter()
            .map(|name| g.state(name, TensorDesc::f32(parameter.shape), Storage::AsDeclared))
            .collect();
        let decay = |decay: f32| if decays { decay } else { 0.0 };
        match *self {
            Optimizer::AdamW(op) => {
                g.adamw(AdamW { decay: decay(op.decay), ..op }, [value, memory[0], memory[1]], others);
            }
            Optimizer::Sgd(op) => {
                g.sgd(Sgd { decay: decay(op.decay), ..op }, [value, memory[0]], others);
            }
            Optimizer::Lion(op) => {
                g.lion(Lion { decay: decay(op.decay), ..op }, [value, memory[0]], others);
            }
        }
    }
}

/// How a step changes parameters.
pub struct Recipe<'a> {
    /// The optimizer; its decay only where [`Recipe::decays`].
    pub optimizer: Optimizer,
    /// Largest norm of all gradients together; 0 for no limit.
    pub clip: f32,
    /// Whether weight decay holds for a parameter.
    pub decays: &'a dyn Fn(&Parameter) -> bool,
}

/// Learning rate and the corrections of the optimizer's means (4) f32.
pub(super) const RATES: &str = "rates";
/// Output: factor on gradients, their norm, 1 if that is finite.
pub(super) const CLIP: &str = "clip";
/// State: sums of squares of the gradients of each parameter.
const SQUARES: &str = "squares of gradients";

/// Output of a parameter's gradient.
pub(super) fn gradient_of(name: &str) -> String {
    format!("grad.{name}")
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

/// A step: the loss, its gradients, and the new parameters in place of the old.
///
/// # Errors
/// As [`differentiate`].
pub(super) fn step(graph: &Graph, parameters: &[Parameter], recipe: &Recipe) -> Result<Graph> {
    let (mut g, values, gradients) = backward(graph, parameters)?;
    g.scope("clip");
    let squares = g.state(SQUARES, TensorDesc::f32([parameters.len()]), Storage::AsDeclared);
    for (i, &gradient) in gradients.iter().enumerate() {
        g.square_sum(gradient, squares, i);
    }
    let clip = g.clip_factor(squares, recipe.clip);
    g.output(CLIP, clip);
    let rates = g.input(RATES, TensorDesc::f32([4]));
    for ((parameter, value), gradient) in parameters.iter().zip(values).zip(gradients) {
        g.scope(format!("update.{}", parameter.name));
        let decays = (recipe.decays)(parameter);
        recipe.optimizer.update(&mut g, parameter, value, [gradient, clip, rates], decays);
    }
    g.check()?;
    Ok(g)
}

/// The graph with its backward half, the parameters, and their gradients.
fn backward(graph: &Graph, parameters: &[Parameter]) -> Result<(Graph, Vec<Value>, Vec<Value>)> {
    let mut g = graph.select(&[LOSS])?;
    let loss = g.outputs().iter().find(|(name, _)| name == LOSS).map(|(_, v)| *v);
    let loss = loss.ok_or_else(|| Error::usage("the graph has no loss", "declare it as an output"))?;
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
