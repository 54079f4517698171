//! Which values of a graph share a buffer, and in what type each is stored.

use crate::graph::{Graph, Node, Storage};
use crate::ops::{Op, OpDef};
use crate::tensor::{DType, TensorDesc};

/// Which values share a buffer: a reshape with its operand, an in-place result with the operand it
/// takes over.
pub(super) struct Homes {
    pub(super) root: Vec<usize>,
    pub(super) in_place: Vec<bool>,
}

impl Homes {
    pub(super) fn of(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        let mut root: Vec<usize> = (0..nodes.len()).collect();
        let mut in_place = vec![false; nodes.len()];
        // Last reader of each value, through reshapes; results are read after the end.
        let mut alias: Vec<usize> = (0..nodes.len()).collect();
        for (i, node) in nodes.iter().enumerate() {
            if matches!(node.op, Op::Reshape(_)) {
                alias[i] = alias[node.inputs[0].index()];
            }
        }
        let mut last = vec![0; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            for v in &node.inputs {
                last[alias[v.index()]] = i;
            }
        }
        for (_, v) in graph.outputs() {
            last[alias[v.index()]] = usize::MAX;
        }
        for (i, node) in nodes.iter().enumerate() {
            if matches!(node.op, Op::Reshape(_)) {
                root[i] = root[node.inputs[0].index()];
                continue;
            }
            let Some(operand) = node.op.def().and_then(|d| d.in_place()) else { continue };
            let v = node.inputs[operand];
            let source = &nodes[alias[v.index()]];
            let owned = is_slot(&source.op);
            let once = node.inputs.iter().filter(|u| alias[u.index()] == alias[v.index()]).count() == 1;
            let same = graph.shape(v).elements() == node.desc.shape.elements();
            if owned && once && same && last[alias[v.index()]] == i {
                in_place[i] = true;
                root[i] = root[v.index()];
            }
        }
        Self { root, in_place }
    }
}

/// True for what lies in an activation buffer.
pub(super) fn is_slot(op: &Op) -> bool {
    !matches!(op, Op::Input { .. } | Op::Weight(_) | Op::State { .. })
}

/// Storage type of every value. Values that share a buffer share a type; results are f32.
pub(super) fn storage_types(graph: &Graph, homes: &Homes, f16: bool) -> Vec<TensorDesc> {
    let narrow = |node: &Node| node.op.def().is_some_and(OpDef::narrows);
    let mut wide = vec![!f16; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        if !matches!(node.op, Op::Reshape(_)) && !narrow(node) {
            wide[homes.root[i]] = true;
        }
    }
    for (_, v) in graph.outputs() {
        wide[homes.root[v.index()]] = true;
    }
    for node in graph.nodes() {
        for &i in node.op.def().map_or(&[][..], OpDef::wide_operands) {
            wide[homes.root[node.inputs[i].index()]] = true;
        }
    }
    let describe = |(i, node): (usize, &Node)| {
        let state = matches!(node.op, Op::State { store: Storage::AsActivations, .. });
        if state && f16 {
            return TensorDesc::new(DType::F16, node.desc.shape);
        }
        let computed = node.op.def().is_some() && node.desc.dtype == DType::F32;
        let dtype = if computed && !wide[homes.root[i]] { DType::F16 } else { node.desc.dtype };
        TensorDesc::new(dtype, node.desc.shape)
    };
    graph.nodes().iter().enumerate().map(describe).collect()
}
