//! A SentencePiece model (`spiece.model`) in the form of `tokenizer.json`.
//!
//! The file is a protocol buffer; the few fields that say how text becomes pieces are read, the
//! rest (how it was trained) is stepped over. Only unigram models that treat spaces as T5 does are
//! taken: a space before each word, runs of spaces as one, no pieces for single bytes.
//!
//! Symbols that the model's author defined are pieces like others, of a score by which they are all but
//! always taken, and stand in a text as they are written. Those that the table of rewrites, or the cutting at
//! spaces, would change (`\n`) are replaced by private characters before and back behind.

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
/// Pieces of the usual kind.
const NORMAL: u64 = 1;
/// Most symbols that need a stand-in; the first of these.
const MAX_STAND_INS: usize = 24;
const STAND_IN: u32 = 0xe000;
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
    /// Whether capitals are rewritten as small letters.
    folds: bool,
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
            folds: false,
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
                            (1, Wire::Bytes(name)) => model.folds = name.ends_with(b"_cf"),
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
        let stand_ins = self.stand_ins(sentinels)?;
        let spelled = |p: &Piece<'a>| {
            let stand_in = stand_ins.iter().find(|(text, _)| *text == p.text);
            stand_in.map_or_else(|| p.text.to_owned(), |(_, stand_in)| stand_in.to_string())
        };
        let mut vocab: Vec<(String, f64)> =
            self.pieces.iter().map(|p| (spelled(p), self.score(p, sentinels))).collect();
        let mut added = Vec::new();
        let token = |id: usize, text: &str| {
            json!({
                "id": id, "content": text, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        };
        let unknown = usize::try_from(self.unknown).ok();
        for (id, piece) in self.pieces.iter().enumerate() {
            let sentinel = piece.kind == USER_DEFINED && !is_symbol(piece, sentinels);
            if piece.kind == CONTROL || sentinel || Some(id) == unknown {
                added.push(token(id, piece.text));
            }
        }
        if !self.pieces.iter().any(|p| sentinels.iter().any(|s| s == p.text)) {
            for sentinel in sentinels {
                added.push(token(vocab.len(), sentinel));
                vocab.push((sentinel.clone(), 0.0));
            }
        }
        let end = self.pieces.iter().position(|p| p.text == "</s>").ok_or("it has no </s>")?;
        let end = ("</s>".to_owned(), end as u64);
        let (a, b) = (text_piece("A", 0), text_piece("B", 0));
        let stop = piece(&end.0, 0);
        let table = BASE64_STANDARD.encode(self.charsmap);
        let replace =
            |from: String, to: String| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let mut normalizers: Vec<Value> = stand_ins
            .iter()
            .map(|(text, stand_in)| replace((*text).to_owned(), stand_in.to_string()))
            .collect();
        if !self.charsmap.is_empty() {
            normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": table}));
        }
        let spaces =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        let back = stand_ins.iter().map(|(text, stand_in)| replace(stand_in.to_string(), (*text).to_owned()));
        let decoders: Vec<Value> = std::iter::once(spaces.clone()).chain(back).collect();
        Ok(json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [a, stop],
                "pair": [a, stop, b, stop],
                "special_tokens": specials(&[&end]),
            },
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "Unigram", "unk_id": self.unknown, "vocab": vocab, "byte_fallback": false},
        }))
    }
}

impl<'a> Model<'a> {
    /// A piece's score; that of a symbol is SentencePiece's own (`EncodeOptimized`): its bytes times the best
    /// score of all pieces, and a little less.
    fn score(&self, piece: &Piece<'_>, sentinels: &[String]) -> f64 {
        if !is_symbol(piece, sentinels) {
            return f64::from(piece.score);
        }
        let normal = self.pieces.iter().filter(|p| p.kind == NORMAL).map(|p| f64::from(p.score));
        let best = normal.fold(f64::NEG_INFINITY, f64::max);
        if best.is_finite() { piece.text.len() as f64 * best - 0.1 } else { 0.0 }
    }

    /// Symbols that would not come through as they are, the longest first, each with a private character.
    fn stand_ins(&self, sentinels: &[String]) -> Result<Vec<(&'a str, char)>, String> {
        let symbols = || self.pieces.iter().filter(|p| is_symbol(p, sentinels)).map(|p| p.text);
        if symbols().any(|text| text.contains([' ', '▁'])) {
            return Err("a symbol of its own has spaces in it".into());
        }
        let safe = |c: char| match c {
            'A'..='Z' => !self.folds,
            _ => c.is_ascii_graphic() || (self.charsmap.is_empty() && !c.is_whitespace()),
        };
        let mut changed: Vec<&str> = symbols().filter(|text| !text.chars().all(safe)).collect();
        if changed.len() > MAX_STAND_INS {
            return Err(format!("{} of its own symbols are not plain ASCII", changed.len()));
        }
        if !changed.is_empty() && self.pieces.iter().any(|p| p.text.contains(is_private)) {
            return Err("it has pieces of private characters".into());
        }
        changed.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Ok(changed.into_iter().zip((STAND_IN..).filter_map(char::from_u32)).collect())
    }
}

/// Whether a character is among those that stand in for others.
fn is_private(c: char) -> bool {
    (STAND_IN..STAND_IN + MAX_STAND_INS as u32).contains(&u32::from(c))
}

/// Whether a piece is a symbol that the model's author defined, other than T5's sentinels.
fn is_symbol(piece: &Piece<'_>, sentinels: &[String]) -> bool {
    piece.kind == USER_DEFINED && !sentinels.iter().any(|s| s == piece.text)
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
    fn symbols_of_the_author_stand_in_a_text_as_they_are() {
        let pieces: Vec<u8> = [
            piece("</s>", 0.0, 3),
            piece("<unk>", 0.0, 2),
            piece("<sep>", 0.0, 4),
            piece("\n", 0.0, 4),
            piece("▁", -2.0, 1),
            piece("▁a", -3.0, 1),
            piece("b", -3.5, 1),
        ]
        .concat();
        let trainer = bytes(2, &[0xc0, 2, 1]);
        let bytes = [pieces, trainer].concat();
        let json = Model::parse(&bytes).expect("a model").tokenizer(&[]).expect("taken");
        // 5 bytes times the best score, -2, less 0.1.
        assert_eq!(json["model"]["vocab"][2], json!(["<sep>", -10.1]));
        super::super::check::check("test", &json).expect("a sound form");
        let tokenizer: tokenizers::Tokenizer = serde_json::from_value(json).expect("read");
        let ids = |text: &str| tokenizer.encode(text, false).expect("tokens").get_ids().to_vec();
        // As SentencePiece has them: no space appears behind a symbol, and a line end is one.
        assert_eq!(ids("a<sep>b"), [5, 2, 6]);
        assert_eq!(ids("a\nb"), [5, 3, 6]);
        assert_eq!(ids("a \n <sep>"), [5, 4, 3, 4, 2]);
        assert_eq!(ids("<sep>b"), [4, 2, 6]);
        assert_eq!(tokenizer.decode(&[5, 3, 6, 2], true).expect("text"), "a\nb<sep>");
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
