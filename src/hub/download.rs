//! Feature `hub`. Models from a Hugging Face hub, or a mirror of one, into the shared cache.
//!
//! [`pull`] asks the hub which commit a revision means and which files it has, takes those that this
//! program can use, and lays them out as every other program expects: contents in `blobs`, links to
//! them in `snapshots/<commit>`, and last of all the reference, so that a reference never points to
//! half a model. File names are this module's own or checked; none from the network becomes a path
//! unchecked. Nothing is ever fetched that would have to be unpickled.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

use crate::checkpoint::{self, DECODER, INDEX, SINGLE, TOKENIZER, is_plain_file_name};
use crate::error::{Advice, Result};
use crate::hub::cached::{absent, lacks};
use crate::hub::disk::{cannot_write, sync_folder};
use crate::hub::failure::{Failure, hub_error};
use crate::hub::http::{Answer, Client};
use crate::hub::id::is_commit;
use crate::hub::part::{sweep, sweep_drafts};
use crate::hub::{HubOptions, ModelId, Progress, blob, wait, wanted};
use crate::printable::printable;

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
        let (repository, encoded) = (id.repository(), encoded(file));
        let url = format!("{}/{repository}/resolve/{}/{encoded}", client.endpoint(), info.sha);
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
        if file == wanted::MODULES {
            for file in info.of_modules(&snapshot) {
                get(&file)?;
            }
        }
    }
    if let Some(file) = lacks(&snapshot) {
        let what = format!("{id}: the download ended without an error, but {file} is missing");
        return Err(hub_error(what, "pull again"));
    }
    note_absent(&absent(&folder, &info.sha), &snapshot, &info);
    let refs = folder.join("refs");
    if !is_commit(id.revision()) {
        write_reference(&refs, id.revision(), &info.sha)?;
    }
    sweep(&blobs);
    [&snapshot, &refs].into_iter().for_each(|folder| sweep_drafts(folder));
    Ok(snapshot)
}

/// A file's name in a URL: every byte that means something else there is written as `%` and its number.
fn encoded(file: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    file.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Notes, as other programs do, which files the repository does not have. A cache that is not told is only asked
/// about again.
fn note_absent(absent: &Path, snapshot: &Path, info: &Info) {
    for file in wanted::noted(snapshot).into_iter().filter(|file| !info.has(file)) {
        let note = absent.join(&file);
        if !note.is_file() {
            _ = note.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&note, ""));
        }
    }
}

/// What the hub says about a revision.
#[derive(Debug, Deserialize)]
struct Info {
    /// The commit.
    #[serde(default)]
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Info {
    fn has(&self, name: &str) -> bool {
        self.siblings.iter().any(|s| s.rfilename == name)
    }

    /// The files of the modules that a snapshot's `modules.json` names.
    fn of_modules(&self, snapshot: &Path) -> Vec<String> {
        let folders = wanted::module_folders(snapshot);
        let names = self.siblings.iter().map(|s| s.rfilename.as_str());
        let of_module = |name: &&str| {
            let (folder, file) = name.split_once('/').unwrap_or_default();
            let read = [".json", ".safetensors", ".txt"].iter().any(|e| file.ends_with(e));
            read && is_plain_file_name(file) && folders.iter().any(|(path, _)| path == folder)
        };
        names.filter(of_module).map(str::to_owned).collect()
    }
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
    let mut info: Info = serde_json::from_slice(&body).map_err(|e| {
        let what = format!("{id}: {} does not answer as a hub does: {e}", client.endpoint());
        hub_error(what, "check HF_ENDPOINT")
    })?;
    if is_commit(id.revision()) {
        // It names itself, and mirrors do not always.
        if is_commit(&info.sha) && info.sha != id.revision() {
            let what = format!("{id}: the hub answers with another commit, {}", info.sha);
            return Err(hub_error(what, "check HF_ENDPOINT").into());
        }
        info.sha = id.revision().to_owned();
    }
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
    files.extend(wanted::beside().filter(|name| has(name)).map(str::to_owned));
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
        (407, _) => {
            let help = "write them into the proxy's address, as http://user:password@host:port";
            (format!("{what}: the proxy asks for a user and a password"), help.into())
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
    Failure::Again { what, wait: wait::asked(answer), progress: false }
}

/// Puts `blob` into a snapshot under the name `file`, one of ours: a relative link where there are links, else a copy.
fn link(blob: &Path, snapshot: &Path, file: &str) -> Result<()> {
    let entry = snapshot.join(file);
    let cannot = |e: io::Error| cannot_write(&entry, &e, None);
    let draft = snapshot.join(format!(".{:016x}.incomplete", RandomState::new().build_hasher().finish()));
    let folders = entry.parent().map_or(Ok(()), fs::create_dir_all);
    let depth = file.matches('/').count();
    let made = folders.and_then(|()| place(blob, &draft, depth)).and_then(|()| fs::rename(&draft, &entry));
    // It is still there after an error, and where both were names of one file already.
    _ = fs::remove_file(&draft);
    match made {
        // Another process may have been faster and hold the file open (Windows).
        Err(_) if entry.metadata().is_ok_and(|m| m.is_file()) => Ok(()),
        made => made.map_err(cannot),
    }
}

/// `depth`: folders between the snapshot and where the link will be. Where a disk has no symbolic links, a second
/// name for the same file, and where it has none of those, a copy.
fn place(blob: &Path, draft: &Path, depth: usize) -> io::Result<()> {
    let linked = symlink(blob, draft, depth).or_else(|_| fs::hard_link(blob, draft));
    linked.or_else(|_| fs::copy(blob, draft).map(|_| ()))
}

#[cfg(unix)]
fn symlink(blob: &Path, draft: &Path, depth: usize) -> io::Result<()> {
    let name = blob.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let blobs = Path::new(&"../".repeat(depth)).join("../../blobs");
    std::os::unix::fs::symlink(blobs.join(name), draft)
}

/// Elsewhere links need a privilege.
#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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
