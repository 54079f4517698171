//! Small models of texts to run the program on: weights of `tests/golden`, and a tokenizer of as many
//! tokens as each has. What they say means nothing; it is the same every time.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::golden;

/// A folder with a golden model's weights and a tokenizer, that a case may spoil.
pub struct Tiny {
    folder: tempfile::TempDir,
}

impl Tiny {
    /// The model of a golden case.
    pub fn new(case: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden(case).join(file), folder.path().join(file)).expect("a copy");
        }
        let tiny = Self { folder };
        let config = tiny.json("config.json");
        let size = config["vocab_size"].as_u64().expect("a vocabulary") as usize;
        match config["model_type"].as_str().expect("a type") {
            "gpt2" => tiny.write_json("tokenizer.json", &byte_level(size)),
            "t5" => tiny.write_json("tokenizer.json", &unigram(size)),
            "modernbert" => {
                let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text/modernbert/json");
                for file in ["tokenizer.json", "tokenizer_config.json"] {
                    fs::copy(own.join(file), tiny.file(file)).expect("a copy");
                }
            }
            _ => tiny.write("vocab.txt", word_piece(size).join("\n")),
        }
        tiny
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder as an argument.
    pub fn at(&self) -> &str {
        self.path().to_str().expect("text")
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.file(name), bytes).expect("a file");
    }

    /// As [`Tiny::write`], JSON.
    pub fn write_json(&self, name: &str, value: &Value) {
        self.write(name, value.to_string());
    }

    /// A file as JSON.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.file(name)).expect("a file")).expect("JSON")
    }

    /// Changes a JSON file.
    pub fn edit(&self, name: &str, change: impl Fn(&mut Value)) {
        let mut json = self.json(name);
        change(&mut json);
        self.write_json(name, &json);
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("a file");
    }
}

/// BERT's special tokens, letters that begin and go on words, some words.
fn word_piece(size: usize) -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let letters = || (b'a'..=b'z').map(char::from);
    let words = [
        ".", ",", "?", "the", "cat", "dog", "sat", "sleeps", "on", "mat", "who", "is", "a", "man", "where",
        "it",
    ];
    let all = special
        .into_iter()
        .chain(letters().map(String::from))
        .chain(letters().map(|c| format!("##{c}")))
        .chain(words.map(str::to_owned));
    let mut all: Vec<String> = all.collect();
    let filled = all.len();
    all.extend((filled..size).map(|i| format!("[unused{i}]")));
    all
}

/// Letters and a few words as GPT-2 spells them; the last token ends a text.
fn byte_level(size: usize) -> Value {
    let mut tokens: Vec<String> = (b'a'..=b'z').map(|c| char::from(c).to_string()).collect();
    tokens.extend(["Ġ", "Ċ", ".", ",", "?", ":", "A", "T", "Y", "N"].map(str::to_owned));
    // Bytes of ä (C3 A4) and 🦀 (F0 9F A6 80).
    tokens.extend(["Ã", "¤", "ð", "Ł", "¦", "Ģ"].map(str::to_owned));
    let merges = [["t", "h"], ["th", "e"], ["Ġ", "the"], ["Ġ", "c"], ["Ġc", "a"], ["Ġca", "t"]];
    tokens.extend(merges.map(|[a, b]| format!("{a}{b}")));
    let filled = tokens.len();
    tokens.extend((filled..size - 1).map(|i| format!("unused{i}")));
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(i, t)| (t.clone(), i.into())).collect();
    let mut vocab = vocab;
    vocab.insert("<|endoftext|>".to_owned(), (size - 1).into());
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "added_tokens": [added(size - 1, "<|endoftext|>")],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

/// Letters, each with and without a space before it; what T5 has for spans stands at the end.
fn unigram(size: usize) -> Value {
    let spans = 4;
    let mut pieces: Vec<(String, f64)> =
        vec![("<pad>".to_owned(), 0.0), ("</s>".to_owned(), 0.0), ("<unk>".to_owned(), 0.0)];
    pieces.push(("▁".to_owned(), -2.0));
    pieces.extend((b'a'..=b'z').map(|c| (char::from(c).to_string(), -5.0)));
    pieces.extend((b'a'..=b'z').map(|c| (format!("▁{}", char::from(c)), -4.0)));
    pieces.extend(["▁the", "▁cat", "▁yes", "▁no", ".", ":", "?"].map(|p| (p.to_owned(), -3.0)));
    let filled = pieces.len();
    pieces.extend((filled..size - spans).map(|i| (format!("unused{i}"), -20.0)));
    pieces.extend((0..spans).rev().map(|i| (format!("<extra_id_{i}>"), -20.0)));
    let mut tokens = vec![added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>")];
    tokens.extend((0..spans).rev().map(|i| added(size - 1 - i, &format!("<extra_id_{i}>"))));
    let space = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    json!({
        "version": "1.0",
        "added_tokens": tokens,
        "pre_tokenizer": space,
        "decoder": space,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces},
    })
}

fn added(id: usize, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}
