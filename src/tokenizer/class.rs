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
}

/// Classes of transformers that are told by [`Class`], without the `Fast` at their ends.
const NAMES: &[(&str, Class)] = &[
    ("BertTokenizer", Class::WordPiece),
    ("DistilBertTokenizer", Class::WordPiece),
    ("RobertaTokenizer", Class::Roberta),
    ("GPT2Tokenizer", Class::ByteLevel),
    ("T5Tokenizer", Class::Unigram),
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
            _ => return None,
        })
    }

    /// Its vocabulary files.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Class::WordPiece => &["vocab.txt"],
            Class::Roberta | Class::ByteLevel => &["vocab.json", "merges.txt"],
            Class::Unigram => &["spiece.model"],
        }
    }

    /// What its special tokens are called: cls, sep, pad, unk, mask, bos, eos.
    pub(super) fn names(self) -> [Option<&'static str>; 7] {
        let end = Some("<|endoftext|>");
        match self {
            Class::WordPiece => {
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
            return Err(Error::model(folder.display(), what, "known: bert, distilbert, roberta, gpt2, t5"));
        };
        let model = object(folder, "config.json")?.unwrap_or_default();
        let class = |map: &Map<String, Value>| Some(map.get("tokenizer_class")?.as_str()?.to_owned());
        let named = class(config).map(|name| (name, "tokenizer_config.json"));
        let named = named.or_else(|| Some((class(&model)?, "config.json")));
        let known = named.as_ref().and_then(|(name, _)| {
            let name = name.strip_suffix("Fast").unwrap_or(name);
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
