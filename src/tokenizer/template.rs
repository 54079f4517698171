//! Pieces of a `TemplateProcessing` post-processor, as `tokenizer.json` writes them.

use serde_json::{Value, json};

/// A special token in a template.
pub(super) fn piece(token: &str, kind: u32) -> Value {
    json!({"SpecialToken": {"id": token, "type_id": kind}})
}

/// A text in a template.
pub(super) fn text_piece(which: &str, kind: u32) -> Value {
    json!({"Sequence": {"id": which, "type_id": kind}})
}

/// A template's table of special tokens.
pub(super) fn specials(tokens: &[&(String, u64)]) -> Value {
    tokens.iter().map(|(t, id)| (t.clone(), json!({"id": t, "ids": [id], "tokens": [t]}))).collect()
}
