//! Which kind of tokenizer a folder has: by the class that its files name, else by the model's family.

use std::path::Path;

use serde_json::{Map, Value};

use super::disk::object;
use crate::error::{Error, Result};
use crate::printable::printable;

/// A kind of tokenizer that can be made of its vocabulary files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// BERT's: `vocab.txt`.
    WordPiece,
    /// RoBERTa's: `vocab.json` and `merges.txt`, with marks around a text.
    Roberta,
    /// GPT-2's: the same files, no marks.
    ByteLevel,
    /// T5's: `spiece.model`.
    Unigram,
    /// CLIP's: GPT-2's files, small letters, `</w>` at the ends of words, marks around a text.
    Clip,
    /// SigLIP's: `spiece.model` behind small letters without punctuation.
    Siglip,
    /// SigLIP 2's, which is Gemma's in small letters: `tokenizer.json`, and no vocabulary files.
    Siglip2,
    /// ModernBERT's: `tokenizer.json`, and no vocabulary files.
    Whole,
}

/// Classes of transformers that are told by [`Class`], without the `Fast` at their ends.
const NAMES: &[(&str, Class)] = &[
    ("BertTokenizer", Class::WordPiece),
    ("DistilBertTokenizer", Class::WordPiece),
    ("RobertaTokenizer", Class::Roberta),
    ("GPT2Tokenizer", Class::ByteLevel),
    ("T5Tokenizer", Class::Unigram),
    ("CLIPTokenizer", Class::Clip),
    ("SiglipTokenizer", Class::Siglip),
    ("Siglip2Tokenizer", Class::Siglip2),
];

/// Names for whatever a `tokenizer.json` says.
const GENERIC: [&str; 2] = ["PreTrainedTokenizerFast", "TokenizersBackend"];

impl Class {
    /// The class of a model's family.
    pub(super) fn of_family(family: &str) -> Option<Self> {
        Some(match family {
            "bert" | "distilbert" => Class::WordPiece,
            "roberta" => Class::Roberta,
            "gpt2" => Class::ByteLevel,
            "t5" => Class::Unigram,
            "clip" => Class::Clip,
            "siglip" => Class::Siglip,
            "siglip2" => Class::Siglip2,
            "modernbert" => Class::Whole,
            _ => return None,
        })
    }

    /// Its vocabulary files.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Class::WordPiece => &["vocab.txt"],
            Class::Roberta | Class::ByteLevel | Class::Clip => &["vocab.json", "merges.txt"],
            Class::Unigram | Class::Siglip => &["spiece.model"],
            Class::Siglip2 | Class::Whole => &[],
        }
    }

    /// What its special tokens are called: cls, sep, pad, unk, mask, bos, eos.
    pub(super) fn names(self) -> [Option<&'static str>; 7] {
        let end = Some("<|endoftext|>");
        match self {
            Class::WordPiece | Class::Whole => {
                [Some("[CLS]"), Some("[SEP]"), Some("[PAD]"), Some("[UNK]"), Some("[MASK]"), None, None]
            }
            Class::Roberta => [
                Some("<s>"),
                Some("</s>"),
                Some("<pad>"),
                Some("<unk>"),
                Some("<mask>"),
                Some("<s>"),
                Some("</s>"),
            ],
            Class::ByteLevel => [None, None, None, end, None, end, end],
            Class::Unigram => [None, None, Some("<pad>"), Some("<unk>"), None, None, Some("</s>")],
            Class::Clip => [None, None, end, end, None, Some("<|startoftext|>"), end],
            Class::Siglip => [None, None, Some("</s>"), Some("<unk>"), None, None, Some("</s>")],
            Class::Siglip2 => {
                [None, None, Some("<pad>"), Some("<unk>"), Some("<mask>"), Some("<bos>"), Some("<eos>")]
            }
        }
    }
}

/// What a folder says of its tokenizer's class.
pub(super) struct Said {
    /// The class as it is named, and the file that names it.
    named: Option<(String, &'static str)>,
    /// The class itself: the named one if it is known, else that of the family.
    pub(super) class: Class,
    /// Whether fields of `tokenizer_config.json` have a say beside a `tokenizer.json`, as with the classes
    /// that read them.
    pub(super) adjusts: bool,
}

impl Said {
    /// By `tokenizer_config.json` (`config`), else by the model's `config.json`, else by the family.
    ///
    /// # Errors
    /// [`Error::Model`] for a family without tokenizers.
    pub(super) fn of(folder: &Path, config: &Map<String, Value>, family: &str) -> Result<Self> {
        let Some(usual) = Class::of_family(family) else {
            let what = format!("`{}` models have no tokenizer that is known here", printable(family));
            return Err(Error::model(
                folder.display(),
                what,
                "known: bert, distilbert, roberta, modernbert, gpt2, t5, clip, siglip",
            ));
        };
        let model = object(folder, "config.json")?.unwrap_or_default();
        let class = |map: &Map<String, Value>| Some(map.get("tokenizer_class")?.as_str()?.to_owned());
        let named = class(config).map(|name| (name, "tokenizer_config.json"));
        let named = named.or_else(|| Some((class(&model)?, "config.json")));
        let known = named.as_ref().and_then(|(name, _)| {
            let name = name.strip_suffix("Fast").unwrap_or(name);
            // As transformers 5 takes what SigLIP 2's files call their tokenizer.
            let name =
                if family == "siglip2" && name == "GemmaTokenizer" { "Siglip2Tokenizer" } else { name };
            NAMES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class)
        });
        let adjusts = named.is_none() || known.is_some();
        Ok(Self { named, class: known.unwrap_or(usual), adjusts })
    }

    /// Fails unless a tokenizer of this class can be made of vocabulary files.
    ///
    /// # Errors
    /// [`Error::Model`] naming the class.
    pub(super) fn made_of_files(&self, folder: &Path) -> Result<()> {
        let Some((name, file)) = self.named.as_ref().filter(|_| !self.adjusts) else { return Ok(()) };
        if GENERIC.contains(&name.as_str()) {
            let what = format!("{file} says {name}, which is a tokenizer.json, and there is none");
            return Err(Error::model(folder.display(), what, "copy it from where the checkpoint is from"));
        }
        let what = format!("{file} says {}, a class of tokenizers that is not known here", printable(name));
        let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        let help = format!("known are {}; any other needs a tokenizer.json", known.join(", "));
        Err(Error::model(folder.display(), what, help))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use crate::tokenizer::Tokenizer;

    fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn open(files: &[(&str, String)], family: &str) -> crate::Result<Tokenizer> {
        Tokenizer::open(folder(files).path(), family)
    }

    fn word_piece() -> (&'static str, String) {
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\nA".to_owned())
    }

    fn named(class: &str) -> (&'static str, String) {
        ("tokenizer_config.json", json!({"tokenizer_class": class, "do_lower_case": false}).to_string())
    }

    /// Words that are whole or unknown, and a decoder that is not known here.
    fn word_level() -> (&'static str, String) {
        let token = |id: u32, content: &str| {
            json!({
                "id": id, "content": content, "special": true, "normalized": false, "single_word": false,
                "lstrip": false, "rstrip": false,
            })
        };
        let tokenizer = json!({
            "version": "1.0",
            "added_tokens": [token(0, "[UNK]")],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
            "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "A": 2}, "unk_token": "[UNK]"},
        });
        ("tokenizer.json", tokenizer.to_string())
    }

    #[test]
    fn the_class_decides_whatever_the_model() {
        for family in ["bert", "gpt2", "t5"] {
            let tokenizer = open(&[word_piece(), named("BertTokenizer")], family).unwrap();
            assert_eq!(tokenizer.encode("ab A").unwrap().ids, [2, 5, 7, 8, 3], "{family}");
            // What opens a text stays where it is to be gone on with.
            assert_eq!(tokenizer.encode_open("ab A").unwrap().ids, [2, 5, 7, 8], "{family}");
        }
        let bytes =
            [("vocab.json", json!({"a": 0, "<s>": 1, "</s>": 2}).to_string()), ("merges.txt", String::new())];
        let roberta =
            open(&[bytes[0].clone(), bytes[1].clone(), named("RobertaTokenizerFast")], "t5").unwrap();
        assert_eq!(roberta.encode("aa").unwrap().ids, [1, 0, 0, 2]);
    }

    #[test]
    fn classes_that_are_not_known_are_refused_by_name() {
        let config = ("config.json", json!({"tokenizer_class": "BertJapaneseTokenizer"}).to_string());
        for files in [vec![word_piece(), named("BertJapaneseTokenizer")], vec![word_piece(), config.clone()]]
        {
            let e = open(&files, "bert").unwrap_err().to_string();
            assert!(e.contains("BertJapaneseTokenizer"), "{e}");
        }
        let e = open(&[word_piece(), named("PreTrainedTokenizerFast")], "bert").unwrap_err().to_string();
        assert!(e.contains("there is none"), "{e}");
        // The nearer file counts, and a tokenizer.json before both.
        assert!(open(&[word_piece(), config.clone(), named("BertTokenizer")], "bert").is_ok());
        assert!(open(&[word_level(), config], "bert").is_ok());
    }

    #[test]
    fn a_tokenizer_json_wins_over_fields_that_its_class_does_not_read() {
        let generic = open(&[word_level(), named("PreTrainedTokenizerFast")], "bert").unwrap();
        assert_eq!(generic.encode("A b").unwrap().ids, [1, 0]);
        let bert = open(&[word_level(), named("BertTokenizerFast")], "bert").unwrap();
        assert_eq!(bert.encode("A b").unwrap().ids, [2, 0]);
        assert!(generic.writes().unwrap_err().to_string().contains("BPEDecoder"));
    }

    #[test]
    fn a_side_to_cut_and_a_token_to_begin_with() {
        let side = |config: serde_json::Value| {
            let config = ("tokenizer_config.json", config.to_string());
            open(&[word_piece(), config], "bert").unwrap().cuts_left()
        };
        assert!(side(json!({"truncation_side": "left"})) && !side(json!({"truncation_side": "right"})));
        assert!(!side(json!({})));
        let files = |bos: bool| {
            let vocab = json!({"a": 0, "<|endoftext|>": 1}).to_string();
            let config = json!({"add_bos_token": bos}).to_string();
            open(
                &[("vocab.json", vocab), ("merges.txt", String::new()), ("tokenizer_config.json", config)],
                "gpt2",
            )
        };
        assert_eq!(files(true).unwrap().encode_open("aa").unwrap().ids, [1, 0, 0]);
        assert_eq!(files(false).unwrap().encode_open("aa").unwrap().ids, [0, 0]);
        assert_eq!(files(true).unwrap().encode_open("").unwrap().ids, [1]);
    }
}
