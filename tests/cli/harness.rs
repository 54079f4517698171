//! Runs the binary as a user would: arguments in, exit code and both streams out. The environment
//! is cleared of everything that steers this program, and caches go below `target/`.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in: {self:#?}"))
    }

    /// Standard output as a JSON value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let line = |l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e} in: {self:#?}"));
        self.out.lines().map(line).collect()
    }

    /// Panics unless the exit code is this one; and never tolerates a panic of the program.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }

    /// Panics unless standard error holds all of these.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "no `{text}` in: {self:#?}");
        }
        self
    }
}

/// The program, with a clean environment and these arguments.
pub fn vit_gpu<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vit-gpu"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let steers = [
            "VIT_GPU_",
            "WGPU_",
            "HF_",
            "HUGGING",
            "CLICOLOR",
            "NO_COLOR",
            "TRANSFORMERS_",
            "SSL_CERT_",
            "REQUESTS_CA_",
            "CURL_CA_",
        ];
        if steers.iter().any(|s| text.starts_with(s)) && text != "VIT_GPU_CHECKED" {
            command.env_remove(&name);
        }
    }
    let scratch = env!("CARGO_TARGET_TMPDIR");
    // Mesa complains on standard error where there is no XDG_RUNTIME_DIR.
    command.args(arguments).env("XDG_CACHE_HOME", scratch).env("XDG_RUNTIME_DIR", scratch);
    command.stdin(Stdio::null()).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the program starts");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the program with these arguments.
pub fn go<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    run(&mut vit_gpu(arguments))
}

/// As [`go`], `infer` on the CPU reference: for tests that are not about a GPU.
pub fn infer<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    run(&mut infer_command(arguments))
}

/// The command behind [`infer`].
pub fn infer_command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = vit_gpu(["infer", "--device", "reference"]);
    command.args(arguments);
    command
}

/// A sample image by the name of its shape.
pub fn sample(shape: &str) -> PathBuf {
    PathBuf::from(format!("assets/samples/{shape}.png"))
}

/// A file or folder of the golden cases.
pub fn golden(path: &str) -> PathBuf {
    Path::new("tests/golden").join(path)
}

/// A folder that goes away with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// Names in a folder, sorted, hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a readable folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
