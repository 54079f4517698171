//! What the layers of every transformer share: a residual around a normalised branch, projections to
//! heads, a two-layer MLP. ViT, DeiT, ViT-MAE, ImageGPT, GPT-2, BERT and T5 are written with it; what
//! differs between them (the order of norm and sum, the kind of norm, how weights are stored, what a head
//! attends to) is said in each model's file.

use std::ops::Range;

use super::names::Names;
use crate::graph::{Graph, Part, Transform, Value, Weight};
use crate::ops::{Act, NormKind};

/// Where the norm of a branch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// x + f(norm(x)): GPT-2, ViT, T5.
    NormFirst,
    /// norm(x + f(x)): the original transformer, BERT.
    NormLast,
}

/// How the weight of a linear layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// (out, in).
    OutIn,
    /// (in, out): the `Conv1D` of GPT-2 and ImageGPT.
    InOut,
}

/// How the layers of one model are made, over the tensors of its checkpoint.
pub(crate) struct Block<'a> {
    pub(crate) names: &'a Names,
    pub(crate) order: Order,
    pub(crate) norm: NormKind,
    pub(crate) eps: f32,
    pub(crate) storage: Storage,
    /// Linear layers have a bias.
    pub(crate) bias: bool,
}

impl Block<'_> {
    /// The norm of the given name. x: (…,C).
    pub(crate) fn norm(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        match self.norm {
            NormKind::Rms => self.names.rms_norm(g, x, name, self.eps),
            NormKind::Layer => self.names.layer_norm(g, x, name, self.eps),
        }
    }

    /// A branch with its residual and its norm. x: (B,T,C), as what `branch` returns.
    pub(crate) fn residual(
        &self,
        g: &mut Graph,
        x: Value,
        norm: &str,
        branch: impl FnOnce(&mut Graph, Value) -> Value,
    ) -> Value {
        match self.order {
            Order::NormFirst => {
                let h = self.norm(g, x, norm);
                let y = branch(g, h);
                g.add(y, x)
            }
            Order::NormLast => {
                let y = branch(g, x);
                let sum = g.add(y, x);
                self.norm(g, sum, norm)
            }
        }
    }

    /// Linear layer. x: (…,K); returns (…,out).
    pub(crate) fn linear(&self, g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
        match self.storage {
            Storage::OutIn => self.names.linear(g, x, name, out, self.bias),
            Storage::InOut => self.outputs(g, x, name, 0..out),
        }
    }

    /// Some outputs of a linear layer. x: (…,K); returns (…,outputs).
    pub(crate) fn outputs(&self, g: &mut Graph, x: Value, name: &str, outputs: Range<usize>) -> Value {
        let part = |kind: &str, transform: Transform| Weight {
            parts: vec![Part::Tensor {
                name: self.names.in_file(&format!("{name}.{kind}")),
                rows: Some(outputs.clone()),
                transform,
            }],
        };
        let turned = if self.storage == Storage::InOut { Transform::Transpose } else { Transform::None };
        let inner = g.shape(x).width();
        let weight = g.weight(part("weight", turned), [outputs.len(), inner]);
        let bias = self.bias.then(|| g.weight(part("bias", Transform::None), [outputs.len()]));
        g.linear(x, weight, bias)
    }

    /// act(x·W₁ + b₁)·W₂ + b₂. x: (…,C); returns (…,C).
    pub(crate) fn mlp(
        &self,
        g: &mut Graph,
        x: Value,
        [up, down]: [&str; 2],
        width: usize,
        act: Act,
    ) -> Value {
        let c = g.shape(x).width();
        let h = self.linear(g, x, up, width); // (…,F)
        let h = g.act(h, act);
        self.linear(g, h, down, c)
    }

    /// (act(x·W₀) · (x·W₁))·W₂. x: (…,C); returns (…,C).
    pub(crate) fn gated_mlp(
        &self,
        g: &mut Graph,
        x: Value,
        [gate, up, down]: [&str; 3],
        width: usize,
        act: Act,
    ) -> Value {
        let c = g.shape(x).width();
        let h = self.linear(g, x, gate, width); // (…,F)
        let h = g.act(h, act);
        let value = self.linear(g, x, up, width);
        let h = g.mul(h, value);
        self.linear(g, h, down, c)
    }
}
