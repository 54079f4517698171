//! Texts and what is to be written for them: lists with the fields `source` and `target`. And texts with a number:
//! lists with `text`, `label` and, of two texts, `pair`.

use std::path::Path;

use super::lists::{self, both};
use crate::error::{Error, Result};

/// Sources and targets to train on, and to validate on: of a folder with `train.*` and `validation.*`, else of one
/// file, of which a share `split`, chosen by `seed`, is kept for validation.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, and a record that lacks a field.
pub fn read_pairs(path: &Path, split: f64, seed: u64) -> Result<[Vec<(String, String)>; 2]> {
    both(path, split, seed, &|path| {
        let records = lists::records(path, &["source", "target"], &[])?.into_iter();
        let pair = |fields: Vec<Option<String>>| {
            let mut fields = fields.into_iter().map(Option::unwrap_or_default);
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
        };
        Ok(records.map(|record| pair(record.fields)).collect())
    })
}

/// A text, or two, and the number that is to be told of it.
pub type Rated = (String, Option<String>, f32);

/// Texts with numbers, as [`read_pairs`] reads.
///
/// # Errors
/// As [`read_pairs`]; for a label that is no finite number.
pub fn read_rated(path: &Path, split: f64, seed: u64) -> Result<[Vec<Rated>; 2]> {
    both(path, split, seed, &|path| {
        let records = lists::records(path, &["text", "label"], &["pair"])?.into_iter();
        let rated = records.map(|record| {
            let mut fields = record.fields.into_iter();
            let mut field = || fields.next().flatten();
            let (text, label) = (field().unwrap_or_default(), field().unwrap_or_default());
            let number = label.trim().parse().ok().filter(|number: &f32| number.is_finite());
            let wrong = || {
                let what = format!("line {}: the label `{}` is no number", record.line, label.escape_debug());
                Error::input(
                    path.display(),
                    what,
                    "labels that are no numbers are classes: have the model tell them apart",
                )
            };
            Ok((text, field(), number.ok_or_else(wrong)?))
        });
        rated.collect()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        std::fs::write(&path, "source\ttarget\na\tb\nc\td\n").unwrap();
        let mut all = read_pairs(&path, 0.5, 1).unwrap().concat();
        all.sort();
        assert_eq!(all, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())]);
        std::fs::write(&path, "text\tlabel\na\t1.5\nc\t-2\n").unwrap();
        let numbers: Vec<f32> =
            read_rated(&path, 0.5, 1).unwrap().concat().into_iter().map(|(.., x)| x).collect();
        assert_eq!(numbers.iter().sum::<f32>(), -0.5);
        std::fs::write(&path, "text\tlabel\na\tgood\nc\tNaN\n").unwrap();
        assert!(
            read_rated(&path, 0.5, 1)
                .unwrap_err()
                .message()
                .contains("line 2: the label `good` is no number")
        );
    }
}
