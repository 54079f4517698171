//! From what was typed to a list of images: files, directories, globs, lists, standard
//! input. No image is opened here, and nothing but regular files is ever offered for opening, so a
//! FIFO cannot hang a run over a directory. What is skipped is said; what was named and cannot
//! be used stays in the list as a failure, so that results keep the order of the inputs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use super::natural::natural;
use super::outfile;
use crate::error::{Error, Result};
use crate::image::EXTENSIONS;
use crate::textfile;

/// Extensions of images that are not read: what is skipped is said.
const UNREAD: [&str; 12] =
    ["heic", "heif", "avif", "svg", "jp2", "j2k", "jpx", "jxl", "psd", "dng", "cr2", "nef"];

/// Most bytes taken from standard input as one image.
const MAX_STDIN_BYTES: u64 = 256 << 20;

/// Most bytes of an `@list`.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Directories below each other; a guard behind the check for loops.
const MAX_DEPTH: usize = 128;

/// One thing to classify.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// One image on standard input.
    Stdin,
    /// A file, which may turn out not to exist or not to be an image.
    File(PathBuf),
    /// Something named that yields no images; the error names it.
    Failed(Error),
}

impl Input {
    /// How results and messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Input::Stdin => "-".to_owned(),
            Input::File(path) => path.to_string_lossy().into_owned(),
            Input::Failed(Error::Input { input, .. }) => input.clone(),
            Input::Failed(e) => e.message(),
        }
    }

    /// Its path, if it is a file.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Input::File(path) => Some(path),
            _ => None,
        }
    }
}

/// Whether a text is the address of something elsewhere, as `https://…` and `s3://…`.
fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.len() > 1 && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
        || text.starts_with("data:image/")
}

/// What the command line's inputs come to.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// In the order to be answered.
    pub(crate) list: Vec<Input>,
    /// What was skipped, a sentence each.
    pub(crate) skipped: Vec<String>,
}

/// Expands the arguments.
///
/// # Errors
/// [`Error::Usage`] if there are none, or standard input is named twice or is a terminal.
pub(crate) fn expand(arguments: &[OsString], recursive: bool) -> Result<Inputs> {
    if arguments.is_empty() {
        return Err(Error::usage(
            "no input",
            "name images, directories, 'globs' or @lists, or - for standard input",
        ));
    }
    let mut stdin = arguments.iter().filter(|a| *a == "-" || *a == "@-");
    if let Some(first) = stdin.next() {
        if stdin.next().is_some() {
            return Err(Error::usage(
                "standard input is named twice",
                "it can be read once: pass one - or @-",
            ));
        }
        if std::io::stdin().is_terminal() {
            let what = format!("`{}` reads standard input, which is a terminal", first.display());
            return Err(Error::usage(what, "pipe an image in: `vit-gpu infer - < image.png`"));
        }
    }
    let mut inputs = Inputs::default();
    for argument in arguments {
        inputs.add(argument, recursive);
        if let Some(list) = argument.to_str().and_then(|text| text.strip_prefix('@')) {
            outfile::protect(Path::new(list))?;
        }
    }
    for file in inputs.list.iter().filter_map(Input::file) {
        outfile::protect(file)?;
    }
    Ok(inputs)
}

impl Inputs {
    fn add(&mut self, argument: &OsStr, recursive: bool) {
        if argument == "-" {
            self.list.push(Input::Stdin);
            return;
        }
        let path = Path::new(argument);
        if path.symlink_metadata().is_ok() {
            return self.add_path(path, recursive);
        }
        match argument.to_str() {
            Some(text) if is_address(text) => self.add_address(text),
            Some(text) if text.starts_with('@') => self.add_list(text, recursive),
            Some(text) if text.contains(['*', '?', '[']) => self.add_glob(text),
            _ => self.list.push(Input::File(path.to_owned())),
        }
    }

    /// A file as it is, a directory's images.
    fn add_path(&mut self, path: &Path, recursive: bool) {
        if !path.is_dir() {
            self.list.push(Input::File(path.to_owned()));
            return;
        }
        let mut found = Vec::new();
        let mut walk = Walk {
            recursive,
            seen: HashSet::new(),
            found: &mut found,
            skipped: &mut self.skipped,
            unread: BTreeMap::new(),
        };
        let walked = walk.directory(path, 0);
        let unread = std::mem::take(&mut walk.unread);
        if !unread.is_empty() {
            let counts: Vec<String> = unread.iter().map(|(kind, n)| format!("{n} .{kind}")).collect();
            let counts = counts.join(", ");
            let what = format!("{}: images of formats that are not read were skipped", path.display());
            self.skipped.push(format!("{what} ({counts}); convert them to PNG or JPEG"));
        }
        if let Err(e) = walked {
            self.fail(path.display(), format!("cannot be listed: {e}"), "check the directory's permissions");
            return;
        }
        if found.is_empty() {
            let help = if recursive { "" } else { "images in subdirectories are taken with -r" };
            let what = format!("no images in this directory (looked for .{})", EXTENSIONS.join(", ."));
            self.fail(path.display(), what, help);
            return;
        }
        self.list.extend(found.into_iter().map(Input::File));
    }

    fn add_glob(&mut self, pattern: &str) {
        let options =
            glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
        let matches = match glob::glob_with(pattern, options) {
            Ok(matches) => matches,
            Err(e) => return self.fail(pattern, format!("is not a file, and not a pattern: {e}"), ""),
        };
        let mut found = Vec::new();
        for entry in matches {
            match entry {
                Ok(path) if path.is_file() => found.push(path),
                Ok(_) => {}
                Err(e) => self.skipped.push(format!("skipped {}: {}", e.path().display(), e.error())),
            }
        }
        if found.is_empty() {
            return self.fail(pattern, "no file matches this pattern", "check the path; ** descends");
        }
        found.sort_by(|a, b| natural(a.as_os_str(), b.as_os_str()));
        self.list.extend(found.into_iter().map(Input::File));
    }

    fn add_list(&mut self, argument: &str, recursive: bool) {
        let name = &argument[1..];
        let read = || {
            let mut bytes = Vec::new();
            if name == "-" {
                std::io::stdin().take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes)?;
                return Ok(bytes);
            }
            if !fs::metadata(name)?.is_file() {
                return Err(std::io::Error::other("it is not a regular file"));
            }
            fs::File::open(name)?.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) if bytes.len() as u64 > MAX_LIST_BYTES => {
                return self.fail(
                    argument,
                    format!("the list is longer than {MAX_LIST_BYTES} bytes"),
                    "split it",
                );
            }
            Ok(bytes) => bytes,
            Err(e) => {
                return self.fail(
                    argument,
                    format!("the list cannot be read: {e}"),
                    "@NAME reads the file NAME",
                );
            }
        };
        let before = self.list.len();
        let bytes = match encoded(&bytes) {
            Ok(bytes) => bytes,
            Err(what) => return self.fail(argument, what, "write the list as UTF-8"),
        };
        for entry in list_entries(&bytes) {
            match entry {
                Ok(path) => match path.to_str() {
                    Some(text) if is_address(text) => self.add_address(text),
                    _ => self.add_path(&path, recursive),
                },
                Err(line) => {
                    self.fail(argument, format!("line {line} is not text in this system's encoding"), "")
                }
            }
        }
        if self.list.len() == before {
            self.fail(argument, "the list is empty", "it should name a file on each line");
        }
    }

    fn add_address(&mut self, address: &str) {
        let help = "download it and pass the file, or pipe it in: `curl -L URL | vit-gpu infer -`";
        self.fail(address, "it is an address, and addresses are not fetched", help);
    }

    fn fail(&mut self, input: impl std::fmt::Display, what: impl Into<String>, help: &str) {
        self.list.push(Input::Failed(Error::input(input, what, help)));
    }
}

/// A directory being searched.
struct Walk<'a> {
    recursive: bool,
    /// Directories entered, by their real paths: a link back to one of them is a loop.
    seen: HashSet<PathBuf>,
    found: &'a mut Vec<PathBuf>,
    skipped: &'a mut Vec<String>,
    /// How many files there are of each of [`UNREAD`].
    unread: BTreeMap<&'static str, usize>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, depth: usize) -> std::io::Result<()> {
        if let Ok(real) = fs::canonicalize(directory)
            && !self.seen.insert(real)
        {
            self.skip(directory, "it was visited already (a link back to it)");
            return Ok(());
        }
        let mut names =
            fs::read_dir(directory)?.map(|e| Ok(e?.file_name())).collect::<std::io::Result<Vec<_>>>()?;
        names.sort_by(|a, b| natural(a, b));
        let mut directories = Vec::new();
        for name in names {
            let path = directory.join(&name);
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let extension = Path::new(&name).extension();
            let among = |list: &[&'static str]| {
                extension.and_then(|e| list.iter().copied().find(|known| e.eq_ignore_ascii_case(known)))
            };
            let image = among(&EXTENSIONS).is_some();
            match fs::metadata(&path) {
                Ok(m) if m.is_dir() => directories.push(path),
                Ok(m) if m.is_file() && image => self.found.push(path),
                Ok(m) if m.is_file() => {
                    if let Some(kind) = among(&UNREAD) {
                        *self.unread.entry(kind).or_default() += 1;
                    }
                }
                Ok(_) if image => self.skip(&path, "it is not a regular file"),
                Ok(_) => {}
                Err(e) if image || path.is_symlink() => self.skip(&path, &format!("{e}")),
                Err(_) => {}
            }
        }
        if !self.recursive {
            return Ok(());
        }
        for path in directories {
            if depth == MAX_DEPTH {
                self.skip(&path, "it lies too deep");
            } else if let Err(e) = self.directory(&path, depth + 1) {
                self.skip(&path, &format!("cannot be listed: {e}"));
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, why: &str) {
        self.skipped.push(format!("skipped {}: {why}", path.display()));
    }
}

/// The bytes of the one image on standard input.
///
/// # Errors
/// [`Error::Input`] if there are too many, or reading fails.
pub(crate) fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_STDIN_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::input("-", format!("standard input cannot be read: {e}"), ""))?;
    if bytes.len() as u64 > MAX_STDIN_BYTES {
        let what = format!("more than {MAX_STDIN_BYTES} bytes on standard input");
        return Err(Error::input("-", what, "write it to a file and pass that"));
    }
    Ok(bytes)
}

/// The bytes of a list as this system's programs write them: a byte order mark is taken away, and what is in
/// UTF-16 (as PowerShell writes it) becomes UTF-8.
///
/// # Errors
/// What is wrong, for a message.
fn encoded(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            textfile::text(bytes).map(|text| Cow::Owned(text.into_owned().into_bytes()))
        }
        // Names need not be UTF-8 everywhere.
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(Cow::Borrowed(rest)),
        _ => Ok(Cow::Borrowed(bytes)),
    }
}

/// Paths of a list: NUL-separated if there is a NUL, else a line each; empty ones are left out.
fn list_entries(bytes: &[u8]) -> impl Iterator<Item = Result<PathBuf, usize>> {
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    let entries = bytes.split(move |b| *b == separator).enumerate();
    entries.filter_map(move |(i, entry)| {
        let entry = if separator == b'\n' { entry.strip_suffix(b"\r").unwrap_or(entry) } else { entry };
        (!entry.is_empty()).then(|| path_from(entry).ok_or(i + 1))
    })
}

#[cfg(unix)]
fn path_from(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path_from(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_by_line_or_nul() {
        let paths = |bytes: &[u8]| {
            list_entries(bytes).map(|p| p.map(|p| p.display().to_string())).collect::<Vec<_>>()
        };
        assert_eq!(paths(b"a.png\r\n\nb c.png"), [Ok("a.png".into()), Ok("b c.png".into())]);
        assert_eq!(paths(b"a\nb\0c\0"), [Ok("a\nb".into()), Ok("c".into())]);
        assert!(paths(b"").is_empty());
    }

    #[test]
    fn lists_of_other_systems() {
        let paths = |bytes: &[u8]| {
            let bytes = encoded(bytes).expect("readable");
            list_entries(&bytes).map(|p| p.map(|p| p.display().to_string())).collect::<Vec<_>>()
        };
        let names = "a \u{e9}.png\r\nb.png\r\n";
        let units = "\u{feff}".encode_utf16().chain(names.encode_utf16());
        let wide: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        let marked = [b"\xef\xbb\xbf", names.as_bytes()].concat();
        for bytes in [wide, marked, names.as_bytes().to_vec()] {
            assert_eq!(paths(&bytes), [Ok("a \u{e9}.png".into()), Ok("b.png".into())]);
        }
        assert!(encoded(&[0xff, 0xfe, 0, 0xd8]).is_err());
    }

    #[test]
    fn nothing_and_twice_standard_input() {
        assert!(matches!(expand(&[], false), Err(Error::Usage { .. })));
        assert!(matches!(expand(&["-".into(), "@-".into()], false), Err(Error::Usage { .. })));
    }
}
