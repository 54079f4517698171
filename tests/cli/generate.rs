//! `generate` and `tokens`: what goes into the files, bad input of group R before any device is opened,
//! and nothing half-written.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use image::AnimationDecoder as _;
use serde_json::Value;

use crate::harness::{Ran, golden, names, run, scratch, vit_gpu};

/// LlamaGen's layout, 4x4 patches of 2x2 pixels, 64 tokens, 5 classes.
const MODEL: &str = "tests/golden/llamagen";
/// A palette, no classes.
const COLOURS: &str = "tests/golden/imagegpt";
/// LlamaGen's layout, 4x4 patches of one pixel, in any order.
const ANY_ORDER: &str = "tests/golden/randar";

/// A run on the CPU reference with the model of colours, which also makes tokens of images.
fn colours<S: AsRef<OsStr>>(command: &str, arguments: impl IntoIterator<Item = S>) -> Ran {
    run(vit_gpu([command, "--device", "reference", "-m", COLOURS]).args(arguments))
}

/// A run on the CPU reference.
fn go<S: AsRef<OsStr>>(command: &str, arguments: impl IntoIterator<Item = S>) -> Ran {
    run(vit_gpu([command, "--device", "reference", "-m", MODEL]).args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

fn dimensions(path: &Path) -> (u32, u32) {
    image::open(path).expect("an image").to_rgb8().dimensions()
}

/// The model with names for its classes, in a folder of its own.
fn named(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    fs::create_dir(&model).expect("a folder");
    for file in ["gpt.safetensors", "vq.safetensors"] {
        fs::copy(golden("llamagen").join(file), model.join(file)).expect("a copy");
    }
    let mut config = json(&golden("llamagen/config.json"));
    config["id2label"] =
        serde_json::json!({"0": "circle", "1": "Semicircle", "2": "star", "3": "cross", "4": "crane"});
    fs::write(model.join("config.json"), config.to_string()).expect("a file");
    model
}

#[test]
fn bad_input_is_refused_before_any_device_is_opened() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (out, picture, nowhere) = (at("out.png"), at("in.png"), at("no/such/out.png"));
    fs::copy("assets/samples/star.png", &picture).expect("a copy");
    let model = named(folder.path());
    let config = text(&model.join("config.json")).to_owned();
    let (model, txt, bare, jpg, folder_dot) =
        (text(&model), at("out.txt"), at("out"), at("out.jpg"), at("x/y/"));
    let before = names(folder.path());

    let star = ["--class", "star", "-o", &out];
    let with = |more: &[&str]| [&star, more].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let alone = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (alone(&["--class", "zebra", "-o", &out]), &["no class of this name", "circle"]),
        (alone(&["--class", "satr", "-o", &out]), &["did you mean star (2)?"]),
        (alone(&["--class", "cr", "-o", &out]), &["fits 2 classes", "cross (3), crane (4)"]),
        (alone(&["--class", "5", "-o", &out]), &["--class: class 5: the model has 5 classes", "from 0 to 4"]),
        (alone(&["--class", "-1", "-o", &out]), &["--class: class -1", "from 0 to 4"]),
        (alone(&["--class", "", "-o", &out]), &["names no class"]),
        (with(&["--temperature", "-0.1"]), &["--temperature", "from 0"]),
        (with(&["--temperature", "nan"]), &["--temperature", "from 0"]),
        (with(&["--temperature", "1e9"]), &["--temperature", "to 100"]),
        (with(&["--top-p", "0"]), &["--top-p", "above 0, at most 1"]),
        (with(&["--top-p", "1.01"]), &["--top-p", "above 0, at most 1"]),
        (with(&["--top-p", "NaN"]), &["--top-p", "above 0, at most 1"]),
        (with(&["--top-k", "-1"]), &["--top-k"]),
        (with(&["--cfg-scale", "NaN"]), &["--cfg-scale", "1 is no guidance"]),
        (with(&["--cfg-scale", "-1"]), &["--cfg-scale", "from 0 to 100"]),
        (with(&["--cfg-schedule", "cosine"]), &["constant, linear"]),
        (with(&["--seed", "-1"]), &["--seed"]),
        (with(&["--seed", "18446744073709551616"]), &["--seed"]),
        (with(&["-n", "0"]), &["1..=65536"]),
        (with(&["-n", "-3"]), &["-3 is not in 1..=65536"]),
        (with(&["-n", "65536", "--zoom", "64"]), &["65536 samples on one sheet", "-o FOLDER/"]),
        (with(&["--class", "0", "-n", "65536"]), &["131072 samples are too many"]),
        (with(&["--order", "random"]), &["random order", "row by row only"]),
        (with(&["--order", "spiral"]), &["raster, random"]),
        (with(&["--num-steps", "4"]), &["4 steps", "one patch at a time", "name no steps"]),
        (with(&["--num-steps", "1"]), &["--num-steps", "1 is not in 2.."]),
        (with(&["--num-steps", "-1"]), &["--num-steps"]),
        (with(&["--init-image", &picture]), &["--keep-rows"]),
        (with(&["--keep-rows", "1"]), &["--init-image"]),
        (with(&["--init-image", &picture, "--keep-rows", "0"]), &["1 or more"]),
        (with(&["--init-image", &picture, "--keep-rows", "1.5"]), &["0.5 or 50%"]),
        (
            with(&["--init-image", &picture, "--keep-rows", "4"]),
            &["4 rows to keep", "4 rows of patches", "keep 1 to 3"],
        ),
        (with(&["--init-image", &picture, "--keep-rows", "99"]), &["99 rows to keep", "keep 1 to 3"]),
        (with(&["--every", "0"]), &["--every"]),
        (with(&["--zoom", "0"]), &["--zoom"]),
        (with(&["--columns", "0"]), &["--columns"]),
        (with(&["--animate", &jpg]), &["--animate", ".gif or .png"]),
        (with(&["--animate", &out]), &["-o and --animate name the same file"]),
        (with(&["--entropy", &txt]), &["`.txt` is no kind of image"]),
        (
            with(&["--tokens", &format!("{nowhere}.json")]),
            &["cannot write", "there is no folder", "(--tokens)"],
        ),
        (with(&["--frames-dir", &folder_dot]), &["cannot write", "(--frames-dir)"]),
        (with(&["--reproduce", &picture]), &["--reproduce"]),
        (with(&["--preview", "maybe"]), &["auto, never, always"]),
        (alone(&["--class", "star"]), &["nothing to write", "-o FILE.png"]),
        (alone(&["--class", "star", "-o", &txt]), &["`.txt` is no kind of image", ".png"]),
        (alone(&["--class", "star", "-o", &bare]), &["no extension tells the kind"]),
        (alone(&["--class", "star", "-o", &nowhere]), &["cannot write", "there is no folder", "(-o)"]),
        (alone(&["--class", "star", "-o", "/proc/x.png"]), &["cannot write", "(-o)"]),
        (alone(&["--class", "star", "-o", &format!("{picture}/")]), &["cannot write", "(-o)"]),
        (alone(&["--init-image", &picture, "--keep-rows", "1", "-o", &picture]), &["would replace an input"]),
        (alone(&["--class", "star", "--tokens", &config]), &["would replace a file of the model"]),
    ];
    // Without an adapter, whatever opens a device ends with exit code 4.
    let refused = |model: &str, arguments: &[String], says: &[&str]| {
        let mut command = vit_gpu(["generate", "-m", model]);
        command
            .args(arguments)
            .env("VK_DRIVER_FILES", "/nonexistent")
            .env("VK_ICD_FILENAMES", "/nonexistent");
        // As in every command: 1 where an output cannot be written, 2 where the command line is wrong.
        let code = if says.contains(&"cannot write") { 1 } else { 2 };
        let ran = run(&mut command).code(code).says(says).says(&["error: "]);
        assert_eq!(ran.err.matches("error: ").count(), 1, "{arguments:?}: {ran:#?}");
        assert_eq!(ran.out, "");
        assert_eq!(names(folder.path()), before, "{arguments:?} leaves nothing");
    };
    for (arguments, says) in &cases {
        refused(model, arguments, says);
    }
    let more: [(&[&str], &[&str]); 4] = [
        (&["--class", "1", "-o", &out], &["--class 1", "has no classes", "leave --class away"]),
        (&["--cfg-scale", "2", "-o", &out], &["guidance"]),
        (&["--cfg-schedule", "linear", "-o", &out], &["guidance"]),
        (&["--order", "random", "-o", &out], &["row by row only"]),
    ];
    for (arguments, says) in more {
        refused(COLOURS, &alone(arguments), says);
    }
    let steps = alone(&["--num-steps", "17", "-o", &out]);
    refused(ANY_ORDER, &steps, &["17 steps: an image has 16 patches", "2 to 16 steps"]);
    let ran = run(vit_gpu(["generate", "-m", model, "--class", "star", "-o", &out])
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent"));
    assert_eq!(ran.code, 4, "the table proves something: {ran:#?}");
}

#[test]
fn other_inputs_that_cannot_be_used() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let out = at("out.png");
    fs::write(at("empty.png"), "").expect("a file");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--init-image", "nope.png", "--keep-rows", "1", "-o", &out], &["nope.png: cannot be read"]),
        (&["--init-image", &at("empty.png"), "--keep-rows", "1", "-o", &out], &["empty file"]),
        (&["--reproduce", "nope.png", "-o", &out], &["nope.png: cannot be read"]),
        (&["--reproduce", "Cargo.toml", "-o", &out], &["is no PNG file"]),
        (&["--reproduce", "assets/samples/star.png", "-o", &out], &["holds no settings"]),
    ];
    for (arguments, says) in cases {
        go("generate", arguments).code(1).says(says);
        assert_eq!(names(folder.path()), ["empty.png"]);
    }
    run(&mut vit_gpu(["tokens", "assets/samples/star.png", "-o", "-"])).code(2).says(&["/dev/stdout"]);
    run(&mut vit_gpu(["generate", "-m", "tests/golden/vit", "-o", &out])).code(2);
    run(&mut vit_gpu(["generate", "-m", "builtin:shapes", "-o", &out])).code(2).says(&["shapes-gpt"]);
}

#[test]
fn a_picture_can_be_made_again() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let (one, two) = (at("one.png"), at("two.png"));
    let settings =
        ["--class", "2", "--class", "4", "-n", "2", "--seed", "18446744073709551615", "--top-k", "9"];
    let more =
        ["--cfg-scale", "1.7", "--cfg-schedule", "linear", "--zoom", "3", "--top-p", "0.9", "-o", text(&one)];
    go("generate", settings.into_iter().chain(more)).code(0).says(&["4 images in"]);
    assert_eq!(dimensions(&one), (18 * 3, 18 * 3), "2x2 images of 8x8 with a gap of 2");
    let ran = go("generate", ["--reproduce", text(&one), "-o", text(&two)]).code(0);
    assert!(!ran.err.contains("seed "), "the seed is known: {ran:#?}");
    assert_eq!(fs::read(&one).expect("a file"), fs::read(&two).expect("a file"));

    // The model comes from the file, unless another is named.
    let ran =
        run(&mut vit_gpu(["generate", "--device", "reference", "--reproduce", text(&one), "-o", text(&two)]));
    ran.code(0);
    assert_eq!(fs::read(&one).expect("a file"), fs::read(&two).expect("a file"));
    let ran = run(&mut vit_gpu(["generate", "-m", COLOURS, "--reproduce", text(&one), "-o", text(&two)]));
    ran.code(2).says(&["the file is of another model"]);

    // One of many alone is the same.
    let many = format!("{}/", at("many").display());
    go("generate", settings.into_iter().chain(["-o", &many])).code(0);
    assert_eq!(
        names(&at("many")),
        ["0-LABEL_2.png", "1-LABEL_2.png", "2-LABEL_4.png", "3-LABEL_4.png"].map(|n| n.replace('_', "-"))
    );
    let third = at("many").join("2-LABEL-4.png");
    go("generate", ["--reproduce", text(&third), "-o", text(&two)]).code(0).says(&["1 image in"]);
    assert_eq!(fs::read(&third).expect("a file"), fs::read(&two).expect("a file"));

    // A seed that nobody chose is said, and kept.
    let ran = go("generate", ["--class", "0", "-o", text(&one)]).code(0).says(&["note: seed "]);
    let seed = ran.err.split("--seed ").nth(1).and_then(|t| t.split(' ').next()).expect("a seed").to_owned();
    go("generate", ["--class", "0", "--seed", &seed, "-o", text(&two)]).code(0);
    assert_eq!(fs::read(&one).expect("a file"), fs::read(&two).expect("a file"));
}

#[test]
fn everything_that_is_written() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let path = |name: &str| text(&at(name)).to_owned();
    let ran = go(
        "generate",
        [
            "--seed",
            "5",
            "-n",
            "3",
            "-o",
            &path("a.jpg"),
            "--files",
            "--animate",
            &path("g.png"),
            "--frames-dir",
            &path("steps"),
            "--every",
            "4",
            "--entropy",
            &path("e.webp"),
            "--tokens",
            &path("t.json"),
            "--stats",
        ],
    );
    let ran = ran.code(0).says(&["3 images in", "a-0.jpg to"]);
    for word in ["first token", "tokens/s", "samples            3", "images"] {
        assert!(ran.out.contains(word), "{ran:#?}");
    }
    assert_eq!(names(folder.path()), ["a-0.jpg", "a-1.jpg", "a-2.jpg", "e.webp", "g.png", "steps", "t.json"]);
    let tokens = json(&at("t.json"));
    assert_eq!((&tokens["grid"], &tokens["vocabulary"]), (&serde_json::json!([4, 4]), &64.into()));
    let classes: Vec<u64> =
        tokens["samples"].as_array().expect("samples").iter().filter_map(|s| s["class"].as_u64()).collect();
    assert_eq!(classes, [0, 1, 2], "every class in turn");

    // Nothing, 1 token, 5, 9, 13, 16.
    let frames =
        image::codecs::png::PngDecoder::new(std::io::Cursor::new(fs::read(at("g.png")).expect("a file")))
            .and_then(|d| d.apng()?.into_frames().collect_frames())
            .expect("an animation");
    assert_eq!(frames.len(), 6);
    assert!(frames[0].buffer().pixels().any(|p| p.0 == [128, 128, 128, 255]), "it begins with grey");
    assert_eq!(names(&at("steps")).len(), 6);
    let last = image::open(at("steps").join("step-005.png")).expect("an image").to_rgb8();
    assert!(image::open(at("g.png")).expect("an image").to_rgb8() == last, "where nothing moves, the end");

    go("generate", ["--seed", "5", "-n", "3", "--animate", &path("g.gif"), "-q"]).code(0);
    let gif =
        image::codecs::gif::GifDecoder::new(std::io::Cursor::new(fs::read(at("g.gif")).expect("a file")));
    let frames = gif.and_then(|d| d.into_frames().collect_frames()).expect("an animation");
    assert_eq!(frames.len(), 17, "a frame for each token, and one before");

    // Tokens come back as the image they were.
    let sheet = ["--seed", "5", "-n", "3", "-o", &path("sheet.bmp")];
    go("generate", sheet).code(0);
    go("tokens", ["--decode", &path("t.json"), "-o", &path("again.bmp")]).code(0).says(&["3 images"]);
    assert_eq!(fs::read(at("sheet.bmp")).expect("a file"), fs::read(at("again.bmp")).expect("a file"));
}

#[test]
fn greedy_and_guided() {
    let tokens = |more: &[&str]| {
        let folder = scratch();
        let file = folder.path().join("t.json");
        let ran = go("generate", ["--class", "3", "--tokens", text(&file)].iter().chain(more)).code(0);
        assert_eq!(ran.out, "");
        json(&file)["samples"][0]["tokens"].clone()
    };
    let greedy = tokens(&["--temperature", "0", "--seed", "1"]);
    assert_eq!(greedy, tokens(&["--temperature", "0", "--seed", "2"]));
    assert_eq!(greedy, tokens(&["--top-k", "1", "--seed", "3"]));
    assert_ne!(tokens(&["--seed", "1"]), tokens(&["--seed", "2"]));
    assert_eq!(tokens(&["--seed", "1", "--top-k", "64"]), tokens(&["--seed", "1", "--top-k", "0"]));
    let scale = |s: &str| tokens(&["--temperature", "0", "--cfg-scale", s]);
    assert_ne!(scale("1"), scale("8"));
}

#[test]
fn a_primer_is_kept() {
    let folder = scratch();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let star = "assets/samples/star.png";
    let prime = ["--seed", "2", "--init-image", star, "--keep-rows"];
    let note = "it is resized and cropped to 8x8";
    colours("generate", prime.iter().chain(&["50%", "--tokens", &at("t.json"), "-o", &at("a.png")]))
        .code(0)
        .says(&[note]);
    colours("tokens", [star, "-o", &at("star.json")]).code(0).says(&[note]);
    let (drawn, whole) = (json(Path::new(&at("t.json"))), json(Path::new(&at("star.json"))));
    for row in 0..4 {
        assert_eq!(drawn["samples"][0]["tokens"][row], whole["samples"][0]["tokens"][row]);
    }
    let two = ["4", "--tokens", &at("u.json"), "--entropy", &at("e.png"), "--animate", &at("g.gif")];
    colours("generate", prime.iter().chain(&two)).code(0);
    assert_eq!(json(Path::new(&at("u.json"))), drawn);
    colours("generate", ["--reproduce", &at("a.png"), "-o", &at("b.png")]).code(0);
    assert_eq!(fs::read(at("a.png")).expect("a file"), fs::read(at("b.png")).expect("a file"));
}

#[test]
fn patches_in_any_order_and_several_at_a_time() {
    let folder = scratch();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let generate = ["generate", "--device", "reference", "-m", ANY_ORDER];
    let draw = |more: &[&str]| {
        let settings = ["--class", "1", "-n", "2", "--seed", "3"];
        run(vit_gpu(generate).args(settings).args(more)).code(0)
    };
    let tokens = |name: &str| json(Path::new(&at(name)))["samples"].clone();
    let (png, gif) = (at("a.png"), at("a.gif"));
    let ran = draw(&[
        "-o",
        &png,
        "--tokens",
        &at("a.json"),
        "--animate",
        &gif,
        "--every",
        "4",
        "--entropy",
        &at("e.png"),
        "--num-steps",
        "6",
        "--stats",
    ]);
    assert!(ran.out.contains("decode             30 tokens"), "{ran:#?}");
    // Random is what such models are made for, and rising guidance, too.
    let same = ["--order", "random", "--cfg-schedule", "linear", "--num-steps", "6", "--tokens"];
    draw(&[&same[..], &[&at("b.json")]].concat());
    assert_eq!(tokens("a.json"), tokens("b.json"));
    for (other, name) in [(&["--order", "raster", "--tokens"][..], "c.json"), (&["--tokens"], "d.json")] {
        draw(&[other, &[&at(name)]].concat());
        assert_ne!(tokens("a.json"), tokens(name), "{other:?}");
    }
    run(vit_gpu(generate).args(["--reproduce", &png, "-o", &at("b.png")])).code(0);
    assert_eq!(fs::read(&png).expect("a file"), fs::read(at("b.png")).expect("a file"));
}

#[test]
fn pictures_to_tokens_and_back() {
    let folder = scratch();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let star = "assets/samples/star.png";
    let ran = colours("tokens", [star]).code(0);
    assert_eq!(ran.json()["samples"][0]["tokens"].as_array().map(Vec::len), Some(8));
    let ran = colours("tokens", [star, "-o", &at("t.json"), "--reconstruct", &at("r.png")]).code(0);
    assert!(ran.out.starts_with("psnr ") && ran.out.ends_with(" dB\n"), "{ran:#?}");
    let other =
        colours("tokens", ["--decode", &at("t.json"), "-o", &at("d.png"), "--original", star, "-q"]).code(0);
    assert_eq!(other.out, ran.out);
    assert_eq!(other.err, "");
    assert_eq!(fs::read(at("r.png")).expect("a file"), fs::read(at("d.png")).expect("a file"));
    assert_eq!(dimensions(Path::new(&at("d.png"))), (8, 8));

    colours("tokens", Vec::<&str>::new()).code(2);
    colours("tokens", [star, "--decode", &at("t.json"), "-o", &at("x.png")]).code(2);
    colours("tokens", ["--decode", &at("t.json")]).code(2).says(&["--output"]);
    colours("tokens", ["--decode", &at("t.json"), "-o", &at("x.txt")]).code(2).says(&["no kind of image"]);
    colours("tokens", ["--decode", &at("t.json"), "-o", &at("t.json")])
        .code(2)
        .says(&["would replace an input"]);
    colours("tokens", [star, "-o", &at("no/t.json")]).code(1).says(&["there is no folder"]);
    colours("tokens", ["nope.png"]).code(1).says(&["nope.png: cannot be read"]);
}

#[test]
fn bad_token_files() {
    let folder = scratch();
    let (file, out) = (folder.path().join("t.json"), folder.path().join("out.png"));
    let rows = |rows: &str| format!("{{\"grid\": [4, 4], \"samples\": [{{\"tokens\": {rows}}}]}}");
    let cases = [
        (String::new(), "is no token file"),
        ("not JSON".to_owned(), "is no token file"),
        ("[1, 2]".to_owned(), "is no token file"),
        ("{\"grid\": [4, 4]}".to_owned(), "missing field `samples`"),
        ("{\"grid\": [4, 4], \"samples\": []}".to_owned(), "no samples"),
        ("{\"grid\": [8, 8], \"samples\": []}".to_owned(), "has 8x8 patches, the model 4x4"),
        (rows("[[1, 2, 3]  , [1, 2, 3, 4]]"), "row 0 has 3 tokens instead of 4"),
        (rows("[[1, 2, 3, 4, 5]]"), "row 0 has 5 tokens"),
        (rows("[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,0],[0]]"), "has 5 rows"),
        (rows("[[1, 2, 3, 64]]"), "there is no token 64"),
        (rows("[[1, 2, 3, -1]]"), "is no token file"),
        (rows("[[1, 2, 3, 4294967296]]"), "is no token file"),
        (rows("[[1, 2, 3, NaN]]"), "is no token file"),
        (rows("[1, 2, 3, 4]"), "is no token file"),
    ];
    for (content, says) in &cases {
        fs::write(&file, content).expect("a file");
        go("tokens", ["--decode", text(&file), "-o", text(&out)]).code(1).says(&["t.json", says]);
        assert!(!out.exists());
    }
    // A part of an image is drawn, the rest is grey.
    fs::write(&file, rows("[[1, 2, 3, 4], [5]]")).expect("a file");
    go("tokens", ["--decode", text(&file), "-o", text(&out)]).code(0);
    let picture = image::open(&out).expect("an image").to_rgb8();
    assert_eq!(picture.get_pixel(7, 7).0, [128; 3]);
    assert!(picture.pixels().any(|p| p.0 != [128; 3]));
}

#[test]
fn previews_only_where_they_are_wanted() {
    let folder = scratch();
    let out = text(&folder.path().join("a.png")).to_owned();
    let arguments = ["--class", "0", "--seed", "1", "-o", &out, "--preview"];
    let shown = |when: &str, variables: &[(&str, &str)]| {
        let mut command = vit_gpu(["generate", "--device", "reference", "-m", MODEL]);
        command.args(arguments).arg(when).envs(variables.iter().copied());
        for name in ["TMUX", "STY", "KITTY_WINDOW_ID", "TERM_PROGRAM"] {
            if !variables.iter().any(|(n, _)| *n == name) {
                command.env_remove(name);
            }
        }
        run(&mut command).code(0)
    };
    assert!(!shown("auto", &[("TERM", "xterm-kitty")]).err.contains('\u{1b}'), "no terminal");
    assert!(shown("always", &[("TERM", "xterm")]).err.contains("\u{1b}_Ga=T,f=100"));
    let iterm = shown("always", &[("TERM", "xterm"), ("TERM_PROGRAM", "iTerm.app")]);
    assert!(iterm.err.contains("\u{1b}]1337;File=inline=1"));
    assert!(!iterm.out.contains('\u{1b}'));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_half_written() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let folder = scratch();
    let at = |name: &str| text(&folder.path().join(name)).to_owned();
    let mut command = vit_gpu(["generate", "--device", "reference", "-m", MODEL, "-q", "-n", "40000"]);
    command.args([
        "-o",
        &at("a.png"),
        "--animate",
        &at("b.gif"),
        "--every",
        "16",
        "--tokens",
        &at("c.json"),
        "--frames-dir",
        &at("d/"),
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let start = Instant::now();
    while names(folder.path()).len() < 4 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let meanwhile = names(folder.path());
    assert!(meanwhile.iter().all(|n| n.ends_with(".tmp") || n == "d"), "drafts: {meanwhile:?}");
    let (code, took) = crate::conduct::interrupt(child);
    assert_eq!(code, Some(130));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_picture_knows_the_weights_it_was_drawn_with() {
    let place = scratch();
    let model = place.path().join("org/name");
    fs::create_dir_all(&model).expect("made");
    for file in ["config.json", "gpt.safetensors", "vq.safetensors"] {
        fs::copy(format!("assets/builtin-shapes-gpt/{file}"), model.join(file)).expect(file);
    }
    let generate = |folder: &Path, arguments: &[&str]| {
        let mut command = vit_gpu(["generate", "--device", "reference"]);
        command.args(arguments).current_dir(folder).env("HF_ENDPOINT", "http://127.0.0.1:1");
        run(&mut command)
    };
    let here = place.path();
    generate(here, &["-m", "org/name", "--class", "star", "-n", "1", "-o", "a.png"]).code(0);
    let same = generate(here, &["--reproduce", "a.png", "-o", "b.png"]).code(0);
    assert!(!same.err.contains("the weights of"), "{same:#?}");
    assert_eq!(fs::read(here.join("a.png")).expect("a file"), fs::read(here.join("b.png")).expect("a file"));

    // Elsewhere the folder is not there, and no hub is asked for a model of that name.
    let elsewhere = scratch();
    let picture = here.join("a.png").display().to_string();
    generate(elsewhere.path(), &["--reproduce", &picture, "-o", "c.png"]).code(3).says(&[
        "./org/name",
        "no such file or folder",
        "a.png names it",
        "pass -m",
    ]);

    let weights = model.join("gpt.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("written");
    generate(here, &["--reproduce", "a.png", "-o", "d.png"])
        .code(0)
        .says(&["warning: the weights of", "are not those that a.png was drawn with"]);
}
