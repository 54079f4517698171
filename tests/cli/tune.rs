//! Ways of computing an op: `--variant`, `--no-tune`, `vit-gpu tune` and the file it keeps.

use crate::common;
use crate::harness::{go, names, run, scratch, vit_gpu};

const STAR: &str = "assets/samples/star.png";

#[test]
fn the_variants_are_listed_and_each_can_be_forced() {
    let list = go(["tune", "--list"]).code(0).out;
    let ways: Vec<&str> = list.lines().collect();
    assert!(ways.contains(&"matmul=tile64") && ways.contains(&"attention=lanes16"), "{list}");
    let matmuls = |plan: &str| -> Vec<String> {
        let matmul = |l: &&str| l.contains(" matmul_");
        plan.lines().filter(matmul).map(|l| l.split_whitespace().nth(2).unwrap_or("").to_owned()).collect()
    };
    let plan = go(["inspect", "--plan", "--device", "reference", "--variant", "matmul=quads32"]).code(0).out;
    // Where a norm rides along, there is one way only.
    let forced = |way: &String| way == "quads32" || way.starts_with("step");
    assert!(matmuls(&plan).iter().all(forced) && matmuls(&plan).contains(&"quads32".to_owned()), "{plan}");
    // The last word counts, and an op that cannot be done so is done in another way.
    let two = ["--variant", "matmul=quads32", "--variant", "matmul=rows"];
    let plan = go(["inspect", "--plan", "--device", "reference"].iter().chain(&two)).code(0).out;
    assert!(matmuls(&plan).contains(&"rows".to_owned()), "{plan}");
    assert!(matmuls(&plan).iter().all(|way| way != "quads32" || matmuls(&plan).len() > 1), "{plan}");
}

#[test]
fn a_way_that_does_not_exist() {
    let with = |setting: &str| go(["infer", STAR, "--device", "reference", "--variant", setting]).code(2);
    with("matmul=fast").says(&["no variant `fast`", "tile64"]);
    with("layer_norm=tile64").says(&["`layer_norm` has no variants", "matmul, attention"]);
    with("tile64").says(&["not OP=NAME", "matmul=tile64"]);
    go(["tune", "--budget", "0"]).code(2).says(&["seconds"]);
    go(["tune", "-b", "0"]).code(2);
    go(["tune", "--device", "reference"]).code(2).says(&["no kernel variants"]);
    go(["tune", "--synthetic", "vit-z/99"]).code(2).says(&["vit-z/99", "vit-b/16"]);
}

#[test]
fn what_is_measured_is_kept_and_used() {
    if common::gpu().is_none() {
        return;
    }
    let cache = scratch();
    let tune = |more: &[&str]| {
        let mut command = vit_gpu(["tune", "--synthetic", "vit-ti/16", "-b", "1", "--format", "json"]);
        run(command.args(more).env("XDG_CACHE_HOME", cache.path())).code(0).json()
    };
    let first = tune(&[]);
    let batch = &first["batches"][0];
    let measured = batch["measured"].as_array().expect("a list");
    assert!(!measured.is_empty(), "{first:#}");
    for m in measured {
        let times = m["microseconds"].as_array().expect("a list");
        assert!(times.len() > 1 && times.iter().all(|t| t[1].as_f64().is_some_and(|t| t > 0.0)), "{m:#}");
        assert_eq!(m["chosen"], times[0][0], "the chosen one comes first: {m:#}");
    }
    let file = first["file"].as_str().expect("a path").to_owned();
    let kept: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("the file")).expect("JSON");
    assert_eq!(kept["choices"].as_object().expect("a map").len(), measured.len());
    assert!(names(&cache.path().join("vit-gpu")).iter().all(|n| !n.contains(".tmp")));

    // A second time there is nothing to do, unless it is asked for.
    let again = tune(&[]);
    assert_eq!(again["batches"][0]["measured"].as_array().map(Vec::len), Some(0), "{again:#}");
    assert_eq!(again["batches"][0]["known"].as_u64(), Some(measured.len() as u64));

    // A damaged file is as good as none, and is replaced.
    std::fs::write(&file, "{ not json").expect("it can be written");
    let healed = tune(&["--budget", "0.001"]);
    assert_eq!(healed["batches"][0]["known"].as_u64(), Some(0), "{healed:#}");
    assert!(healed["batches"][0]["left"].as_u64() > Some(0), "a budget of a millisecond: {healed:#}");
}

#[test]
fn a_kept_choice_changes_the_plan_and_no_tune_ignores_it() {
    let Some(gpu) = common::gpu() else { return };
    let cache = scratch();
    let run_with = |more: &[&str]| {
        let mut command = vit_gpu(["inspect", "--plan"]);
        run(command.args(more).env("XDG_CACHE_HOME", cache.path())).code(0).out
    };
    let plain = run_with(&[]);
    let source = vit_gpu::session::ModelSource::Builtin("shapes".to_owned());
    let session = vit_gpu::session::Session::open(&source, &Default::default()).expect("it is embedded");
    let plan = session.plan(1, [64, 64], &["logits"]).expect("a plan");
    let mut choices = vit_gpu::ops::Choices::default();
    for choice in plan.steps.iter().filter_map(|s| s.choice.as_ref()) {
        let other = choice.candidates.names.last().expect("never empty");
        choices.prefer(&choice.candidates.key, *other);
    }
    let dir = cache.path().join("vit-gpu");
    assert!(vit_gpu::gpu::tune::save(&dir, gpu.report(), &choices));
    assert_ne!(run_with(&[]), plain, "the kept choices are taken");
    assert_eq!(run_with(&["--no-tune"]), plain);
}
