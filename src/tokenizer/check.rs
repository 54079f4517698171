//! Is this `tokenizer.json` one that the crate can be trusted with?
//!
//! The crate believes its files: a merge that leads nowhere, a template that names a token without
//! an id, or a table that points outside of itself makes it panic, some only once a text arrives,
//! and a rule that doubles a text forty times takes all memory. Everything of that kind is found
//! here and reported with its place. What is checked is what was found by reading the crate, 0.23.

use std::collections::HashMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value};

use super::{charsmap, disk};
use crate::error::{Error, Result};
use crate::printable::printable;

/// Most tokens; four times the largest vocabularies in use.
const MAX_TOKENS: usize = 1 << 20;
/// Highest id: vocabularies may have holes, but not of any size.
const MAX_ID: u64 = 1 << 24;
/// Most added tokens.
const MAX_ADDED: usize = 1 << 16;
/// Longest token in bytes. A trie as deep as its longest token is freed recursively.
const MAX_TOKEN_BYTES: usize = 4096;
/// Most steps of preparation, all lists together.
const MAX_STEPS: usize = 64;
/// Most that replacements may lengthen a text, multiplied.
const MAX_GROWTH: usize = 4096;
/// Longest word in characters that a WordPiece model may try to cut up; time grows with its square.
const MAX_WORD: u64 = 10_000;

const NORMALIZERS: &[&str] = &[
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Strip",
    "StripAccents",
];
const PRE_TOKENIZERS: &[&str] = &[
    "BertPreTokenizer",
    "ByteLevel",
    "Digits",
    "Metaspace",
    "Punctuation",
    "Split",
    "Whitespace",
    "WhitespaceSplit",
];
const PROCESSORS: &[&str] = &["BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"];
const DECODERS: &[&str] = &["ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "WordPiece"];

/// Checks a tokenizer in the form of `tokenizer.json`; one more than its highest id.
pub(super) fn check(name: &str, tokenizer: &Value) -> Result<usize> {
    let mut check = Check { steps: 0, growth: 1, single: false, framing: 0 };
    let highest = check.all(tokenizer).map_err(|what| Error::model(name, what, disk::AGAIN))?;
    Ok(highest as usize + 1)
}

/// A decoder's type that is not known here, if it or one in it is.
pub(super) fn strange_decoder(decoder: &Value) -> Option<String> {
    let kind = decoder.get("type")?.as_str()?;
    if kind == "Sequence" {
        return decoder.get("decoders")?.as_array()?.iter().find_map(strange_decoder);
    }
    (!DECODERS.contains(&kind)).then(|| printable(kind))
}

/// What is wrong, without the file's name.
type Verdict<T = ()> = Result<T, String>;

struct Check {
    steps: usize,
    growth: usize,
    /// Whether a step puts one character in the place of others.
    single: bool,
    /// Processors that put special tokens around texts.
    framing: usize,
}

impl Check {
    fn all(&mut self, tokenizer: &Value) -> Verdict<u64> {
        let root = tokenizer.as_object().ok_or("it is not a JSON object")?;
        let model = root.get("model").and_then(Value::as_object).ok_or("it has no model")?;
        let vocab = match kind_of_model(model)? {
            "WordPiece" => word_piece(model)?,
            "BPE" => bpe(model)?,
            "WordLevel" => word_level(model)?,
            _ => unigram(model)?,
        };
        let mut highest = vocab.values().max().copied().ok_or("the vocabulary is empty")?;
        highest = highest.max(added(root, &vocab)?);
        for (part, list, allowed) in [
            ("normalizer", "normalizers", NORMALIZERS),
            ("pre_tokenizer", "pretokenizers", PRE_TOKENIZERS),
            ("post_processor", "processors", PROCESSORS),
            ("decoder", "decoders", DECODERS),
        ] {
            let step = root.get(part).unwrap_or(&Value::Null);
            if !step.is_null() {
                self.steps(part, list, allowed, step, highest)?;
            }
        }
        Ok(highest)
    }

    /// One step or, in a list, several.
    fn steps(&mut self, part: &str, list: &str, allowed: &[&str], step: &Value, highest: u64) -> Verdict {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} steps of preparation"));
        }
        let kind =
            step.get("type").and_then(Value::as_str).ok_or_else(|| format!("the {part} has no type"))?;
        if kind == "Sequence" {
            let steps = step.get(list).and_then(Value::as_array);
            let steps = steps.ok_or_else(|| format!("the {part}'s sequence has no {list}"))?;
            return steps.iter().try_for_each(|step| self.steps(part, list, allowed, step, highest));
        }
        if !allowed.contains(&kind) {
            return Err(format!("the {part} `{}` is not supported", printable(kind)));
        }
        match kind {
            "Replace" | "Split" => self.pattern(part, kind, step)?,
            "Prepend" => self.grow(step.get("prepend").and_then(Value::as_str).map_or(0, str::len))?,
            "ByteLevel" if part == "pre_tokenizer" => self.grow(2)?,
            "Precompiled" => {
                // Only one: what a table writes, the next could rewrite at greater length.
                self.grow(MAX_GROWTH / 8)?;
                precompiled(step)?;
            }
            "TemplateProcessing" => template(step, highest)?,
            "BertProcessing" | "RobertaProcessing" => {
                for key in ["cls", "sep"] {
                    let id = step.get(key).and_then(|pair| pair.get(1)).and_then(Value::as_u64);
                    if id.is_none_or(|id| id > highest) {
                        return Err(format!("the {part}'s {key} token has no id of the vocabulary"));
                    }
                }
            }
            _ => {}
        }
        if part == "post_processor" && kind != "ByteLevel" {
            self.framing += 1;
            if self.framing > 1 {
                return Err("more than one post_processor adds special tokens".into());
            }
        }
        Ok(())
    }

    fn pattern(&mut self, part: &str, kind: &str, step: &Value) -> Verdict {
        let pattern = step.get("pattern").and_then(|p| p.get("String").or_else(|| p.get("Regex")));
        match pattern.and_then(Value::as_str) {
            None => return Err(format!("a {kind} of the {part} has no pattern")),
            Some("") => return Err(format!("a {kind} of the {part} has an empty pattern")),
            Some(long) if long.len() > MAX_TOKEN_BYTES => {
                return Err(format!("a {kind} of the {part} has a pattern of {} bytes", long.len()));
            }
            Some(regex) if kind == "Replace" && pattern_is_regex(step) && may_match_nothing(regex) => {
                let regex = printable(regex);
                return Err(format!(
                    "a Replace of the {part} has the pattern `{regex}`, which may match nothing"
                ));
            }
            Some(_) => {}
        }
        let content = step.get("content").and_then(Value::as_str).unwrap_or_default();
        if content.chars().nth(1).is_some() {
            return self.grow(content.len());
        }
        // However many steps put one character in the place of others, there are no more characters.
        let first = !std::mem::replace(&mut self.single, true);
        if first { self.grow(4) } else { Ok(()) }
    }

    /// Counts a step that may put `bytes` in the place of one.
    fn grow(&mut self, bytes: usize) -> Verdict {
        self.growth = self.growth.saturating_mul(bytes.max(1));
        if self.growth > MAX_GROWTH {
            Err("its replacements would make texts absurdly long".into())
        } else {
            Ok(())
        }
    }
}

fn pattern_is_regex(step: &Value) -> bool {
    step["pattern"].get("String").is_none()
}

/// Whether a regular expression may match the empty string, at which the crate's `Replace` loses
/// count. Certain only for plain sequences such as ` {2,}`; of everything else it is assumed.
fn may_match_nothing(regex: &str) -> bool {
    let assertion = |c: char| "bBAzZGK".contains(c);
    regex.contains(['*', '?', '|', '^', '$', '(', '\u{0}'])
        || regex.contains("{0")
        || regex.contains("{,")
        || regex.split('\\').skip(1).any(|after| after.starts_with(assertion))
}

/// Tokens and their ids.
type Vocabulary<'a> = HashMap<&'a str, u64>;

/// The model's kind; old files do not say it.
fn kind_of_model(model: &Map<String, Value>) -> Verdict<&str> {
    match model.get("type").and_then(Value::as_str) {
        Some(kind @ ("WordPiece" | "WordLevel" | "BPE" | "Unigram")) => Ok(kind),
        Some(kind) => Err(format!("a model of type `{}` is not supported", printable(kind))),
        None if model.contains_key("merges") => Ok("BPE"),
        None if model.contains_key("max_input_chars_per_word") => Ok("WordPiece"),
        None if model.get("vocab").is_some_and(Value::is_array) => Ok("Unigram"),
        None => Err("the model has no type".into()),
    }
}

/// A vocabulary that is an object, each id once.
fn vocabulary(model: &Map<String, Value>) -> Verdict<Vocabulary<'_>> {
    let vocab = model.get("vocab").and_then(Value::as_object).ok_or("the model has no vocabulary")?;
    too_many(vocab.len())?;
    let mut found = HashMap::with_capacity(vocab.len());
    let mut by_id: HashMap<u64, &str> = HashMap::with_capacity(vocab.len());
    for (token, id) in vocab {
        let shown = || printable(token);
        let id = id.as_u64().filter(|id| *id <= MAX_ID);
        let id = id.ok_or_else(|| format!("token `{}` has no id from 0 to {MAX_ID}", shown()))?;
        too_long(token)?;
        if let Some(other) = by_id.insert(id, token) {
            return Err(format!("tokens `{}` and `{}` have the same id, {id}", printable(other), shown()));
        }
        found.insert(token.as_str(), id);
    }
    Ok(found)
}

fn too_many(tokens: usize) -> Verdict {
    if tokens > MAX_TOKENS {
        Err(format!("{tokens} tokens are too many (most: {MAX_TOKENS})"))
    } else {
        Ok(())
    }
}

fn too_long(token: &str) -> Verdict {
    if token.len() <= MAX_TOKEN_BYTES {
        return Ok(());
    }
    Err(format!("token `{}` has {} bytes (most: {MAX_TOKEN_BYTES})", printable(token), token.len()))
}

/// The token for what cannot be expressed, if one is named, must be there.
fn unknown(model: &Map<String, Value>, vocab: &Vocabulary<'_>) -> Verdict {
    match model.get("unk_token").and_then(Value::as_str) {
        Some(unk) if !vocab.contains_key(unk) => {
            Err(format!("the unknown token `{}` is not in the vocabulary", printable(unk)))
        }
        _ => Ok(()),
    }
}

fn word_piece(model: &Map<String, Value>) -> Verdict<Vocabulary<'_>> {
    let vocab = vocabulary(model)?;
    unknown(model, &vocab)?;
    match model.get("max_input_chars_per_word").and_then(Value::as_u64) {
        Some(n) if n > MAX_WORD => Err(format!("max_input_chars_per_word is {n} (most: {MAX_WORD})")),
        _ => Ok(vocab),
    }
}

fn word_level(model: &Map<String, Value>) -> Verdict<Vocabulary<'_>> {
    let vocab = vocabulary(model)?;
    unknown(model, &vocab)?;
    Ok(vocab)
}

fn bpe(model: &Map<String, Value>) -> Verdict<Vocabulary<'_>> {
    let vocab = vocabulary(model)?;
    unknown(model, &vocab)?;
    if model.get("dropout").and_then(Value::as_f64).is_some_and(|p| p != 0.0) {
        return Err("it has a dropout: the same text would give other tokens each time".into());
    }
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
    let merges = model.get("merges").and_then(Value::as_array).ok_or("the model has no merges")?;
    let mut merged = String::new();
    for (i, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(line) => line.split_once(' '),
            Value::Array(pair) if pair.len() == 2 => pair[0].as_str().zip(pair[1].as_str()),
            _ => None,
        };
        let (a, b) = pair.ok_or_else(|| format!("merge {i} is not a pair of tokens"))?;
        let rest = b
            .strip_prefix(prefix)
            .ok_or_else(|| format!("merge {i}: `{}` lacks the prefix", printable(b)))?;
        merged.clear();
        merged.extend([a, rest]);
        if let Some(lost) = [a, b, &merged].into_iter().find(|token| !vocab.contains_key(token)) {
            return Err(format!("merge {i} needs `{}`, which is not in the vocabulary", printable(lost)));
        }
    }
    Ok(vocab)
}

fn unigram(model: &Map<String, Value>) -> Verdict<Vocabulary<'_>> {
    let list = model.get("vocab").and_then(Value::as_array).ok_or("the model has no vocabulary")?;
    too_many(list.len())?;
    let mut vocab = HashMap::with_capacity(list.len());
    for (id, entry) in list.iter().enumerate() {
        let token = entry.get(0).and_then(Value::as_str);
        let (Some(token), Some(_)) = (token, entry.get(1).and_then(Value::as_f64)) else {
            return Err(format!("entry {id} of the vocabulary is not a token with a score"));
        };
        too_long(token)?;
        if let Some(first) = vocab.insert(token, id as u64) {
            return Err(format!("token `{}` stands twice, at {first} and {id}", printable(token)));
        }
    }
    match model.get("unk_id").and_then(Value::as_u64) {
        Some(id) if (id as usize) < list.len() => Ok(vocab),
        Some(id) => Err(format!("unk_id is {id}, beyond the vocabulary of {}", list.len())),
        None => Err("it has no unk_id: most texts could not be expressed".into()),
    }
}

/// Checks the added tokens; the highest of their ids.
fn added(root: &Map<String, Value>, vocab: &Vocabulary<'_>) -> Verdict<u64> {
    let list = root.get("added_tokens").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if list.len() > MAX_ADDED {
        return Err(format!("{} added tokens are too many (most: {MAX_ADDED})", list.len()));
    }
    let mut by_id: HashMap<u64, &str> = HashMap::new();
    for token in list {
        let text = token.get("content").and_then(Value::as_str);
        let text = text.filter(|t| !t.is_empty()).ok_or("an added token has no content")?;
        too_long(text)?;
        let id = token.get("id").and_then(Value::as_u64).filter(|id| *id <= MAX_ID);
        let id = id.ok_or_else(|| format!("added token `{}` has no id", printable(text)))?;
        if let Some(other) = by_id.insert(id, text).filter(|other| *other != text) {
            let (a, b) = (printable(other), printable(text));
            return Err(format!("added tokens `{a}` and `{b}` have the same id, {id}"));
        }
        if let Some(other) = vocab.get(text).filter(|other| **other != id) {
            let text = printable(text);
            return Err(format!("added token `{text}` has id {id}, but {other} in the vocabulary"));
        }
    }
    Ok(by_id.into_keys().max().unwrap_or(0))
}

fn precompiled(step: &Value) -> Verdict {
    let wrong = |why: &str| format!("the table of character rewrites cannot be used: {why}");
    let table = step.get("precompiled_charsmap").and_then(Value::as_str);
    let table =
        table.and_then(|t| BASE64_STANDARD.decode(t).ok()).ok_or_else(|| wrong("it is not base64"))?;
    charsmap::check(&table).map_err(wrong)?;
    // A panic follows where the crate refuses it.
    let read: Result<tokenizers::normalizers::Precompiled, _> = serde_json::from_str(&step.to_string());
    read.map(drop).map_err(|e| wrong(&e.to_string()))
}

fn template(step: &Value, highest: u64) -> Verdict {
    let tokens = step.get("special_tokens").and_then(Value::as_object);
    let tokens = tokens.ok_or("the template has no special_tokens")?;
    for (name, token) in tokens {
        let list = |key: &str| token.get(key).and_then(Value::as_array);
        let (Some(ids), Some(spelt)) = (list("ids"), list("tokens")) else {
            return Err(format!("the template's token `{}` has no ids", printable(name)));
        };
        let known = |id: &Value| id.as_u64().is_some_and(|id| id <= highest);
        if ids.is_empty() || ids.len() != spelt.len() || !ids.iter().all(known) {
            return Err(format!("the template's token `{}` has no id of the vocabulary", printable(name)));
        }
    }
    for (key, texts) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        let pieces = step.get(key).and_then(Value::as_array);
        let pieces = pieces.ok_or_else(|| format!("the template has no form `{key}`"))?;
        if pieces.len() > MAX_STEPS {
            return Err(format!("the template `{key}` has {} pieces", pieces.len()));
        }
        for piece in pieces {
            let id = |kind: &str| piece.get(kind).and_then(|p| p.get("id")).and_then(Value::as_str);
            match (id("SpecialToken"), id("Sequence")) {
                (Some(token), None) if tokens.contains_key(token) => {}
                (None, Some(text)) if texts.contains(&text) => {}
                _ => return Err(format!("the template `{key}` has a piece that is not defined")),
            }
        }
    }
    Ok(())
}
