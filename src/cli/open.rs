//! From flags and environment to a device choice, and an open session.

use std::path::PathBuf;
use std::time::Duration;

use super::args::{DeviceArgs, DtypeArg, Feature};
use super::locate::Found;
use super::output::{DeviceFacts, ModelFacts};
use super::talk::Talk;
use crate::dual::DualEncoder;
use crate::error::Result;
use crate::generate::Generator;
use crate::gpu::{Adapters, DeviceChoice, DeviceSpec, Disabled, tune};
use crate::ops::Choices;
use crate::plan::Precision;
use crate::session::{Device, DeviceInfo, ModelKind, Options, Session};

/// A session and what it was asked for by.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) model: ModelFacts,
    pub(super) device: DeviceFacts,
    /// It has a text tower too.
    pub(super) words: bool,
}

/// Makes a model of images ready, and says on standard error what the user did not choose.
///
/// # Errors
/// As [`Found::expect`] and [`Session::from_files`].
pub(super) fn open(found: Found, options: &Options, talk: Talk) -> Result<Opened> {
    found.expect(ModelKind::Vision)?;
    let words = found.files.has_words();
    let session = Session::from_files(found.files, options)?;
    say_device(session.device(), talk);
    Ok(opened(session, found.id, words))
}

/// Makes what `of` makes of a model of two towers ready, as [`open`] does.
///
/// # Errors
/// As [`Found::expect`], [`DualEncoder::from_files`] and `of`.
pub(super) fn dual(
    found: Found,
    options: &Options,
    talk: Talk,
    of: impl FnOnce(DualEncoder) -> Result<Session>,
) -> Result<Opened> {
    found.expect(ModelKind::Vision)?;
    let model = DualEncoder::from_files(found.files, options)?;
    say_device(model.images().device(), talk);
    Ok(opened(of(model)?, found.id, true))
}

fn opened(session: Session, id: String, words: bool) -> Opened {
    let (d, info) = (session.device(), session.info());
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
    Opened { session, model, device, words }
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
/// [`Error::Usage`] for a backend that does not exist.
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
