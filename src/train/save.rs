//! A run on disk: `last/` and `best/` in its folder, each a model folder that is there whole or not at all, and
//! `summary.csv`. What a run needs to go on lies in `last/` beside the model.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::trainer::Trainer;
use crate::checkpoint::lora;
use crate::checkpoint::write::{Content, Entry, Stored, write};
use crate::checkpoint::{Checkpoint, DECODER, SINGLE, TOKENIZER};
use crate::error::{Error, Result};
use crate::exchange::{replace, sync};
use crate::hub;
use crate::session::ModelFiles;
use crate::tensor::HostTensor;
use crate::textfile;

/// What the optimizer remembers.
const MEMORY: &str = "optimizer.safetensors";
/// How far the run is.
const STATE: &str = "trainer_state.json";
/// Largest state that is read, in bytes.
const MAX_STATE: u64 = 256 << 20;

/// How far a run is: what it needs to go on, besides weights and the optimizer's memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What the run was asked for, in whatever form its program takes it.
    pub asked: Json,
    /// Steps taken.
    pub step: u32,
    /// Epochs done.
    pub epoch: usize,
    /// Steps done of the epoch under way.
    pub batch: usize,
    /// Sum of their losses.
    pub losses: f64,
    /// Epoch whose validation was best, and its first number.
    pub best: Option<(usize, f64)>,
    /// Of the data, to know it again: what is learned from, in order, in few digits.
    #[serde(default)]
    pub data: String,
    /// What each epoch came to.
    pub log: Vec<Row>,
}

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its number, from 1.
    pub epoch: usize,
    /// Steps taken by its end.
    pub step: u32,
    /// Mean of the losses of its steps.
    pub train_loss: f64,
    /// The learning rate of its last step.
    pub rate: f32,
    /// What validation found, by name.
    pub found: Vec<(String, f64)>,
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct Output {
    folder: PathBuf,
}

impl Output {
    /// A folder that is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| failed(folder, &e))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the newest state is: a model folder that can be opened and gone on from.
    pub fn last(&self) -> PathBuf {
        let (last, before) = (self.folder.join("last"), self.folder.join("last.before"));
        // Where folders cannot change places at once, a run may have ended between two renames.
        if !last.is_dir() && before.is_dir() { before } else { last }
    }

    /// Where the model is that was best at validation.
    pub fn best(&self) -> PathBuf {
        self.folder.join("best")
    }

    /// Takes the folder away if nothing was written.
    pub fn discard_empty(&self) {
        _ = fs::remove_dir(&self.folder);
    }

    /// A folder in the place of `last` or `best` that no run has written.
    pub fn stranger(&self) -> Option<PathBuf> {
        let is_model = |folder: &Path| folder.join("config.json").is_file();
        [self.folder.join("last"), self.best()].into_iter().find(|place| place.exists() && !is_model(place))
    }

    /// Whether a run has left something here.
    pub fn is_taken(&self) -> bool {
        self.last().is_dir() || self.best().is_dir()
    }

    /// Saves model, optimizer and state as `last`.
    ///
    /// # Errors
    /// [`Error::Write`]: then what was there before is untouched; device errors.
    pub fn save(&self, files: &ModelFiles, trainer: &Trainer, state: &State) -> Result<()> {
        self.put("last", |draft| {
            write_trained(draft, files, &trained(files, trainer, Trainer::parameter)?)?;
            let (_, memory) = trainer.memory()?;
            let memory: Vec<Entry> = memory.into_iter().map(|(name, tensor)| entry(name, tensor)).collect();
            // The reference has none before its first step.
            if !memory.is_empty() {
                write(&draft.join(MEMORY), &memory)?;
            }
            write_json(&draft.join(STATE), &serde_json::to_value(state).unwrap_or_default())
        })
    }

    /// Makes `best` of what was saved as `last`, or of the averages of the parameters where the trainer keeps them.
    ///
    /// # Errors
    /// As [`Output::save`].
    pub fn keep_best(&self, files: &ModelFiles, trainer: &Trainer) -> Result<()> {
        if trainer.has_averages() {
            return self.put("best", |draft| {
                write_trained(draft, files, &trained(files, trainer, Trainer::averaged_parameter)?)
            });
        }
        let last = self.last();
        self.put("best", |draft| link(&last, draft).map_err(|(path, e)| failed(&path, &e)))
    }

    /// Writes a text file of the run, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        let (path, draft) =
            (self.folder.join(name), self.folder.join(format!(".{name}.{}.tmp", std::process::id())));
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(|e| failed(&path, &e))
    }

    /// Writes a folder beside its place, and has both change places.
    fn put(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let draft = self.folder.join(format!(".{name}.{}.tmp", std::process::id()));
        let place = self.folder.join(name);
        _ = fs::remove_dir_all(&draft);
        fs::create_dir(&draft).map_err(|e| failed(&draft, &e))?;
        let filled = fill(&draft).and_then(|()| {
            sync(&draft);
            replace(&draft, &place).map_err(|e| failed(&place, &e))
        });
        _ = fs::remove_dir_all(&draft);
        sync(&self.folder);
        filled
    }

    /// Removes what a run that was killed left half-written.
    pub fn clean(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') && name.ends_with(".tmp") {
                _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
    }
}

/// What a run left in its `last` folder: how far it was, and the optimizer's memory.
///
/// # Errors
/// [`Error::Model`] if the folder holds no run, or a damaged one.
pub fn read_state(last: &Path) -> Result<State> {
    let path = last.join(STATE);
    let wrong =
        |what: String| Error::model(path.display(), what, "name the folder that a run was written to");
    let json = textfile::read_json(&path, MAX_STATE).map_err(|e| wrong(e.what))?;
    let json = json.ok_or_else(|| wrong("there is no run to go on with".to_owned()))?;
    serde_json::from_value(json).map_err(|e| wrong(e.to_string()))
}

/// Brings a trainer, whose weights were read from `last`, to where the run was.
///
/// # Errors
/// [`Error::Model`] for a damaged file; as [`Trainer::resume`].
pub fn resume(trainer: &mut Trainer, last: &Path, state: &State) -> Result<()> {
    // Before its first step a run remembers nothing that it does not begin with.
    if state.step == 0 {
        return Ok(());
    }
    let path = last.join(MEMORY);
    let memory = Checkpoint::open(&path, false)?;
    let tensors = memory.index().keys().map(|name| Ok((name.clone(), memory.read(name)?)));
    trainer.resume(state.step, tensors.collect::<Result<_>>()?)
}

/// The trained tensors as `of` gives them, in their shapes in the file.
fn trained(
    files: &ModelFiles,
    trainer: &Trainer,
    of: impl Fn(&Trainer, &str) -> Result<HostTensor>,
) -> Result<Vec<(String, HostTensor)>> {
    let index = files.checkpoint.index();
    let read = |name: &String| {
        let tensor = of(trainer, name)?;
        let values = tensor.as_f32().unwrap_or_default();
        let count = values.iter().filter(|x| !x.is_finite()).count();
        if count > 0 {
            let what = format!("the parameter `{name}`");
            return Err(Error::NonFinite { what, count, total: values.len() });
        }
        let same = |shape: &&crate::tensor::Shape| shape.elements() == tensor.shape().elements();
        let shape = index.get(name).filter(same).copied().unwrap_or(tensor.shape());
        Ok((name.clone(), tensor.reshaped(shape)))
    };
    trainer.parameters().iter().map(|p| read(&p.name)).collect()
}

/// Writes the folder of a model, or of the adapter that is trained.
fn write_trained(draft: &Path, files: &ModelFiles, trained: &[(String, HostTensor)]) -> Result<()> {
    match &files.adapter {
        Some(adapter) => write_adapter(draft, files, &adapter.config, trained),
        None => write_model(draft, files, trained),
    }
}

fn entry<'a>(name: String, tensor: HostTensor) -> Entry<'a> {
    Entry { name, content: Content::Memory(Cow::Owned(tensor), Stored::F32) }
}

/// Writes an adapter's folder, with a configuration that names the classes.
fn write_adapter(
    folder: &Path,
    files: &ModelFiles,
    config: &Json,
    tensors: &[(String, HostTensor)],
) -> Result<()> {
    let mut config = config.clone();
    let named = config["base_model_name_or_path"].as_str().unwrap_or_default();
    // A base that was named from the adapter's folder is not there from this one.
    let beside =
        files.adapter.as_ref().and_then(|adapter| adapter.folder.as_ref()).map(|own| own.join(named));
    if let Some(base) =
        beside.filter(|base| !named.is_empty() && base.exists()).and_then(|base| base.canonicalize().ok())
    {
        config["base_model_name_or_path"] = Json::from(base.display().to_string());
    }
    lora::save(folder, &config, tensors)?;
    write_json(&folder.join("config.json"), &files.config)
}

/// Writes a model's folder: these tensors in place of the checkpoint's own, every one in f32 but whole numbers;
/// its configuration; and what lies beside it, the codec of a generator as it is.
///
/// # Errors
/// [`Error::Write`]; [`Error::Model`] for files that cannot be read.
pub fn write_model(folder: &Path, files: &ModelFiles, changed: &[(String, HostTensor)]) -> Result<()> {
    let names: BTreeSet<&str> = changed.iter().map(|(name, _)| name.as_str()).collect();
    let others = files.checkpoint.index().keys().filter(|name| !names.contains(name.as_str()));
    let kept = others.map(|name| {
        let content = match files.checkpoint.readable(name) {
            // One type for all: transformers casts what it reads to one.
            Ok(_) => Content::Memory(Cow::Owned(files.checkpoint.read(name)?), Stored::F32),
            Err(_) => Content::Same(&files.checkpoint, name),
        };
        Ok(Entry { name: name.clone(), content })
    });
    let changed = changed.iter().map(|(name, tensor)| {
        Ok(Entry { name: name.clone(), content: Content::Memory(Cow::Borrowed(tensor), Stored::F32) })
    });
    let weights = if files.codec.is_some() { DECODER } else { SINGLE };
    write(&folder.join(weights), &changed.chain(kept).collect::<Result<Vec<_>>>()?)?;
    if let Some(codec) = &files.codec {
        let names = codec.index().keys();
        let same = names.map(|name| Entry { name: name.clone(), content: Content::Same(codec, name) });
        write(&folder.join(TOKENIZER), &same.collect::<Vec<_>>())?;
    }
    let mut config = files.config.clone();
    for key in ["dtype", "torch_dtype"] {
        if let Some(dtype) = config.get_mut(key) {
            *dtype = Json::from("float32");
        }
    }
    write_json(&folder.join("config.json"), &config)?;
    if let Some((name, text)) = &files.preprocessor
        && config.get("architecture").is_none()
    {
        let json: Json = textfile::json(text.as_bytes()).map_err(|what| Error::model(name, what, ""))?;
        write_json(&folder.join("preprocessor_config.json"), &json)?;
    }
    let own =
        ["tokenizer.json", "tokenizer_config.json"].into_iter().zip(files.tokenizer.into_iter().flatten());
    for (name, text) in own {
        let to = folder.join(name);
        fs::write(&to, text).map_err(|e| failed(&to, &e))?;
    }
    for name in hub::beside() {
        let from = files.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.is_file());
        let to = folder.join(name);
        if let Some(from) = from.filter(|_| !to.exists()) {
            let parent = to.parent().unwrap_or(folder);
            fs::create_dir_all(parent).and_then(|()| fs::copy(&from, &to)).map_err(|e| failed(&to, &e))?;
        }
    }
    Ok(())
}

/// Puts a model's files into another folder, too: a file that is never changed may be the same one.
fn link(from: &Path, to: &Path) -> Result<(), (PathBuf, std::io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            fs::create_dir(&to).map_err(at(&to))?;
            link(&path, &to)?;
        } else if !path.ends_with(MEMORY) && !path.ends_with(STATE) {
            fs::hard_link(&path, &to).or_else(|_| fs::copy(&path, &to).map(drop)).map_err(at(&to))?;
        }
    }
    Ok(())
}

fn write_json(path: &Path, json: &Json) -> Result<()> {
    fs::write(path, format!("{json:#}\n")).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    Error::Write { path: path.display().to_string(), what: e.to_string() }
}
