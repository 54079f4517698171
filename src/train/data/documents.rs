//! Running text: plain files, each one document, and lists whose field `text` is a document.

use std::path::Path;

use super::lists::{self, both, filled};
use crate::error::{Error, Result};
use crate::textfile;

/// Documents to train on, and to validate on: of a folder with `train.*` and `validation.*`, else of one file, of
/// which a share `split` is kept for validation: of a list documents that are chosen by `seed`, of a plain file its
/// end.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, and where there is nothing to train or to validate on.
pub fn read_documents(path: &Path, split: f64, seed: u64) -> Result<[Vec<String>; 2]> {
    let (train, held_out) = lists::lists(path);
    if lists::extension(&train) == "txt" && held_out.is_none() {
        let whole = plain(&train)?;
        let (train, rest) = whole.split_at(last_share(&whole, split));
        let some = |part: &str| if part.trim().is_empty() { vec![] } else { vec![part.to_owned()] };
        return filled(path, [some(train), some(rest)]);
    }
    both(path, split, seed, &|path| match lists::extension(path).as_str() {
        "txt" => Ok(vec![plain(path)?]),
        _ => {
            let records = lists::records(path, &["text"], &[])?;
            Ok(records.into_iter().filter_map(|record| record.fields.into_iter().next().flatten()).collect())
        }
    })
}

fn plain(path: &Path) -> Result<String> {
    let wrong = |what: String| {
        Error::input(path.display(), what, "save the file as UTF-8, and check its permissions")
    };
    let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    Ok(textfile::text(&bytes).map_err(wrong)?.into_owned())
}

/// Where the last share of a text begins: at a line if one begins near, else at a word.
fn last_share(text: &str, split: f64) -> usize {
    if split <= 0.0 {
        return text.len();
    }
    let mut at = ((1.0 - split) * text.len() as f64) as usize;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let behind = &text[at..];
    let near = behind.find('\n').filter(|lines| *lines < behind.len() / 2);
    let word = || behind.find(char::is_whitespace).filter(|words| *words < behind.len() / 2);
    at + near.or_else(word).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_plain_file_and_some_of_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let path = at("a.txt", "one two\nthree four\nfive six\nseven ate\n");
        let [train, held_out] = read_documents(&path, 0.4, 1).unwrap();
        assert_eq!((&train[0][..], &held_out[0][..]), ("one two\nthree four\nfive six", "\nseven ate\n"));
        let path = at("b.txt", "ääää öööö");
        let [train, held_out] = read_documents(&path, 0.8, 1).unwrap();
        assert_eq!([train, held_out].concat().concat(), "ääää öööö");
        assert!(read_documents(&path, 0.0, 1).unwrap_err().message().contains("nothing to validate on"));
        let path = at("c.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n");
        let [train, held_out] = read_documents(&path, 0.3, 1).unwrap();
        assert_eq!((train.len(), held_out.len()), (2, 1));
        at("train.txt", "x");
        at("validation.txt", "y");
        let both = read_documents(folder.path(), 0.0, 1).unwrap();
        assert_eq!(both, [vec!["x".to_owned()], vec!["y".to_owned()]]);
    }
}
