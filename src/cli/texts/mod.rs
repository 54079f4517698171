//! What commands on texts share: opening a text model, reading texts from flags, files and
//! standard input, and one message where a model is of another kind than the flags.
//!
//! Nothing but regular files and standard input is read, and only so much of either; what is not UTF-8
//! is refused with its place.

pub(super) mod args;
use crate::printable::escaped;
use std::fs::File;
use std::io::{BufReader, IsTerminal as _, Read};
use std::path::Path;

use serde::Serialize;

use super::args::ModelArgs;
use super::locate::{Found, chosen, locate};
use super::open::{device_facts, say_device};
use super::output::DeviceFacts;
use super::talk::Talk;
use crate::dual::DualEncoder;
use crate::error::{Advice, Error, Result};
use crate::labels::Scoring;
use crate::records::{Format, Record, read_records};
use crate::session::{ModelKind, Options};
use crate::text::{TextInfo, TextSession};

/// Texts computed at a time where nothing is said.
pub(super) const BATCH: u32 = 64;

/// The next so many items, fewer at the end, and what ended them if it was an error.
pub(super) fn chunk<T>(items: &mut dyn Iterator<Item = Result<T>>, most: usize) -> (Vec<T>, Option<Error>) {
    let mut chunk = Vec::new();
    for item in items.take(most) {
        match item {
            Ok(item) => chunk.push(item),
            Err(e) => return (chunk, Some(e)),
        }
    }
    (chunk, None)
}

/// Most bytes of a file that is one text.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Characters of a text that a line for people shows.
const SHOWN: usize = 100;

/// A text session and what it was asked for by.
pub(super) struct Opened {
    pub(super) session: TextSession,
    pub(super) model: TextFacts,
    pub(super) device: DeviceFacts,
    talk: Talk,
    /// Warnings that were said already.
    said: usize,
}

/// The model, as JSON describes it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TextFacts {
    id: String,
    family: &'static str,
    architecture: String,
    classes: Option<usize>,
    /// What the numbers of its classes say.
    #[serde(skip_serializing_if = "Option::is_none")]
    scoring: Option<Scoring>,
    vocabulary: usize,
    /// Tokens of the longest text it takes.
    limit: Option<usize>,
    parameters: u64,
    dtype: String,
}

impl TextFacts {
    /// What the user called it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn new(id: String, session: &TextSession) -> Self {
        let info: &TextInfo = session.info();
        Self {
            id,
            family: info.family,
            architecture: info.architecture.clone(),
            classes: info.classes,
            scoring: info.classes.map(|_| session.labels().scoring),
            vocabulary: info.vocabulary,
            limit: session.limit(),
            parameters: info.parameters,
            dtype: session.precision().to_string(),
        }
    }
}

impl Opened {
    /// Opens a text model, or a text tower, and says what the user did not choose.
    ///
    /// # Errors
    /// As [`TextSession::from_files`] and [`DualEncoder::from_files`].
    pub(super) fn new(found: Found, options: &Options, talk: Talk) -> Result<Self> {
        let session = match found.files.has_words() {
            true => DualEncoder::from_files(found.files, options)?.into_texts(),
            false => TextSession::from_files(found.files, options)?,
        };
        say_device(session.device(), talk);
        let (model, device) = (TextFacts::new(found.id, &session), device_facts(session.device()));
        let mut opened = Self { session, model, device, talk, said: 0 };
        opened.say_warnings();
        Ok(opened)
    }

    /// Takes no texts of more tokens than this.
    pub(super) fn shorten(&mut self, longest: usize) {
        self.session.shorten(longest);
        self.model.limit = self.session.limit();
    }

    /// Weights are looked at when they are loaded, so warnings may come with the first batch.
    pub(super) fn say_warnings(&mut self) {
        let warnings = self.session.warnings();
        for warning in warnings.iter().skip(self.said) {
            self.talk.warn(escaped(warning));
        }
        self.said = warnings.len();
    }
}

/// The text model that flags for texts ask for.
///
/// # Errors
/// [`Error::Usage`] if none is named, or one of another kind; as [`locate`], and as reading its files.
pub(super) fn find(model: &ModelArgs, flag: &str, talk: Talk) -> Result<Found> {
    let found = named(model, flag, talk)?;
    of_texts(found, flag)
}

/// As [`find`], and a model that brings images and texts into one space, too.
///
/// # Errors
/// As [`find`].
pub(super) fn find_words(model: &ModelArgs, flag: &str, talk: Talk) -> Result<Found> {
    let found = named(model, flag, talk)?;
    if found.files.has_words() { Ok(found) } else { of_texts(found, flag) }
}

fn named(model: &ModelArgs, flag: &str, talk: Talk) -> Result<Found> {
    if chosen(model)?.is_none() {
        let what = format!("{flag} is for models that read texts, and none is built in");
        return Err(Error::usage(what, "pass -m FOLDER, or the name of a BERT, GPT-2 or T5 on the hub"));
    }
    locate(model, talk)?.read(!model.no_mmap)
}

fn of_texts(found: Found, flag: &str) -> Result<Found> {
    let kind = match found.files.kind() {
        // Of a model that is unknown, opening it says more.
        None | Some(ModelKind::Text) => return Ok(found),
        Some(ModelKind::Generator) => "generates images",
        Some(ModelKind::Vision) => "looks at images",
    };
    Err(Error::usage(
        format!("{flag} is for models that read texts, and {} {kind}", found.id),
        format!("leave {flag} away, or pass -m with a BERT, GPT-2 or T5"),
    ))
}

/// Refuses a flag for images with a text model.
///
/// # Errors
/// [`Error::Usage`] naming the flag, if there is one.
pub(super) fn without(flag: Option<&str>, id: &str) -> Result<()> {
    let Some(flag) = flag else { return Ok(()) };
    let what = format!("{flag} is for models of images, and {id} reads texts");
    Err(Error::usage(what, format!("leave {flag} away")))
}

/// Records of a file by its extension, or of JSON lines on standard input.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read or is none, [`Error::Usage`] for a terminal.
pub(super) fn records(
    path: &Path,
    need: &[&str],
    may: &[&str],
) -> Result<Box<dyn Iterator<Item = Result<Record>>>> {
    if path.as_os_str() == "-" {
        not_a_terminal("--input -")?;
        let stdin = BufReader::new(std::io::stdin());
        return Ok(Box::new(read_records("-", stdin, Format::JsonLines, need, may)));
    }
    let name = path.display().to_string();
    let format = Format::of(&name)?;
    let file = BufReader::new(regular(path)?);
    Ok(Box::new(read_records(&name, file, format, need, may)))
}

/// The text of a whole file, or of standard input; a mark of byte order at its beginning is omitted.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, is too long, or is not UTF-8.
pub(super) fn read(path: &Path, flag: &str) -> Result<String> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        not_a_terminal(&format!("{flag} -"))?;
        std::io::stdin().take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)
    } else {
        regular(path)?.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)
    };
    read.map_err(|e| Error::input(&name, format!("cannot be read: {e}"), ""))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let what = format!("it is longer than {} MiB", MAX_TEXT_BYTES >> 20);
        return Err(Error::input(name, what, "no model reads a text of this length"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let what = format!("byte {} (0x{:02x}) is not UTF-8", at + 1, e.as_bytes()[at]);
        Error::input(name, what, "save the file as UTF-8")
    })
}

fn not_a_terminal(what: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let what = format!("`{what}` reads standard input, which is a terminal");
    Err(Error::usage(what, "pipe something in, or name a file"))
}

fn regular(path: &Path) -> Result<File> {
    let wrong = |e: std::io::Error| Error::input(path.display(), format!("cannot be read: {e}"), "");
    if !std::fs::metadata(path).map_err(wrong)?.is_file() {
        return Err(wrong(std::io::Error::other("it is not a regular file")));
    }
    super::outfile::protect(path)?;
    File::open(path).map_err(wrong)
}

/// A text on one line of bounded length.
pub(super) fn shown(text: &str) -> String {
    let mut characters = text.char_indices();
    match characters.nth(SHOWN) {
        Some((end, _)) => format!("{}…", escaped(&text[..end])),
        None => escaped(text),
    }
}

/// Answers of some texts at once, each or its error: those that `check` refuses are left out, and where the
/// rest fails because of one of them, each is tried alone.
///
/// # Errors
/// What is not about one text.
pub(super) fn each<I, A>(
    items: &[I],
    check: &dyn Fn(&I) -> Result<()>,
    ask: &dyn Fn(&[&I]) -> Result<Vec<A>>,
) -> Result<Vec<Result<A>>> {
    let mut answers: Vec<Option<Result<A>>> = Vec::new();
    let mut good = Vec::new();
    for item in items {
        match check(item) {
            Ok(()) => {
                good.push(item);
                answers.push(None);
            }
            Err(e) if of_one_text(&e) => answers.push(Some(Err(e))),
            Err(e) => return Err(e),
        }
    }
    let made: Vec<Result<A>> = match ask(&good) {
        Ok(made) => made.into_iter().map(Ok).collect(),
        Err(e) if of_one_text(&e) => good.iter().map(|item| ask(&[item]).map(|mut a| a.remove(0))).collect(),
        Err(e) => return Err(e),
    };
    let mut made = made.into_iter();
    Ok(answers.into_iter().filter_map(|known| known.or_else(|| made.next())).collect())
}

/// Whether an error is about one text, so that the next may work.
fn of_one_text(e: &Error) -> bool {
    matches!(e, Error::Usage { .. } | Error::Input { .. } | Error::NonFinite { .. })
}

/// An error about the text of a line.
pub(super) fn on_line(e: &Error, file: &Path, line: usize) -> Error {
    let (what, help) = match e {
        Error::Usage { what, help } | Error::Input { what, help, .. } => (what.clone(), help.clone()),
        other => (other.message(), Advice::Nothing),
    };
    match e {
        Error::NonFinite { count, total, .. } => {
            let what = format!("scores for {}: line {line}", file.display());
            Error::NonFinite { what, count: *count, total: *total }
        }
        _ => Error::input(file.display(), format!("line {line}: {what}"), help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_in_part() {
        assert_eq!(shown("a\nb"), "a\\nb");
        let long = "ä".repeat(SHOWN);
        assert_eq!(shown(&long), long);
        assert_eq!(shown(&format!("{long}x")), format!("{long}…"));
    }
}
