//! From a choice of adapter to a device.

use std::sync::{Arc, Mutex};

use super::wait::block;
use super::{DeviceChoice, Faults, Gpu, adapter, cache};
use crate::error::{Advice, Error, Result};

/// Leave to use cooperative matrices, which wgpu counts as an experiment.
#[expect(unsafe_code, reason = "our own kernels: loads and stores of matrices stay in workgroup memory")]
fn experimental(matrices: bool) -> wgpu::ExperimentalFeatures {
    if matrices {
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

impl Gpu {
    /// Opens the adapter that `choice` names, with all the limits it offers.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is none, or none that matches; it lists what there is.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        block(Self::open_async(choice))
    }

    /// As [`Gpu::open`], for who may not block.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_async(choice: &DeviceChoice) -> Result<Self> {
        let (adapter, report) = adapter::pick(choice).await?;
        let mut target = report.target.clone();
        target.f16 &= !choice.disabled.f16;
        if let Some(bytes) = choice.max_binding_bytes {
            target.max_binding_bytes = target.max_binding_bytes.min(bytes);
        }
        let optional = [
            (wgpu::Features::SHADER_F16, target.f16),
            (wgpu::Features::SUBGROUP, report.subgroups),
            (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, target.matrices.is_some()),
            (wgpu::Features::TIMESTAMP_QUERY, report.timestamps),
            (wgpu::Features::PIPELINE_CACHE, report.pipeline_cache),
        ];
        let on = optional.iter().filter(|(_, on)| *on).map(|(f, _)| *f);
        let features = on.fold(wgpu::Features::empty(), std::ops::BitOr::bitor);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("vit-gpu"),
            required_features: features,
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::Performance,
            experimental_features: experimental(target.matrices.is_some()),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            let what = format!("adapter `{}` gave no device: {e}", report.name);
            Error::NoDevice { what, help: Advice::OtherDevice }
        })?;
        let faults = Arc::new(Faults::default());
        let seen = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = seen.lost.set(format!("{reason:?}: {message}").trim_end_matches(": ").to_owned());
        });
        let seen = faults.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            if let Ok(mut other) = seen.other.lock() {
                other.get_or_insert(e);
            }
        }));
        let cache = match (&choice.cache_dir, report.pipeline_cache) {
            (Some(dir), true) => Some(cache::PipelineCache::open(&device, dir, &report)),
            _ => None,
        };
        let pipelines = Mutex::default();
        Ok(Self { device, queue, report, target, checked: choice.checked, cache, pipelines, faults })
    }
}
