//! Which files describe a tokenizer, and one form for all of them: that of
//! `tokenizer.json`, as a JSON value.
//!
//! In this order: `tokenizer.json`; the vocabulary files of the tokenizer's class (`vocab.txt`, or
//! `vocab.json` with `merges.txt`, or `spiece.model`). Beside either, `tokenizer_config.json`,
//! `special_tokens_map.json` and `added_tokens.json` say what special tokens are called, which
//! tokens were added, and how text is prepared; what they say explicitly wins where the class they
//! name reads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::check;
use super::class::{Class, Said};
use super::disk::{AGAIN, bytes, missing, object, parse, text};
use super::spiece;
use super::template::{piece, specials, text_piece};
use super::towers;
use crate::error::{Error, Result};
use crate::printable::printable;

/// A `model_max_length` from here on means that there is none.
const NO_LIMIT: f64 = 1e9;
/// Everything the files say.
pub(super) struct Source {
    /// The main file, for messages.
    pub name: String,
    /// The tokenizer in the form of `tokenizer.json`, without padding and truncation.
    pub tokenizer: Value,
    /// What the special tokens are called.
    pub names: Names,
    /// The longest input, in tokens.
    pub limit: Option<usize>,
    /// A text that is too long loses its beginning.
    pub cuts_left: bool,
    /// Padding stands before a text.
    pub pads_left: bool,
    /// A decoder that is not known, and was omitted.
    pub decoder: Option<String>,
}

/// What the special tokens are called.
#[derive(Default)]
pub(super) struct Names {
    pub cls: Option<String>,
    pub sep: Option<String>,
    pub pad: Option<String>,
    pub unk: Option<String>,
    pub mask: Option<String>,
    pub bos: Option<String>,
    pub eos: Option<String>,
}

impl Source {
    /// Added tokens and the ids they are listed with.
    pub(super) fn added(&self) -> Result<Vec<(String, u32)>> {
        let list = self.tokenizer["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let entry =
            |t: &Value| Some((t["content"].as_str()?.to_owned(), u32::try_from(t["id"].as_u64()?).ok()?));
        let found: Option<Vec<_>> = list.iter().map(entry).collect();
        found.ok_or_else(|| Error::model(&self.name, "an added token has no content or no id", AGAIN))
    }
}

const ROLES: [&str; 7] =
    ["cls_token", "sep_token", "pad_token", "unk_token", "mask_token", "bos_token", "eos_token"];

/// Reads whatever describes the tokenizer in `folder`.
pub(super) fn read(folder: &Path, model: &str) -> Result<Source> {
    let config = object(folder, "tokenizer_config.json")?.unwrap_or_default();
    let said = Said::of(folder, &config, model)?;
    let class = said.class;
    let map = object(folder, "special_tokens_map.json")?.unwrap_or_default();
    let [cls, sep, pad, unk, mask, bos, eos] = std::array::from_fn(|i| {
        let said = config.get(ROLES[i]).or_else(|| map.get(ROLES[i]));
        said.map_or_else(|| class.names()[i].map(str::to_owned), content)
    });
    let names = Names { cls, sep, pad, unk, mask, bos, eos };
    let parts = Parts { folder, class, config: &config, map: &map, names: &names };

    let whole = folder.join("tokenizer.json");
    let (name, mut tokenizer) = match bytes(&whole)? {
        Some(text) => (whole.display().to_string(), parse(&whole, &text)?),
        None => {
            said.made_of_files(folder)?;
            let first = class.files().first().map(|file| folder.join(file)).filter(|file| file.exists());
            let Some(first) = first else {
                let files = class.files().join(" with ");
                let what = match class.files() {
                    [] => "no tokenizer: there is no tokenizer.json".to_owned(),
                    _ => format!("no tokenizer: neither tokenizer.json nor {files}"),
                };
                let help = "copy the tokenizer's files from where the checkpoint is from into this folder";
                return Err(Error::model(folder.display(), what, help));
            };
            (first.display().to_string(), parts.build()?)
        }
    };
    let Some(root) = tokenizer.as_object_mut() else {
        return Err(Error::model(&name, "it is not a JSON object", AGAIN));
    };
    let truncation = root.insert("truncation".into(), Value::Null);
    root.insert("padding".into(), Value::Null);
    let decoder = root.get("decoder").and_then(check::strange_decoder);
    if decoder.is_some() {
        // It has a say only where texts are written, and there it is refused.
        root.insert("decoder".into(), Value::Null);
    }
    if said.adjusts {
        parts.adjust(root);
    }
    parts.add(&name, root)?;
    let limit = config.get("model_max_length").and_then(Value::as_f64);
    let limit = limit.filter(|n| (1.0..NO_LIMIT).contains(n)).map(|n| n as usize);
    let side = config.get("truncation_side").and_then(Value::as_str).map(str::to_lowercase);
    let side = side.or_else(|| Some(truncation?.get("direction")?.as_str()?.to_lowercase()));
    let cuts_left = side.as_deref() == Some("left");
    let pads_left = match config.get("padding_side").and_then(Value::as_str) {
        Some(side) => side == "left",
        None => said.adjusts && class == Class::Siglip2,
    };
    Ok(Source { name, tokenizer, names, limit, cuts_left, pads_left, decoder })
}

/// A tokenizer that is given whole.
pub(super) fn in_memory(name: &str, json: &str, family: &str) -> Result<Source> {
    let class = Class::of_family(family).unwrap_or(Class::ByteLevel);
    let [cls, sep, pad, unk, mask, bos, eos] = class.names().map(|name| name.map(str::to_owned));
    let names = Names { cls, sep, pad, unk, mask, bos, eos };
    let mut tokenizer: Value =
        serde_json::from_str(json).map_err(|e| Error::model(name, format!("tokenizer.json: {e}"), AGAIN))?;
    for key in ["truncation", "padding"] {
        tokenizer[key] = Value::Null;
    }
    let name = format!("{name}/tokenizer.json");
    Ok(Source { name, tokenizer, names, limit: None, cuts_left: false, pads_left: false, decoder: None })
}

/// The folder and what its small files say.
struct Parts<'a> {
    folder: &'a Path,
    class: Class,
    config: &'a Map<String, Value>,
    map: &'a Map<String, Value>,
    names: &'a Names,
}

impl Parts<'_> {
    /// The form of `tokenizer.json`, from the class's vocabulary files.
    fn build(&self) -> Result<Value> {
        match self.class {
            Class::WordPiece => self.wordpiece(),
            Class::Unigram => spiece::read(&self.folder.join("spiece.model"), &self.extra_ids()),
            Class::Siglip => {
                let mut made = spiece::read(&self.folder.join("spiece.model"), &[])?;
                towers::canonical(&mut made);
                Ok(made)
            }
            Class::Roberta | Class::ByteLevel => self.byte_level(),
            Class::Clip => {
                let mut made = self.byte_level()?;
                let role = |name: &Option<String>| {
                    let vocab = made["model"]["vocab"].as_object();
                    self.need(&self.folder.join("vocab.json"), vocab.unwrap_or(&Map::new()), name)
                };
                let marks = [role(&self.names.bos)?, role(&self.names.eos)?];
                towers::clip(&mut made, &marks, self.names.unk.as_deref());
                Ok(made)
            }
            Class::Siglip2 | Class::Whole => Err(missing(&self.folder.join("tokenizer.json"))),
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key).and_then(Value::as_bool)
    }

    fn wordpiece(&self) -> Result<Value> {
        let path = self.folder.join("vocab.txt");
        if self.flag("do_basic_tokenize") == Some(false) {
            let what = "do_basic_tokenize is false: text would have to come split into words";
            return Err(Error::model(self.folder.join("tokenizer_config.json").display(), what, ""));
        }
        let text = text(&path)?;
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        // A token that stands twice has the later id, as in the original.
        let vocab: Map<String, Value> = text
            .strip_suffix('\n')
            .unwrap_or(&text)
            .split('\n')
            .enumerate()
            .map(|(id, token)| (token.to_owned(), id.into()))
            .collect();
        let (cls, sep) =
            (self.need(&path, &vocab, &self.names.cls)?, self.need(&path, &vocab, &self.names.sep)?);
        let (unk, _) = self.need(&path, &vocab, &self.names.unk)?;
        let added = self.named(&vocab);
        Ok(json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": self.flag("tokenize_chinese_chars").unwrap_or(true),
                "strip_accents": self.flag("strip_accents"),
                "lowercase": self.flag("do_lower_case").unwrap_or(true),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [piece(&cls.0, 0), text_piece("A", 0), piece(&sep.0, 0)],
                "pair": [
                    piece(&cls.0, 0), text_piece("A", 0), piece(&sep.0, 0),
                    text_piece("B", 1), piece(&sep.0, 1),
                ],
                "special_tokens": specials(&[&cls, &sep]),
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece",
                "unk_token": unk,
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": vocab,
            },
        }))
    }

    fn byte_level(&self) -> Result<Value> {
        let path = self.folder.join("vocab.json");
        let Some(bytes) = bytes(&path)? else { return Err(missing(&path)) };
        let Value::Object(vocab) = parse(&path, &bytes)? else {
            return Err(Error::model(path.display(), "it should be an object of tokens and ids", AGAIN));
        };
        let merges_path = self.folder.join("merges.txt");
        let merges_text = text(&merges_path)?;
        let mut merges: Vec<[&str; 2]> = Vec::new();
        for (i, line) in merges_text.lines().enumerate() {
            if line.is_empty() || (i == 0 && line.starts_with("#version")) {
                continue;
            }
            match line.split_once(' ') {
                Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => merges.push([a, b]),
                _ => {
                    let what = format!("line {} is not two tokens: `{}`", i + 1, printable(line));
                    return Err(Error::model(merges_path.display(), what, AGAIN));
                }
            }
        }
        let prefix = self.flag("add_prefix_space").unwrap_or(false);
        let post = if self.class == Class::Roberta {
            let (cls, sep) =
                (self.need(&path, &vocab, &self.names.cls)?, self.need(&path, &vocab, &self.names.sep)?);
            let trim = self.flag("trim_offsets").unwrap_or(true);
            json!({
                "type": "RobertaProcessing", "sep": [sep.0, sep.1], "cls": [cls.0, cls.1],
                "trim_offsets": trim, "add_prefix_space": prefix,
            })
        } else {
            Value::Null
        };
        Ok(json!({
            "version": "1.0",
            "added_tokens": self.named(&vocab),
            "normalizer": null,
            "pre_tokenizer":
                {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true},
            "post_processor": post,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        }))
    }

    /// T5's sentinels in the order of their ids; `<extra_id_0>` comes last.
    fn extra_ids(&self) -> Vec<String> {
        let count = self.config.get("extra_ids").and_then(Value::as_u64).unwrap_or(100).min(10_000);
        (0..count).rev().map(|i| format!("<extra_id_{i}>")).collect()
    }

    /// A special token that the family cannot do without, and its id.
    fn need(&self, path: &Path, vocab: &Map<String, Value>, name: &Option<String>) -> Result<(String, u64)> {
        let id = name.as_ref().and_then(|n| vocab.get(n)).and_then(Value::as_u64);
        if let (Some(name), Some(id)) = (name, id) {
            return Ok((name.clone(), id));
        }
        let name = printable(name.as_deref().unwrap_or("(none)"));
        let what = format!("the special token `{name}` is not in the vocabulary");
        Err(Error::model(path.display(), what, AGAIN))
    }

    /// The special tokens that the vocabulary has, as added tokens in the order of their ids.
    fn named(&self, vocab: &Map<String, Value>) -> Vec<Value> {
        let n = self.names;
        let mut found: BTreeMap<u64, Value> = BTreeMap::new();
        for (key, name) in ROLES.iter().zip([&n.cls, &n.sep, &n.pad, &n.unk, &n.mask, &n.bos, &n.eos]) {
            let Some(name) = name else { continue };
            let Some(id) = vocab.get(name).and_then(Value::as_u64) else { continue };
            let said = self.config.get(*key).or_else(|| self.map.get(*key)).filter(|v| v.is_object());
            // RoBERTa's mask takes the space before it along, so that it can stand for a whole word.
            let roberta = self.class == Class::Roberta && *key == "mask_token";
            let mut token = said.map_or_else(|| json!({"content": name, "lstrip": roberta}), Value::clone);
            token["special"] = true.into();
            found.insert(id, added_token(&token, id));
        }
        found.into_values().collect()
    }

    /// What `tokenizer_config.json` says explicitly about preparing text overrules `tokenizer.json`.
    fn adjust(&self, root: &mut Map<String, Value>) {
        if self.class == Class::Siglip2 {
            towers::lower(root);
        }
        if let Some(normalizer) = root.get_mut("normalizer")
            && normalizer["type"] == "BertNormalizer"
        {
            for (key, ours) in [
                ("do_lower_case", "lowercase"),
                ("strip_accents", "strip_accents"),
                ("tokenize_chinese_chars", "handle_chinese_chars"),
            ] {
                if let Some(flag) = self.flag(key) {
                    normalizer[ours] = flag.into();
                }
            }
        }
        if let Some(pre) = root.get_mut("pre_tokenizer")
            && pre["type"] == "ByteLevel"
            && let Some(flag) = self.flag("add_prefix_space")
        {
            pre["add_prefix_space"] = flag.into();
        }
        if self.class == Class::ByteLevel
            && self.flag("add_bos_token") == Some(true)
            && let Some(bos) = &self.names.bos
            && let Some(id) = root["model"]["vocab"].get(bos).and_then(Value::as_u64)
        {
            let bos = (bos.clone(), id);
            root.insert(
                "post_processor".into(),
                json!({
                    "type": "TemplateProcessing",
                    "single": [piece(&bos.0, 0), text_piece("A", 0)],
                    "pair": [piece(&bos.0, 0), text_piece("A", 0), piece(&bos.0, 1), text_piece("B", 1)],
                    "special_tokens": specials(&[&bos]),
                }),
            );
        }
    }

    /// Appends the added tokens that only the small files know.
    fn add(&self, name: &str, root: &mut Map<String, Value>) -> Result<()> {
        let mut wanted: BTreeMap<u64, Value> = BTreeMap::new();
        if let Some(listed) = object(self.folder, "added_tokens.json")? {
            for (token, id) in listed {
                let bad = || {
                    let what = format!("`{}` has no id", printable(&token));
                    Error::model(self.folder.join("added_tokens.json").display(), what, AGAIN)
                };
                let special = self.is_named(&token);
                wanted.insert(id.as_u64().ok_or_else(bad)?, json!({"content": token, "special": special}));
            }
        }
        if let Some(listed) = self.config.get("added_tokens_decoder").and_then(Value::as_object) {
            for (id, token) in listed {
                if let (Ok(id), Some(_)) = (id.parse(), content(token)) {
                    wanted.insert(id, token.clone());
                }
            }
        }
        let added = root.entry("added_tokens").or_insert_with(|| Value::Array(Vec::new()));
        let Some(added) = added.as_array_mut() else {
            return Err(Error::model(name, "added_tokens is not a list", AGAIN));
        };
        for (id, token) in wanted {
            if !added.iter().any(|have| have["content"] == token["content"]) {
                added.push(added_token(&token, id));
            }
        }
        Ok(())
    }

    fn is_named(&self, token: &str) -> bool {
        let n = self.names;
        [&n.cls, &n.sep, &n.pad, &n.unk, &n.mask, &n.bos, &n.eos].iter().any(|x| x.as_deref() == Some(token))
    }
}

/// An added token in full; what `token` does not say is off.
fn added_token(token: &Value, id: u64) -> Value {
    let flag = |key: &str| token[key].as_bool().unwrap_or(false);
    json!({
        "id": id,
        "content": content(token).unwrap_or_default(),
        "single_word": flag("single_word"),
        "lstrip": flag("lstrip"),
        "rstrip": flag("rstrip"),
        "normalized": flag("normalized"),
        "special": flag("special"),
    })
}

/// The text of a token that is written as a string or as an object.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}
