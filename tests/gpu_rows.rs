//! No GPU. What runs the rows of `benches/gpu.sh`: what hangs or dies costs itself, what has ended is on
//! disk, and a second run goes on where the first one stopped. And the tables made of it.
#![cfg(all(unix, feature = "cli"))]
#![allow(clippy::unwrap_used, dead_code, reason = "tests, which use a part of what they share")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser as _;

#[path = "../benches/gpu/child.rs"]
mod child;
#[path = "../benches/gpu/fault.rs"]
mod fault;
#[path = "../benches/gpu/items.rs"]
mod items;
#[path = "../benches/gpu/record.rs"]
mod record;
#[path = "../benches/gpu/rows.rs"]
mod rows;
#[path = "../benches/gpu/table.rs"]
mod table;

use record::{Record, Report, Status};
use table::{Places, Row, Scale, Set};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: rows::Args,
}

/// A row that runs a script; it is given `--skip FILE` if it has items, so that FILE is `$1`.
fn row(name: &str, items: bool, script: &str) -> Row {
    Row {
        name: name.to_owned(),
        limit: Duration::from_secs(20),
        silence: Duration::from_secs(2),
        python: false,
        items,
        args: ["-c", script].map(str::to_owned).into(),
        makes: None,
    }
}

/// A script that measures items one by one and does `fault` instead of measuring `bad`.
fn measuring(names: &str, fault: &str) -> String {
    format!(
        r#"for name in {names}; do
            if grep -qx "$name" "$1"; then continue; fi
            echo "{{\"begin\": \"$name\"}}"
            if [ "$name" = bad ]; then {fault}; fi
            echo "{{\"item\": \"$name\", \"pass\": true}}"
        done"#
    )
}

fn run(rows: &[Row], out: &Path) {
    let args = Cli::parse_from(["rows", "quick"]).args;
    let places = Places { out: out.to_owned(), work: out.to_owned() };
    rows::run_all(&args, rows, Path::new("/bin/sh"), &places).unwrap();
}

fn record(out: &Path, row: &str) -> Record {
    Report::open(&out.join("rows.jsonl")).unwrap().of(row).unwrap().clone()
}

fn measured(record: &Record) -> Vec<&str> {
    record.output.iter().filter_map(|o| o["item"].as_str()).collect()
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn ended(script: &str, limit: f64, silence: f64) -> child::Ended {
    let [limit, silence] = [limit, silence].map(Duration::from_secs_f64);
    child::run(sh(script), limit, silence, &mut std::io::sink()).unwrap()
}

#[test]
fn what_hangs_or_dies_costs_itself() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let table = [
        row("first", false, r#"echo '{"a": 1}'"#),
        row("hangs", true, &measuring("one bad two three", "sleep 600")),
        row("crashes", true, &measuring("one bad two", "kill -SEGV $$")),
        row("is wrong", false, "echo a line for people; exit 1"),
        row("says nothing", false, "exit 1"),
        row("last", false, r#"printf '{\n"b":\n2}\n'; echo talk >&2"#),
    ];
    let begun = Instant::now();
    run(&table, out);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let statuses = ["first", "hangs", "crashes", "is wrong", "last"].map(|name| record(out, name).status);
    assert_eq!(statuses, [Status::Ok, Status::Failed, Status::Failed, Status::Failed, Status::Ok]);
    assert_eq!(record(out, "is wrong").output[0]["text"], "a line for people\n");
    assert_eq!(record(out, "says nothing").status, Status::Crashed);
    let (hangs, crashes) = (record(out, "hangs"), record(out, "crashes"));
    assert_eq!((measured(&hangs), hangs.lost.clone()), (vec!["one", "two", "three"], vec!["bad".to_owned()]));
    assert_eq!((measured(&crashes), crashes.lost.clone()), (vec!["one", "two"], vec!["bad".to_owned()]));
    assert_eq!((hangs.starts, crashes.starts), (2, 2));
    let last = record(out, "last");
    assert_eq!((last.output[0]["b"].as_u64(), last.stderr.trim()), (Some(2), "talk"));
}

#[test]
fn of_several_items_at_a_time_the_bad_one_is_found_singly() {
    let folder = tempfile::tempdir().unwrap();
    // $2 is --singly from the second start on.
    let script = r#"
        if [ -z "$2" ]; then for n in a bad b; do echo "{\"begin\": \"$n\"}"; done; kill -SEGV $$; fi
    "#;
    let script = format!("{script}{}", measuring("a bad b", "kill -SEGV $$"));
    run(&[row("all", true, &script)], folder.path());
    let all = record(folder.path(), "all");
    assert_eq!((measured(&all), all.lost.clone()), (vec!["a", "b"], vec!["bad".to_owned()]));
    assert_eq!((all.status, all.starts), (Status::Failed, 3));
}

#[test]
fn a_second_run_goes_on_where_the_first_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let made = out.join("made");
    let count = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_default().len();
    let counting = |name: &str, then: &str| format!("printf x >>{}; {then}", out.join(name).display());
    let table = [
        row("ends", false, &counting("ends", "echo '{}'")),
        // Its time is up at the third item the first time, and it goes on behind the second.
        Row {
            limit: Duration::from_secs(1),
            ..row(
                "slow",
                true,
                &counting("slow", &measuring("one two", ":").replace("done", "done; sleep 5")),
            )
        },
        Row { makes: Some(made.clone()), ..row("makes", false, &counting("makes", "echo '{}'")) },
        row("dies", false, &counting("dies", "kill -SEGV $$")),
    ];
    run(&table, out);
    assert_eq!(record(out, "slow").status, Status::TimedOut);
    assert_eq!(measured(&record(out, "slow")), ["one", "two"]);
    std::fs::write(&made, "").unwrap();
    run(&table, out);
    assert_eq!(measured(&record(out, "slow")), ["one", "two"], "nothing is measured twice");
    std::fs::remove_file(&made).unwrap();
    run(&table, out);
    assert_eq!(["ends", "slow", "makes", "dies"].map(count), [1, 3, 2, 3]);
    // A line that was cut off says nothing, and what comes after it is whole.
    let file = out.join("rows.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 20]).unwrap();
    run(&table, out);
    assert_eq!(["ends", "dies"].map(count), [1, 4]);
    assert_eq!(record(out, "dies").status, Status::Crashed);
}

#[test]
fn a_program_that_dies_between_items_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = measuring("a b c", ":").replace("done", r#"kill -SEGV $$; done"#);
    run(&[row("all", true, &script)], folder.path());
    assert_eq!(measured(&record(folder.path(), "all")), ["a", "b", "c"]);
    // What one start found wrong is not forgotten when the next one ends well.
    let wrong = r#"if [ -z "$2" ]; then echo '{"item": "x", "pass": false}'; kill -SEGV $$; fi; echo '{"item": "y"}'"#;
    run(&[row("wrong", true, wrong)], folder.path());
    let wrong = record(folder.path(), "wrong");
    assert_eq!((wrong.status, wrong.starts, measured(&wrong)), (Status::Failed, 2, vec!["x", "y"]));
}

#[test]
fn what_says_less_takes_nobodys_place() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let file = out.join("rows.jsonl");
    run(&[row("one", false, "echo '{}'; exit 1"), row("two", false, "echo '{}'")], out);
    let good = record(out, "one");
    let worse = Record { status: Status::NotRun, output: Vec::new(), ..good.clone() };
    let mut report = Report::open(&file).unwrap();
    report.add(worse.clone()).unwrap();
    assert_eq!(record(out, "one").status, Status::Failed);
    // Of other code, or on another adapter, what is newer counts.
    let other = Record { of: record::Of { adapter: "another".to_owned(), ..good.of.clone() }, ..worse };
    report.add(other.clone()).unwrap();
    assert_eq!(record(out, "one").status, Status::NotRun);
    // Only rows of the same code, sizes and adapter are taken from another report, and only better ones.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut fresh = Report::open(&elsewhere.path().join("rows.jsonl")).unwrap();
    fresh.add(Record { status: Status::NotRun, output: Vec::new(), ..record(out, "two") }).unwrap();
    fresh.adopt(&file, &good.of).unwrap();
    assert!(fresh.of("one").is_none() && fresh.of("two").unwrap().status == Status::Ok);
    // A line cut off inside a letter costs itself.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(b"{\"row\": \"\xc3");
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(record(out, "two").status, Status::Ok);
}

#[test]
fn limits_on_time_and_silence_hold_for_all_that_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let alive = folder.path().join("alive");
    let script = format!("(sleep 2; touch {}) & echo '{{}}'; sleep 60", alive.display());
    let begun = Instant::now();
    assert_eq!(ended(&script, 30.0, 0.5).status, Status::Hung);
    let talker = ended("while :; do echo talk; sleep 0.1; done", 1.0, 0.5);
    assert_eq!(talker.status, Status::TimedOut);
    assert!(talker.stdout.contains("talk\ntalk\n"));
    assert!(begun.elapsed() < Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(3));
    assert!(!alive.exists(), "what a killed row had started went on");
    // What has ended is not waited for, though something that it started holds its streams.
    let begun = Instant::now();
    let daemon = ended("sleep 60 & echo '{}'; exit 0", 30.0, 30.0);
    assert!(daemon.status == Status::Ok && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(daemon.stdout, "{}\n");
    // What closes its streams and goes on has no more time than others.
    assert_eq!(ended("exec >/dev/null 2>&1; sleep 60", 1.0, 30.0).status, Status::TimedOut);
}

#[test]
fn how_a_program_ended_is_told_apart() {
    let status = |script: &str| ended(script, 20.0, 20.0).status;
    assert_eq!(status("exit 0"), Status::Ok);
    assert_eq!(status("exit 1"), Status::Failed);
    assert_eq!(status("exit 101"), Status::Crashed, "a panic");
    assert_eq!(status("exit 5"), Status::Crashed, "a lost device");
    assert_eq!(status("kill -KILL $$"), Status::Crashed);
    let missing = child::run(Command::new("/no/such"), Duration::ZERO, Duration::ZERO, &mut std::io::sink());
    assert_eq!(ended("echo 'out of luck' >&2; exit 3", 9.0, 9.0).why, "exit status: 3: out of luck");
    assert!(missing.is_err_and(|e| e.to_string().contains("/no/such cannot be started")));
}

#[test]
fn json_is_found_in_whatever_was_printed() {
    let found = |text: &str| child::documents(text).len();
    assert_eq!(found("{\n \"a\": 1\n}\n"), 1);
    assert_eq!(found("{\"a\": 1}\n{\"b\": 2}\n"), 2);
    assert_eq!(found("a warning\n{\"a\": 1}\n{\"b\": 2}\n{\"c\": "), 2);
    assert_eq!(found("a driver says hello\n{\n \"a\": [\n1.25\n]\n}\n"), 1, "what comes first is no JSON");
    assert_eq!(found("[1]\n2\n"), 0, "only objects are rows");
    assert_eq!(found("talk\n"), 0);
    assert_eq!(found(""), 0);
}

#[test]
fn rows_are_distinct_and_quick_is_where_full_begins() {
    for scale in [Scale::Real, Scale::Tiny] {
        let places = Places { out: "/out of here".into(), work: "/work".into() };
        let names = |set| table::rows(set, scale, &places).into_iter().map(|r| r.name).collect::<Vec<_>>();
        let (quick, full) = (names(Set::Quick), names(Set::Full));
        assert_eq!(full[..quick.len()], quick[..]);
        let mut distinct = full.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), full.len());
        for row in table::rows(Set::Full, scale, &places) {
            assert!(row.silence <= row.limit && row.args.iter().all(|a| !a.is_empty()), "{}", row.name);
            if row.python {
                assert!(Path::new(&row.args[0]).is_file(), "{}", row.args[0]);
            }
        }
    }
}

/// The report of a rehearsal: `rows.jsonl`, shortened.
fn recorded() -> PathBuf {
    PathBuf::from("tests/gpu_report")
}

#[test]
fn tables_and_a_comparison_are_made_of_a_report() {
    let python = |args: &[&str]| Command::new("python3").args(args).output();
    if python(&["--version"]).is_err() {
        eprintln!("SKIP: no python3 to make tables with");
        return;
    }
    let report = recorded();
    let report = report.to_str().unwrap();
    let made = python(&["benches/gpu_report.py", report, "--against", report]).unwrap();
    let (text, said) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    assert!(made.status.success() && said.is_empty(), "{said}");
    for expected in [
        "# llvmpipe",
        "**A rehearsal on tiny sizes",
        "- kernel checks: 4 of 5 agree",
        "**matmul bad**: the driver rejects it",
        "`vit-f16` hung or died in: bad",
        "first 16 of 16 ids equal",
        "logits within",
        "| speed now | speed measured |",
        "## Against",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    // A report that is damaged, of something else, or of a machine that went mad still gives tables.
    let whole = std::fs::read_to_string(recorded().join("rows.jsonl")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let nan = whole
        .replace("\"median_us\": ", "\"median_us\": NaN, \"us\": ")
        .replace("\"ids\": [", "\"ids\": [null, ");
    let foreign = "{\"row\": \"vit-f16\", \"output\": [1, {\"rows\": [{}]}], \"command\": 3}\n[]\nx\n";
    let null = whole.replace("\"gflops\"", "\"megaflops\"").replace("\"speed\"", "\"haste\"");
    for damaged in [&whole[..whole.len() / 2], nan.as_str(), foreign, null.as_str()] {
        std::fs::write(&file, damaged).unwrap();
        let made = python(&["benches/gpu_report.py", file.to_str().unwrap(), "--against", report]).unwrap();
        let said = String::from_utf8(made.stderr).unwrap();
        assert!(made.status.success() && !said.contains("Traceback"), "{said}");
        assert!(String::from_utf8(made.stdout).unwrap().contains("## Rows"));
    }
    let missing = python(&["benches/gpu_report.py", "/no/such"]).unwrap();
    assert!(!missing.status.success());
    assert!(String::from_utf8(missing.stderr).unwrap().contains("run benches/gpu.sh first"));
}
