//! `train` of what is made of pixels: a masked autoencoder and its reconstructions, images token by token.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Ran, go, names, run, sample, scratch, vit_gpu};

/// A small run on the reference, with more arguments.
fn train(model: &[&str], data: &Path, out: &Path, more: &[&str]) -> Ran {
    let mut command = vit_gpu(["train", "--device", "reference", "-b", "4", "--lr", "3e-3"]);
    if !more.contains(&"--epochs") {
        command.args(["--epochs", "3"]);
    }
    run(command.args(model).arg("--data").arg(data).arg("-o").arg(out).args(more))
}

/// A folder of sample images without classes.
fn pictures(folder: &Path) -> PathBuf {
    let data = folder.join("pictures");
    fs::create_dir_all(data.join("more")).unwrap();
    for (i, shape) in
        ["star", "circle", "heart", "drop", "cross", "arrow", "hexagon", "square"].iter().enumerate()
    {
        let place = if i < 6 { data.clone() } else { data.join("more") };
        fs::copy(sample(shape), place.join(format!("{shape}.png"))).unwrap();
    }
    data
}

fn losses(ran: &Ran) -> Vec<[f64; 2]> {
    let rows = ran.json_lines();
    let row = |row: &serde_json::Value| {
        assert_eq!(row["found"][0][0], "loss", "{row}");
        [row["train_loss"].as_f64().unwrap(), row["found"][0][1].as_f64().unwrap()]
    };
    rows.iter().map(row).collect()
}

#[test]
fn a_masked_autoencoder_learns_pictures_without_classes_and_shows_what_it_paints() {
    let folder = scratch();
    let (data, out) = (pictures(folder.path()), folder.path().join("run"));
    let model = ["-m", "tests/golden/vit_mae"];
    let ran =
        train(&model, &data, &out, &["--val-split", "0.25", "--format", "jsonl", "--mask-ratio", "0.75"]);
    let ran = ran.code(0).says(&["6 images to train on, 2 to validate on; 12 of 16 patches are hidden"]);
    let ran = ran.says(&["best: epoch", "--reconstruct"]);
    let found = losses(&ran);
    assert!(found.len() == 3 && found[2][1] < found[0][1], "{found:?}");
    assert_eq!(names(&out), ["best", "curve.svg", "last", "summary.csv"]);
    let summary = fs::read_to_string(out.join("summary.csv")).unwrap();
    assert!(summary.starts_with("epoch,step,train_loss,lr,loss\n"), "{summary}");

    let shown = |more: &[&str], file: &str| {
        let mut command = vit_gpu(["infer", "--device", "reference", "--format", "json", "--reconstruct"]);
        let ran = run(command.arg(folder.path().join(file)).arg("-m").arg(out.join("best")).args(more));
        ran.code(0).json()["results"].clone()
    };
    let star = sample("star");
    let star = star.to_str().unwrap();
    let one = shown(&[star, "--seed", "3"], "a.png");
    assert!(one[0]["squared_error"].as_f64().unwrap() > 0.0);
    let image = image::open(folder.path().join("a.png")).unwrap().to_rgb8();
    // Three of 32 pixels with two between, seven times enlarged.
    assert_eq!(image.dimensions(), (100 * 7, 32 * 7));
    let part = |i: u32| {
        let pixels = (0..32 * 32).map(|at| (at % 32, at / 32));
        pixels.map(|(x, y)| image.get_pixel((34 * i + x) * 7 + 3, y * 7 + 3).0).collect::<Vec<_>>()
    };
    let (whole, seen, painted) = (part(0), part(1), part(2));
    let grey = (0..1024).filter(|&i| seen[i] == [128; 3]).count();
    assert_eq!(grey, 512, "half of the patches, as the model's configuration says");
    assert!((0..1024).all(|i| seen[i] == [128; 3] || (whole[i] == seen[i] && whole[i] == painted[i])));
    assert!((0..1024).any(|i| seen[i] == [128; 3] && whole[i] != painted[i]));
    // The same seed hides the same patches, others others.
    shown(&[star, "--seed", "3"], "b.png");
    shown(&[star, "--seed", "4"], "c.png");
    let bytes = |file: &str| fs::read(folder.path().join(file)).unwrap();
    assert!(bytes("a.png") == bytes("b.png") && bytes("a.png") != bytes("c.png"));
    shown(&[star, sample("square").to_str().unwrap(), "--mask-ratio", "0.9"], "many");
    assert_eq!(names(&folder.path().join("many")), ["square.reconstruction.png", "star.reconstruction.png"]);

    let mut plain = vit_gpu(["infer", "--device", "reference", star, "-m"]);
    run(plain.arg(out.join("best"))).code(2).says(&["no classifier head", "--reconstruct"]);
    let file = folder.path().join("d.png");
    let paints = ["infer", "--device", "reference", star, "--reconstruct", file.to_str().unwrap()];
    go(paints).code(2).says(&["builtin:shapes paints no masked patches"]);
    assert!(!file.exists());
    let mut nothing = vit_gpu(paints);
    run(nothing.args(["--mask-ratio", "0", "-m", "tests/golden/vit_mae"])).code(2).says(&["hides 0 patches"]);
    run(vit_gpu(paints).args(["--mask-ratio", "1"])).code(2).says(&["from 0 to below 1"]);
}

#[test]
fn images_by_tokens_become_a_model_that_generates() {
    let folder = scratch();
    let (data, out) = (pictures(folder.path()), folder.path().join("run"));
    let ran =
        train(&["-m", "tests/golden/imagegpt"], &data, &out, &["--val-split", "0.25", "--hflip", "0.5"]);
    let ran = ran.code(0).says(&["6 images to train on, 2 to validate on, of 64 tokens each", "generate -m"]);
    assert!(ran.out.starts_with("epoch     loss  val loss  perplexity "), "{}", ran.out);
    let summary = fs::read_to_string(out.join("summary.csv")).unwrap();
    let numbers: Vec<f64> =
        summary.lines().skip(1).map(|line| line.split(',').nth(4).unwrap().parse().unwrap()).collect();
    assert!(numbers.len() == 3 && numbers[2] < numbers[0] - 0.1, "{summary}");
    let mut generate = vit_gpu(["generate", "--device", "reference", "--seed", "1", "-m"]);
    run(generate.arg(out.join("best")).arg("-o").arg(folder.path().join("made.png"))).code(0);
    assert!(image::open(folder.path().join("made.png")).is_ok());
    let resume = go(["train", "--device", "reference", "--resume", out.to_str().unwrap()]);
    resume.code(0).says(&["at its end already"]);
}

#[test]
fn new_models_begin_where_nothing_is_known() {
    let folder = scratch();
    let data = pictures(folder.path());
    let copy =
        |from: &str, to: &str| fs::copy(format!("tests/golden/{from}"), folder.path().join(to)).unwrap();
    copy("vit_mae/config.json", "mae.json");
    let new = |config: &str| folder.path().join(config).to_str().unwrap().to_owned();
    let out = folder.path().join("mae");
    let flags = ["--no-aug", "--format", "jsonl", "--epochs", "24", "--val-split", "0.25"];
    let found = losses(&train(&["--new", &new("mae.json")], &data, &out, &flags).code(0));
    let mean = |rows: &[[f64; 2]]| rows.iter().map(|row| row[0]).sum::<f64>() / rows.len() as f64;
    assert!(mean(&found[19..]) < 0.85 * mean(&found[..3]), "{found:?}");
    assert!(names(&out.join("best")).contains(&"preprocessor_config.json".to_owned()));
    let mut verified = vit_gpu(["inspect", "-m"]);
    run(verified.arg(out.join("best"))).code(0);

    copy("imagegpt/config.json", "igpt.json");
    let out = folder.path().join("igpt");
    let model = ["--new", &new("igpt.json")];
    train(&model, &data, &out, &[]).code(3).says(&["preprocessor_config.json", "is missing"]);
    assert!(!out.exists());
    copy("imagegpt/preprocessor_config.json", "preprocessor_config.json");
    let found = losses(&train(&model, &data, &out, &["--format", "jsonl"]).code(0));
    // 32 colours, each as likely as the others.
    assert!((found[0][0] - 32f64.ln()).abs() < 0.2, "{found:?}");

    copy("llamagen/config.json", "llamagen.json");
    let out = folder.path().join("llamagen");
    let model = ["--new", &new("llamagen.json")];
    train(&model, &data, &out, &[]).code(3).says(&["vq.safetensors", "is missing"]);
    copy("llamagen/vq.safetensors", "vq.safetensors");
    train(&model, Path::new("builtin:shapes"), &out, &[]).code(2).says(&["holds no encoder"]);
}

#[test]
fn what_says_nothing_to_what_is_learned_is_refused() {
    let folder = scratch();
    let (data, out) = (pictures(folder.path()), folder.path().join("run"));
    for (model, flags, said) in [
        ("vit_mae", &["--mixup", "0.2"][..], "--mixup"),
        ("vit_mae", &["--lora", "2"], "--lora"),
        ("vit_mae", &["--trainable", "head"], "--trainable head"),
        ("vit_mae", &["--class-dropout", "0.1"], "--class-dropout"),
        ("vit_mae", &["--mask-ratio", "0"], "hides 0 of 16 patches"),
        ("vit_mae", &["--trainable", "last-3"], "the model has 2"),
        ("imagegpt", &["--smoothing", "0.1"], "--smoothing"),
        ("imagegpt", &["--scale", "0.5", "1"], "only mirrored by --hflip"),
        ("imagegpt", &["--class-dropout", "0.1"], "stands for none"),
        ("imagegpt", &["--mask-ratio", "0.5"], "--mask-ratio"),
        ("llamagen", &[], "there is one class, `more`"),
        ("vit", &["--mask-ratio", "0.5"], "--mask-ratio"),
    ] {
        let model = format!("tests/golden/{model}");
        let ran = train(&["-m", &model], &data, &out, flags);
        assert!(ran.err.contains(said), "{model} {flags:?}: {}", ran.err);
        assert!([1, 2].contains(&ran.code), "{model} {flags:?}");
    }
    let randar = train(&["-m", "tests/golden/randar"], Path::new("builtin:shapes"), &out, &[]);
    randar.code(2).says(&["draws in any order, which cannot be trained yet"]);
    assert!(!out.exists());
}
