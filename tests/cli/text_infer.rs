//! `infer` on texts: every task of every kind of checkpoint, in every form, from flags and files.

use std::fs;

use serde_json::{Value, json as value};

use crate::harness::{Ran, infer, run, scratch, vit_gpu};
use crate::tiny::Tiny;

/// `infer` on the reference.
fn ask(model: &Tiny, more: &[&str]) -> Ran {
    infer([&["-q", "-m", model.at()], more].concat())
}

fn json(model: &Tiny, more: &[&str]) -> Value {
    ask(model, &[&["--format", "json"], more].concat()).code(0).json()
}

#[test]
fn classes_of_a_text_or_a_pair() {
    let model = Tiny::new("bert_seqcls");
    let one = json(&model, &["--text", "The cat sat.", "--pair", "The dog sleeps."]);
    assert_eq!(one["schema_version"], 1);
    assert_eq!(one["model"]["architecture"], "BertForSequenceClassification");
    assert_eq!((&one["model"]["classes"], &one["model"]["limit"]), (&3.into(), &40.into()));
    let row = &one["results"][0];
    assert_eq!((&row["input"], &row["pair"]), (&"The cat sat.".into(), &"The dog sleeps.".into()));
    let labels: Vec<&str> =
        row["predictions"].as_array().expect("classes").iter().filter_map(|p| p["label"].as_str()).collect();
    let mut sorted = labels.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["contradiction", "entailment", "neutral"], "the checkpoint's own names");
    let shares: Vec<f64> = row["predictions"]
        .as_array()
        .expect("classes")
        .iter()
        .filter_map(|p| p["probability"].as_f64())
        .collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-5 && shares.is_sorted_by(|a, b| a >= b), "{row}");
    assert_ne!(json(&model, &["--text", "The cat sat."])["results"][0]["predictions"], row["predictions"]);

    let text = ask(&model, &["--text", "The cat sat.", "--pair", "The dog sleeps.", "-k", "1"]).code(0).out;
    let (first, second) = text.split_once('\n').expect("two lines");
    assert_eq!(first, "The cat sat. | The dog sleeps.");
    assert!(second.contains(&format!("%  {}  (", labels[0])) && second.lines().count() == 1, "{text}");

    let several = json(&model, &["--text", "a", "--text", "b", "--pair", "c", "--pair", "d", "--logits"]);
    assert_eq!(several["results"][1]["pair"], "d");
    assert_eq!(several["results"][0]["logits"].as_array().map(Vec::len), Some(3));
    ask(&model, &["--text", "a", "--text", "b", "--pair", "c"])
        .code(2)
        .says(&["2 of --text and 1 of --pair"]);
}

#[test]
fn files_are_answered_in_order_as_one_by_one() {
    let model = Tiny::new("bert_seqcls");
    let folder = scratch();
    let texts: Vec<String> = (0..9).map(|i| format!("the cat sat{}", " on the mat".repeat(i % 4))).collect();
    let lines = |f: &dyn Fn(&String) -> String| texts.iter().map(f).collect::<Vec<_>>();
    let files = [
        (
            "a.jsonl",
            lines(&|t| serde_json::json!({"sentence1": t, "sentence2": "a man"}).to_string()).join("\n"),
        ),
        (
            "a.csv",
            format!("id,premise,hypothesis\r\n{}", lines(&|t| format!("1,\"{t}\",a man\r\n")).concat()),
        ),
        ("a.tsv", format!("text\tpair\n{}", lines(&|t| format!("{t}\ta man\n")).concat())),
    ];
    let alone: Vec<Value> = texts
        .iter()
        .map(|t| json(&model, &["--text", t, "--pair", "a man"])["results"][0]["predictions"].clone())
        .collect();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("a file");
        let path = path.to_str().expect("text");
        let all = json(&model, &["--input", path, "-b", "4"]);
        let rows = all["results"].as_array().expect("rows");
        assert_eq!(rows.len(), 9);
        for (i, (row, text)) in rows.iter().zip(&texts).enumerate() {
            assert_eq!((&row["input"], &row["pair"]), (&text.as_str().into(), &"a man".into()), "{name}");
            assert_eq!(row["predictions"], alone[i], "{name} {i}");
        }
        let csv = ask(&model, &["--input", path, "--format", "csv", "-k", "1"]).code(0).out;
        assert!(csv.starts_with("input,pair,rank,index,label,probability,error\r\n"), "{csv}");
        assert_eq!(csv.lines().count(), 10);
        let lines = ask(&model, &["--input", path, "--format", "jsonl"]).code(0).json_lines();
        assert_eq!(lines[3]["line"], if name == "a.jsonl" { 4 } else { 5 });
    }
    // Standard input is JSON lines.
    let mut command = vit_gpu([
        "infer",
        "--device",
        "reference",
        "-q",
        "--format",
        "json",
        "-m",
        model.at(),
        "--input",
        "-",
    ]);
    let path = folder.path().join("a.jsonl");
    let ran = run(command.stdin(fs::File::open(path).expect("a file"))).code(0);
    assert_eq!(ran.json()["results"].as_array().map(Vec::len), Some(9));
}

#[test]
fn words_for_masks_and_whether_a_sentence_follows() {
    let model = Tiny::new("bert_pretraining");
    let one = json(&model, &["--text", "Ä [MASK] sat [MASK].", "-k", "3"]);
    let masks = one["results"][0]["masks"].as_array().expect("masks").clone();
    assert_eq!(masks.len(), 2);
    assert_eq!((&masks[0]["start"], &masks[0]["end"]), (&2.into(), &8.into()), "in characters");
    assert_eq!(masks[1]["start"], 13);
    assert_eq!(masks[0]["tokens"].as_array().map(Vec::len), Some(3));
    assert!(masks[0]["tokens"][0]["token"].is_string() && masks[0]["tokens"][0]["id"].is_u64());
    let text = ask(&model, &["--text", "the [MASK] sat [MASK].", "-k", "2"]).code(0).out;
    assert!(text.contains("  mask 2, character 15\n"), "{text}");
    let csv = ask(&model, &["--text", "the [MASK] sat.", "-k", "2", "--format", "csv"]).code(0).out;
    assert!(csv.starts_with("input,mask,rank,id,token,probability,error\r\nthe [MASK] sat.,1,1,"), "{csv}");

    // Two texts ask the only thing that such a model can do with them; the flag says so.
    for more in [&["--next-sentence"][..], &[]] {
        let pair = json(&model, &[&["--text", "the cat", "--pair", "sat"], more].concat());
        let predictions = pair["results"][0]["predictions"].as_array().expect("two").clone();
        assert_eq!(predictions.len(), 2);
        let name = |i: u64| if i == 0 { "IsNext" } else { "NotNext" };
        assert!(predictions.iter().all(|p| p["label"] == name(p["index"].as_u64().expect("0 or 1"))));
    }
    let modern = Tiny::new("modernbert_mlm");
    let one = json(&modern, &["--text", "a photo [MASK] a [MASK].", "-k", "2"]);
    assert_eq!(one["model"]["family"], "modernbert");
    let masks = one["results"][0]["masks"].as_array().expect("masks").clone();
    // Its mask takes the space before it along.
    assert_eq!((masks.len(), &masks[0]["start"], &masks[1]["start"]), (2, &7.into(), &16.into()));
    let mlm = Tiny::new("bert_mlm");
    ask(&mlm, &["--text", "the cat sat."]).code(2).says(&["there is no mask", "[MASK]"]);
    let other = ask(&mlm, &["--text", "a", "--pair", "b", "--next-sentence"]).code(2);
    other.says(&["--next-sentence", "BertForMaskedLM", "words for masks"]);
    ask(&mlm, &["--text", "a [MASK]", "--pair", "b"]).code(2).says(&["nothing with two texts"]);
}

#[test]
fn answers_with_their_places() {
    let model = Tiny::new("bert_qa");
    let context =
        "Ä man sat on the mat. Who is it? The cat sleeps on the mat, the dog sleeps where it sat. ".repeat(6);
    let ran =
        json(&model, &["--question", "where is the cat?", "--context", &context, "-k", "0", "--no-answer"]);
    let row = &ran["results"][0];
    assert_eq!(row["input"], "where is the cat?");
    let answers = row["answers"].as_array().expect("answers");
    assert!(answers.len() > 1 && answers.len() <= 20, "{row}");
    let characters: Vec<char> = context.chars().collect();
    let mut total = row["no_answer"]["probability"].as_f64().expect("a probability");
    for answer in answers {
        let place = |name: &str| answer[name].as_u64().expect("a place") as usize;
        let text: String = characters[place("start")..place("end")].iter().collect();
        assert_eq!(answer["answer"], text.as_str());
        total += answer["probability"].as_f64().expect("a probability");
    }
    assert!((total - 1.0).abs() < 1e-6, "{total}");

    let folder = scratch();
    let file = folder.path().join("context.txt");
    fs::write(&file, &context).expect("a file");
    let path = file.to_str().expect("text");
    let other =
        json(&model, &["--question", "where is the cat?", "--context-file", path, "-k", "0", "--no-answer"]);
    assert_eq!(other["results"], ran["results"]);
    let records = folder.path().join("q.jsonl");
    let record = serde_json::json!({"question": "where is the cat?", "context": context});
    fs::write(&records, format!("{record}\n{{\"question\":\"who?\",\"context\":\"\"}}\n{record}\n"))
        .expect("a file");
    let records = records.to_str().expect("text");
    let ran = ask(&model, &["--input", records, "-k", "0", "--no-answer", "--format", "jsonl"]).code(1);
    let ran = ran.says(&["line 2", "empty"]);
    let rows = ran.json_lines();
    assert_eq!((&rows[0]["answers"], &rows[2]["answers"]), (&row["answers"], &row["answers"]));
    assert!(rows[1]["error"].as_str().is_some_and(|e| e.contains("empty")), "{ran:#?}");
    let text = ask(&model, &["--question", "who?", "--context", "the man", "-k", "1"]).code(0).out;
    assert!(text.starts_with("who?\n") && text.contains("  (characters "), "{text}");
    let csv = ask(&model, &["--question", "who?", "--context", "the man", "--no-answer", "--format", "csv"])
        .code(0)
        .out;
    assert!(csv.starts_with("input,rank,start,end,answer,probability,score,error\r\nwho?,1,"), "{csv}");
    assert!(csv.contains("\r\nwho?,,,,,0."), "{csv}");

    ask(&model, &["--question", "who?"]).code(2).says(&["--context-file"]);
    ask(&model, &["--text", "who?"]).code(2).says(&["nothing with a text alone", "--question Q --context C"]);
    ask(&model, &["--question", " ", "--context", "a"]).code(1).says(&["question", "empty"]);
    ask(&model, &["--question", "who?", "--context", " "]).code(1).says(&["context", "empty"]);
    let long = "who is it ".repeat(20);
    ask(&model, &["--question", &long, "--context", "a"]).code(1).says(&["question", "shorter question"]);
}

#[test]
fn without_training() {
    let (gpt2, t5) = (Tiny::new("gpt2"), Tiny::new("t5_v10"));
    let flags = ["--labels", "yes, no", "--template", "{text}: {label}", "--text", "the cat"];
    for model in [&gpt2, &t5] {
        let ran = json(model, &flags);
        let predictions = ran["results"][0]["predictions"].as_array().expect("labels").clone();
        assert_eq!(predictions.len(), 2);
        let logs: Vec<f64> = predictions.iter().filter_map(|p| p["log_likelihood"].as_f64()).collect();
        assert!(logs[0] >= logs[1] && logs[0] < 0.0, "{ran}");
        assert!(
            predictions
                .iter()
                .all(|p| p["label"] == ["yes", "no"][p["index"].as_u64().expect("0 or 1") as usize])
        );
        let text = ask(model, &flags).code(0).out;
        assert!(text.contains("log likelihood -"), "{text}");
    }
    let csv = ask(&gpt2, &[&flags[..], &["--format", "csv", "-k", "1"]].concat()).code(0).out;
    assert!(
        csv.starts_with("input,pair,rank,index,label,probability,tokens,log_likelihood,error\r\nthe cat,,1,"),
        "{csv}"
    );
    let one = json(&gpt2, &["--perplexity", "--text", "the cat sat."]);
    let (log, tokens) = (&one["results"][0]["log_likelihood"], &one["results"][0]["tokens"]);
    let expected = (-log.as_f64().expect("a number") / tokens.as_f64().expect("a number")).exp();
    assert!(
        (one["results"][0]["perplexity"].as_f64().expect("a number") - expected).abs() < 1e-6 * expected,
        "{one}"
    );
    // A text longer than the places of the model is weighed in windows.
    let long = "the cat sat. ".repeat(40);
    assert!(json(&gpt2, &["--perplexity", "--text", &long])["results"][0]["perplexity"].is_number());
    ask(&gpt2, &["--perplexity", "--text", "a"]).code(2).says(&["less than two tokens"]);
    ask(&t5, &["--perplexity", "--text", "the cat"]).code(2).says(&["--labels"]);
    ask(&gpt2, &["--text", "the cat"]).code(2).says(&[
        "nothing with a text alone",
        "--perplexity",
        "generate",
    ]);
    ask(&gpt2, &["--labels", "a,b", "--text", "c"]).code(2).says(&["--template"]);
    let template = |t: &str| ask(&gpt2, &["--labels", "a,b", "--template", t, "--text", "c"]).code(2);
    template("{text}").says(&["{label}"]);
    template("{text} {pair} {label}").says(&["{pair}"]);
    ask(&gpt2, &["--labels", "a,,b", "--template", "{text} {label}", "--text", "c"])
        .code(2)
        .says(&["label is empty"]);
    let bert = Tiny::new("bert_seqcls");
    ask(&bert, &["--perplexity", "--text", "a b"])
        .code(2)
        .says(&["--perplexity is for models that write", "classes"]);
    ask(&bert, &["--question", "a", "--context", "b"]).code(2).says(&["--question asks for a head"]);
}

#[test]
fn a_classifier_of_another_kind() {
    let model = Tiny::new("gpt2_seqcls");
    let one = json(&model, &["--text", "the cat", "--text", "the cat sat on the mat."]);
    assert_eq!(one["results"][1]["predictions"].as_array().map(Vec::len), Some(3));
    let distil = Tiny::new("distilbert_qa");
    json(&distil, &["--question", "who?", "--context", "the cat"]);
}

/// Keeps the first row of a head's weights: a head of one output.
fn one_output(model: &Tiny, head: &str) {
    let bytes = fs::read(model.file("model.safetensors")).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let cut = |name: &str, view: safetensors::tensor::TensorView<'_>| {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
        if name == format!("{head}.weight") || name == format!("{head}.bias") {
            data.truncate(data.len() / shape[0]);
            shape[0] = 1;
        }
        (name.to_owned(), view.dtype(), shape, data)
    };
    let parts: Vec<_> = file.tensors().into_iter().map(|(name, view)| cut(&name, view)).collect();
    let views = parts.iter().map(|(name, dtype, shape, data)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data);
        (name.as_str(), view.expect("as many numbers as the shape says"))
    });
    model.write("model.safetensors", safetensors::serialize(views, None).expect("a file"));
}

fn numbers(row: &Value, key: &str) -> Vec<f64> {
    let all = row["predictions"].as_array().expect("classes").iter();
    let mut all: Vec<&Value> = all.collect();
    all.sort_by_key(|p| p["index"].as_u64());
    all.iter().filter_map(|p| p[key].as_f64()).collect()
}

fn logits(row: &Value) -> Vec<f64> {
    row["logits"].as_array().expect("numbers").iter().filter_map(Value::as_f64).collect()
}

#[test]
fn heads_that_are_no_classes() {
    let text = ["--text", "the cat sat.", "--logits"];
    let sigmoid = |x: &f64| 1.0 / (1.0 + (-x).exp());
    let near = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && !a.is_empty() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    };

    let model = Tiny::new("bert_seqcls");
    model.edit("config.json", |c| c["problem_type"] = "regression".into());
    let all = json(&model, &text);
    assert_eq!(all["model"]["scoring"], "raw");
    let row = &all["results"][0];
    assert!(near(&numbers(row, "score"), &logits(row)) && numbers(row, "probability").is_empty(), "{row}");
    let printed = ask(&model, &text[..2]).code(0).out;
    assert!(!printed.contains('%') && printed.contains("neutral"), "{printed}");
    let csv = ask(&model, &[&text[..2], &["--format", "csv"]].concat()).code(0).out;
    assert!(csv.starts_with("input,pair,rank,index,label,score,error\r\n"), "{csv}");

    model.edit("config.json", |c| c["problem_type"] = "multi_label_classification".into());
    let all = json(&model, &text);
    let row = &all["results"][0];
    let expected: Vec<f64> = logits(row).iter().map(sigmoid).collect();
    assert!(near(&numbers(row, "probability"), &expected), "{row}");

    for (case, head) in [("bert_seqcls", "classifier"), ("gpt2_seqcls", "score")] {
        let one = Tiny::new(case);
        one_output(&one, head);
        one.edit("config.json", |c| {
            c.as_object_mut().expect("an object").remove("id2label");
        });
        let all = json(&one, &text);
        let row = &all["results"][0];
        let expected: Vec<f64> = logits(row).iter().map(sigmoid).collect();
        assert!(near(&numbers(row, "probability"), &expected) && expected.len() == 1, "{case}: {row}");
        assert!(expected[0] < 0.999, "a share of one class would be 1");
        one.edit("config.json", |c| {
            c["sentence_transformers"] = value!({"activation_fn": "torch.nn.modules.linear.Identity"});
        });
        let all = json(&one, &text);
        let row = &all["results"][0];
        assert!(near(&numbers(row, "score"), &logits(row)), "{case}: {row}");
    }

    model.edit("config.json", |c| c["architectures"] = value!(["BertForMultipleChoice"]));
    ask(&model, &text).code(3).says(&["BertForMultipleChoice", "not supported"]);
}

#[test]
fn classes_of_tokens_and_entities() {
    let model = Tiny::new("bert_seqcls");
    model.edit("config.json", |c| {
        c["architectures"] = value!(["BertForTokenClassification"]);
        c["id2label"] = value!({"0": "B-PER", "1": "I-PER", "2": "O"});
    });
    let text = ["--text", "The catx sat."];
    let row = |more: &[&str]| json(&model, &[&text[..], more].concat())["results"][0].clone();
    let tokens = row(&[]);
    let tokens = tokens["entities"].as_array().expect("entities").clone();
    assert!(!tokens.is_empty(), "the weights are such that some token is no O");
    assert_eq!(Value::from(tokens.clone()), row(&["--aggregate", "none"])["entities"]);
    for e in &tokens {
        let (start, end) = (e["start"].as_u64().expect("a place"), e["end"].as_u64().expect("a place"));
        let part = &"The catx sat."[start as usize..end as usize].to_lowercase();
        let word = e["word"].as_str().expect("text");
        assert_eq!(word.trim_start_matches("##"), part, "{e}");
        assert!(e["entity"] == "B-PER" || e["entity"] == "I-PER", "{e}");
        let score = e["score"].as_f64().expect("a number");
        assert!(score > 1.0 / 3.0 && score <= 1.0 && e["index"].as_u64() > Some(0), "{e}");
    }
    for how in ["simple", "first", "average", "max"] {
        let groups = row(&["--aggregate", how]);
        for e in groups["entities"].as_array().expect("entities") {
            assert!(e["entity_group"] == "PER" && e.get("entity").is_none(), "{how}: {e}");
            assert!(how == "simple" || !e["word"].as_str().expect("text").contains('#'), "{how}: {e}");
        }
    }
    let csv = ask(&model, &[&text[..], &["--format", "csv"]].concat()).code(0).out;
    assert!(csv.starts_with("input,entity,start,end,word,score,error\r\nThe catx sat.,"), "{csv}");
    let printed = ask(&model, &text).code(0).out;
    assert!(printed.contains("%  ") && printed.contains("(characters "), "{printed}");
    let other = Tiny::new("bert_seqcls");
    ask(&other, &[&text[..], &["--aggregate", "simple"]].concat()).code(2).says(&["--aggregate"]);
}

#[test]
fn gpt2_reads_its_classes_from_the_last_token_that_is_no_padding() {
    let model = Tiny::new("gpt2_seqcls");
    let found = |text: &str| json(&model, &["--text", text, "--logits"])["results"][0]["logits"].clone();
    model.edit("config.json", |c| c["pad_token_id"] = Value::Null);
    assert_ne!(found("the cat.."), found("the cat"));
    // The full stop is token 28.
    model.edit("config.json", |c| c["pad_token_id"] = 28.into());
    assert_eq!(found("the cat.."), found("the cat"));
    assert_ne!(found("the cat.a"), found("the cat"));
}
