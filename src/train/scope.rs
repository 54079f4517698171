//! Which tensors of a model are trained: all, those of the last layers, or the classifier alone; and which of them
//! decay.

use std::collections::{BTreeMap, BTreeSet};

use super::parameters::Parameter;
use crate::checkpoint::{Change, Checkpoint};
use crate::error::{Error, Result};
use crate::graph::{Graph, Part, layer_of};
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

/// What the learning rate of each tensor of a graph is multiplied by where it falls by `decay` from layer to layer, as
/// timm has it (`layer_decay`): 1 for the classifier, `decay` for the last layer and the norm behind it, and one power
/// more for each layer before; what comes before the first is one of its own. A tensor that is read twice is of
/// the layer that reads it first.
pub(super) fn rates_by_layer(graph: &Graph, decay: f32) -> BTreeMap<String, f32> {
    let number = |label: &str| layer_of(label)?.rsplit('.').next()?.parse::<i32>().ok();
    let layers = graph.nodes().iter().filter_map(|node| number(&node.label)).max().map_or(0, |last| last + 1);
    let mut depths: BTreeMap<String, i32> = BTreeMap::new();
    let mut outside = 0;
    for node in graph.nodes() {
        let weights = node.inputs.iter().filter_map(|v| match &graph.node(*v).op {
            Op::Weight(weight) => Some(&weight.parts),
            _ => None,
        });
        let depth = match (number(&node.label), &node.op) {
            (Some(layer), _) => layer + 1,
            (None, Op::Norm(_)) => outside.min(layers),
            (None, _) => outside,
        };
        if depth > 0 {
            outside = layers + 1;
        }
        for name in weights.flatten().flat_map(Part::names) {
            depths.entry(name.to_owned()).or_insert(depth);
        }
    }
    depths.into_iter().map(|(name, depth)| (name, decay.powi(layers + 1 - depth))).collect()
}

/// Whether weight decay holds for a parameter, as timm has it: for matrices, but not for tables of tokens and
/// positions.
pub fn decays(parameter: &Parameter) -> bool {
    let matrix = parameter.shape.dims().iter().filter(|side| **side > 1).count() > 1;
    matrix && !TABLES.iter().any(|table| parameter.name.ends_with(table))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::graph::Weight;
    use crate::models;
    use crate::session::ModelSource;
    use crate::tensor::TensorDesc;

    /// timm's `param_groups_layer_decay` gives these to a ViT of two layers at 0.5.
    #[test]
    fn rates_fall_by_layer_as_in_timm() {
        let files = ModelSource::Path("tests/golden/timm_vit".into()).read(false).unwrap();
        let model = models::from_config(&files.config, files.checkpoint.index(), None).unwrap();
        let model = model.vision().unwrap();
        let (mut g, info) = (Graph::new(), model.info().clone());
        let size = info.image_size;
        let image = g.input("image", TensorDesc::f32([1, info.channels, size.height, size.width]));
        model.build(&mut g, image).unwrap();
        let rates = rates_by_layer(&g, 0.5);
        let layers = info.layers as i32;
        for (name, power) in [
            ("head.weight", 0),
            ("norm.weight", 1),
            (&*format!("blocks.{}.mlp.fc2.bias", layers - 1), 1),
            ("blocks.0.attn.qkv.weight", layers),
            ("pos_embed", layers + 1),
            ("cls_token", layers + 1),
            ("patch_embed.proj.bias", layers + 1),
        ] {
            assert_eq!(rates.get(name), Some(&0.5f32.powi(power)), "{name} of {rates:?}");
        }
    }

    #[test]
    fn a_tensor_that_is_read_twice_is_of_the_first_layer_that_reads_it() {
        let mut g = Graph::new();
        let x = g.input("x", TensorDesc::f32([2, 3]));
        g.scope("layer.0.mlp");
        let w = g.weight(Weight::tensor("shared"), [3]);
        let y = g.mul(x, w);
        g.scope("layer.1.mlp");
        let y = g.mul(y, w);
        g.output("y", y);
        assert_eq!(rates_by_layer(&g, 0.1).get("shared"), Some(&0.1f32.powi(2)));
    }
}
