//! Every command that README.md, CONTRIBUTING.md, docs/*.md (in blocks of ```sh) and the examples of `--help`
//! print is run as printed, by a shell, on the reference, in a folder that holds small models and files under
//! the names that are printed. What cannot run here is in `NOT_RUN` with the reason, and is at least understood.
//! Blocks of ```console show outputs too, and are compared by `tests/cli/documents.rs`. Functions and files that are
//! named exist.
#![cfg(all(unix, feature = "cli"))]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// How a command that is not run is looked at all the same.
#[derive(Clone, Copy, PartialEq)]
enum Check {
    /// It runs to where it wants its model, and a hub that cannot be reached.
    UntilTheModel,
    /// It runs to where it wants its adapter, which is not there.
    UntilTheAdapter,
    /// Its program, script or make target exists.
    Exists,
}
use Check::{Exists, UntilTheAdapter, UntilTheModel};

/// What marks a command that is not run, why it is not, and what is checked.
const NOT_RUN: &[(&str, &str, Check)] = &[
    ("cargo ", "builds, inside of a build", Exists),
    ("make ", "builds, installs or takes minutes", Exists),
    ("benches/", "takes minutes on a GPU", Exists),
    ("tools/peft/", "needs PEFT", Exists),
    ("-m google/", "needs a network", UntilTheModel),
    ("-m openai/", "needs a network", UntilTheModel),
    ("vit-gpu profile", "measures an adapter: tests/cli/profile.rs", UntilTheAdapter),
    ("vit-gpu bench", "measures an adapter: tests/cli/bench.rs", UntilTheAdapter),
    ("vit-gpu tune -m", "measures an adapter: tests/cli/tune.rs", UntilTheAdapter),
    ("vit-gpu doctor", "checks an adapter: tests/cli/devices.rs", UntilTheAdapter),
    ("vit-gpu devices", "finds none on some machines: tests/cli/devices.rs", UntilTheAdapter),
    ("--class 207", "the small models have no thousand classes", UntilTheModel),
    ("--num-steps 88", "the small models have no 88 patches", UntilTheModel),
    ("-n 96", "takes minutes on the reference: tests/shapes_gpt.rs", UntilTheAdapter),
    ("--animate", "takes minutes on the reference: tests/cli/generate.rs", UntilTheAdapter),
];

/// Models under the names that are printed.
const MODELS: &[(&str, &str)] = &[
    ("my-vit", "tests/golden/vit"),
    ("vit", "tests/golden/vit"),
    ("my-lora", "tests/golden/lora_vit"),
    ("ADAPTER", "tests/golden/lora_vit"),
    ("dinov2", "tests/golden/dinov2"),
    ("vit-mae", "tests/golden/vit_mae"),
    ("clip", "tests/golden/clip"),
    ("imagegpt", "tests/golden/imagegpt"),
    ("llamagen-b", "tests/golden/llamagen"),
    ("randar", "tests/golden/randar"),
    ("bert", "tests/toys/bert-toy"),
    ("bert-mnli", "tests/toys/bert-toy-mnli"),
    ("bert-squad", "tests/toys/bert-toy-squad"),
    ("minilm", "tests/toys/bert-toy"),
    ("gpt2", "tests/toys/gpt2-toy"),
    ("t5", "tests/toys/t5-toy"),
];

/// What may stand for `FOLDER`, where help means a model of any kind that does what is asked.
const FOLDERS: &[&str] = &["bert", "gpt2", "t5", "my-vit", "llamagen-b", "bert-mnli", "bert-squad"];

/// Small files under the names that are printed.
const TEXTS: &[(&str, &str)] = &[
    ("story.txt", "Anna put the red ball in the box. Ben went to the park."),
    ("pairs.tsv", "text\tpair\nAnna put the red ball in the box.\tThe red ball is in the box.\n"),
    (
        "claims.tsv",
        "text\tpair\tlabel\nAnna has a hat.\tBen has a hat.\tno\nBen has a hat.\tBen has it.\tyes\nAnna is here.\tBen is here.\tno\nAnna has a ball.\tShe has it.\tyes\n",
    ),
    (
        "questions.jsonl",
        "{\"question\": \"Who has a hat?\", \"context\": \"Anna has a hat.\", \"answer\": \"Anna\"}\n{\"question\": \"Who is here?\", \"context\": \"Ben is here.\", \"answers\": {\"text\": [\"Ben\"], \"answer_start\": [0]}}\n",
    ),
    (
        "tags.jsonl",
        "{\"tokens\": [\"Anna\", \"ran\"], \"tags\": [\"B-PER\", \"O\"]}\n{\"tokens\": [\"Ben\", \"ran\"], \"tags\": [\"B-PER\", \"O\"]}\n",
    ),
    ("orders.tsv", "source\ttarget\nAnna has a hat.\that\nBen has a ball.\tball\n"),
    ("ratings.tsv", "text\tlabel\nAnna likes it.\t4.5\nBen does not.\t1\n"),
    (
        "captions.jsonl",
        "{\"image\": \"photos/star.png\", \"caption\": \"a star\"}\n{\"image\": \"photos/circle.png\", \"caption\": \"a circle\"}\n{\"image\": \"photos/heart.png\", \"caption\": \"a heart\"}\n{\"image\": \"photos/drop.png\", \"caption\": \"a drop\"}\n",
    ),
    ("sentences.jsonl", "{\"text\": \"Anna is in the park.\"}\n{\"text\": \"Ben has a hat.\"}\n"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// A folder in which the printed commands find what they name.
fn desk() -> TempDir {
    let desk = tempfile::tempdir().unwrap();
    let at = |name: &str| desk.path().join(name);
    for (name, from) in MODELS {
        copy(&root().join(from), &at(name));
    }
    for name in ["llamagen-b", "randar"] {
        let path = at(name).join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["id2label"] = serde_json::json!({"0": "golden retriever", "1": "goldfish"});
        fs::write(&path, config.to_string()).unwrap();
    }
    for (name, text) in TEXTS {
        fs::write(at(name), text).unwrap();
    }
    for name in ["photo.jpg", "cat.jpg", "dog.jpg"] {
        fs::copy(root().join("tests/images/photo_444.jpg"), at(name)).unwrap();
    }
    for name in ["golden.safetensors", "recorded.safetensors"] {
        fs::copy(at("my-vit/golden.safetensors"), at(name)).unwrap();
    }
    for (class, shape) in [("daisy", "circle"), ("daisy", "drop"), ("tulip", "star"), ("tulip", "heart")] {
        fs::create_dir_all(at("flowers").join(class)).unwrap();
        let sample = root().join(format!("assets/samples/{shape}.png"));
        fs::copy(sample, at("flowers").join(class).join(format!("{shape}.png"))).unwrap();
    }
    copy(&root().join("assets/samples"), &at("photos"));
    for folder in ["assets/samples", "tests/golden/vit", "tests/golden/lora_vit"] {
        copy(&root().join(folder), &at(folder));
    }
    fs::create_dir(at("docs")).unwrap();
    desk
}

/// Commands in blocks of ```sh: lines that end in a backslash go on, comments are the shell's business.
fn printed(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in document.split("```sh\n").skip(1) {
        let block = block.split("\n```").next().unwrap().replace("\\\n", " ");
        let lines = block.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        found.extend(lines.map(str::to_owned));
    }
    found
}

/// Commands of the paragraph that begins with `Examples:`.
fn examples(help: &str) -> Vec<String> {
    let Some((_, examples)) = help.split_once("Examples:\n") else { return vec![] };
    let paragraph = examples.split("\n\n").next().unwrap().replace("\\\n", " ");
    paragraph.lines().map(str::trim).filter(|l| l.starts_with("vit-gpu ")).map(str::to_owned).collect()
}

/// Runs a command line as a user's shell would.
fn shell(line: &str, desk: &Path, device: &str) -> Output {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_vit-gpu"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        if ["VIT_GPU_", "WGPU_", "HF_"].iter().any(|s| name.to_string_lossy().starts_with(s)) {
            command.env_remove(name);
        }
    }
    command.args(["-c", line]).current_dir(desk);
    command.env("PATH", format!("{}:{path}", program.parent().unwrap().display()));
    command.env("VIT_GPU_DEVICE", device).env("HF_HOME", desk.join("no-cache"));
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env("HF_HUB_OFFLINE", "1");
    command.output().unwrap()
}

/// What is wrong with a command that ended otherwise than it should have.
fn expect(line: &str, ran: &Output, codes: &[i32]) -> Result<(), String> {
    let code = ran.status.code().unwrap_or(-1);
    let said = String::from_utf8_lossy(&ran.stderr);
    if codes.contains(&code) && !said.contains("panicked") {
        return Ok(());
    }
    Err(format!("{line}\n    ends with {code}, not {codes:?}: {said}"))
}

/// The command with a model that only a hub has.
fn elsewhere(line: &str) -> String {
    let (before, after) = line.split_once("-m ").expect("it names a model");
    let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
    format!("{before}-m nobody/nothing {rest}")
}

/// The program, script or make target of a command that is not run.
fn exists(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().filter(|word| !word.contains('=')).collect();
    let there = match words[..] {
        ["make", target, ..] => {
            let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
            makefile.lines().any(|l| l.starts_with(&format!("{target}:")))
        }
        ["cargo", ..] => true,
        ["python3", script, ..] => root().join(script).exists(),
        [program, ..] if program.contains('/') => root().join(program).exists(),
        _ => false,
    };
    if there { Ok(()) } else { Err(format!("{line}\n    names what is not there")) }
}

/// Runs the commands of one place in order. Returns what is wrong, how many ran, and the entries of `NOT_RUN`
/// that were needed.
fn run_all(place: &str, commands: &[String], desk: &Path) -> (Vec<String>, usize, Vec<&'static str>) {
    let (mut wrong, mut ran, mut used) = (vec![], 0, vec![]);
    for line in commands {
        let bare = line.split(" #").next().unwrap();
        let outcome = match NOT_RUN.iter().find(|(mark, ..)| bare.contains(mark)) {
            Some(&(mark, _, check)) => {
                used.push(mark);
                match check {
                    Exists => exists(bare),
                    UntilTheModel => expect(line, &shell(&elsewhere(bare), desk, "reference"), &[7]),
                    UntilTheAdapter => {
                        let folder = if bare.contains("--generate") { "-m llamagen-b" } else { "-m my-vit" };
                        let bare = bare.replace("-m FOLDER", folder);
                        // A row of `bench` that could not be measured is 1.
                        let statuses = if bare.contains("bench") { &[0, 1, 4][..] } else { &[0, 4] };
                        expect(line, &shell(&bare, desk, "no such adapter"), statuses)
                    }
                }
            }
            None if bare.contains("-m FOLDER") => {
                ran += 1;
                let with = |folder: &&str| {
                    let line = bare.replace("-m FOLDER", &format!("-m ./{folder}"));
                    expect(&line, &shell(&line, desk, "reference"), &[0])
                };
                let tried: Vec<_> = FOLDERS.iter().map(with).take_while(Result::is_err).collect();
                if tried.len() < FOLDERS.len() { Ok(()) } else { tried.into_iter().next_back().unwrap() }
            }
            None => {
                ran += 1;
                expect(line, &shell(line, desk, "reference"), &[0])
            }
        };
        wrong.extend(outcome.err().map(|e| format!("{place}: {e}")));
    }
    (wrong, ran, used)
}

#[test]
fn every_printed_command_runs() {
    let desk = desk();
    let mut places: Vec<(String, Vec<String>)> = Vec::new();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path());
    // Its commands are compared with what they print, by tests/cli/documents.rs.
    let docs =
        docs.filter(|path| path.extension().is_some_and(|e| e == "md") && !path.ends_with("transformers.md"));
    for path in docs.chain(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name))) {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        places.push((name, printed(&fs::read_to_string(&path).unwrap())));
    }
    let help = |command: &str| {
        let shown = shell(&format!("vit-gpu {command} --help"), desk.path(), "reference");
        String::from_utf8(shown.stdout).unwrap()
    };
    let (_, listed) = help("").split_once("Commands:\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for command in listed.lines().take_while(|l| !l.is_empty()).filter_map(|l| l.split_whitespace().next()) {
        places.push((format!("{command} --help"), examples(&help(command))));
    }
    places.sort();

    let (mut wrong, mut total, mut used) = (vec![], 0, vec![]);
    for (place, commands) in &places {
        let (bad, ran, needed) = run_all(place, commands, desk.path());
        if ran == 0 && commands.iter().any(|line| line.starts_with("vit-gpu ")) {
            // A place may show nothing but what measures an adapter.
            assert!(place.ends_with("--help"), "{place}: no command of it ran");
        }
        total += ran;
        wrong.extend(bad);
        used.extend(needed);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(total >= 25, "{total} commands ran");
    let unused: Vec<_> = NOT_RUN.iter().map(|(mark, ..)| *mark).filter(|mark| !used.contains(mark)).collect();
    assert!(unused.is_empty(), "reasons that nothing needs: {unused:?}");
}

#[test]
fn commands_are_found_and_wrong_ones_are_noticed() {
    let document = "a\n```sh\n# b\nvit-gpu x \\\n    y  # z\nmake w\n```\n```rust\nc\n```\n";
    assert_eq!(printed(document), ["vit-gpu x      y  # z", "make w"]);
    let help = "u\nExamples:\n    vit-gpu a\n    vit-gpu b\n\n    vit-gpu c\n";
    assert_eq!(examples(help), ["vit-gpu a", "vit-gpu b"]);
    assert!(exists("make test").is_ok() && exists("make tests").is_err());
    assert!(exists("benches/gpu.sh quick").is_ok() && exists("benches/gpu.sh2 quick").is_err());

    let desk = desk();
    let lines =
        ["vit-gpu infer photo.jpg --no-such-flag", "vit-gpu infer no-such.jpg", "vit-gpu doctor --fast"];
    let lines = lines.map(str::to_owned);
    let (wrong, ran, used) = run_all("here", &lines, desk.path());
    assert_eq!((wrong.len(), ran, &used[..]), (3, 2, &["vit-gpu doctor"][..]), "{wrong:?}");
}

/// What stands between single backticks in prose, as written.
fn quoted(document: &str) -> Vec<&str> {
    let prose = document.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// All of `src/`, one file behind the other.
fn sources() -> String {
    let mut all = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all += &fs::read_to_string(path).unwrap();
            }
        }
    }
    all
}

/// Names like `Session::open` of a document whose last part is nowhere in the sources.
fn strangers<'a>(document: &'a str, sources: &str) -> Vec<&'a str> {
    let known = |name: &str| {
        let name = name.split(['(', ' ', ',']).next().unwrap();
        match name.rsplit_once("::") {
            Some((_, last)) if last.starts_with(|c: char| c.is_lowercase()) => {
                sources.contains(&format!("fn {last}(")) || sources.contains(&format!("fn {last}<"))
            }
            Some((_, last)) => sources.contains(last),
            None => true,
        }
    };
    quoted(document).into_iter().filter(|name| !known(name)).collect()
}

#[test]
fn the_walk_passes_functions_that_exist() {
    let (walk, sources) = (fs::read_to_string(root().join("docs/architecture.md")).unwrap(), sources());
    let count = quoted(&walk).iter().filter(|name| name.contains("::")).count();
    assert!(count > 60, "{count} names");
    assert_eq!(strangers(&walk, &sources), [""; 0]);
    assert_eq!(
        strangers("a `Session::open` b `Session::no_such` ```\n`c::d`\n```", &sources),
        ["Session::no_such"]
    );
}

#[test]
fn files_that_are_named_exist() {
    let mut missing = Vec::new();
    let mut count = 0;
    for place in
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "benches", "tools/tokenizers", "tools/train"]
    {
        let place = root().join(place);
        let files = if place.is_dir() {
            fs::read_dir(&place).unwrap().map(|e| e.unwrap().path()).collect()
        } else {
            vec![place]
        };
        for file in files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "md")) {
            let document = fs::read_to_string(&file).unwrap();
            for name in quoted(&document) {
                let ours =
                    ["src/", "tests/", "docs/", "tools/", "examples/", "scripts/", "benches/", "assets/"];
                let whole = !name.contains(['*', '{', ' ', '<']) && !name.contains("CASE");
                if whole && ours.iter().any(|start| name.starts_with(start)) {
                    count += 1;
                    if !root().join(name).exists() {
                        missing.push(format!("{} names {name}", file.display()));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty() && count > 40, "{count} names; {}", missing.join("\n"));
}

#[test]
fn the_conversion_in_python_makes_its_folder_and_takes_both_layouts() {
    let readme = fs::read_to_string("README.md").unwrap();
    let code = readme
        .split("```")
        .find(|block| block.starts_with("python") && block.contains("torch.load"))
        .unwrap();
    for needle in ["os.makedirs(\"llamagen-b\", exist_ok=True)", "d.get(\"model\", d)", "weights_only=True"] {
        assert!(code.contains(needle), "{needle}: {code}");
    }
    assert!(!code.contains("weights_only=False"));
    let warned = readme.split("`weights_only=False`").nth(1).unwrap();
    assert!(warned.split('.').next().unwrap().contains("runs whatever code"), "{warned:.200}");
}
