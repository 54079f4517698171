//! `search`: an index of images and what is nearest in it, on the reference.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vit_gpu::search::{Hit, Image, Maker, Product, Update};
use vit_gpu::synthetic::shapes::{LABELS, picture_of};

use crate::common;
use crate::harness::{Ran, go, names, run, scratch, vit_gpu};

const SIDE: usize = 48;

/// Writes a picture of a kind of shape.
fn draw(path: impl AsRef<Path>, kind: &str, number: u64) {
    let label = LABELS.iter().position(|label| *label == kind).expect("a kind");
    let picture = picture_of(77, number, label, SIDE);
    let side = SIDE as u32;
    image::save_buffer(path, &picture.pixels, side, side, image::ColorType::Rgb8).expect("a file");
}

/// A folder of pictures of four kinds, three of each, as `heart0.png`.
fn pictures(folder: &Path) -> PathBuf {
    let pictures = folder.join("pictures");
    fs::create_dir(&pictures).expect("a folder");
    for kind in ["heart", "star", "ring", "cross"] {
        (0..3).for_each(|i| draw(pictures.join(format!("{kind}{i}.png")), kind, i));
    }
    pictures
}

/// Runs `search` on the reference; words stand before these arguments.
fn search(arguments: &[&str]) -> Ran {
    run(vit_gpu(["search", "--device", "reference", "-m", "builtin:shapes"]).args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Names of the files that were found, in order.
fn found(ran: &Ran) -> Vec<String> {
    let name = |row: &Value| row["path"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    ran.json_lines().iter().filter_map(name).collect()
}

#[test]
fn the_nearest_image_is_itself_and_those_of_its_kind() {
    let folder = scratch();
    let pictures = pictures(folder.path());
    let (index, sheet) = (folder.path().join("index"), folder.path().join("sheet.png"));
    let common = [text(&pictures), "--index", text(&index), "--format", "jsonl", "-n", "3"];
    let mut agree = 0;
    for kind in ["heart", "star", "ring", "cross"] {
        let image = pictures.join(format!("{kind}1.png"));
        let ran = search(&[&["--image", text(&image)], &common[..]].concat()).code(0);
        let names = found(&ran);
        assert_eq!(names[0], format!("{kind}1.png"));
        assert!((ran.json_lines()[0]["score"].as_f64().expect("a score") - 1.0).abs() < 1e-4);
        agree += names.iter().filter(|name| name.starts_with(kind)).count();
    }
    assert!(agree >= 10, "{agree} of 12 are of the kind that was looked for");

    // Other forms say the same; without images the index is searched by the model that made it.
    let star = pictures.join("star1.png");
    let command =
        ["search", "--device", "reference", "--image", text(&star), "--index", text(&index), "-n", "4"];
    let by = |more: &[&str]| run(vit_gpu(command).args(more)).code(0);
    let lines = by(&["--format", "jsonl"]);
    assert_eq!(lines.err, "", "nothing was to be done");
    let json = by(&["--format", "json", "--sheet", text(&sheet)]).json();
    assert_eq!(json["results"].as_array().expect("results"), &lines.json_lines());
    assert_eq!((&json["model"]["id"], &json["results"][3]["rank"]), (&"builtin:shapes".into(), &4.into()));
    let csv = by(&["--format", "csv"]).out;
    assert_eq!(csv.lines().next(), Some("query,rank,score,path"));
    assert_eq!(csv.lines().count(), 5);
    let plain = by(&[]).out;
    assert!(plain.lines().count() == 4 && plain.starts_with("  1.000  "), "{plain}");
    let sheet = image::open(&sheet).expect("an image");
    assert!(sheet.width() > 300 && sheet.height() > 300, "two beside each other, twice");
    let high = by(&["--format", "jsonl", "--min-score", "0.9999"]);
    assert_eq!(found(&high), ["star1.png"]);

    // Programs read the index without us.
    let bytes = fs::read(index.join("embeddings.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let rows = tensors.tensor("embeddings").expect("the tensor");
    assert_eq!((rows.shape()[0], names(&index).len()), (12, 2));
    let lines = fs::read_to_string(index.join("images.jsonl")).expect("a file");
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert!(first["path"].as_str().expect("a path").ends_with("cross0.png") && first["sha256"].is_string());
}

#[test]
fn only_what_is_new_is_embedded() {
    let folder = scratch();
    let pictures = pictures(folder.path());
    let index = folder.path().join("index");
    let update =
        |more: &[&str]| search(&[&["--index-only", text(&pictures), "--index", text(&index)], more].concat());
    update(&[]).code(0).says(&["the index has 12 images: 12 added"]);
    let read =
        || ["embeddings.safetensors", "images.jsonl"].map(|name| fs::read(index.join(name)).expect("a file"));
    let before = read();
    update(&["-v"]).code(0).says(&["nothing changed"]);
    assert!(before == read());

    draw(pictures.join("new.png"), "bolt", 5);
    draw(pictures.join("star0.png"), "crescent", 6);
    fs::rename(pictures.join("ring0.png"), pictures.join("moved.png")).expect("a rename");
    fs::remove_file(pictures.join("cross2.png")).expect("removed");
    fs::write(pictures.join("broken.png"), "no image").expect("a file");
    let ran = update(&[]).code(1);
    assert_eq!(ran.err.matches("broken.png").count(), 1, "{}", ran.err);
    ran.says(&["the index has 12 images: 1 added, 1 changed, 1 moved, 1 gone", "broken.png: not an image"]);
    let same = update(&["--rebuild"]).code(1);
    same.says(&["the index has 12 images: 12 added"]);

    // A folder that is not there is no reason to forget its images.
    fs::rename(&pictures, folder.path().join("away")).expect("a rename");
    let kept = read();
    update(&[]).code(1).says(&["pictures"]);
    assert!(kept == read());
    let image = folder.path().join("away/star1.png");
    let ran = search(&["--image", text(&image), "--index", text(&index), "-n", "2"]).code(0);
    ran.says(&["2 of the images found are not there any more"]);
}

#[test]
fn a_subfolder_is_searched_alone_and_the_cache_holds_the_rest() {
    let folder = scratch();
    let pictures = pictures(folder.path());
    fs::create_dir(pictures.join("more")).expect("a folder");
    draw(pictures.join("more/star7.png"), "star", 7);
    let index = folder.path().join("index");
    let image = pictures.join("star1.png");
    let whole = ["--image", text(&image), text(&pictures), "-r", "--format", "jsonl", "-n", "99"];
    assert_eq!(found(&search(&[&whole[..], &["--index", text(&index)]].concat()).code(0)).len(), 13);
    let more = pictures.join("more");
    let part = ["--image", text(&image), text(&more), "--index", text(&index), "--format", "jsonl", "-q"];
    assert_eq!(found(&search(&part).code(0)), ["star7.png"]);
    // Without --index: one in the cache, found again.
    let cache = folder.path().join("cache");
    let cached = || {
        let mut command = vit_gpu(["search", "--device", "reference", "-m", "builtin:shapes"]);
        run(command.args(whole).env("XDG_CACHE_HOME", &cache)).code(0)
    };
    let (first, second) = (cached(), cached());
    assert_eq!((first.out.lines().count(), &first.out), (13, &second.out));
    first.says(&["13 added"]);
    assert_eq!(second.err, "");
    assert_eq!(names(&cache.join("vit-gpu/search")).len(), 1);
}

#[test]
fn what_cannot_be_is_said_in_one_message() {
    let folder = scratch();
    let pictures = pictures(folder.path());
    let (index, empty) = (folder.path().join("index"), folder.path().join("empty"));
    fs::create_dir(&empty).expect("a folder");
    search(&["--index-only", text(&pictures), "--index", text(&index), "-q"]).code(0);
    let image = pictures.join("star1.png");
    let (image, pictures, index) = (text(&image), text(&pictures), text(&index));
    let by = ["--image", image, "--index", index];
    let one = |ran: Ran, code: i32, what: &str| {
        let ran = ran.code(code).says(&[what]);
        assert_eq!(ran.err.matches("error:").count(), 1, "{ran:#?}");
        assert_eq!(ran.out, "", "{ran:#?}");
    };
    one(go(["search"]), 2, "there is nothing to look for");
    one(go(["search", "a star"]), 2, "there are no images to search in");
    one(go(["search", " ", pictures]), 2, "the words are empty");
    one(go(["search", pictures, "--index", index]), 2, "a place to search in");
    one(go(["search", "--index-only"]), 2, "no images to make an index of");
    one(go(["search", "a star", "-"]), 2, "not of standard input");
    one(search(&[&by[..], &["--rebuild"]].concat()), 2, "--rebuild needs the images");
    one(search(&["a star", pictures, "--index", index]), 2, "builtin:shapes knows no words");
    one(search(&["--image", image, "--index", "no/such"]), 1, "there is no index");
    one(search(&["--image", image, "--index", text(&empty)]), 1, "there is no index in this folder");
    one(search(&["--image", image, pictures, "--index", pictures]), 2, "and is no index");
    one(search(&["--image", "nope.png", pictures, "--index", index]), 1, "nope.png: cannot be read");
    one(search(&[&by[..], &["-n", "2000", "--sheet", "x.png"]].concat()), 2, "on one sheet");
    one(search(&[&by[..], &["--sheet", "x.jpg"]].concat()), 2, "the name says otherwise");
    let cross = folder.path().join("cross.png");
    draw(&cross, "bolt", 9);
    let none = ["--image", text(&cross), "--index", index, "--min-score", "0.9999"];
    one(search(&none), 1, "nothing scores as much: the best is");
    let other = run(vit_gpu(["search", "--device", "reference", "-m", "tests/golden/vit"]).args(by));
    one(other, 3, "was made by builtin:shapes, and this is");
    let other = ["search", "--device", "reference", "-m", "tests/golden/vit", "--index-only", pictures];
    one(run(vit_gpu(other).args(["--index", index])), 3, "the weights differ");
    let gone = search(&["--index-only", text(&empty), "--index", text(&folder.path().join("none"))]).code(1);
    gone.says(&["no images in this directory", "no image would be in the index"]);
    assert!(!folder.path().join("none").exists(), "nothing is left behind");

    // Another model's index in its place, then a damaged one.
    let rebuilt = run(vit_gpu(other).args(["--index", index, "--rebuild"])).code(0);
    rebuilt.says(&["12 added"]);
    let file = Path::new(index).join("embeddings.safetensors");
    let bytes = fs::read(&file).expect("a file");
    fs::write(&file, &bytes[..bytes.len() - 4]).expect("a file");
    one(search(&by), 1, "the index is damaged");
    one(search(&["--index-only", pictures, "--index", index]), 1, "the index is damaged");
    search(&["--index-only", pictures, "--index", index, "--rebuild"]).code(0).says(&["12 added"]);
    search(&by).code(0);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_keeps_what_is_done() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let folder = scratch();
    let pictures = pictures(folder.path());
    let index = folder.path().join("index");
    let update = ["--index-only", text(&pictures), "--index", text(&index), "-b", "1"];
    search(&update).code(0);
    let before = fs::read(index.join("embeddings.safetensors")).expect("a file");
    (0..240).for_each(|i| draw(pictures.join(format!("more{i}.png")), "drop", i));
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let parts = || {
            let whole = |e: &fs::DirEntry| !e.file_name().to_string_lossy().starts_with('.');
            fs::read_dir(index.join("parts")).map_or(0, |parts| parts.flatten().filter(whole).count())
        };
        let had = parts();
        let program = vit_gpu(["search", "--device", "reference", "-m", "builtin:shapes"]);
        // A job that a shell starts in the background inherits that SIGINT is ignored.
        let mut started = std::process::Command::new("env");
        started
            .args(["--default-signal=INT"])
            .arg(program.get_program())
            .args(program.get_args())
            .args(update);
        started.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = started.spawn().expect("the program starts");
        let wait = Instant::now();
        while parts() == had && wait.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_raw(child.id() as i32).expect("a number"), signal).expect("it runs");
        let ended = child.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), code, "{err}");
        assert!(code.is_none() || err.contains("what was embedded is kept"), "{err}");
        assert!(parts() > had, "{err}");
        assert_eq!(fs::read(index.join("embeddings.safetensors")).expect("a file"), before);
        let star = pictures.join("star1.png");
        let ran = search(&["--image", text(&star), "--index", text(&index), "--format", "jsonl"]).code(0);
        assert_eq!(found(&ran)[0], "star1.png", "the old index is whole");
    }
    let ran = search(&update).code(0).says(&["the index has 252 images", "of an interrupted run"]);
    assert!(!ran.err.contains("240 added"), "{}", ran.err);
    assert_eq!(names(&index), ["embeddings.safetensors", "images.jsonl"]);
    assert_eq!(names(folder.path()), ["index", "pictures"], "no draft is left");
}

/// Rows of several blocks, of which the last is short, and two queries.
#[test]
fn an_adapter_finds_what_the_reference_finds() {
    let Some(gpu) = common::gpu() else { return };
    let folder = scratch();
    const WIDTH: usize = 8192;
    let row = |seed: usize| -> Vec<f32> {
        (0..WIDTH)
            .map(|i| (((seed * 31 + i) * 7919 % 1009) as f32 / 504.0 - 1.0) * (1 + i % 3) as f32)
            .collect()
    };
    let text = String::new;
    let maker = Maker { model: text(), weights: text(), output: text(), preprocessing: text() };
    let mut update = Update::begin(&folder.path().join("index"), maker, false).expect("an index");
    for i in 0..1100 {
        let (path, sha256) = (format!("/{i:04}"), format!("{i}"));
        update.add(Image { path, bytes: 1, modified_us: 0, sha256 }, row(i)).expect("a row");
    }
    let (index, _) = update.finish().expect("an index");
    let queries = [1090, 3].map(|i| index.rows(i..i + 1).expect("a row"));
    let best = |gpu| Product::new(gpu).best(&queries, &index, 5, &|row| row != 4).expect("hits");
    for (got, want) in best(Some(&gpu)).iter().zip(&best(None)) {
        let rows = |hits: &[Hit]| hits.iter().map(|hit| hit.row).collect::<Vec<_>>();
        assert_eq!(rows(got), rows(want));
        assert!(got.iter().zip(want).all(|(a, b)| (a.score - b.score).abs() < 1e-5), "{got:?} {want:?}");
    }
    // Rows repeat after 1009: equal scores in two blocks, of which the first row wins.
    let first = best(None).iter().map(|hits| [hits[0].row, hits[1].row]).collect::<Vec<_>>();
    assert_eq!(first, [[81, 1090], [3, 1012]]);
}
