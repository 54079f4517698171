//! `vit-gpu bench`: rows in every form, starts in processes of their own, and what it refuses.

use crate::common;
use crate::harness::{go, run, scratch, vit_gpu};

#[test]
fn a_row_for_every_combination() {
    if common::gpu().is_none() {
        return;
    }
    let folder = scratch();
    let mut command = vit_gpu(["bench", "-r", "2", "-b", "1,3", "--format", "jsonl", "--no-tune"]);
    let ran = run(command.env("TMPDIR", folder.path())).code(0);
    let rows = ran.json_lines();
    let what: Vec<_> = rows.iter().map(|r| (r["batch"].as_u64(), r["test"].as_str())).collect();
    let want = [(1, "run"), (3, "run"), (1, "cold start"), (1, "warm start")];
    assert_eq!(what, want.map(|(batch, test)| (Some(batch), Some(test))));
    for row in &rows[..2] {
        assert_eq!(row["samples_ms"].as_array().map(Vec::len), Some(2), "{row}");
        let mean = |key: &str| row[key]["mean"].as_f64().expect("a mean");
        assert!(mean("ms") > 0.0 && mean("images_per_second") > 0.0, "{row}");
        assert!(row["peak_device_bytes"].as_u64().is_some_and(|b| b > 3_000_000), "{row}");
        assert_eq!(row["peak_host_bytes"].is_u64(), cfg!(target_os = "linux"), "{row}");
    }
    for row in &rows[2..] {
        let start = &row["starts"][0];
        let ms = |key: &str| start[key].as_f64().expect("a phase");
        let phases = ["process", "load", "device", "tune", "plan", "upload", "pipelines", "first_run"];
        let sum: f64 = phases.into_iter().map(ms).sum();
        assert!(phases.into_iter().all(|p| ms(p) >= 0.0) && sum <= ms("total") + 5.0, "{row}");
    }
    assert!(folder.path().read_dir().expect("a folder").next().is_none(), "scratch folders are gone");
}

#[test]
fn every_form() {
    if common::gpu().is_none() {
        return;
    }
    let quick = ["bench", "-r", "1", "--warmup", "0", "--starts", "0", "-b", "1", "--no-tune"];
    let form = |form: &str| run(vit_gpu(quick).args(["--format", form])).code(0);
    let json = form("json").json();
    assert_eq!((&json["schema_version"], &json["rows"][0]["model"]), (&1.into(), &"builtin:shapes".into()));
    assert!(json["rows"][0]["device"]["driver"].is_string() && json["version"].is_string(), "{json}");
    let csv = form("csv").out;
    let lines: Vec<&str> = csv.split("\r\n").filter(|l| !l.is_empty()).collect();
    assert_eq!(lines.len(), 2, "{csv}");
    // The device's name has commas, inside quotes.
    let columns = |line: &str| line.split('"').step_by(2).map(|p| p.matches(',').count()).sum::<usize>();
    assert_eq!(columns(lines[0]), columns(lines[1]), "{csv}");
    let markdown = form("md").out;
    let lines: Vec<&str> = markdown.lines().collect();
    let bars = |line: &str| line.matches('|').count();
    assert!(bars(lines[0]) > 5 && (1..3).all(|i| bars(lines[i]) == bars(lines[0])), "{markdown}");
    assert!(markdown.contains("driver "), "{markdown}");
}

#[test]
fn what_does_not_fit_is_a_row_and_the_rest_goes_on() {
    if common::gpu().is_none() {
        return;
    }
    let ran =
        go(["bench", "-r", "1", "-b", "65536,1", "--starts", "0", "--format", "jsonl", "--no-tune"]).code(1);
    let rows = ran.json_lines();
    assert_eq!(rows.len(), 2);
    assert!(rows[0]["error"].as_str().is_some_and(|e| e.contains("the adapter allows")), "{ran:#?}");
    assert!(rows[1]["error"].is_null() && rows[1]["ms"]["mean"].is_f64(), "{ran:#?}");
}

#[test]
fn what_it_refuses() {
    go(["bench", "--synthetic", "vit-b/16,vit-z/1"]).code(2).says(&["`vit-z/1`", "vit-ti"]);
    go(["bench", "-r", "0"]).code(2).says(&["--runs"]);
    go(["bench", "-b", "1,0"]).code(2).says(&["--batch-size"]);
    go(["bench", "--dtype", "f64"]).code(2).says(&["f64"]);
    go(["bench", "--device", "reference"]).code(2).says(&["reference", "hint: "]);
    go(["bench", "--cache-dir", "x"]).code(2);
    go(["bench", "-m", "/no/such/model"]).code(3);
}

/// A process that was started to answer once does that and starts no other.
#[test]
fn answering_once() {
    if common::gpu().is_none() {
        return;
    }
    let folder = scratch();
    let mut command = vit_gpu(["bench", "-q", "-b", "1", "--answer-once", "0", "--no-tune", "--cache-dir"]);
    let json = run(command.arg(folder.path()).env("TMPDIR", "/no/folder")).code(0).json();
    assert!(json["first_run"].as_f64().is_some_and(|ms| ms > 0.0), "{json}");
}
