//! `vit-gpu merge`: a model and a LoRA adapter as one model folder, which is there whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::ModelArgs;
use super::filename::plain;
use super::locate::locate;
use super::outcome::Outcome;
use super::outfile;
use super::talk::Talk;
use crate::checkpoint::{SINGLE, merge};
use crate::error::{Error, Result};
use crate::hub;
use crate::session::ModelFiles;

pub(super) const MERGE_HELP: &str = "\
Examples:
    vit-gpu merge -m FOLDER --adapter ADAPTER -o MERGED
    vit-gpu merge -m ADAPTER -o MERGED --force

The folder holds every tensor of the model under its own name, in its own shape and dtype, those that
the adapter changes as W + s·B·A, summed in f32 and rounded once; what the adapter replaces as a whole,
as it has it; and copies of the configuration, the preprocessing and the tokenizer. Where a head has
another number of classes than the model's, its labels are those of a config.json in the adapter's
folder, or numbers.";

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Replace a model folder that is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Runs the command and yields its exit code.
pub(super) fn run(args: &MergeArgs, talk: Talk, out: &mut impl Write) -> Outcome {
    let located = locate(&args.model, talk)?;
    let files = located.read(!args.model.no_mmap)?.files;
    let Some(adapter) = &files.adapter else {
        let what = format!("{} has no adapter to merge", files.name);
        return Err(
            Error::usage(what, "name one with --adapter DIR, or pass an adapter's folder with -m").into()
        );
    };
    if files.codec.is_some() {
        let what = format!("{} has its tokenizer of images in a file of its own", files.name);
        return Err(Error::usage(what, "models in LlamaGen's layout are not merged").into());
    }
    let target = Target::new(&args.output, args.force, &files)?;
    let draft = Draft::new(&target.place)?;
    fill(&draft.folder, &files)?;
    target.put(draft)?;
    files.warnings.iter().for_each(|warning| talk.warn(warning));
    writeln!(
        out,
        "{}: {} weights merged, {} tensors replaced",
        plain(&args.output),
        adapter.adapted,
        adapter.replaced
    )?;
    Ok(0)
}

/// Writes the files of a model.
fn fill(folder: &Path, files: &ModelFiles) -> Result<()> {
    merge(&files.checkpoint, &folder.join(SINGLE))?;
    let text = format!("{:#}\n", files.config);
    put(&folder.join("config.json"), text.as_bytes())?;
    let Some(from) = &files.folder else {
        // A model that is embedded.
        let preprocessor = files.preprocessor.as_ref().map(|(_, text)| text);
        return preprocessor
            .map_or(Ok(()), |text| put(&folder.join("preprocessor_config.json"), text.as_bytes()));
    };
    for name in hub::beside().filter(|name| from.join(name).is_file()) {
        let to = folder.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|e| failed(parent, &e))?;
        }
        let bytes = fs::read(from.join(name))
            .map_err(|e| Error::model(from.join(name).display(), e.to_string(), ""))?;
        put(&to, &bytes)?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let written =
        File::create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|e| failed(path, &e))
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    Error::Write { path: plain(path), what: e.to_string() }
}

/// Where the folder goes.
struct Target {
    place: PathBuf,
    /// Something is there that is replaced.
    replaces: bool,
}

impl Target {
    /// Refuses what must not be replaced: anything without `force`, and with it what is no model, or holds what is
    /// read.
    fn new(path: &Path, force: bool, files: &ModelFiles) -> Result<Self> {
        let refused = |what: &str, help: &str| Err(Error::usage(format!("{} {what}", plain(path)), help));
        let Some(name) = path.file_name() else { return refused("is no name of a folder", "name a new one") };
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = fs::canonicalize(parent).map_err(|e| failed(parent, &e))?.join(name);
        if path.symlink_metadata().is_err() {
            return Ok(Self { place, replaces: false });
        }
        let own = fs::canonicalize(path).map_err(|e| failed(path, &e))?;
        let adapter = files.adapter.as_ref().and_then(|adapter| adapter.folder.as_deref());
        let read =
            [files.folder.as_deref(), adapter].into_iter().flatten().filter_map(|f| fs::canonicalize(f).ok());
        if read.into_iter().any(|read| read.starts_with(&own)) {
            return refused("holds what is merged", "write to another folder");
        }
        if !force {
            return refused("is there already", "write to another folder, or pass --force to replace it");
        }
        let model = path.is_dir() && !path.is_symlink() && path.join("config.json").is_file();
        let empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if !model && !empty {
            return refused("is no folder of a model, and is not replaced", "write to another folder");
        }
        Ok(Self { place, replaces: true })
    }

    /// Puts the draft in its place. What was there is kept until that is done.
    fn put(&self, mut draft: Draft) -> Result<()> {
        let old = beside(&self.place, "old");
        if self.replaces {
            fs::rename(&self.place, &old).map_err(|e| failed(&self.place, &e))?;
        }
        let renamed = fs::rename(&draft.folder, &self.place);
        if let Err(e) = renamed {
            if self.replaces {
                _ = fs::rename(&old, &self.place);
            }
            return Err(failed(&self.place, &e));
        }
        draft.done = true;
        outfile::forget(&draft.folder);
        if self.replaces {
            _ = fs::remove_dir_all(&old);
        }
        Ok(())
    }
}

/// A folder that goes away again unless it is put in its place.
struct Draft {
    folder: PathBuf,
    done: bool,
}

impl Draft {
    fn new(place: &Path) -> Result<Self> {
        let folder = beside(place, "tmp");
        outfile::remove_at_end(&folder);
        fs::create_dir(&folder).map_err(|e| failed(place, &e))?;
        Ok(Self { folder, done: false })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            _ = fs::remove_dir_all(&self.folder);
            outfile::forget(&self.folder);
        }
    }
}

/// A name beside the folder, of this process's own.
fn beside(place: &Path, end: &str) -> PathBuf {
    place.with_file_name(format!(".vit-gpu.{}.merge.{end}", std::process::id()))
}
