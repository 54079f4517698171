//! Graph rewrites, one small function each, run in a fixed list. They fold elementwise neighbours
//! into an op's own fields and never make WGSL. A fused graph computes the same numbers as the
//! graph it came from; `tests/plan.rs` runs both.
//!
//! Not folded: the residual sum into the norm that follows it. The sum already rides in the
//! epilogue of the matmul before it, which leaves the norm nothing to save.

use crate::error::Result;
use crate::graph::{Graph, Node, Value, Weight};
use crate::ops::{Attention, Binary, BinaryKind, Conv2d, HeadSplit, MatMul, Op, Patchify, Unary};

/// Runs every rewrite in order and drops what nothing needs any more.
///
/// # Errors
/// A shape error kept by the graph.
pub fn fuse(graph: &Graph) -> Result<Graph> {
    graph.check()?;
    [normalise_into_patchify, epilogue_into_matmul, epilogue_into_conv, qkv_into_one_matmul]
        .iter()
        .try_fold(graph.clone(), |g, rewrite| prune(&rewrite_nodes(&g, *rewrite)))
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

    /// True if `old` is a weight of one row.
    fn is_vector(&self, old: Value) -> bool {
        let node = self.old.node(old);
        matches!(node.op, Op::Weight(_)) && node.desc.shape.elements() == node.desc.shape.width()
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

/// Three projections of one tensor, split into heads for one attention: one matmul that writes
/// head by head.
fn qkv_into_one_matmul(r: &mut Rewriter, node: &Node) -> Option<Value> {
    let Op::Attention(attention @ Attention { packed: false, .. }) = node.op else { return None };
    let mut projections = Vec::new();
    for &v in &node.inputs[..3] {
        let split = r.old.node(v);
        let Op::SplitHeads(heads) = split.op else { return None };
        if r.uses[v.index()] != 1 {
            return None;
        }
        let (m, matmul) = r.sole_matmul(split.inputs[0])?;
        let Op::Weight(weight) = &r.new.node(matmul.inputs[1]).op else { return None };
        let bias = match (m, m.bias.then(|| &r.new.node(matmul.inputs[2]).op)) {
            (m, _) if m != (MatMul { bias: m.bias, ..MatMul::default() }) => return None,
            (_, Some(Op::Weight(b))) => Some(b.clone()),
            (_, None) => None,
            _ => return None,
        };
        let shape = r.new.shape(matmul.inputs[1]);
        projections.push((matmul.inputs[0], shape, heads.heads, weight.clone(), bias, matmul.label));
    }
    let (x, shape, heads, ..) = projections[0];
    if projections.iter().any(|p| (p.0, p.1, p.2) != (x, shape, heads)) {
        return None;
    }
    let [out, inner] = *shape.dims() else { return None };
    let weight = Weight::joined(projections.iter().map(|p| p.3.clone()));
    let weight = r.new.weight(weight, [3 * out, inner]);
    let mut inputs = vec![x, weight];
    let bias = projections.iter().any(|p| p.4.is_some());
    if bias {
        let parts = projections.iter().map(|p| p.4.clone().unwrap_or_else(|| Weight::zeros(out)));
        inputs.push(r.new.weight(Weight::joined(parts), [3 * out]));
    }
    r.new.scope(projections[0].5.clone());
    let op = MatMul { bias, heads: Some(HeadSplit { ways: 3, heads }), ..MatMul::default() };
    let qkv = r.new.push(Op::MatMul(op), inputs);
    let mut inputs = vec![qkv];
    inputs.extend(node.inputs[3..].iter().map(|&v| r.at(v)));
    let op = Op::Attention(Attention { packed: true, ..attention });
    Some(r.new.insert(Node { op, inputs, ..node.clone() }))
}
