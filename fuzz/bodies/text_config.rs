//! The small files beside a model of texts: how it is to be sampled, how embeddings are made, what its
//! tokenizer is.
//!
//! An input is up to five texts of JSON, a NUL between them: `generation_config.json`, `modules.json`,
//! `1_Pooling/config.json` (which serves `2_Dense`, too), `config_sentence_transformers.json` (and
//! `sentence_bert_config.json`), `tokenizer_config.json` beside a `vocab.txt`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use vit_gpu::text::sentence::Sentence;
use vit_gpu::text::{GenerateOptions, GenerationConfig};
use vit_gpu::tokenizer::Tokenizer;

/// Tokens of the model that the generation configuration is for.
const VOCABULARY: usize = 100;

/// A folder of this process's own, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vit-gpu-fuzz-{}-{n}", std::process::id()));
        for folder in ["1_Pooling", "2_Dense"] {
            std::fs::create_dir_all(path.join(folder)).expect("a folder can be made");
        }
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            std::fs::write(self.0.join(name), bytes).expect("a file can be written");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let (generation, rest) = super::split(input);
    if let Ok(json) = serde_json::from_slice(generation) {
        sampled(&GenerationConfig::from_json(&json, VOCABULARY));
    }
    let (modules, rest) = super::split(rest);
    let (pooling, rest) = super::split(rest);
    let (settings, rest) = super::split(rest);
    let (tokenizer, _) = super::split(rest);
    if modules.is_empty() && tokenizer.is_empty() {
        return;
    }
    let folder = Folder::new();
    folder.write("modules.json", modules);
    for name in ["1_Pooling/config.json", "2_Dense/config.json"] {
        folder.write(name, pooling);
    }
    for name in ["config_sentence_transformers.json", "sentence_bert_config.json"] {
        folder.write(name, settings);
    }
    match Sentence::read(&folder.0) {
        Ok(Some(sentence)) => {
            assert!(!sentence.pooling_name().is_empty());
            let _ = sentence.prepared(" A Text \u{e9}");
            if let Ok(vector) = sentence.finish(vec![0.5, -1.0, 2.0]) {
                assert!(sentence.truncate.is_none_or(|most| vector.len() <= most));
            }
        }
        Ok(None) => {}
        Err(e) => assert!(!e.to_string().is_empty()),
    }
    folder.write("tokenizer_config.json", tokenizer);
    folder.write("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n");
    match Tokenizer::open(&folder.0, "bert") {
        Ok(tokenizer) => {
            let _ = tokenizer.encode("a ab [MASK]");
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// What is followed lies in its range, and names tokens of the model.
fn sampled(config: &GenerationConfig) {
    let GenerateOptions { sampling, constraints, stop, .. } = GenerateOptions::by(config, "a");
    assert!((0.0..=1e6).contains(&sampling.temperature) && sampling.top_p > 0.0 && sampling.top_p <= 1.0);
    assert!(constraints.repetition_penalty > 0.0 && constraints.repetition_penalty <= 1e6);
    assert!(stop.iter().all(|text| !text.is_empty()));
    let lists = [&constraints.suppressed, &constraints.suppressed_first].into_iter().flatten();
    let single = [constraints.forced_first, constraints.forced_last, config.start].into_iter().flatten();
    let words = constraints.bad_words.iter().flatten().chain(config.ends.iter().flatten());
    assert!(lists.chain(words).copied().chain(single).all(|id| (id as usize) < VOCABULARY));
    assert!(config.warnings.iter().all(|warning| !warning.is_empty() && warning.len() < 1000));
}
