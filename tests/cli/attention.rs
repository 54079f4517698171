//! `attention`: what is drawn and printed for every kind of model, and what is refused.

use std::fs;

use serde_json::Value;

use crate::harness::{Ran, go, names, run, sample, scratch, vit_gpu};
use crate::tiny::Tiny;

/// `attention` on the reference.
fn attend(model: &Tiny, more: &[&str]) -> Ran {
    go([&["attention", "--device", "reference", "-q", "-m", model.at()], more].concat())
}

fn panels(model: &Tiny, more: &[&str]) -> Vec<Value> {
    attend(model, more).code(0).json()["attention"].as_array().expect("panels").clone()
}

fn words(panel: &Value, name: &str) -> Vec<String> {
    let all = panel[name].as_array().expect("tokens");
    all.iter().map(|token| token.as_str().expect("text").to_owned()).collect()
}

/// Weights of a panel, checked: as many as there are tokens, 0 where closed, and rows that sum to 1.
#[track_caller]
fn weights(panel: &Value) -> Vec<Vec<f64>> {
    let rows = panel["weights"].as_array().expect("rows");
    let causal = panel["causal"].as_bool().expect("whether it is causal");
    assert_eq!(rows.len(), words(panel, "queries").len());
    let rows = rows.iter().enumerate().map(|(query, row)| {
        let row: Vec<f64> =
            row.as_array().expect("a row").iter().map(|w| w.as_f64().expect("a weight")).collect();
        assert_eq!(row.len(), words(panel, "keys").len());
        for (key, &weight) in row.iter().enumerate() {
            let closed = causal && key > query;
            assert!(
                if closed { weight == 0.0 } else { weight > 0.0 && weight <= 1.0 + 1e-6 },
                "{query} {key}"
            );
        }
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5, "row {query}: {row:?}");
        row
    });
    rows.collect()
}

#[test]
fn an_encoder_sees_both_ways() {
    let model = Tiny::new("bert_mlm");
    let ran = attend(&model, &["--text", "The cat sat.", "--pair", "a mat"]).code(0).json();
    assert_eq!((&ran["schema_version"], &ran["model"]["family"]), (&1.into(), &"bert".into()));
    let panel = &ran["attention"][0];
    assert_eq!(ran["attention"].as_array().map(Vec::len), Some(1));
    assert_eq!((&panel["look"], &panel["causal"]), (&"encoder".into(), &false.into()));
    let tokens = ["[CLS]", "the", "cat", "sat", ".", "[SEP]", "a", "mat", "[SEP]"];
    assert_eq!(
        (words(panel, "queries"), words(panel, "keys")),
        (tokens.map(str::to_owned).to_vec(), tokens.map(str::to_owned).to_vec())
    );
    let mean = weights(panel);

    // The mean is that of all layers and heads, each of which is as good.
    let mut sums = vec![vec![0.0; 9]; 9];
    for layer in 0..2 {
        for head in 0..3 {
            let (layer, head) = (layer.to_string(), head.to_string());
            let more = ["--text", "The cat sat.", "--pair", "a mat", "--layer", &layer, "--head", &head];
            for (sums, row) in sums.iter_mut().zip(weights(&panels(&model, &more)[0])) {
                sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w / 6.0);
            }
        }
    }
    for (a, b) in mean.iter().flatten().zip(sums.iter().flatten()) {
        assert!((a - b).abs() < 1e-6);
    }
    // A head alone is one of the last layer.
    let head = panels(&model, &["--text", "The cat sat.", "--head", "1"]);
    assert_eq!(head, panels(&model, &["--text", "The cat sat.", "--head", "1", "--layer", "1"]));
    assert_eq!(head[0]["layers"], serde_json::json!([1]));
}

#[test]
fn a_decoder_sees_what_came_before() {
    let model = Tiny::new("gpt2");
    let panel = &panels(&model, &["--text", "the cat sat ä"])[0];
    assert_eq!((&panel["look"], &panel["causal"]), (&"decoder".into(), &true.into()));
    // A space is ▁, what is no whole character stays as the vocabulary has it.
    let tokens = words(panel, "queries");
    assert_eq!(tokens.join("|"), "the|▁cat|▁|s|a|t|▁|Ã|¤");
    assert_eq!(weights(panel)[0][0], 1.0);
}

#[test]
fn an_encoder_decoder_has_three_pictures() {
    let model = Tiny::new("t5_v10");
    let three = panels(&model, &["--text", "the cat: yes?", "--answer", "<extra_id_0> no"]);
    let looks: Vec<&str> = three.iter().filter_map(|p| p["look"].as_str()).collect();
    assert_eq!(looks, ["encoder", "decoder", "cross"]);
    assert_eq!([0, 1, 2].map(|i| three[i]["causal"] == true), [false, true, false]);
    let (read, written) = (words(&three[0], "keys"), words(&three[1], "keys"));
    assert_eq!(read.join("|"), "▁the|▁cat|:|▁yes|?|</s>");
    assert_eq!(written.join("|"), "<pad>|<extra_id_0>|▁no");
    assert_eq!((words(&three[2], "queries"), words(&three[2], "keys")), (written, read));
    three.iter().for_each(|panel| drop(weights(panel)));
    // What comes later changes no row of the decoder.
    let short = panels(&model, &["--text", "the cat: yes?", "--answer", "<extra_id_0>"]);
    for (short, long) in [1, 2].map(|i| (weights(&short[i]), weights(&three[i]))).iter().map(|(a, b)| (a, b))
    {
        for (a, b) in short.iter().flatten().zip(long[..2].iter().flat_map(|row| &row[..short[0].len()])) {
            assert!((a - b).abs() < 1e-6);
        }
    }
    // Without an answer the model writes one.
    let own = panels(&model, &["--text", "the cat: yes?"]);
    assert!(words(&own[1], "queries").len() <= 33);
    assert_eq!(words(&own[1], "queries")[0], "<pad>");
    // Stacks of other depths.
    let model = Tiny::new("t5_v10_deep_encoder");
    let depth = |more: &[&str]| -> Vec<usize> {
        let all = panels(&model, &[&["--text", "the cat", "--answer", "no"], more].concat());
        all.iter().map(|p| p["layers"].as_array().expect("layers").len()).collect()
    };
    let deep = depth(&[]);
    assert!(deep[0] > deep[1] && deep[1] == deep[2], "{deep:?}");
    assert_eq!(depth(&["--head", "0"]), [1, 1, 1]);
    let last = (deep[0] - 1).to_string();
    attend(&model, &["--text", "the cat", "--layer", &last]).code(2).says(&["the decoder has"]);
}

/// Panics unless this is a whole XML document of elements, quoted attributes and known entities.
#[track_caller]
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg.trim();
    let text = |text: &str| {
        for part in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|e| part.starts_with(e)), "{part}");
        }
        assert!(!text.contains('>'), "{text}");
    };
    while let Some(at) = rest.find('<') {
        text(&rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            assert!(!open.is_empty() || rest.is_empty(), "something follows");
            continue;
        }
        let (inner, alone) = tag.strip_suffix('/').map_or((tag, false), |inner| (inner, true));
        let (name, attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        assert!(["svg", "rect", "path", "line", "text"].contains(&name), "{name}");
        assert!(attributes.is_empty() || attributes.split('"').count() % 2 == 1, "{attributes}");
        assert!(attributes.split('"').step_by(2).all(|part| part.is_empty() || part.ends_with('=')), "{tag}");
        if !alone {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?}");
    assert!(!svg.chars().any(|c| c.is_control() && c != '\n'), "control characters");
}

#[test]
fn pictures_are_whole_and_say_what_is_closed() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let draw = |model: &Tiny, name: &str, more: &[&str]| {
        let path = at(name);
        let ran = attend(model, &[more, &["-o", path.to_str().expect("text")]].concat()).code(0);
        assert_eq!(ran.out, "");
        fs::read(path).expect("the image")
    };
    let svg = |model: &Tiny, more: &[&str]| {
        let svg = String::from_utf8(draw(model, "a.svg", more)).expect("UTF-8");
        well_formed(&svg);
        svg
    };
    let bert = Tiny::new("bert_mlm");
    let gpt2 = Tiny::new("gpt2");
    let closed = "closed by the architecture";

    let two_ways = svg(&bert, &["--text", "the cat sat"]);
    assert_eq!(two_ways.matches(">cat</text>").count(), 2, "a row and a column");
    assert!(two_ways.contains("mean of 2 layers, mean of 3 heads") && !two_ways.contains(closed));
    let one_way = svg(&gpt2, &["--text", "the cat", "--layer", "0", "--head", "2"]);
    assert!(one_way.contains("layer 0, head 2") && one_way.contains(closed));
    // Two tokens: one cell is closed, and the legend has one.
    assert_eq!(one_way.matches("<line ").count(), 2, "{one_way}");
    assert!(!svg(&gpt2, &["--text", "the"]).contains(closed), "a token alone closes nothing");
    let three = svg(&Tiny::new("t5_v10"), &["--text", "the cat", "--answer", "yes no"]);
    for name in [">encoder</text>", ">decoder</text>", ">cross</text>", "&lt;pad&gt;"] {
        assert!(three.contains(name), "{name}");
    }

    // Tokens are shown, whatever they are.
    let hostile = "]]><script>&amp;\"'\u{202e}\u{1}\u{fffe} ?";
    let model = Tiny::new("gpt2");
    model.edit("tokenizer.json", |json| {
        let token = serde_json::json!({
            "id": 95, "content": hostile, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false,
        });
        let vocabulary = json["model"]["vocab"].as_object_mut().expect("tokens");
        vocabulary.retain(|_, id| *id != 95);
        vocabulary.insert(hostile.to_owned(), 95.into());
        json["added_tokens"].as_array_mut().expect("tokens").insert(0, token);
    });
    let text = format!("the {hostile} cat");
    let shown = svg(&model, &["--text", &text]);
    assert!(shown.contains("]]&gt;&lt;script&gt;") && !shown.contains("<script"), "{shown}");

    // The same as PNG and as JSON; a file is replaced, and nothing else is left.
    let png =
        image::load_from_memory(&draw(&gpt2, "a.png", &["--text", "the cat sat"])).expect("a PNG").to_rgb8();
    assert!(png.pixels().any(|p| p.0 == [8, 48, 107]), "the first token sees itself alone");
    assert!(png.pixels().any(|p| p.0 == [232, 226, 216]), "what follows it is closed");
    let file: Value = serde_json::from_slice(&draw(&gpt2, "a.json", &["--text", "the cat"])).expect("JSON");
    assert_eq!(file, attend(&gpt2, &["--text", "the cat"]).code(0).json());
    draw(&bert, "a.png", &["--text", "the cat sat"]);
    assert_eq!(names(folder.path()), ["a.json", "a.png", "a.svg"]);
    let ran = vit_gpu(["attention", "--device", "reference", "-m", gpt2.at(), "--text", "ä cat", "-o"])
        .arg(at("b.png"))
        .output();
    let said = String::from_utf8(ran.expect("it runs").stderr).expect("UTF-8");
    assert!(said.contains("boxes stand for them"), "{said}");
}

#[test]
fn images_too() {
    let folder = scratch();
    let file = sample("heart");
    let heart = file.to_str().expect("text");
    let ask = |more: &[&str]| go([&["attention", "--device", "reference", "-q", heart], more].concat());
    let panel = ask(&[]).code(0).json()["attention"][0].clone();
    let tokens = words(&panel, "keys");
    assert_eq!((tokens[0].as_str(), tokens[1].as_str(), tokens[2].as_str()), ("class", "0,0", "0,1"));
    assert_eq!(weights(&panel).len(), tokens.len());
    let path = folder.path().join("heart.svg");
    ask(&["--head", "0", "-o", path.to_str().expect("text")]).code(0);
    let svg = fs::read_to_string(&path).expect("the image");
    well_formed(&svg);
    assert!(svg.contains("head 0") && svg.len() < 200_000, "{} bytes", svg.len());

    ask(&["--layer", "99"]).code(2).says(&["layers go from 0 to"]);
    ask(&["--head", "99"]).code(2).says(&["heads go from 0 to"]);
    ask(&["--text", "a"]).code(2).says(&["there is an image"]);
    ask(&["-o", heart]).code(2).says(&["would replace an input"]);
    ask(&["-m", "builtin:shapes-gpt"]).code(2).says(&["generates images"]);
    let nothing = ["attention", "--device", "reference", "nothing.png"];
    go(nothing).code(1).says(&["nothing.png"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = Tiny::new("gpt2");
    let bert = Tiny::new("bert_mlm");
    let refused = |model: &Tiny, more: &[&str], says: &[&str]| drop(attend(model, more).code(2).says(says));
    refused(&model, &[], &["no input", "--text"]);
    refused(&model, &["--pair", "a"], &["there is no text"]);
    for (model, text) in [(&model, ""), (&bert, ""), (&bert, " \n\t")] {
        refused(model, &["--text", text], &["text is empty"]);
    }
    refused(&model, &["--text", "a", "--layer", "2"], &["layer 2", "layers go from 0 to 1"]);
    refused(&model, &["--text", "a", "--head", "3"], &["head 3", "heads go from 0 to 2"]);
    refused(&model, &["--text", "a", "--answer", "b"], &["GPT2LMHeadModel writes no answer", "T5"]);
    refused(&model, &["--text", "a", "--image-size", "32"], &["--image-size is for models of images"]);
    refused(&model, &["a.png"], &["an image is for models of images"]);
    refused(&model, &["--text", "a", "-o", "a.gif"], &[".svg or .png"]);
    let long = "a".repeat(49);
    refused(&model, &["--text", &long], &["49 tokens", "--truncate"]);
    assert_eq!(words(&panels(&model, &["--text", &long, "--truncate"])[0], "keys").len(), 48);
    let endless = "a b ".repeat(600);
    refused(&Tiny::new("t5_v10"), &["--text", &endless], &["nobody could read"]);

    go(["attention", "--text", "a"]).code(2).says(&["none is built in"]);
    go(["attention", "-m", "builtin:shapes", "--text", "a"]).code(2).says(&["looks at images"]);
    model.remove("tokenizer.json");
    attend(&model, &["--text", "a"]).code(3);
}

#[test]
fn nothing_is_left_where_nothing_can_be_drawn() {
    let folder = scratch();
    let model = Tiny::new("gpt2");
    let picture = folder.path().join("a.svg");
    let picture = picture.to_str().expect("text");
    attend(&model, &["--text", "", "-o", picture]).code(2);
    assert!(names(folder.path()).is_empty());
    attend(&model, &["--text", "a", "-o", &format!("{picture}/b.svg")]).code(1).says(&["there is no folder"]);
    let own = model.file("image.svg");
    fs::write(&own, "").expect("a file");
    attend(&model, &["--text", "a", "-o", own.to_str().expect("text")])
        .code(2)
        .says(&["a file of the model"]);
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let mut command = vit_gpu(["attention", "--device", "reference", "-m", model.at(), "--text", "a"]);
        run(command.stdout(full)).code(1).says(&["error: write error: No space left on device"]);
    }
}
