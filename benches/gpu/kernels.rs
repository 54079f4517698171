//! The kernel tests of `vit-gpu doctor`, or all of them, each kernel in every variant against the
//! reference, as items: one that kills the device costs itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use vit_gpu::gpu::Gpu;
use vit_gpu::selftest::{self, Check};

use crate::{Result, child, device, items};

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
    let threads = if args.singly { 1 } else { args.threads.max(1) };
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while let Some(check) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
            items::begin(&check.name);
            let pass = one(check, &gpu, threads)?;
            failed.fetch_or(!pass, Ordering::Relaxed);
        }
        Ok::<_, vit_gpu::Error>(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs a check, prints what it gave, and opens the device anew if it was lost.
fn one(check: &Check, shared: &Mutex<Arc<Gpu>>, threads: usize) -> vit_gpu::Result<bool> {
    let gpu = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let outcome = match check.run(&gpu) {
        Ok(outcome) => outcome,
        Err(e) if threads > 1 => {
            // All that run now fail with it, and only one is to blame: it will be found singly.
            eprintln!("error: {}: {e}", check.name);
            std::process::exit(i32::from(child::ENDED));
        }
        Err(e) => check.failed(&e),
    };
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
        let mut current = shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have opened it anew already.
        if Arc::ptr_eq(&gpu, &current) {
            *current = Arc::new(Gpu::open(&device::choice())?);
        }
    }
    Ok(outcome.pass)
}
