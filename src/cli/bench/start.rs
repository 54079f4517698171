//! From the start of a process to its first answer, measured where it happens: in a process of its
//! own. The first of a pair starts with nothing kept on disk, the second with what the first left.
//!
//! A process that was started to answer once starts no other: `--answer-once` says when it was
//! started, and does nothing but that. What the operating system keeps of files that were read is
//! not touched, and drivers' own caches are moved away where the driver lets itself be told (Mesa,
//! NVIDIA).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};

use super::subject::{Subject, name_of, outputs, peak};
use crate::cli::bench::args::BenchArgs;
use crate::cli::open;
use crate::cli::output::millis;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::session::{Device, Session};
use crate::tensor::Size;

/// Milliseconds of one start, phase by phase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    /// From the call that started the process to its first own work.
    pub(super) process: f64,
    /// Model files read and understood.
    pub(super) load: f64,
    /// Driver started, device opened, caches read.
    pub(super) device: f64,
    /// Ways of computing measured, if none were known.
    pub(super) tune: f64,
    /// From a graph to a plan.
    pub(super) plan: f64,
    /// Weights packed and copied to the device.
    pub(super) upload: f64,
    /// Pipelines compiled or fetched, buffers made.
    pub(super) pipelines: f64,
    /// The first run.
    pub(super) first_run: f64,
    /// From the call that started the process to the first answer.
    pub(super) total: f64,
    /// Bytes on the device.
    pub(super) device_bytes: u64,
    /// The most memory that the process had, where the system tells.
    pub(super) host_bytes: Option<u64>,
}

impl Start {
    /// Names and milliseconds of the phases.
    pub(super) fn phases(&self) -> [(&'static str, f64); 9] {
        [
            ("process", self.process),
            ("load", self.load),
            ("device", self.device),
            ("tune", self.tune),
            ("plan", self.plan),
            ("upload", self.upload),
            ("pipelines", self.pipelines),
            ("first run", self.first_run),
            ("total", self.total),
        ]
    }
}

/// Answers once and says how long that took; `begun` is when the process was started, in nanoseconds
/// of Unix time.
///
/// # Errors
/// As [`Session::open`] and [`Session::prepare`].
pub(super) fn answer(args: &BenchArgs, subject: &Subject, begun: u64, talk: Talk) -> Result<Start> {
    let since_begun = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        now.saturating_sub(u128::from(begun)) as f64 / 1e6
    };
    let process = since_begun();
    let mut options = open::options(&subject.device, !args.no_mmap, talk)?;
    if let Device::Gpu(choice) = &mut options.device {
        choice.cache_dir = args.cache_dir.clone();
    }
    let session = Session::open(&subject.located.source, &options)?;
    let opened = session.opening();
    let own = session.preprocess().size().unwrap_or(session.info().image_size);
    let size = args.image_size.unwrap_or(own);
    let outputs = outputs(&session, size)?;
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut prepared = session.prepare(args.batch_size[0] as usize, size, &names)?;
    let ready = prepared.preparation();
    let first = Instant::now();
    prepared.run()?;
    let first_run = millis(first.elapsed());
    Ok(Start {
        process,
        load: opened.files * 1e3,
        device: opened.device * 1e3,
        tune: ready.tune * 1e3,
        plan: ready.plan * 1e3,
        upload: ready.upload * 1e3,
        pipelines: ready.pipelines * 1e3,
        first_run,
        total: since_begun(),
        device_bytes: prepared.plan().weight_bytes() + prepared.device_bytes(),
        host_bytes: peak(),
    })
}

/// Cold and warm starts of a subject, as many pairs as asked for.
///
/// # Errors
/// [`Error::Input`] with what a started process said.
pub(super) fn spawn(
    args: &BenchArgs,
    subject: &Subject,
    talk: Talk,
) -> Result<Vec<(&'static str, Vec<Start>)>> {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    let mut bar = talk.progress("starts", u64::from(args.starts) * 2, false);
    for pair in 0..args.starts {
        let folder = Folder::new(pair)?;
        for (i, starts) in [&mut cold, &mut warm].into_iter().enumerate() {
            starts.push(once(args, subject, &folder.0)?);
            bar.at(u64::from(pair) * 2 + i as u64 + 1);
        }
    }
    let rows = [("cold start", cold), ("warm start", warm)];
    Ok(rows.into_iter().filter(|(_, starts)| !starts.is_empty()).collect())
}

/// One process that answers once with its caches in `folder`.
fn once(args: &BenchArgs, subject: &Subject, folder: &Path) -> Result<Start> {
    let failed = |what: String| Error::input("starting a process", what, "");
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut command = Command::new(program);
    let driver = folder.join("driver");
    command.arg("bench").arg("-q").args(flags(args, subject)).arg("--cache-dir").arg(folder);
    command.env("MESA_SHADER_CACHE_DIR", &driver).env("__GL_SHADER_DISK_CACHE_PATH", &driver);
    command.env_remove("VIT_GPU_MODEL");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    command.arg("--answer-once").arg(begun.to_string());
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find_map(|l| l.strip_prefix("error: ")).unwrap_or(said.trim());
        return Err(failed(format!("it ended with {}: {line}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(format!("it did not answer: {e}")))
}

/// The flags by which another process means the same.
fn flags(args: &BenchArgs, subject: &Subject) -> Vec<OsString> {
    let device = &subject.device;
    let mut flags: Vec<OsString> = subject.flag.to_vec();
    flags.extend(args.adapter.iter().flat_map(|folder| ["--adapter".into(), folder.into()]));
    let mut put = |flag: &str, value: &str| flags.extend([flag.into(), value.into()]);
    put("--batch-size", &args.batch_size[0].to_string());
    put("--dtype", name_of(device.dtype));
    if let Some(name) = &device.device {
        put("--device", name);
    }
    if !device.backend.is_empty() {
        put("--backend", &device.backend.join(","));
    }
    for feature in &device.disable {
        if let Some(value) = feature.to_possible_value() {
            put("--disable", value.get_name());
        }
    }
    for variant in &device.variant {
        put("--variant", variant);
    }
    if let Some(Size { height, width }) = args.image_size {
        put("--image-size", &format!("{height}x{width}"));
    }
    for (flag, on) in [
        ("--no-tune", device.no_tune),
        ("--checked", device.checked),
        ("--offline", args.offline),
        ("--no-mmap", args.no_mmap),
    ] {
        flags.extend(on.then(|| flag.into()));
    }
    flags
}

/// An empty folder that goes away again.
struct Folder(PathBuf);

impl Folder {
    fn new(number: u32) -> Result<Self> {
        let name = format!("vit-gpu-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = std::fs::create_dir(&path).map(|()| path.clone());
        let path =
            made.map_err(|e| Error::Write { path: path.display().to_string(), what: e.to_string() })?;
        crate::cli::outfile::remove_at_end(&path);
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
