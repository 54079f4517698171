//! The built-in model through the program, on images its training never saw: some from the
//! generator that training used (other seeds), some drawn by other renderers. An image's label is
//! its file name up to the first underscore.

#[path = "cli/harness.rs"]
mod harness;

mod common;

use std::collections::BTreeMap;

use harness::{run, vit_gpu};

/// Least share of images named right, in each folder and over both.
const LEAST: f64 = 0.98;

#[test]
fn shapes_are_named_right() {
    // Without an adapter the reference answers: slower, the same numbers.
    let device = if common::gpu().is_some() { "auto" } else { "reference" };
    let (mut right, mut total) = (0, 0);
    let mut failures = Vec::new();
    for folder in ["generated", "other"] {
        let path = format!("tests/shapes/{folder}");
        let mut command =
            vit_gpu(["infer", "-q", "-k", "1", "-b", "32", "--format", "jsonl", "--device", device]);
        let rows = run(command.arg(path)).code(0).json_lines();
        let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut wrong = Vec::new();
        for row in &rows {
            let file = row["input"].as_str().and_then(|n| n.rsplit('/').next()).expect("a name");
            let (label, _) = file.split_once('_').expect("label_number.png");
            let got = row["predictions"][0]["label"].as_str().expect("a label");
            let (good, all) = kinds.entry(label.to_owned()).or_default();
            *all += 1;
            *good += usize::from(got == label);
            if got != label {
                wrong.push(format!("{file} is called {got}"));
            }
        }
        let good: usize = kinds.values().map(|(good, _)| good).sum();
        let share = good as f64 / rows.len().max(1) as f64;
        println!("{folder}: {good} of {} right ({share:.4}); wrong: {wrong:?}", rows.len());
        assert!(kinds.len() >= 12, "{folder} shows {} kinds of shapes", kinds.len());
        if share < LEAST {
            failures.push(format!("{folder}: {share:.4}; {wrong:?}"));
        }
        (right, total) = (right + good, total + rows.len());
    }
    let share = right as f64 / total as f64;
    println!("overall: {right} of {total} right ({share:.4})");
    assert!(total >= 300 && share >= LEAST, "overall {share:.4} of {total}");
    assert!(failures.is_empty(), "{failures:?}");
}
