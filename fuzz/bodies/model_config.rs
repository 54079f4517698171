//! A `config.json` beside the names and shapes of any checkpoint: the model, its graph at three
//! picture sizes, the plan of one of them, and its labels.
//!
//! An input is the JSON text, a NUL, and a line `name dim,dim,...` for each tensor; its length
//! decides which graph is compiled.

use serde_json::Value as Json;
use vit_gpu::graph::{Graph, TensorIndex};
use vit_gpu::labels::Labels;
use vit_gpu::models::{AnyModel, Model, from_config};
use vit_gpu::ops::Target;
use vit_gpu::plan::{self, Options};
use vit_gpu::tensor::{Shape, TensorDesc};

/// Most classes that are named, and most nodes of a graph that is compiled: what a real file
/// bounds by its own length.
const CLASSES: usize = 4096;
const NODES: usize = 400;

/// Runs one input.
pub fn run(input: &[u8]) {
    let (config, tensors) = super::split(input);
    let Ok(config) = serde_json::from_slice::<Json>(config) else { return };
    let index: TensorIndex = String::from_utf8_lossy(tensors).lines().filter_map(tensor).collect();
    let model = match from_config(&config, &index, None).and_then(AnyModel::vision) {
        Ok(model) => model,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            let _ = Labels::from_config(&config, 3);
            return;
        }
    };
    let info = model.info();
    let classes = info.classes.unwrap_or(0).min(CLASSES);
    assert_eq!(Labels::from_config(&config, classes).names.len(), classes);

    let [h, w] = info.patch;
    let compiled = input.len() % 3;
    let fits = build(model.as_ref(), info.image_size.into(), compiled == 0);
    assert!(fits, "a model that is accepted fits its own size");
    build(model.as_ref(), [2 * h + 1, 3 * w], compiled == 1);
    build(model.as_ref(), [48, 64], compiled == 2);
}

/// A line of the index.
fn tensor(line: &str) -> Option<(String, Shape)> {
    let (name, dims) = line.rsplit_once(' ')?;
    let dims: Option<Vec<usize>> = dims.split(',').map(|d| d.parse().ok()).collect();
    Some((name.to_owned(), Shape::checked(&dims?)?))
}

/// Builds the graph of one picture of a size, and its plan if that is wanted; false if the model
/// refuses the size.
fn build(model: &dyn Model, [h, w]: [usize; 2], compiled: bool) -> bool {
    let mut g = Graph::new();
    let image = g.input("image", TensorDesc::f32([1, model.info().channels, h, w]));
    if model.build(&mut g, image).is_err() {
        return false;
    }
    g.check().expect("a build that succeeds leaves no error in the graph");
    for node in g.nodes() {
        assert!(node.inputs.iter().all(|v| v.index() < g.nodes().len()));
    }
    if compiled && g.nodes().len() <= NODES {
        let last = g.outputs().last().map(|(name, _)| name.clone()).expect("a model has outputs");
        let wanted = g.select(&[&last]).expect("the output exists");
        // An adapter's limits may well refuse it.
        if let Ok(plan) = plan::compile(&wanted, &Target::portable(), Options::default()) {
            assert!(plan.activation_bytes() >= plan.largest_live_set);
            assert!(!plan.to_string().is_empty());
            let _ = (plan.weight_bytes(), plan.cost());
        }
    }
    true
}
