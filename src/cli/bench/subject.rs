//! What `bench` measures, and how a measured process looks at itself.

use super::args::BenchArgs;
use crate::cli::args::{DeviceArgs, DtypeArg, ModelArgs};
use crate::cli::inspect::facts::default_outputs;
use crate::cli::locate::{Located, locate};
use crate::cli::open;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::session::{Device, Session};
use crate::synthetic::vision::Synthetic;
use crate::tensor::Size;

/// What is measured: one model in one storage type on one device.
pub(super) struct Subject {
    pub(super) located: Located,
    /// Flag and value by which another process means the same model.
    pub(super) flag: [std::ffi::OsString; 2],
    pub(super) device: DeviceArgs,
}

/// Every combination of model, storage type and device, each model's together.
pub(super) fn subjects(args: &BenchArgs, talk: Talk) -> Result<Vec<Subject>> {
    let mut models = Vec::new();
    for name in &args.synthetic {
        // By its name in full, if it has one.
        let made = Synthetic::named(name).ok();
        let name = made.as_ref().map_or(name.as_str(), Synthetic::name);
        models.push((Located::synthetic(name), ["--synthetic".into(), name.into()]));
    }
    let one = ModelArgs {
        model: None,
        adapter: args.adapter.clone(),
        offline: args.offline,
        no_mmap: args.no_mmap,
    };
    for model in &args.model {
        let one = ModelArgs { model: Some(model.clone()), ..one.clone() };
        models.push((locate(&one, talk)?, ["-m".into(), model.clone()]));
    }
    if models.is_empty() {
        // Not by clap: a model of the environment must not join one that was named.
        let model = std::env::var_os("VIT_GPU_MODEL");
        let one = ModelArgs { model, ..one.clone() };
        let located = locate(&one, talk)?;
        let flag = ["-m".into(), located.id.clone().into()];
        models.push((located, flag));
    }
    let devices: Vec<Option<String>> = match args.device.as_slice() {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    let mut subjects = Vec::new();
    for (located, flag) in models {
        for device in &devices {
            for &dtype in &args.dtype {
                let device = DeviceArgs {
                    device: device.clone(),
                    backend: args.backend.clone(),
                    disable: args.disable.clone(),
                    dtype,
                    variant: args.variant.clone(),
                    no_tune: args.no_tune,
                    checked: args.checked,
                };
                if open::device(&device, talk)? == Device::Reference {
                    let what = "--device reference is not there to be fast";
                    return Err(Error::usage(what, "choose an adapter of `vit-gpu devices`"));
                }
                subjects.push(Subject { located: located.clone(), flag: flag.clone(), device });
            }
        }
    }
    Ok(subjects)
}

/// What `infer` would compute.
pub(super) fn outputs(session: &Session, size: Size) -> Result<Vec<String>> {
    Ok(default_outputs(&session.output_names(size)?))
}

pub(super) fn name_of(dtype: DtypeArg) -> &'static str {
    match dtype {
        DtypeArg::Auto | DtypeArg::F32 => "f32",
        DtypeArg::F16 => "f16",
    }
}

/// The most memory that this process has had at a time, in bytes, where the system tells.
pub(super) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Starts the count of [`peak`] anew, where the system can.
pub(super) fn forget_peak() {
    _ = std::fs::write("/proc/self/clear_refs", "5");
}
