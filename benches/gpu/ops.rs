//! Single ops by GPU timestamps: bare matrix products and convolutions, the ops of ViT-B/16 at their real
//! sizes, and the cases of the kernel tests. Times are medians over all runs after the warm-up, summed over
//! a case's launches, with the median of their distances from it; on a GPU a run is many rounds of them, one
//! right after the other, so that its clocks stay up. Elements of matrix products are compared.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vit_gpu::gpu::ceilings::Ceilings;
use vit_gpu::gpu::timer::{CLOCKS_RISE, Clock, Timer};
use vit_gpu::gpu::{Executor, Gpu, Store};
use vit_gpu::ops::{Choices, Target};
use vit_gpu::plan::{self, Options, Precision};
use vit_gpu::selftest::{self, Case};
use vit_gpu::tensor::HostTensor;

use crate::{Result, cases, device, items};

#[derive(clap::Args)]
pub struct Args {
    /// Only cases whose names hold one of these
    filter: Vec<String>,
    /// A matrix product and nothing else, operands and result stored as activations and weights are
    #[arg(long, value_name = "MxKxN")]
    gemm: Vec<String>,
    /// A 3x3 convolution of HxW pixels (`up`: of an image of half that size, doubled), and the matrix product
    /// of as much work
    #[arg(long, value_name = "HxWxCxN[up]")]
    conv: Vec<String>,
    /// Images of the ops of ViT-B/16
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    #[arg(long)]
    f16: bool,
    /// All cases of the kernel tests, not only those of `doctor`
    #[arg(long)]
    every: bool,
    /// Every variant of each, not only the one that would be chosen
    #[arg(long)]
    ways: bool,
    /// With --ways, only the variants that tuning would measure
    #[arg(long, requires = "ways")]
    contenders: bool,
    #[arg(long, value_name = "OP=NAME")]
    variant: Vec<String>,
    /// Runs that count [default: 20, or as many as fit into half a second]
    #[arg(long)]
    runs: Option<usize>,
    /// Keep the times under this name
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Print the ratio to those kept: above 1 is faster than then, `*` marks what is more than the noise
    #[arg(long, value_name = "NAME")]
    compare: Option<String>,
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    /// Leave out what this file names
    #[arg(long, value_name = "FILE")]
    skip: Option<PathBuf>,
    /// One at a time, which they always are
    #[arg(long, hide = true)]
    singly: bool,
}

/// What one case took, in nanoseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Time {
    median: f64,
    /// Median of the distances from the median.
    spread: f64,
}

/// A saved run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    adapter: String,
    driver: String,
    clock: String,
    times: BTreeMap<String, Time>,
}

/// A case in one storage type and variant.
struct Job<'a> {
    name: String,
    case: &'a Case,
    target: Target,
    options: Options,
}

/// A job, timed.
struct Timed {
    kernels: String,
    time: Time,
    flops: f64,
    bytes: f64,
    /// Part of the time that the lower roof would take, 0 to 1.
    roofline: f64,
    /// The variant taken, its estimated time, and the speed that rests on, if the op has several.
    estimate: Option<(&'static str, f64, f64)>,
    /// Of a matrix product: the largest difference from sums in f64, and whether it is small enough.
    check: Option<(f64, bool)>,
}

/// The adapter and its clock; opened anew after a fault.
struct Bench {
    gpu: Arc<Gpu>,
    timer: Timer,
    ceilings: Ceilings,
}

/// Runs of a case, unless they take longer than is worth spending on a variant that is hopeless.
const RUNS: usize = 20;
const ENOUGH: Duration = Duration::from_millis(500);
/// Runs before those, on software adapters.
const WARM_UP: Duration = Duration::from_millis(100);
/// What a run repeats its launches for, in nanoseconds, so that breaks between runs do not count.
const ROUNDS_TAKE: f64 = 2e6;

/// 1 if something could not be timed, or a matrix product was wrong.
pub fn run(args: &Args) -> Result<ExitCode> {
    let before = args.compare.as_deref().map(load).transpose()?;
    let skipped = items::skipped(args.skip.as_deref())?;
    let mut bench = Bench::open()?;
    let report = bench.gpu.report();
    let clock = bench.timer.clock().name();
    let mut saved = Saved {
        adapter: report.name.clone(),
        driver: report.driver.clone(),
        clock: clock.to_owned(),
        ..Saved::default()
    };
    heading(args, &bench, before.as_ref());
    let cases = chosen(args)?;
    let mut failed = false;
    for job in jobs(args, &cases, &bench)?.into_iter().filter(|j| !skipped.contains(&j.name)) {
        if args.json {
            items::begin(&job.name);
        }
        match bench.time(&job, args.runs) {
            Ok(timed) if args.json => {
                failed |= timed.check.is_some_and(|(_, pass)| !pass);
                items::end(&job.name, document(&job, &timed));
            }
            Ok(timed) => {
                if let Some((max_error, false)) = timed.check {
                    failed = true;
                    println!("{:>58}  {} is WRONG by up to {max_error:.2e}", "", job.name);
                }
                // A run in which another way is chosen is compared all the same, unless all ways are run.
                let shown = format!("{} {} [{}]", job.case.name, job.options.precision, timed.kernels);
                let name = if args.ways { shown.clone() } else { job.name };
                print(&timed, before.as_ref().map(|b| b.times.get(&name)), &shown);
                saved.times.insert(name, timed.time);
            }
            Err(e) => {
                failed = true;
                if args.json {
                    items::end(&job.name, json!({ "failure": e.to_string() }));
                } else {
                    println!("{:>58}  {}: {e}", "", job.name);
                }
                bench = Bench::open()?;
            }
        }
    }
    if let Some(name) = &args.save {
        let file = file(name)?;
        std::fs::create_dir_all(device::cache())?;
        std::fs::write(&file, serde_json::to_string_pretty(&saved)?)?;
        println!("\nsaved as {name} in {}", file.display());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn heading(args: &Args, bench: &Bench, before: Option<&Saved>) {
    let (report, clock) = (bench.gpu.report(), bench.timer.clock());
    let (adapter, driver) = (&report.name, &report.driver);
    if args.json {
        items::line(&json!({
            "adapter": adapter, "driver": driver, "clock": clock.name(),
            "ceilings": bench.ceilings,
        }));
        return;
    }
    println!("{adapter}, driver {driver}, {}", clock.name());
    if let Clock::Wall(reason) = clock {
        println!("wall clock: {reason}");
    }
    if let Some(before) = before.filter(|b| (&b.adapter, &b.driver) != (adapter, driver)) {
        println!("compared with a run on {} ({})", before.adapter, before.driver);
    }
    let width = if before.is_some() { "    ratio" } else { "" };
    println!("\n  median us    spread  GFLOP/s     GB/s  roofline{width}  case");
}

/// The cases that the arguments name.
fn chosen(args: &Args) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for sizes in &args.gemm {
        cases.push(cases::gemm(sizes)?);
    }
    for sizes in &args.conv {
        cases.extend(cases::conv(sizes)?);
    }
    if cases.is_empty() {
        cases = selftest::all().into_iter().filter(|c| args.every || c.quick).collect();
        cases.extend(cases::vit_b(args.batch));
    }
    cases.retain(|c| args.filter.is_empty() || args.filter.iter().any(|f| c.name.contains(f.as_str())));
    Ok(cases)
}

fn jobs<'a>(args: &Args, cases: &'a [Case], bench: &Bench) -> Result<Vec<Job<'a>>> {
    let precision = if args.f16 { Precision::F16 } else { Precision::F32 };
    let choices = Choices::forced(args.variant.iter().map(String::as_str))?;
    let mut jobs = Vec::new();
    for case in cases {
        let options = Options { precision, choices: choices.clone(), ..Options::default() };
        let target = bench.gpu.target();
        if args.ways {
            for (target, options) in case.variants(target, &options)? {
                if args.contenders && !contends(case, &target, &options)? {
                    continue;
                }
                let variant = selftest::variant_name(&target, &options);
                let name = format!("{} {precision} {variant}", case.name);
                jobs.push(Job { name, case, target, options });
            }
        } else {
            let name = format!("{} {precision}", case.name);
            jobs.push(Job { name, case, target: target.clone(), options });
        }
    }
    Ok(jobs)
}

/// Whether every variant that a case takes is one that tuning would measure.
fn contends(case: &Case, target: &Target, options: &Options) -> Result<bool> {
    let plan = plan::compile(&case.graph, target, options.clone())?;
    let mut choices = plan.steps.iter().filter_map(|s| s.choice.as_ref());
    Ok(choices.all(|c| c.candidates.names[..c.candidates.contenders].contains(&c.name)))
}

impl Bench {
    fn open() -> Result<Self> {
        let gpu = device::open()?;
        let mut timer = Timer::new(&gpu)?;
        let ceilings = Ceilings::of(&mut timer, Some(&device::cache()), false)?.0;
        Ok(Self { gpu, timer, ceilings })
    }

    fn time(&mut self, job: &Job, runs: Option<usize>) -> Result<Timed> {
        let plan = plan::compile(&job.case.graph, &job.target, job.options.clone())?;
        let kernel = |s: &plan::Step| s.choice.as_ref().map_or(s.kernel.name, |c| c.name);
        let kernels = plan.steps.iter().map(kernel).collect::<Vec<_>>().join(", ");
        let bare = cases::is_bare(job.case);
        let timed = |s: &plan::Step| !bare || ["matmul", "conv2d"].contains(&s.op);
        let timed: Vec<bool> = plan.steps.iter().map(timed).collect();
        let costs = plan.steps.iter().zip(&timed).filter(|(_, timed)| **timed).map(|(s, _)| s.cost);
        let (flops, bytes) = costs.fold((0, 0), |(flops, bytes), c| (flops + c.flops, bytes + c.bytes));
        let (flops, bytes) = (flops as f64, bytes as f64);
        let matrices = plan.steps.iter().any(|s| s.variant.uses_matrices());
        let mut choices = plan.steps.iter().filter_map(|s| s.choice.as_ref());
        let estimate = choices.next().filter(|_| choices.next().is_none()).and_then(|c| {
            let at = c.candidates.names.iter().position(|n| *n == c.name)?;
            let estimate = c.candidates.estimates[at];
            Some((c.name, estimate.time, estimate.speed))
        });
        let store = Store::new();
        store.load(&self.gpu, &plan, &|w, s| Ok(selftest::weight(w, s)))?;
        let mut executor = Executor::new(self.gpu.clone(), plan, &store)?;
        let inputs = job.case.inputs();
        let inputs: Vec<(&str, &HostTensor)> = inputs.iter().map(|(n, t)| (*n, t)).collect();
        executor.run(&inputs)?;
        let cpu = self.gpu.target().cpu;
        let warm_up = if cpu { WARM_UP } else { CLOCKS_RISE };
        let (begun, mut rounds) = (Instant::now(), 1);
        while begun.elapsed() < warm_up {
            let took = executor.time_rounds(&mut self.timer, |i| timed[i], rounds)?;
            rounds = if cpu { 1 } else { (ROUNDS_TAKE / took.max(1.0)).clamp(1.0, 1000.0) as u32 };
        }
        let (begun, mut sums) = (Instant::now(), Vec::new());
        while sums.len() < runs.unwrap_or(RUNS).max(1)
            && (runs.is_some() || sums.is_empty() || begun.elapsed() < ENOUGH)
        {
            sums.push(executor.time_rounds(&mut self.timer, |i| timed[i], rounds)?);
        }
        let check = cases::check(job.case, job.options.precision, inputs[0].1, &executor.run(&inputs)?[0]);
        let middle = median(&mut sums).max(1.0);
        let mut distances: Vec<f64> = sums.iter().map(|t| (t - middle).abs()).collect();
        let time = Time { median: middle, spread: median(&mut distances) };
        let roof = self.ceilings.matrix.filter(|_| matrices).unwrap_or(self.ceilings.f32);
        let least = f64::max(bytes / self.ceilings.copy(), flops / roof) * 1e9;
        Ok(Timed { kernels, time, flops, bytes, roofline: least / middle, estimate, check })
    }
}

fn document(job: &Job, timed: &Timed) -> Value {
    let Timed { kernels, time, flops, bytes, roofline, estimate, check } = timed;
    let estimate = estimate.map(|(variant, time, speed)| {
        json!({ "variant": variant, "time": time, "speed": speed, "cpu": job.target.cpu })
    });
    let mut document = json!({
        "case": job.case.name, "dtype": job.options.precision.to_string(), "kernels": kernels,
        "median_us": time.median / 1e3, "spread_us": time.spread / 1e3,
        "flops": flops, "gflops": flops / time.median, "gbytes": bytes / time.median,
        "roofline": roofline, "estimate": estimate,
    });
    if let Some((max_error, pass)) = check {
        document["max_error"] = max_error.is_finite().then_some(*max_error).into();
        document["pass"] = (*pass).into();
    }
    document
}

fn print(timed: &Timed, old: Option<Option<&Time>>, shown: &str) {
    let Timed { time, flops, bytes, roofline, .. } = timed;
    let ratio = old.map_or(String::new(), |old| {
        old.map_or("        -".to_owned(), |old| {
            let beyond = (old.median - time.median).abs() > 3.0 * (old.spread + time.spread);
            format!("{:>7.2} {}", old.median / time.median, if beyond { "*" } else { " " })
        })
    });
    println!(
        "{:>11.1} {:>8.1}% {:>8.2} {:>8.2} {:>8.1}%{ratio}  {shown}",
        time.median / 1e3,
        time.spread / time.median * 100.0,
        flops / time.median,
        bytes / time.median,
        roofline * 100.0
    );
}

/// The middle one, the later of two.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn file(name: &str) -> Result<PathBuf> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("`{name}`: names are made of letters, digits, -, _ and .").into());
    }
    Ok(device::cache().join(format!("ops-{name}.json")))
}

fn load(name: &str) -> Result<Saved> {
    let file = file(name)?;
    let text = std::fs::read_to_string(&file)
        .map_err(|e| format!("no run was saved as {name} ({}: {e})", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}
