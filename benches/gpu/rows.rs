//! Runs rows one after the other, those of most worth first, each as a program of its own with a limit on
//! its time and on its silence. Each is on disk as soon as it has ended; a second run goes on where the
//! first one stopped. What hangs or dies costs itself: an item that a row died of is left out when the row
//! is started again for those behind it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::child::{self, Ended};
use crate::fault::Kind;
use crate::record::{Of, Record, Report, Status};
use crate::table::{self, Places, Row, Scale, Set};

#[derive(clap::Args)]
pub struct Args {
    /// quick: what is worth most, in 3 minutes; full: all, in 8
    #[arg(value_enum)]
    set: Set,
    /// The report: rows.jsonl, log, roofline.svg, trace.json
    #[arg(long, value_name = "DIR", default_value = "target/gpu-report")]
    out: PathBuf,
    /// Models and caches, some gigabytes
    #[arg(long, value_name = "DIR", default_value = "target/gpu-work")]
    work: PathBuf,
    /// Goes on from the rows of an earlier report, too
    #[arg(long, value_name = "rows.jsonl")]
    from: Option<PathBuf>,
    /// tiny: the same rows on sizes that a CPU can do
    #[arg(long, value_enum, default_value_t = Scale::Real)]
    scale: Scale,
    /// All limits are so many times as long
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = times)]
    slower: f64,
    /// These rows and no others, done or not
    #[arg(long, value_name = "ROW,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Lists the rows, their limits and their commands
    #[arg(long, overrides_with = "list")]
    list: bool,
    /// A row that hangs or crashes instead of doing its work
    #[arg(long, value_name = "ROW=hang|crash", hide = true)]
    fault: Vec<String>,
}

/// A row that could not be finished is started again at most so often.
const MOST_STARTS: u32 = 12;
/// A row is not begun with less than this part of its limit left.
const LEAST: f64 = 0.25;
/// Longest wait for an answer of `import torch`: its first import reads gigabytes.
const TORCH_START: Duration = Duration::from_secs(120);
/// Longest wait for the adapter's name.
const ADAPTER: Duration = Duration::from_secs(20);

/// What all rows of a run share.
struct Visit<'a> {
    args: &'a Args,
    report: Report,
    program: &'a Path,
    places: &'a Places,
    python: String,
    /// Why its torch will not do, if it will not, once that was asked.
    torch: Option<Option<String>>,
    /// What all is measured on.
    of: Of,
}

fn times(text: &str) -> std::result::Result<f64, String> {
    let times = text.parse().ok().filter(|t| (0.01..=1000.0).contains(t));
    times.ok_or_else(|| "expected a number from 0.01 to 1000".to_owned())
}

/// 1 if a row did not end with all well.
pub fn run(args: &Args) -> Result<ExitCode> {
    let places = Places { out: std::path::absolute(&args.out)?, work: std::path::absolute(&args.work)? };
    let mut rows = table::rows(args.set, args.scale, &places);
    for fault in &args.fault {
        break_row(&mut rows, fault)?;
    }
    if let Some(unknown) = args.only.iter().find(|name| rows.iter().all(|r| r.name != **name)) {
        let names: Vec<&str> = rows.iter().map(|r| r.name.as_str()).collect();
        return Err(format!("there is no row `{unknown}`; these are: {}", names.join(", ")).into());
    }
    if !args.only.is_empty() {
        rows = picked(rows, &args.only);
    }
    if args.list {
        for row in &rows {
            println!("{:<22} {:>4} s  {}", row.name, row.limit.as_secs(), row.args.join(" "));
        }
        return Ok(ExitCode::SUCCESS);
    }
    for folder in [&places.out, &places.work] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    table::prepare(args.scale, &places)?;
    run_all(args, &rows, &std::env::current_exe()?, &places)
}

/// The rows of these names, and those that write what they read, where it is not there.
fn picked(rows: Vec<Row>, names: &[String]) -> Vec<Row> {
    let named = |r: &Row| names.contains(&r.name);
    let read: Vec<String> = rows.iter().filter(|r| named(r)).flat_map(|r| r.args.clone()).collect();
    let lacking = |r: &Row| {
        let made = r.makes.as_ref().filter(|made| !made.exists()).and_then(|made| made.parent());
        made.is_some_and(|made| read.iter().any(|word| Path::new(word) == made))
    };
    rows.into_iter().filter(|r| named(r) || lacking(r)).collect()
}

/// Runs rows by `program`, and PyTorch's by python3.
pub fn run_all(args: &Args, rows: &[Row], program: &Path, places: &Places) -> Result<ExitCode> {
    let file = places.out.join("rows.jsonl");
    let mut report = Report::open(&file)?;
    let of = Of {
        commit: option_env!("VIT_GPU_COMMIT").unwrap_or("unknown").to_owned(),
        scale: args.scale.name().to_owned(),
        adapter: adapter(program, args.slower),
    };
    if let Some(from) = &args.from {
        report.adopt(from, &of)?;
    }
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut visit = Visit { args, report, program, places, python, torch: None, of };
    let begun = Instant::now();
    let budget = args.set.budget().mul_f64(args.slower);
    println!("row                    status        seconds  what");
    let mut well = true;
    for row in rows {
        let there = row.makes.as_ref().is_none_or(|made| made.exists());
        let done = |r: &&Record| r.of == visit.of && r.status.is_final() && there;
        let known = visit.report.of(&row.name).filter(done);
        if let (Some(known), true) = (known, args.only.is_empty()) {
            well &= known.status == Status::Ok;
            show(known, "done before");
            continue;
        }
        let lacks = visit.lacks(row);
        let left = if args.only.is_empty() { budget.saturating_sub(begun.elapsed()) } else { Duration::MAX };
        let record = visit.row(row, lacks, left);
        well &= record.status == Status::Ok;
        show(&record, "");
        visit.report.add(record)?;
    }
    println!("{:.0} s in all; {} holds every row", begun.elapsed().as_secs_f64(), file.display());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Name and driver of the adapter that rows will use, asked of a program of its own.
fn adapter(program: &Path, slower: f64) -> String {
    let mut command = Command::new(program);
    command.arg("adapter");
    let limit = ADAPTER.mul_f64(slower);
    let ended = child::run(command, limit, limit, &mut std::io::sink());
    let said = ended.ok().filter(|e| e.status == Status::Ok).and_then(|e| child::documents(&e.stdout).pop());
    said.and_then(|s| Some(s["adapter"].as_str()?.to_owned())).unwrap_or_else(|| "unknown".to_owned())
}

/// Puts a program that fails in the place of a row's.
fn break_row(rows: &mut [Row], fault: &str) -> Result<()> {
    let (name, kind) = fault.split_once('=').ok_or("--fault takes ROW=hang or ROW=crash")?;
    let kind = <Kind as clap::ValueEnum>::from_str(kind, true)?;
    let row = rows.iter_mut().find(|r| r.name == name).ok_or_else(|| format!("there is no row `{name}`"))?;
    let kind = if kind == Kind::Hang { "hang" } else { "crash" };
    (row.python, row.items, row.args) = (false, true, vec!["fault".to_owned(), kind.to_owned()]);
    Ok(())
}

fn show(record: &Record, note: &str) {
    let Record { row, status, seconds, output, why, lost, .. } = record;
    let status = format!("{status:?}");
    let items = output.iter().filter(|o| o["item"].is_string()).count();
    let wrong = output.iter().filter(|o| o["pass"] == false || o["failure"].is_string()).count();
    let mut what: Vec<String> = Vec::new();
    let mut tell = |on: bool, text: String| what.extend(on.then_some(text));
    tell(items > 0, format!("{items} items"));
    tell(wrong > 0, format!("{wrong} of them WRONG or failed"));
    tell(!lost.is_empty(), format!("lost: {}", lost.join(", ")));
    tell(!why.is_empty(), why.clone());
    tell(!note.is_empty(), note.to_owned());
    println!("{row:<22} {status:<12} {seconds:>8.1}  {}", what.join("; "));
}

impl Visit<'_> {
    /// Runs a row, again and again behind what it dies of, for as long as it may; `lacks` is why it cannot.
    fn row(&mut self, row: &Row, lacks: Option<String>, left: Duration) -> Record {
        let limit = row.limit.mul_f64(self.args.slower);
        let mut record = Record {
            row: row.name.clone(),
            of: self.of.clone(),
            status: Status::NotRun,
            why: String::new(),
            seconds: 0.0,
            limit: limit.as_secs_f64(),
            starts: 0,
            command: row.args.clone(),
            output: Vec::new(),
            lost: Vec::new(),
            stderr: String::new(),
        };
        // What an earlier run measured need not be measured again.
        if let Some(old) = self.report.of(&row.name).filter(|r| r.of == self.of && !r.status.is_final()) {
            // Of a row that is one thing nothing can be kept.
            if row.items {
                (record.output, record.lost) = (old.output.clone(), old.lost.clone());
            }
        }
        let limit = limit.min(left);
        if limit.as_secs_f64() < LEAST * record.limit {
            record.why = "no time was left".to_owned();
            return record;
        }
        if let Some(why) = lacks {
            record.why = why;
            return record;
        }
        let begun = Instant::now();
        while record.starts < MOST_STARTS {
            record.starts += 1;
            let now = limit.saturating_sub(begun.elapsed());
            let ended = match self.start(row, &record, now) {
                Ok(ended) => ended,
                Err(e) => {
                    (record.status, record.why) = (Status::Crashed, e.to_string());
                    break;
                }
            };
            let went_on = absorb(&mut record, row, ended);
            let died = matches!(record.status, Status::Crashed | Status::Hung);
            let time = limit.saturating_sub(begun.elapsed()).as_secs_f64() > 0.05 * record.limit;
            if !row.items || !died || !went_on || !time {
                break;
            }
        }
        record.seconds = begun.elapsed().as_secs_f64();
        record
    }

    /// Why a row cannot run here.
    fn lacks(&mut self, row: &Row) -> Option<String> {
        if !row.python {
            return None;
        }
        let tiny = self.args.scale == Scale::Tiny;
        let asked = self.torch.get_or_insert_with(|| {
            let sees = "torch.cuda.is_available() or torch.backends.mps.is_available()";
            let sees = if tiny { "True" } else { sees };
            let mut command = Command::new(&self.python);
            command.args([
                "-c",
                &format!("import torch, sys; sys.exit(0 if {sees} else 'its torch sees no GPU')"),
            ]);
            let limit = TORCH_START.mul_f64(self.args.slower);
            let python = &self.python;
            match child::run(command, limit, limit, &mut std::io::sink()) {
                Ok(e) if e.status == Status::Ok => None,
                Ok(e) => Some(format!("{python}: {}", e.why)),
                Err(e) => Some(e.to_string()),
            }
        });
        asked.clone()
    }

    fn start(&self, row: &Row, record: &Record, limit: Duration) -> Result<Ended> {
        let Places { out, work } = self.places;
        let mut command = if row.python { Command::new(&self.python) } else { Command::new(self.program) };
        command.args(&row.args);
        if row.items {
            let finished = record.output.iter().filter_map(|o| o["item"].as_str());
            let skip: Vec<&str> = finished.chain(record.lost.iter().map(String::as_str)).collect();
            let file = work.join("skip");
            std::fs::write(&file, skip.join("\n"))?;
            command.arg("--skip").arg(file);
            if record.starts > 1 {
                command.arg("--singly");
            }
        }
        let cache = work.join("cache");
        // One folder for the command line, which adds its name, and for the library.
        command.env("GPU_BENCH_CACHE", cache.join("vit-gpu")).env("XDG_CACHE_HOME", &cache);
        command.env("PYTHONUNBUFFERED", "1").env("NODEVICE_SELECT", "1").env_remove("VIT_GPU_MODEL");
        let mut log = OpenOptions::new().create(true).append(true).open(out.join("log"))?;
        writeln!(log, "\n== {} (start {})", row.name, record.starts)?;
        let silence = row.silence.mul_f64(self.args.slower);
        child::run(command, limit, silence, &mut log)
    }
}

/// Adds what a run of a row gave; yields whether there is any use in starting it again.
fn absorb(record: &mut Record, row: &Row, ended: Ended) -> bool {
    let mut printed = child::documents(&ended.stdout);
    if printed.is_empty() && !ended.stdout.trim().is_empty() {
        printed.push(json!({ "text": ended.stdout }));
    }
    let (mut open, mut finished) = (BTreeSet::new(), 0);
    for value in &printed {
        if let Some(name) = value["begin"].as_str() {
            open.insert(name.to_owned());
        }
        if let Some(name) = value["item"].as_str() {
            open.remove(name);
            finished += 1;
        }
    }
    let gave = printed.into_iter().filter(|v| v["begin"].is_null());
    record.output.extend(gave.filter(|v: &Value| record.starts == 1 || v["item"].is_string()));
    (record.status, record.why) = (ended.status, ended.why);
    record.stderr = ended.stderr;
    // Python ends with 1 for an exception.
    let cut_short = record.output.is_empty() || !open.is_empty() || row.python;
    if record.status == Status::Failed && cut_short {
        record.status = Status::Crashed;
    }
    // Of several at a time it is not known which one was bad; then they run singly.
    if open.len() == 1 && matches!(record.status, Status::Crashed | Status::Hung) {
        record.lost.extend(open.iter().cloned());
    }
    // What earlier starts lost or found wrong is no part of what is well now.
    let why = match record.output.iter().any(|o| o["pass"] == false) {
        _ if !record.lost.is_empty() => "it hung or died in some items",
        true => "some items were wrong",
        false => "",
    };
    if record.status == Status::Ok && !why.is_empty() {
        (record.status, record.why) = (Status::Failed, why.to_owned());
    }
    finished > 0 || !open.is_empty()
}
