//! A LoRA adapter to begin with: B is zero, so that the model answers as before, and A as PEFT draws it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::lora::{Lora, PREFIX, is_within};
use crate::error::{Error, Result};
use crate::graph::{Graph, Part, Transform};
use crate::models::TensorNames;
use crate::ops::Op;
use crate::printable::printable;
use crate::session::ModelFiles;
use crate::synthetic::vision::uniform;
use crate::tensor::{HostTensor, Shape};

/// What a new adapter is to be like.
#[derive(Debug, Clone)]
pub struct LoraWishes {
    /// What `base_model_name_or_path` says: the model, for who loads the adapter.
    pub base: String,
    /// Rank r.
    pub rank: usize,
    /// The product counts alpha / r times.
    pub alpha: f64,
    /// It counts alpha / sqrt(r) times instead.
    pub rank_stabilised: bool,
    /// Endings of names of linear layers, as PEFT's `target_modules`, in the spelling of transformers 5 or of the
    /// file; none for all but the heads.
    pub targets: Vec<String>,
    /// Endings of names of modules that are trained as a whole, as PEFT's `modules_to_save`: not from a dot on, so
    /// that `classifier` means `pre_classifier` too.
    pub modules_to_save: Vec<String>,
    /// Tensors of those by their names in the file that begin otherwise than the file has them: a head for other
    /// classes.
    pub initial: Vec<(String, HostTensor)>,
    /// What A is drawn by.
    pub seed: u64,
}

/// A new adapter for a model: `graph` is a pass of it, whose linear layers are those there are. Names are those of
/// transformers 5, which loads the base by them whatever its file says. A (r,K) is uniform within ±1/√K
/// (`kaiming_uniform_` with a = √5, as `nn.Linear` begins), the same for the same seed.
///
/// # Errors
/// [`Error::Usage`] for a rank of none, and for targets that name nothing.
pub fn fresh(files: &ModelFiles, graph: &Graph, wishes: &LoraWishes) -> Result<Lora> {
    if wishes.rank == 0 || !wishes.alpha.is_finite() {
        return Err(Error::usage("a rank is at least 1, and alpha a number", "usual are 8 and 16"));
    }
    let index = files.checkpoint.index();
    let names = TensorNames::new(&files.config, index).map_err(|e| e.within(&files.name))?;
    let module_of = |tensor: &str| names.current(tensor).trim_end_matches(".weight").to_owned();
    let layers = linear_layers(graph, &files.checkpoint);
    // A module that attends by itself reads its last layer's weight past the layer.
    let layers = layers.into_iter().filter(|(tensor, _)| {
        let inner = tensor.strip_suffix(".out_proj.weight").map(|module| format!("{module}.in_proj_weight"));
        !inner.is_some_and(|inner| index.contains_key(&inner))
    });
    let mut missed: BTreeSet<&str> =
        wishes.targets.iter().chain(&wishes.modules_to_save).map(String::as_str).collect();
    let mut chosen: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut turned = false;
    for (tensor, in_out) in layers {
        let (new, old) = (module_of(&tensor), tensor.trim_end_matches(".weight"));
        // What is trained as a whole has no factors.
        if wishes.modules_to_save.iter().any(|whole| *whole == new || whole == old) {
            continue;
        }
        let fits = wishes.targets.iter().filter(|t| ends(&new, t) || ends(old, t)).collect::<Vec<_>>();
        fits.iter().for_each(|t| _ = missed.remove(t.as_str()));
        let wanted = if wishes.targets.is_empty() { !names.is_head(&tensor) } else { !fits.is_empty() };
        if wanted && let Some(&[first, second]) = index.get(&tensor).map(Shape::dims) {
            turned |= in_out;
            chosen.insert(new, if in_out { [second, first] } else { [first, second] });
        }
    }
    let mut tensors: BTreeMap<String, HostTensor> = BTreeMap::new();
    for (module, [n, k]) in &chosen {
        let r = wishes.rank;
        let name = |factor: &str| format!("{PREFIX}{module}.{factor}.weight");
        // Of a uniform number up to 1/√K.
        let deviation = ((3 * k) as f32).sqrt().recip();
        let a = uniform(&format!("{} {}", wishes.seed, name("lora_A")), &[r, *k], deviation, 0.0);
        tensors.insert(name("lora_A"), HostTensor::f32([r, *k], a));
        tensors.insert(name("lora_B"), HostTensor::f32([*n, r], vec![0.0; n * r]));
    }
    let initial: BTreeMap<&str, &HostTensor> = wishes.initial.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let listed: BTreeSet<&str> = index.keys().map(String::as_str).chain(initial.keys().copied()).collect();
    for tensor in listed {
        let new = names.current(tensor);
        let [module, own] = [&new[..], tensor].map(|name| name.rsplit_once('.').map_or(name, |(m, _)| m));
        let within = |wish: &&String| [module, own].iter().any(|m| is_within(m, wish));
        let fits: Vec<&String> = wishes.modules_to_save.iter().filter(within).collect();
        if fits.is_empty() {
            continue;
        }
        fits.iter().for_each(|m| _ = missed.remove(m.as_str()));
        let value = match initial.get(tensor) {
            Some(value) => (*value).clone(),
            None => files.checkpoint.read(tensor)?,
        };
        tensors.insert(format!("{PREFIX}{new}"), value);
    }
    if let Some(missed) = missed.first() {
        let some: Vec<String> = chosen.keys().take(3).map(|name| printable(name)).collect();
        let what = format!("{} has no module `{}`", files.name, printable(missed));
        let help = match some.as_slice() {
            [] => "modules are named as transformers 5 does, by the ends of their names".to_owned(),
            some => format!("there are {} and more; the end of a name will do", some.join(", ")),
        };
        return Err(Error::usage(what, help));
    }
    let config = config(files, wishes, chosen.keys().collect(), turned);
    let checkpoint = Checkpoint::from_tensors("the new adapter", tensors)?;
    Lora::new("a new adapter".to_owned(), "its configuration", &config, checkpoint)
}

/// A model's files with a new adapter laid over them, whose classifier (the modules of these tensors) is trained as a
/// whole; `graph` is a pass of the model.
///
/// # Errors
/// As [`fresh`]; [`Error::Usage`] for a model that has an adapter already.
pub fn with_fresh(
    files: &ModelFiles,
    graph: &Graph,
    head: &[String],
    wishes: &LoraWishes,
) -> Result<ModelFiles> {
    if files.adapter.is_some() {
        let what = format!("{} has an adapter already, which is trained further as it is", files.name);
        return Err(Error::usage(what, "merge it into the model first, to train another"));
    }
    // In full: the last part of RoBERTa's `classifier.dense` would be every `dense`.
    let module =
        |tensor: &String| tensor.rsplit_once('.').map_or(tensor.as_str(), |(module, _)| module).to_owned();
    let modules: BTreeSet<String> = head.iter().map(module).collect();
    let wishes = LoraWishes { modules_to_save: modules.into_iter().collect(), ..wishes.clone() };
    files.clone().with_lora(&fresh(files, graph, &wishes)?)
}

/// What `adapter_config.json` is to say.
fn config(files: &ModelFiles, wishes: &LoraWishes, targets: Vec<&String>, turned: bool) -> Json {
    let class = files.config.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str);
    // Of classifiers it would have PEFT look for every head it knows in the file.
    let task = class.and_then(|class| {
        let tasks = [("LMHeadModel", "CAUSAL_LM"), ("ForConditionalGeneration", "SEQ_2_SEQ_LM")];
        tasks.iter().find(|(end, _)| class.ends_with(end)).map(|(_, task)| *task)
    });
    let saved = (!wishes.modules_to_save.is_empty()).then_some(&wishes.modules_to_save);
    json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": wishes.base,
        "r": wishes.rank,
        "lora_alpha": wishes.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "modules_to_save": saved,
        "bias": "none",
        "fan_in_fan_out": turned,
        "use_rslora": wishes.rank_stabilised,
        "use_dora": false,
        "init_lora_weights": true,
        "inference_mode": true,
    })
}

/// Tensors that only linear layers read, each as the weight of one or as rows joined with others, and whether they are
/// stored as (K,N).
fn linear_layers(graph: &Graph, checkpoint: &Checkpoint) -> BTreeMap<String, bool> {
    let mut layers = BTreeMap::new();
    let mut others: BTreeSet<&str> = BTreeSet::new();
    for node in graph.nodes() {
        for (at, input) in node.inputs.iter().enumerate() {
            let Op::Weight(weight) = &graph.nodes()[input.index()].op else { continue };
            for part in &weight.parts {
                match part {
                    Part::Tensor {
                        name,
                        transform: transform @ (Transform::None | Transform::Transpose),
                        ..
                    } if at == 1 && matches!(node.op, Op::MatMul(_)) && name.ends_with(".weight") => {
                        layers.insert(name.clone(), *transform == Transform::Transpose);
                    }
                    part => others.extend(part.names()),
                }
            }
        }
    }
    let matrix = |name: &str| checkpoint.index().get(name).is_some_and(|shape| shape.dims().len() == 2);
    layers.retain(|name, _| matrix(name) && !others.contains(name.as_str()));
    layers
}

/// Whether a module's name is, or ends in, this name, from a dot on.
fn ends(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}
