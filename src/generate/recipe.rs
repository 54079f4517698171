//! Everything that makes a sample what it is: written into PNG files, read from them, and
//! checked against the model before anything is drawn.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::GeneratorInfo;
use super::request::{Order, Request};
use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::ops::{Guidance, Sampling};

/// Keyword of the text in PNG files that a recipe is kept in.
pub const KEYWORD: &str = "vit-gpu";
/// Highest temperature: all tokens are as good as equally likely long before.
pub const MAX_TEMPERATURE: f32 = 100.0;
/// Strongest guidance.
pub const MAX_SCALE: f32 = 100.0;
/// Version of the text in PNG files.
const VERSION: u32 = 1;
/// Where no class is named, one sample of each where there are at most so many.
const FEW_CLASSES: usize = 16;
/// Largest number of samples.
const MAX_SAMPLES: usize = 65_536;

/// What a user says of samples; where nothing is said, as the model's authors did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// Classes by number; none is all in turn, if the model has classes.
    pub classes: Vec<usize>,
    /// Samples of each class that is named.
    pub count: Option<usize>,
    /// Seed of all random numbers.
    pub seed: Option<u64>,
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: Option<f32>,
    /// Only so many likeliest tokens; 0 for all.
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that make up this part of the probability.
    pub top_p: Option<f32>,
    /// Scale of classifier-free guidance; 1 is none.
    pub cfg_scale: Option<f32>,
    /// Guidance from the first token to the last.
    pub cfg_schedule: Option<Schedule>,
    /// Order of the patches.
    pub order: Option<Order>,
    /// In how many steps, several patches at a time.
    pub steps: Option<u32>,
}

/// Guidance from the first token to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same for every token.
    Constant,
    /// From 1 at the first token to the scale at the last.
    Linear,
}

/// How much of an image to begin with is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Keep {
    /// Rows of patches.
    Rows(usize),
    /// A part of the image's height, above 0 and below 1.
    Part(f32),
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its number, which chooses its random numbers.
    pub sample: usize,
    /// Its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// What the class is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Samples and how they are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Of the text.
    pub version: u32,
    /// As the user named it; what lies on disk begins as a path does, so that it never names a hub's model.
    pub model: String,
    /// By which its weights are known again ([`crate::checkpoint::Checkpoint::fingerprint`]); older files have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Storage type, `f32` or `f16`.
    pub dtype: String,
    /// See [`Wishes`], as the next ones.
    pub seed: u64,
    /// Temperature.
    pub temperature: f32,
    /// Likeliest tokens.
    pub top_k: u32,
    /// Part of the probability.
    pub top_p: f32,
    /// Absent where the model has no guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cfg_scale: Option<f32>,
    /// Schedule of guidance.
    pub cfg_schedule: Schedule,
    /// Order of patches.
    pub order: Order,
    /// In how many steps, if several patches are drawn at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Numbered one after the other.
    pub samples: Vec<Subject>,
    /// The tokens that every sample begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prime: Vec<u32>,
    /// Samples beside each other, if the user said how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<u32>,
    /// How many times images are enlarged.
    pub zoom: u32,
}

impl Recipe {
    /// What is wished for, of this model; where nothing is said, as its authors did. `model` is what it is
    /// called and its dtype.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything that the model cannot do.
    pub fn new(
        wishes: &Wishes,
        model: (String, String),
        info: &GeneratorInfo,
        labels: &Labels,
    ) -> Result<Self> {
        if info.classes.is_none() && !wishes.classes.is_empty() {
            return Err(Error::usage(format!("{} has no classes", model.0), "name none"));
        }
        let classes = choose(&wishes.classes, info.classes, wishes.count)?;
        let subject = |(sample, class): (usize, Option<usize>)| Subject {
            sample,
            class,
            name: class.and_then(|c| labels.names.get(c).cloned()),
        };
        if !info.guided && (wishes.cfg_scale.is_some_and(|s| s != 1.0) || wishes.cfg_schedule.is_some()) {
            return Err(Error::usage(
                format!("{} was not trained for guidance", model.0),
                "leave its scale and its schedule out",
            ));
        }
        let defaults = &info.defaults;
        let usual_schedule = if defaults.rising { Schedule::Linear } else { Schedule::Constant };
        let usual_order = if info.any_order { Order::Random } else { Order::Raster };
        let recipe = Self {
            version: VERSION,
            model: model.0,
            weights: None,
            dtype: model.1,
            seed: wishes.seed.unwrap_or_else(random_seed),
            temperature: wishes.temperature.unwrap_or(defaults.temperature),
            top_k: wishes.top_k.unwrap_or(defaults.top_k),
            top_p: wishes.top_p.unwrap_or(defaults.top_p),
            cfg_scale: info.guided.then(|| wishes.cfg_scale.unwrap_or(defaults.cfg_scale)),
            cfg_schedule: wishes.cfg_schedule.unwrap_or(usual_schedule),
            order: wishes.order.clone().unwrap_or(usual_order),
            parallel: wishes.steps,
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
    pub fn read(path: &Path) -> Result<Self> {
        let name = &path.display();
        let wrong = &|what: String, help: &str| Error::input(name, what, help);
        let metadata =
            path.metadata().map_err(|e| wrong(format!("cannot be read: {e}"), "check the path"))?;
        if !metadata.is_file() {
            return Err(wrong("is not a regular file".into(), "name a PNG file"));
        }
        let file = File::open(path).map_err(|e| wrong(format!("cannot be read: {e}"), ""))?;
        let only = "only PNG files that this program wrote hold their settings";
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
    pub fn check(&self, info: &GeneratorInfo) -> Result<()> {
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
                    return refuse(what, "the file is of another model; name that one");
                }
                (None, _) => {
                    let what = format!("{} draws by class, and the file names none", self.model);
                    return refuse(what, "the file is of another model; name that one");
                }
            }
        }
        if self.order != Order::Raster && !info.any_order {
            return refuse(
                format!("random order: {} generates patches row by row only", self.model),
                "choose raster order; RandAR models generate in any order",
            );
        }
        if let Some(steps) = self.parallel {
            if !info.any_order {
                return refuse(
                    format!("{steps} steps: {} generates one patch at a time", self.model),
                    "name no steps; RandAR models generate several at a time",
                );
            }
            if !(2..=info.tokens).contains(&(steps as usize)) {
                let what = format!("{steps} steps: an image has {} patches", info.tokens);
                return refuse(what, &format!("generate them in 2 to {} steps", info.tokens));
            }
        }
        if self.prime.len() >= info.tokens {
            let what = format!("{} tokens to begin with, and an image has {}", self.prime.len(), info.tokens);
            return refuse(what, "keep less of the primer");
        }
        if let Some(id) = self.prime.iter().find(|id| **id as usize >= info.vocabulary) {
            let what = format!("token {id} to begin with: the model has {} tokens", info.vocabulary);
            return refuse(what, "the file is of another model; name that one");
        }
        Ok(())
    }

    /// Rows of patches that are kept of a primer.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing were left to draw.
    pub fn kept_rows(keep: Keep, info: &GeneratorInfo) -> Result<usize> {
        let rows = info.grid[0];
        match keep {
            Keep::Rows(kept) if kept < rows => Ok(kept),
            Keep::Rows(kept) => {
                let what =
                    format!("{kept} rows to keep: an image has {rows} rows of patches, and one must be left");
                Err(Error::usage(what, format!("keep 1 to {}", rows.saturating_sub(1))))
            }
            Keep::Part(part) => {
                let kept = (part * rows as f32).round() as usize;
                Ok(kept.clamp(1, rows.saturating_sub(1).max(1)))
            }
        }
    }

    /// The same for one of the samples alone.
    pub fn only(&self, sample: usize) -> Self {
        let samples = self.samples.get(sample).cloned().into_iter().collect();
        Self { samples, columns: None, ..self.clone() }
    }

    /// As the text of a PNG file.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys")
    }

    /// What the engine is asked for; `every` tokens it reports.
    pub fn request(&self, info: &GeneratorInfo, every: usize) -> Request {
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
            order: self.order.clone(),
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
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish() >> 32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let subject = |sample| Subject { sample, class: Some(3), name: Some("Größe \"x\"".into()) };
        Recipe {
            version: VERSION,
            model: "models/größe".into(),
            weights: Some("0123456789abcdef".into()),
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
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 1, 1);
        if let Some(text) = text {
            encoder.add_itxt_chunk(KEYWORD.to_owned(), text.to_owned()).unwrap();
        }
        encoder.write_header().unwrap().write_image_data(&[0]).unwrap();
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
