//! Words with a tag each: JSON lines with the lists `tokens` and `tags`, as data sets of named entities and parts of
//! speech have them.

use std::path::Path;

use serde_json::Value as Json;

use super::lists::{self, both, field};
use crate::error::{Error, Result};

const WORDS: &[&str] = &["tokens", "words"];
const TAGS: &[&str] = &["tags", "ner_tags", "pos_tags"];

/// A sentence: its words, and a tag for each.
pub type Tagged = Vec<(String, String)>;

/// Sentences to train on, and to validate on: of a folder with `train.jsonl` and `validation.jsonl`, else of one file,
/// of which a share `split`, chosen by `seed`, is kept for validation.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, and a record without both lists, of one length.
pub fn read_tagged(path: &Path, split: f64, seed: u64) -> Result<[Vec<Tagged>; 2]> {
    both(path, split, seed, &|path| {
        if !["jsonl", "ndjson"].contains(&lists::extension(path).as_str()) {
            let help =
                "write {\"tokens\": [\"Ann\", \"ran\"], \"tags\": [\"B-PER\", \"O\"]} a line, in a .jsonl";
            return Err(Error::input(
                path.display(),
                "words and tags are lists, which a table has not",
                help,
            ));
        }
        let objects = lists::objects(path)?.into_iter();
        let read = objects.map(|(line, object)| {
            let wrong = |what: String| {
                let help = "each line has the lists tokens and tags, a tag for each token";
                Error::input(path.display(), format!("line {line}: {what}"), help)
            };
            let list = |names: &[&str]| -> Result<Vec<String>> {
                let none = || wrong(format!("there is no list `{}`", names[0]));
                let items = field(&object, names).and_then(Json::as_array).ok_or_else(none)?;
                let text = |item: &Json| match item {
                    Json::String(text) => Ok(text.clone()),
                    // Data sets that number their tags name them elsewhere.
                    Json::Number(number) => Ok(number.to_string()),
                    _ => Err(wrong(format!("`{}` holds what is no text", names[0]))),
                };
                items.iter().map(text).collect()
            };
            let (words, tags) = (list(WORDS)?, list(TAGS)?);
            if words.len() != tags.len() {
                return Err(wrong(format!("{} tokens and {} tags", words.len(), tags.len())));
            }
            Ok(words.into_iter().zip(tags).collect())
        });
        let all: Vec<Tagged> = read.collect::<Result<_>>()?;
        Ok(all.into_iter().filter(|sentence| !sentence.is_empty()).collect())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn lists_of_one_length() {
        let read = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("all.jsonl");
            std::fs::write(&path, text).unwrap();
            read_tagged(&path, 0.5, 1).map(|both| both.concat()).map_err(|e| e.message())
        };
        let two = "{\"tokens\": [\"Ann\", \"ran\"], \"tags\": [\"B-PER\", \"O\"]}\n{\"words\": [\"a\"], \"ner_tags\": [7]}\n";
        let mut got = read(two).unwrap();
        got.sort();
        let word = |word: &str, tag: &str| (word.to_owned(), tag.to_owned());
        assert_eq!(got, [vec![word("Ann", "B-PER"), word("ran", "O")], vec![word("a", "7")]]);
        assert!(
            read("{\"tokens\": [\"a\"], \"tags\": []}").unwrap_err().contains("line 1: 1 tokens and 0 tags")
        );
        assert!(read("{\"tokens\": \"a b\", \"tags\": []}").unwrap_err().contains("no list `tokens`"));
        assert!(read("{\"tokens\": [{}], \"tags\": []}").unwrap_err().contains("no text"));
    }
}
