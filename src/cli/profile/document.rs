//! A profile as JSON, its heading, and the files beside it.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::outfile::OutFile;
use crate::cli::output::{DeviceFacts, ModelFacts, SCHEMA_VERSION};
use crate::error::{Error, Result};
use crate::gpu::ceilings::Ceilings;
use crate::gpu::timer::Clock;
use crate::profile::{Profile, Row, Totals};
use crate::tensor::Size;

/// What was measured, as JSON. Times in microseconds where the name says so.
#[derive(Serialize)]
pub(super) struct Document {
    schema_version: u32,
    model: ModelFacts,
    device: DeviceFacts,
    /// `GPU timestamps` or `wall clock`.
    clock: &'static str,
    batch: usize,
    image_size: Size,
    runs: usize,
    ceilings: Ceilings,
    totals: Totals,
    kernels: Vec<Row>,
    layers: Vec<Row>,
    launches: Vec<Value>,
    remarks: Vec<String>,
}

/// Writes the trace and the picture that were asked for.
pub(super) fn files(
    profile: &Profile,
    model: &ModelFacts,
    device: &DeviceFacts,
    trace: Option<OutFile>,
    roofline: Option<(Picture, OutFile)>,
) -> Result<()> {
    if let Some(file) = trace {
        let json = profile.trace(&model.id, &device.name);
        file.finish(format!("{json}\n").as_bytes())?;
    }
    if let Some((picture, file)) = roofline {
        let scene = profile.roofline(&format!("{} {}", model.id, model.dtype), &device.name);
        match picture {
            Picture::Svg => file.finish(scene.svg().as_bytes())?,
            Picture::Png => file.finish(&scene.png()?)?,
        }
    }
    Ok(())
}

/// What was measured on what, in two lines.
pub(super) fn heading(profile: &Profile, model: &ModelFacts, device: &DeviceFacts) -> String {
    let Size { height, width } = profile.size;
    let rounds = match profile.rounds.len() {
        1 => "one round".to_owned(),
        n => format!("medians of {n} rounds"),
    };
    format!(
        "{} {}, batch {}, {height}x{width} pixels, on {} ({}, {})\n{}, {rounds}; vit-gpu {}",
        model.id,
        model.dtype,
        profile.batch,
        device.name,
        device.kind,
        device.driver,
        match profile.clock {
            Clock::Gpu => "GPU timestamps",
            Clock::Wall(_) => "Wall clock",
        },
        env!("CARGO_PKG_VERSION"),
    )
}

/// As JSON.
pub(super) fn document(profile: &Profile, model: ModelFacts, device: DeviceFacts) -> Document {
    let launches = profile.launches.iter().map(|l| {
        let times: Vec<f64> = l.times.iter().map(|t| t / 1e3).collect();
        json!({
            "label": l.label, "kernel": l.kernel, "shapes": l.shapes, "dtype": l.dtype,
            "flops": l.cost.flops, "bytes": l.cost.bytes, "times_us": times,
        })
    });
    Document {
        schema_version: SCHEMA_VERSION,
        clock: profile.clock.name(),
        batch: profile.batch,
        image_size: profile.size,
        runs: profile.rounds.len(),
        ceilings: profile.ceilings.clone(),
        totals: profile.totals(),
        kernels: profile.kernels(),
        layers: profile.layers(),
        launches: launches.collect(),
        remarks: profile.remarks(),
        model,
        device,
    }
}

/// The form of a picture, by the name of its file.
pub(super) enum Picture {
    Svg,
    Png,
}

impl Picture {
    pub(super) fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Picture::Svg),
            Some("png") => Ok(Picture::Png),
            _ => {
                let what = format!("--roofline {}: the name ends in neither .svg nor .png", path.display());
                Err(Error::usage(what, "name it roofline.svg or roofline.png"))
            }
        }
    }
}
