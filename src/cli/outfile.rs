//! Files that are there whole or not at all: written beside their place, then renamed.
//! What is unfinished is listed, so that Ctrl-C can remove it before the process ends.
//!
//! Whatever is read is told to [`protect`] and [`protect_model`]: no output, begun before or after, may replace
//! it, nor another output, wherever its name comes from.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::filename::{check_name, is_device_of_windows, plain};
use crate::error::{Error, Result};

/// Drafts to be removed if the process ends early.
static DRAFTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Folders made for output.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What this process reads and writes: canonical paths.
static TOUCHED: Mutex<Touched> =
    Mutex::new(Touched { inputs: BTreeSet::new(), models: BTreeSet::new(), outputs: Vec::new() });

struct Touched {
    inputs: BTreeSet<PathBuf>,
    /// Folders of models.
    models: BTreeSet<PathBuf>,
    outputs: Vec<Output>,
}

struct Output {
    /// As it was named.
    name: PathBuf,
    /// Behind all links.
    place: PathBuf,
    /// Of the file that is replaced, if there is one: where its name lies and, as files of the hub's cache are
    /// links, what lies behind it.
    folders: Vec<PathBuf>,
}

impl Touched {
    /// Refuses an output in place of what is read.
    fn check(&self, output: &Output) -> Result<()> {
        let what = if self.inputs.contains(&output.place) {
            "would replace an input"
        } else if output.folders.iter().any(|folder| self.models.contains(folder)) {
            "would replace a file of the model"
        } else {
            return Ok(());
        };
        Err(refused(&output.name, what))
    }
}

/// Lets no output replace this file, which is read.
///
/// # Errors
/// [`Error::Usage`] if an output was begun in its place.
pub(crate) fn protect(input: &Path) -> Result<()> {
    let Ok(place) = fs::canonicalize(input) else { return Ok(()) };
    guard(|touched| touched.inputs.insert(place))
}

/// Lets no output replace a file of this folder, which holds a model, or of the folder of this file.
///
/// # Errors
/// [`Error::Usage`] if an output was begun in place of one.
pub(crate) fn protect_model(path: &Path) -> Result<()> {
    let folder = if path.is_dir() { path } else { folder_of(path) };
    let Ok(place) = fs::canonicalize(folder) else { return Ok(()) };
    guard(|touched| touched.models.insert(place))
}

fn guard(add: impl FnOnce(&mut Touched) -> bool) -> Result<()> {
    let mut touched = touched();
    add(&mut touched);
    touched.outputs.iter().try_for_each(|output| touched.check(output))
}

fn touched() -> MutexGuard<'static, Touched> {
    TOUCHED.lock().expect("no panic happens while this lock is held")
}

fn refused(path: &Path, what: &str) -> Error {
    Error::usage(format!("{} {what}", plain(path)), "write to another file")
}

/// A file being written.
#[derive(Debug)]
pub(crate) struct OutFile {
    path: PathBuf,
    /// Where the bytes go first; absent for devices and pipes, which are written directly.
    draft: Option<PathBuf>,
    file: File,
}

impl OutFile {
    /// Begins a file that will replace `path`. A link is followed; its folder must exist.
    ///
    /// # Errors
    /// [`Error::Write`] if nothing can be written there; [`Error::Usage`] for `-`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let wrong = |e: std::io::Error| failed(path, &e);
        check_name(path)?;
        if cfg!(windows) && is_device_of_windows(path) {
            let file = File::options().write(true).open(path).map_err(wrong)?;
            return Ok(Self { path: path.to_owned(), draft: None, file });
        }
        let existing = fs::metadata(path).ok();
        if existing.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(wrong(std::io::ErrorKind::IsADirectory.into()));
        }
        if existing.as_ref().is_some_and(|m| !m.is_file()) {
            let file = File::options().write(true).open(path).map_err(wrong)?;
            return Ok(Self { path: path.to_owned(), draft: None, file });
        }
        if existing.as_ref().is_some_and(|m| m.permissions().readonly()) {
            return Err(wrong(std::io::ErrorKind::PermissionDenied.into()));
        }
        if existing.is_some() {
            replaceable(path).map_err(wrong)?;
        }
        let name = path.file_name().ok_or_else(|| wrong(std::io::ErrorKind::InvalidFilename.into()))?;
        let folder = fs::canonicalize(folder_of(path)).map_err(wrong)?;
        let (target, folders) = match existing {
            Some(_) => {
                let target = fs::canonicalize(path).map_err(wrong)?;
                let behind = folder_of(&target).to_owned();
                (target, vec![folder, behind])
            }
            None => (folder.join(name), Vec::new()),
        };
        static DRAFT: AtomicUsize = AtomicUsize::new(0);
        let number = DRAFT.fetch_add(1, Ordering::Relaxed);
        // A name of its own length: one made of the file's might be too long.
        let draft = target.with_file_name(format!(".vit-gpu.{}.{number}.tmp", std::process::id()));
        {
            let output = Output { name: path.to_owned(), place: target.clone(), folders };
            let mut touched = touched();
            touched.check(&output)?;
            if touched.outputs.iter().any(|other| other.place == target) {
                return Err(refused(path, "is written already by the same command"));
            }
            touched.outputs.push(output);
        }
        if let Ok(mut drafts) = DRAFTS.lock() {
            drafts.push(draft.clone());
        }
        match File::create(&draft) {
            Ok(file) => {
                if let Some(existing) = existing {
                    // As private as the file that is replaced; not every file system can.
                    _ = file.set_permissions(existing.permissions());
                }
                Ok(Self { path: target, draft: Some(draft), file })
            }
            Err(e) => {
                forget(&draft);
                release(&target);
                Err(wrong(e))
            }
        }
    }

    /// Whether what was written can be written over: so it is with files, not with devices and pipes.
    pub(crate) fn can_go_back(&self) -> bool {
        self.draft.is_some()
    }

    /// Writes what comes next; the file is not in its place yet.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed(&self.path, &e))
    }

    /// Writes over the beginning; what comes next still goes to the end.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn begin_with(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(bytes));
        let written = written.and_then(|()| self.file.seek(SeekFrom::End(0)));
        written.map(drop).map_err(|e| failed(&self.path, &e))
    }

    /// Writes everything and puts the file in its place.
    ///
    /// # Errors
    /// [`Error::Write`]. What could not be written is removed; what was written and cannot be put in its place
    /// is kept, and the error says where.
    pub(crate) fn finish(mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| match &self.draft {
            Some(_) => self.file.sync_all(),
            None => Ok(()),
        });
        // A reader who has had enough is no failure, as on standard output.
        let written = written.or_else(|e| match e.kind() {
            std::io::ErrorKind::BrokenPipe if self.draft.is_none() => Ok(()),
            _ => Err(e),
        });
        written.map_err(|e| failed(&self.path, &e))?;
        if let Some(draft) = self.draft.take() {
            // The work is done: nothing removes it from here on.
            forget(&draft);
            fs::rename(&draft, &self.path).map_err(|e| match draft.exists() {
                true => {
                    let (path, draft) = (plain(&self.path), plain(&draft));
                    Error::Write {
                        path,
                        what: format!("{e}; what was to be written there is kept in {draft}"),
                    }
                }
                false => failed(&self.path, &e),
            })?;
        }
        Ok(())
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            _ = fs::remove_file(draft);
            forget(draft);
            release(&self.path);
        }
    }
}

/// An output that came to nothing may be begun again.
fn release(target: &Path) {
    if let Ok(mut touched) = TOUCHED.lock() {
        touched.outputs.retain(|output| output.place != target);
    }
}

/// Removes every unfinished file: the process is about to end.
pub(crate) fn remove_drafts() {
    if let Ok(drafts) = DRAFTS.lock() {
        for draft in drafts.iter() {
            _ = if draft.is_dir() { fs::remove_dir_all(draft) } else { fs::remove_file(draft) };
        }
    }
    if let Ok(folders) = FOLDERS.lock() {
        folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// A folder that was made for output: if the process ends early it goes, unless something is in it.
pub(crate) fn remove_if_empty(folder: &Path) {
    if let Ok(mut folders) = FOLDERS.lock() {
        folders.push(folder.to_owned());
    }
}

/// A folder of this process's own making that must not be left behind if the process ends early.
pub(crate) fn remove_at_end(folder: &Path) {
    if let Ok(mut drafts) = DRAFTS.lock() {
        drafts.push(folder.to_owned());
    }
}

/// Whether a file can be replaced: on Windows not while another program has it open.
///
/// # Errors
/// As opening it.
#[cfg(windows)]
fn replaceable(path: &Path) -> std::io::Result<()> {
    use std::os::windows::fs::OpenOptionsExt as _;
    /// DELETE, which a rename over it takes.
    const DELETE: u32 = 0x0001_0000;
    File::options().access_mode(DELETE).open(path).map(drop)
}

/// Whether a file can be replaced: elsewhere than on Windows the folder decides.
///
/// # Errors
/// None.
#[cfg(not(windows))]
#[allow(clippy::unnecessary_wraps, reason = "on Windows it may fail")]
fn replaceable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Refuses two outputs in one file, and outputs in place of inputs.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn distinct(outputs: &[(&str, &Path)]) -> Result<()> {
    let same = |a: &Path, b: &Path| {
        same_file(a, b)
            || matches!((std::path::absolute(a), std::path::absolute(b)), (Ok(a), Ok(b)) if a == b)
    };
    for (i, (flag, path)) in outputs.iter().enumerate() {
        if let Some((other, _)) = outputs[..i].iter().find(|(_, p)| same(p, path)) {
            let what = format!("{other} and {flag} name the same file");
            return Err(Error::usage(what, "write to two files"));
        }
        spare(path)?;
    }
    Ok(())
}

/// Refuses an output in place of an input, before it is begun.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn spare(path: &Path) -> Result<()> {
    match fs::canonicalize(path) {
        Ok(place) if touched().inputs.contains(&place) => Err(refused(path, "would replace an input")),
        _ => Ok(()),
    }
}

/// The folder that a file is named in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths mean the same existing file.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// What is in its place is not removed any more.
pub(crate) fn forget(draft: &Path) {
    if let Ok(mut drafts) = DRAFTS.lock() {
        drafts.retain(|d| d != draft);
    }
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let what = match folder {
        Some(folder) if !folder.exists() => format!("there is no folder {}", folder.display()),
        _ => e.to_string(),
    };
    Error::Write { path: plain(path), what }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let names = || fs::read_dir(folder.path()).unwrap().count();

        drop(OutFile::create(&path).unwrap());
        assert_eq!(names(), 0);
        fs::write(&path, b"one").unwrap();
        OutFile::create(&path).unwrap().finish(b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), names()), (&b"two"[..], 1));
        assert!(OutFile::create(&path).unwrap_err().message().contains("is written already"));
        let long = folder.path().join("x".repeat(255));
        OutFile::create(&long).unwrap().finish(b"long").unwrap();

        let e = OutFile::create(&folder.path().join("no/a.bin")).unwrap_err();
        assert!(e.to_string().contains("there is no folder"), "{e}");
        assert!(OutFile::create(folder.path()).is_err());
    }

    #[test]
    fn a_result_that_cannot_be_put_in_its_place_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let file = OutFile::create(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let message = file.finish(b"work").unwrap_err().message();
        let kept = message.split("is kept in ").nth(1).unwrap();
        assert!(!DRAFTS.lock().unwrap().iter().any(|draft| draft.ends_with(kept)), "Ctrl-C would remove it");
        assert_eq!(fs::read(kept).unwrap(), b"work");
    }

    #[test]
    fn what_is_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("model")).unwrap();
        for name in ["input", "model/config.json", "later"] {
            fs::write(at(name), name).unwrap();
        }
        protect(&at("input")).unwrap();
        protect_model(&at("model")).unwrap();
        let refused = |name: &str| OutFile::create(&at(name)).unwrap_err().message();
        assert!(refused("input").contains("would replace an input"));
        assert!(refused("model/../input").contains("would replace an input"));
        assert!(refused("model/config.json").contains("a file of the model"));
        assert!(distinct(&[("-o", &at("model/../input"))]).is_err());
        assert!(distinct(&[("-o", &at("model/config.json"))]).is_ok());
        OutFile::create(&at("model/new.json")).unwrap().finish(b"new").unwrap();
        let begun = OutFile::create(&at("later")).unwrap();
        assert!(protect(&at("later")).unwrap_err().message().contains("would replace an input"));
        drop(begun);
        assert_eq!(fs::read(at("later")).unwrap(), b"later");
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_stays_private_and_a_protected_one_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, b"old").unwrap();
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set(0o600);
        OutFile::create(&path).unwrap().finish(b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        set(0o444);
        assert!(matches!(OutFile::create(&path), Err(Error::Write { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_written_and_links_followed() {
        let folder = tempfile::tempdir().unwrap();
        OutFile::create(Path::new("/dev/null")).unwrap().finish(b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());

        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        OutFile::create(&link).unwrap().finish(b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(same_file(&file, &link) && !same_file(&file, folder.path()));

        // A snapshot in the hub's cache: its files are links.
        let snapshot = folder.path().join("snapshot");
        fs::create_dir(&snapshot).unwrap();
        std::os::unix::fs::symlink(&file, snapshot.join("config.json")).unwrap();
        protect_model(&snapshot.join("config.json")).unwrap();
        let e = OutFile::create(&snapshot.join("config.json")).unwrap_err().message();
        assert!(e.contains("snapshot/config.json would replace a file of the model"), "{e}");
    }
}
