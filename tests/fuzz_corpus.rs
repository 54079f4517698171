//! Every seed of the fuzz targets, run through what the targets run, without a fuzzer.
//!
//! `fuzz/seeds/<target>` holds small files, good and bad, and under `found_*` each input that once
//! made a fuzzer stop. None may panic, and each must be done in a time that only a hang exceeds
//! (what is slow rather than endless, the fuzzers find: their limit is tighter).

use std::any::Any;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use std::{fs, thread};

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

/// Longest that one input may take, in an unoptimised build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a target's body on each of its seeds; panics with the names of those that fail.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder lists").path()).collect();
    files.sort();
    assert!(files.len() > 20, "{} holds {} seeds only", folder.display(), files.len());
    let failed: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let input = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            Some(format!("{}: {}", file.display(), failure(run, input, PATIENCE)?))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} seeds:\n{}", failed.len(), files.len(), failed.join("\n"));
}

/// Why an input does not pass, if it does not.
fn failure(run: fn(&[u8]), input: Vec<u8>, patience: Duration) -> Option<String> {
    let (done, wait) = channel();
    let worker = thread::spawn(move || {
        run(&input);
        let _ = done.send(());
    });
    match wait.recv_timeout(patience) {
        Ok(()) => None,
        Err(RecvTimeoutError::Timeout) => Some(format!("not done after {patience:?}")),
        Err(RecvTimeoutError::Disconnected) => Some(match worker.join() {
            Ok(()) => "ended without a word".to_owned(),
            Err(panic) => format!("panicked: {}", message(panic.as_ref())),
        }),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[test]
fn checkpoint_headers() {
    replay("checkpoint_header", bodies::checkpoint_header::run);
}

#[test]
fn model_configs() {
    replay("model_config", bodies::model_config::run);
}

#[test]
fn preprocessor_configs() {
    replay("preprocessor_config", bodies::preprocessor_config::run);
}

#[test]
fn text_configs() {
    replay("text_config", bodies::text_config::run);
}

#[test]
fn image_options() {
    replay("image_options", bodies::image_options::run);
}

#[test]
fn replaying_can_fail() {
    assert_eq!(failure(|_| {}, vec![], PATIENCE), None);
    let panics = failure(|input| assert!(input.is_empty(), "not empty"), vec![1], PATIENCE);
    assert_eq!(panics.as_deref(), Some("panicked: not empty"));
    let hangs = failure(|_| thread::sleep(Duration::from_secs(1)), vec![], Duration::from_millis(50));
    assert!(hangs.is_some_and(|why| why.contains("not done after")));
}
