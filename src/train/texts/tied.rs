//! Files that hold a tensor twice under two names, where the model has one: trained under one name alone, the other
//! would be stale.

use serde_json::Value as Json;

use crate::error::Result;
use crate::session::ModelFiles;

/// Ends of names: a tensor, and what transformers makes the same one where both are equal in the file.
const TIED: &[(&str, &[&str])] = &[
    ("wte.weight", &["lm_head.weight"]),
    ("shared.weight", &["lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]),
    (
        "word_embeddings.weight",
        &["cls.predictions.decoder.weight", "lm_head.decoder.weight", "vocab_projector.weight"],
    ),
    ("cls.predictions.bias", &["cls.predictions.decoder.bias"]),
    ("lm_head.bias", &["lm_head.decoder.bias"]),
];

/// The files without copies. Where a head's weight is another one than the table of words, and the configuration says
/// that it is the same, it says that no more.
///
/// # Errors
/// [`crate::Error::Model`] for tensors that cannot be read.
pub(super) fn told_apart(mut files: ModelFiles) -> Result<ModelFiles> {
    if files.adapter.is_some() {
        return Ok(files);
    }
    let tied = files.config["tie_word_embeddings"].as_bool().unwrap_or(true);
    let names: Vec<String> = files.checkpoint.index().keys().cloned().collect();
    let of = |end: &str| names.iter().find(|name| name.ends_with(end));
    let (mut copies, mut apart): (Vec<&String>, bool) = (vec![], false);
    for (first, others) in TIED {
        let Some(first) = of(first) else { continue };
        for other in others.iter().filter_map(|other| of(other)) {
            let embeds = other.ends_with("embed_tokens.weight");
            if !tied && !embeds {
                continue;
            }
            let [a, b] = [first, other].map(|name| files.checkpoint.read(name));
            if a?.as_f32() == b?.as_f32() {
                copies.push(other);
            } else {
                apart |= other.ends_with(".weight") && !embeds;
            }
        }
    }
    let kept = |name: &str| (!copies.iter().any(|copy| *copy == name)).then(|| name.to_owned());
    if !copies.is_empty() {
        files.checkpoint = files.checkpoint.renamed(&kept);
    }
    // In T5 it says whether what the head reads is scaled.
    let is_t5 = files.config["model_type"] == "t5";
    if apart
        && !is_t5
        && let Some(config) = files.config.as_object_mut()
    {
        config.insert("tie_word_embeddings".to_owned(), Json::Bool(false));
    }
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::tensor::HostTensor;

    #[test]
    fn copies_go_and_others_are_said() {
        let told = |config: Json, head: f32| {
            let tensor = |name: &str, x: f32| (name.to_owned(), HostTensor::f32([2, 1], vec![x, 1.0]));
            let tensors = [tensor("transformer.wte.weight", 0.5), tensor("lm_head.weight", head)];
            let checkpoint = Checkpoint::from_tensors("made", tensors).unwrap();
            let files = told_apart(ModelFiles::new("made", config, checkpoint)).unwrap();
            let names: Vec<String> = files.checkpoint.index().keys().cloned().collect();
            (names.len(), files.config["tie_word_embeddings"].clone())
        };
        assert_eq!(told(json!({"model_type": "gpt2"}), 0.5), (1, Json::Null));
        assert_eq!(told(json!({"model_type": "gpt2"}), 0.6), (2, json!(false)));
        assert_eq!(told(json!({"model_type": "t5"}), 0.6), (2, Json::Null));
        assert_eq!(told(json!({"tie_word_embeddings": false}), 0.5), (2, json!(false)));
    }
}
