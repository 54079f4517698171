//! Conduct of the program whatever it computes: rows C1 to C10, help, man page, completions.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{go, infer, infer_command, names, run, scratch, vit_gpu};

#[test]
fn typing_errors_get_suggestions() {
    go(["infr", "x.png"]).code(2).says(&["unrecognized subcommand 'infr'", "'infer'"]);
    go(["infer", "--top", "3", "x.png"]).code(2).says(&["--top", "--top-k"]);
    go(["infer", "--format", "yaml", "x.png"]).code(2).says(&["text, json, jsonl, csv"]);
    go(["infer", "--disable", "f17", "x.png"]).code(2).says(&["f16, subgroups, timestamps, matrices"]);
    go(Vec::<&str>::new()).code(2);
    let version = go(["--version"]).code(0).out;
    assert_eq!(version, concat!("vit-gpu ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn pages_for_shells_and_man() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = go(["completions", shell]).code(0).out;
        assert!(script.contains("infer") && script.contains("top-k"), "{shell}");
    }
    go(["completions", "tcsh"]).code(2).says(&["bash"]);
    let page = go(["man"]).code(0).out;
    assert!(
        page.contains(".TH vit-gpu 1") && page.contains("VIT_GPU_DEVICE") && page.contains("130"),
        "{page}"
    );
    for command in
        ["infer", "generate", "tokens", "devices", "inspect", "verify", "doctor", "completions", "man"]
    {
        assert!(page.contains(&format!("vit\\-gpu\\-{command}(1)")), "{command}");
        let own = go(["man", command]).code(0).out;
        assert!(own.contains(&format!("vit-gpu-{command} 1")), "{own}");
        let help = go([command, "--help"]).code(0).out;
        assert!(help.contains(&format!("Usage: vit-gpu {command}")), "{help}");
    }
    go(["man", "nothing"]).code(2).says(&["there is no command `nothing`"]);
}

/// What a shell offers behind `vit-gpu infer --form`; nothing, said aloud, where there is no such shell.
fn offered(shell: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(shell).args(arguments).stdin(Stdio::null()).output() else {
        eprintln!("SKIP: there is no {shell} to complete in");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[cfg(unix)]
#[test]
fn shells_complete_behind_a_command() {
    let folder = scratch();
    let script = |shell: &str| {
        let path = folder.path().join(format!("_vit-gpu.{shell}"));
        fs::write(&path, go(["completions", shell]).code(0).out).expect("written");
        path.display().to_string()
    };
    let bash = "source \"$0\"; COMP_WORDS=(vit-gpu infer --form); COMP_CWORD=2; \
                _vit__gpu vit-gpu --form infer; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let offers = offered("bash", &["--norc", "-c", bash, &script("bash")]).expect("bash");
    assert_eq!(offers.trim(), "--format");
    let values = bash.replace("infer --form)", "infer --format js)").replace("COMP_CWORD=2", "COMP_CWORD=3");
    let values = values.replace("--form infer", "js --format");
    let offers = offered("bash", &["--norc", "-c", &values, &script("bash")]).expect("bash");
    assert_eq!(offers.split_whitespace().collect::<Vec<_>>(), ["json", "jsonl"]);

    let fish = "source $argv[1]; complete -C 'vit-gpu infer --form'";
    if let Some(offers) = offered("fish", &["--no-config", "-c", fish, &script("fish")]) {
        assert!(offers.contains("--format"), "{offers}");
    }
    let zsh = "autoload -Uz compinit; compinit -D -u; source \"$1\"; whence -w _vit-gpu";
    if let Some(offers) = offered("zsh", &["-f", "-c", zsh, "zsh", &script("zsh")]) {
        assert!(offers.contains("_vit-gpu: function"), "{offers}");
    }
}

/// Reads `lines` lines, closes the pipe, and yields exit code and standard error.
fn closed_after(lines: usize, command: &mut Command) -> (Option<i32>, String) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    for _ in 0..lines {
        assert!(out.read_line(&mut line).expect("a line") > 0);
    }
    drop(out);
    let output = child.wait_with_output().expect("the program ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_closed_pipe_is_quiet() {
    let many = vec!["assets/samples"; 40];
    let mut command = infer_command(["-q", "--format", "jsonl", "-b", "2"]);
    let start = Instant::now();
    assert_eq!(closed_after(1, command.args(&many)), (Some(0), String::new()));
    assert!(start.elapsed() < Duration::from_secs(20), "it stops when nobody reads");
    for arguments in [
        &["--help"][..],
        &["man"],
        &["completions", "bash"],
        &["devices", "-q"],
        &["inspect", "-q", "--graph", "dot"],
    ] {
        let (code, err) = closed_after(0, &mut vit_gpu(arguments));
        // Without an adapter, `devices` says so and leaves with 4.
        assert!(
            code == Some(0) || (arguments[0] == "devices" && code == Some(4)),
            "{arguments:?}: {code:?} {err}"
        );
        assert!(!err.contains("panicked") && !err.contains("pipe"), "{arguments:?}: {err}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let full = || fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let star = "assets/samples/star.png";
    let formats = ["text", "json", "jsonl", "csv"]
        .map(|f| ["infer", "--device", "reference", "-q", star, "--format", f]);
    let others: [&[&str]; 4] =
        [&["--help"], &["man"], &["completions", "zsh"], &["inspect", "--device", "reference"]];
    for arguments in formats.iter().map(|a| &a[..]).chain(others) {
        let ran = run(vit_gpu(arguments).stdout(full()));
        // `output` pipes what was not set, so run() does not see this stream.
        assert!(ran.out.is_empty());
        ran.code(1).says(&["error: write error: No space left on device"]);
    }
    let ran = infer(["-q", star, "--embeddings", "/dev/full"]).code(1);
    ran.says(&["cannot write /dev/full: No space left"]);
    // Standard error that cannot be written is nobody's fault.
    assert_eq!(run(vit_gpu(["infer", "--device", "reference", star]).stderr(full())).code, 0);
}

#[test]
fn no_escape_bytes() {
    let commands: [&[&str]; 6] = [
        &["--help"],
        &["infer", "--help"],
        &["infer", "--nope"],
        &["infer", "--device", "reference", "assets/samples", "nope.png", "-v"],
        &["verify", "--device", "reference", "-m", "tests/golden/vit"],
        &["inspect", "--device", "reference"],
    ];
    for arguments in commands {
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb"), ("LANG", "C")] {
            let ran = run(vit_gpu(arguments).env(name, value));
            assert!(
                !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'),
                "{arguments:?} {name}: {ran:#?}"
            );
        }
    }
}

#[test]
fn json_stays_json_under_talk_and_failure() {
    for flag in ["-v", "-vvv", "-q"] {
        let ran = infer([
            "assets/samples/star.png",
            "nope.png",
            "tests/images/exif_6.png",
            "--format",
            "json",
            flag,
        ])
        .code(1);
        assert_eq!(ran.json()["results"].as_array().map(Vec::len), Some(3));
        assert_eq!(ran.err.contains("EXIF orientation 6 applied"), flag != "-q", "{ran:#?}");
        assert!(ran.err.contains("error: nope.png"), "errors are said even when quiet");
    }
}

/// Sends SIGINT and yields the exit code and how long it took to end.
#[cfg(unix)]
pub fn interrupt(mut child: Child) -> (Option<i32>, Duration) {
    let start = Instant::now();
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("sh");
    assert!(sent.success());
    let status = child.wait().expect("the program ends");
    (status.code(), start.elapsed())
}

#[cfg(unix)]
#[test]
fn ctrl_c_is_quick_and_leaves_nothing() {
    let folder = scratch();
    let file = folder.path().join("e.safetensors");
    let list = folder.path().join("list");
    fs::write(&list, "assets/samples/star.png\n".repeat(100_000)).expect("a file");
    let at = format!("@{}", list.display());
    let (at, path) = (at.as_str(), file.to_str().expect("text"));
    let on_gpu = crate::common::gpu().is_some();
    for device in ["reference", "auto"].into_iter().take(1 + usize::from(on_gpu)) {
        let mut command = vit_gpu([
            "infer",
            "--device",
            device,
            "-q",
            at,
            "--embeddings",
            path,
            "--format",
            "jsonl",
            "-b",
            "2",
        ]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut err = child.stderr.take().expect("a pipe");
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert!(line.starts_with('{'), "{line}");
        assert!(names(folder.path()).iter().any(|n| n.ends_with(".tmp")), "the draft is there meanwhile");
        let (code, took) = interrupt(child);
        assert_eq!(code, Some(130), "{device}");
        assert!(took < Duration::from_secs(1), "{device}: {took:?}");
        assert_eq!(names(folder.path()), ["list"], "{device}: neither the file nor its draft");
        let mut said = String::new();
        err.read_to_string(&mut said).expect("standard error");
        assert_eq!(said, "", "{device}: quiet");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn little_memory_leaves_no_corrupt_output() {
    let folder = scratch();
    let file = folder.path().join("e.safetensors");
    let program = env!("CARGO_BIN_EXE_vit-gpu");
    for kilobytes in [20_000, 60_000, 100_000, 200_000, 400_000] {
        let path = file.to_str().expect("text");
        let line = format!(
            "ulimit -v {kilobytes}; exec {program} infer --device reference -q assets/samples --embeddings {path}"
        );
        let output = Command::new("sh").args(["-c", &line]).output().expect("sh");
        if output.status.success() {
            let bytes = fs::read(&file).expect("the embeddings");
            assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok(), "{kilobytes}");
            fs::remove_file(&file).expect("removable");
        } else {
            assert!(!file.exists(), "{kilobytes}: a failed run leaves no output");
        }
    }
}
