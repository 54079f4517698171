//! Labels in words: each is put into templates, the vectors of its texts are averaged, and what results is the head
//! of a classifier.

use super::{DualEncoder, unit};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::labels::{LabelSource, Labels};
use crate::models::zero_shot::{BIAS, GAIN, WEIGHT, ZeroShot};
use crate::printable::printable;
use crate::session::Session;
use crate::tensor::HostTensor;
use crate::text::TooLong;

/// The 80 templates by which CLIP was measured on ImageNet (Radford et al. 2021).
pub const IMAGENET_TEMPLATES: &str = include_str!("../../assets/imagenet-templates.txt");

/// Stands for the label in a template.
const SLOT: &str = "{}";

/// How labels become texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wording {
    templates: Vec<String>,
}

impl Default for Wording {
    /// Labels are texts themselves.
    fn default() -> Self {
        Self { templates: vec![SLOT.to_owned()] }
    }
}

impl Wording {
    /// Templates in which `{}` stands for the label; several are averaged.
    ///
    /// # Errors
    /// [`Error::Usage`] for none, and for one without `{}`.
    pub fn new(templates: impl IntoIterator<Item = String>) -> Result<Self> {
        let templates: Vec<String> = templates.into_iter().collect();
        if templates.is_empty() {
            return Err(Error::usage("there is no template", "pass at least one, as \"a photo of a {}.\""));
        }
        match templates.iter().find(|template| !template.contains(SLOT)) {
            None => Ok(Self { templates }),
            Some(bad) => {
                let what = format!("the template \"{}\" has no {SLOT} for the label", printable(bad));
                Err(Error::usage(what, "write it as in \"a photo of a {}.\""))
            }
        }
    }

    /// [`IMAGENET_TEMPLATES`].
    pub fn imagenet() -> Self {
        let lines = IMAGENET_TEMPLATES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self { templates: lines.map(str::to_owned).collect() }
    }

    /// The texts of a label.
    pub fn texts(&self, label: &str) -> Vec<String> {
        self.templates.iter().map(|template| template.replace(SLOT, label)).collect()
    }
}

impl DualEncoder {
    /// A vector of length 1 for each label: the mean of those of its texts.
    ///
    /// # Errors
    /// [`Error::Usage`] for no labels, an empty one, one that stands twice, or one that is too long; device errors.
    pub fn embed_labels(
        &self,
        labels: &[String],
        wording: &Wording,
        too_long: TooLong,
    ) -> Result<Vec<Vec<f32>>> {
        check(labels)?;
        let texts: Vec<String> = labels.iter().flat_map(|label| wording.texts(label)).collect();
        // So that a message names the label: what is too long is found before anything runs.
        let per = wording.templates.len();
        for (i, text) in texts.iter().enumerate() {
            self.texts.encode((text, None), too_long).map_err(|e| match e {
                Error::Usage { what, help } => {
                    Error::Usage { what: format!("label \"{}\": {what}", printable(&labels[i / per])), help }
                }
                other => other,
            })?;
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = self.embed_texts(&texts, too_long)?;
        let means = vectors.chunks(per).map(|of_label| {
            let mut sum = vec![0.0f32; self.matching.width];
            for vector in of_label {
                sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x / per as f32);
            }
            unit(&sum)
        });
        Ok(means.collect())
    }

    /// A classifier of images by these labels: any image costs what it costs to embed, and a product.
    ///
    /// # Errors
    /// As [`DualEncoder::embed_labels`].
    pub fn into_classifier(
        self,
        labels: Vec<String>,
        wording: &Wording,
        too_long: TooLong,
    ) -> Result<Session> {
        let rows = self.embed_labels(&labels, wording, too_long)?;
        let (k, e, matching) = (rows.len(), self.matching.width, self.matching);
        let gain = (f64::from(matching.scale) / (e as f64).sqrt()) as f32;
        let tensors = [
            (GAIN.to_owned(), HostTensor::f32([e], vec![gain; e])),
            (WEIGHT.to_owned(), HostTensor::f32([k, e], rows.concat())),
            (BIAS.to_owned(), HostTensor::f32([k], vec![matching.bias; k])),
        ];
        let tensors = Checkpoint::from_tensors("the labels", tensors)?;
        let labels =
            Labels { names: labels, source: LabelSource::Asked, scoring: matching.scoring, warnings: vec![] };
        let wrap = |tower| Box::new(ZeroShot::new(tower, [k, e])) as Box<_>;
        Ok(self.images.wrapped(wrap, labels, &tensors))
    }
}

/// Fails for labels that say nothing, or the same twice.
fn check(labels: &[String]) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::usage("there are no labels", "pass at least one"));
    }
    if let Some(at) = labels.iter().position(|label| label.trim().is_empty()) {
        return Err(Error::usage(format!("label {} is empty", at + 1), "write words, or leave it away"));
    }
    let mut seen = std::collections::BTreeSet::new();
    match labels.iter().find(|label| !seen.insert(label.trim())) {
        None => Ok(()),
        Some(label) => {
            let what = format!("the label \"{}\" stands twice", printable(label));
            Err(Error::usage(what, "name each label once"))
        }
    }
}
