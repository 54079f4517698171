//! New classes for a model: a classifier with a row for each, in place of the one it has or where it has none, and
//! a configuration that names them.

use serde_json::{Map, Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Part, Value};
use crate::labels::Labels;
use crate::models::{self, Model};
use crate::ops::Op;
use crate::random::Random;
use crate::session::ModelFiles;
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// Deviation of the weights of a new classifier, as timm and transformers begin.
const DEVIATION: f64 = 0.02;

/// Families whose checkpoints of bare encoders take a classifier: `model_type`, what transformers puts in front
/// of the encoder's tensors in a classifier's file, its class, and how many times its width the classifier reads.
const ENCODERS: &[(&str, &str, &str, usize)] = &[
    ("vit", "vit.", "ViTForImageClassification", 1),
    ("deit", "deit.", "DeiTForImageClassification", 1),
    ("beit", "beit.", "BeitForImageClassification", 1),
    ("dinov2", "dinov2.", "Dinov2ForImageClassification", 2),
    ("dinov2_with_registers", "dinov2_with_registers.", "Dinov2WithRegistersForImageClassification", 2),
];

/// Whether a model's classes are these, in any order; and where each stands in the model.
pub fn same_classes(files: &ModelFiles, model: &dyn Model, classes: &[String]) -> Option<Vec<u32>> {
    let known = Labels::from_config(&files.config, model.info().classes?);
    let at = |class: &String| known.names.iter().position(|name| name == class);
    let places: Option<Vec<u32>> = classes.iter().map(|class| at(class).map(|i| i as u32)).collect();
    places.filter(|_| known.names.len() == classes.len())
}

/// A vision model's files with a new classifier over these classes: weights of the normal distribution of
/// deviation 0.02, drawn by `seed`, and no bias.
///
/// # Errors
/// [`Error::Model`] for a model that takes no classifier.
pub fn with_classes(files: &ModelFiles, classes: &[String], seed: u64) -> Result<ModelFiles> {
    let model = models::from_config(&files.config, files.checkpoint.index(), None)
        .and_then(models::AnyModel::vision)
        .map_err(|e| e.within(&files.name))?;
    let mut files = files.clone();
    let found = match model.info().classes {
        Some(_) => classifier(&*model)?,
        None => Vec::new(),
    };
    let heads: Vec<(String, Vec<usize>)> = if found.is_empty() {
        headless(&mut files, &*model)?
    } else {
        let dims = |name: &String| files.checkpoint.index().get(name).map_or(vec![], |s| s.dims().to_vec());
        found.iter().map(|name| (name.clone(), dims(name))).collect()
    };
    let tensors = heads.into_iter().map(|(name, mut dims)| {
        if let Some(rows) = dims.first_mut() {
            *rows = classes.len();
        }
        let mut random = Random::named(seed, &name);
        let deviation = if dims.len() > 1 { DEVIATION } else { 0.0 };
        let values =
            (0..dims.iter().product()).map(|_: usize| (deviation * random.normal()) as f32).collect();
        (name, HostTensor::f32(Shape::new(&dims), values))
    });
    let name = files.checkpoint.name().to_owned();
    files.checkpoint = files.checkpoint.with(&Checkpoint::from_tensors(&name, tensors)?);
    name_classes(&mut files.config, classes);
    Ok(files)
}

/// The tensors of the linear layers that a model's classes come from: two of a distilled DeiT.
///
/// # Errors
/// [`Error::Model`] if the model has none; shape errors of its graph.
pub fn classifier(model: &dyn Model) -> Result<Vec<String>> {
    let info = model.info();
    let mut g = Graph::new();
    let image =
        g.input("image", TensorDesc::f32([1, info.channels, info.image_size.height, info.image_size.width]));
    model.build(&mut g, image)?;
    let logits = g.outputs().iter().find(|(name, _)| name == "logits").map(|(_, v)| *v);
    let mut names = Vec::new();
    let mut waiting: Vec<Value> = logits.into_iter().collect();
    while let Some(v) = waiting.pop() {
        let node = g.node(v);
        let weights = node.inputs.iter().filter_map(|v| match &g.node(*v).op {
            Op::Weight(weight) => Some(&weight.parts),
            _ => None,
        });
        names.extend(weights.flatten().flat_map(Part::names).map(str::to_owned));
        if !matches!(node.op, Op::MatMul(_)) {
            waiting.extend(&node.inputs);
        }
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        let what = format!("{} has no classifier", info.architecture);
        return Err(Error::model(&info.architecture, what, "name the classes it is to learn"));
    }
    Ok(names)
}

/// Makes room for a classifier where there is none; its tensors, with a row each.
fn headless(files: &mut ModelFiles, model: &dyn Model) -> Result<Vec<(String, Vec<usize>)>> {
    let info = model.info();
    let family = files.config["model_type"].as_str().unwrap_or_default().to_owned();
    let known = ENCODERS.iter().find(|(model_type, ..)| *model_type == family);
    let (head, width) = match known {
        Some((_, prefix, class, times)) => {
            // transformers looks for an encoder's tensors under its name, unless there is nothing else.
            let under = |name: &str| {
                Some(if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") })
            };
            files.checkpoint = files
                .checkpoint
                .renamed(&|name| under(name).filter(|n| !n.starts_with(&format!("{prefix}pooler.dense"))));
            files.config["architectures"] = json!([class]);
            ("classifier", times * info.hidden)
        }
        None if files.config.get("architecture").is_some() => ("head", info.hidden),
        None => {
            let what = format!("{} takes no classifier here", info.architecture);
            return Err(Error::model(&files.name, what, "take a checkpoint that has one"));
        }
    };
    Ok(vec![(format!("{head}.weight"), vec![1, width]), (format!("{head}.bias"), vec![1])])
}

/// Names classes in a configuration, Hugging Face's or timm's.
fn name_classes(config: &mut Json, classes: &[String]) {
    let Some(object) = config.as_object_mut() else { return };
    if object.contains_key("architecture") {
        let n = json!(classes.len());
        for key in ["pretrained_cfg", "model_args"] {
            if let Some(inner) = object.get_mut(key).and_then(Json::as_object_mut) {
                inner.retain(|key, _| !key.starts_with("label_"));
                inner.insert("num_classes".to_owned(), n.clone());
            }
        }
        object.insert("num_classes".to_owned(), n);
        object.insert("label_names".to_owned(), json!(classes));
        object.remove("label_descriptions");
        return;
    }
    let numbered = || classes.iter().enumerate();
    let by_number: Map<String, Json> = numbered().map(|(i, class)| (i.to_string(), json!(class))).collect();
    let by_name: Map<String, Json> = numbered().map(|(i, class)| (class.clone(), json!(i))).collect();
    object.insert("id2label".to_owned(), by_number.into());
    object.insert("label2id".to_owned(), by_name.into());
    ["num_labels", "_num_labels", "problem_type"].iter().for_each(|key| drop(object.remove(*key)));
}
