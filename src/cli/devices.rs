//! `vit-gpu devices`: every adapter, what it offers, and whether it is supported.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Plain;
use super::open::backends;
use super::outcome::Outcome;
use super::output::{SCHEMA_VERSION, bytes, json};
use super::sink::{Sink, SinkArgs};
use crate::error::Error;
use crate::gpu::{AdapterReport, Adapters, DeviceChoice};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Only adapters of these backends: vulkan, metal, dx12
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        env = "VIT_GPU_BACKEND",
        hide_env_values = true
    )]
    pub backend: Vec<String>,
    #[command(flatten)]
    pub sink: SinkArgs<Plain>,
}

#[derive(Serialize)]
struct Document {
    schema_version: u32,
    adapters: Vec<Facts>,
}

/// An adapter, as JSON describes it. Sizes in bytes.
#[derive(Serialize)]
struct Facts {
    index: usize,
    name: String,
    kind: &'static str,
    backend: String,
    driver: String,
    pci: String,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
    max_workgroup_invocations: u32,
    max_workgroup_bytes: u32,
    f16: bool,
    subgroups: bool,
    subgroup_sizes: (u32, u32),
    timestamps: bool,
    pipeline_cache: bool,
    cooperative_matrices: Vec<String>,
    usable: bool,
    /// Why it will not do.
    reason: Option<String>,
}

/// Runs the command and yields its exit code: 4 if no adapter is supported.
pub(super) fn run(args: &DevicesArgs, out: &mut Sink<'_, Plain>) -> Outcome {
    let variable = std::env::var("WGPU_BACKEND").ok();
    let backends = backends(&args.backend, variable.as_deref());
    let adapters = Adapters::list(&DeviceChoice { backends, ..DeviceChoice::default() })?;
    let reports = adapters.reports();
    match out.format {
        Plain::Json => {
            let adapters = reports.iter().map(facts).collect();
            json(out, &Document { schema_version: SCHEMA_VERSION, adapters })?;
        }
        Plain::Text => {
            for report in reports {
                describe(report, out)?;
            }
            out.flush()?;
        }
    }
    if reports.iter().any(|r| r.unusable.is_none()) {
        return Ok(0);
    }
    // What there is was asked for, and is told with an error too.
    out.finish()?;
    let what = if reports.is_empty() { "no adapter found" } else { "no adapter is supported" };
    let help = "install a driver (on Linux without a GPU: mesa-vulkan-drivers), or pass --device reference";
    Err(Error::NoDevice { what: what.to_owned(), help: help.into() }.into())
}

/// An adapter in a few lines.
pub(super) fn describe(r: &AdapterReport, out: &mut impl Write) -> io::Result<()> {
    let yes = |b: bool| if b { "yes" } else { "no" };
    let pci = if r.pci.is_empty() { String::new() } else { format!(", PCI {}", r.pci) };
    let status = match (&r.unusable, r.target.cpu) {
        (Some(why), _) => format!("not supported: {why}"),
        (None, true) => "supported, on the CPU".to_owned(),
        (None, false) => "supported".to_owned(),
    };
    writeln!(out, "{}: {} ({}, {}{pci})", r.index, r.name, r.kind, r.backend)?;
    writeln!(out, "   status      {status}")?;
    writeln!(out, "   driver      {}", r.driver)?;
    writeln!(
        out,
        "   limits      {} a binding, {} a buffer, {} invocations and {} a workgroup",
        bytes(r.target.max_binding_bytes),
        bytes(r.max_buffer_bytes),
        r.target.max_invocations,
        bytes(r.target.max_workgroup_bytes.into()),
    )?;
    let subgroups = match r.subgroup_sizes {
        (0, 0) => yes(r.subgroups).to_owned(),
        (low, high) if low == high => format!("{} ({low} wide)", yes(r.subgroups)),
        (low, high) => format!("{} ({low} to {high} wide)", yes(r.subgroups)),
    };
    writeln!(
        out,
        "   features    f16 {}, subgroups {subgroups}, timestamps {}, pipeline cache {}",
        yes(r.target.f16),
        yes(r.timestamps),
        yes(r.pipeline_cache),
    )?;
    if !r.cooperative_matrices.is_empty() {
        writeln!(out, "   matrices    {}", r.cooperative_matrices.join(", "))?;
    }
    Ok(())
}

fn facts(r: &AdapterReport) -> Facts {
    Facts {
        index: r.index,
        name: r.name.clone(),
        kind: r.kind,
        backend: r.backend.clone(),
        driver: r.driver.clone(),
        pci: r.pci.clone(),
        max_binding_bytes: r.target.max_binding_bytes,
        max_buffer_bytes: r.max_buffer_bytes,
        max_workgroup_invocations: r.target.max_invocations,
        max_workgroup_bytes: r.target.max_workgroup_bytes,
        f16: r.target.f16,
        subgroups: r.subgroups,
        subgroup_sizes: r.subgroup_sizes,
        timestamps: r.timestamps,
        pipeline_cache: r.pipeline_cache,
        cooperative_matrices: r.cooperative_matrices.clone(),
        usable: r.unusable.is_none(),
        reason: r.unusable.clone(),
    }
}
