//! Which checkpoint tensor stands for which parameter.
//!
//! The same parameter is `vit.encoder.layer.0.…` in one file, `encoder.layer.0.…` in the next and
//! `layers.0.…` in a third. [`Names`] brings every name of the file to one canonical form: known
//! prefixes are stripped from the front, and newer spellings are replaced by the ones that files
//! usually have. Models speak canonical names only. [`Names::check`] then compares a built graph
//! with the file: missing tensors (with near names), wrong shapes, tensors nobody reads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::fields::Fields;
use super::naming::{Naming, wrappers};
use super::sequence::{ImageDecoder, New, Sequence};
use super::text::{Kind, Text, TextModel, TextSizes};
use super::{Model, ModelInfo};
use crate::error::{Error, Result};
use crate::graph::{Graph, Part, TensorIndex, Transform, Value, Weight};
use crate::ops::Op;
use crate::tensor::{Shape, Size, TensorDesc};

/// What errors about tensors call the checkpoint.
const FILE: &str = "checkpoint";
/// How many missing tensors an error lists.
const LISTED: usize = 5;
/// Names that are looked at for a near one, and their longest length: a header may be hostile.
const NEAR_CANDIDATES: usize = 20_000;
const NEAR_LENGTH: usize = 256;
/// Longest prefix that is given to names of missing tensors.
const PREFIX_LENGTH: usize = 64;
/// Longest dimension of a tensor that a model is sized by.
const MAX_DIMENSION: usize = 1 << 20;

/// Buffers and task parts that any file may hold and no encoder needs: endings of names.
const BUFFERS: &[&str] = &[
    "position_ids",
    "relative_position_index",
    "num_batches_tracked",
    "codebook_used",
    "freqs_cis",
    ".attn.bias",
    "masked_bias",
    "mask_token",
    "logit_scale",
    "logit_bias",
];

/// Canonical names of a checkpoint's tensors.
pub(crate) struct Names {
    /// Canonical name to name in the file, and shape.
    tensors: BTreeMap<String, (String, Shape)>,
    /// Canonical name and name in the file of tensors that are left aside for another of the same canonical
    /// name.
    shadowed: Vec<(String, String)>,
    /// What most names of the file start with: makes the names of missing tensors look right.
    prefix: String,
    /// Starts of canonical names that this family knowingly leaves aside.
    ignored: &'static [&'static str],
}

impl Names {
    /// Names of `index`, brought to canonical form by a family's naming.
    pub(crate) fn new(index: &TensorIndex, naming: &Naming) -> Self {
        let mut tensors: BTreeMap<String, (String, Shape)> = BTreeMap::new();
        let mut prefix_counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shadowed = Vec::new();
        for (name, &shape) in index {
            let (prefix, canonical) = naming.canonical(name);
            // Two names may fall together: the one that no wrapper prefixed is what the original reads, and of
            // `beit.layernorm` and `layernorm` the prefixed one is the encoder's.
            let rank = |name: &str, prefix: &str| (Reverse(wrappers(prefix)), name.len());
            match tensors.get(&canonical) {
                Some((other, _)) if rank(name, prefix) <= rank(other, naming.canonical(other).0) => {
                    shadowed.push((canonical, name.clone()));
                }
                _ => {
                    let before = tensors.insert(canonical.clone(), (name.clone(), shape));
                    shadowed.extend(before.map(|(name, _)| (canonical, name)));
                }
            }
            *prefix_counts.entry(prefix).or_default() += 1;
        }
        // It is put before the names of all missing tensors, so a hostile one must not be long.
        let short = prefix_counts.into_iter().filter(|(p, _)| p.len() <= PREFIX_LENGTH);
        let prefix = short.max_by_key(|(_, n)| *n).map_or("", |(p, _)| p);
        Self { tensors, shadowed, prefix: prefix.to_owned(), ignored: naming.ignored }
    }

    /// True if the file has this tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// True if the file has a tensor whose canonical name starts so.
    pub(crate) fn has_any(&self, start: &str) -> bool {
        self.tensors.range(start.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(start))
    }

    /// Dimensions of a tensor of the file, for models that are sized by them. A dimension beyond
    /// belief (a tensor without elements may claim any) counts as unknown; what the model needs
    /// instead is then compared in [`Names::check`].
    pub(crate) fn dims(&self, name: &str) -> Option<&[usize]> {
        let dims = self.tensors.get(name).map(|(_, shape)| shape.dims());
        dims.filter(|dims| dims.iter().all(|d| *d <= MAX_DIMENSION))
    }

    /// The name the file uses, or would use if it had the tensor.
    pub(crate) fn in_file(&self, name: &str) -> String {
        self.tensors.get(name).map_or_else(|| format!("{}{name}", self.prefix), |(actual, _)| actual.clone())
    }

    /// Names in the file.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.tensors.values().map(|(name, _)| name.as_str())
    }

    /// The whole tensor as a weight.
    pub(crate) fn weight(&self, name: &str) -> Weight {
        Weight::tensor(self.in_file(name))
    }

    /// Number of layers in the file: one more than the largest number right after `stem`.
    pub(crate) fn layers(&self, stem: &str) -> usize {
        let number = |name: &str| name.strip_prefix(stem)?.split('.').next()?.parse::<usize>().ok();
        self.tensors.keys().filter_map(|name| number(name)).max().map_or(0, |last| last.saturating_add(1))
    }

    /// Fails unless a tensor, if present, has exactly these dimensions.
    pub(crate) fn expect(&self, name: &str, want: &[usize], fields: &Fields) -> Result<()> {
        match self.tensors.get(name) {
            Some((actual, shape)) if shape.dims() != want => Err(misfit(actual, shape.dims(), want, fields)),
            _ => Ok(()),
        }
    }

    /// Builds the model for its own image size and compares every weight with the file.
    /// Returns the number of parameters and the warnings.
    ///
    /// # Errors
    /// [`Error::Model`] listing missing tensors, or naming the first whose shape does not fit.
    pub(crate) fn check(&self, model: &dyn Model, fields: &Fields) -> Result<(u64, Vec<String>)> {
        let ModelInfo { channels, image_size: Size { height: h, width: w }, .. } = *model.info();
        let mut g = Graph::new();
        let image = g.input("image", TensorDesc::f32([1, channels, h, w]));
        let built = model.build(&mut g, image);
        self.check_graph(&g, built, fields)
    }

    /// As [`Names::check`], for a model that makes tokens.
    ///
    /// # Errors
    /// As [`Names::check`].
    pub(crate) fn check_decoder(
        &self,
        model: &dyn ImageDecoder,
        fields: &Fields,
    ) -> Result<(u64, Vec<String>)> {
        let mut g = Graph::new();
        // A prompt of one token names every weight there is.
        let new = New::Prompt(1.min(model.info().tokens - 1));
        let sequence = Sequence::declare(&mut g, model.info().extent(1, false), new);
        let built = model.build(&mut g, &sequence, new).map(|x| {
            model.head(&mut g, x);
        });
        self.check_graph(&g, built, fields)
    }

    /// As [`Names::check`], for a model of texts.
    ///
    /// # Errors
    /// As [`Names::check`].
    pub(crate) fn check_text(&self, model: &dyn TextModel, fields: &Fields) -> Result<(u64, Vec<String>)> {
        let mut g = Graph::new();
        let written = if model.info().kind == Kind::EncoderDecoder { 1 } else { 0 };
        let text = Text::declare(&mut g, TextSizes { batch: 1, tokens: 1, written, places: 1 });
        let built = model.build(&mut g, &text);
        self.check_graph(&g, built, fields)
    }

    /// Compares every weight of a graph with the file; `built` is what building it gave, and is
    /// returned if nothing is missing. Returns the number of parameters and the warnings.
    ///
    /// # Errors
    /// As [`Names::check`].
    pub(crate) fn check_graph(
        &self,
        g: &Graph,
        built: Result<()>,
        fields: &Fields,
    ) -> Result<(u64, Vec<String>)> {
        let shapes: BTreeMap<&str, Shape> = self.tensors.values().map(|(n, s)| (n.as_str(), *s)).collect();
        let mut used = BTreeSet::new();
        // In graph order, each once; a set, because a deep model beside a strange file misses thousands.
        let mut missing = Vec::new();
        let mut missed = BTreeSet::new();
        let mut sliced: BTreeMap<&str, (usize, usize, bool)> = BTreeMap::new();
        for node in g.nodes() {
            let Op::Weight(weight) = &node.op else { continue };
            for part in &weight.parts {
                let names = part.names();
                let lost = names.iter().copied().filter(|name| !shapes.contains_key(name));
                let lost: Vec<&str> = lost.collect();
                missing.extend(lost.iter().filter(|name| missed.insert(**name)).map(|n| (*n).to_owned()));
                if !lost.is_empty() {
                    continue;
                }
                used.extend(names.iter().copied());
                let Part::Tensor { name, rows, transform } = part else {
                    for name in names {
                        let vector = [node.desc.shape.dims()[0]];
                        let kernel = shapes[name].dims().len() == 4;
                        let want = if kernel { node.desc.shape.dims() } else { &vector };
                        check_shape(name, &shapes[name], want, fields)?;
                    }
                    continue;
                };
                let shape = &shapes[name.as_str()];
                let inner: usize = node.desc.shape.dims().iter().skip(1).product();
                match rows {
                    Some(rows) => {
                        let turned = *transform == Transform::Transpose;
                        let reach = sliced.entry(name).or_insert((0, inner, turned));
                        reach.0 = reach.0.max(rows.end);
                    }
                    None => {
                        let want = wanted(transform, &node.desc.shape, weight.parts.len());
                        check_shape(name, shape, &want, fields)?;
                    }
                }
            }
        }
        if !missing.is_empty() {
            return Err(self.missing(&missing, &used));
        }
        for (name, (rows, inner, turned)) in sliced {
            let want = match turned {
                true => vec![inner, rows],
                false if inner == 1 && shapes[name].dims().len() == 1 => vec![rows],
                false => vec![rows, inner],
            };
            check_shape(name, &shapes[name], &want, fields)?;
        }
        built?;
        g.check()?;
        let parameters = used.iter().map(|&name| shapes[name].elements() as u64).sum();
        Ok((parameters, self.unused(&used)))
    }

    fn missing(&self, missing: &[String], used: &BTreeSet<&str>) -> Error {
        let mut free: Vec<&str> = self.tensors.values().map(|(n, _)| n.as_str()).collect();
        free.retain(|name| !used.contains(name));
        let listed: Vec<String> = missing
            .iter()
            .take(LISTED)
            .map(|name| match nearest(name, &free) {
                Some(near) => format!("`{name}` (the file has `{near}`)"),
                None => format!("`{name}`"),
            })
            .collect();
        let more = missing.len().saturating_sub(LISTED);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = match missing.len() {
            1 => format!("a tensor is missing: {}", listed[0]),
            n => format!("{n} tensors are missing: {}{tail}", listed.join(", ")),
        };
        let hint = if used.is_empty() {
            "the weights are of another family than `config.json` says"
        } else {
            "the download may be incomplete, or `config.json` belongs to another checkpoint"
        };
        Error::model(FILE, what, hint)
    }

    fn unused(&self, used: &BTreeSet<&str>) -> Vec<String> {
        let aside = |canonical: &str, actual: &str| {
            let known = |end: &&str| canonical.ends_with(*end);
            used.contains(actual)
                || BUFFERS.iter().any(known)
                || self.ignored.iter().any(|start| canonical.starts_with(start))
        };
        let left: Vec<&str> = self
            .tensors
            .iter()
            .filter(|(canonical, (actual, _))| !aside(canonical, actual))
            .map(|(_, (actual, _))| actual.as_str())
            .collect();
        let mut warnings = Vec::new();
        // One norm may have two names; more are a second set of weights.
        if self.shadowed.len() > 2 {
            let (n, (canonical, first)) = (self.shadowed.len(), &self.shadowed[0]);
            let read = self.in_file(canonical);
            warnings.push(format!(
                "{n} tensors are in the checkpoint twice: those named like `{read}` are read, those like \
                 `{first}` are not"
            ));
        }
        if left.is_empty() {
            return warnings;
        }
        let shown = left[..left.len().min(LISTED)].join(", ");
        let tail = if left.len() > LISTED { ", …" } else { "" };
        warnings.push(format!("{} tensors of the checkpoint are not used: {shown}{tail}", left.len()));
        warnings
    }
}

/// Builders that take a canonical name, beside those of `ops` that take values.
impl Names {
    /// Linear layer `name.weight`, and `name.bias` if it has one. x: (…, K); returns (…, out).
    pub(crate) fn linear(&self, g: &mut Graph, x: Value, name: &str, out: usize, bias: bool) -> Value {
        let inner = g.shape(x).width();
        let weight = self.value(g, &format!("{name}.weight"), [out, inner]);
        let bias = bias.then(|| self.value(g, &format!("{name}.bias"), [out]));
        g.linear(x, weight, bias)
    }

    /// Layer norm with `name.weight` and `name.bias`. x: (…, C).
    pub(crate) fn layer_norm(&self, g: &mut Graph, x: Value, name: &str, eps: f32) -> Value {
        let width = g.shape(x).width();
        let [gain, bias] = ["weight", "bias"].map(|part| self.value(g, &format!("{name}.{part}"), [width]));
        g.layer_norm(x, gain, bias, eps)
    }

    /// RMS norm with `name.weight`. x: (…, C).
    pub(crate) fn rms_norm(&self, g: &mut Graph, x: Value, name: &str, eps: f32) -> Value {
        let width = g.shape(x).width();
        let gain = self.value(g, &format!("{name}.weight"), [width]);
        g.rms_norm(x, gain, eps)
    }

    /// The whole tensor of that name.
    pub(crate) fn value(&self, g: &mut Graph, name: &str, shape: impl Into<Shape>) -> Value {
        g.weight(self.weight(name), shape)
    }
}

/// Dimensions that a tensor must have to serve as a weight of shape `node`.
fn wanted(transform: &Transform, node: &Shape, parts: usize) -> Vec<usize> {
    let mut dims = node.dims().to_vec();
    match transform {
        Transform::Positions { prefix, from, .. } => dims[0] = prefix + from[0] * from[1],
        Transform::RelativeBias { from: [h, w], .. } => {
            return vec![(2 * h - 1) * (2 * w - 1) + 3, dims[0]];
        }
        Transform::DistanceBias { buckets, .. } => return vec![*buckets, dims[0]],
        Transform::Transpose => dims.swap(0, 1),
        Transform::HalfSquares { width } => dims.push(*width),
        Transform::Taps | Transform::FromTaps { .. } | Transform::StandardTaps(_) | Transform::UnitRows => {}
        // Joined parts are of equal size.
        Transform::None if parts > 1 => dims[0] /= parts,
        Transform::None => {}
    }
    dims
}

/// Equal up to leading ones, and up to how the dimensions after the first are grouped.
fn check_shape(name: &str, shape: &Shape, want: &[usize], fields: &Fields) -> Result<()> {
    let trim = |dims: &[usize]| {
        let ones = dims.iter().take_while(|&&d| d == 1).count();
        let dims = dims[ones..].to_vec();
        (dims.first().copied().unwrap_or(1), dims.iter().product::<usize>())
    };
    if trim(shape.dims()) == trim(want) { Ok(()) } else { Err(misfit(name, shape.dims(), want, fields)) }
}

fn misfit(name: &str, have: &[usize], want: &[usize], fields: &Fields) -> Error {
    let differing: Vec<usize> = want.iter().copied().filter(|d| !have.contains(d)).collect();
    Error::model(
        FILE,
        format!("tensor `{name}` has shape {have:?}, the model needs {want:?}"),
        fields.hint(if differing.is_empty() { want } else { &differing }),
    )
}

/// The name that differs by a prefix only, else the one of smallest edit distance, if that is near
/// enough to be a misspelling.
pub(super) fn nearest<'a>(name: &str, among: &[&'a str]) -> Option<&'a str> {
    let bare = name.split_once('.').map_or(name, |(_, rest)| rest);
    if let Some(other) = among.iter().find(|o| o.ends_with(name) || o.ends_with(bare)) {
        return Some(other);
    }
    let limit = name.len() / 3;
    let near = among
        .iter()
        .take(NEAR_CANDIDATES)
        .filter(|o| o.len() <= NEAR_LENGTH && o.len().abs_diff(name.len()) <= limit);
    near.map(|o| (strsim::levenshtein(name, o), *o)).filter(|(d, _)| *d <= limit).min().map(|(_, o)| o)
}
