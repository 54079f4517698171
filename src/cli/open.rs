//! From flags and environment to a device choice, a model, and an open session.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{DeviceArgs, DtypeArg, Feature, ModelArgs};
use super::outfile;
use super::output::{DeviceFacts, ModelFacts};
use super::talk::{Progress, Talk};
use crate::error::{Error, Result};
use crate::generate::{self, Generator};
use crate::gpu::{Adapters, DeviceChoice, DeviceSpec, Disabled, tune};
use crate::hub;
use crate::hub::{HubOptions, Location};
use crate::ops::Choices;
use crate::plan::Precision;
use crate::printable::escaped;
use crate::session::{self, BUILTIN, Device, DeviceInfo, ModelKind, ModelSource, Options, Session};
use crate::synthetic;

/// What a text model is good for.
const TEXT_COMMANDS: &str = "`vit-gpu infer` and embed take --text, generate takes --prompt; inspect and verify \
                             take the model as it is";

/// A session and what it was asked for by.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) source: ModelSource,
    pub(super) model: ModelFacts,
    pub(super) device: DeviceFacts,
}

/// Opens model and device, and says on standard error what the user did not choose.
///
/// # Errors
/// As [`Session::open`] and [`hub::locate`].
pub(super) fn open(model: &ModelArgs, device: &DeviceArgs, talk: Talk) -> Result<Opened> {
    let (id, source) = locate(model, talk)?;
    let options = options(device, !model.no_mmap, talk)?;
    open_with(id, source, &options, talk)
}

/// As [`open`], with everything decided.
///
/// # Errors
/// As [`Session::open`].
pub(super) fn open_with(id: String, source: ModelSource, options: &Options, talk: Talk) -> Result<Opened> {
    expect(ModelKind::Vision, &id, &source)?;
    let session = Session::open(&source, options)?;
    let d = session.device();
    say_device(d, talk);
    let info = session.info();
    let model = ModelFacts {
        id,
        family: info.family.to_owned(),
        architecture: info.architecture.clone(),
        image_size: info.image_size,
        classes: info.classes,
        parameters: info.parameters,
        dtype: session.precision().to_string(),
    };
    let device = device_facts(d);
    Ok(Opened { session, source, model, device })
}

/// Refuses a model of another kind than a command takes; not one of a kind that is unknown, of which opening
/// it says more.
///
/// # Errors
/// [`Error::Usage`] naming the commands that take such a model.
pub(super) fn expect(wanted: ModelKind, id: &str, source: &ModelSource) -> Result<()> {
    let Some(kind) = kind(source) else { return Ok(()) };
    let (what, help) = match (kind, wanted) {
        (ModelKind::Text, ModelKind::Generator) => {
            (format!("{id} draws no pictures: it works on texts"), TEXT_COMMANDS)
        }
        (ModelKind::Text, ModelKind::Vision) => (format!("{id} reads texts, not images"), TEXT_COMMANDS),
        (ModelKind::Generator, ModelKind::Vision) => (
            format!("{id} draws pictures, and names nothing in them"),
            "use `vit-gpu generate`; tokens, inspect, verify and profile --generate take it too",
        ),
        (ModelKind::Vision, ModelKind::Generator) => (
            format!("{id} does not generate pictures: it looks at images"),
            "builtin:shapes-gpt does, and so do LlamaGen, RandAR and ImageGPT",
        ),
        _ => return Ok(()),
    };
    Err(Error::usage(what, help))
}

/// What the model of a source does, by its configuration alone; `None` if that names none that is known.
pub(super) fn kind(source: &ModelSource) -> Option<ModelKind> {
    match source {
        ModelSource::Path(path) => session::kind(path),
        ModelSource::Builtin(name) if name == session::BUILTIN_GENERATOR => Some(ModelKind::Generator),
        ModelSource::Synthetic(name) => Some(synthetic::kind(name)),
        _ => Some(ModelKind::Vision),
    }
}

/// A generative model as JSON describes it.
pub(super) fn generator_facts(id: String, generator: &Generator) -> ModelFacts {
    let info = generator.info();
    ModelFacts {
        id,
        family: info.family.to_owned(),
        architecture: info.architecture.clone(),
        image_size: info.image_size,
        classes: info.classes,
        parameters: info.parameters,
        dtype: generator.precision().to_string(),
    }
}

/// A device as JSON describes it.
pub(super) fn device_facts(d: &DeviceInfo) -> DeviceFacts {
    DeviceFacts {
        name: d.name.clone(),
        kind: d.kind.clone(),
        backend: d.backend.clone(),
        driver: d.driver.clone(),
    }
}

/// Says which device answers, where the user may not expect it.
pub(super) fn say_device(d: &DeviceInfo, talk: Talk) {
    if d.cpu && d.kind != "reference" {
        talk.note(format_args!("running on the CPU ({})", d.name));
    }
    talk.detail(format_args!("device: {} ({}, {}, {})", d.name, d.kind, d.backend, d.driver));
}

/// The model that is meant, downloaded if need be, and what to call it.
///
/// # Errors
/// As [`hub::locate`]; [`Error::Usage`] for a name that is not text and no path either.
pub(super) fn locate(args: &ModelArgs, talk: Talk) -> Result<(String, ModelSource)> {
    let Some(spec) = chosen(args)? else {
        talk.note(
            "no -m given: the built-in model names simple shapes; for photographs pass a ViT checkpoint, \
             as in -m google/vit-base-patch16-224",
        );
        return Ok((format!("builtin:{BUILTIN}"), ModelSource::Builtin(BUILTIN.to_owned())));
    };
    named(spec, args.offline, talk)
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
pub(super) fn locate_or(args: &ModelArgs, default: &str, talk: Talk) -> Result<(String, ModelSource)> {
    named(chosen(args)?.unwrap_or(OsStr::new(default)), args.offline, talk)
}

fn named(spec: &OsStr, offline: bool, talk: Talk) -> Result<(String, ModelSource)> {
    let id = spec.to_string_lossy().into_owned();
    if let Some(name) = id.strip_prefix("builtin:") {
        if ![BUILTIN, generate::BUILTIN].contains(&name) {
            let help = format!(
                "there are builtin:{BUILTIN}, which names shapes, and builtin:{}, which draws them",
                generate::BUILTIN
            );
            return Err(Error::usage(format!("there is no builtin model `{name}`"), help));
        }
        return Ok((id.clone(), ModelSource::Builtin(name.to_owned())));
    }
    let Some(text) = spec.to_str() else {
        let path = PathBuf::from(spec);
        return match path.exists() {
            true => Ok((id, ModelSource::Path(path))),
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
    let source = ModelSource::Path(location.path().to_owned());
    folder(&source).map_or(Ok(()), outfile::protect_model)?;
    Ok((id, source))
}

/// How sessions run, from flags and environment.
///
/// # Errors
/// As [`device`].
pub(super) fn options(args: &DeviceArgs, mmap: bool, talk: Talk) -> Result<Options> {
    let precision = match args.dtype {
        DtypeArg::Auto => None,
        DtypeArg::F32 => Some(Precision::F32),
        DtypeArg::F16 => Some(Precision::F16),
    };
    let choices = Choices::forced(args.variant.iter().map(String::as_str))?;
    let tuning_budget = if args.no_tune { Duration::ZERO } else { tune::FIRST_USE_BUDGET };
    Ok(Options { device: device(args, talk)?, precision, mmap, choices, tuning_budget, ..Options::default() })
}

/// The device that is meant: flags and `VIT_GPU_*` first, then wgpu's own variables.
///
/// # Errors
/// [`Error::Usage`] for a back end that does not exist.
pub(super) fn device(args: &DeviceArgs, talk: Talk) -> Result<Device> {
    let lookup = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let mut choice = DeviceChoice {
        backends: backends(&args.backend, lookup("WGPU_BACKEND").as_deref()),
        disabled: disabled(&args.disable),
        checked: args.checked,
        cache_dir: cache_dir(),
        ..DeviceChoice::default()
    };
    let named = args.device.as_deref().map(str::trim).filter(|d| !d.is_empty());
    choice.device = match named {
        Some(name) if name.eq_ignore_ascii_case("reference") => return Ok(Device::Reference),
        Some("auto") => DeviceSpec::Auto,
        Some(name) if name.eq_ignore_ascii_case("cpu") => match processor(&choice)? {
            Some(spec) => spec,
            None => {
                talk.note("there is no adapter on the CPU: the reference computes");
                return Ok(Device::Reference);
            }
        },
        Some(text) => match text.parse() {
            Ok(index) => DeviceSpec::Index(index),
            Err(_) => DeviceSpec::Name(text.to_owned()),
        },
        None => match (lookup("WGPU_ADAPTER_NAME"), lookup("WGPU_POWER_PREF")) {
            (Some(name), _) => DeviceSpec::Name(name),
            (None, Some(preference)) if preference.eq_ignore_ascii_case("low") => frugal(&choice)?,
            _ => DeviceSpec::Auto,
        },
    };
    Ok(Device::Gpu(choice))
}

/// Back ends by flag; else those of `WGPU_BACKEND` that exist here (it may name GL or WebGPU too).
pub(super) fn backends(flag: &[String], variable: Option<&str>) -> Vec<String> {
    let clean = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        names.map(|n| n.trim().to_ascii_lowercase()).filter(|n| !n.is_empty()).collect()
    };
    let mut names = clean(&mut flag.iter().map(String::as_str));
    if names.is_empty() {
        names = clean(&mut variable.unwrap_or_default().split(','));
        let others = ["gl", "gles", "opengl", "webgpu"];
        let served = |names: &[String]| names.iter().any(|n| !others.contains(&n.as_str()));
        if served(&names) {
            names.retain(|n| !others.contains(&n.as_str()));
        }
    }
    names
}

fn disabled(features: &[Feature]) -> Disabled {
    let has = |f| features.contains(&f);
    Disabled {
        f16: has(Feature::F16),
        subgroups: has(Feature::Subgroups),
        timestamps: has(Feature::Timestamps),
        matrices: has(Feature::Matrices),
    }
}

/// The first adapter that computes on the CPU, as llvmpipe, SwiftShader and WARP do.
fn processor(choice: &DeviceChoice) -> Result<Option<DeviceSpec>> {
    let adapters = Adapters::list(choice)?;
    let found = adapters.reports().iter().find(|r| r.kind == "cpu" && r.unusable.is_none());
    Ok(found.map(|r| DeviceSpec::Index(r.index)))
}

/// The supported adapter of least power.
fn frugal(choice: &DeviceChoice) -> Result<DeviceSpec> {
    let adapters = Adapters::list(choice)?;
    let usable = adapters.reports().iter().filter(|r| r.unusable.is_none());
    let order = ["integrated", "virtual", "other", "discrete", "cpu"];
    let best = usable.min_by_key(|r| order.iter().position(|kind| *kind == r.kind));
    Ok(best.map_or(DeviceSpec::Auto, |r| DeviceSpec::Index(r.index)))
}

/// The variables that say where [`cache_dir`] is.
pub(super) const CACHE_VARIABLES: &str =
    if cfg!(windows) { "LOCALAPPDATA and USERPROFILE" } else { "XDG_CACHE_HOME and HOME" };

/// Where this program keeps what can be made again: compiled pipelines.
pub(super) fn cache_dir() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let absolute = |p: &PathBuf| p.is_absolute();
    let base = if cfg!(windows) {
        path("LOCALAPPDATA").or_else(|| path("USERPROFILE").map(|home| home.join("AppData").join("Local")))
    } else {
        let in_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        path("XDG_CACHE_HOME").filter(absolute).or_else(|| path("HOME").map(|home| home.join(in_home)))
    };
    base.filter(absolute).map(|base| base.join("vit-gpu"))
}

/// The folder of a model on disk.
pub(super) fn folder(source: &ModelSource) -> Option<&Path> {
    match source {
        ModelSource::Builtin(_) | ModelSource::Synthetic(_) | ModelSource::Hub(_) => None,
        ModelSource::Path(path) if path.is_dir() => Some(path),
        ModelSource::Path(path) => {
            Some(path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(OsStr::new("."))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_ends_by_flag_or_environment() {
        let none: [String; 0] = [];
        assert_eq!(backends(&["Vulkan".into()], Some("metal")), ["vulkan"]);
        assert_eq!(backends(&[String::new()], Some("vulkan,gl")), ["vulkan"]);
        assert_eq!(backends(&[], Some("gl")), ["gl"], "nothing served: an error will name it");
        assert_eq!(backends(&[], None), none);
    }
}
