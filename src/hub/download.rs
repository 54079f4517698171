//! Feature `hub`. Models from a Hugging Face hub, or a mirror of one, into the shared cache.
//!
//! [`pull`] asks the hub which commit a revision means and which files it has, takes those that this
//! program can use, and lays them out as every other program expects: contents in `blobs`, links to
//! them in `snapshots/<commit>`, and last of all the reference, so that a reference never points to
//! half a model. File names are this module's own or checked; none from the network becomes a path
//! unchecked. Nothing is ever fetched that would have to be unpickled.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;

use crate::checkpoint::{self, DECODER, INDEX, SINGLE, TOKENIZER, is_plain_file_name};
use crate::error::{Advice, Result};
use crate::hub::blob::{cannot_write, sync_folder};
use crate::hub::cached::lacks;
use crate::hub::http::{Answer, Client, Failure, hub_error};
use crate::hub::id::is_commit;
use crate::hub::{HubOptions, ModelId, Progress, blob};
use crate::printable::printable;

/// Files taken when they exist, besides the configuration and the weights: how images are prepared, how
/// texts are cut up, how embeddings are made.
const OPTIONAL: [&str; 13] = [
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
];

/// Largest answer of the hub's interface that is read, in bytes.
const MAX_INFO_BYTES: u64 = 32 << 20;

/// Downloads a model, or completes what the cache has of it, and returns its snapshot folder. Files
/// that are there already are not fetched again, but the hub is always asked for the revision.
///
/// # Errors
/// [`Error::Hub`](crate::error::Error::Hub), each cause in its own words: offline, no such model or revision, not allowed,
/// no usable weights, network trouble, content that does not check, a cache that cannot be written.
/// `Error::Model` if the index of a sharded model is damaged. `Error::Interrupted`.
pub fn pull(id: &ModelId, options: &HubOptions, progress: &mut Progress<'_>) -> Result<PathBuf> {
    if options.is_offline() {
        return Err(hub_error(
            format!("{id} cannot be downloaded: going online is off"),
            Advice::GoOnline { model: None },
        ));
    }
    let folder = id.cache_folder(&options.env.cache()?);
    let client = Client::new(options)?;
    let info = client.retry(|| ask(&client, id))?;
    let files = choose(id, &info)?;

    let snapshot = folder.join("snapshots").join(&info.sha);
    let blobs = folder.join("blobs");
    for made in [&snapshot, &blobs] {
        fs::create_dir_all(made).map_err(|e| cannot_write(made, &e, None))?;
    }
    let mut get = |file: &str| {
        if snapshot.join(file).metadata().is_ok_and(|m| m.is_file()) {
            return Ok(());
        }
        let url = format!("{}/{}/resolve/{}/{file}", client.endpoint(), id.repository(), info.sha);
        let status = |answer: &Answer| refused(&client, id, &format!("{id}: {file}"), answer);
        let blob = blob::fetch(&client, &url, file, &blobs, &status, progress)?;
        link(&blob, &snapshot, file)
    };
    for file in &files {
        get(file)?;
        if file == INDEX {
            for shard in checkpoint::shards(&snapshot.join(INDEX))? {
                get(&shard)?;
            }
        }
    }
    if let Some(file) = lacks(&snapshot) {
        let what = format!("{id}: the download ended without an error, but {file} is missing");
        return Err(hub_error(what, "pull again"));
    }
    if !is_commit(id.revision()) {
        write_reference(&folder.join("refs"), id.revision(), &info.sha)?;
    }
    Ok(snapshot)
}

/// What the hub says about a revision.
#[derive(Debug, Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

fn ask(client: &Client, id: &ModelId) -> Result<Info, Failure> {
    let revision = id.revision().replace('/', "%2F");
    let url = format!("{}/api/models/{}/revision/{revision}", client.endpoint(), id.repository());
    let mut answer = client.get(&url, 0)?;
    if answer.status != 200 {
        return Err(refused(client, id, &id.to_string(), &answer));
    }
    let body = answer.body.with_config().limit(MAX_INFO_BYTES).read_to_vec();
    let body = body.map_err(|e| Failure::again(format!("{id}: the hub's answer broke off ({e})")))?;
    let info: Info = serde_json::from_slice(&body).map_err(|e| {
        let what = format!("{id}: {} does not answer as a hub does: {e}", client.endpoint());
        hub_error(what, "check HF_ENDPOINT")
    })?;
    if !is_commit(&info.sha) {
        let what = format!("{id}: the hub names `{}` as the commit, which is none", printable(&info.sha));
        return Err(hub_error(what, "check HF_ENDPOINT").into());
    }
    Ok(info)
}

/// The files to take, in order.
fn choose(id: &ModelId, info: &Info) -> Result<Vec<String>> {
    let names: Vec<&str> = info.siblings.iter().map(|s| s.rfilename.as_str()).collect();
    let has = |name: &str| names.contains(&name);
    if !has("config.json") {
        let what = format!("{id} has no config.json: it is not a model this program knows");
        return Err(hub_error(what, "look for a transformers or timm model"));
    }
    let mut files = vec!["config.json".to_owned()];
    files.extend(OPTIONAL.iter().filter(|name| has(name)).map(|name| (*name).to_owned()));
    if has(DECODER) && has(TOKENIZER) {
        files.extend([DECODER, TOKENIZER].map(str::to_owned));
        return Ok(files);
    }
    let lone: Vec<&str> =
        names.iter().copied().filter(|n| n.ends_with(".safetensors") && is_plain_file_name(n)).collect();
    let weights = match lone.as_slice() {
        _ if has(SINGLE) => SINGLE,
        _ if has(INDEX) => INDEX,
        [only] => only,
        [] => {
            let pickled =
                names.iter().find(|n| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| n.ends_with(e)));
            let what = match pickled {
                Some(pickle) => {
                    let pickle = printable(pickle);
                    format!(
                        "{id} has only pickled weights ({pickle}); pickles can run code and are never read"
                    )
                }
                None => format!("{id} has no safetensors weights"),
            };
            let repository = id.repository();
            let help = format!(
                "look for a revision with model.safetensors (try {repository}@refs/pr/1), or convert it"
            );
            return Err(hub_error(what, help));
        }
        several => {
            let list: Vec<String> = several.iter().take(5).map(|n| printable(n)).collect();
            let what =
                format!("{id} has {} weight files and none is {SINGLE}: {}", several.len(), list.join(", "));
            return Err(hub_error(what, "download the one that is meant and pass it as a file"));
        }
    };
    files.push(weights.to_owned());
    Ok(files)
}

/// What a status other than 200 and 206 means for `what`.
fn refused(client: &Client, id: &ModelId, what: &str, answer: &Answer) -> Failure {
    let code = answer.header("x-error-code").unwrap_or_default();
    let page = format!("{}/{}", client.endpoint(), id.repository());
    let (why, help) = match (answer.status, code) {
        (_, "RevisionNotFound") => (
            format!("{} has no revision `{}`", id.repository(), id.revision()),
            "check the part after @".into(),
        ),
        (_, "EntryNotFound") => (format!("{what} is not in the repository"), format!("see {page}")),
        (_, "GatedRepo") => {
            let help = format!("accept its terms on {page}, then set HF_TOKEN to a token of that account");
            (format!("{what} is gated"), help)
        }
        (401, _) if client.has_token() => {
            let help = "check HF_TOKEN (or run `hf auth login`), and that the token may read this model";
            (format!("{what}: the hub does not accept the token"), help.into())
        }
        (401, _) => {
            let help = "check the spelling; for a private or gated model set HF_TOKEN";
            (format!("{what} does not exist, or needs a token"), help.into())
        }
        (403, _) => (format!("{what}: access is forbidden"), format!("ask for access on {page}")),
        (404, _) => (format!("{what} was not found on {}", client.endpoint()), "check the spelling".into()),
        (429, _) => return again(answer, format!("{what}: the hub asks to slow down (429)")),
        (408 | 500..=599, _) => {
            return again(answer, format!("{what}: the hub is in trouble ({})", answer.status));
        }
        (status, _) => (format!("{what}: the hub answered with status {status}"), format!("see {page}")),
    };
    hub_error(why, help).into()
}

fn again(answer: &Answer, what: String) -> Failure {
    let wait = answer.header("retry-after").and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
    Failure::Again { what, wait, progress: false }
}

/// Puts `blob` into a snapshot under the name `file`, one of ours: a relative link where there are links.
fn link(blob: &Path, snapshot: &Path, file: &str) -> Result<()> {
    let entry = snapshot.join(file);
    let cannot = |e: io::Error| cannot_write(&entry, &e, None);
    let draft = snapshot.join(format!(".{:016x}.incomplete", RandomState::new().build_hasher().finish()));
    let folders = entry.parent().map_or(Ok(()), fs::create_dir_all);
    let depth = file.matches('/').count();
    let made = folders.and_then(|()| place(blob, &draft, depth)).and_then(|()| fs::rename(&draft, &entry));
    if made.is_err() {
        _ = fs::remove_file(&draft);
    }
    match made {
        // Another process may have been faster and hold the file open (Windows).
        Err(_) if entry.metadata().is_ok_and(|m| m.is_file()) => Ok(()),
        made => made.map_err(cannot),
    }
}

/// `depth`: folders between the snapshot and where the link will be.
#[cfg(unix)]
fn place(blob: &Path, draft: &Path, depth: usize) -> io::Result<()> {
    let name = blob.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let blobs = Path::new(&"../".repeat(depth)).join("../../blobs");
    std::os::unix::fs::symlink(blobs.join(name), draft)
}

#[cfg(not(unix))]
fn place(blob: &Path, draft: &Path, _: usize) -> io::Result<()> {
    fs::copy(blob, draft).map(|_| ())
}

/// Writes `refs/<revision>`, atomically.
fn write_reference(refs: &Path, revision: &str, commit: &str) -> Result<()> {
    let path = refs.join(revision);
    let folder = path.parent().unwrap_or(refs);
    let draft = folder.join(format!(".{:016x}.incomplete", RandomState::new().build_hasher().finish()));
    let write = || {
        fs::create_dir_all(folder)?;
        fs::write(&draft, commit)?;
        fs::rename(&draft, &path)
    };
    write().map_err(|e: io::Error| {
        _ = fs::remove_file(&draft);
        cannot_write(&path, &e, None)
    })?;
    sync_folder(folder);
    Ok(())
}
