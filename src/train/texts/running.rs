//! Running text in tokens, cut into pieces of one length.

use crate::error::{Error, Result};
use crate::text::TextSession;
use crate::tokenizer::Encoding;

/// Bytes of a text that are tokenized at once, or a few more: up to where a line begins.
const AT_ONCE: usize = 64 << 10;

/// Most tokens of a piece, of models and tokenizers that have no limit of their own: T5 was trained on so many.
const USUAL: usize = 512;

/// Tokens of a piece: as many as were asked for, at most what the model takes.
///
/// # Errors
/// [`Error::Usage`] for more than the model takes, or fewer than `least`.
pub(super) fn length(session: &TextSession, asked: Option<usize>, least: usize) -> Result<usize> {
    let limit = session.limit();
    let usual = limit.or(session.tokenizer()?.limit().filter(|limit| *limit < USUAL)).unwrap_or(USUAL);
    let length = asked.unwrap_or(usual);
    if let Some(limit) = limit.filter(|limit| length > *limit) {
        let what = format!("pieces of {length} tokens, and {} takes {limit}", session.name());
        return Err(Error::usage(what, "take shorter ones"));
    }
    if length < least {
        let what = format!("pieces of {length} tokens leave nothing to learn");
        return Err(Error::usage(what, format!("take {least} or more")));
    }
    Ok(length)
}

/// What the tokenizer puts before and behind every text.
pub(super) fn around(session: &TextSession) -> Result<[Vec<u32>; 2]> {
    let Encoding { ids, sequence, .. } = session.tokenizer()?.encode("a")?;
    let first = sequence.iter().position(Option::is_some).unwrap_or(ids.len());
    let last = sequence.iter().rposition(Option::is_some).map_or(ids.len(), |last| last + 1);
    Ok([ids[..first].to_vec(), ids[last..].to_vec()])
}

/// The tokens of documents, joined by the token that ends one.
///
/// # Errors
/// [`Error::Model`] without a tokenizer, and for one of more tokens than the model has.
pub(super) fn joined(session: &TextSession, documents: &[String], end: Option<u32>) -> Result<Vec<u32>> {
    let tokenizer = session.tokenizer()?;
    let mut ids: Vec<u32> = Vec::new();
    for document in documents.iter().filter(|document| !document.trim().is_empty()) {
        if !ids.is_empty() {
            ids.extend(end);
        }
        for part in parts(document, AT_ONCE) {
            ids.extend(tokenizer.encode_plain(part)?.ids);
        }
    }
    let vocabulary = session.info().vocabulary;
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        let what = format!("token {id} of a vocabulary of {vocabulary}");
        return Err(Error::model(session.name(), what, "the tokenizer belongs to another model"));
    }
    Ok(ids)
}

/// Pieces of `length` tokens; the last one may be shorter, and is left out if it has less than `least`.
///
/// # Errors
/// [`Error::Usage`] if there is none, of texts to train on or to validate on.
pub(super) fn pieces(sets: [Vec<u32>; 2], length: usize, least: usize) -> Result<[Vec<Vec<u32>>; 2]> {
    let cut = |ids: Vec<u32>, purpose: &str| {
        let all: Vec<Vec<u32>> =
            ids.chunks(length).filter(|piece| piece.len() >= least).map(<[u32]>::to_vec).collect();
        if all.is_empty() {
            let what = format!("{} tokens are too few to {purpose}", ids.len());
            return Err(Error::usage(what, "bring more text"));
        }
        Ok(all)
    };
    let [training, held_out] = sets;
    Ok([cut(training, "train on")?, cut(held_out, "validate on")?])
}

/// Parts of a text that become the same tokens as the whole does: a line feed before a word parts words in every
/// tokenizer, and belongs to what comes behind it.
fn parts(text: &str, at_once: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let begins = |at: &usize| rest[at + 1..].chars().next().is_some_and(|c| !c.is_whitespace());
        let mut lines = rest.match_indices('\n').map(|(at, _)| at).skip_while(|at| *at < at_once);
        let end = lines.find(begins).unwrap_or(rest.len());
        let (part, others) = rest.split_at(end);
        rest = others;
        Some(part)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::session::ModelSource;
    use crate::train::texts::lesson::reader;

    #[test]
    fn parts_are_the_whole_and_begin_at_lines() {
        let text = "a b\nc\n\n\nd e\n  f\ng";
        assert_eq!(parts(text, 1).collect::<Vec<_>>(), ["a b", "\nc\n\n", "\nd e\n  f", "\ng"]);
        assert_eq!(parts(text, 100).collect::<Vec<_>>(), [text]);
        assert_eq!(parts("", 1).count(), 0);
        for model in ["gpt2-toy", "bert-toy", "t5-toy"] {
            let files = ModelSource::Path(format!("tests/toys/{model}").into()).read(false).unwrap();
            let session = reader(&files).unwrap();
            let text = "Anna has a hat.\n\n\nBen\n  is here.\nThe box\n\n- is red.\n\n";
            let tokenizer = session.tokenizer().unwrap();
            let apart: Vec<u32> =
                parts(text, 1).flat_map(|part| tokenizer.encode_plain(part).unwrap().ids).collect();
            assert_eq!(apart, tokenizer.encode_plain(text).unwrap().ids, "{model}");
        }
    }

    #[test]
    fn documents_are_joined_and_cut() {
        let files = ModelSource::Path("tests/toys/gpt2-toy".into()).read(false).unwrap();
        let session = reader(&files).unwrap();
        let plain = |text: &str| session.tokenizer().unwrap().encode_plain(text).unwrap().ids;
        let documents = ["Anna", " ", "Ben is here."].map(str::to_owned);
        let ids = joined(&session, &documents, Some(514)).unwrap();
        assert_eq!(ids, [plain("Anna"), vec![514], plain("Ben is here.")].concat());
        let [a, b] = pieces([(0..7).collect(), (0..4).collect()], 3, 2).unwrap();
        assert_eq!((a, b), (vec![vec![0, 1, 2], vec![3, 4, 5]], vec![vec![0, 1, 2]]));
        let why = pieces([vec![1, 2], vec![3]], 3, 2).unwrap_err().message();
        assert_eq!(why, "1 tokens are too few to validate on");
        assert!(length(&session, Some(129), 2).unwrap_err().message().contains("takes 128"));
        assert_eq!((length(&session, None, 2).unwrap(), length(&session, Some(7), 2).unwrap()), (128, 7));
    }
}
