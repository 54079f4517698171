//! Layers of named weights, for the cases.

use crate::graph::{Graph, Value};

/// A linear layer of the weights of those names. x: (…,K); returns (…,n).
pub(super) fn linear(g: &mut Graph, x: Value, weight: &str, bias: Option<&str>, n: usize) -> Value {
    let inner = g.shape(x).width();
    let weight = g.weight(weight, [n, inner]);
    let bias = bias.map(|name| g.weight(name, [n]));
    g.linear(x, weight, bias)
}

/// Layer norm by the gain and the bias of that name. x: (…,C).
pub(super) fn layer_norm(g: &mut Graph, x: Value, bias: &str) -> Value {
    let width = g.shape(x).width();
    let [gain, bias] = ["gain", bias].map(|name| g.weight(name, [width]));
    g.layer_norm(x, gain, bias, 1e-5)
}

/// RMS norm by the gain. x: (…,C).
pub(super) fn rms_norm(g: &mut Graph, x: Value) -> Value {
    let width = g.shape(x).width();
    let gain = g.weight("gain", [width]);
    g.rms_norm(x, gain, 1e-5)
}
