//! `vit-gpu doctor`: what this machine is, whether the chosen adapter computes what the
//! reference computes, and where things are kept. All of it goes to standard output as one block to
//! paste into a report; secrets are named, never shown.

use crate::printable::escaped;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::DeviceArgs;
use super::devices::describe;
use super::open;
use super::outcome::{FAILED, Outcome, Stop};
use super::output::bytes;
use super::talk::Talk;
use crate::error::{Error, Result};
use crate::generate::{self, Generator, Order, Request};
use crate::gpu::{Adapters, DeviceChoice};
use crate::hub;
use crate::hub::HubEnv;
use crate::ops::{Guidance, Sampling};
use crate::selftest::largest;
use crate::session::{self, BUILTIN, Device, ModelSource, Options, Session};
use crate::tensor::{HostTensor, Size};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Variables that change what this program does.
const VARIABLES: [&str; 33] = [
    "VIT_GPU_MODEL",
    "VIT_GPU_DEVICE",
    "VIT_GPU_BACKEND",
    "VIT_GPU_DTYPE",
    "VIT_GPU_CHECKED",
    "WGPU_BACKEND",
    "WGPU_ADAPTER_NAME",
    "WGPU_POWER_PREF",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_LAYERS_ENABLE",
    "LIBGL_ALWAYS_SOFTWARE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
    "XDG_CACHE_HOME",
    "HOME",
    "USERPROFILE",
    "LOCALAPPDATA",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "HTTP_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "RAYON_NUM_THREADS",
];

/// Where Vulkan drivers announce themselves on Linux.
const DRIVER_FOLDERS: [&str; 4] = [
    "/usr/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
];

/// A computation on the device against the reference.
struct Check {
    name: String,
    max_error: f32,
    tolerance: f32,
    pass: bool,
    /// Why there is nothing to compare.
    failure: Option<String>,
}

/// Runs the command and yields its exit code: 4 without a supported adapter, 1 if a check fails.
pub(super) fn run(args: &DoctorArgs, talk: Talk, out: &mut impl Write) -> Outcome {
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    writeln!(out, "vit-gpu {} on {system} {architecture}", env!("CARGO_PKG_VERSION"))?;
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let hub = if cfg!(feature = "hub") { "with" } else { "without" };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    writeln!(out, "build {build}, {hub} downloads; {threads} processors\n")?;
    environment(out)?;
    paths(out)?;

    let options = open::options(&args.device, true, talk)?;
    let choice = match &options.device {
        Device::Gpu(choice) => choice.clone(),
        Device::Reference => DeviceChoice::default(),
    };
    let adapters = Adapters::list(&choice)?;
    writeln!(out, "adapters")?;
    for report in adapters.reports() {
        describe(report, out)?;
    }
    if adapters.reports().is_empty() {
        writeln!(out, "   none")?;
    }
    if cfg!(target_os = "linux") {
        drivers(out)?;
    }
    writeln!(out)?;
    out.flush()?;

    let name = match checks(&options, talk, out) {
        Ok((name, 0)) => {
            writeln!(out, "\nverdict: all is well on {name}")?;
            return Ok(0);
        }
        Ok((name, failed)) => {
            writeln!(out, "\nverdict: {failed} checks FAIL on {name}: its results cannot be trusted")?;
            name
        }
        Err(Stop::Error(e)) => {
            writeln!(out, "\nverdict: {}", e.message())?;
            out.flush()?;
            return Err(Stop::Error(e));
        }
        Err(stop) => return Err(stop),
    };
    out.flush()?;
    talk.note(format_args!("try another driver for {name}, --checked, or --disable matrices,f16,subgroups"));
    Ok(FAILED)
}

/// Runs every check, a line for each that fails; yields the device's name and how many failed.
fn checks(options: &Options, talk: Talk, out: &mut impl Write) -> Result<(String, usize), Stop> {
    let source = ModelSource::Builtin(BUILTIN.to_owned());
    let device = Session::open(&source, options)?;
    let plain = Options { device: Device::Reference, precision: None, ..options.clone() };
    let reference = Session::open(&source, &plain)?;
    let name = device.device().name.clone();
    writeln!(out, "checks on {name} ({})", device.precision())?;
    let mut failed = 0;
    if let Device::Gpu(choice) = &options.device {
        failed += report("kernel cases", &kernel_checks(choice)?, out)?;
    }
    let cases = [(1, [64, 64]), (3, [64, 64]), (2, [72, 40]), (1, [8, 8])];
    let mut progress = talk.progress("checks", cases.len() as u64, false);
    let mut outputs = Vec::new();
    for (i, (batch, size)) in cases.into_iter().enumerate() {
        outputs.extend(model_checks(&device, &reference, batch, Size::from(size))?);
        progress.at(i as u64 + 1);
    }
    drop(progress);
    failed += report("outputs of the built-in classifier", &outputs, out)?;
    failed += report("results of the built-in generator", &generator_checks(options, &plain)?, out)?;
    Ok((name, failed))
}

/// A line for each failed check and one for all; yields how many failed.
fn report(what: &str, checks: &[Check], out: &mut impl Write) -> Result<usize, Stop> {
    let failed: Vec<&Check> = checks.iter().filter(|c| !c.pass).collect();
    for Check { name, max_error, tolerance, failure, .. } in &failed {
        match failure {
            Some(why) => writeln!(out, "   FAIL {name}: {why}")?,
            None => writeln!(out, "   FAIL {name}: error {max_error:.2e}, tolerance {tolerance:.0e}")?,
        }
    }
    let ran = checks.iter().filter(|c| c.failure.is_none());
    let worst = ran.map(|c| c.max_error / c.tolerance).fold(0.0, largest);
    let agree = checks.len() - failed.len();
    writeln!(
        out,
        "   {agree} of {} {what} agree with the reference, worst {worst:.3} of its tolerance",
        checks.len()
    )?;
    out.flush()?;
    Ok(failed.len())
}

/// Every kernel on small awkward sizes.
fn kernel_checks(choice: &DeviceChoice) -> Result<Vec<Check>> {
    let outcomes = session::self_test(choice)?.into_iter();
    let check = |o: crate::selftest::Outcome| Check {
        name: format!("{} ({})", o.name, o.kernels.join(", ")),
        max_error: o.max_error,
        tolerance: o.tolerance,
        pass: o.pass,
        failure: o.failure,
    };
    Ok(outcomes.map(check).collect())
}

/// Every output of the built-in model on both devices, for a batch of noise of one size.
fn model_checks(device: &Session, reference: &Session, batch: usize, size: Size) -> Result<Vec<Check>> {
    let names = device.output_names(size)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let pixels: Vec<Vec<u8>> =
        (0..batch).map(|b| noise(b as u32 + 1, size.height * size.width * 3)).collect();
    let pixels: Vec<&[u8]> = pixels.iter().map(Vec::as_slice).collect();
    let got = device.run_pixels(&pixels, size, &names)?;
    let want = reference.run_pixels(&pixels, size, &names)?;
    let tolerance = if device.precision() == crate::plan::Precision::F16 { 2e-2 } else { 1e-4 };
    let check = |(name, (got, want)): (&&str, (&HostTensor, &HostTensor))| {
        let max_error = max_error(got, want);
        let name = format!("{name}, batch {batch} of {size}");
        Check { name, max_error, tolerance, pass: max_error <= tolerance, failure: None }
    };
    Ok(names.iter().zip(got.iter().zip(&want)).map(check).collect())
}

/// The built-in generator: what the token loop drew from, over its cache, against the reference's scores
/// of the whole sequences; the scores themselves; the images.
fn generator_checks(options: &Options, plain: &Options) -> Result<Vec<Check>> {
    let source = ModelSource::Builtin(generate::BUILTIN.to_owned());
    let device = Generator::open(&source, options)?;
    let reference = Generator::open(&source, plain)?;
    let classes = [3, 10];
    let request = Request {
        classes: classes.iter().map(|&c| Some(c as usize)).collect(),
        first: 0,
        sampling: Sampling {
            seed: 1,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            guidance: Guidance { first: 1.0, last: 1.0, places: 1 },
        },
        prime: Vec::new(),
        order: Order::Raster,
        every: 0,
        parallel: None,
    };
    let drawn = device.generate(&request, &mut |_| Ok(()))?;
    let given: Vec<Vec<u32>> = drawn.tokens.iter().map(|t| t[..t.len() - 1].to_vec()).collect();
    let scores = |g: &Generator| Ok::<_, Error>(g.score(&classes, &given, &["logits"])?.remove(0));
    let (got, want) = (scores(&device)?, scores(&reference)?);
    let flat = |values: Vec<f32>| HostTensor::f32([values.len()], values);
    let entropies = want.to_f32().chunks(device.info().vocabulary).map(entropy).collect();
    let pictures = |g: &Generator| Ok::<_, Error>(flat(g.decode_values(&drawn.tokens)?.concat()));
    // A hundred launches in f16 add up; what is wrong is wrong by more.
    let tolerance = if device.precision() == crate::plan::Precision::F16 { 5e-2 } else { 1e-4 };
    let check = |(name, got, want): (&str, HostTensor, HostTensor)| {
        let max_error = max_error(&got, &want);
        Check {
            name: format!("generated {name}"),
            max_error,
            tolerance,
            pass: max_error <= tolerance,
            failure: None,
        }
    };
    let all = [
        ("entropies", flat(drawn.entropy.concat()), flat(entropies)),
        ("logits", got, want),
        ("images", pictures(&device)?, pictures(&reference)?),
    ];
    Ok(all.into_iter().map(check).collect())
}

/// Of the softmax of scores, in nats.
fn entropy(scores: &[f32]) -> f32 {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = || scores.iter().map(|&x| f64::from(x - highest));
    let sum: f64 = powers().map(f64::exp).sum();
    (sum.ln() - powers().map(|x| x.exp() * x).sum::<f64>() / sum) as f32
}

/// Largest difference relative to 1 + |want|; NaN if any element is.
fn max_error(got: &HostTensor, want: &HostTensor) -> f32 {
    if got.shape() != want.shape() {
        return f32::NAN;
    }
    let errors = got.to_f32().into_iter().zip(want.to_f32()).map(|(g, w)| (g - w).abs() / (1.0 + w.abs()));
    errors.fold(0.0, largest)
}

fn noise(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn environment(out: &mut impl Write) -> Result<(), Stop> {
    writeln!(out, "environment")?;
    for name in VARIABLES {
        let Some(value) = std::env::var_os(name) else { continue };
        let proxy = name.to_ascii_uppercase().ends_with("_PROXY") && !name.eq_ignore_ascii_case("no_proxy");
        let secret = name.ends_with("TOKEN") || proxy;
        let value = if secret { "(set)".to_owned() } else { escaped(&value.to_string_lossy()) };
        writeln!(out, "   {name}={value}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn paths(out: &mut impl Write) -> Result<(), Stop> {
    writeln!(out, "paths")?;
    match open::cache_dir() {
        Some(dir) => {
            let (files, total) = contents(&dir);
            writeln!(
                out,
                "   pipelines   {} ({}; {files} files, {})",
                dir.display(),
                access(&dir),
                bytes(total)
            )?;
        }
        None => writeln!(out, "   pipelines   not kept: {} are unset", open::CACHE_VARIABLES)?,
    }
    match HubEnv::read().cache() {
        Ok(dir) => {
            let models = hub::list(&dir);
            writeln!(out, "   models      {} ({}; {} models)", dir.display(), access(&dir), models.len())?;
            for model in models.iter().take(20) {
                let state = if model.complete { "" } else { ", incomplete" };
                writeln!(out, "               {} ({}{state})", model.id, bytes(model.bytes))?;
            }
        }
        Err(e) => writeln!(out, "   models      {}", e.message())?,
    }
    writeln!(out)?;
    Ok(())
}

/// Whether files can be made in a folder, or in the nearest one above it that exists.
fn access(dir: &Path) -> &'static str {
    let existing: Option<PathBuf> = dir.ancestors().find(|d| d.is_dir()).map(Path::to_owned);
    let Some(existing) = existing else { return "not there" };
    let probe = existing.join(format!(".vit-gpu-doctor.{}.tmp", std::process::id()));
    let writable = std::fs::write(&probe, b"").is_ok();
    _ = std::fs::remove_file(&probe);
    match (writable, existing == dir) {
        (true, true) => "writable",
        (true, false) => "will be made",
        (false, _) => "NOT writable",
    }
}

fn contents(dir: &Path) -> (usize, u64) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|e| e.metadata().ok()).filter(std::fs::Metadata::is_file).map(|m| m.len());
    sizes.fold((0, 0), |(n, total), size| (n + 1, total + size))
}

fn drivers(out: &mut impl Write) -> Result<(), Stop> {
    let mut found: Vec<String> = Vec::new();
    for folder in DRIVER_FOLDERS {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(entries.map(|e| e.path().display().to_string()).filter(|p| p.ends_with(".json")));
    }
    found.sort();
    if found.is_empty() {
        writeln!(out, "   no Vulkan driver is installed (looked in {})", DRIVER_FOLDERS.join(", "))?;
    } else {
        writeln!(out, "   Vulkan drivers announced by {}", found.join(", "))?;
    }
    Ok(())
}
