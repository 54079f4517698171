//! Models by name through the program: rows H1 and H2, a download, and Ctrl-C in the middle of one.
//! Against a server on this machine; the Internet is never asked.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{golden, run, scratch, vit_gpu};
use hub_server::{HubServer, Repository, Response};

#[path = "../common/hub_server.rs"]
#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
mod hub_server;

fn repository() -> Repository {
    let read = |name: &str| fs::read(golden("vit").join(name)).expect("a golden file");
    ["config.json", "preprocessor_config.json", "model.safetensors"]
        .into_iter()
        .fold(Repository::default(), |r, name| r.file(name, read(name)))
}

fn infer(model: &str, server: &HubServer, cache: &Path) -> Command {
    let mut command = vit_gpu([
        "infer",
        "--device",
        "reference",
        "assets/samples/star.png",
        "--format",
        "json",
        "-m",
        model,
    ]);
    command.env("HF_ENDPOINT", server.url()).env("HF_HUB_CACHE", cache).env("NO_PROXY", "127.0.0.1");
    command
}

#[test]
fn names_that_are_none_touch_nothing() {
    let server = HubServer::start(repository(), |_, _| None);
    let cache = scratch();
    let long = "x".repeat(10_000);
    let names = ["a/../b", "org/name/extra", "a//b", "org/na me", "org/name@../x", "a\nb/c", "hf://x", &long];
    for name in names {
        let start = Instant::now();
        run(&mut infer(name, &server, cache.path())).code(2).says(&["is not a model name"]);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    // What looks like a path is one, and is not there or is no model.
    for path in ["../../../no/such", "/no/such", "..", "./org/name"] {
        run(&mut infer(path, &server, cache.path())).code(3);
    }
    for path in ["C:\\nowhere\\m", "C:/nowhere/m", "toys\\nothing", "./nonexist", "nonexist"] {
        run(&mut infer(path, &server, cache.path())).code(3).says(&[
            path,
            "no such file or folder",
            "org/name",
        ]);
    }
    let address = "https://huggingface.co/google/vit-base-patch16-224";
    run(&mut infer(address, &server, cache.path())).code(2).says(&["pass `google/vit-base-patch16-224`"]);
    assert!(server.requests().is_empty());
    assert_eq!(fs::read_dir(cache.path()).expect("the cache").count(), 0);
}

#[test]
fn offline_means_no_socket() {
    let server = HubServer::start(repository(), |_, _| None);
    let cache = scratch();
    let start = Instant::now();
    let by_flag = run(infer("org/name", &server, cache.path()).arg("--offline")).code(7);
    by_flag.says(&["org/name", "going online is off", "hint: "]);
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        run(infer("org/name", &server, cache.path()).env(variable, "1"))
            .code(7)
            .says(&["going online is off"]);
    }
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(server.requests().is_empty());
}

#[test]
fn a_path_that_is_not_there_and_a_hub_that_cannot_be_reached() {
    let cache = scratch();
    let mut command = infer("models/vit", &HubServer::start(repository(), |_, _| None), cache.path());
    // Nothing listens at port 1.
    command.env("HF_ENDPOINT", "http://127.0.0.1:1");
    run(&mut command).code(7).says(&["127.0.0.1 refuses connections", "no file or folder `models/vit`"]);
}

#[test]
fn short_names_are_fetched_by_their_whole_names() {
    let server = HubServer::start(repository(), |_, _| None);
    let cache = scratch();
    // A model of images under this name: what counts is what is asked for.
    run(&mut infer("gpt2", &server, cache.path())).code(0);
    assert!(server.requests()[0].path.starts_with("/api/models/openai-community/gpt2/"));
}

#[test]
fn waits_are_told_of_before_they_begin() {
    let slow = |request: &hub_server::Request, before| {
        let busy = request.is_for("config.json") && before == 0;
        busy.then(|| Response::new(429).header("retry-after", 1))
    };
    let server = HubServer::start(repository(), slow);
    let cache = scratch();
    run(&mut infer("org/name", &server, cache.path()))
        .code(0)
        .says(&["note: org/name: config.json: the hub asks to slow down (429); trying again in 2 s"]);
}

#[test]
fn files_that_git_lfs_did_not_fetch() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let server = HubServer::start(repository(), |_, _| None);
    let (folder, cache) = (scratch(), scratch());
    for name in ["config.json", "preprocessor_config.json", "vocab.txt", "tokenizer.json", "spiece.model"] {
        for (file, content) in &repository().0 {
            fs::write(folder.path().join(file), content).expect("written");
        }
        fs::write(folder.path().join(name), pointer).expect("written");
        let model = folder.path().display().to_string();
        run(&mut infer(&model, &server, cache.path())).code(3).says(&[
            name,
            "git-LFS pointer",
            "git lfs pull",
        ]);
        fs::remove_file(folder.path().join(name)).expect("removed");
    }
}

#[test]
fn a_model_is_fetched_once() {
    let server = HubServer::start(repository(), |_, _| None);
    let cache = scratch();
    let first = run(&mut infer("org/name", &server, cache.path())).code(0);
    let json = first.json();
    first.says(&["downloading model.safetensors of org/name"]);
    assert_eq!((&json["model"]["id"], &json["model"]["family"]), (&"org/name".into(), &"vit".into()));
    let asked = server.requests().len();
    let again = run(infer("org/name", &server, cache.path()).arg("--offline")).code(0);
    assert_eq!(again.json()["results"], json["results"]);
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn refusals_of_the_hub_are_told() {
    let cache = scratch();
    for (status, code, text) in [(404, "RepoNotFound", "not found"), (401, "GatedRepo", "is gated")] {
        let hook = move |_: &_, _| Some(Response::new(status).header("x-error-code", code));
        let server = HubServer::start(repository(), hook);
        run(&mut infer("org/name", &server, cache.path())).code(7).says(&[text, "hint: "]);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_download() {
    let stall = |request: &hub_server::Request, _| {
        let content = fs::read(golden("vit/model.safetensors")).expect("a golden file");
        let silent = Response { stall: Duration::from_secs(30), ..Response::new(200).body(content) };
        request.is_for("model.safetensors").then_some(silent)
    };
    let server = HubServer::start(repository(), stall);
    let cache = scratch();
    let mut child = infer("org/name", &server, cache.path()).spawn().expect("the program starts");
    let start = Instant::now();
    while server.asked_for("model.safetensors").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "the download never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("sh");
    assert!(sent.success());
    assert_eq!(child.wait().expect("the program ends").code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(1));
    // Half a model is never mistaken for one.
    run(infer("org/name", &server, cache.path()).arg("--offline")).code(7);
}
