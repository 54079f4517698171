//! What counts as an input: rows I23 to I25, lists, globs, order, standard input.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Ran, go, infer, infer_command, run, sample, scratch};

fn put(path: impl AsRef<Path>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::copy(sample("star"), path).expect("a copy");
}

/// The inputs of a run, by the end of their names.
fn answered(ran: &Ran) -> Vec<String> {
    let name =
        |v: &serde_json::Value| v["input"].as_str().and_then(|n| n.rsplit('/').next()).map(str::to_owned);
    ran.json_lines().iter().filter_map(name).collect()
}

fn piped(arguments: &[&str], bytes: &[u8]) -> Ran {
    let mut command = infer_command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that has had enough closes the pipe.
    let chunk = 1 << 20;
    for part in bytes.chunks(chunk) {
        if stdin.write_all(part).is_err() {
            break;
        }
    }
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn natural_order_and_recursion() {
    let folder = scratch();
    let root = folder.path();
    for name in ["img10.png", "img9.PNG", "img1.png", "b/x2.png", "b/x10.png", ".hidden.png", "b/.git/y.png"]
    {
        put(root.join(name));
    }
    fs::write(root.join("notes.txt"), "not an image, not offered").expect("a file");
    let path = root.to_str().expect("text");
    assert_eq!(answered(&infer([path, "--format", "jsonl"]).code(0)), ["img1.png", "img9.PNG", "img10.png"]);
    let all = infer([path, "-r", "--format", "jsonl", "-b", "2"]).code(0);
    assert_eq!(answered(&all), ["img1.png", "img9.PNG", "img10.png", "x2.png", "x10.png"]);
}

#[test]
fn globs_are_expanded_here() {
    let folder = scratch();
    let root = folder.path();
    for name in ["a2.png", "a10.png", "b.png", "c/a3.png", "[x].png"] {
        put(root.join(name));
    }
    let glob = |pattern: &str| infer([root.join(pattern).to_str().expect("text"), "--format", "jsonl"]);
    assert_eq!(answered(&glob("a*.png").code(0)), ["a2.png", "a10.png"]);
    assert_eq!(answered(&glob("**/a?.png").code(0)), ["a2.png", "a3.png"]);
    assert_eq!(answered(&glob("[x].png").code(0)), ["[x].png"], "a file of that very name comes first");
    glob("z*.png").code(1).says(&["no file matches"]);
    glob("a[.png").code(1).says(&["a[.png"]);
}

#[test]
fn lists_name_files() {
    let folder = scratch();
    let root = folder.path();
    put(root.join("one two.png"));
    put(root.join("dir/three.png"));
    let line = |name: &str| root.join(name).to_str().expect("text").to_owned();
    let list = root.join("list.txt");
    let at = format!("@{}", list.display());
    fs::write(&list, format!("{}\r\n\n{}\n{}\n", line("one two.png"), line("gone.png"), line("dir")))
        .expect("a file");
    let ran = infer([at.as_str(), "--format", "jsonl"]).code(1);
    assert_eq!(answered(&ran), ["one two.png", "gone.png", "three.png"]);
    fs::write(&list, format!("{}\0{}", line("one two.png"), line("dir/three.png"))).expect("a file");
    assert_eq!(answered(&infer([at.as_str(), "--format", "jsonl"]).code(0)), ["one two.png", "three.png"]);
    let ran = piped(&["@-", "--format", "jsonl"], line("one two.png").as_bytes()).code(0);
    assert_eq!(answered(&ran), ["one two.png"]);

    fs::write(&list, "\n").expect("a file");
    infer([at.as_str()]).code(1).says(&["the list is empty"]);
    infer(["@no-such-list"]).code(1).says(&["@no-such-list", "the list cannot be read"]);
}

#[test]
fn standard_input() {
    let bytes = fs::read(sample("star")).expect("a sample");
    let json = piped(&["-", "--format", "json"], &bytes).code(0).json();
    assert_eq!(json["results"][0]["input"], "-");
    assert_eq!(json["results"][0]["predictions"][0]["label"], "star");
    piped(&["-"], b"").code(1).says(&["error: -: empty file"]);
    piped(&["-"], b"hello").code(1).says(&["not an image"]);
    piped(&["-", "-"], &bytes).code(2).says(&["standard input is named twice"]);
}

#[test]
fn standard_input_is_capped() {
    let start = Instant::now();
    let mut bytes = fs::read(sample("star")).expect("a sample");
    bytes.resize(300 << 20, 0);
    piped(&["-"], &bytes).code(1).says(&["more than 268435456 bytes"]);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[cfg(target_os = "linux")]
#[test]
fn standard_input_is_a_terminal() {
    let program = env!("CARGO_BIN_EXE_vit-gpu");
    // Where there are no pseudo-terminals (a bare root directory) `script` itself fails.
    let works = Command::new("script").args(["-qec", "exit 42", "/dev/null"]).stdin(Stdio::null()).output();
    if !works.is_ok_and(|output| output.status.code() == Some(42)) {
        return eprintln!("SKIP: no `script` that makes a terminal");
    }
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{program} infer -"), "/dev/null"]).stdin(Stdio::null());
    let output = script.output().expect("`script` ran a moment ago");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("which is a terminal") && text.contains("hint: pipe an image in"), "{text}");
}

#[test]
fn nothing_to_do() {
    infer::<&str>([]).code(2).says(&["no input", "hint: "]);
    let folder = scratch();
    let path = folder.path().to_str().expect("text");
    infer([path]).code(1).says(&[path, "no images in this directory (looked for .png", "-r"]);
    let json = infer([path, "assets/samples/star.png", "--format", "json"]).code(1).json();
    assert!(json["results"][0]["error"].as_str().is_some_and(|e| e.starts_with("no images")), "{json}");
    assert_eq!(json["results"][1]["predictions"][0]["label"], "star");
}

#[cfg(unix)]
#[test]
fn odd_things_in_a_directory_are_skipped_and_said() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let folder = scratch();
    let root = folder.path();
    put(root.join("good.png"));
    put(root.join("deep/good.png"));
    put(root.join("secret.png"));
    fs::set_permissions(root.join("secret.png"), fs::Permissions::from_mode(0o000)).expect("permissions");
    symlink("nowhere.png", root.join("dangling.png")).expect("a link");
    symlink("itself.png", root.join("itself.png")).expect("a link");
    symlink("..", root.join("deep/loop")).expect("a link");
    symlink("good.png", root.join("linked.png")).expect("a link");
    let made = Command::new("mkfifo").arg(root.join("pipe.png")).status().expect("mkfifo");
    assert!(made.success());

    let start = Instant::now();
    let ran = infer([root.to_str().expect("text"), "-r", "--format", "jsonl"]);
    assert!(start.elapsed() < Duration::from_secs(10), "a FIFO must not be waited for");
    assert_eq!(answered(&ran), ["good.png", "linked.png", "secret.png", "good.png"]);
    let errors = ran.json_lines().iter().filter(|r| r.get("error").is_some()).count();
    // Whoever may read everything (root) reads the secret one.
    assert_eq!(ran.code, i32::from(errors > 0));
    assert!(errors <= 1 && (errors == 0 || ran.err.contains("secret.png: cannot be read")));
    let ran = ran.says(&[
        "pipe.png: it is not a regular file",
        "dangling.png: ",
        "itself.png: ",
        "deep/loop: it was visited",
    ]);
    assert_eq!(ran.err.matches("warning: skipped").count(), 4, "{ran:#?}");

    // Named on its own, it is an input that fails, and still nothing waits.
    infer([root.join("pipe.png").to_str().expect("text")]).code(1).says(&["not a regular file"]);
    infer([root.join("dangling.png").to_str().expect("text")]).code(1).says(&["cannot be read"]);
}

#[cfg(target_os = "linux")]
#[test]
fn odd_names_work() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let folder = scratch();
    let names: [&[u8]; 4] = [b"not \xff utf8.png", b"new\nline.png", b"-x.png", b"=1+1.png"];
    for name in names {
        put(folder.path().join(OsStr::from_bytes(name)));
    }
    let rows = infer([folder.path().as_os_str(), OsStr::new("--format"), OsStr::new("jsonl")]).code(0);
    assert_eq!(answered(&rows), ["-x.png", "=1+1.png", "new\nline.png", "not \u{fffd} utf8.png"]);
    for name in names {
        infer([OsStr::new("--"), folder.path().join(OsStr::from_bytes(name)).as_os_str()]).code(0);
    }
    // A name that looks like a flag, from within its folder.
    let program = |arguments: [&str; 2]| run(infer_command(arguments).current_dir(folder.path()));
    program(["--", "-x.png"]).code(0);
    program(["-x.png", "-q"]).code(2);
    let text = infer([folder.path().as_os_str(), OsStr::new("-k1")]).code(0).out;
    assert!(text.contains("new\\nline.png\n"), "a name cannot fake a line: {text}");
    let csv = infer([folder.path().as_os_str(), OsStr::new("-k1"), OsStr::new("--format=csv")]).code(0).out;
    assert!(csv.contains("/new\nline.png\",1,10,star,"), "{csv}");
}

#[test]
fn image_flags_reach_the_decoder() {
    let rows =
        |arguments: &[&str]| infer(arguments.iter().chain(&["--format", "jsonl", "--logits"])).json_lines();
    let logits = |arguments: &[&str]| rows(arguments)[0]["logits"].clone();
    let error = |arguments: &[&str]| rows(arguments)[0]["error"].as_str().unwrap_or_default().to_owned();
    assert_ne!(logits(&["tests/images/exif_6.png"]), logits(&["tests/images/exif_6.png", "--no-exif"]));
    assert_eq!(logits(&["tests/images/exif_1.png"]), logits(&["tests/images/exif_1.png", "--no-exif"]));
    assert!(error(&["tests/images/bad_truncated.jpg"]).contains("truncated"));
    assert!(logits(&["tests/images/bad_truncated.jpg", "--allow-truncated"]).is_array());
    assert!(
        error(&["assets/samples/star.png", "--max-pixels", "1000"])
            .contains("more than the limit of 1000 pixels")
    );
    let transparent = "tests/images/rgba.png";
    if Path::new(transparent).exists() {
        assert_ne!(logits(&[transparent]), logits(&[transparent, "--background", "ff00ff"]));
    }
    for wrong in [["--max-pixels", "0"], ["--background", "red"], ["--image-size", "0"], ["-b", "0"]] {
        infer(["assets/samples/star.png"].iter().chain(&wrong)).code(2).says(&[wrong[0]]);
    }
}

#[test]
fn the_first_failure_ends_it_if_asked() {
    let arguments =
        ["infer", "--device", "reference", "nope.png", "assets/samples/star.png", "--format", "jsonl"];
    assert_eq!(answered(&go(arguments).code(1)).len(), 2);
    assert_eq!(answered(&go(arguments.iter().chain(&["--fail-fast"])).code(1)), ["nope.png"]);
}

#[test]
fn addresses_are_not_fetched() {
    let folder = scratch();
    let list = folder.path().join("list.txt");
    fs::write(&list, "https://example.com/b.png?x=1\n").expect("written");
    let list = format!("@{}", list.display());
    let addresses = ["https://example.com/a.png?size=[1]", "s3://bucket/c.png", &list];
    let ran = infer(addresses.iter().chain(&["assets/samples/star.png"])).code(1);
    for address in
        ["https://example.com/a.png?size=[1]", "s3://bucket/c.png", "https://example.com/b.png?x=1"]
    {
        assert!(ran.err.contains(address), "{ran:#?}");
    }
    assert_eq!(ran.err.matches("addresses are not fetched").count(), 3, "{ran:#?}");
    assert!(ran.out.contains("star"), "{ran:#?}");
}
