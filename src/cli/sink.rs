//! Where the document of a command goes, and in which format: `--format` and `-o/--output`, alike in every
//! command. Without `-o` it goes to standard output; a file is written whole or not at all, after the work.
//!
//! A name whose extension contradicts what is written is refused before any work.

use std::fmt::Debug;
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::filename;
use super::outcome::Outcome;
use super::outfile::{self, OutFile};
use super::talk::{Talk, beside_the_bar};
use crate::error::{Error, Result};

/// Formats that a command writes. The name of each is also how [`kind_of`] calls its files.
pub(crate) trait Form: ValueEnum + Default + Copy + PartialEq + Debug + Send + Sync + 'static {}

impl<F: ValueEnum + Default + Copy + PartialEq + Debug + Send + Sync + 'static> Form for F {}

#[derive(Debug, Clone, Args)]
pub(crate) struct SinkArgs<F: Form> {
    #[arg(long, value_enum, help = format!("Format of what is written [default: by the extension of -o, else {}]", name(F::default())))]
    pub format: Option<F>,
    /// Write to this file, whole or not at all, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Formats that are not for terminals.
const BINARY: [&str; 2] = ["safetensors", "png"];

/// What the name of a file says of its content: the name of a format, or of a kind that nothing here writes
/// as a document; nothing where the extension is unknown.
fn kind_of(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "txt" | "log" | "dot" => "text",
        "json" => "json",
        "jsonl" | "ndjson" => "jsonl",
        "csv" => "csv",
        "md" | "markdown" => "md",
        "safetensors" => "safetensors",
        "svg" => "svg",
        "png" => "png",
        "jpg" | "jpeg" | "gif" | "webp" | "bmp" | "tif" | "tiff" | "ppm" | "pgm" | "pnm" => "an image",
        "tsv" | "html" | "xml" | "yaml" | "yml" | "toml" | "pdf" | "npy" | "npz" | "bin" | "pt" | "pth"
        | "onnx" | "gguf" | "parquet" | "zip" | "gz" | "tar" => "another format",
        _ => return None,
    })
}

/// Refuses a file for content of one kind if its name says another; `flag` is where it was named.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn expect_kind(path: &Path, flag: &str, kind: &str) -> Result<()> {
    match kind_of(path) {
        Some(found) if found != kind => {
            let what = format!("{flag} {}: {kind} is written, and the name says otherwise", path.display());
            Err(Error::usage(what, format!("name it .{kind}")))
        }
        _ => Ok(()),
    }
}

fn name<F: Form>(format: F) -> String {
    format.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned())
}

fn named<F: Form>(word: &str) -> Option<F> {
    F::value_variants().iter().copied().find(|f| name(*f) == word)
}

/// Files that a command may write, as a hint.
fn choices<F: Form>() -> String {
    let names: Vec<String> = F::value_variants().iter().map(|f| name(*f)).collect();
    let files: Vec<String> =
        names.iter().map(|n| if n == "text" { ".txt".to_owned() } else { format!(".{n}") }).collect();
    format!("name it {}, or pass --format {}", files.join(" or "), names.join("|"))
}

/// The format that is meant, and the file if one is.
///
/// # Errors
/// [`Error::Usage`] for a name or format that does not fit.
pub(crate) fn resolve<F: Form>(args: &SinkArgs<F>, talk: Talk) -> Result<(F, Option<&Path>)> {
    let Some(path) = args.output.as_deref() else {
        let format = args.format.unwrap_or_default();
        let word = name(format);
        if BINARY.contains(&word.as_str()) {
            return Err(Error::usage(
                format!("--format {word} is for files"),
                format!("pass -o FILE.{word}"),
            ));
        }
        return Ok((format, None));
    };
    let old = path.to_str().filter(|word| !BINARY.contains(word));
    if let Some((word, format)) = old.and_then(|word| Some((word, named::<F>(word)?))) {
        if args.format.is_some_and(|f| f != format) {
            let what = format!("-o {word} means --format {word}, and another format is named");
            return Err(Error::usage(what, format!("for a file of this name pass -o ./{word}")));
        }
        talk.note(format_args!("write --format {word} instead of -o {word}: -o will name files only"));
        return Ok((format, None));
    }
    filename::check_name(path)?;
    let shown = path.display();
    let format = match (args.format, kind_of(path)) {
        (Some(format), None) => format,
        (Some(format), Some(kind)) if name(format) == kind => format,
        (Some(format), Some(_)) => {
            let word = name(format);
            let what = format!("-o {shown}: {word} is written, and the name says otherwise");
            return Err(Error::usage(what, "change the name or --format"));
        }
        (None, Some(kind)) => named(kind).ok_or_else(|| {
            let what = format!("-o {shown}: no file of this kind is written here");
            Error::usage(what, choices::<F>())
        })?,
        // A device or a pipe has no kind: /dev/stdout is as standard output.
        (None, None) if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) => F::default(),
        (None, None) => {
            let what = format!("-o {shown}: the name does not say in which format to write");
            return Err(Error::usage(what, choices::<F>()));
        }
    };
    Ok((format, Some(path)))
}

/// Where a command writes its document. What is written for a file is kept until the work is done.
pub(crate) struct Sink<'a, F> {
    pub(crate) format: F,
    out: &'a mut dyn Write,
    path: Option<PathBuf>,
    file: Option<OutFile>,
    bytes: Vec<u8>,
}

/// Runs a command whose document goes where `args` say.
///
/// # Errors
/// As the command; [`Error::Usage`] for a name or format that does not fit, [`Error::Write`].
pub(crate) fn run<F: Form>(
    args: &SinkArgs<F>,
    talk: Talk,
    out: &mut impl Write,
    command: impl FnOnce(&mut Sink<'_, F>) -> Outcome,
) -> Outcome {
    let (format, path) = resolve(args, talk)?;
    let file = path.map(OutFile::create).transpose()?;
    let mut sink = Sink { format, out, path: path.map(Path::to_owned), file, bytes: Vec::new() };
    let code = command(&mut sink)?;
    sink.finish()?;
    Ok(code)
}

impl<F: Form> Sink<'_, F> {
    /// Refuses two outputs in one file, and outputs in place of inputs.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub(crate) fn distinct(&self, others: &[(&str, &Path)]) -> Result<()> {
        let own = self.path.as_deref().map(|path| ("-o", path));
        outfile::distinct(&own.into_iter().chain(others.iter().copied()).collect::<Vec<_>>())
    }

    /// The file, for a command that writes it itself.
    pub(crate) fn take(&mut self) -> Option<(PathBuf, OutFile)> {
        self.path.clone().zip(self.file.take())
    }

    /// Writes the file, if there is one and nobody did.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.file.take().map_or(Ok(()), |file| file.finish(&self.bytes))
    }
}

impl<F> Write for Sink<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.path.is_some() {
            self.bytes.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        beside_the_bar(|| self.out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.path.is_some() { Ok(()) } else { self.out.flush() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cli::args::{Format, TalkArgs};

    fn asked(format: Option<Format>, output: &str) -> Result<(Format, bool), String> {
        let args = SinkArgs { format, output: Some(output.into()) };
        let talk = Talk::new(TalkArgs { quiet: true, verbose: 0 });
        resolve(&args, talk).map(|(format, path)| (format, path.is_some())).map_err(|e| e.to_string())
    }

    #[test]
    fn formats_by_flag_by_name_and_by_the_old_spelling() {
        assert_eq!(asked(None, "a/b.JSON"), Ok((Format::Json, true)));
        assert_eq!(asked(None, "a.txt"), Ok((Format::Text, true)));
        assert_eq!(asked(Some(Format::Csv), "a.csv"), Ok((Format::Csv, true)));
        assert_eq!(asked(Some(Format::Csv), "/dev/stdout"), Ok((Format::Csv, true)));
        assert_eq!(asked(None, "csv"), Ok((Format::Csv, false)));
        assert_eq!(asked(Some(Format::Csv), "csv"), Ok((Format::Csv, false)));
        for (format, output, says) in [
            (Some(Format::Json), "a.csv", "json is written"),
            (Some(Format::Json), "a.gif", "json is written"),
            (Some(Format::Json), "csv", "means --format csv"),
            (None, "a.png", "no file of this kind"),
            (None, "a", "does not say in which format"),
            (None, "-", "`-` is not the name of a file"),
        ] {
            let e = asked(format, output).unwrap_err();
            assert!(e.contains(says), "{output}: {e}");
        }
    }

    #[test]
    fn names_that_contradict_their_content() {
        assert!(expect_kind(Path::new("a.svg"), "--trace", "json").is_err());
        assert!(expect_kind(Path::new("a.JSON"), "--trace", "json").is_ok());
        assert!(expect_kind(Path::new("a.trace"), "--trace", "json").is_ok());
    }

    #[test]
    fn files_are_written_only_after_success() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let args = SinkArgs::<Format> { format: None, output: Some(path.clone()) };
        let talk = Talk::new(TalkArgs { quiet: true, verbose: 0 });
        let mut out = Vec::new();
        let failed = run(&args, talk, &mut out, |sink| {
            sink.write_all(b"half")?;
            Err(Error::Interrupted.into())
        });
        assert!(failed.is_err() && std::fs::read_dir(folder.path()).unwrap().count() == 0);
        let done = run(&args, talk, &mut out, |sink| {
            sink.write_all(b"whole")?;
            Ok(1)
        });
        assert!(matches!(done, Ok(1)) && out.is_empty());
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }
}
