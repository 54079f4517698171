//! The programs of `examples/`, run as their first lines say. `cargo test` builds them; `cargo test --test examples`
//! alone does not.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;

/// What an example prints, or `None` after a loud `SKIP` if it is not built.
fn run(example: &str, arguments: &[&str]) -> Option<String> {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples").join(example);
    if !program.exists() {
        assert!(std::env::var_os("VIT_GPU_REQUIRE").is_none(), "{} is not built", program.display());
        eprintln!("SKIP: {} is not built", program.display());
        return None;
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let ran = Command::new(program).args(arguments).current_dir(root).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{example} {arguments:?}: {out}{err}");
    Some(out.into_owned())
}

#[test]
fn classify_names_what_is_in_a_picture() {
    let Some(out) = run("classify", &["assets/samples/heart.png"]) else { return };
    assert!(out.starts_with("assets/samples/heart.png: heart ("), "{out}");
}

#[test]
fn a_model_defined_outside_gives_the_same_on_gpu_and_reference() {
    // It compares the two itself.
    let Some(out) = run("custom_model", &[]) else { return };
    assert!(out.contains("\nGPU ") && out.contains("\nreference "), "{out}");
}

#[test]
fn generate_draws_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("star.png");
    if run("generate", &[file.to_str().unwrap(), "star"]).is_some() {
        let Some(out) = run("classify", &[file.to_str().unwrap()]) else { return };
        assert!(out.contains(": star ("), "{out}");
    }
}

#[test]
fn train_writes_a_run_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    if let Some(out) = run("train", &[path.to_str().unwrap()]) {
        assert!(out.lines().count() == 2 && out.contains("(\"top1\", 0.9"), "{out}");
        let best = path.join("best");
        let Some(out) = run("classify", &[best.to_str().unwrap(), "assets/samples/heart.png"]) else {
            return;
        };
        assert!(out.starts_with("assets/samples/heart.png: heart ("), "{out}");
    }
}

#[test]
fn texts_does_what_a_checkpoint_has_a_head_for() {
    let Some(out) = run("texts", &["tests/toys/gpt2-toy", "the"]) else { return };
    assert!(!out.trim().is_empty());
}

#[test]
fn random_checkpoint_writes_a_folder_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("vit");
    if run("random_checkpoint", &["vit-ti/32", model.to_str().unwrap()]).is_some() {
        let Some(out) = run("classify", &[model.to_str().unwrap(), "assets/samples/heart.png"]) else {
            return;
        };
        assert!(out.starts_with("assets/samples/heart.png: "), "{out}");
    }
}

#[test]
fn a_new_adapter_is_laid_over_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("adapter");
    let arguments = ["tests/golden/vit", out.to_str().unwrap(), "q_proj", "v_proj", "+classifier"];
    let Some(said) = run("new_adapter", &arguments) else { return };
    assert!(said.contains(": 4 layers"), "{said}");
    let files = vit_gpu::ModelSource::named(out.to_str().unwrap()).read(false).unwrap();
    assert_eq!(files.adapter.map(|a| (a.adapted, a.replaced)), Some((4, 2)));
}
