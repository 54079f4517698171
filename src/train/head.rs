//! A new head for a model of images or texts: a classifier with a row for each class or tag, a single score, the ends
//! of answers; in place of the one it has or where it has none, and a configuration that says so.

use serde_json::{Map, Value as Json, json};

use super::objective::LOGITS;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Part, Value};
use crate::labels::Labels;
use crate::models::generative::llamagen::CLASS_TABLE;
use crate::models::sequence::GeneratorInfo;
use crate::models::text::{Kind, Task, Text, TextModel, TextSizes};
use crate::models::{self, AnyModel, Model};
use crate::ops::Op;
use crate::printable::printable;
use crate::random::Random;
use crate::session::ModelFiles;
use crate::tensor::{HostTensor, Shape, TensorDesc};

/// Deviation of the weights of a new classifier, as timm and transformers begin.
const DEVIATION: f64 = 0.02;

/// What a new head is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head<'a> {
    /// Classes of images or texts.
    Classes(&'a [String]),
    /// Tags of words.
    Tags(&'a [String]),
    /// Where an answer begins and ends.
    Answers,
    /// A number.
    Score,
}

impl Head<'_> {
    fn rows(&self) -> usize {
        match self {
            Head::Classes(names) | Head::Tags(names) => names.len(),
            Head::Answers => 2,
            Head::Score => 1,
        }
    }

    /// What a model of texts is able to that has it.
    fn task(&self) -> Task {
        match self {
            Head::Classes(_) | Head::Score => Task::Classify,
            Head::Tags(_) => Task::Tag,
            Head::Answers => Task::Answer,
        }
    }
}

/// A family whose checkpoints without a head take one.
struct Bare {
    /// `model_type`.
    family: &'static str,
    /// What the head makes of the model.
    task: Task,
    /// What transformers puts in front of the encoder's tensors in such a file.
    prefix: &'static str,
    /// The class with this head.
    class: &'static str,
    /// Name of its linear layer, how many times the encoder's width it reads, and whether it has a bias.
    head: (&'static str, usize, bool),
    /// Starts of names, behind the prefix, of tensors that it does not have.
    dropped: &'static [&'static str],
}

const fn vision(family: &'static str, prefix: &'static str, class: &'static str, times: usize) -> Bare {
    let (task, head) = (Task::Classify, ("classifier", times, true));
    Bare { family, task, prefix, class, head, dropped: &["pooler.dense."] }
}

const fn tags(family: &'static str, prefix: &'static str, class: &'static str) -> Bare {
    Bare { family, task: Task::Tag, prefix, class, head: ("classifier", 1, true), dropped: HEADS }
}

const fn answers(family: &'static str, prefix: &'static str, class: &'static str) -> Bare {
    Bare { family, task: Task::Answer, prefix, class, head: ("qa_outputs", 1, true), dropped: HEADS }
}

/// Heads of encoders of texts, and what tags and answers do not read.
const HEADS: &[&str] =
    &["pooler.", "cls.", "qa_outputs.", "classifier.", "pre_classifier.", "lm_head.", "vocab_"];

const BARE: &[Bare] = &[
    vision("vit", "vit.", "ViTForImageClassification", 1),
    vision("deit", "deit.", "DeiTForImageClassification", 1),
    vision("beit", "beit.", "BeitForImageClassification", 1),
    vision("dinov2", "dinov2.", "Dinov2ForImageClassification", 2),
    vision("dinov2_with_registers", "dinov2_with_registers.", "Dinov2WithRegistersForImageClassification", 2),
    Bare {
        family: "bert",
        task: Task::Classify,
        prefix: "bert.",
        class: "BertForSequenceClassification",
        head: ("classifier", 1, true),
        dropped: &["cls.", "qa_outputs.", "classifier."],
    },
    tags("bert", "bert.", "BertForTokenClassification"),
    tags("distilbert", "distilbert.", "DistilBertForTokenClassification"),
    tags("roberta", "roberta.", "RobertaForTokenClassification"),
    answers("bert", "bert.", "BertForQuestionAnswering"),
    answers("distilbert", "distilbert.", "DistilBertForQuestionAnswering"),
    answers("roberta", "roberta.", "RobertaForQuestionAnswering"),
    Bare {
        family: "gpt2",
        task: Task::Classify,
        prefix: "transformer.",
        class: "GPT2ForSequenceClassification",
        head: ("score", 1, false),
        dropped: &["lm_head."],
    },
];

/// Where each of these classes stands in a model that has the same ones, in whatever order; `None` if it has others.
pub fn same_classes(files: &ModelFiles, own: Option<usize>, classes: &[String]) -> Option<Vec<u32>> {
    let known = Labels::from_config(&files.config, own?);
    let at = |class: &String| known.names.iter().position(|name| name == class);
    let places: Option<Vec<u32>> = classes.iter().map(|class| at(class).map(|i| i as u32)).collect();
    places.filter(|_| known.names.len() == classes.len())
}

/// The files of a model that tells classes apart with a new classifier for the same ones, as [`with_head`] draws it.
///
/// # Errors
/// [`Error::Model`] for a model without classes.
pub fn anew(files: &ModelFiles, seed: u64) -> Result<ModelFiles> {
    let model = models::from_config(&files.config, files.checkpoint.index(), None)
        .map_err(|e| e.within(&files.name))?;
    let (classes, tags) = match &model {
        AnyModel::Vision(model) => (model.info().classes, false),
        AnyModel::Text(model) => (model.info().classes, model.info().can(Task::Tag)),
        AnyModel::Generator(_) => (None, false),
    };
    let none =
        || Error::model(&files.name, "has no classifier to begin anew", "it gets one where it needs one");
    let known = Labels::from_config(&files.config, classes.ok_or_else(none)?);
    let head = if tags { Head::Tags(&known.names) } else { Head::Classes(&known.names) };
    with_head(files, &head, seed)
}

/// The files of a model of images or texts with a new head: weights of the normal distribution of deviation 0.02,
/// drawn by `seed`, and no bias.
///
/// # Errors
/// [`Error::Model`] for a model that takes no such head.
pub fn with_head(files: &ModelFiles, head: &Head, seed: u64) -> Result<ModelFiles> {
    let model = models::from_config(&files.config, files.checkpoint.index(), None)
        .map_err(|e| e.within(&files.name))?;
    if files.adapter.is_some() {
        let what = "has an adapter over it, whose head is not for what the data says";
        return Err(Error::model(&files.name, what, "merge the adapter into the model first"));
    }
    let mut files = files.clone();
    let (width, found) = match &model {
        AnyModel::Vision(model) => {
            let info = model.info();
            (info.hidden, info.classes.map(|_| classifier(&image_graph(&**model)?)).transpose()?)
        }
        AnyModel::Text(model) => {
            let info = model.info();
            let has = info.classes.is_some() && info.can(head.task());
            (info.hidden, has.then(|| classifier(&text_graph(&**model)?)).transpose()?)
        }
        AnyModel::Generator(_) => {
            let help = "take one that looks at images or reads texts";
            return Err(Error::model(&files.name, "a generator of images takes no classifier", help));
        }
    };
    let found = found.unwrap_or_default();
    let heads: Vec<(String, Vec<usize>)> = if found.is_empty() {
        headless(&mut files, width, head.task())?
    } else {
        let dims = |name: &String| files.checkpoint.index().get(name).map_or(vec![], |s| s.dims().to_vec());
        found.iter().map(|name| (name.clone(), dims(name))).collect()
    };
    let tensors = heads.into_iter().map(|(name, mut dims)| {
        if let Some(rows) = dims.first_mut() {
            *rows = head.rows();
        }
        let mut random = Random::named(seed, &name);
        let deviation = if dims.len() > 1 { DEVIATION } else { 0.0 };
        let values =
            (0..dims.iter().product()).map(|_: usize| (deviation * random.normal()) as f32).collect();
        (name, HostTensor::f32(Shape::new(&dims), values))
    });
    let name = files.checkpoint.name().to_owned();
    files.checkpoint = files.checkpoint.with(&Checkpoint::from_tensors(&name, tensors)?);
    match head {
        Head::Classes(names) | Head::Tags(names) => name_classes(&mut files.config, names),
        Head::Score => name_classes(&mut files.config, &["LABEL_0".to_owned()]),
        Head::Answers => {}
    }
    Ok(files)
}

/// The files of a generator of images with these names of its classes and, where they are `new` to it, a row for each in
/// the table that it begins with, drawn as LlamaGen begins; the row that stands for no class is kept, if there is one.
///
/// # Errors
/// [`Error::Model`] for a table that cannot be read.
pub(super) fn with_drawn_classes(
    files: &ModelFiles,
    info: &GeneratorInfo,
    classes: &[String],
    new: bool,
    seed: u64,
) -> Result<ModelFiles> {
    let mut files = files.clone();
    if new {
        let mut random = Random::named(seed, CLASS_TABLE);
        let rows = (classes.len() + 1) * info.hidden;
        let mut values: Vec<f32> = (0..rows).map(|_| (DEVIATION * random.normal()) as f32).collect();
        if info.guided {
            let old = files.checkpoint.read(CLASS_TABLE)?.to_f32();
            let kept = info.hidden.min(old.len());
            values[rows - kept..].copy_from_slice(&old[old.len() - kept..]);
        }
        let table = HostTensor::f32([classes.len() + 1, info.hidden], values);
        let name = files.checkpoint.name().to_owned();
        let table = Checkpoint::from_tensors(&name, [(CLASS_TABLE.to_owned(), table)])?;
        files.checkpoint = files.checkpoint.with(&table);
        if let Some(config) = files.config.as_object_mut() {
            config.insert("num_classes".to_owned(), json!(classes.len()));
        }
    }
    name_classes(&mut files.config, classes);
    Ok(files)
}

/// A vision model's graph for one image of its own size.
fn image_graph(model: &dyn Model) -> Result<Graph> {
    let (mut g, info) = (Graph::new(), model.info());
    let (height, width) = (info.image_size.height, info.image_size.width);
    let image = g.input("image", TensorDesc::f32([1, info.channels, height, width]));
    model.build(&mut g, image)?;
    Ok(g)
}

/// A text model's graph for one text of one token.
fn text_graph(model: &dyn TextModel) -> Result<Graph> {
    let mut g = Graph::new();
    let written = if model.info().kind == Kind::EncoderDecoder { 1 } else { 0 };
    let text = Text::declare(&mut g, TextSizes { batch: 1, tokens: 1, written, places: 1 });
    model.build(&mut g, &text)?;
    Ok(g)
}

/// The tensors of the linear layers that `logits` of a graph come from: two of a distilled DeiT.
///
/// # Errors
/// [`Error::Usage`] if it has none.
pub fn classifier(g: &Graph) -> Result<Vec<String>> {
    layers_of(g, &[LOGITS])
}

/// The tensors of the linear layers that outputs of a graph come from.
///
/// # Errors
/// [`Error::Usage`] if there are none.
pub fn layers_of(g: &Graph, outputs: &[&str]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let among = |name: &String| outputs.contains(&name.as_str());
    let mut waiting: Vec<Value> =
        g.outputs().iter().filter(|(name, _)| among(name)).map(|(_, v)| *v).collect();
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
        return Err(Error::usage("the model has no classifier", "name the classes it is to learn"));
    }
    Ok(names)
}

/// Makes room for a head where there is none; its tensors, with a row each.
fn headless(files: &mut ModelFiles, hidden: usize, task: Task) -> Result<Vec<(String, Vec<usize>)>> {
    let family = files.config["model_type"].as_str().unwrap_or_default();
    let Some(bare) = BARE.iter().find(|bare| bare.family == family && bare.task == task) else {
        if files.config.get("architecture").is_some() {
            return Ok(vec![("head.weight".to_owned(), vec![1, hidden]), ("head.bias".to_owned(), vec![1])]);
        }
        let what = format!("a model of type `{}` takes no new head for this", printable(family));
        return Err(Error::model(&files.name, what, "take a checkpoint that has one"));
    };
    // transformers looks for an encoder's tensors under its name, unless there is nothing else.
    let renamed = |name: &str| {
        let own = name.strip_prefix(bare.prefix).unwrap_or(name);
        let dropped = bare.dropped.iter().any(|start| own.starts_with(start));
        (!dropped).then(|| format!("{}{own}", bare.prefix))
    };
    files.checkpoint = files.checkpoint.renamed(&renamed);
    files.config["architectures"] = json!([bare.class]);
    let (head, times, bias) = bare.head;
    let bias = bias.then(|| (format!("{head}.bias"), vec![1]));
    Ok([(format!("{head}.weight"), vec![1, times * hidden])].into_iter().chain(bias).collect())
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
