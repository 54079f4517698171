//! `train` on texts: what each objective learns, that other commands take what it writes, and what it refuses.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::harness::{Ran, go, names, run, scratch, vit_gpu};

const NAMES: [&str; 8] = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry"];
const COLOURS: [&str; 5] = ["red", "blue", "green", "black", "white"];
const THINGS: [&str; 7] = ["ball", "hat", "key", "lamp", "ring", "cup", "pen"];
const PLACES: [&str; 3] = ["park", "school", "library"];

/// Who, what colour, what, where: another one for each number.
fn scene(i: usize) -> [&'static str; 4] {
    [NAMES[i % 8], COLOURS[i % 5], THINGS[i % 7], PLACES[i % 3]]
}

/// A file of one line for each of some scenes.
fn file(path: &Path, scenes: std::ops::Range<usize>, line: &dyn Fn([&str; 4]) -> String) {
    fs::write(path, scenes.map(|i| line(scene(i)) + "\n").collect::<String>()).unwrap();
}

/// A small run on the reference.
fn train(model: &str, data: &Path, out: &Path, more: &[&str]) -> Ran {
    let mut command = vit_gpu(["train", "--device", "reference", "-b", "8", "--format", "jsonl", "--force"]);
    run(command.args(["-m", model, "--data"]).arg(data).arg("-o").arg(out).args(more))
}

/// A number of a validation.
fn found(row: &Json, name: &str) -> f64 {
    let all = row["found"].as_array().unwrap();
    all.iter().find(|pair| pair[0] == name).unwrap_or_else(|| panic!("no {name} in {row}"))[1]
        .as_f64()
        .unwrap()
}

/// The best number of a run that was ended.
fn best(out: &Path) -> (u64, f64) {
    let state: Json =
        serde_json::from_str(&fs::read_to_string(out.join("last/trainer_state.json")).unwrap()).unwrap();
    (state["best"][0].as_u64().unwrap(), state["best"][1].as_f64().unwrap())
}

/// What a command prints of a model.
fn told(command: &str, model: &Path, more: &[&str]) -> String {
    let mut infer = vit_gpu([command, "--device", "reference", "-m"]);
    run(infer.arg(model).args(more)).code(0).out
}

fn story(folder: &Path) -> PathBuf {
    let path = folder.join("story.txt");
    file(&path, 0..40, &|[who, colour, thing, place]| {
        format!("{who} went to the {place}. {who} has the {colour} {thing}.")
    });
    path
}

#[test]
fn running_text_teaches_the_next_token_and_the_least_perplexity_is_best() {
    let folder = scratch();
    let (data, out) = (story(folder.path()), folder.path().join("run"));
    let ran =
        train("tests/toys/gpt2-toy", &data, &out, &["--epochs", "3", "--max-length", "24", "--lr", "2e-3"]);
    let rows = ran.code(0).says(&["causal-lm: ", "pieces of text to train on", "perplexity"]).json_lines();
    let perplexities: Vec<f64> = rows.iter().map(|row| found(row, "perplexity")).collect();
    assert!(perplexities[2] < 0.8 * perplexities[0], "{perplexities:?}");
    for row in &rows {
        assert!((found(row, "loss").exp() / found(row, "perplexity") - 1.0).abs() < 1e-9, "{row}");
    }
    let least = perplexities.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(best(&out).1, least);
    let summary = fs::read_to_string(out.join("summary.csv")).unwrap();
    assert!(summary.starts_with("epoch,step,train_loss,lr,perplexity,loss\n"), "{summary}");
    assert!(fs::read_to_string(out.join("curve.svg")).unwrap().contains("perplexity"));
    assert!(!told("generate", &out.join("best"), &["--prompt", "Anna went", "-n", "4"]).trim().is_empty());
    // A rate that makes it worse: the first epoch stays the best.
    let rows = train(
        "tests/toys/gpt2-toy",
        &data,
        &out,
        &["--epochs", "2", "--max-tokens", "24", "--lr", "0.5", "--warmup-epochs", "1.5"],
    );
    let rows = rows.code(0).json_lines();
    let both = [0, 1].map(|i| found(&rows[i], "perplexity"));
    assert_eq!(best(&out), if both[1] < both[0] { (2, both[1]) } else { (1, both[0]) });
    assert!(both[1] > both[0], "{both:?}");
}

#[test]
fn an_adapter_learns_words_and_has_no_head() {
    let folder = scratch();
    let data = story(folder.path());
    for (model, command, args) in [
        ("gpt2-toy", "generate", &["--prompt", "Anna", "-n", "3"][..]),
        ("bert-toy", "infer", &["--text", "Anna has the [MASK] ball."]),
        ("t5-toy", "generate", &["--prompt", "Anna has the <extra_id_0> ball.", "-n", "3", "--keep-special"]),
    ] {
        let out = folder.path().join(model);
        let model = format!("tests/toys/{model}");
        let more = ["--epochs", "3", "--lora", "4", "--max-tokens", "24", "--lr", "3e-3"];
        let rows = train(&model, &data, &out, &more).code(0).json_lines();
        let losses = [0, 2].map(|i| found(&rows[i], "loss"));
        assert!(losses[1] < losses[0], "{model}: {losses:?}");
        let config = fs::read_to_string(out.join("best/adapter_config.json")).unwrap();
        let config: Json = serde_json::from_str(&config).unwrap();
        assert_eq!(config["modules_to_save"], Json::Null, "{config}");
        told(command, &out.join("best"), args);
        train(&model, &data, &out, &["--trainable", "head", "--max-tokens", "24"])
            .code(2)
            .says(&["no head of its own"]);
    }
}

#[test]
fn masked_words_are_learned_by_the_last_layers() {
    let folder = scratch();
    let (data, out) = (story(folder.path()), folder.path().join("run"));
    let more = ["--epochs", "4", "--max-tokens", "24", "--lr", "2e-3", "--trainable", "last-2"];
    let rows = train("tests/toys/bert-toy", &data, &out, &more).code(0).says(&["masked-lm: "]).json_lines();
    assert!(found(&rows[3], "perplexity") < found(&rows[0], "perplexity"), "{rows:?}");
    let answer = told("infer", &out.join("best"), &["--text", "Anna went to the [MASK]."]);
    assert!(PLACES.iter().any(|place| answer.contains(place)), "{answer}");
}

/// SQuAD's own form.
fn squad(path: &Path, scenes: std::ops::Range<usize>) {
    let paragraph = |i: usize| {
        let [who, colour, thing, place] = scene(i);
        let context = format!("Où: {who} went to the {place}. {who} has the {colour} {thing}.");
        // A third has no answer.
        let (question, answers) = match i % 3 {
            0 => (format!("Does {who} like the {thing}?"), json!([])),
            _ => {
                let start = context.find(place).map(|at| context[..at].chars().count()).unwrap();
                (format!("Where did {who} go?"), json!([{"text": place, "answer_start": start}]))
            }
        };
        json!({"context": context, "qas": [
            {"id": i.to_string(), "question": question, "answers": answers, "is_impossible": i.is_multiple_of(3)}]})
    };
    let all = json!({"version": "v2.0", "data": [{"paragraphs": scenes.map(paragraph).collect::<Vec<_>>()}]});
    fs::write(path, all.to_string()).unwrap();
}

#[test]
fn questions_of_squad_are_answered_or_not() {
    let folder = scratch();
    let (data, out) = (folder.path().join("data"), folder.path().join("run"));
    fs::create_dir(&data).unwrap();
    squad(&data.join("train.json"), 0..32);
    squad(&data.join("validation.json"), 32..44);
    // By a rate of nothing it stays as it begins.
    let ran = train("tests/toys/bert-toy", &data, &out, &["--epochs", "1", "--lr", "1e-12"]).code(0);
    let begun =
        ran.says(&["question-answering: 32 windows to train on, 12 to validate on", "no head for that"]);
    let begun = found(&begun.json_lines()[0], "f1");
    let more = ["--epochs", "5", "--lr", "3e-3", "--warmup-epochs", "0.5"];
    let rows = train("tests/toys/bert-toy", &data, &out, &more).code(0).json_lines();
    let learned = found(&rows[4], "f1");
    // 4 of 12 have no answer, which alone would be a third.
    assert!(learned > begun && learned > 0.6, "{begun} {learned}");
    assert_eq!(found(&rows[4], "exact_match"), learned, "answers are single words");
    let most = rows.iter().map(|row| found(row, "f1")).fold(0.0, f64::max);
    assert_eq!(best(&out).1, most);
    assert_eq!(
        fs::read_to_string(out.join("best/config.json")).unwrap().matches("BertForQuestionAnswering").count(),
        1
    );
    let asked =
        ["--question", "Where did Ben go?", "--context", "Ben went to the school. Ben has the red ball."];
    assert!(told("infer", &out.join("best"), &asked).contains("school"));
    // Windows: the head alone of a model that answers already.
    let more = ["--epochs", "1", "--trainable", "head", "--max-tokens", "20"];
    let ran = train("tests/toys/bert-toy-squad", &data, &folder.path().join("head"), &more).code(0);
    let windows: usize =
        ran.err.split("question-answering: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(windows > 32 && !ran.err.contains("no head for that"), "{ran:?}");
}

#[test]
fn sources_and_targets_teach_text_to_text() {
    let folder = scratch();
    let (data, out) = (folder.path().join("data"), folder.path().join("run"));
    fs::create_dir(&data).unwrap();
    let line = |[who, colour, thing, place]: [&str; 4]| {
        json!({"source": format!("{who} has the {colour} {thing} in the {place}."), "target": format!("{colour} {thing}")})
            .to_string()
    };
    file(&data.join("train.jsonl"), 0..56, &line);
    file(&data.join("validation.jsonl"), 56..70, &line);
    let ran = train("tests/toys/t5-toy", &data, &out, &["--epochs", "1", "--lr", "1e-12"]).code(0);
    let begun = ran.says(&["text-to-text: 56 pairs to train on, 14 to validate on"]).json_lines();
    let rows =
        train("tests/toys/t5-toy", &data, &out, &["--epochs", "6", "--lr", "3e-3"]).code(0).json_lines();
    let [before, after] =
        [&begun[0], &rows[5]].map(|row| [found(row, "perplexity"), found(row, "exact_match")]);
    assert!(after[0] < before[0] && after[1] > before[1] && after[1] > 0.5, "{before:?} {after:?}");
    // What it says of greedy writing is what greedy writing gives, of the model that is left.
    let written = |i: usize| {
        let [who, colour, thing, place] = scene(i);
        let source = format!("{who} has the {colour} {thing} in the {place}.");
        told("generate", &out.join("last"), &["--prompt", &source, "-n", "8"]).trim()
            == format!("{colour} {thing}")
    };
    let right = (56..70).filter(|&i| written(i)).count();
    assert!((right as f64 / 14.0 - after[1]).abs() < 1e-9, "{right} of 14, {after:?}");
}

#[test]
fn gaps_are_mended() {
    let folder = scratch();
    let (data, out) = (story(folder.path()), folder.path().join("run"));
    let more = ["--epochs", "4", "--max-tokens", "24", "--lr", "2e-3"];
    let rows =
        train("tests/toys/t5-toy", &data, &out, &more).code(0).says(&["span-corruption: "]).json_lines();
    assert!(found(&rows[3], "perplexity") < found(&rows[0], "perplexity"), "{rows:?}");
}

#[test]
fn tags_get_a_head_and_entities_are_found() {
    let folder = scratch();
    let (data, out) = (folder.path().join("all.jsonl"), folder.path().join("run"));
    file(&data, 0..40, &|[who, colour, thing, place]| {
        json!({"tokens": [who, "has", "the", colour, thing, "in", "the", place],
               "tags": ["B-PER", "O", "O", "B-OBJ", "I-OBJ", "O", "O", "B-LOC"]})
        .to_string()
    });
    let more = ["--epochs", "3", "--lr", "3e-3", "--warmup-epochs", "0.5"];
    let ran = train("tests/toys/bert-toy", &data, &out, &more).code(0);
    let rows = ran.says(&["token-classification: 36 sentences", "the tags are not the model's"]).json_lines();
    assert!(found(&rows[2], "f1") > 0.9 && found(&rows[2], "accuracy") > 0.9, "{rows:?}");
    let ask = ["--text", "Emma has the red cup in the park.", "--aggregate", "simple", "--format", "json"];
    let answer = told("infer", &out.join("best"), &ask);
    assert!(["PER", "OBJ", "LOC"].iter().all(|kind| answer.contains(kind)), "{answer}");
    // An adapter, with the head for the tags as a whole.
    let adapter = folder.path().join("adapter");
    let ran = train("tests/toys/bert-toy", &data, &adapter, &[&more[..], &["--lora", "2"]].concat()).code(0);
    let rows = ran.json_lines();
    assert!(found(&rows[2], "loss") < found(&rows[0], "loss"), "{rows:?}");
    let config = fs::read_to_string(adapter.join("best/adapter_config.json")).unwrap();
    assert!(config.contains("\"classifier\""), "{config}");
    assert!(told("infer", &adapter.join("best"), &ask).contains("PER"));
    // The same tags again: the head stays.
    let ran =
        train(out.join("best").to_str().unwrap(), &data, &folder.path().join("again"), &["--epochs", "1"]);
    assert!(!ran.code(0).err.contains("not the model's"));
}

#[test]
fn a_number_is_told() {
    let folder = scratch();
    let (data, out) = (folder.path().join("all.tsv"), folder.path().join("run"));
    let rows: String = (0..40)
        .map(|i| {
            format!(
                "{} has the {} {}.\t{}\n",
                NAMES[i % 8],
                COLOURS[i % 5],
                THINGS[i % 7],
                (i % 5) as f32 / 2.0
            )
        })
        .collect();
    fs::write(&data, format!("text\tlabel\n{rows}")).unwrap();
    let more = ["--objective", "regression", "--epochs", "6", "--lr", "3e-3"];
    let rows =
        train("tests/toys/bert-toy", &data, &out, &more).code(0).says(&["no head for that"]).json_lines();
    assert!(found(&rows[5], "loss") < found(&rows[0], "loss"), "{rows:?}");
    assert!(found(&rows[5], "mean_absolute_error") > 0.0);
    let config: Json =
        serde_json::from_str(&fs::read_to_string(out.join("best/config.json")).unwrap()).unwrap();
    assert_eq!(config["problem_type"], "regression");
    let answer = told("infer", &out.join("best"), &["--text", "Ben has the red hat.", "--format", "json"]);
    assert!(answer.contains("\"score\""), "{answer}");
    // A model of numbers goes on with them unasked.
    let ran =
        train(out.join("best").to_str().unwrap(), &data, &folder.path().join("again"), &["--epochs", "1"]);
    ran.code(0).says(&["regression: "]);
}

#[test]
fn new_models_begin_with_a_configuration_and_a_tokenizer() {
    let folder = scratch();
    let data = story(folder.path());
    for model in ["gpt2-toy", "bert-toy", "t5-toy"] {
        let out = folder.path().join(model);
        let own = Path::new("tests/toys").join(model);
        let config = folder.path().join(format!("{model}.json"));
        fs::copy(own.join("config.json"), &config).unwrap();
        let begin = |tokenizer: &[&str]| {
            let mut command =
                vit_gpu(["train", "--device", "reference", "-b", "8", "--epochs", "2", "--force"]);
            command.args(["--max-tokens", "24", "--lr", "3e-3", "--format", "jsonl", "--new"]).arg(&config);
            run(command.arg("--data").arg(&data).arg("-o").arg(&out).args(tokenizer))
        };
        begin(&[]).code(3);
        let rows = begin(&["--tokenizer", own.to_str().unwrap()]).code(0).json_lines();
        assert!(found(&rows[1], "loss") < found(&rows[0], "loss"), "{model}: {rows:?}");
        assert!(names(&out.join("best")).contains(&"tokenizer_config.json".to_owned()));
        told("embed", &out.join("best"), &["--text", "Anna has a hat."]);
    }
}

#[test]
fn what_a_model_cannot_learn_is_told_in_one_message() {
    let folder = scratch();
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let out = folder.path().join("run");
    let labels = at("labels.tsv", "text\tlabel\na\t1\nb\t2\nc\t1\nd\t2\n");
    let pairs = at("pairs.tsv", "source\ttarget\na\tb\nc\td\n");
    let tags = at(
        "tags.jsonl",
        "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"X\", \"O\"]}\n{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n",
    );
    let questions = at("q.jsonl", "{\"question\": \"q\", \"context\": \"a b\", \"answer\": \"c\"}\n");
    let story = story(folder.path());
    for (model, data, more, code, says) in [
        ("t5-toy", &labels, &[][..], 2, &["does not learn from text and label", "source and target"][..]),
        ("bert-toy", &pairs, &[], 2, &["does not learn from source and target"]),
        ("gpt2-toy", &tags, &[], 2, &["does not learn from tokens and tags"]),
        ("gpt2-toy", &questions, &[], 2, &["does not learn from question, context and answers"]),
        ("bert-toy", &questions, &[], 1, &["line 1: the answer `c` does not stand in the context"]),
        ("gpt2-toy", &story, &["--objective", "masked-lm"], 2, &["no head for masked words"]),
        ("bert-toy", &story, &["--objective", "causal-lm"], 2, &["no head for the next token"]),
        ("t5-toy", &story, &["--objective", "causal-lm"], 2, &["does not go on with one"]),
        ("gpt2-toy", &story, &["--objective", "span-corruption"], 2, &["has no encoder"]),
        ("gpt2-toy", &story, &["--objective", "no-such-thing"], 2, &["possible values", "causal-lm"]),
        ("gpt2-toy", &tags, &["--objective", "token-classification"], 3, &["takes no new head"]),
        ("gpt2-toy", &story, &["--max-tokens", "1000"], 2, &["takes 128"]),
        ("gpt2-toy", &story, &["--val-split", "0"], 1, &["nothing to validate on"]),
        ("bert-toy", &story, &["--objective", "regression"], 1, &["not a list of inputs"]),
        ("bert-toy", &pairs, &["--objective", "classification"], 1, &["no column `text`"]),
    ] {
        let model = format!("tests/toys/{model}");
        train(&model, data, &out, more).code(code).says(says);
    }
    let image = ["train", "--device", "reference", "-m", "tests/golden/vit", "--data", "builtin:shapes"];
    let asked = run(vit_gpu(image).arg("-o").arg(&out).args(["--objective", "causal-lm"]));
    asked.code(2).says(&["--objective is of texts"]);
    assert!(!out.exists());
    go(["train", "--help"]).code(0);
}

#[test]
fn windows_of_attention_are_refused_before_a_step() {
    let folder = scratch();
    let model = crate::tiny::Tiny::new("modernbert_mlm");
    let out = folder.path().join("run");
    let ran = train(model.at(), &story(folder.path()), &out, &["--epochs", "1", "--max-tokens", "32"]);
    ran.code(2).says(&["layer.2.attention", "`attention`", "cannot be trained through"]);
    assert!(!out.join("last").exists());
}
