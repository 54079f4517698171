//! The backward half of a graph: reverse-mode differentiation, graph to graph.
//!
//! [`differentiate`] walks from a loss back to what it is wanted for, op by op, and writes the gradients as
//! ordinary nodes behind the forward ones, so that printing, planning, profiling and the reference need not
//! know of it. What each op does on the way back it says itself, in [`OpDef::vjp`](crate::ops::OpDef::vjp).
//! It is run before `plan::fuse`, which leaves alone what the backward half reads.

use std::ops::Range;

use super::{Graph, Node, Value};
use crate::error::{Error, Result};
use crate::graph::Weight;

/// A node on the way back, as its op sees it.
pub struct Backward<'a> {
    /// Where the gradients are written.
    pub g: &'a mut Graph,
    /// Operands of the node.
    pub inputs: &'a [Value],
    /// Its result.
    pub y: Value,
    /// Gradient of the loss with regard to the result, of its shape.
    pub dy: Value,
    /// Which operands need a gradient; the others' may be left away.
    pub needed: &'a [bool],
}

/// What an op contributes to the gradient of one operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gradient {
    /// Nothing: the operand needs none, or is no number that could change.
    None,
    /// Of the operand's shape.
    Whole(Value),
    /// Of some tokens of an operand (B,T,C): (B,len,C). All others get none.
    Tokens(Range<usize>, Value),
}

impl Backward<'_> {
    /// The gradient of operand `i` by `make`, if it is needed.
    pub fn of(&mut self, i: usize, make: impl FnOnce(&mut Graph) -> Value) -> Gradient {
        if self.needed[i] { Gradient::Whole(make(self.g)) } else { Gradient::None }
    }
}

/// Appends the gradients of `loss`, one element, with regard to `wrt`, in that order and of their shapes.
///
/// # Errors
/// [`Error::Usage`] for a loss of more than one element, for an op on the way that has no
/// [`vjp`](crate::ops::OpDef::vjp), and for a value that the loss does not depend on, each by name.
pub fn differentiate(g: &mut Graph, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
    g.check()?;
    if g.shape(loss).elements() != 1 {
        let what = format!("a loss of shape {} cannot be differentiated", g.shape(loss));
        return Err(Error::usage(what, "sum it up to one element"));
    }
    let count = loss.index() + 1;
    let needed = needed(g, count, wrt);
    let mut parts: Vec<Vec<Gradient>> = vec![Vec::new(); count];
    let mut gradients: Vec<Option<Value>> = vec![None; count];
    g.scope("backward");
    let one = g.fill(g.shape(loss), 1.0);
    parts[loss.index()].push(Gradient::Whole(one));
    for i in (0..count).rev().filter(|&i| needed[i]) {
        let received = std::mem::take(&mut parts[i]);
        if received.is_empty() {
            continue;
        }
        let (y, node) = (Value(i as u32), g.nodes()[i].clone());
        g.scope(format!("{}.backward", node.label));
        let dy = sum(g, y, received);
        gradients[i] = Some(dy);
        let Some(def) = node.op.def() else { continue };
        let needs: Vec<bool> = node.inputs.iter().map(|v| needed[v.index()]).collect();
        if !needs.contains(&true) {
            continue;
        }
        let mut at = Backward { g, inputs: &node.inputs, y, dy, needed: &needs };
        let found = def.vjp(&mut at).ok_or_else(|| no_way_back(g, &node, &needs))?;
        debug_assert_eq!(found.len(), node.inputs.len(), "{} gives a gradient for each operand", def.name());
        for ((v, gradient), needs) in node.inputs.iter().zip(found).zip(needs) {
            if needs && gradient != Gradient::None {
                parts[v.index()].push(gradient);
            }
        }
    }
    g.scope("");
    g.check()?;
    let found = wrt.iter().map(|v| {
        gradients.get(v.index()).copied().flatten().ok_or_else(|| {
            let what = format!("the loss does not depend on `{}`", g.node(*v).label);
            Error::usage(what, "freeze it, or choose a loss that reads it")
        })
    });
    found.collect()
}

/// Which of the first `count` values depend on one of `wrt`.
fn needed(g: &Graph, count: usize, wrt: &[Value]) -> Vec<bool> {
    let mut needed = vec![false; count];
    for v in wrt.iter().filter(|v| v.index() < count) {
        needed[v.index()] = true;
    }
    for (i, node) in g.nodes()[..count].iter().enumerate() {
        needed[i] |= node.inputs.iter().any(|v| needed[v.index()]);
    }
    needed
}

fn no_way_back(g: &Graph, node: &Node, needs: &[bool]) -> Error {
    let trained = node.inputs.iter().zip(needs).find(|(_, needs)| **needs);
    let operand = trained.map_or(String::new(), |(v, _)| format!(" (operand `{}`)", g.node(*v).label));
    let what = format!("{}: the op `{}`{operand} cannot be trained through", node.label, node.op.name());
    Error::usage(what, "freeze everything before it")
}

/// What a value receives from all its readers, added up.
fn sum(g: &mut Graph, of: Value, received: Vec<Gradient>) -> Value {
    let mut ranges = Vec::new();
    let mut total = None;
    for gradient in received {
        match gradient {
            Gradient::None => {}
            Gradient::Tokens(range, v) => ranges.push((range, v)),
            Gradient::Whole(v) => total = Some(total.map_or(v, |before| g.add(before, v))),
        }
    }
    ranges.sort_by_key(|(range, _)| range.start);
    while !ranges.is_empty() {
        // As many as do not overlap are laid side by side.
        let (mut row, mut rest, mut end) = (Vec::new(), Vec::new(), 0);
        for (range, v) in ranges {
            if range.start >= end {
                end = range.end;
                row.push((range, v));
            } else {
                rest.push((range, v));
            }
        }
        ranges = rest;
        let v = side_by_side(g, of, &row);
        total = Some(total.map_or(v, |before| g.add(before, v)));
    }
    total.expect("a value is visited only if something was received for it")
}

/// Ranges of tokens in order, with zeros between them: of the shape (B,T,C) of `of`.
fn side_by_side(g: &mut Graph, of: Value, row: &[(Range<usize>, Value)]) -> Value {
    let shape = g.shape(of);
    let &[batch, tokens, width] = shape.dims() else { return row[0].1 };
    let (mut parts, mut at) = (Vec::new(), 0);
    let zeros = |g: &mut Graph, n: usize| g.weight(Weight::zeros(n), [n, width]);
    for (range, v) in row {
        if range.start > at {
            parts.push(zeros(g, range.start - at));
        }
        parts.push(*v);
        at = range.end;
    }
    if at < tokens {
        parts.push(zeros(g, tokens - at));
    }
    if parts.len() == 1 { parts[0] } else { g.concat_tokens(batch, &parts) }
}
