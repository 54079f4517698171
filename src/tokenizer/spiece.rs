//! A SentencePiece model (`spiece.model`) in the form of `tokenizer.json`.
//!
//! The file is a protocol buffer; the few fields that say how text becomes pieces are read, the
//! rest (how it was trained) is stepped over. Only unigram models that treat spaces as T5 does are
//! taken: a space before each word, runs of spaces as one, no pieces for single bytes.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::disk;
use super::template::{piece, specials, text_piece};
use crate::error::{Error, Result};

/// What to do about a model that is not taken.
const CONVERT: &str = "write a tokenizer.json in Python: \
     `transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)`";

/// Kinds of pieces: marks such as `</s>`, and symbols that are never cut up.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const BYTE: u64 = 6;
/// The kind of model that takes the likeliest pieces.
const UNIGRAM: u64 = 1;

/// Reads the model at `path` and appends `sentinels` to its pieces.
pub(super) fn read(path: &Path, sentinels: &[String]) -> Result<Value> {
    let bytes = disk::bytes(path)?;
    let bytes = bytes.ok_or_else(|| Error::model(path.display(), "no such file", CONVERT))?;
    let model = Model::parse(&bytes).ok_or_else(|| {
        Error::model(path.display(), "it is not a SentencePiece model, or cut off", disk::AGAIN)
    })?;
    model.tokenizer(sentinels).map_err(|what| Error::model(path.display(), what, CONVERT))
}

/// What the file says, with the format's defaults where it says nothing.
#[derive(Debug, PartialEq)]
struct Model<'a> {
    pieces: Vec<Piece<'a>>,
    kind: u64,
    unknown: u64,
    byte_fallback: bool,
    space_after: bool,
    charsmap: &'a [u8],
    space_first: bool,
    single_spaces: bool,
    escape_spaces: bool,
}

#[derive(Debug, PartialEq)]
struct Piece<'a> {
    text: &'a str,
    score: f32,
    kind: u64,
}

impl<'a> Model<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            unknown: 0,
            byte_fallback: false,
            space_after: false,
            charsmap: &[],
            space_first: true,
            single_spaces: true,
            escape_spaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Wire::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Wire::Number(n)) => model.kind = n,
                            (24, Wire::Number(n)) => model.space_after = n != 0,
                            (35, Wire::Number(n)) => model.byte_fallback = n != 0,
                            (40, Wire::Number(n)) => model.unknown = n,
                            _ => {}
                        }
                    }
                }
                (3, Wire::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Wire::Bytes(table)) => model.charsmap = table,
                            (3, Wire::Number(n)) => model.space_first = n != 0,
                            (4, Wire::Number(n)) => model.single_spaces = n != 0,
                            (5, Wire::Number(n)) => model.escape_spaces = n != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        (!model.pieces.is_empty()).then_some(model)
    }

    fn tokenizer(&self, sentinels: &[String]) -> Result<Value, String> {
        if self.kind != UNIGRAM {
            return Err("its pieces are chosen by another method than unigram".into());
        }
        if self.byte_fallback || self.pieces.iter().any(|p| p.kind == BYTE) {
            return Err("it has pieces for single bytes".into());
        }
        if !(self.space_first && self.single_spaces && self.escape_spaces) || self.space_after {
            return Err("it treats spaces in another way than T5 does".into());
        }
        if self.pieces.iter().any(|p| !p.score.is_finite()) {
            return Err("a piece has a score that is not a number".into());
        }
        let mut vocab: Vec<(&str, f64)> = self.pieces.iter().map(|p| (p.text, f64::from(p.score))).collect();
        let mut added = Vec::new();
        let token = |id: usize, text: &str, special: bool| {
            json!({
                "id": id, "content": text, "special": special, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        };
        let unknown = usize::try_from(self.unknown).ok();
        for (id, piece) in self.pieces.iter().enumerate() {
            if matches!(piece.kind, CONTROL | USER_DEFINED) || Some(id) == unknown {
                added.push(token(id, piece.text, piece.kind != USER_DEFINED));
            }
        }
        if !self.pieces.iter().any(|p| sentinels.iter().any(|s| s == p.text)) {
            for sentinel in sentinels {
                added.push(token(vocab.len(), sentinel, true));
                vocab.push((sentinel, 0.0));
            }
        }
        let end = self.pieces.iter().position(|p| p.text == "</s>").ok_or("it has no </s>")?;
        let end = ("</s>".to_owned(), end as u64);
        let (a, b) = (text_piece("A", 0), text_piece("B", 0));
        let stop = piece(&end.0, 0);
        let table = BASE64_STANDARD.encode(self.charsmap);
        let normalizer = if self.charsmap.is_empty() {
            Value::Null
        } else {
            json!({"type": "Precompiled", "precompiled_charsmap": table})
        };
        let spaces =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        Ok(json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [a, stop],
                "pair": [a, stop, b, stop],
                "special_tokens": specials(&[&end]),
            },
            "decoder": spaces,
            "model": {"type": "Unigram", "unk_id": self.unknown, "vocab": vocab, "byte_fallback": false},
        }))
    }
}

impl<'a> Piece<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut piece = Self { text: "", score: 0.0, kind: 1 };
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(text)) => piece.text = str::from_utf8(text).ok()?,
                (2, Wire::Four(score)) => piece.score = f32::from_le_bytes(score),
                (3, Wire::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Some(piece)
    }
}

/// A field's value as it lies in the file.
enum Wire<'a> {
    Number(u64),
    Four([u8; 4]),
    Eight,
    Bytes(&'a [u8]),
}

/// Number and value of each field of a message; `None` where the message is damaged, and then no
/// more.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for i in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(7 * i)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.take(8).map(|_| Wire::Eight)?,
            2 => {
                let length = self.number()?;
                Wire::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Wire::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message field with bytes.
    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        let mut message = vec![field << 3 | 2, content.len() as u8];
        message.extend(content);
        message
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut message = bytes(1, text.as_bytes());
        message.push(2 << 3 | 5);
        message.extend(score.to_le_bytes());
        message.extend([3 << 3, kind]);
        bytes(1, &message)
    }

    fn model() -> Vec<u8> {
        let pieces =
            [piece("<pad>", 0.0, 3), piece("</s>", 0.0, 3), piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1)];
        // Trainer: unk_id 2 (field 40), and a 64-bit field that is stepped over.
        let trainer = [&[0xc0, 2, 2, 9 << 3 | 1][..], &[0; 8]].concat();
        [pieces.concat(), bytes(2, &trainer), bytes(3, &bytes(1, b"nmt_nfkc"))].concat()
    }

    #[test]
    fn the_fields_that_matter_are_read() {
        let bytes = model();
        let model = Model::parse(&bytes).expect("a model");
        assert_eq!((model.pieces.len(), model.unknown, model.kind), (4, 2, UNIGRAM));
        assert_eq!(model.pieces[3], Piece { text: "▁a", score: -1.5, kind: 1 });
        let json = model.tokenizer(&["<x1>".into(), "<x0>".into()]).expect("taken");
        assert_eq!(json["model"]["vocab"][5], json!(["<x0>", 0.0]));
        assert_eq!(json["added_tokens"].as_array().map(Vec::len), Some(5));
    }

    #[test]
    fn damaged_and_foreign_models_are_refused() {
        let whole = model();
        for end in 0..whole.len() {
            // Cut between fields a shorter model remains; elsewhere nothing is read. Never a panic.
            let _ = Model::parse(&whole[..end]).map(|m| m.tokenizer(&[]));
        }
        assert_eq!(Model::parse(b""), None);
        assert_eq!(Model::parse(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(Model::parse(b"<!DOCTYPE html>"), None);
        let bpe = [whole.clone(), bytes(2, &[3 << 3, 2])].concat();
        let why = Model::parse(&bpe).expect("a model").tokenizer(&[]).expect_err("BPE");
        assert!(why.contains("unigram"), "{why}");
        let spaces = [whole, bytes(3, &[3 << 3, 0])].concat();
        let why = Model::parse(&spaces).expect("a model").tokenizer(&[]).expect_err("spaces");
        assert!(why.contains("spaces"), "{why}");
    }
}
