//! Every task of the text models on trained checkpoints, tiny ones (`tools/train/train_toys.py`), against
//! what transformers answers to the same questions: `tests/toys/toys_expected.json`. From the text to the
//! answer: tokenizer, model, and what is made of its scores.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::open;
use serde_json::Value as Json;
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::ops::{Guidance, Sampling};
use vit_gpu::session::{ModelSource, Options};
use vit_gpu::text::{Ended, GenerateOptions, Template, TextSession, TooLong};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toys")
}

/// A toy on the adapter, if there is one.
fn toy(name: &str) -> Option<TextSession> {
    open(&DeviceChoice::default())?;
    Some(TextSession::open(&ModelSource::Path(root().join(name)), &Options::default()).unwrap())
}

/// What transformers answered.
fn expected(name: &str) -> Json {
    let all: Json =
        serde_json::from_slice(&std::fs::read(root().join("toys_expected.json")).unwrap()).unwrap();
    all[name].clone()
}

fn text<'a>(row: &'a Json, key: &str) -> &'a str {
    row[key].as_str().unwrap()
}

fn near(got: f64, want: &Json, most: f64, what: &str) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= most, "{what}: {got}, transformers {want}");
}

fn writing(prompt: &str, tokens: usize) -> GenerateOptions {
    GenerateOptions { tokens: Some(tokens), ..GenerateOptions::new(prompt) }
}

#[test]
fn masks_are_filled() {
    let Some(session) = toy("bert-toy") else { return };
    for row in expected("masks").as_array().unwrap() {
        let filled = session.fill(text(row, "text"), 3, TooLong::Refuse).unwrap();
        let masks = row["masks"].as_array().unwrap();
        assert_eq!(filled.len(), masks.len());
        for (mask, want) in filled.iter().zip(masks) {
            for ((word, id, probability), want) in mask.tokens.iter().zip(want.as_array().unwrap()) {
                assert_eq!(
                    (word.as_str(), u64::from(*id)),
                    (text(want, "token"), want["id"].as_u64().unwrap())
                );
                near(f64::from(*probability), &want["probability"], 1e-3, word);
            }
        }
    }
}

#[test]
fn sentences_follow_or_not() {
    let Some(session) = toy("bert-toy") else { return };
    let rows = expected("next_sentence");
    let rows = rows.as_array().unwrap();
    let pairs: Vec<(&str, &str)> = rows.iter().map(|row| (text(row, "text"), text(row, "pair"))).collect();
    for (row, scored) in rows.iter().zip(session.next_sentence(&pairs, TooLong::Refuse).unwrap()) {
        near(f64::from(scored.scores[0]), &row["probability"], 1e-3, text(row, "pair"));
    }
}

#[test]
fn pairs_are_classified_by_added_heads() {
    for name in ["bert-toy-mnli", "gpt2-toy-mnli"] {
        let Some(session) = toy(name) else { return };
        let rows = expected(name);
        let rows = rows.as_array().unwrap();
        let pairs: Vec<_> = rows.iter().map(|row| (text(row, "text"), Some(text(row, "pair")))).collect();
        for (row, scored) in rows.iter().zip(session.classify(&pairs, TooLong::Refuse).unwrap()) {
            for (label, probability) in session.labels().names.iter().zip(scored.scores) {
                near(f64::from(probability), &row["probabilities"][label], 1e-3, text(row, "pair"));
            }
        }
    }
}

#[test]
fn questions_are_answered_or_not() {
    let Some(session) = toy("bert-toy-squad") else { return };
    for row in expected("bert-toy-squad").as_array().unwrap() {
        let context = text(row, "context");
        let answers = session.answer(text(row, "question"), context, true).unwrap();
        let (best, none) = (&answers.best[0], answers.none.as_ref().unwrap());
        assert_eq!(&context[best.bytes.clone()], text(row, "best"), "{}", text(row, "question"));
        assert_eq!(best.characters.start as u64, row["start"].as_u64().unwrap());
        assert_eq!(best.characters.end as u64, row["end"].as_u64().unwrap());
        near(best.score, &row["score"], 1e-2, "score");
        near(none.score, &row["none"], 1e-2, "no answer");
        assert_eq!(none.margin > 0.0, text(row, "answer").is_empty());
    }
}

#[test]
fn texts_are_as_likely_as_to_the_original() {
    let Some(session) = toy("gpt2-toy") else { return };
    for row in expected("gpt2-toy perplexity").as_array().unwrap() {
        let likelihood = session.likelihood(text(row, "text")).unwrap();
        assert_eq!(likelihood.tokens as u64, row["tokens"].as_u64().unwrap());
        near(likelihood.log, &row["log_likelihood"], 1e-2, text(row, "text"));
    }
}

#[test]
fn labels_are_chosen_by_likelihood() {
    for name in ["gpt2-toy", "t5-toy"] {
        let Some(session) = toy(name) else { return };
        let all = expected(&format!("{name} labels"));
        let template = Template::new(text(&all, "template")).unwrap();
        for row in all["examples"].as_array().unwrap() {
            let labels: Vec<String> = row["log_likelihoods"].as_object().unwrap().keys().cloned().collect();
            let pair = (text(row, "text"), Some(text(row, "pair")));
            for choice in session.choose(pair, &labels, &template, TooLong::Refuse).unwrap() {
                near(choice.likelihood.log, &row["log_likelihoods"][&choice.label], 1e-2, &choice.label);
                near(
                    f64::from(choice.probability),
                    &row["probabilities"][&choice.label],
                    2e-3,
                    &choice.label,
                );
            }
        }
    }
}

#[test]
fn texts_are_written_token_for_token() {
    for (name, list) in
        [("gpt2-toy", "gpt2-toy greedy"), ("t5-toy", "t5-toy answers"), ("t5-toy", "t5-toy spans")]
    {
        let Some(session) = toy(name) else { return };
        for row in expected(list).as_array().unwrap() {
            let ids: Vec<u64> =
                row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
            let mut told = String::new();
            let keep = list.ends_with("spans");
            let wanted = GenerateOptions { keep_special: keep, ..writing(text(row, "prompt"), ids.len()) };
            let written = session
                .generate(&wanted, &mut |piece| {
                    told.push_str(piece.text);
                    Ok(())
                })
                .unwrap();
            let got: Vec<u64> = written.ids[0].iter().map(|&id| u64::from(id)).collect();
            assert_eq!(got, ids[..got.len()], "{}", text(row, "prompt"));
            assert!(got.len() == ids.len() || written.ended[0] == Ended::EndToken);
            assert_eq!(told, written.texts[0], "pieces are the whole");
            if !keep {
                assert_eq!(told.trim(), text(row, "text").trim());
            }
        }
    }
}

#[test]
fn samples_share_a_prompt_and_are_their_own() {
    let Some(session) = toy("gpt2-toy") else { return };
    let prompt = "Anna put the red ball in the box.";
    let guidance = Guidance { first: 1.0, last: 1.0, places: 1 };
    let sampling = Sampling { seed: 7, temperature: 1.0, top_k: 0, top_p: 1.0, guidance };
    let wanted = GenerateOptions { samples: 3, sampling, ..writing(prompt, 20) };
    let together = session.generate(&wanted, &mut |_| Ok(())).unwrap();
    assert!(together.ids[0] != together.ids[1] || together.ids[1] != together.ids[2]);
    for sample in 0..3u32 {
        let alone = GenerateOptions { samples: 1, first: sample, ..wanted.clone() };
        let alone = session.generate(&alone, &mut |_| Ok(())).unwrap();
        assert_eq!(alone.ids[0], together.ids[sample as usize], "sample {sample}");
    }
    let greedy =
        session.generate(&GenerateOptions { samples: 2, ..writing(prompt, 20) }, &mut |_| Ok(())).unwrap();
    assert_eq!(greedy.ids[0], greedy.ids[1]);
}

#[test]
fn a_stop_text_ends_a_text_and_is_left_away() {
    let Some(session) = toy("gpt2-toy") else { return };
    let whole = session.generate(&writing("Anna put the red ball in the box.", 24), &mut |_| Ok(())).unwrap();
    let stop = whole.texts[0].split_whitespace().nth(1).unwrap().to_owned();
    let wanted =
        GenerateOptions { stop: vec![stop.clone()], ..writing("Anna put the red ball in the box.", 24) };
    let stopped = session.generate(&wanted, &mut |_| Ok(())).unwrap();
    assert_eq!(stopped.ended[0], Ended::Stop(stop.clone()));
    assert_eq!(stopped.texts[0], whole.texts[0][..whole.texts[0].find(&stop).unwrap()]);
}

#[test]
fn an_empty_text_has_no_class() {
    let Some(session) = toy("gpt2-toy-mnli") else { return };
    let error = session.classify(&[("", None)], TooLong::Refuse).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
}
