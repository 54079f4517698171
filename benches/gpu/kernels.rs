//! The kernel tests of `vit-gpu doctor`, or all of them, each kernel in every variant against the
//! reference, as items: one that kills the device costs itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use vit_gpu::selftest::{self, Check};

use crate::{Result, device, items};

#[derive(clap::Args)]
pub struct Args {
    /// Every case in f32 and f16, not only those of `doctor`
    #[arg(long)]
    every: bool,
    /// Only checks whose names hold this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Checks at a time
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// One at a time: which one killed the process must be known
    #[arg(long)]
    singly: bool,
    /// Leave out what this file names
    #[arg(long, value_name = "FILE")]
    skip: Option<PathBuf>,
}

/// 1 if a check fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    let skipped = items::skipped(args.skip.as_deref())?;
    let gpu = device::open()?;
    let (name, driver) = (gpu.report().name.clone(), gpu.report().driver.clone());
    let mut checks = selftest::checks(gpu.target(), args.every)?;
    checks.retain(|c| c.name.contains(&args.only));
    items::line(&json!({ "adapter": name, "driver": driver, "checks": checks.len() }));
    checks.retain(|c| !skipped.contains(&c.name));
    let gpu = Mutex::new(gpu);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while let Some(check) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
            items::begin(&check.name);
            let pass = one(check, &gpu)?;
            failed.fetch_or(!pass, Ordering::Relaxed);
        }
        Ok::<_, vit_gpu::Error>(())
    };
    let threads = if args.singly { 1 } else { args.threads.max(1) };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs a check, prints what it gave, and opens the device anew if it was lost.
fn one(check: &Check, shared: &Mutex<std::sync::Arc<vit_gpu::gpu::Gpu>>) -> vit_gpu::Result<bool> {
    let gpu = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let outcome = check.run(&gpu).unwrap_or_else(|e| check.failed(&e));
    items::end(
        &check.name,
        json!({
            "kernels": outcome.kernels,
            "max_error": outcome.max_error.is_finite().then_some(outcome.max_error),
            "tolerance": outcome.tolerance,
            "pass": outcome.pass,
            "failure": outcome.failure,
        }),
    );
    if outcome.failure.is_some() {
        let mut current = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Others may have opened it anew already.
        if std::sync::Arc::ptr_eq(&gpu, &current) {
            *current = std::sync::Arc::new(vit_gpu::gpu::Gpu::open(&device::choice())?);
        }
    }
    Ok(outcome.pass)
}
