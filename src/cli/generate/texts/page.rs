//! Texts on standard output: the first sample as it comes, the others after it.

use crate::printable::escaped;
use std::io::{self, IsTerminal as _, Write};

use crate::cli::outcome::Stop;
use crate::error::{Error, Result};
use crate::text::Piece;

/// Standard output with texts on it, as they come.
pub(super) struct Page<W: Write> {
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
    pub(super) fn new(out: W, samples: usize, silent: bool) -> Self {
        let tame = io::stdout().is_terminal();
        Self { out, silent, tame, waiting: vec![String::new(); samples], line_ended: false, broken: None }
    }

    /// Shows new text, if it is its turn. An output that is gone ends the writing.
    pub(super) fn hear(&mut self, piece: Piece) -> Result<()> {
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
                let parts: Vec<String> = line.split('\t').map(escaped).collect();
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
    pub(super) fn end<T>(mut self, written: Result<T>) -> Result<T, Stop> {
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
pub(super) fn plain(texts: &[&str]) -> String {
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
        assert!(page.end(Ok(())).is_ok());
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
        assert_eq!(plain(&["a", "b\n"]), "--- 1 of 2\na\n--- 2 of 2\nb\n");
    }
}
