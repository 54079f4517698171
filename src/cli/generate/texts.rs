//! Floor 6. `vit-gpu generate` with a model that writes: text to standard output as it comes, and to a
//! file at the end.
//!
//! The likeliest token is taken unless a flag asks for chance, as in transformers. Several samples are
//! written after each other, though they are drawn together: the first as it comes.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use serde::Serialize;

use super::{distinct, recipe::random_seed, spare_the_model};
use crate::cli::args::{GenerateArgs, When, first};
use crate::cli::outfile::OutFile;
use crate::cli::output::{DeviceFacts, SCHEMA_VERSION};
use crate::cli::talk::{Talk, printable, say};
use crate::cli::texts::{self, Opened, TextFacts};
use crate::cli::{Outcome, Stop, open};
use crate::error::{Error, Result};
use crate::ops::Sampling;
use crate::session::ModelSource;
use crate::text::{Ended, Piece, TooLong, Writing, WritingStats, Written};

/// Runs the command on a model that writes and yields its exit code.
pub(super) fn run(
    args: &GenerateArgs,
    (id, source): (String, &ModelSource),
    talk: Talk,
    out: &mut impl Write,
) -> Outcome {
    without_pictures(args, &id)?;
    let input = args.write.prompt_file.as_deref().filter(|p| p.as_os_str() != "-");
    let file =
        args.files.output.as_deref().map(|path| Kind::of(path).map(|kind| (path, kind))).transpose()?;
    if let Some((path, _)) = file {
        distinct(&[("-o", path)], &input.into_iter().collect::<Vec<_>>())?;
        spare_the_model(&[Some(path)], open::folder(source))?;
    }
    let prompt = match (&args.write.prompt, &args.write.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(path)) => without_line_end(texts::read(path, "--prompt-file")?),
        (None, None) => {
            let what = format!("{id} writes texts, and there is nothing to begin with");
            return Err(Error::usage(what, "pass --prompt or --prompt-file").into());
        }
    };
    let writing = Writing {
        prompt,
        samples: args.write.samples.unwrap_or(1) as usize,
        first: 0,
        tokens: args.what.count.map(|n| n as usize),
        sampling: sampling(args, talk)?,
        stop: args.write.stop.clone(),
        too_long: if args.write.truncate { TooLong::Cut } else { TooLong::Refuse },
        keep_special: args.write.keep_special,
    };
    let file = file.map(|(path, kind)| Ok::<_, Error>((OutFile::create(path)?, kind))).transpose()?;
    let options = open::options(&args.device, !args.model.no_mmap)?;
    let mut opened = Opened::new(id, source, &options, talk)?;
    let mut page = Page::new(out, writing.samples, file.is_some() && talk.is_quiet());
    let written = opened.session.write(&writing, &mut |piece| page.hear(piece));
    opened.say_warnings();
    let written = page.end(written)?;
    if let Some((file, kind)) = file {
        let bytes = match kind {
            Kind::Plain => plain(&written.texts).into_bytes(),
            Kind::Json => document(&opened, &writing, &written)?,
        };
        file.finish(&bytes)?;
    }
    if args.stats {
        say(&stats(&written));
    }
    Ok(0)
}

/// Refuses flags that are about pictures.
fn without_pictures(args: &GenerateArgs, id: &str) -> Result<()> {
    let (what, how, files) = (&args.what, &args.how, &args.files);
    let flag = first(&[
        ("--class", !what.class.is_empty()),
        ("--prime", what.prime.is_some()),
        ("--again", what.again.is_some()),
        ("--cfg-scale", how.cfg_scale.is_some()),
        ("--cfg-schedule", how.cfg_schedule.is_some()),
        ("--order", how.order.is_some()),
        ("--parallel", how.parallel.is_some()),
        ("--files", files.files),
        ("--columns", files.columns.is_some()),
        ("--zoom", files.zoom.is_some()),
        ("--animate", files.animate.is_some()),
        ("--steps", files.steps.is_some()),
        ("--every", files.every.is_some()),
        ("--entropy", files.entropy.is_some()),
        ("--tokens", files.tokens.is_some()),
        ("--preview", args.preview == When::Always),
    ]);
    let Some(flag) = flag else { return Ok(()) };
    let what = format!("{flag} is for models that draw pictures, and {id} writes texts");
    Err(Error::usage(what, format!("leave {flag} away")))
}

/// Greedy, unless something asks for chance.
fn sampling(args: &GenerateArgs, talk: Talk) -> Result<Sampling> {
    let how = &args.how;
    let chance = how.temperature.is_some() || how.top_k.is_some() || how.top_p.is_some();
    let temperature = how.temperature.unwrap_or(if chance { 1.0 } else { 0.0 });
    if temperature == 0.0 {
        if args.write.samples.is_some_and(|n| n > 1) {
            let what = "all samples would be the same: the likeliest token is taken each time";
            return Err(Error::usage(what, "pass --temperature 1, or --top-k or --top-p"));
        }
        if how.seed.is_some() {
            talk.note("--seed changes nothing: the likeliest token is taken; --temperature 1 draws");
        }
        return Ok(Sampling::greedy());
    }
    let seed = how.seed.unwrap_or_else(random_seed);
    if how.seed.is_none() {
        talk.note(format_args!("seed {seed} (--seed {seed} writes the same again)"));
    }
    let (top_k, top_p) = (how.top_k.unwrap_or(0), how.top_p.unwrap_or(1.0));
    Ok(Sampling { seed, temperature, top_k, top_p, ..Sampling::greedy() })
}

fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// What is written to a file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Json,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        match extension.as_str() {
            "txt" => Ok(Kind::Plain),
            "json" => Ok(Kind::Json),
            // A device or a pipe is told by what it is.
            _ if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) => Ok(Kind::Plain),
            _ => {
                let what = format!("-o {}: texts are written as .txt or .json", path.display());
                Err(Error::usage(what, "name it .txt or .json"))
            }
        }
    }
}

/// Standard output with texts on it, as they come.
struct Page<W: Write> {
    out: W,
    /// Nothing is to be shown.
    silent: bool,
    /// Escape what could steer a terminal.
    tame: bool,
    /// Texts of samples that wait for their turn; the first has none.
    waiting: Vec<String>,
    /// The last character of the sample that is shown ends a line.
    line_ended: bool,
    /// Why nothing more can be shown.
    broken: Option<io::Error>,
}

impl<W: Write> Page<W> {
    fn new(out: W, samples: usize, silent: bool) -> Self {
        let tame = io::stdout().is_terminal();
        Self { out, silent, tame, waiting: vec![String::new(); samples], line_ended: false, broken: None }
    }

    /// Shows new text, if it is its turn. An output that is gone ends the writing.
    fn hear(&mut self, piece: Piece) -> Result<()> {
        if piece.sample > 0 {
            self.waiting[piece.sample].push_str(piece.text);
            return Ok(());
        }
        let heading = self.waiting.len() > 1 && self.waiting[0].is_empty();
        let shown = if heading { self.heading(0) } else { Ok(()) };
        if heading {
            // Only that it has begun.
            self.waiting[0].push(' ');
        }
        shown.and_then(|()| self.show(piece.text)).map_err(|e| {
            self.broken = Some(e);
            Error::Interrupted
        })
    }

    fn heading(&mut self, sample: usize) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        writeln!(self.out, "--- {} of {}", sample + 1, self.waiting.len())
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        if self.silent || text.is_empty() {
            return Ok(());
        }
        self.line_ended = text.ends_with('\n');
        if self.tame {
            for (i, line) in text.split('\n').enumerate() {
                let end = if i > 0 { "\n" } else { "" };
                let parts: Vec<String> = line.split('\t').map(printable).collect();
                write!(self.out, "{end}{}", parts.join("\t"))?;
            }
        } else {
            self.out.write_all(text.as_bytes())?;
        }
        self.out.flush()
    }

    fn line_end(&mut self) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        if !std::mem::take(&mut self.line_ended) {
            writeln!(self.out)?;
        }
        self.out.flush()
    }

    /// Shows the samples that waited.
    fn end(mut self, written: Result<Written>) -> Result<Written, Stop> {
        if let Some(e) = self.broken.take() {
            return Err(Stop::Stdout(e));
        }
        let written = match written {
            Ok(written) => written,
            Err(e) => {
                // What was shown of a text ends its line, so that the message has its own.
                if !self.waiting[0].is_empty() || self.line_ended {
                    _ = self.line_end();
                }
                return Err(e.into());
            }
        };
        if self.waiting.len() > 1 && self.waiting[0].is_empty() {
            self.heading(0)?;
        }
        self.line_end()?;
        for sample in 1..self.waiting.len() {
            self.heading(sample)?;
            let text = std::mem::take(&mut self.waiting[sample]);
            self.show(&text)?;
            self.line_end()?;
        }
        Ok(written)
    }
}

/// Texts as a file for people.
fn plain(texts: &[String]) -> String {
    let mut all = String::new();
    for (i, text) in texts.iter().enumerate() {
        if texts.len() > 1 {
            all += &format!("--- {} of {}\n", i + 1, texts.len());
        }
        all += text;
        if !text.ends_with('\n') {
            all.push('\n');
        }
    }
    all
}

/// What was written and how, as JSON.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    model: &'a TextFacts,
    device: &'a DeviceFacts,
    prompt: &'a str,
    prompt_tokens: usize,
    /// Absent if the likeliest token was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    samples: Vec<Sample<'a>>,
    timing_ms: Timing,
}

#[derive(Serialize)]
struct Sample<'a> {
    sample: usize,
    text: &'a str,
    /// `end token`, `stop` or `length`.
    ended: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a str>,
    ids: &'a [u32],
}

#[derive(Serialize)]
struct Timing {
    first_token: f64,
    prompt: f64,
    decode: f64,
}

fn document(opened: &Opened, writing: &Writing, written: &Written) -> Result<Vec<u8>> {
    let WritingStats { first_token, prompt, decode, .. } = written.stats;
    let millis = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
    let sampling = writing.sampling;
    let all = written.texts.iter().zip(&written.ids).zip(&written.ended).enumerate();
    let samples = all.map(|(sample, ((text, ids), ended))| {
        let (ended, stop) = match ended {
            Ended::EndToken => ("end token", None),
            Ended::Stop(stop) => ("stop", Some(stop.as_str())),
            Ended::Length => ("length", None),
        };
        Sample { sample, text, ended, stop, ids }
    });
    let document = Document {
        schema_version: SCHEMA_VERSION,
        model: &opened.model,
        device: &opened.device,
        prompt: &writing.prompt,
        prompt_tokens: written.stats.prompt_tokens,
        seed: (sampling.temperature > 0.0).then_some(sampling.seed),
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        samples: samples.collect(),
        timing_ms: Timing {
            first_token: millis(first_token),
            prompt: millis(prompt),
            decode: millis(decode),
        },
    };
    let mut bytes = serde_json::to_vec_pretty(&document)
        .map_err(|e| Error::Write { path: "JSON".to_owned(), what: e.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// How fast it was, on one line.
fn stats(written: &Written) -> String {
    let WritingStats { prompt_tokens, first_token, prompt, decode, .. } = written.stats;
    let tokens: usize = written.ids.iter().map(Vec::len).sum();
    // The first token of each sample is the prompt's.
    let after = tokens.saturating_sub(written.ids.len());
    let millis = |d: std::time::Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
    format!(
        "{tokens} tokens; prompt of {prompt_tokens} in {}, first token after {}, then {after} in {}: {:.1} tokens/s",
        millis(prompt),
        millis(first_token),
        millis(decode),
        after as f64 / decode.as_secs_f64().max(1e-9)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn page(samples: usize, pieces: &[(usize, &str)]) -> String {
        let mut out = Vec::new();
        let mut page = Page::new(&mut out, samples, false);
        page.tame = false;
        for &(sample, text) in pieces {
            page.hear(Piece { sample, text }).unwrap();
        }
        let texts = vec![String::new(); samples];
        let stats = WritingStats::default();
        let written = Written { texts, ids: vec![vec![]; samples], ended: vec![], stats };
        assert!(page.end(Ok(written)).is_ok());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn samples_follow_each_other() {
        assert_eq!(page(1, &[(0, "a "), (0, "b")]), "a b\n");
        assert_eq!(page(1, &[(0, "a\n")]), "a\n");
        assert_eq!(page(1, &[]), "\n");
        let two = page(2, &[(0, "a"), (1, "x"), (0, "b\n"), (1, "y")]);
        assert_eq!(two, "--- 1 of 2\nab\n--- 2 of 2\nxy\n");
        assert_eq!(page(2, &[]), "--- 1 of 2\n\n--- 2 of 2\n\n");
        assert_eq!(plain(&["a".into(), "b\n".into()]), "--- 1 of 2\na\n--- 2 of 2\nb\n");
    }

    #[test]
    fn one_line_end_is_left_away() {
        for (text, without) in [("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")] {
            assert_eq!(without_line_end(text.to_owned()), without);
        }
    }

    #[test]
    fn files_by_extension() {
        assert_eq!(Kind::of(Path::new("a.TXT")), Ok(Kind::Plain));
        assert_eq!(Kind::of(Path::new("b/c.json")), Ok(Kind::Json));
        assert!(Kind::of(Path::new("a.png")).is_err() && Kind::of(Path::new("a")).is_err());
    }
}
