//! Where lists of texts lie, which fields they have, and what of them is kept for validation: `train.*` and
//! `validation.*` in a folder, or one file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::printable::printable;
use crate::random::Random;
use crate::records::{Format, Record, read_records};

/// Names, without extension, of the list to train on, and of those to validate on.
const TRAIN: &[&str] = &["train", "training"];
const HELD_OUT: &[&str] = &["val", "valid", "validation", "dev"];
const EXTENSIONS: &[&str] = &["jsonl", "ndjson", "csv", "tsv", "json", "txt"];
/// Longest line that is looked at for the names of fields, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// What lists of texts hold, by their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// `text` alone, or a plain file: running text.
    Text,
    /// `text` and `label`.
    Labelled,
    /// `question`, `context` and `answers`.
    Questions,
    /// `tokens` and `tags`.
    Tagged,
    /// `source` and `target`.
    Pairs,
    /// `image` and `caption`.
    Captions,
}

impl Fields {
    /// The fields, for messages.
    pub fn named(self) -> &'static str {
        match self {
            Fields::Text => "running text",
            Fields::Labelled => "text and label",
            Fields::Questions => "question, context and answers",
            Fields::Tagged => "tokens and tags",
            Fields::Pairs => "source and target",
            Fields::Captions => "image and caption",
        }
    }
}

/// Names of fields that say what a list holds, the more telling first.
const TELLING: &[(Fields, &[&[&str]])] = &[
    (Fields::Captions, &[&["image", "file_name", "image_path", "filepath"], &["caption", "text", "title"]]),
    (Fields::Tagged, &[&["tokens", "words"], &["tags", "ner_tags", "pos_tags"]]),
    (Fields::Questions, &[&["question"], &["context", "passage", "paragraph"]]),
    (Fields::Pairs, &[&["source"], &["target"]]),
    (Fields::Labelled, &[TEXT, &["label", "class", "gold_label"]]),
    (Fields::Text, &[TEXT]),
];
const TEXT: &[&str] = &["text", "sentence", "sentence1", "premise"];

/// Whether a path is, or holds, lists of texts.
pub fn has_texts(path: &Path) -> bool {
    list(path, TRAIN).is_some() || path.is_file()
}

/// What the list to train on holds, by the fields of its first record.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, and for fields that say nothing.
pub fn fields_of(path: &Path) -> Result<Fields> {
    let (path, _) = lists(path);
    match extension(&path).as_str() {
        "txt" => return Ok(Fields::Text),
        "json" => return Ok(Fields::Questions),
        _ => {}
    }
    let (name, format) = (path.display().to_string(), Format::of(&path.display().to_string())?);
    let mut first = String::new();
    let mut reader = BufReader::new(open(&path)?.take(MAX_LINE));
    while first.trim().is_empty() {
        first.clear();
        let read = reader.read_line(&mut first);
        if read.map_err(|e| Error::input(&name, e.to_string(), "save the file as UTF-8"))? == 0 {
            return Err(Error::input(&name, "the file is empty", "there is nothing to train on"));
        }
    }
    let first = first.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    let cells = |by: char| first.split(by).map(|cell| cell.trim().trim_matches('"').to_lowercase()).collect();
    let names: BTreeSet<String> = match format {
        Format::JsonLines => object(&name, 1, first)?.keys().map(|key| key.to_lowercase()).collect(),
        Format::Csv => cells(','),
        Format::Tsv => cells('\t'),
    };
    let fits = |all: &&[&[&str]]| all.iter().all(|any| any.iter().any(|one| names.contains(*one)));
    let found = TELLING.iter().find(|(_, all)| fits(all));
    found.map(|(fields, _)| *fields).ok_or_else(|| {
        let there: Vec<String> = names.iter().take(12).map(|name| printable(name)).collect();
        let what = format!("its fields ({}) say nothing of what is to be learned", there.join(", "));
        Error::input(
            name,
            what,
            "there are text and label; text; question, context and answers; tokens and tags; source and target",
        )
    })
}

/// The list to train on, and that to validate on if there is one.
pub(super) fn lists(path: &Path) -> (PathBuf, Option<PathBuf>) {
    match list(path, TRAIN) {
        Some(train) => (train, list(path, HELD_OUT)),
        None => (path.to_owned(), None),
    }
}

/// Records to train on, and to validate on: of a list for each, else of one, of which a share `split`, chosen by
/// `seed`, is kept for validation.
///
/// # Errors
/// As `read`; [`Error::Input`] where one of both has none.
pub(super) fn both<T>(
    path: &Path,
    split: f64,
    seed: u64,
    read: &dyn Fn(&Path) -> Result<Vec<T>>,
) -> Result<[Vec<T>; 2]> {
    let (train, held_out) = lists(path);
    let mut train = read(&train)?;
    let held_out = match held_out {
        Some(held_out) => read(&held_out)?,
        None if split > 0.0 && train.len() > 1 => {
            Random::of(&[seed]).shuffle(&mut train);
            let count = ((split * train.len() as f64).round() as usize).clamp(1, train.len() - 1);
            train.drain(..count).collect()
        }
        None => vec![],
    };
    filled(path, [train, held_out])
}

/// Both lists, if there is something in them.
pub(super) fn filled<T>(path: &Path, [train, held_out]: [Vec<T>; 2]) -> Result<[Vec<T>; 2]> {
    if train.is_empty() {
        return Err(Error::input(path.display(), "there is nothing to train on", "add texts to it"));
    }
    if held_out.is_empty() {
        let what = "there is nothing to validate on";
        return Err(Error::input(path.display(), what, "keep a share of the texts for it"));
    }
    Ok([train, held_out])
}

/// The records of a list as text fields.
///
/// # Errors
/// As [`read_records`].
pub(super) fn records(path: &Path, need: &[&str], may: &[&str]) -> Result<Vec<Record>> {
    let name = path.display().to_string();
    let format = Format::of(&name)?;
    read_records(&name, BufReader::new(open(path)?), format, need, may).collect()
}

/// The objects of a file of JSON lines, each with its line.
///
/// # Errors
/// [`Error::Input`] for a line that is no object.
pub(super) fn objects(path: &Path) -> Result<Vec<(usize, Map<String, Json>)>> {
    let name = path.display().to_string();
    let mut all = Vec::new();
    for (i, line) in BufReader::new(open(path)?).lines().enumerate() {
        let line =
            line.map_err(|e| Error::input(&name, format!("line {}: {e}", i + 1), "save the file as UTF-8"))?;
        let line = line.trim_start_matches('\u{feff}').trim();
        if !line.is_empty() {
            all.push((i + 1, object(&name, i + 1, line)?));
        }
    }
    Ok(all)
}

/// A field of an object by any of its names, without regard to case.
pub(super) fn field<'a>(object: &'a Map<String, Json>, names: &[&str]) -> Option<&'a Json> {
    let named = |name: &&str| object.iter().find(|(key, v)| key.eq_ignore_ascii_case(name) && !v.is_null());
    names.iter().find_map(named).map(|(_, value)| value)
}

/// The extension of a file in lower case.
pub(super) fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn object(name: &str, line: usize, text: &str) -> Result<Map<String, Json>> {
    let wrong = |what: String| {
        Error::input(
            name,
            format!("line {line}: {what}"),
            "each line is one JSON object, such as {\"text\": \"…\"}",
        )
    };
    match serde_json::from_str(text) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(wrong("it is not a JSON object".to_owned())),
        Err(e) => Err(wrong(format!("not valid JSON: {e}"))),
    }
}

fn open(path: &Path) -> Result<File> {
    let wrong = |e| {
        Error::input(path.display(), format!("cannot be read: {e}"), "check the path and its permissions")
    };
    File::open(path).map_err(wrong)
}

/// A list of one of these names in a folder.
fn list(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let all =
        names.iter().flat_map(|name| EXTENSIONS.iter().map(move |end| folder.join(format!("{name}.{end}"))));
    all.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn fields_say_what_a_list_holds() {
        let folder = tempfile::tempdir().unwrap();
        let told = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            fields_of(&path).map_err(|e| e.message())
        };
        for (name, text, fields) in [
            ("a.txt", "Once upon a time.", Fields::Text),
            ("a.jsonl", "\n{\"text\": \"a\"}\n", Fields::Text),
            ("b.jsonl", "{\"Text\": \"a\", \"label\": 1}\n", Fields::Labelled),
            ("c.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}", Fields::Tagged),
            ("d.csv", "id,\"Question\",context\n", Fields::Questions),
            ("e.tsv", "source\ttarget\n", Fields::Pairs),
            ("f.tsv", "sentence1\tsentence2\tgold_label\n", Fields::Labelled),
            ("g.json", "{}", Fields::Questions),
        ] {
            assert_eq!(told(name, text), Ok(fields), "{name}");
        }
        assert!(told("h.jsonl", "{\"txt\": 1}").unwrap_err().contains("its fields (txt) say nothing"));
        assert!(told("i.jsonl", "\n").unwrap_err().contains("the file is empty"));
        assert!(told("j.jsonl", "[1]").unwrap_err().contains("not a JSON object"));
    }

    #[test]
    fn a_share_is_kept_back_and_the_rest_is_trained_on() {
        let read = |_: &Path| Ok((0..10).collect::<Vec<u32>>());
        let [train, held_out] = both(Path::new("x.txt"), 0.3, 7, &read).unwrap();
        assert_eq!((train.len(), held_out.len()), (7, 3));
        let mut all = [train.clone(), held_out].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(both(Path::new("x.txt"), 0.3, 7, &read).unwrap()[0], train);
        assert!(both(Path::new("x.txt"), 0.0, 7, &read).unwrap_err().message().contains("validate on"));
    }
}
