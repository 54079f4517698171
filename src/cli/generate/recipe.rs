//! Everything that makes a sample what it is: written into PNG files, read from them, and
//! checked against the model before anything is drawn.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::classes;
use crate::cli::generate::args::{HowArgs, Keep, MAX_SCALE, MAX_TEMPERATURE, Order, Schedule, WhatArgs};
use crate::error::{Error, Result};
use crate::generate::{self, GeneratorInfo, Request};
use crate::labels::Labels;
use crate::ops::{Guidance, Sampling};
use crate::render::animation::KEYWORD;

/// Version of the text in PNG files.
const VERSION: u32 = 1;
/// Without `--class`, one sample of each class where there are at most so many.
const FEW_CLASSES: usize = 16;
/// Largest number of samples.
const MAX_SAMPLES: usize = 65_536;

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Its number, which chooses its random numbers.
    pub(crate) sample: usize,
    /// Its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<usize>,
    /// What the class is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// Samples and how they are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) version: u32,
    /// As `-m` named it.
    pub(crate) model: String,
    /// Storage type, `f32` or `f16`.
    pub(crate) dtype: String,
    pub(crate) seed: u64,
    pub(crate) temperature: f32,
    pub(crate) top_k: u32,
    pub(crate) top_p: f32,
    /// Absent where the model has no guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cfg_scale: Option<f32>,
    pub(crate) cfg_schedule: Schedule,
    pub(crate) order: Order,
    /// In how many steps, if several patches are drawn at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parallel: Option<u32>,
    pub(crate) samples: Vec<Subject>,
    /// The tokens that every sample begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) prime: Vec<u32>,
    /// Samples beside each other, if the user said how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) columns: Option<u32>,
    pub(crate) zoom: u32,
}

impl Recipe {
    /// What is asked for, of this model.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything that the model cannot do.
    pub(crate) fn new(
        (what, how): (&WhatArgs, &HowArgs),
        model: (String, String),
        info: &GeneratorInfo,
        labels: &Labels,
    ) -> Result<Self> {
        let named: Vec<usize> = match info.classes {
            Some(_) => what.class.iter().map(|c| classes::find(labels, c)).collect::<Result<_>>()?,
            None => match what.class.first() {
                Some(class) => {
                    let what = format!("--class {class}: {} has no classes", model.0);
                    return Err(Error::usage(what, "leave --class away; -n COUNT draws several pictures"));
                }
                None => Vec::new(),
            },
        };
        let classes = choose(&named, info.classes, what.count.map(|n| n as usize))?;
        let subject = |(sample, class): (usize, Option<usize>)| Subject {
            sample,
            class,
            name: class.and_then(|c| labels.names.get(c).cloned()),
        };
        if how.cfg_scale.is_some_and(|s| s != 1.0) && !info.guided {
            return Err(Error::usage(
                format!("--cfg-scale: {} was not trained for guidance", model.0),
                "leave --cfg-scale away",
            ));
        }
        if how.cfg_schedule.is_some() && !info.guided {
            return Err(Error::usage(
                format!("--cfg-schedule: {} was not trained for guidance", model.0),
                "leave --cfg-schedule away",
            ));
        }
        let defaults = &info.defaults;
        let usual_schedule = if defaults.rising { Schedule::Linear } else { Schedule::Constant };
        let usual_order = if info.any_order { Order::Random } else { Order::Raster };
        let recipe = Self {
            version: VERSION,
            model: model.0,
            dtype: model.1,
            seed: how.seed.unwrap_or_else(random_seed),
            temperature: how.temperature.unwrap_or(defaults.temperature),
            top_k: how.top_k.unwrap_or(defaults.top_k),
            top_p: how.top_p.unwrap_or(defaults.top_p),
            cfg_scale: info.guided.then(|| how.cfg_scale.unwrap_or(defaults.cfg_scale)),
            cfg_schedule: how.cfg_schedule.unwrap_or(usual_schedule),
            order: how.order.unwrap_or(usual_order),
            parallel: how.parallel,
            samples: classes.into_iter().enumerate().map(subject).collect(),
            prime: Vec::new(),
            columns: None,
            zoom: 1,
        };
        recipe.check(info)?;
        Ok(recipe)
    }

    /// What a PNG file holds.
    ///
    /// # Errors
    /// [`Error::Input`] if it is no PNG file, or holds nothing of the kind.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = &path.display();
        let wrong = &|what: String, help: &str| Error::input(name, what, help);
        let metadata =
            path.metadata().map_err(|e| wrong(format!("cannot be read: {e}"), "check the path"))?;
        if !metadata.is_file() {
            return Err(wrong("is not a regular file".into(), "name a PNG file"));
        }
        let file = File::open(path).map_err(|e| wrong(format!("cannot be read: {e}"), ""))?;
        let only = "only PNG files that `vit-gpu generate` wrote hold their settings";
        let reader = png::Decoder::new(BufReader::new(file)).read_info();
        let reader = reader.map_err(|e| wrong(format!("is no PNG file: {e}"), only))?;
        let chunk = reader.info().utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD);
        let text = chunk.and_then(|chunk| chunk.get_text().ok());
        let text = text.ok_or_else(|| wrong("holds no settings to make it again by".into(), only))?;
        let broken = &|e: String| wrong(format!("its settings cannot be used: {e}"), only);
        let recipe: Self = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        if recipe.version > VERSION {
            return Err(broken(format!("they are of version {}", recipe.version)));
        }
        let first = recipe.samples.first().map_or(0, |s| s.sample);
        let consecutive =
            recipe.samples.iter().enumerate().all(|(i, s)| s.sample.checked_sub(i) == Some(first));
        if recipe.samples.is_empty() || recipe.samples.len() > MAX_SAMPLES || !consecutive {
            return Err(broken("the samples are not numbered one after the other".into()));
        }
        if !(1..=64).contains(&recipe.zoom) || first >= u32::MAX as usize - MAX_SAMPLES {
            return Err(broken("a number is out of its range".into()));
        }
        Ok(recipe)
    }

    /// Whether this model can draw it.
    ///
    /// # Errors
    /// [`Error::Usage`] for what it cannot.
    pub(crate) fn check(&self, info: &GeneratorInfo) -> Result<()> {
        let refuse = |what: String, help: &str| Err(Error::usage(what, help));
        if !(0.0..=MAX_TEMPERATURE).contains(&self.temperature) {
            return refuse(
                format!("temperature {} is not from 0 to {MAX_TEMPERATURE}", self.temperature),
                "",
            );
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse(format!("top-p {} is not above 0 and at most 1", self.top_p), "");
        }
        if let Some(scale) = self.cfg_scale.filter(|s| !(0.0..=MAX_SCALE).contains(s)) {
            return refuse(format!("guidance scale {scale} is not from 0 to {MAX_SCALE}"), "");
        }
        for subject in &self.samples {
            match (subject.class, info.classes) {
                (Some(class), Some(classes)) if class < classes => {}
                (None, None) => {}
                (Some(class), _) => {
                    let what = format!("{} has no class {class}", self.model);
                    return refuse(what, "the file is of another model; pass it with -m");
                }
                (None, _) => {
                    let what = format!("{} draws by class, and the file names none", self.model);
                    return refuse(what, "the file is of another model; pass it with -m");
                }
            }
        }
        if self.order == Order::Random && !info.any_order {
            return refuse(
                format!("--order random: {} draws patches row by row only", self.model),
                "leave --order away; RandAR models draw in any order",
            );
        }
        if let Some(steps) = self.parallel {
            if !info.any_order {
                return refuse(
                    format!("--parallel {steps}: {} draws one patch at a time", self.model),
                    "leave --parallel away; RandAR models draw several",
                );
            }
            if !(2..=info.tokens).contains(&(steps as usize)) {
                let what = format!("--parallel {steps}: a picture has {} patches", info.tokens);
                return refuse(what, &format!("draw them in 2 to {} steps", info.tokens));
            }
        }
        if self.prime.len() >= info.tokens {
            let what =
                format!("{} tokens to begin with, and a picture has {}", self.prime.len(), info.tokens);
            return refuse(what, "keep less of the primer");
        }
        if let Some(id) = self.prime.iter().find(|id| **id as usize >= info.vocabulary) {
            let what = format!("token {id} to begin with: the model has {} tokens", info.vocabulary);
            return refuse(what, "the file is of another model; pass it with -m");
        }
        Ok(())
    }

    /// Rows of patches that are kept of a primer.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing were left to draw.
    pub(crate) fn kept_rows(keep: Keep, info: &GeneratorInfo) -> Result<usize> {
        let rows = info.grid[0];
        match keep {
            Keep::Rows(kept) if kept < rows => Ok(kept),
            Keep::Rows(kept) => {
                let what =
                    format!("--keep {kept}: a picture has {rows} rows of patches, and one must be left");
                Err(Error::usage(what, format!("keep 1 to {}", rows.saturating_sub(1))))
            }
            Keep::Part(part) => {
                let kept = (part * rows as f32).round() as usize;
                Ok(kept.clamp(1, rows.saturating_sub(1).max(1)))
            }
        }
    }

    /// The same for one of the samples alone.
    pub(crate) fn only(&self, sample: usize) -> Self {
        let samples = self.samples.get(sample).cloned().into_iter().collect();
        Self { samples, columns: None, ..self.clone() }
    }

    /// As the text of a PNG file.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys")
    }

    /// What the engine is asked for; `every` tokens it reports.
    pub(crate) fn request(&self, info: &GeneratorInfo, every: usize) -> Request {
        let last = self.cfg_scale.unwrap_or(1.0);
        let first = if self.cfg_schedule == Schedule::Linear { 1.0 } else { last };
        // RandAR's own schedule would reach the last scale one token after the last.
        let steps = if info.any_order { info.tokens } else { info.tokens.saturating_sub(1) };
        let places = u32::try_from(steps).unwrap_or(u32::MAX).max(1);
        Request {
            classes: self.samples.iter().map(|s| s.class).collect(),
            first: self.samples.first().map_or(0, |s| s.sample as u32),
            sampling: Sampling {
                seed: self.seed,
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                guidance: Guidance { first, last, places },
            },
            prime: self.prime.clone(),
            order: match self.order {
                Order::Raster => generate::Order::Raster,
                Order::Random => generate::Order::Random,
            },
            parallel: self.parallel.map(|steps| steps as usize),
            every,
        }
    }
}

/// The class of every sample.
fn choose(named: &[usize], classes: Option<usize>, count: Option<usize>) -> Result<Vec<Option<usize>>> {
    let total = count.unwrap_or(1).saturating_mul(named.len().max(1));
    if total > MAX_SAMPLES {
        let what = format!("{total} samples are too many");
        return Err(Error::usage(what, format!("draw at most {MAX_SAMPLES} at a time")));
    }
    Ok(match classes {
        Some(_) if !named.is_empty() => {
            named.iter().flat_map(|&class| std::iter::repeat_n(Some(class), count.unwrap_or(1))).collect()
        }
        Some(classes) => {
            let few = if classes <= FEW_CLASSES { classes } else { 1 };
            (0..count.unwrap_or(few)).map(|i| Some(i % classes.max(1))).collect()
        }
        None => vec![None; count.unwrap_or(1)],
    })
}

/// A seed that nobody chose, short enough to be typed again.
pub(super) fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish() >> 32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::render::animation;

    fn recipe() -> Recipe {
        let subject = |sample| Subject { sample, class: Some(3), name: Some("Größe \"x\"".into()) };
        Recipe {
            version: VERSION,
            model: "models/größe".into(),
            dtype: "f32".into(),
            seed: u64::MAX,
            temperature: 0.1,
            top_k: 7,
            top_p: 0.95,
            cfg_scale: Some(1.75),
            cfg_schedule: Schedule::Linear,
            order: Order::Raster,
            parallel: Some(88),
            samples: vec![subject(4), subject(5)],
            prime: vec![1, 2, 16_383],
            columns: Some(2),
            zoom: 3,
        }
    }

    fn written(text: Option<&str>) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let picture = image::RgbImage::new(2, 2);
        std::fs::write(&path, animation::still(&picture, text).unwrap()).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_written_is_read() {
        let recipe = recipe();
        let (_folder, path) = written(Some(&recipe.text()));
        assert_eq!(Recipe::read(&path).unwrap(), recipe);
        assert_eq!(recipe.only(1).samples, recipe.samples[1..]);
        let plain = Recipe { prime: vec![], columns: None, cfg_scale: None, parallel: None, ..recipe };
        let (_folder, path) = written(Some(&plain.text()));
        assert_eq!(Recipe::read(&path).unwrap(), plain);
    }

    #[test]
    fn other_files_are_refused() {
        let changed = |change: fn(&mut Recipe)| {
            let mut recipe = recipe();
            change(&mut recipe);
            recipe.text()
        };
        let cases = [
            (None, "holds no settings"),
            (Some("[]".to_owned()), "cannot be used"),
            (Some("{\"version\": 1}".to_owned()), "cannot be used"),
            (Some(changed(|r| r.version = 9)), "version 9"),
            (Some(changed(|r| r.samples.clear())), "not numbered"),
            (Some(changed(|r| r.samples[1].sample = 9)), "not numbered"),
            (Some(changed(|r| r.zoom = 1000)), "out of its range"),
        ];
        for (text, says) in cases {
            let (_folder, path) = written(text.as_deref());
            let e = Recipe::read(&path).unwrap_err();
            assert!(matches!(&e, Error::Input { what, .. } if what.contains(says)), "{e}");
        }
        assert!(Recipe::read(Path::new("Cargo.toml")).unwrap_err().to_string().contains("no PNG file"));
        assert!(Recipe::read(Path::new("src")).is_err() && Recipe::read(Path::new("nope.png")).is_err());
    }

    #[test]
    fn who_is_drawn() {
        assert_eq!(choose(&[], Some(3), None).unwrap(), [Some(0), Some(1), Some(2)]);
        assert_eq!(choose(&[], Some(1000), None).unwrap(), [Some(0)]);
        assert_eq!(choose(&[], Some(3), Some(4)).unwrap(), [Some(0), Some(1), Some(2), Some(0)]);
        assert_eq!(choose(&[2, 1], Some(3), Some(2)).unwrap(), [Some(2), Some(2), Some(1), Some(1)]);
        assert_eq!(choose(&[], None, Some(2)).unwrap(), [None, None]);
        assert!(choose(&[0; 70_000], Some(3), None).is_err());
    }
}
