//! Many inputs from one file: JSON lines, CSV or TSV with named text fields.
//!
//! A field is asked for by one of our names; files that call it otherwise are read too:
//!
//! | name | also |
//! | --- | --- |
//! | `text` | `sentence`, `sentence1`, `premise` |
//! | `pair` | `text_pair`, `sentence2`, `hypothesis` |
//! | `question` | |
//! | `context` | `passage`, `paragraph` |
//! | `prompt` | `input`, `text` |
//! | `label` | `class`, `gold_label`; in JSON it may be a number |
//!
//! Names are compared without regard to ASCII case; of several the first in this order counts.
//! CSV has quotes as RFC 4180 describes them, and a quoted field may span lines, whose ends become
//! single line feeds. TSV has no quotes:
//! GLUE's files contain single quotation marks as text. Empty lines are skipped. Reading is line by
//! line, so that a file may be larger than memory; a record may have 16 MiB.
//!
//! It refuses text that is not UTF-8, a record without a field that is needed, and a field that is
//! not text, each with its line: a record left out in silence would shift all that follow.

use std::io::{BufRead, Read};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::printable::printable;

/// Longest record in bytes.
const MAX_RECORD: usize = 16 << 20;
/// Most columns of a table.
const MAX_COLUMNS: usize = 10_000;
/// Columns or fields that a message lists.
const LISTED: usize = 12;

/// Names by which files call a field, best first.
const ALIASES: &[(&str, &[&str])] = &[
    ("text", &["text", "sentence", "sentence1", "premise"]),
    ("pair", &["pair", "text_pair", "sentence2", "hypothesis"]),
    ("question", &["question"]),
    ("context", &["context", "passage", "paragraph"]),
    ("prompt", &["prompt", "input", "text"]),
    ("label", &["label", "class", "gold_label"]),
    ("image", &["image", "file_name", "image_path", "filepath"]),
    ("caption", &["caption", "text", "title"]),
];

/// How records are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    JsonLines,
    /// Fields between commas, quoted where needed; the first line names them.
    Csv,
    /// Fields between tabs, never quoted; the first line names them.
    Tsv,
}

impl Format {
    /// The format that a file's extension names: `.jsonl` or `.ndjson`, `.csv`, `.tsv`.
    ///
    /// # Errors
    /// [`Error::Input`] for any other.
    pub fn of(name: &str) -> Result<Self> {
        let extension = name.rsplit_once('.').map_or("", |(_, e)| e).to_ascii_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            _ => Err(Error::input(name, "not a list of inputs", "lists end in .jsonl, .csv or .tsv")),
        }
    }
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The line it starts on; the first line of a file is 1.
    pub line: usize,
    /// The fields asked for, in that order: those needed, then those that may be missing.
    pub fields: Vec<Option<String>>,
}

/// The records of a file, one by one; made by [`read_records`].
#[derive(Debug)]
pub struct Records<R> {
    name: String,
    reader: R,
    format: Format,
    /// The names asked for, and whether each is needed.
    wanted: Vec<(String, bool)>,
    /// Names of the columns, and for each wanted field its column.
    header: Option<(Vec<String>, Vec<Option<usize>>)>,
    /// Lines read so far.
    line: usize,
    done: bool,
}

/// Reads records from `reader`. `name` is the file as errors should call it; each record must have
/// the fields `need` and may have the fields `may`.
pub fn read_records<R: BufRead>(
    name: &str,
    reader: R,
    format: Format,
    need: &[&str],
    may: &[&str],
) -> Records<R> {
    let named = |names: &[&str], needed| -> Vec<(String, bool)> {
        names.iter().map(|n| ((*n).to_owned(), needed)).collect()
    };
    let wanted = [named(need, true), named(may, false)].concat();
    Records { name: name.to_owned(), reader, format, wanted, header: None, line: 0, done: false }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let record = match self.format {
            Format::JsonLines => self.object(),
            Format::Csv | Format::Tsv => self.row(),
        };
        self.done = !matches!(record, Ok(Some(_)));
        record.transpose()
    }
}

impl<R: BufRead> Records<R> {
    fn wrong(&self, line: usize, what: &str, help: &str) -> Error {
        Error::input(&self.name, format!("line {line}: {what}"), help)
    }

    /// The next line without its end; `None` after the last.
    fn line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(MAX_RECORD as u64 + 1).read_until(b'\n', &mut bytes);
        read.map_err(|e| self.wrong(self.line + 1, &e.to_string(), ""))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if bytes.len() > MAX_RECORD {
            let what = format!("it is longer than {} MiB", MAX_RECORD >> 20);
            return Err(self.wrong(self.line, &what, "is this a list of inputs?"));
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if self.line == 1 {
            if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
                return Err(self.wrong(1, "this is UTF-16", "save the file as UTF-8"));
            }
            if bytes.starts_with(b"\xef\xbb\xbf") {
                bytes.drain(..3);
            }
        }
        match String::from_utf8(bytes) {
            Ok(line) => Ok(Some(line)),
            Err(e) => {
                let at = e.utf8_error().valid_up_to();
                let what = format!("byte {} (0x{:02x}) is not UTF-8", at + 1, e.as_bytes()[at]);
                Err(self.wrong(self.line, &what, "save the file as UTF-8"))
            }
        }
    }

    fn object(&mut self) -> Result<Option<Record>> {
        let text = loop {
            match self.line()? {
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => break line,
            }
        };
        const ONE: &str = "each line is one JSON object, such as {\"text\": \"…\"}";
        let map = match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => map,
            Ok(_) => return Err(self.wrong(self.line, "it is not a JSON object", ONE)),
            Err(e) => return Err(self.wrong(self.line, &format!("not valid JSON: {e}"), ONE)),
        };
        let mut fields = Vec::with_capacity(self.wanted.len());
        for (name, needed) in &self.wanted {
            let named = |alias: &&str| {
                map.iter().find(|(k, v)| k.eq_ignore_ascii_case(alias) && !v.is_null()).map(|(_, v)| v)
            };
            match aliases(name).iter().find_map(named) {
                Some(Value::String(text)) => fields.push(Some(text.clone())),
                Some(Value::Number(number)) if name == "label" => fields.push(Some(number.to_string())),
                Some(_) => return Err(self.wrong(self.line, &format!("field `{name}` is not text"), ONE)),
                None if *needed => {
                    let there = |alias: &&str| map.keys().find(|key| key.eq_ignore_ascii_case(alias));
                    return Err(match aliases(name).iter().find_map(there) {
                        Some(key) => {
                            self.wrong(self.line, &format!("field `{}` is null", printable(key)), ONE)
                        }
                        None => self.missing(self.line, name, "field", map.keys()),
                    });
                }
                None => fields.push(None),
            }
        }
        Ok(Some(Record { line: self.line, fields }))
    }

    fn row(&mut self) -> Result<Option<Record>> {
        if self.header.is_none() {
            let Some((line, columns)) = self.cells()? else {
                return Err(Error::input(
                    &self.name,
                    "the file is empty",
                    "its first line names the columns",
                ));
            };
            let mut places = Vec::with_capacity(self.wanted.len());
            for (name, needed) in &self.wanted {
                let named = |alias: &&str| columns.iter().position(|c| c.trim().eq_ignore_ascii_case(alias));
                let place = aliases(name).iter().find_map(named);
                if place.is_none() && *needed {
                    return Err(self.missing(line, name, "column", columns.iter()));
                }
                places.push(place);
            }
            self.header = Some((columns, places));
        }
        let Some((line, cells)) = self.cells()? else { return Ok(None) };
        let Some((columns, places)) = &self.header else { unreachable!("read above") };
        let mut fields = Vec::with_capacity(places.len());
        for (place, (_, needed)) in places.iter().zip(&self.wanted) {
            let cell = place.and_then(|at| cells.get(at));
            if let (None, true, Some(at)) = (cell, needed, place) {
                let (column, has) = (printable(&columns[*at]), cells.len());
                let what =
                    format!("it has {has} columns; `{column}` is the {}. of {}", at + 1, columns.len());
                let help = match self.format {
                    Format::Tsv => "columns are separated by single tabs, and quotation marks are text",
                    _ => "columns are separated by commas; text that has commas needs quotation marks",
                };
                return Err(self.wrong(line, &what, help));
            }
            fields.push(cell.cloned());
        }
        Ok(Some(Record { line, fields }))
    }

    /// Cells of the next row that is not empty, and the line it starts on.
    fn cells(&mut self) -> Result<Option<(usize, Vec<String>)>> {
        let text = loop {
            match self.line()? {
                None => return Ok(None),
                Some(line) if line.is_empty() => {}
                Some(line) => break line,
            }
        };
        let line = self.line;
        let cells = match self.format {
            Format::Tsv => text.split('\t').take(MAX_COLUMNS + 1).map(str::to_owned).collect(),
            _ => self.quoted(text)?,
        };
        if cells.len() > MAX_COLUMNS {
            return Err(self.wrong(line, "it has too many columns", "is this a list of inputs?"));
        }
        Ok(Some((line, cells)))
    }

    /// Cells of a CSV row that begins with the line `text`; reads on while a quote is open.
    fn quoted(&mut self, mut text: String) -> Result<Vec<String>> {
        let opened = self.line;
        let mut size = text.len();
        let mut cells = Vec::new();
        let mut cell = String::new();
        // Between quotes; a quote was met between quotes, and either ends them or is doubled.
        let (mut inside, mut closing) = (false, false);
        loop {
            for c in text.chars() {
                match c {
                    '"' if closing => {
                        cell.push('"');
                        closing = false;
                    }
                    '"' if inside => closing = true,
                    '"' if cell.is_empty() => inside = true,
                    ',' if !inside || closing => {
                        cells.push(std::mem::take(&mut cell));
                        (inside, closing) = (false, false);
                        if cells.len() > MAX_COLUMNS {
                            return Ok(cells);
                        }
                    }
                    c => {
                        // Text after a closing quote belongs to the cell, as spreadsheets have it.
                        if closing {
                            (inside, closing) = (false, false);
                        }
                        cell.push(c);
                    }
                }
            }
            if !inside || closing {
                cells.push(cell);
                return Ok(cells);
            }
            let open = |records: &Self| {
                records.wrong(
                    opened,
                    "a quotation mark is never closed",
                    "a mark in quoted text is doubled: \"\"",
                )
            };
            text = self.line()?.ok_or_else(|| open(self))?;
            size += text.len() + 1;
            if size > MAX_RECORD {
                return Err(open(self));
            }
            cell.push('\n');
        }
    }

    fn missing<'a>(
        &self,
        line: usize,
        name: &str,
        kind: &str,
        there: impl ExactSizeIterator<Item = &'a String>,
    ) -> Error {
        let more = there.len().saturating_sub(LISTED);
        let listed: Vec<String> = there.take(LISTED).map(|n| format!("`{}`", printable(n))).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = format!("no {kind} `{name}`; there are {}{more}", listed.join(", "));
        let help = match aliases(name).split_first() {
            Some((_, rest)) if !rest.is_empty() => {
                format!("`{name}` may also be called {}", rest.join(", "))
            }
            _ => String::new(),
        };
        self.wrong(line, &what, &help)
    }
}

/// Names by which a file may call `name`.
fn aliases(name: &str) -> Vec<&str> {
    ALIASES.iter().find(|(n, _)| *n == name).map_or_else(|| vec![name], |(_, all)| all.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, text: &[u8], need: &[&str], may: &[&str]) -> Vec<Result<Record>> {
        read_records("list", text, format, need, may).collect()
    }

    /// Records as their lines and fields; an error as its message.
    fn shown(format: Format, text: &str, need: &[&str], may: &[&str]) -> Vec<String> {
        let show = |r: Result<Record>| match r {
            Ok(r) => {
                let fields: Vec<&str> = r.fields.iter().map(|f| f.as_deref().unwrap_or("-")).collect();
                format!("{}:{}", r.line, fields.join("|"))
            }
            Err(e) => e.message(),
        };
        read(format, text.as_bytes(), need, may).into_iter().map(show).collect()
    }

    #[test]
    fn json_lines() {
        let text = "\u{feff}{\"text\": \"a\\nb\", \"id\": 7}\r\n\n{\"Sentence1\":\"c\",\"hypothesis\":\"d\"}\n{\"text\":\"\"}";
        assert_eq!(shown(Format::JsonLines, text, &["text"], &["pair"]), ["1:a\nb|-", "3:c|d", "4:|-"]);
        for (text, expected) in [
            (
                "{\"text\":\"a\"}\n{\"txt\":\"a\",\"id\":1}",
                "list: line 2: no field `text`; there are `id`, `txt`",
            ),
            ("{\"text\":7}", "list: line 1: field `text` is not text"),
            ("{\"Sentence\":null}", "list: line 1: field `Sentence` is null"),
            ("[\"a\"]", "list: line 1: it is not a JSON object"),
            ("{\"text\":\n\"a\"}", "list: line 1: not valid JSON: EOF"),
        ] {
            let got = shown(Format::JsonLines, text, &["text"], &[]).pop().expect("an error");
            assert!(got.starts_with(expected), "{got}");
        }
        assert_eq!(shown(Format::JsonLines, "", &["text"], &[]), [""; 0]);
    }

    #[test]
    fn csv_with_quotes() {
        let text = "id,Premise,\"hypothesis\"\r\n1,\"a, \"\"b\"\"\",c\r\n\r\n2,\"two\r\nlines\n\",\"\"\r\n3,d\"e,\"f\"g\r\n";
        let got = shown(Format::Csv, text, &["text"], &["pair"]);
        assert_eq!(got, ["2:a, \"b\"|c", "4:two\nlines\n|", "7:d\"e|fg"]);
        for (text, expected) in [
            ("a,b\n1,2\n", "list: line 1: no column `text`; there are `a`, `b`"),
            ("id,text\n1\n", "list: line 2: it has 1 columns; `text` is the 2. of 2"),
            ("id,text\n1,\"open\n\n", "list: line 2: a quotation mark is never closed"),
            ("", "list: the file is empty"),
        ] {
            assert_eq!(shown(Format::Csv, text, &["text"], &[]), [expected]);
        }
        assert_eq!(shown(Format::Csv, "text\n", &["text"], &[]), [""; 0]);
    }

    #[test]
    fn tsv_without_quotes() {
        let text = "index\tsentence1\tsentence2\tgold_label\n0\t\"He said\tno \"\tneutral\n1\ta\tb\n";
        assert_eq!(shown(Format::Tsv, text, &["text", "pair"], &[]), ["2:\"He said|no \"", "3:a|b"]);
        let short = "index\tsentence1\tsentence2\n0\ta\n";
        assert_eq!(
            shown(Format::Tsv, short, &["text", "pair"], &[]),
            ["list: line 2: it has 2 columns; `sentence2` is the 3. of 3"]
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_placed() {
        let got = read(Format::JsonLines, b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n{}", &["text"], &[]);
        assert_eq!(got.len(), 2, "nothing after an error");
        let error = got[1].as_ref().expect_err("not UTF-8").message();
        assert_eq!(error, "list: line 2: byte 10 (0xff) is not UTF-8");
        let error =
            read(Format::Csv, b"\xff\xfet\0e\0", &["text"], &[]).pop().expect("one").expect_err("UTF-16");
        assert_eq!(error.message(), "list: line 1: this is UTF-16");
        let nul = read(Format::Tsv, b"text\na\0b\n", &["text"], &[]).pop().expect("one").expect("text");
        assert_eq!(nul.fields, [Some("a\0b".to_owned())]);
    }

    #[test]
    fn records_are_bounded() {
        let long = [b"text\n".to_vec(), vec![b'a'; MAX_RECORD + 1]].concat();
        let error = read(Format::Tsv, &long, &["text"], &[]).pop().expect("one").expect_err("too long");
        assert_eq!(error.message(), "list: line 2: it is longer than 16 MiB");
        let open = [b"text\n\"".to_vec(), [vec![b'a'; 1 << 20], vec![b'\n']].concat().repeat(17)].concat();
        let error = read(Format::Csv, &open, &["text"], &[]).pop().expect("one").expect_err("never closed");
        assert!(error.to_string().contains("line 2: a quotation mark is never closed"), "{error}");
    }

    #[test]
    fn the_extension_names_the_format() {
        assert_eq!(Format::of("a/b.JSONL"), Ok(Format::JsonLines));
        assert_eq!(Format::of("b.csv"), Ok(Format::Csv));
        assert_eq!(Format::of("dev_matched.tsv"), Ok(Format::Tsv));
        assert!(Format::of("b.txt").is_err() && Format::of("csv").is_err());
    }
}
