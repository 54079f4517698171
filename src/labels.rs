//! What the classes of a model are called, and what its scores say of them ([`Scoring`]).
//!
//! A name may come from a Hugging Face configuration (`id2label`), from a timm configuration
//! (`label_names`, described by `label_descriptions`), or, for a model of timm of a thousand classes
//! that brings no names, from ImageNet-1k. Whatever the configuration holds, the result has exactly one
//! printable name for each class: gaps become `LABEL_i`, and what was wrong becomes a warning, never
//! an error. Class indices in a configuration never decide how much is allocated.

mod scoring;
mod search;

pub use scoring::{Score, Scoring};

use std::sync::OnceLock;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::printable::{is_unsafe, printable};

/// ImageNet-1k names; the file's own head says where they are from.
const IMAGENET: &str = include_str!("../assets/imagenet1k.txt");

/// Number of ImageNet-1k classes.
pub const IMAGENET_CLASSES: usize = 1000;

/// Characters kept of one name.
const MAX_CHARACTERS: usize = 300;

/// Where names came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelSource {
    /// The model's configuration.
    Config,
    /// The built-in ImageNet-1k list, because a model of timm has 1000 classes and no names.
    ImageNet,
    /// Made up: `LABEL_0`, `LABEL_1`, ...
    Numbers,
    /// Whoever asked: labels in words.
    Asked,
}

/// A name for every class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// One name a class, in class order.
    pub names: Vec<String>,
    /// Where they came from.
    pub source: LabelSource,
    /// What the outputs of the head say of the classes.
    pub scoring: Scoring,
    /// What was wrong with the configuration's names, for the user.
    pub warnings: Vec<String>,
}

impl Labels {
    /// Names for `classes` classes from a parsed `config.json`, Hugging Face's or timm's.
    pub fn from_config(config: &Value, classes: usize) -> Self {
        let mut warnings = Vec::new();
        let scoring = Scoring::from_config(config, classes, &mut warnings);
        let nested = config.get("pretrained_cfg");
        let field = |key: &str| config.get(key).or_else(|| nested?.get(key)).filter(|v| !v.is_null());
        let found = match (field("label_names"), field("id2label")) {
            (Some(names), _) => Some(timm(names, field("label_descriptions"), classes, &mut warnings)),
            (None, Some(map)) => Some(by_class("id2label", map, classes, &mut warnings)),
            (None, None) => None,
        };
        let absent = found.is_none();
        let found = found.unwrap_or_else(|| vec![None; classes]);
        let named =
            found.iter().enumerate().filter(|(i, n)| n.as_ref().is_some_and(|n| *n != generic(*i))).count();
        // As timm's own `ImageNetInfo` infers from the number of classes; elsewhere a thousand classes may be any.
        let of_timm = absent && config.get("architecture").is_some();
        if of_timm && classes == IMAGENET_CLASSES {
            warnings.push(
                "the configuration names no classes; those of ImageNet-1k are shown, as timm does".into(),
            );
            let names = imagenet_names().iter().map(|n| (*n).to_owned()).collect();
            return Self { names, source: LabelSource::ImageNet, scoring, warnings };
        }
        if absent && classes > 0 {
            warnings.push("the configuration names no classes; they are shown by number".into());
        }
        let given = found.iter().flatten().count();
        if given > 0 && given < classes {
            warnings.push(format!("{} of {classes} classes have no name", classes - given));
        }
        let names = found.into_iter().enumerate().map(|(i, n)| n.unwrap_or_else(|| generic(i))).collect();
        let source = if named > 0 { LabelSource::Config } else { LabelSource::Numbers };
        Self { names, source, scoring, warnings }
    }
}

/// A class of an input, and what the model says of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranked {
    /// Number of the class.
    pub index: usize,
    /// Its name.
    pub label: String,
    /// How probable it is; of heads without classes, the number that stands under its name.
    #[serde(flatten)]
    pub score: Score,
}

impl Labels {
    /// The `k` best classes by the outputs of the head (all if 0), the best first; equal ones by number.
    pub fn ranked(&self, logits: &[f32], k: usize) -> Vec<Ranked> {
        let scores = self.scoring.apply(logits);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        order.truncate(if k == 0 { logits.len() } else { k });
        let label = |i: usize| self.names.get(i).cloned().unwrap_or_else(|| generic(i));
        let ranked = |i| Ranked { index: i, label: label(i), score: self.scoring.score(scores[i]) };
        order.into_iter().map(ranked).collect()
    }
}

/// The name of ImageNet-1k class `k`: its WordNet lemmas, `tench, Tinca tinca`.
pub fn imagenet(k: usize) -> Option<&'static str> {
    imagenet_names().get(k).copied()
}

/// The first of several comma-separated lemmas: `tench`.
pub fn short(name: &str) -> &str {
    name.split_once(", ").map_or(name, |(first, _)| first)
}

fn imagenet_names() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| IMAGENET.lines().filter(|line| !line.starts_with('#')).collect())
}

fn generic(class: usize) -> String {
    format!("LABEL_{class}")
}

/// `{"0": "cat", ...}` or `["cat", ...]`, found under `field`.
fn by_class(field: &str, map: &Value, classes: usize, warnings: &mut Vec<String>) -> Vec<Option<String>> {
    let mut names = vec![None; classes];
    let mut skipped = Skipped::default();
    match map {
        Value::Object(map) => {
            for (key, name) in map {
                match key.trim().parse::<u64>() {
                    Ok(k) => place(&mut names, k, name, &mut skipped),
                    Err(_) => skipped.keys += 1,
                }
            }
        }
        Value::Array(list) => {
            for (k, name) in list.iter().enumerate() {
                place(&mut names, k as u64, name, &mut skipped);
            }
        }
        _ => warnings.push(format!("{field} is not a map of class names; it is ignored")),
    }
    skipped.report(field, classes, warnings);
    names
}

/// timm's form: names by class index (a list or a map), each shown by its description if it has one.
fn timm(
    list: &Value,
    descriptions: Option<&Value>,
    classes: usize,
    warnings: &mut Vec<String>,
) -> Vec<Option<String>> {
    let descriptions: Option<&Map<String, Value>> = descriptions.and_then(Value::as_object);
    let mut names = by_class("label_names", list, classes, warnings);
    for name in names.iter_mut().flatten() {
        if let Some(description) = descriptions.and_then(|d| d.get(name.as_str())).and_then(Value::as_str) {
            *name = clean(description);
        }
    }
    names
}

/// Entries that named no class.
#[derive(Default)]
struct Skipped {
    keys: usize,
    beyond: usize,
    values: usize,
}

impl Skipped {
    fn report(&self, field: &str, classes: usize, warnings: &mut Vec<String>) {
        let mut say = |n: usize, what: String| {
            if n > 0 {
                warnings.push(format!("{field}: {n} entries ignored, {what}"));
            }
        };
        say(self.keys, "their keys are not class numbers".into());
        say(self.beyond, format!("their keys are beyond the model's {classes} classes"));
        say(self.values, "their names are not text".into());
    }
}

fn place(names: &mut [Option<String>], k: u64, name: &Value, skipped: &mut Skipped) {
    let Some(slot) = usize::try_from(k).ok().and_then(|k| names.get_mut(k)) else {
        skipped.beyond += 1;
        return;
    };
    match name {
        Value::String(name) if !name.trim().is_empty() => *slot = Some(clean(name)),
        Value::Number(name) => *slot = Some(name.to_string()),
        _ => skipped.values += 1,
    }
}

/// A name that is safe to print in a table: no control characters, of bounded length.
fn clean(name: &str) -> String {
    let name: String = name.trim().chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    if name.chars().count() <= MAX_CHARACTERS { name } else { printable(&name) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn imagenet_list_is_whole_and_in_order() {
        assert_eq!(imagenet_names().len(), IMAGENET_CLASSES);
        assert_eq!(imagenet(0), Some("tench, Tinca tinca"));
        assert_eq!(imagenet(281), Some("tabby, tabby cat"));
        assert_eq!(imagenet(285), Some("Egyptian cat"));
        assert_eq!(imagenet(388), Some("giant panda, panda, panda bear, coon bear, Ailuropoda melanoleuca"));
        assert_eq!(imagenet(999), Some("toilet tissue, toilet paper, bathroom tissue"));
        assert_eq!(imagenet(1000), None);
        assert_eq!(short("tabby, tabby cat"), "tabby");
        assert_eq!(short("crane"), "crane");
    }

    #[test]
    fn id2label_as_it_should_be() {
        let labels = Labels::from_config(&json!({"id2label": {"1": "dog", "0": "cat"}}), 2);
        assert_eq!(labels.names, ["cat", "dog"]);
        assert_eq!((labels.source, labels.warnings.len()), (LabelSource::Config, 0));
    }

    #[test]
    fn id2label_missing_short_odd_or_huge() {
        let none = Labels::from_config(&json!({}), 3);
        assert_eq!(none.names, ["LABEL_0", "LABEL_1", "LABEL_2"]);
        assert_eq!((none.source, none.warnings.len()), (LabelSource::Numbers, 1));
        assert_eq!(Labels::from_config(&json!({}), 0).warnings.len(), 0);

        let short = Labels::from_config(&json!({"id2label": {"1": "dog"}}), 3);
        assert_eq!(short.names, ["LABEL_0", "dog", "LABEL_2"]);
        assert_eq!(short.warnings, ["2 of 3 classes have no name"]);

        let odd =
            Labels::from_config(&json!({"id2label": {"0": "cat", "one": "dog", "-1": "x", "1": {}}}), 2);
        assert_eq!(odd.names, ["cat", "LABEL_1"]);
        assert!(
            odd.warnings.iter().any(|w| w.contains("2 entries ignored, their keys are not class numbers"))
        );
        assert!(odd.warnings.iter().any(|w| w.contains("names are not text")));

        let huge = Labels::from_config(&json!({"id2label": {"0": "a", "18446744073709551615": "b"}}), 1);
        assert_eq!(huge.names, ["a"]);
        assert!(huge.warnings[0].contains("beyond the model's 1 classes"), "{:?}", huge.warnings);

        let wrong = Labels::from_config(&json!({"id2label": 7}), 1);
        assert_eq!(wrong.names, ["LABEL_0"]);
        assert_eq!(wrong.warnings.len(), 1);
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        let labels =
            Labels::from_config(&json!({"id2label": {"0": "a\u{1b}[31m\nb", "1": "x".repeat(100_000)}}), 2);
        assert_eq!(labels.names[0], "a [31m b");
        assert!(labels.names[1].chars().count() <= MAX_CHARACTERS);
    }

    #[test]
    fn imagenet_names_serve_models_of_timm_of_1000_classes_without_names() {
        let timm = json!({"architecture": "vit_tiny", "pretrained_cfg": {"num_classes": 1000}});
        let labels = Labels::from_config(&timm, 1000);
        assert_eq!(labels.source, LabelSource::ImageNet);
        assert_eq!(labels.names[207], "golden retriever");
        assert!(labels.warnings[0].contains("ImageNet"), "{:?}", labels.warnings);
        // A thousand classes of anything else may be any.
        let generic: Map<String, Value> =
            (0..1000).map(|i| (i.to_string(), json!(format!("LABEL_{i}")))).collect();
        for config in [json!({}), json!({"id2label": generic})] {
            let labels = Labels::from_config(&config, 1000);
            assert_eq!((labels.source, labels.names[207].as_str()), (LabelSource::Numbers, "LABEL_207"));
        }
        let own = Labels::from_config(&json!({"id2label": {"0": "defect"}}), 1000);
        assert_eq!((own.source, own.names[1].as_str()), (LabelSource::Config, "LABEL_1"));
        assert_eq!(Labels::from_config(&json!({}), 1001).source, LabelSource::Numbers);
    }

    #[test]
    fn best_first_and_adding_up() {
        let labels = Labels {
            names: vec![],
            source: LabelSource::Numbers,
            scoring: Scoring::Softmax,
            warnings: vec![],
        };
        let all = labels.ranked(&[1.0, 3.0, 3.0, -1000.0], 0);
        assert_eq!(all.iter().map(|p| p.index).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert!((all.iter().map(|p| p.score.value()).sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(all[0].label, "LABEL_1");
        assert_eq!(labels.ranked(&[1e38, -1e38], 9)[0].score, Score::Probability(1.0));
    }

    #[test]
    fn timm_names_and_descriptions() {
        let config = json!({
            "label_names": ["n01", "n02"],
            "label_descriptions": {"n01": "tench, Tinca tinca"},
        });
        assert_eq!(Labels::from_config(&config, 2).names, ["tench, Tinca tinca", "n02"]);
        let nested = json!({"pretrained_cfg": {"label_names": {"0": "rose"}}});
        let labels = Labels::from_config(&nested, 2);
        assert_eq!(labels.names, ["rose", "LABEL_1"]);
        let none = json!({"pretrained_cfg": {"label_names": null}});
        assert_eq!(Labels::from_config(&none, 1).names, ["LABEL_0"]);
    }
}
