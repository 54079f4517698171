//! Which model is meant and where it lies; its files, read once; and one message where it is of another kind
//! than a command takes.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::args::ModelArgs;
use super::outfile;
use super::talk::{Progress, Talk};
use crate::error::{Error, Result};
use crate::hub::{self, HubOptions, Location};
use crate::printable::escaped;
use crate::session::{BUILTIN, Base, ModelFiles, ModelKind, ModelSource, base_error, base_of_adapter};

/// What a text model is good for.
const TEXT_COMMANDS: &str = "`vit-gpu infer` and embed take --text, generate takes --prompt; inspect and verify \
                             take the model as it is";

/// A model that is there; its files may be broken.
#[derive(Clone)]
pub(super) struct Located {
    /// What the user calls it.
    pub(super) id: String,
    pub(super) source: ModelSource,
}

/// A model whose files were read.
#[derive(Clone)]
pub(super) struct Found {
    /// What the user calls it.
    pub(super) id: String,
    pub(super) files: ModelFiles,
}

impl Located {
    /// Random weights of a named size, if there is one of that name.
    pub(super) fn synthetic(name: &str) -> Self {
        Self { id: name.to_owned(), source: ModelSource::Synthetic(name.to_owned()) }
    }

    fn builtin(name: &str) -> Self {
        Self { id: format!("builtin:{name}"), source: ModelSource::Builtin(name.to_owned()) }
    }

    /// Reads its files, but no weights yet.
    ///
    /// # Errors
    /// As [`ModelSource::read`].
    pub(super) fn read(self, mmap: bool) -> Result<Found> {
        Ok(Found { id: self.id, files: self.source.read(mmap)? })
    }
}

impl Found {
    /// Refuses a model of another kind than a command takes; not one of a kind that is unknown, of which
    /// opening it says more.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the commands that take such a model.
    pub(super) fn expect(&self, wanted: ModelKind) -> Result<()> {
        let Some(kind) = self.files.kind() else { return Ok(()) };
        let id = &self.id;
        let (what, help) = match (kind, wanted) {
            (ModelKind::Text, ModelKind::Generator) => {
                (format!("{id} generates no images: it works on texts"), TEXT_COMMANDS)
            }
            (ModelKind::Text, ModelKind::Vision) => (format!("{id} reads texts, not images"), TEXT_COMMANDS),
            (ModelKind::Generator, ModelKind::Vision) => (
                format!("{id} generates images, and names nothing in them"),
                "use `vit-gpu generate`; tokens, inspect, verify and profile --generate take it too",
            ),
            (ModelKind::Vision, ModelKind::Generator) => (
                format!("{id} does not generate images: it looks at images"),
                "builtin:shapes-gpt does, and so do LlamaGen, RandAR and ImageGPT",
            ),
            _ => return Ok(()),
        };
        Err(Error::usage(what, help))
    }
}

/// The model that is meant, downloaded if need be. No output may replace a file of its folder from here on.
///
/// # Errors
/// As [`hub::locate`]; [`Error::Usage`] for a name that is not text and no path either.
pub(super) fn locate(args: &ModelArgs, talk: Talk) -> Result<Located> {
    let Some(spec) = chosen(args)? else {
        talk.note(
            "no -m given: the built-in model names simple shapes; for photographs pass a ViT checkpoint, \
             as in -m google/vit-base-patch16-224",
        );
        return adapted(Located::builtin(BUILTIN), args);
    };
    adapted(named(spec, args.offline, talk)?, args)
}

/// The model with the adapter that is named, if one is.
fn adapted(model: Located, args: &ModelArgs) -> Result<Located> {
    let Some(adapter) = &args.adapter else { return Ok(model) };
    if let ModelSource::Adapted { adapter: first, .. } = &model.source {
        let what = format!("{} is an adapter already: one is laid over a model", first.display());
        return Err(Error::usage(what, "pass the model with -m, and one adapter with --adapter"));
    }
    outfile::protect_model(adapter)?;
    let source = ModelSource::Adapted { base: Box::new(model.source), adapter: adapter.clone() };
    Ok(Located { id: model.id, source })
}

/// The model that is named, if one is.
///
/// # Errors
/// [`Error::Usage`] for an empty name, as an unset variable makes: another model would answer in its place.
pub(super) fn chosen(args: &ModelArgs) -> Result<Option<&OsStr>> {
    match args.model.as_deref() {
        Some(name) if name.is_empty() => {
            Err(Error::usage("-m is empty", "name a folder or a model of the hub, or leave -m away"))
        }
        name => Ok(name),
    }
}

/// As [`locate`], where `default` answers if no model is named.
///
/// # Errors
/// As [`locate`].
pub(super) fn locate_or(args: &ModelArgs, default: &str, talk: Talk) -> Result<Located> {
    adapted(named(chosen(args)?.unwrap_or(OsStr::new(default)), args.offline, talk)?, args)
}

fn named(spec: &OsStr, offline: bool, talk: Talk) -> Result<Located> {
    let id = spec.to_string_lossy().into_owned();
    if let Some(name) = id.strip_prefix("builtin:") {
        return Ok(Located::builtin(name));
    }
    let Some(text) = spec.to_str() else {
        let path = PathBuf::from(spec);
        return match path.exists() {
            true => at(id, path, offline, talk),
            false => Err(Error::model(id, "no such file or folder", "check the path")),
        };
    };
    let mut options = HubOptions::from_env();
    options.offline |= offline;
    options.notice = hub::Notice::new(move |text| talk.note(escaped(text)));
    let mut bar: Option<(String, Progress)> = None;
    let location = hub::locate(text, &options, &mut |file, done, total| {
        if bar.as_ref().is_none_or(|(name, _)| name != file) {
            // The old bar must be gone before the new one is drawn.
            bar = None;
            talk.note(format_args!("downloading {file} of {text}"));
            bar = Some((file.to_owned(), talk.progress(file, total.unwrap_or(0), true)));
        }
        if let Some((_, bar)) = &mut bar {
            bar.at(done);
        }
    })?;
    drop(bar);
    if let Location::Snapshot { folder, .. } = &location {
        talk.detail(format_args!("model: {text} in {}", folder.display()));
    } else {
        talk.detail(format_args!("model: {}", location.path().display()));
    }
    at(id, location.path().to_owned(), offline, talk)
}

/// What lies there: a model, or an adapter, whose base is looked for.
fn at(id: String, path: PathBuf, offline: bool, talk: Talk) -> Result<Located> {
    outfile::protect_model(&path)?;
    let base = match base_of_adapter(&path)? {
        None => return Ok(Located { id, source: ModelSource::Path(path) }),
        Some(Base::Path(base)) => base.into_os_string(),
        Some(Base::Named(name)) => name.into(),
    };
    let found = named(&base, offline, talk).map_err(|e| base_error(e, &path))?;
    if matches!(found.source, ModelSource::Adapted { .. }) {
        let what = format!("{} is made for an adapter, {}", path.display(), escaped(&found.id));
        return Err(Error::usage(what, "merge that one into its model: `vit-gpu merge`"));
    }
    Ok(Located { id, source: ModelSource::Adapted { base: Box::new(found.source), adapter: path } })
}
