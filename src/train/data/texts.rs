//! Lists of texts by class: JSON lines, CSV or TSV with the fields `text`, `label`, and `pair` where there are two
//! texts; `train.*` and `validation.*` in a folder, or one file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::lists;
use crate::error::{Error, Result};
use crate::printable::printable;
use crate::random::Random;

/// Texts with their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSet {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Text, second text, and number of the class.
    pub texts: Vec<(String, Option<String>, u32)>,
}

impl TextSet {
    /// Few digits by classes and texts: other ones for other data.
    pub fn digest(&self) -> String {
        super::digest(&format!("{self:?}"))
    }
}

/// Texts to train on, and to validate on: of a folder with a list for each, else of one list, of which a share
/// `split`, chosen by `seed`, is kept for validation.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, a record that lacks a field, fewer than two classes, and classes
/// that are validated but not trained on.
pub fn read_texts(path: &Path, split: f64, seed: u64) -> Result<[TextSet; 2]> {
    let wrong = |what: String, help: &'static str| Err(Error::input(path.display(), what, help));
    let (train, held_out) = lists::lists(path);
    let mut train = read(&train)?;
    let held_out = match held_out {
        Some(path) => read(&path)?,
        None if split > 0.0 => kept_back(&mut train, split, seed),
        None => vec![],
    };
    let names: BTreeSet<&String> = train.iter().map(|(.., label)| label).collect();
    let classes: Vec<String> = names.into_iter().cloned().collect();
    if classes.len() < 2 {
        let what = format!("{} classes among {} texts", classes.len(), train.len());
        return wrong(what, "there are two or more to tell apart");
    }
    if held_out.is_empty() {
        return wrong("there is nothing to validate on".to_owned(), "keep a share of the texts for it");
    }
    let number = |(text, pair, label): Read| {
        let place = classes.iter().position(|class| *class == label).map(|i| i as u32);
        place.map(|place| (text, pair, place)).ok_or(label)
    };
    let numbered = |texts: Vec<_>| texts.into_iter().map(number).collect::<Result<Vec<_>, String>>();
    let [train, held_out] = match [numbered(train), numbered(held_out)] {
        [Ok(train), Ok(held_out)] => [train, held_out],
        [Err(label), _] | [_, Err(label)] => {
            let what = format!("class `{}` is validated, and not trained on", printable(&label));
            return wrong(what, "both lists have the same classes");
        }
    };
    Ok([train, held_out].map(|texts| TextSet { classes: classes.clone(), texts }))
}

/// Takes a share of each class away, of those that have two texts or more.
fn kept_back(train: &mut Vec<Read>, split: f64, seed: u64) -> Vec<Read> {
    let mut classes: BTreeMap<String, Vec<Read>> = BTreeMap::new();
    train.drain(..).for_each(|text| classes.entry(text.2.clone()).or_default().push(text));
    let mut held_out = Vec::new();
    for (i, mut texts) in classes.into_values().enumerate() {
        Random::of(&[seed, i as u64]).shuffle(&mut texts);
        let count = ((split * texts.len() as f64).round() as usize).max(1).min(texts.len() - 1);
        held_out.extend(texts.drain(..count));
        train.extend(texts);
    }
    held_out
}

/// Text, second text, and class.
type Read = (String, Option<String>, String);

fn read(path: &Path) -> Result<Vec<Read>> {
    let records = lists::records(path, &["text", "label"], &["pair"])?.into_iter().map(|record| {
        let mut fields = record.fields.into_iter();
        let mut field = || fields.next().flatten();
        let (text, label) = (field().unwrap_or_default(), field().unwrap_or_default());
        (text, field(), label)
    });
    Ok(records.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    #[test]
    fn lists_in_a_folder_and_one_that_is_split() {
        let lines =
            "{\"sentence1\": \"a\", \"sentence2\": \"b\", \"label\": 1}\n{\"text\": \"c\", \"label\": 0}\n";
        let data = folder(&[("train.jsonl", lines), ("dev.tsv", "text\tlabel\nd\t1\n")]);
        let [train, val] = read_texts(data.path(), 0.5, 1).unwrap();
        assert_eq!(train.classes, ["0", "1"]);
        assert_eq!(train.texts, [("a".to_owned(), Some("b".to_owned()), 1), ("c".to_owned(), None, 0)]);
        assert_eq!(val.texts, [("d".to_owned(), None, 1)]);
        let rows: String = (0..20).map(|i| format!("t{i},{}\n", ["x", "y"][i % 2])).collect();
        let data = folder(&[("all.csv", &format!("text,class\n{rows}"))]);
        let [train, val] = read_texts(&data.path().join("all.csv"), 0.2, 1).unwrap();
        assert_eq!((train.texts.len(), val.texts.len()), (16, 4));
    }

    #[test]
    fn what_cannot_be_trained_on() {
        let refused =
            |files: &[(&str, &str)]| read_texts(folder(files).path(), 0.1, 1).unwrap_err().message();
        assert!(refused(&[("train.csv", "text,label\na,1\nb,1\n")]).contains("1 classes"));
        assert!(refused(&[("train.csv", "text\na\n")]).contains("no column `label`"));
        let two = ("train.csv", "text,label\na,1\nb,2\nc,1\nd,2\n");
        assert!(refused(&[two, ("val.csv", "text,label\na,3\n")]).contains("class `3` is validated"));
        assert!(refused(&[("val.csv", "text,label\na,3\n")]).contains("not a list of inputs"));
        // An empty list is no wish to split the other.
        assert!(refused(&[two, ("val.csv", "text,label\n")]).contains("nothing to validate on"));
    }
}
