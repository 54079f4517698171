//! Graph rewrites, one small function each, run in a fixed list. They fold elementwise neighbours
//! into an op's own fields and never make WGSL. A fused graph computes the same numbers as the
//! graph it came from; `tests/plan.rs` runs both.
//!
//! Not folded: the residual sum into the norm that follows it. The sum already rides in the
//! epilogue of the matmul before it, which leaves the norm nothing to save.

mod rows;

use crate::error::Result;
use crate::graph::{Graph, Node, Value, Weight};
use crate::ops::{
    Attention, Binary, BinaryKind, CacheWrite, CachedAttention, Conv2d, DECODE_ROWS, DecodeLinear, HeadSplit,
    MatMul, Norm, NormKind, Op, Patchify, Rotary, Unary,
};
use crate::tensor::Shape;

/// Runs every rewrite in order and drops what nothing needs any more.
///
/// # Errors
/// A shape error kept by the graph.
pub fn fuse(graph: &Graph) -> Result<Graph> {
    graph.check()?;
    [
        normalise_into_patchify,
        epilogue_into_matmul,
        epilogue_into_conv,
        gate_into_matmul,
        qkv_into_one_matmul,
        norm_into_linear,
    ]
    .iter()
    .try_fold(prune(&rows::rows_first(graph))?, |g, rewrite| prune(&rewrite_nodes(&g, *rewrite)))
}

/// A rewrite looks at one node of the old graph and either returns what replaces it, built into
/// the new graph, or `None` to keep it.
type Rewrite = fn(&mut Rewriter, &Node) -> Option<Value>;

struct Rewriter<'a> {
    old: &'a Graph,
    uses: Vec<u32>,
    /// New value of each old one already visited.
    map: Vec<Value>,
    new: Graph,
}

impl Rewriter<'_> {
    /// New value of an old one.
    fn at(&self, old: Value) -> Value {
        self.map[old.index()]
    }

    /// The matmul that `old` has become, if nothing else reads it.
    fn sole_matmul(&self, old: Value) -> Option<(MatMul, Node)> {
        let node = self.new.node(self.at(old));
        match node.op {
            Op::MatMul(m) if self.uses[old.index()] == 1 && m.heads.is_none() => Some((m, node.clone())),
            _ => None,
        }
    }

    /// True if `old` is a weight or a parameter of one row.
    fn is_vector(&self, old: Value) -> bool {
        let node = self.old.node(old);
        matches!(node.op, Op::Weight(_) | Op::State { .. })
            && node.desc.shape.elements() == node.desc.shape.width()
    }

    /// Inserts `matmul` with one operand more than `node` had, in the place of `of`.
    fn extended(
        &mut self,
        matmul: MatMul,
        mut node: Node,
        operand: Option<Value>,
        of: &Node,
    ) -> Option<Value> {
        node.op = Op::MatMul(matmul);
        node.inputs.extend(operand);
        node.desc = of.desc;
        Some(self.new.insert(node))
    }
}

fn rewrite_nodes(graph: &Graph, rewrite: Rewrite) -> Graph {
    let mut r = Rewriter { old: graph, uses: graph.uses(), map: Vec::new(), new: Graph::new() };
    for node in graph.nodes() {
        let value = rewrite(&mut r, node).unwrap_or_else(|| {
            let inputs = node.inputs.iter().map(|&v| r.at(v)).collect();
            r.new.insert(Node { inputs, ..node.clone() })
        });
        r.map.push(value);
    }
    for (name, v) in graph.outputs() {
        let v = r.at(*v);
        r.new.output(name.clone(), v);
    }
    r.new
}

fn prune(graph: &Graph) -> Result<Graph> {
    let names: Vec<&str> = graph.outputs().iter().map(|(n, _)| n.as_str()).collect();
    graph.select(&names)
}

/// normalise -> patchify: patches are cut from bytes.
fn normalise_into_patchify(r: &mut Rewriter, node: &Node) -> Option<Value> {
    let Op::Patchify(patchify @ Patchify { normalise: None, .. }) = node.op else { return None };
    let from = node.inputs[0];
    let before = r.old.node(from);
    let Op::Normalise(normalise) = before.op else { return None };
    if r.uses[from.index()] != 1 {
        return None;
    }
    let op = Op::Patchify(Patchify { normalise: Some(normalise), ..patchify });
    let inputs = vec![r.at(before.inputs[0])];
    Some(r.new.insert(Node { op, inputs, ..node.clone() }))
}

/// matmul -> + bias -> activation -> · layer scale -> + residual, as far as the chain goes.
fn epilogue_into_matmul(r: &mut Rewriter, node: &Node) -> Option<Value> {
    match node.op {
        Op::Unary(Unary { act: Some(act), factor: 1.0 }) => {
            let (m, matmul) = r.sole_matmul(node.inputs[0])?;
            let open = m.act.is_none() && !m.scale && !m.residual;
            open.then(|| r.extended(MatMul { act: Some(act), ..m }, matmul, None, node))?
        }
        Op::Binary(Binary { kind: BinaryKind::Mul }) => {
            let (m, matmul) = r.sole_matmul(node.inputs[0])?;
            let open = !m.scale && !m.residual && r.is_vector(node.inputs[1]);
            let scale = r.at(node.inputs[1]);
            open.then(|| r.extended(MatMul { scale: true, ..m }, matmul, Some(scale), node))?
        }
        Op::Binary(Binary { kind: BinaryKind::Add }) => {
            let [a, b] = [node.inputs[0], node.inputs[1]];
            if let Some((m, matmul)) = r.sole_matmul(a).filter(|(m, _)| !m.residual) {
                let first = !m.bias && m.act.is_none() && !m.scale;
                let operand = Some(r.at(b));
                let m = if first && r.is_vector(b) {
                    MatMul { bias: true, ..m }
                } else {
                    MatMul { residual: true, ..m }
                };
                return r.extended(m, matmul, operand, node);
            }
            let (m, matmul) = r.sole_matmul(b).filter(|(m, _)| !m.residual)?;
            let same = r.old.shape(a) == r.old.shape(b);
            let residual = r.at(a);
            same.then(|| r.extended(MatMul { residual: true, ..m }, matmul, Some(residual), node))?
        }
        _ => None,
    }
}

/// convolution -> activation -> + residual, as far as the chain goes.
fn epilogue_into_conv(r: &mut Rewriter, node: &Node) -> Option<Value> {
    let sole = |r: &Rewriter, old: Value| {
        let conv = r.new.node(r.at(old)).clone();
        match conv.op {
            Op::Conv2d(c) if r.uses[old.index()] == 1 && !c.residual => Some((c, conv)),
            _ => None,
        }
    };
    match node.op {
        Op::Unary(Unary { act: Some(act), factor: 1.0 }) => {
            let (c, conv) = sole(r, node.inputs[0]).filter(|(c, _)| c.act.is_none())?;
            let op = Op::Conv2d(Conv2d { act: Some(act), ..c });
            Some(r.new.insert(Node { op, ..conv }))
        }
        Op::Binary(Binary { kind: BinaryKind::Add }) => {
            let [a, b] = [node.inputs[0], node.inputs[1]];
            let same = r.old.shape(a) == r.old.shape(b);
            let ((c, mut conv), other) = match sole(r, a) {
                Some(found) => (found, b),
                None => (sole(r, b).filter(|_| same)?, a),
            };
            conv.op = Op::Conv2d(Conv2d { residual: true, ..c });
            conv.inputs.push(r.at(other));
            Some(r.new.insert(Node { desc: node.desc, ..conv }))
        }
        _ => None,
    }
}

/// act(x·Aᵀ) · (x·Bᵀ): one matmul whose weight holds both, row by row.
fn gate_into_matmul(r: &mut Rewriter, node: &Node) -> Option<Value> {
    let Op::Binary(Binary { kind: BinaryKind::Mul }) = node.op else { return None };
    let (gate, a) = r.sole_matmul(node.inputs[0])?;
    let (value, b) = r.sole_matmul(node.inputs[1])?;
    let plain = gate == MatMul { act: gate.act, ..MatMul::default() } && value == MatMul::default();
    let [Op::Weight(gates), Op::Weight(values)] = [&a, &b].map(|m| &r.new.node(m.inputs[1]).op) else {
        return None;
    };
    let shape = r.new.shape(a.inputs[1]);
    if !plain || gate.act.is_none() || a.inputs[0] != b.inputs[0] || shape != r.new.shape(b.inputs[1]) {
        return None;
    }
    let [rows, inner] = *shape.dims() else { return None };
    let pairs = Weight::pairs(gates.clone(), values.clone());
    let weight = r.new.weight(pairs, [2 * rows, inner]);
    let op = Op::MatMul(MatMul { act: gate.act, gated: true, ..MatMul::default() });
    Some(r.new.insert(Node {
        op,
        inputs: vec![a.inputs[0], weight],
        desc: node.desc,
        label: node.label.clone(),
    }))
}

/// A projection that is split into heads for an attention.
struct Projection {
    x: Value,
    shape: Shape,
    heads: usize,
    weight: Weight,
    bias: Option<Weight>,
    label: String,
    /// How it is turned, by which table and step.
    rotary: Option<Turned>,
}

/// A rotation of a projection.
#[derive(Clone, Copy, PartialEq)]
struct Turned {
    op: Rotary,
    table: Value,
    step: Option<Value>,
}

impl Rewriter<'_> {
    /// What `old` is, if it is a projection that only one node reads.
    fn projection(&self, old: Value) -> Option<Projection> {
        let node = self.old.node(old);
        if self.uses[old.index()] != 1 {
            return None;
        }
        if let Op::Rotary(op @ Rotary { packed: false, back: false, .. }) = node.op {
            let step = node.inputs.get(2).map(|&step| self.at(step));
            let rotary = Some(Turned { op, table: self.at(node.inputs[1]), step });
            let inner = self.projection(node.inputs[0])?;
            return inner.rotary.is_none().then_some(Projection { rotary, ..inner });
        }
        let Op::SplitHeads(split) = node.op else { return None };
        let (m, matmul) = self.sole_matmul(node.inputs[0])?;
        let Op::Weight(weight) = &self.new.node(matmul.inputs[1]).op else { return None };
        let bias = match (m, m.bias.then(|| &self.new.node(matmul.inputs[2]).op)) {
            (m, _) if m != (MatMul { bias: m.bias, ..MatMul::default() }) => return None,
            (_, Some(Op::Weight(b))) => Some(b.clone()),
            (_, None) => None,
            _ => return None,
        };
        let shape = self.new.shape(matmul.inputs[1]);
        let (x, weight) = (matmul.inputs[0], weight.clone());
        Some(Projection { x, shape, heads: split.heads, weight, bias, label: matmul.label, rotary: None })
    }
}

/// Three projections of one tensor, split into heads for one attention: one matmul that writes
/// head by head. For few rows it also turns q and k and enters k and v into the cache.
fn qkv_into_one_matmul(r: &mut Rewriter, node: &Node) -> Option<Value> {
    let cached = match node.op {
        Op::Attention(Attention { packed: false, .. }) => false,
        Op::CachedAttention(CachedAttention { packed: false, entered: false, .. }) => true,
        _ => return None,
    };
    let projections: Vec<Projection> = node.inputs[..3].iter().map_while(|&v| r.projection(v)).collect();
    let [q, k, v] = &projections[..] else { return None };
    let alike = |p: &Projection| (p.x, p.shape, p.heads) == (q.x, q.shape, q.heads);
    if !alike(k) || !alike(v) || q.rotary != k.rotary || v.rotary.is_some() {
        return None;
    }
    let [out, inner] = *q.shape.dims() else { return None };
    let weight = Weight::joined(projections.iter().map(|p| p.weight.clone()));
    let weight = r.new.weight(weight, [3 * out, inner]);
    let mut inputs = vec![q.x, weight];
    let bias = projections.iter().any(|p| p.bias.is_some());
    if bias {
        let parts = projections.iter().map(|p| p.bias.clone().unwrap_or_else(|| Weight::zeros(out)));
        inputs.push(r.new.weight(Weight::joined(parts), [3 * out]));
    }
    let others: Vec<Value> = node.inputs[3..].iter().map(|&v| r.at(v)).collect();
    // That kernel turns neighbours.
    let turns_here = || q.rotary.is_none_or(|r| r.step == Some(others[1]) && !r.op.halves && !bias);
    // A prompt of one that is entered in all rows of a cache stays apart.
    let own =
        |cache: Value| r.new.shape(cache).dims().get(1) == Some(&(r.new.shape(q.x).dims()[0] * q.heads));
    let few = cached && r.new.shape(q.x).rows() <= DECODE_ROWS && turns_here() && own(others[0]);
    let cache = few.then_some(CacheWrite { rotary: q.rotary.is_some() });
    if few {
        inputs.extend(q.rotary.map(|r| r.table));
        inputs.extend(&others[..2]);
    }
    r.new.scope(q.label.clone());
    let linear = MatMul { bias, heads: Some(HeadSplit { parts: 3, heads: q.heads }), ..MatMul::default() };
    let op = match cache {
        Some(_) => Op::DecodeLinear(DecodeLinear { linear, norm: None, cache }),
        None => Op::MatMul(linear),
    };
    let mut qkv = r.new.push(op, inputs);
    if let (Some(Turned { op, table, step }), false) = (q.rotary, few) {
        let inputs = [qkv, table].into_iter().chain(step).collect();
        qkv = r.new.push(Op::Rotary(Rotary { packed: true, ..op }), inputs);
    }
    let op = match node.op {
        Op::Attention(attention) => Op::Attention(Attention { packed: true, ..attention }),
        Op::CachedAttention(a) => Op::CachedAttention(CachedAttention { packed: true, entered: few, ..a }),
        _ => return None,
    };
    let inputs = [&[qkv], &others[..]].concat();
    Some(r.new.insert(Node { op, inputs, ..node.clone() }))
}

/// norm -> linear layer of few rows: each workgroup normalises for itself.
fn norm_into_linear(r: &mut Rewriter, node: &Node) -> Option<Value> {
    let (linear, cache) = match node.op {
        Op::MatMul(linear @ MatMul { scale: false, .. }) => (linear, None),
        Op::DecodeLinear(DecodeLinear { linear, norm: None, cache }) => (linear, cache),
        _ => return None,
    };
    let from = node.inputs[0];
    let before = r.old.node(from);
    let Op::Norm(norm @ Norm { kind, .. }) = before.op else { return None };
    if r.uses[from.index()] != 1 || before.desc.shape.rows() > DECODE_ROWS {
        return None;
    }
    let recipe = |v: Value| match &r.old.node(v).op {
        Op::Weight(w) => Some(w.clone()),
        _ => None,
    };
    let width = before.desc.shape.width();
    let parts: Vec<Weight> = before.inputs[1..].iter().map_while(|&v| recipe(v)).collect();
    let rows = if kind == NormKind::Layer { 2 } else { 1 };
    if parts.len() != rows {
        return None;
    }
    let factors = r.new.weight(Weight::joined(parts), [rows * width]);
    let mut inputs: Vec<Value> = node.inputs.iter().map(|&v| r.at(v)).collect();
    inputs[0] = r.at(before.inputs[0]);
    let behind = 2 + usize::from(linear.bias) + usize::from(linear.residual);
    inputs.insert(behind, factors);
    let op = Op::DecodeLinear(DecodeLinear { linear, norm: Some(norm), cache });
    Some(r.new.insert(Node { op, inputs, ..node.clone() }))
}
