//! `generation_config.json`: what a checkpoint says of how it is to be sampled is followed, on the reference
//! and on a GPU alike; flags win; what is not followed is said.

use serde_json::{Value, json};

use crate::common;
use crate::harness::{Ran, run, vit_gpu};
use crate::tiny::Tiny;

const PROMPT: [&str; 4] = ["--prompt", "the cat sat", "--format", "json"];

fn on(device: &[&str], model: &Tiny, more: &[&str]) -> Ran {
    run(vit_gpu(["generate", "-m", model.at()]).args(PROMPT).args(device).args(more))
}

fn ids_of(ran: &Ran) -> Vec<u64> {
    let ids = ran.json()["samples"][0]["ids"].clone();
    ids.as_array().expect("ids").iter().filter_map(Value::as_u64).collect()
}

/// New tokens of the one sample, the same on the reference and on a GPU.
fn ids(model: &Tiny, more: &[&str]) -> Vec<u64> {
    let reference = ids_of(&on(&["--device", "reference"], model, more).code(0));
    if common::gpu().is_some() {
        assert_eq!(ids_of(&on(&[], model, more).code(0)), reference, "on the GPU");
    }
    reference
}

fn with(case: &str, config: &Value) -> Tiny {
    let model = Tiny::new(case);
    model.write_json("generation_config.json", config);
    model
}

#[test]
fn ends_and_lengths() {
    let plain = ids(&with("gpt2", &json!({})), &["-n", "12"]);
    assert_eq!(plain.len(), 12);
    // The text ends with the first of these that comes.
    let end = plain[5];
    let first = plain.iter().position(|id| *id == end).expect("it is there");
    let model = with("gpt2", &json!({"eos_token_id": [3, end], "max_new_tokens": 9, "max_length": 4}));
    assert_eq!(ids(&model, &["-n", "12"]), plain[..=first]);
    // A word that ends a text is part of it.
    let text =
        |more: &[&str]| on(&["--device", "reference"], &model, more).json()["samples"][0]["text"].clone();
    assert_eq!(text(&["-n", "12"]), text(&["-n", "12", "--keep-special"]));
    assert_eq!(ids(&with("gpt2", &json!({"max_new_tokens": 3})), &[]), plain[..3]);
    assert_eq!(ids(&with("gpt2", &json!({"max_new_tokens": 3})), &["-n", "7"]), plain[..7], "flags win");
    // No end before its time.
    let late = with("gpt2", &json!({"eos_token_id": [end], "min_new_tokens": first + 2}));
    let later = ids(&late, &["-n", "12"]);
    assert!(later.len() > first + 1 && !later[..=first].contains(&end), "{later:?}");
    let asked = ids(
        &with("gpt2", &json!({"eos_token_id": [end]})),
        &["-n", "12", "--min-tokens", &(first + 2).to_string()],
    );
    assert_eq!(asked, later);
    // Older folders have the keys in config.json.
    let old = Tiny::new("gpt2");
    old.edit("config.json", |config| config["eos_token_id"] = json!([3, end]));
    assert_eq!(ids(&old, &["-n", "12"]), plain[..=first]);
}

#[test]
fn penalties_and_bans() {
    let plain = ids(&with("gpt2", &json!({})), &["-n", "12"]);
    let once = ids(&with("gpt2", &json!({"no_repeat_ngram_size": 1})), &["-n", "12"]);
    let mut sorted = once.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 12, "no token twice: {once:?}");
    assert_eq!(ids(&with("gpt2", &json!({})), &["-n", "12", "--no-repeat-ngram", "1"]), once);
    let none =
        ids(&with("gpt2", &json!({"no_repeat_ngram_size": 1})), &["-n", "12", "--no-repeat-ngram", "0"]);
    assert_eq!(none, plain);
    let strong = ids(&with("gpt2", &json!({})), &["-n", "12", "--repetition-penalty", "1000"]);
    assert_eq!(ids(&with("gpt2", &json!({"repetition_penalty": 1000.0})), &["-n", "12"]), strong);
    let banned = [plain[0], plain[1]];
    for config in [json!({"suppress_tokens": banned}), json!({"bad_words_ids": [[banned[0]], [banned[1]]]})] {
        let left = ids(&with("gpt2", &config), &["-n", "12"]);
        assert!(!left.iter().any(|id| banned.contains(id)), "{left:?}");
    }
    let pair = ids(&with("gpt2", &json!({"bad_words_ids": [[plain[0], plain[1]]]})), &["-n", "12"]);
    assert!(pair[0] == plain[0] && pair.windows(2).all(|w| w != [plain[0], plain[1]]), "{pair:?}");
    let first = ids(&with("gpt2", &json!({"begin_suppress_tokens": [plain[0]]})), &["-n", "12"]);
    assert_ne!(first[0], plain[0]);
    let last = ids(&with("gpt2", &json!({"forced_eos_token_id": 7})), &["-n", "4"]);
    assert_eq!((&last[..3], last[3]), (&plain[..3], 7));
    // A search follows them, too.
    let beams = ids(&with("gpt2", &json!({"no_repeat_ngram_size": 1})), &["-n", "9", "--beams", "3"]);
    let mut sorted = beams.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), beams.len(), "{beams:?}");
}

#[test]
fn t5_begins_as_it_is_told() {
    let plain = ids(&with("t5_v11", &json!({})), &["-n", "5"]);
    let forced = ids(&with("t5_v11", &json!({"forced_bos_token_id": 9})), &["-n", "5"]);
    assert!(forced[0] == 9 && plain[0] != 9, "{forced:?} {plain:?}");
    let start = ids(&with("t5_v11", &json!({"decoder_start_token_id": 9})), &["-n", "5"]);
    let by_config = Tiny::new("t5_v11");
    by_config.edit("config.json", |config| config["decoder_start_token_id"] = 9.into());
    assert_eq!(start, ids(&by_config, &["-n", "5"]));
}

#[test]
fn chance_and_what_is_not_followed() {
    let chance = json!({"do_sample": true, "temperature": 0.7, "top_k": 0, "top_p": 0.9});
    let model = with("gpt2", &chance);
    let ran = on(&["--device", "reference"], &model, &["-n", "8", "--seed", "3"]).code(0);
    let ran = ran.says(&["the checkpoint asks for chance: temperature 0.7, top-k 0, top-p 0.9"]);
    let flags = ["-n", "8", "--seed", "3", "--temperature", "0.7", "--top-p", "0.9"];
    assert_eq!(ids_of(&ran), ids(&Tiny::new("gpt2"), &flags));
    let greedy = ids(&model, &["-n", "8", "--temperature", "0"]);
    assert_eq!(greedy, ids(&Tiny::new("gpt2"), &["-n", "8"]));

    let config = json!({"do_sample": true, "num_beams": 4, "eos_token_id": 1_000_000, "penalty_alpha": 0.6});
    let model = with("gpt2", &config);
    let ran = on(&["--device", "reference"], &model, &["-n", "2"]).code(0);
    ran.says(&["`num_beams` is 4, which is not followed", "`penalty_alpha`", "`eos_token_id` is 1000000"]);
    model.write("generation_config.json", "{");
    on(&["--device", "reference"], &model, &["-n", "2"])
        .code(3)
        .says(&["generation_config.json", "not valid JSON"]);
}

#[test]
fn a_search_that_the_checkpoint_asks_for() {
    let search =
        json!({"num_beams": 3, "length_penalty": 0.5, "early_stopping": true, "no_repeat_ngram_size": 2});
    let model = with("gpt2", &search);
    let ran = on(&["--device", "reference"], &model, &["-n", "8"]).code(0);
    let ran = ran.says(&["the checkpoint asks for a search of 3 beams"]);
    let told = ran.json();
    assert_eq!((&told["beams"], &told["length_penalty"]), (&json!(3), &json!(0.5)));
    assert_eq!(told["constraints"]["no_repeat_ngram"], json!(2));
    let flags = ["-n", "8", "--beams", "3", "--length-penalty", "0.5", "--no-repeat-ngram", "2"];
    assert_eq!(ids(&model, &["-n", "8"]), ids(&Tiny::new("gpt2"), &flags));
    let likeliest = ["-n", "8", "--temperature", "0", "--no-repeat-ngram", "0"];
    assert_eq!(ids(&model, &likeliest), ids(&Tiny::new("gpt2"), &["-n", "8"]));
    let ran = on(&["--device", "reference"], &model, &["-n", "8", "--stop", "."]).code(0);
    assert!(ran.says(&["--stop does not go with the 3 beams"]).json().get("beams").is_none());
}
