//! Which tensors of a model are trained: all, those of the last layers, or the classifier alone; and which of them
//! decay.

use std::collections::BTreeSet;

use super::parameters::Parameter;
use crate::checkpoint::{Change, Checkpoint};
use crate::error::{Error, Result};
use crate::graph::{Graph, Part};
use crate::ops::Op;
use crate::session::ModelFiles;

/// What of a model is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Scope {
    /// Every tensor.
    All,
    /// So many layers before the end, and all that comes after them.
    Last(usize),
    /// The classifier alone.
    Head,
}

/// Tables of tokens and positions, which timm lets no weight decay work on: endings of names.
const TABLES: &[&str] = &[
    "pos_embed",
    "position_embeddings",
    "position_embedding.weight",
    "cls_token",
    "reg_token",
    "register_tokens",
    "dist_token",
    "distillation_token",
    "mask_token",
    "relative_position_bias_table",
];

/// The tensors of a graph, by name, that a scope means. `layers` is the number of the model's layers, whose nodes
/// are labelled `layer.N.…`; `head` names the classifier's tensors.
///
/// # Errors
/// [`Error::Usage`] for more layers than there are.
pub fn trained(graph: &Graph, layers: usize, head: &[String], scope: Scope) -> Result<BTreeSet<String>> {
    let first = match scope {
        Scope::All => 0,
        Scope::Head => return Ok(head.iter().cloned().collect()),
        Scope::Last(n) if n == 0 || n > layers => {
            let what = format!("the last {n} layers are to be trained, and the model has {layers}");
            return Err(Error::usage(what, "take 1 or more, and at most all of them"));
        }
        Scope::Last(n) => {
            let start = format!("layer.{}.", layers - n);
            graph.nodes().iter().position(|node| node.label.starts_with(&start)).unwrap_or(0)
        }
    };
    let names_of = |range: &[crate::graph::Node]| -> BTreeSet<String> {
        let weights = range.iter().filter_map(|node| match &node.op {
            Op::Weight(weight) => Some(&weight.parts),
            _ => None,
        });
        weights.flatten().flat_map(Part::names).map(str::to_owned).collect()
    };
    // What earlier layers read, too, belongs to them.
    let before = names_of(&graph.nodes()[..first]);
    Ok(names_of(&graph.nodes()[first..]).into_iter().filter(|name| !before.contains(name)).collect())
}

/// The tensors of an adapter, if one is laid over the model: then nothing else is trained.
pub(super) fn of_adapter(files: &ModelFiles) -> Option<BTreeSet<String>> {
    files.adapter.as_ref().map(|adapter| adapter.names.clone())
}

/// Whether a tensor of the model depends on what is trained: itself, or what an adapter makes of it.
pub(super) fn is_live(checkpoint: &Checkpoint, trained: &BTreeSet<String>, name: &str) -> bool {
    match checkpoint.change_of(name) {
        Some(Change::LowRank(low)) => trained.contains(&low.a) || trained.contains(&low.b),
        Some(Change::Replaced(by)) => trained.contains(by),
        None => trained.contains(name),
    }
}

/// Whether weight decay holds for a parameter, as timm has it: for matrices, but not for tables of tokens and
/// positions.
pub fn decays(parameter: &Parameter) -> bool {
    let matrix = parameter.shape.dims().iter().filter(|side| **side > 1).count() > 1;
    matrix && !TABLES.iter().any(|table| parameter.name.ends_with(table))
}
