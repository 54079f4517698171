//! Images in words: `infer --labels` and `embed`, on the reference.

use std::fs;

use crate::harness::{Ran, golden, run, sample, scratch, vit_gpu};

fn labels(arguments: &[&str]) -> Ran {
    let heart = sample("heart");
    run(vit_gpu(["infer", "--device", "reference"]).arg(heart).args(arguments))
}

/// Labels of the row of an image, best first.
fn ranked(ran: &Ran) -> Vec<String> {
    let rows = ran.json_lines();
    let all = rows[0]["predictions"].as_array().expect("predictions");
    all.iter().map(|p| p["label"].as_str().expect("a label").to_owned()).collect()
}

#[test]
fn what_is_it_in_words() {
    let asked = "a red star,a heart,a blue ring";
    let ran = labels(&["--labels", asked, "--format", "jsonl"]).code(0);
    let names = ranked(&ran);
    assert_eq!((names[0].as_str(), names.len()), ("a heart", 3));
    // SigLIP's kind: each label has a chance of its own, so that others are about 0 and need not add up.
    let chance = |i: usize| ran.json_lines()[0]["predictions"][i]["probability"].as_f64().expect("a number");
    assert!(chance(0) > 0.5 && chance(1) < 0.1, "{} {}", chance(0), chance(1));

    let folder = scratch();
    let file = folder.path().join("labels.txt");
    fs::write(&file, "star\n\n heart \nring\n").expect("a file");
    let from_file = format!("@{}", file.display());
    let more = ["--template", "a {}", "--template", "the {}", "-k", "1", "--format", "jsonl"];
    let ran = labels(&[&["--labels", &from_file], &more[..]].concat()).code(0);
    assert_eq!(ranked(&ran), ["heart"]);
}

#[test]
fn a_whole_clip_from_its_folder() {
    let clip = golden("clip");
    let clip = clip.to_str().expect("text");
    let ran = labels(&["-m", clip, "--labels", "a cat,a dog", "--template", "imagenet", "--format", "jsonl"])
        .code(0);
    let predictions = &ran.json_lines()[0]["predictions"];
    let shares: f64 = predictions
        .as_array()
        .expect("both")
        .iter()
        .map(|p| p["probability"].as_f64().expect("a share"))
        .sum();
    assert!((shares - 1.0).abs() < 1e-5, "{shares}");
    labels(&["-m", clip]).code(2).says(&["no classifier head", "--labels"]);

    let of = |arguments: &[&str]| {
        let ran =
            run(vit_gpu(["embed", "--device", "reference", "-m", clip, "--format", "jsonl"]).args(arguments))
                .code(0);
        let rows = ran.json_lines();
        rows.iter().map(|row| row["embedding"].as_array().expect("a vector").len()).collect::<Vec<_>>()
    };
    assert_eq!(of(&["--text", "a cat", "--text", "two dogs"]), [20, 20]);
    assert_eq!(of(&[sample("heart").to_str().expect("text")]), [20]);
    let inspected = run(&mut vit_gpu(["inspect", "--device", "reference", "-m", clip])).code(0);
    assert!(inspected.out.contains("numbers in one space with images"), "{}", inspected.out);
}

#[test]
fn labels_that_cannot_be_answered_are_refused_in_one_message() {
    labels(&["--labels", "a star, ,a ring"]).code(2).says(&["label 2 is empty"]);
    labels(&["--labels", "a star,a ring,a star"]).code(2).says(&["\"a star\" stands twice"]);
    labels(&["--labels", "@no-such-file.txt"]).code(1).says(&["no-such-file.txt", "cannot be read"]);
    labels(&["--labels", "a,b", "--template", "a photo"]).code(2).says(&["a photo", "{}"]);
    labels(&["--labels", "a,b", "-m", "builtin:shapes"]).code(2).says(&["knows no words"]);
    let long = "word ".repeat(60);
    labels(&["--labels", &format!("a star,{long}")]).code(2).says(&["label \"word", "--truncate"]);
    labels(&["--labels", &format!("a heart,{long}"), "--truncate", "-k", "1"]).code(0);
    let empty = scratch();
    let file = empty.path().join("empty.txt");
    fs::write(&file, "\n").expect("a file");
    labels(&["--labels", &format!("@{}", file.display())]).code(2).says(&["there are no labels"]);
}
