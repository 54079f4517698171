//! Measures the kernel variants of an op, on the very adapter, and remembers the fastest.
//!
//! Every launch of a plan that had a choice is run alone, on buffers of its size that hold zeros,
//! once for each contender on its list. What was found is a preference between variants that `doctor`
//! and the kernel tests all check, so it changes speed and nothing else. It is kept in a file keyed
//! by adapter, driver and the text of the kernels; a file that cannot be read is as good as none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pipeline::PARAMETERS;
use super::{AdapterReport, Gpu, kept};
use crate::clock::Instant;
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::{Choice, Choices, Reason};
use crate::plan::{self, Buffer, Options, Plan, Step};

/// The longest that tuning on first use may take.
pub const FIRST_USE_BUDGET: Duration = Duration::from_secs(2);

/// What decides how far tuning goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Time to spend; a timing that would not end in it is not begun.
    pub budget: Duration,
    /// Lists for which the budget does not suffice are settled: the estimate does for them from now
    /// on, and no later run spends time on them. Otherwise they stay open, and settled ones are measured.
    pub settle: bool,
}

/// Launches with less work than this are left to the static order: what could be gained is lost in
/// the noise.
const WORTH_FLOPS: u64 = 20_000_000;

/// One timing repeats a launch until about this much time has passed.
const ENOUGH: Duration = Duration::from_millis(3);
/// Timings of each way that is over sooner; the fastest counts, since noise only ever adds.
const ROUNDS: usize = 3;

/// A way whose first run takes this many times the best is not run again.
const HOPELESS: f64 = 1.4;

/// The estimate stands unless another way takes this many times less; on CPU adapters, whatever else the
/// machine does is in the times.
const MARGIN: f64 = 1.03;
const CPU_MARGIN: f64 = 1.2;

/// What was measured for one list of candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Op, shape bucket and storage types.
    pub key: String,
    /// Where in the model the first such launch is.
    pub label: String,
    /// Launches of the plan that share the choice.
    pub launches: usize,
    /// What the static order says.
    pub estimate: &'static str,
    /// Each way and its time for one launch in microseconds: the chosen one, then by time.
    pub times: Vec<(&'static str, f64)>,
}

/// What tuning did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Lists measured now.
    pub measured: Vec<Measured>,
    /// Lists known before.
    pub known: usize,
    /// Lists for which the budget did not suffice.
    pub left: usize,
    /// Time spent.
    pub seconds: f64,
}

/// Measures the lists of a graph's plan that `options.choices` does not know yet, costliest first,
/// and records the fastest way of each in them, as far as the effort goes.
///
/// # Errors
/// Whatever compiling a plan or running a kernel may meet.
pub fn tune(gpu: &Gpu, graph: &Graph, options: &mut Options, effort: Effort) -> Result<Report> {
    let Effort { budget, settle } = effort;
    let start = Instant::now();
    let mut report = Report::default();
    let plan = plan::compile(graph, gpu.target(), options.clone())?;
    // All kernels first, so that the device is not left to idle between timings and its clocks stay up.
    let mut ready: Vec<Contest> = Vec::new();
    for (key, steps) in lists(&plan) {
        let Some(choice) = &steps[0].choice else { continue };
        let known = options.choices.knows(&key);
        if known == Some(true) || (known == Some(false) && settle) {
            report.known += 1;
            continue;
        }
        let mut plans = Vec::new();
        for &name in &choice.candidates.names[..choice.candidates.contenders] {
            let mut trial = options.clone();
            trial.choices.prefer(&key, name);
            plans.push((name, plan::compile(graph, gpu.target(), trial)?));
        }
        let contest = Contest { key, first: steps[0], launches: steps.len(), plans };
        // Half of the budget for compiling: what cannot be timed any more need not be compiled.
        if start.elapsed() > budget / 2 || !contest.fits(gpu, budget.saturating_sub(start.elapsed())) {
            report.leave(options, &contest.key, settle);
            continue;
        }
        gpu.pipelines(&contest.plans.iter().flat_map(|(_, plan)| contest.steps(plan)).collect::<Vec<_>>())?;
        ready.push(contest);
    }
    if !ready.is_empty() {
        gpu.raise_clocks()?;
    }
    for contest in ready {
        let left = budget.saturating_sub(start.elapsed());
        match if contest.fits(gpu, left) { contest.times(gpu, left)? } else { None } {
            None => report.leave(options, &contest.key, settle),
            Some(times) => {
                options.choices.prefer(&contest.key, times[0].0);
                let Contest { key, first, launches, plans } = contest;
                let (label, estimate) = (first.label.clone(), plans[0].0);
                report.measured.push(Measured { key, label, launches, estimate, times });
            }
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

impl Report {
    /// Counts a list for which the budget did not suffice.
    fn leave(&mut self, options: &mut Options, key: &str, settle: bool) {
        self.left += 1;
        if settle {
            options.choices.settle(key);
        }
    }
}

/// A list of candidates, with the plan that each contender makes of the graph.
struct Contest<'a> {
    key: String,
    /// The first launch of the list.
    first: &'a Step,
    /// Launches of the plan that share the choice.
    launches: usize,
    plans: Vec<(&'static str, Plan)>,
}

impl Contest<'_> {
    /// The launches that one contender makes of the first.
    fn steps<'p>(&self, plan: &'p Plan) -> Vec<&'p Step> {
        plan.steps.iter().filter(|s| s.label == self.first.label && is_list(s, &self.key)).collect()
    }

    /// Whether all contenders, each run a few times, end in time at the slowest rate an adapter is likely
    /// to have.
    fn fits(&self, gpu: &Gpu, left: Duration) -> bool {
        let slowest = if gpu.target().cpu { 10e9 } else { 200e9 };
        Duration::from_secs_f64(6.0 * self.first.cost.flops as f64 / slowest) <= left
    }

    /// Each contender and its time in microseconds, the one to take first; none if they do not end in time.
    fn times(&self, gpu: &Gpu, left: Duration) -> Result<Option<Vec<(&'static str, f64)>>> {
        let start = Instant::now();
        let mut times: Vec<(&'static str, f64)> = Vec::new();
        let mut last = Duration::ZERO;
        for (name, plan) in &self.plans {
            let began = start.elapsed();
            // The next takes about as long as the last.
            if began + last * 5 / 4 > left {
                return Ok(None);
            }
            let bench = Bench::new(gpu, plan, &self.steps(plan))?;
            let best = times.iter().map(|t| t.1).fold(f64::INFINITY, f64::min);
            times.push((name, bench.microseconds(best)?));
            last = start.elapsed() - began;
        }
        let (estimate, estimated) = times[0];
        times.sort_by(|a, b| a.1.total_cmp(&b.1));
        let margin = if gpu.target().cpu { CPU_MARGIN } else { MARGIN };
        if estimated <= times[0].1 * margin {
            // Noise could have made the difference.
            let at = times.iter().position(|t| t.0 == estimate).unwrap_or(0);
            times[..=at].rotate_right(1);
        }
        Ok(Some(times))
    }
}

fn is_list(step: &Step, key: &str) -> bool {
    step.choice.as_ref().is_some_and(|c| c.candidates.key == key)
}

/// Launches by list of candidates, those with the most work in all first; only those with something
/// to measure.
fn lists(plan: &Plan) -> Vec<(String, Vec<&Step>)> {
    let open = |c: &Choice| c.candidates.contenders > 1 && c.reason != Reason::Forced;
    let mut lists: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in plan.steps.iter().filter(|s| s.cost.flops >= WORTH_FLOPS) {
        if let Some(choice) = step.choice.as_ref().filter(|c| open(c)) {
            lists.entry(&choice.candidates.key).or_default().push(step);
        }
    }
    let mut lists: Vec<_> = lists.into_iter().map(|(key, steps)| (key.to_owned(), steps)).collect();
    lists.sort_by_key(|(_, steps)| std::cmp::Reverse(steps.iter().map(|s| s.cost.flops).sum::<u64>()));
    lists
}

/// The launches of one op, bound to buffers of their own.
struct Bench<'a> {
    gpu: &'a Gpu,
    launches: Vec<(std::sync::Arc<wgpu::ComputePipeline>, wgpu::BindGroup, [u32; 3])>,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu, plan: &Plan, steps: &[&Step]) -> Result<Self> {
        let pipelines = gpu.pipelines(steps)?;
        let bytes = |b: &Buffer| plan.buffer_bytes(*b);
        let storage = wgpu::BufferUsages::STORAGE;
        let mut launches = Vec::new();
        for (step, pipeline) in steps.iter().zip(pipelines) {
            let (result, operands) = step.binds.split_last().expect("every kernel binds its result");
            let first = gpu.buffer("tuning x", bytes(&operands[0]), storage)?;
            let most = operands[1..].iter().map(bytes).max().unwrap_or(16);
            let others = gpu.buffer("tuning operands", most, storage)?;
            let result = gpu.buffer("tuning result", bytes(result), storage)?;
            let params = gpu.buffer("tuning parameters", step.params.len() as u64, PARAMETERS)?;
            gpu.queue.write_buffer(&params, 0, &step.params);
            let n = operands.len();
            // A launch may write its states, and nothing else may be bound to what it writes.
            let states = operands
                .iter()
                .map(|b| match b {
                    Buffer::State(_) => gpu.buffer("tuning state", bytes(b), storage).map(Some),
                    _ => Ok(None),
                })
                .collect::<Result<Vec<_>>>()?;
            let buffer = |i: usize| match i {
                i if i < n && states[i].is_some() => states[i].as_ref().unwrap_or(&others),
                0 => &first,
                i if i < n => &others,
                i if i == n => &result,
                _ => &params,
            };
            let entries: Vec<wgpu::BindGroupEntry> = (0..n + 2)
                .map(|i| wgpu::BindGroupEntry { binding: i as u32, resource: buffer(i).as_entire_binding() })
                .collect();
            let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("tuning"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            launches.push((pipeline, bind_group, step.workgroups));
        }
        gpu.fault()?;
        Ok(Self { gpu, launches })
    }

    /// Time of one round of the launches: wall clock over enough repetitions, the best of several;
    /// a single run if that is hopeless against `best`.
    fn microseconds(&self, best: f64) -> Result<f64> {
        self.run(1)?;
        let mut time = self.run(1)?.as_secs_f64();
        if time > ENOUGH.as_secs_f64() {
            if time * 1e6 < best * HOPELESS {
                time = time.min(self.run(1)?.as_secs_f64());
            }
            return Ok(time * 1e6);
        }
        let repeat = (ENOUGH.as_secs_f64() / time.max(1e-6)).clamp(1.0, 200.0) as u32;
        for _ in 0..ROUNDS {
            time = time.min(self.run(repeat)?.as_secs_f64() / f64::from(repeat));
        }
        Ok(time * 1e6)
    }

    fn run(&self, repeat: u32) -> Result<Duration> {
        let start = Instant::now();
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for _ in 0..repeat {
                for (pipeline, bind_group, [x, y, z]) in &self.launches {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, bind_group, &[]);
                    pass.dispatch_workgroups(*x, *y, *z);
                }
            }
        }
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.gpu.wait("tuning", &submission, self.gpu.patience())?;
        Ok(start.elapsed())
    }
}

/// The file of one adapter.
#[derive(Serialize, Deserialize)]
struct File {
    adapter: String,
    driver: String,
    kernels: String,
    choices: BTreeMap<String, String>,
}

fn key(report: &AdapterReport) -> (String, String) {
    let adapter = kept::short_digest(&format!("{} {:?} {}", report.name, report.ids, report.driver));
    (format!("tuned-{adapter}.json"), kept::short_digest(&crate::ops::kernel_text()))
}

/// Where the choices of an adapter are kept under `dir`.
pub fn file(dir: &Path, report: &AdapterReport) -> PathBuf {
    dir.join(key(report).0)
}

/// Adds what was measured on this adapter in earlier runs to `choices`.
pub fn load(dir: &Path, report: &AdapterReport, choices: &mut Choices) {
    for (key, name) in read(dir, report) {
        choices.prefer(key, name);
    }
}

fn read(dir: &Path, report: &AdapterReport) -> BTreeMap<String, String> {
    let (name, kernels) = key(report);
    let bytes = kept::read(&dir.join(name)).unwrap_or_default();
    match serde_json::from_slice::<File>(&bytes) {
        Ok(file) if file.kernels == kernels && file.driver == report.driver => file.choices,
        _ => BTreeMap::new(),
    }
}

/// Keeps what was measured, joined with what other runs have kept meanwhile; yields whether it could.
pub fn save(dir: &Path, report: &AdapterReport, choices: &Choices) -> bool {
    let mut all = read(dir, report);
    for (key, name) in choices.measured() {
        // What was settled here may have been measured elsewhere.
        if !name.is_empty() || !all.contains_key(key) {
            all.insert(key.to_owned(), name.to_owned());
        }
    }
    let (name, kernels) = key(report);
    let file = File { adapter: report.name.clone(), driver: report.driver.clone(), kernels, choices: all };
    let Ok(text) = serde_json::to_string_pretty(&file) else { return false };
    kept::replace(&dir.join(name), text.as_bytes())
}
