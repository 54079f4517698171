//! The adapter: the one that `VIT_GPU_DEVICE` names, else the one that vit-gpu would choose.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use vit_gpu::gpu::{DeviceChoice, DeviceSpec, Gpu};

use crate::{Result, items};

/// Where compiled pipelines, measured choices and ceilings are kept: what `rows` says, else cargo's folder
/// for such things.
pub fn cache() -> PathBuf {
    let said = std::env::var_os("GPU_BENCH_CACHE").map(PathBuf::from);
    said.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")))
}

/// What to open.
pub fn choice() -> DeviceChoice {
    let device = match std::env::var("VIT_GPU_DEVICE") {
        Ok(name) if !name.trim().is_empty() && name != "auto" => {
            name.trim().parse().map_or(DeviceSpec::Name(name), DeviceSpec::Index)
        }
        _ => DeviceSpec::Auto,
    };
    DeviceChoice { device, cache_dir: Some(cache()), ..DeviceChoice::default() }
}

/// Opens it.
pub fn open() -> Result<Arc<Gpu>> {
    Ok(Arc::new(Gpu::open(&choice())?))
}

/// Opens it and prints what it is.
pub fn print() -> Result<ExitCode> {
    let gpu = open()?;
    let report = gpu.report();
    items::line(&json!({ "adapter": format!("{}; {}", report.name.trim(), report.driver) }));
    Ok(ExitCode::SUCCESS)
}
