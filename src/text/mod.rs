//! Texts in, answers out: a checkpoint of BERT, GPT-2 or T5 made ready, its tokenizer, and the
//! tasks such models are for. What it can do is said by the heads of the checkpoint ([`TextInfo::tasks`]).
//!
//! Texts run in batches of about the same length, padded to few different ones; what stands
//! behind a text's end reaches nothing, so a result never depends on its neighbours. Models that write do
//! so by the token loop that images are made by.
//!
//! It knows no command line and prints nothing. A text that is too long is refused unless it is asked to
//! be cut; nothing is cut silently.

mod answer;
mod attention;
mod batch;
mod beams;
mod generate;
mod generation_config;
mod likelihood;
pub mod sentence;
pub mod spans;
mod streamer;
mod tags;
mod tasks;

use std::sync::Arc;

pub use crate::models::text::{Kind, Task, TextInfo};
pub use crate::text::spans::{Answer, Answers, NoAnswer};
pub(crate) use answer::WINDOW;
pub use attention::{AttentionMap, Layers, Look, MOST_TOKENS, mean};
pub use batch::Passage;
pub(crate) use batch::padded;
pub use beams::{Beam, Beams};
pub use generate::{Ended, GenerateOptions, GenerateStats, GeneratedTexts, Piece};
pub use generation_config::{Constraints, GenerationConfig, Search};
pub use likelihood::{Choice, Likelihood, Template};
pub use tags::{Aggregate, Entity};
pub use tasks::{Filled, Pair, Pool, Scored};

use crate::checkpoint::Checkpoint;
use crate::error::{Advice, Error, Result};
use crate::gpu::Gpu;
use crate::labels::Labels;
use crate::models::text::TextModel;
use crate::models::{self, AnyModel};
use crate::plan::Precision;
use crate::session::{DeviceInfo, ModelFiles, ModelSource, Options, Runtime, Session};
use crate::tokenizer::Tokenizer;

/// A checkpoint of a text model made ready.
pub struct TextSession {
    model: Box<dyn TextModel>,
    labels: Labels,
    tokenizer: Result<Tokenizer>,
    generation: GenerationConfig,
    runtime: Runtime,
    /// Tokens of the longest text, if it is to be shorter than the model would take.
    longest: Option<usize>,
}

/// What to do with a text that is longer than the model takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TooLong {
    /// Refuse it.
    #[default]
    Refuse,
    /// Leave away its end; of a pair, the end of the longer.
    Cut,
}

impl TextSession {
    /// Opens a text model on a device. Weights are uploaded by the first use. A folder without a tokenizer
    /// is opened too: its model runs on ids.
    ///
    /// # Errors
    /// [`Error::Model`] for anything wrong with the files, [`Error::NoDevice`] for the device.
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        Self::from_files(source.read(options.mmap)?, options)
    }

    /// Makes files that were read ready on a device.
    ///
    /// # Errors
    /// As [`TextSession::open`].
    pub fn from_files(files: ModelFiles, options: &Options) -> Result<Self> {
        let model = models::from_config(&files.config, files.checkpoint.index(), None)
            .and_then(AnyModel::text)
            .map_err(|e| e.within(&files.name))?;
        let info = model.info();
        let labels = Labels::from_config(&files.config, info.classes.unwrap_or(0));
        let mut warnings = info.warnings.clone();
        let tokenizer = tokenizer_of(&files, info, &mut warnings);
        warnings.extend(files.warnings);
        if info.classes.is_some() {
            warnings.extend(labels.warnings.iter().cloned());
        }
        let generation = if info.can(Task::Generate) {
            // Older folders have the keys in config.json.
            GenerationConfig::from_json(files.generation.as_ref().unwrap_or(&files.config), info.vocabulary)
        } else {
            GenerationConfig::default()
        };
        warnings.extend(generation.warnings.iter().cloned());
        let runtime = Runtime::open(files.name, files.checkpoint, warnings, options)?;
        Ok(Self { model, labels, tokenizer, generation, runtime, longest: None })
    }

    /// The text tower of a model that is open for images, on the same device.
    pub(crate) fn tower(model: Box<dyn TextModel>, files: &ModelFiles, images: &Session) -> Self {
        let runtime = images.runtime().beside(files.name.clone(), files.checkpoint.clone());
        let mut warnings = Vec::new();
        let tokenizer = tokenizer_of(files, model.info(), &mut warnings);
        warnings.into_iter().for_each(|warning| runtime.warn(warning));
        let (labels, generation) = (Labels::from_config(&files.config, 0), GenerationConfig::default());
        Self { model, labels, tokenizer, generation, runtime, longest: None }
    }

    /// The model, for what trains it.
    pub(crate) fn model(&self) -> &dyn TextModel {
        &*self.model
    }

    /// What the model is.
    pub fn info(&self) -> &TextInfo {
        self.model.info()
    }

    /// The folder the model was opened from.
    pub fn name(&self) -> &str {
        &self.runtime.name
    }

    /// Names of the classes, in the order of the checkpoint's `id2label`.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Why the folder has none that can be used.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().map_err(Clone::clone)
    }

    /// How the checkpoint is to be sampled.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// Ids that end a text: those of the generation configuration, else the model's.
    pub fn ends(&self) -> &[u32] {
        self.generation.ends.as_ref().unwrap_or(&self.info().ends)
    }

    /// Id that the decoder of an encoder-decoder begins with.
    fn start(&self) -> u32 {
        self.generation.start.or(self.info().start).unwrap_or(0)
    }

    /// The checkpoint behind the model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.runtime.checkpoint
    }

    /// The device that works.
    pub fn device(&self) -> &DeviceInfo {
        &self.runtime.device
    }

    /// The device itself, unless it is the reference.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.runtime.gpu()
    }

    /// Storage types in use.
    pub fn precision(&self) -> Precision {
        self.runtime.precision
    }

    /// What a user should hear, as far as known now.
    pub fn warnings(&self) -> Vec<String> {
        self.runtime.warnings()
    }

    /// Tokens of the longest text it takes: what the model has positions for, or less if the tokenizer
    /// or [`TextSession::shorten`] says so; `None` if there is no limit.
    pub fn limit(&self) -> Option<usize> {
        let tokenizer = self.tokenizer.as_ref().ok().and_then(Tokenizer::limit);
        // T5's positions are no limit, and the length it was trained with is advice.
        let positions = self.info().positions;
        let limit = positions.map(|positions| tokenizer.map_or(positions, |limit| limit.min(positions)));
        limit.into_iter().chain(self.longest).min()
    }

    /// Takes no texts of more tokens than this, though the model might: for models that were trained on
    /// short ones.
    pub fn shorten(&mut self, longest: usize) {
        self.longest = Some(longest);
    }

    /// Fails unless the model has the head for a task.
    fn need(&self, task: Task) -> Result<()> {
        if self.info().can(task) {
            return Ok(());
        }
        let what = format!("{} is a {}, which cannot {}", self.name(), self.info().architecture, verb(task));
        let can: Vec<&str> = self.info().tasks.iter().map(|&task| verb(task)).collect();
        let help = if can.is_empty() { Advice::Embed } else { format!("it can {}", can.join(", ")).into() };
        Err(Error::usage(what, help))
    }
}

/// The tokenizer of a model's files.
fn tokenizer_of(files: &ModelFiles, info: &TextInfo, warnings: &mut Vec<String>) -> Result<Tokenizer> {
    let tokenizer = match (&files.folder, files.tokenizer) {
        (Some(folder), _) => Tokenizer::open(folder, info.family),
        (None, Some([json, _])) => Tokenizer::from_json(&files.name, json, info.family),
        (None, None) => {
            Err(Error::model(&files.name, "it has no tokenizer", "pass the folder of a checkpoint"))
        }
    }?;
    if tokenizer.vocabulary() > info.vocabulary {
        warnings.push(format!(
            "the tokenizer has {} tokens, the model {}: texts with the others are refused",
            tokenizer.vocabulary(),
            info.vocabulary
        ));
    }
    Ok(tokenizer)
}

/// What a task does, for messages.
fn verb(task: Task) -> &'static str {
    match task {
        Task::Classify => "classify texts",
        Task::Tag => "classify tokens",
        Task::Answer => "answer questions from a context",
        Task::FillMask => "fill masks",
        Task::NextSentence => "tell whether one sentence follows another",
        Task::Generate => "write texts",
    }
}
