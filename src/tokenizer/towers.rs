//! What the tokenizers of text towers (CLIP, SigLIP, SigLIP 2) do besides, as steps of a `tokenizer.json`.

use serde_json::{Map, Value, json};

/// What CLIP cuts a text into before merging: contractions, runs of letters, single digits, runs of the rest.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// ASCII punctuation, as Python's `string.punctuation` lists it.
const PUNCTUATION: &str = r"[!-/:-@\[-`{-~]";

/// Makes CLIP's tokenizer of a byte-level one with the same vocabulary (CLIPTokenizer of transformers 5). `marks`
/// open and end a text: tokens and ids.
pub(super) fn clip(root: &mut Value, marks: &[(String, u64); 2], unknown: Option<&str>) {
    let [(open, open_id), (end, end_id)] = marks;
    root["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ]});
    root["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": CLIP_WORDS}, "behavior": "Removed", "invert": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    ]});
    root["post_processor"] = json!({
        "type": "RobertaProcessing", "sep": [end, end_id], "cls": [open, open_id],
        "trim_offsets": false, "add_prefix_space": false,
    });
    root["model"]["end_of_word_suffix"] = "</w>".into();
    root["model"]["unk_token"] = unknown.map_or(Value::Null, Value::from);
}

/// Puts what SigLIP does to a text before the model's own steps: small letters, no punctuation, single spaces
/// (`canonicalize_text` of big_vision and of SiglipTokenizer).
pub(super) fn canonical(root: &mut Value) {
    let own = root["normalizer"].take();
    let mut steps = vec![
        json!({"type": "Lowercase"}),
        json!({"type": "Replace", "pattern": {"Regex": PUNCTUATION}, "content": ""}),
        json!({"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
    ];
    steps.extend((!own.is_null()).then_some(own));
    root["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
}

/// Puts small letters before all steps, as Siglip2Tokenizer does.
pub(super) fn lower(root: &mut Map<String, Value>) {
    let own = root.remove("normalizer").unwrap_or(Value::Null);
    let first = json!({"type": "Lowercase"});
    let steps = match own {
        Value::Null => vec![first],
        own => vec![first, own],
    };
    root.insert("normalizer".into(), json!({"type": "Sequence", "normalizers": steps}));
}
