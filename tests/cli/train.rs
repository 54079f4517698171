//! `train`: what it writes, that it goes on, that a killed run leaves what it had, and what it refuses.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Ran, go, names, run, sample, scratch, vit_gpu};

/// A small run on the reference, with more arguments.
fn train(out: &Path, data: &Path, more: &[&str]) -> Ran {
    let mut command =
        vit_gpu(["train", "--device", "reference", "-m", "tests/golden/vit", "-b", "4", "--epochs", "2"]);
    command.arg("--data").arg(data).arg("-o").arg(out).args(more);
    run(&mut command)
}

/// Folders of two classes, of sample images.
fn two_classes(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("data");
    for (class, shapes) in [
        ("pointed", ["star", "triangle", "arrow", "cross"]),
        ("round", ["circle", "heart", "drop", "crescent"]),
    ] {
        fs::create_dir_all(data.join(class)).unwrap();
        for shape in shapes {
            fs::copy(sample(shape), data.join(class).join(format!("{shape}.png"))).unwrap();
        }
    }
    data
}

#[test]
fn a_folder_of_classes_becomes_a_model_that_infer_takes() {
    let folder = scratch();
    let (data, out) = (two_classes(folder.path()), folder.path().join("run"));
    let ran = train(&out, &data, &["--val-split", "0.25", "--format", "jsonl"]).code(0);
    let ran = ran.says(&[
        "6 images of 2 classes to train on, 2 to validate on",
        "it gets a new classifier",
        "best: epoch",
    ]);
    let rows = ran.json_lines();
    assert_eq!(rows.len(), 2);
    assert!(rows[1]["train_loss"].as_f64().unwrap() > 0.0 && rows[1]["epoch"] == 2);
    assert_eq!(names(&out), ["best", "curve.svg", "last", "summary.csv"]);
    assert_eq!(names(&out.join("best")), ["config.json", "model.safetensors", "preprocessor_config.json"]);
    let summary = fs::read_to_string(out.join("summary.csv")).unwrap();
    assert!(
        summary.starts_with("epoch,step,train_loss,lr,top1,top5,loss\n1,1,") && summary.lines().count() == 3,
        "{summary}"
    );
    let mut infer = vit_gpu(["infer", "--device", "reference", "--format", "json"]);
    let answer = run(infer.arg("-m").arg(out.join("best")).arg(sample("star"))).code(0).json();
    let classes = answer["results"][0]["predictions"].as_array().unwrap();
    let mut labels: Vec<&str> = classes.iter().map(|c| c["label"].as_str().unwrap()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["pointed", "round"]);
    // A run is not written over, and goes on only if there is something to do.
    train(&out, &data, &[]).code(2).says(&["there is a run in", "--resume", "--force"]);
    let again = go(["train", "--device", "reference", "--resume", out.to_str().unwrap()]);
    again.code(0).says(&["at its end already"]);
}

#[test]
fn data_that_cannot_be_trained_on_is_told_in_one_message() {
    let folder = scratch();
    let out = folder.path().join("run");
    let data = two_classes(folder.path());
    train(&out, &folder.path().join("none"), &[]).code(1).says(&["there is no such file or folder"]);
    train(&out, &data.join("round"), &[]).code(1).says(&["there are no folders of classes"]);
    fs::create_dir(data.join("empty")).unwrap();
    train(&out, &data, &[]).code(1).says(&["class `empty` has no images"]);
    fs::remove_dir(data.join("empty")).unwrap();
    assert!(!out.join("last").exists());
    // One bad image is left out.
    fs::write(data.join("round/bad.png"), b"no image").unwrap();
    train(&out, &data, &["--val-split", "0.25"]).code(0).says(&["left out: ", "bad.png"]);
    // Where all are bad, the run ends.
    for entry in fs::read_dir(data.join("round")).unwrap().chain(fs::read_dir(data.join("pointed")).unwrap())
    {
        fs::write(entry.unwrap().path(), b"no image").unwrap();
    }
    train(&folder.path().join("other"), &data, &[]).code(1).says(&["cannot be read"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = scratch();
    let (data, out) = (two_classes(folder.path()), folder.path().join("run"));
    train(&out, &data, &["--trainable", "last-9"]).code(2).says(&["the last 9 layers", "the model has 2"]);
    train(&out, &data, &["--trainable", "some"]).code(2);
    train(&out, &data, &["--lr", "nan"]).code(2);
    train(&out, &data, &["--dtype", "f16"]).code(2).says(&["training is in f32"]);
    let new = |name: &str, more: &[&str]| {
        let mut command = vit_gpu(["train", "--device", "reference", "--new", name, "--data"]);
        run(command.arg(&data).arg("-o").arg(&out).args(more))
    };
    new("vit_tinny_patch16_224", &[]).code(2).says(&["vit_tiny_patch16_224"]);
    new("vit_tiny_patch16_224", &["--model-args", "depth=0"]).code(2).says(&["depth = 0"]);
    new("vit_tiny_patch16_224", &["--model-args", "width=3"])
        .code(2)
        .says(&["`width` is not known", "embed_dim"]);
    new("vit_tiny_patch16_224", &["-m", "tests/golden/vit"]).code(2).says(&["-m and --new"]);
    new("missing.json", &[]).code(3).says(&["there is no such file"]);
    let text = ["train", "--device", "reference", "-m", "tests/toys/bert-toy", "--data"];
    run(vit_gpu(text).arg(&data).arg("-o").arg(&out)).code(2).says(&["reads texts, not images"]);
    go(["train", "--resume", data.to_str().unwrap()]).code(3).says(&["there is no run to go on with"]);
    assert_eq!(names(folder.path()), ["data"], "what came to nothing leaves nothing");
}

#[test]
fn a_new_model_of_timm_and_one_by_its_configuration() {
    let folder = scratch();
    let data = two_classes(folder.path());
    let args = [
        "img_size=16",
        "patch_size=8",
        "embed_dim=12",
        "depth=1",
        "num_heads=2",
        "pos_embed=none",
        "class_token=False",
        "global_pool=avg",
    ];
    for (name, args) in [("vit_tiny_patch16_224", &args[..]), ("tests/golden/vit/config.json", &[])] {
        let out = folder.path().join(if args.is_empty() { "b" } else { "a" });
        let mut command =
            vit_gpu(["train", "--device", "reference", "-b", "4", "--epochs", "1", "--new", name, "--data"]);
        command.arg(&data).arg("-o").arg(&out);
        if !args.is_empty() {
            command.arg("--model-args").args(args);
        }
        run(&mut command).code(0);
        let mut infer = vit_gpu(["infer", "--device", "reference"]);
        run(infer.arg("-m").arg(out.join("last")).arg(sample("star"))).code(0);
    }
}

/// A run that saves after every step, in another process.
#[cfg(unix)]
fn long_run(out: &Path) -> std::process::Child {
    let arguments = ["train", "--device", "reference", "-m", "tests/golden/vit", "--data", "builtin:shapes"];
    let mut command = vit_gpu(arguments);
    command.args(["-b", "2", "--epoch-size", "2000", "--save-every", "1", "-o"]).arg(out);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_at_any_moment_leaves_what_it_had() {
    let folder = scratch();
    let mut opened = 0;
    for round in 0..20u64 {
        let out = folder.path().join(round.to_string());
        let mut child = long_run(&out);
        let wait = Instant::now();
        // From before the first save to the midst of a later one.
        while round > 2 && !out.join("last").exists() && wait.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(7919 * round % 61_000));
        child.kill().unwrap();
        child.wait().unwrap();
        if out.join("last").exists() {
            opened += 1;
            let mut infer = vit_gpu(["infer", "--device", "reference", "-m"]);
            run(infer.arg(out.join("last")).arg(sample("star"))).code(0);
            let state = fs::read_to_string(out.join("last/trainer_state.json")).unwrap();
            assert!(serde_json::from_str::<serde_json::Value>(&state).unwrap()["step"].as_u64() > Some(0));
            assert!(out.join("last/optimizer.safetensors").exists());
        }
    }
    assert!(opened >= 15, "{opened} of 20 runs had saved something");
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_run_goes_on() {
    use rustix::process::{Pid, Signal, kill_process};
    let folder = scratch();
    let out = folder.path().join("run");
    let mut command =
        vit_gpu(["train", "--device", "reference", "-m", "tests/golden/vit", "--data", "builtin:shapes"]);
    command.args(["-b", "2", "--epoch-size", "40", "--epochs", "40", "--save-every", "1", "-o"]).arg(&out);
    // A job that a shell starts in the background inherits that SIGINT is ignored.
    let mut started = std::process::Command::new("env");
    started.args(["--default-signal=INT"]).arg(command.get_program()).args(command.get_args());
    started.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = started.spawn().unwrap();
    let wait = Instant::now();
    while !out.join("last").exists() && wait.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{err}");
    assert!(err.contains("saved at step") && err.contains("--resume"), "{err}");
    let step = |folder: &Path| -> u64 {
        let state = fs::read_to_string(folder.join("last/trainer_state.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&state).unwrap()["step"].as_u64().unwrap()
    };
    assert!(step(&out) > 0);
}

#[test]
fn an_adapter_is_trained_gone_on_with_and_merged() {
    let folder = scratch();
    let (data, out, merged) =
        (two_classes(folder.path()), folder.path().join("run"), folder.path().join("merged"));
    let lora = ["--val-split", "0.25", "--lora", "3", "--lora-targets", "q_proj,fc1", "--lr", "1e-2"];
    train(&out, &data, &lora).code(0).says(&["it gets a new classifier"]);
    assert_eq!(names(&out.join("best")), ["adapter_config.json", "adapter_model.safetensors", "config.json"]);
    let config = fs::read_to_string(out.join("best/adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(3), Some(6.0)));
    assert!(config["base_model_name_or_path"].as_str().unwrap().ends_with("tests/golden/vit"));
    go(["train", "--device", "reference", "--resume", out.to_str().unwrap()])
        .code(0)
        .says(&["at its end already"]);
    let mut merge = vit_gpu(["merge", "-m"]);
    run(merge.arg(out.join("best")).arg("-o").arg(&merged)).code(0);
    let answer = |model: &Path| {
        let mut infer = vit_gpu(["infer", "--device", "reference", "--format", "csv", "--logits", "-m"]);
        run(infer.arg(model).arg(sample("star"))).code(0).out
    };
    let (one, other) = (answer(&out.join("best")), answer(&merged));
    assert!(one.contains("pointed") && one.contains("round"), "{one}");
    assert_eq!(one, other);
    train(&folder.path().join("x"), &data, &["--lora", "2", "--lora-targets", "nothing"])
        .code(2)
        .says(&["no module `nothing`"]);
}

#[test]
fn an_adapter_of_a_timm_model_with_other_classes_opens_again() {
    let folder = scratch();
    let (data, out) = (two_classes(folder.path()), folder.path().join("run"));
    let mut command = vit_gpu(["train", "--device", "reference", "-m", "tests/golden/timm_vit", "-b", "4"]);
    command.args(["--epochs", "1", "--lora", "2", "--data"]).arg(&data).arg("-o").arg(&out);
    run(&mut command).code(0);
    let mut infer = vit_gpu(["infer", "--device", "reference", "--format", "csv", "-m"]);
    let answer = run(infer.arg(out.join("best")).arg(sample("star"))).code(0).out;
    assert!(answer.contains("pointed") && answer.contains("round"), "{answer}");
    // An adapter on itself is one message.
    let config = out.join("best/adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let own: serde_json::Value = serde_json::from_str(&text).unwrap();
    let base = own["base_model_name_or_path"].as_str().unwrap();
    fs::write(&config, text.replace(base, out.join("best").to_str().unwrap())).unwrap();
    let mut infer = vit_gpu(["infer", "--device", "reference", "-m"]);
    run(infer.arg(out.join("best")).arg(sample("star"))).code(2).says(&["is made for an adapter"]);
}

#[test]
fn what_would_lose_something_is_refused() {
    let folder = scratch();
    let (data, out) = (two_classes(folder.path()), folder.path().join("run"));
    train(&data.join("round"), &data, &[]).code(2).says(&["lies in the data"]);
    train(&data, &data, &[]).code(2).says(&["lies in the data"]);
    // Weights that are no numbers are not saved.
    let wild = train(&out, &data, &["--lr", "1e30", "--clip-grad", "0"]);
    wild.code(6).says(&["values are not finite"]);
    assert!(!out.exists());
    train(&out, &data, &["--val-split", "0.25"]).code(0);
    let again =
        ["train", "--device", "reference", "--data", data.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let mut command = vit_gpu(again);
    run(command.args(["--force", "-m"]).arg(out.join("best")))
        .code(2)
        .says(&["the model it begins with lies in"]);
    // Other data under the same name.
    fs::copy(sample("hexagon"), data.join("round/another.png")).unwrap();
    let before = fs::read(out.join("last/trainer_state.json")).unwrap();
    let resume = ["train", "--device", "reference", "--resume", out.to_str().unwrap()];
    go(resume).code(2).says(&["is not what it was when the run began"]);
    assert_eq!(before, fs::read(out.join("last/trainer_state.json")).unwrap());
    // A folder that is no run's.
    let mine = folder.path().join("mine");
    fs::create_dir_all(mine.join("best")).unwrap();
    fs::write(mine.join("best/thesis.txt"), "x").unwrap();
    train(&mine, &data, &["--force"]).code(2).says(&["is no folder of a run"]);
    assert!(mine.join("best/thesis.txt").exists());
}

#[test]
fn texts_by_class_train_a_head_or_all() {
    let folder = scratch();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let lines = |from: usize, to: usize| -> String {
        let line = |i: usize| {
            let (who, what) = (["Anna", "Ben", "Carl"][i % 3], ["ball", "hat"][i / 3 % 2]);
            format!("{who} has the {what}.\t{}\n", ["round", "worn"][i / 3 % 2])
        };
        std::iter::once("text\tlabel\n".to_owned()).chain((from..to).map(line)).collect()
    };
    fs::write(data.join("train.tsv"), lines(0, 18)).unwrap();
    fs::write(data.join("validation.tsv"), lines(0, 6)).unwrap();
    for (model, scope) in [("bert-toy", "all"), ("gpt2-toy", "all"), ("bert-toy-mnli", "head")] {
        let out = folder.path().join(model);
        let mut command = vit_gpu(["train", "--device", "reference", "-m", &format!("tests/toys/{model}")]);
        command.args(["--trainable", scope, "-b", "6", "--epochs", "8", "--lr", "2e-3", "--format", "jsonl"]);
        let ran = run(command.arg("--data").arg(&data).arg("-o").arg(&out)).code(0);
        let rows = ran.says(&["18 texts of 2 classes", "6 to validate on", "a new classifier"]).json_lines();
        let loss = |i: usize| rows[i]["train_loss"].as_f64().unwrap();
        assert!(loss(7) < loss(0), "{rows:?}");
        let mut infer =
            vit_gpu(["infer", "--device", "reference", "--format", "json", "--text", "Ben has the hat."]);
        let answer = run(infer.arg("-m").arg(out.join("best"))).code(0).out;
        assert!(answer.contains("\"worn\"") && answer.contains("\"round\""), "{answer}");
        if scope == "all" {
            let found = rows[7]["found"].as_array().unwrap();
            assert_eq!((found[0][0].as_str(), found[0][1].as_f64()), (Some("top1"), Some(1.0)), "{rows:?}");
        }
    }
    let mut command = vit_gpu(["train", "--device", "reference", "-m", "tests/golden/vit"]);
    let ran = run(command.arg("--data").arg(&data).arg("-o").arg(folder.path().join("x")));
    ran.code(2).says(&["reads no texts"]);
}
