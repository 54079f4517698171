//! No GPU. Tokenizers: equal to the originals on awkward texts, and no file that makes them panic.
//!
//! `tests/text/NAME` holds a small tokenizer as vocabulary files and as `tokenizer.json`, and what
//! the original makes of the texts in `texts.json` (written by `tools/tokenizers`). Results for
//! other tokenizers are checked too if `VIT_GPU_TEXT_CASES` names a folder of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vit_gpu::Error;
use vit_gpu::text::spans;
use vit_gpu::text::spans::{Layout, Scores};
use vit_gpu::tokenizer::{Encoding, Tokenizer};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text")
}

fn small(name: &str, form: &str) -> Tokenizer {
    Tokenizer::open(&here().join(name).join(form), name.trim_end_matches("_cased")).unwrap()
}

/// Batches are tokenized on several threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Tokenizer>();
};

fn load(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// As `digest` in `parity.py`.
fn digest(numbers: impl ExactSizeIterator<Item = u64>) -> String {
    let length = numbers.len();
    let value = numbers.fold(0u64, |value, n| value.wrapping_mul(1_000_003).wrapping_add(n).wrapping_add(1));
    format!("{length}:{value:016x}")
}

/// Byte ranges as the original tells them, in characters.
fn in_characters(found: &Encoding, texts: [&str; 2]) -> Vec<u64> {
    let places: Vec<Vec<u64>> = texts
        .iter()
        .map(|text| {
            let mut at = vec![0; text.len() + 1];
            for (n, (i, c)) in text.char_indices().enumerate() {
                at[i] = n as u64;
                at[i + c.len_utf8()] = n as u64 + 1;
            }
            at
        })
        .collect();
    let one = |(range, of): (&std::ops::Range<usize>, &Option<u8>)| match of {
        Some(of) => {
            let at = &places[usize::from(*of)];
            [at[range.start], at[range.end]]
        }
        None => [0, 0],
    };
    found.offsets.iter().zip(&found.sequence).flat_map(one).collect()
}

/// Whether `got` is what is stored, in full or as a digest; true if nothing is stored.
fn same(stored: &Value, got: &[u64]) -> bool {
    match stored {
        Value::Null => true,
        Value::String(stored) => *stored == digest(got.iter().copied()),
        stored => *stored == json!(got),
    }
}

fn same_text(stored: &Value, got: &str) -> bool {
    stored.is_null() || *stored == got || *stored == digest(got.bytes().map(u64::from))
}

/// Differences from the original, and how many results were compared; texts repeated more than
/// `most` times are left out.
fn compare(tokenizer: &Tokenizer, cases: &Value, most: usize) -> (Vec<String>, usize) {
    let texts = load(&here().join("texts.json"));
    let texts = texts.as_array().unwrap();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(texts.len(), cases.len());
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (text, case) in texts.iter().zip(cases) {
        let times = text["times"].as_u64().unwrap_or(1) as usize;
        if times > most {
            continue;
        }
        let (a, b) = (text["text"].as_str().unwrap().repeat(times), text["pair"].as_str());
        let start = std::time::Instant::now();
        let found = match b {
            Some(b) => tokenizer.encode_pair(&a, b).unwrap(),
            None => tokenizer.encode(&a).unwrap(),
        };
        if times > 1 {
            let (name, took) = (text["text"].to_string(), start.elapsed().as_secs_f64());
            println!("  {name} {:.2} MB: {} tokens, {took:.2} s", a.len() as f64 / 1e6, found.ids.len());
        }
        let ids: Vec<u64> = found.ids.iter().map(|&id| u64::from(id)).collect();
        let types: Vec<u64> = found.types.iter().map(|&id| u64::from(id)).collect();
        let mut results = vec![
            ("ids", same(&case["ids"], &ids), format!("{:?}", &ids[..ids.len().min(100)])),
            ("types", same(&case["types"], &types), String::new()),
            ("offsets", same(&case["offsets"], &in_characters(&found, [&a, b.unwrap_or("")])), String::new()),
        ];
        if b.is_none() {
            let plain: Vec<u64> =
                tokenizer.encode_plain(&a).unwrap().ids.into_iter().map(u64::from).collect();
            let (all, shown) = (tokenizer.decode(&found.ids, true), tokenizer.decode(&found.ids, false));
            results.push(("plain", same(&case["plain"], &plain), String::new()));
            results.push(("decoded", same_text(&case["decoded"], &all), all));
            results.push(("shown", same_text(&case["shown"], &shown), shown));
        }
        for (what, ok, got) in results {
            compared += usize::from(!case[what].is_null());
            if !ok {
                wrong.push(format!("{what} of {text}: {got}, original {}", case[what]));
            }
        }
    }
    (wrong, compared)
}

#[test]
fn small_tokenizers_do_as_the_originals() {
    let both: &[&str] = &["files", "json"];
    let all = ["bert", "bert_cased", "gpt2", "roberta", "t5", "clip"].map(|name| (name, both));
    // SentencePiece has no fast form of SigLIP's, and Gemma's is never made of vocabulary files.
    for (name, forms) in all.into_iter().chain([("siglip", &both[..1]), ("siglip2", &both[1..])]) {
        let cases = load(&here().join(name).join("cases.json"));
        for form in forms {
            let most = if *form == "files" { usize::MAX } else { 5000 };
            let (mut wrong, compared) = compare(&small(name, form), &cases, most);
            if name == "siglip" {
                // SentencePiece keeps spaces at the beginning and each `\u{2581}` that is spelled out, the original looks
                // for special tokens before anything else, and Python knows the sigma at a word's end
                // (tools/tokenizers/README.md).
                let known = |wrong: &String| {
                    let text = wrong.split_once("of ").map_or("", |(_, text)| text);
                    ["\u{2581}", "</s>", "ΑΣ", "\":\" ", "\":\"\u{a0}", "\\u{a0}"]
                        .iter()
                        .any(|mark| text.contains(mark))
                };
                let all = wrong.len();
                wrong.retain(|wrong| !known(wrong));
                assert!(all <= 24, "{all} differ");
            }
            assert!(wrong.is_empty(), "{name}/{form}:\n{}", wrong.join("\n"));
            assert!(compared > 150, "{name}/{form}: {compared}");
        }
    }
    // There are no other files for it.
    let cases = load(&here().join("modernbert/cases.json"));
    let tokenizer = small("modernbert", "json");
    let (wrong, compared) = compare(&tokenizer, &cases, 5000);
    assert!(wrong.is_empty(), "modernbert:\n{}", wrong.join("\n"));
    assert!(compared > 250, "modernbert: {compared}");
    let special = tokenizer.special();
    let names = [special.cls, special.sep, special.pad, special.mask];
    let names = names.map(|id| tokenizer.token(id.unwrap()).unwrap());
    assert_eq!(names, ["[CLS]", "[SEP]", "[PAD]", "[MASK]"]);
}

#[test]
fn other_tokenizers_do_as_the_originals() {
    let Some(folder) = std::env::var_os("VIT_GPU_TEXT_CASES") else { return };
    let mut failed = false;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let cases = load(&path);
        let folder = Path::new(cases["folder"].as_str().unwrap());
        let start = std::time::Instant::now();
        let tokenizer = Tokenizer::open(folder, cases["family"].as_str().unwrap()).unwrap();
        println!("{}: opened in {:.2} s", path.display(), start.elapsed().as_secs_f64());
        let (wrong, compared) = compare(&tokenizer, &cases, usize::MAX);
        println!("{}: {}: {compared} results, {} differ", path.display(), cases["original"], wrong.len());
        for wrong in &wrong {
            println!("    {}", wrong.chars().take(700).collect::<String>());
        }
        failed |= !wrong.is_empty();
    }
    assert!(!failed);
}

#[test]
fn special_tokens_have_their_ids() {
    let bert = small("bert", "files");
    let special = bert.special();
    let names =
        [special.cls, special.sep, special.pad, special.unk, special.mask].map(|id| bert.token(id.unwrap()));
    assert_eq!(names.map(Option::unwrap), ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]);
    assert_eq!((special.bos, special.eos, bert.limit()), (None, None, Some(512)));

    let gpt2 = small("gpt2", "json");
    assert_eq!((gpt2.special().eos, gpt2.special().pad), (gpt2.id("<|endoftext|>"), None));
    assert_eq!((gpt2.special().bos, gpt2.limit()), (gpt2.special().eos, None));

    let t5 = small("t5", "files");
    assert_eq!((t5.special().pad, t5.special().eos, t5.special().unk), (Some(0), Some(1), Some(2)));
    assert_eq!(t5.id("<extra_id_0>"), Some(t5.vocabulary() as u32 - 1));
    assert_eq!(t5.id("<extra_id_99>"), Some(t5.vocabulary() as u32 - 100));
    assert_eq!(t5.token(t5.vocabulary() as u32), None);

    let roberta = small("roberta", "files");
    assert_eq!((roberta.special().cls, roberta.special().sep), (roberta.id("<s>"), roberta.id("</s>")));
}

#[test]
fn where_tokens_come_from() {
    let bert = small("bert", "files");
    let found = bert.encode_pair("the fox", "DOG é").unwrap();
    let shown: Vec<_> = found
        .ids
        .iter()
        .zip(&found.types)
        .zip(found.offsets.iter().zip(&found.sequence))
        .map(|((&id, kind), (range, of))| {
            let text = of.map_or("", |of| &["the fox", "DOG é"][usize::from(of)][range.clone()]);
            (bert.token(id).unwrap(), *kind, text)
        })
        .collect();
    let shown: Vec<_> = shown.iter().map(|(t, k, s)| (t.as_str(), *k, *s)).collect();
    assert_eq!(
        shown,
        [
            ("[CLS]", 0, ""),
            ("the", 0, "the"),
            ("fox", 0, "fox"),
            ("[SEP]", 0, ""),
            ("dog", 1, "DOG"),
            ("e", 1, "é"),
            ("[SEP]", 1, ""),
        ]
    );
    let gpt2 = small("gpt2", "files").encode("日本 a").unwrap();
    assert!(gpt2.sequence.iter().all(|s| *s == Some(0)));
    assert_eq!((gpt2.offsets[0].clone(), gpt2.offsets.last().unwrap().clone()), (0..3, 6..8));
}

#[test]
fn streams_join_to_the_whole_text() {
    let texts = load(&here().join("texts.json"));
    for name in ["bert", "gpt2", "roberta", "t5"] {
        let tokenizer = small(name, "files");
        for text in texts.as_array().unwrap().iter().filter(|t| t.get("times").is_none()) {
            let ids = tokenizer.encode(text["text"].as_str().unwrap()).unwrap().ids;
            for keep in [false, true] {
                let mut stream = tokenizer.stream().keep_special(keep);
                let mut pieces: Vec<String> = ids.iter().filter_map(|&id| stream.push(id)).collect();
                let halves = pieces.iter().filter(|p| p.ends_with('\u{fffd}')).count();
                pieces.extend(stream.finish());
                let whole = tokenizer.decode(&ids, keep);
                assert_eq!(pieces.concat(), whole, "{name}: {text}");
                assert!(halves == 0 || whole.contains('\u{fffd}'), "{name}: {text}: {pieces:?}");
            }
        }
    }
    // Bytes that never make a character are given out all the same, in time.
    let gpt2 = small("gpt2", "files");
    let byte = gpt2.id("\u{12a}").unwrap();
    let mut stream = gpt2.stream();
    assert!((0..20).filter_map(|_| stream.push(byte)).next().unwrap().contains('\u{fffd}'));
    assert_eq!(gpt2.stream().finish(), None);
}

/// A copy of a small tokenizer's folder, to be damaged.
fn copy(name: &str, form: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(here().join(name).join(form)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn refusal(folder: &Path, family: &str) -> String {
    match Tokenizer::open(folder, family) {
        Err(error @ Error::Model { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_and_damaged_files_are_named() {
    let empty = tempfile::tempdir().unwrap();
    for (family, file) in
        [("bert", "vocab.txt"), ("gpt2", "vocab.json with merges.txt"), ("t5", "spiece.model")]
    {
        let why = refusal(empty.path(), family);
        assert!(why.contains(&format!("neither tokenizer.json nor {file}")), "{why}");
    }
    assert!(refusal(empty.path(), "vit").contains("`vit` models have no tokenizer"));

    for (name, form, file, content, expected) in [
        ("bert", "json", "tokenizer.json", &b"{\"model\": "[..], "not valid JSON"),
        ("bert", "json", "tokenizer.json", b"", "not valid JSON"),
        ("bert", "json", "tokenizer.json", b"[]", "not a JSON object"),
        ("bert", "json", "tokenizer.json", b"{}", "no model"),
        ("bert", "json", "tokenizer_config.json", b"7", "not a JSON object"),
        ("bert", "files", "vocab.txt", b"a\nb\n", "`[CLS]` is not in the vocabulary"),
        ("bert", "files", "vocab.txt", b"a\n\xff\n", "byte 2 is not UTF-8"),
        ("gpt2", "files", "merges.txt", b"#version: 0.2\nx\n", "line 2 is not two tokens"),
        ("gpt2", "files", "merges.txt", b"#version: 0.2\n\xc4\xa0 nonsense\n", "needs `nonsense`"),
        ("gpt2", "files", "vocab.json", b"{\"a\": 0, \"b\": 0}", "same id, 0"),
        ("gpt2", "files", "vocab.json", b"{\"a\": -1}", "no id from 0"),
        ("gpt2", "files", "vocab.json", b"{\"a\": 99999999999}", "no id from 0"),
        ("roberta", "files", "vocab.json", b"{\"a\": 0}", "`<s>` is not in the vocabulary"),
        ("t5", "files", "spiece.model", b"<!DOCTYPE html>", "not a SentencePiece model"),
        ("t5", "files", "added_tokens.json", b"{\"x\": 3}", "added token `x`"),
        ("gpt2", "files", "added_tokens.json", b"{\"\xe2\x82\xac\": 5000}", "listed with id 5000"),
    ] {
        let folder = copy(name, form);
        std::fs::write(folder.path().join(file), content).unwrap();
        let why = refusal(folder.path(), name);
        assert!(why.contains(expected), "{file}: {why}");
    }
    let folder = copy("gpt2", "files");
    std::fs::remove_file(folder.path().join("merges.txt")).unwrap();
    assert!(refusal(folder.path(), "gpt2").contains("merges.txt: no such file"));
    let huge = std::fs::File::create(folder.path().join("tokenizer.json")).unwrap();
    huge.set_len((64 << 20) + 1).unwrap();
    assert!(refusal(folder.path(), "gpt2").contains("too many"));
}

#[test]
fn added_tokens_of_small_files_are_known() {
    let folder = copy("gpt2", "files");
    let next = small("gpt2", "files").vocabulary();
    let listed = json!({"[PAD]": next, "<new>": next + 1});
    std::fs::write(folder.path().join("added_tokens.json"), listed.to_string()).unwrap();
    std::fs::write(folder.path().join("special_tokens_map.json"), "{\"pad_token\": \"[PAD]\"}").unwrap();
    let tokenizer = Tokenizer::open(folder.path(), "gpt2").unwrap();
    assert_eq!((tokenizer.special().pad, tokenizer.vocabulary()), (Some(next as u32), next + 2));
    let ids = tokenizer.encode("a<new>[PAD]").unwrap().ids;
    assert_eq!(ids[1..], [next as u32 + 1, next as u32]);
    assert_eq!(tokenizer.decode(&ids, false), "a<new>");
}

#[test]
fn padding_and_truncation_of_the_file_are_off() {
    let folder = copy("bert", "json");
    let path = folder.path().join("tokenizer.json");
    let mut file = load(&path);
    file["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = json!({"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    std::fs::write(&path, file.to_string()).unwrap();
    let long = "the quick brown fox ".repeat(20);
    let got = Tokenizer::open(folder.path(), "bert").unwrap().encode(&long).unwrap();
    assert_eq!(got, small("bert", "files").encode(&long).unwrap());
}

#[test]
fn answers_are_those_of_squads_own_program() {
    for case in load(&here().join("squad.json")).as_array().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let context = case["context"].as_str().unwrap();
        let offsets: Vec<_> = context
            .split(' ')
            .map(|word| {
                let start = word.as_ptr() as usize - context.as_ptr() as usize;
                start..start + word.len()
            })
            .collect();
        let layout = Layout { head: number("head"), context: offsets.len(), tail: number("tail") };
        let windows = layout.windows(number("longest"), number("stride")).unwrap();
        let stored: Vec<[Vec<f32>; 2]> = case["windows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| ["start", "end"].map(|key| serde_json::from_value(w[key].clone()).unwrap()))
            .collect();
        let scores: Vec<_> = stored.iter().map(|[start, end]| Scores { start, end }).collect();
        for (key, no_answer) in [("v1", false), ("v2", true)] {
            let found = spans::answers(context, &offsets, &windows, &scores, no_answer);
            let (mut texts, mut original) = (Vec::new(), Vec::new());
            for answer in &found.best {
                texts.push((&context[answer.bytes.clone()], answer.probability));
                assert_eq!(answer.bytes, answer.characters);
            }
            for stored in case[key].as_array().unwrap() {
                let (text, probability) = (stored[0].as_str().unwrap(), stored[1].as_f64().unwrap());
                if text.is_empty() {
                    let none = found.none.as_ref().unwrap();
                    assert!((none.probability - probability).abs() < 1e-6, "{none:?} {probability}");
                    assert!((none.margin - case["margin"].as_f64().unwrap()).abs() < 1e-4, "{none:?}");
                } else {
                    original.push((text, probability));
                }
            }
            let names =
                |list: &[(&str, f64)]| -> Vec<String> { list.iter().map(|t| t.0.to_owned()).collect() };
            assert_eq!(names(&texts), names(&original), "{key}");
            assert!(
                texts.iter().zip(&original).all(|(a, b)| (a.1 - b.1).abs() < 1e-6),
                "{texts:?} {original:?}"
            );
            assert_eq!(found.none.is_some(), no_answer);
        }
    }
}

// ---- files that are wrong in ways nobody thought of

/// Changes one place of a JSON value, chosen by `random`: mostly to something of the same kind, so
/// that it gets past the first glance.
fn mutate(value: &mut Value, random: &mut impl FnMut(usize) -> usize) {
    let inside = random(6) != 0;
    match value {
        Value::Array(list) if inside && !list.is_empty() => {
            let i = random(list.len());
            return mutate(&mut list[i], random);
        }
        Value::Object(map) if inside && !map.is_empty() => {
            let i = random(map.len());
            return mutate(map.values_mut().nth(i).unwrap(), random);
        }
        _ => {}
    }
    let numbers = [json!(0), json!(1), json!(3), json!(-1), json!(4294967295u64), json!(1e308), json!(-2.5)];
    let texts = [
        "", "A", "B", "é", "##", "▁", " ", "(a*)*b", "[CLS]", "[UNK]", "</s>", "AAAA", "a", "First",
        "Removed", "always", "never", "a b", "\u{120}",
    ];
    let steps = [
        json!(null),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "yy"}),
        json!({"type": "Replace", "pattern": {"String": "e"}, "content": ""}),
        json!({"type": "Split", "pattern": {"Regex": "|"}, "behavior": "Isolated", "invert": true}),
        json!({"type": "Split", "pattern": {"Regex": "(a|b|ab)*$"}, "behavior": "Removed", "invert": false}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true}),
        json!({"type": "Metaspace", "replacement": "é", "prepend_scheme": "first", "split": true}),
        json!({"type": "BertProcessing", "sep": ["a", 0], "cls": ["b", 1]}),
        json!({"type": "RobertaProcessing", "sep": ["a", 0], "cls": ["b", 1], "trim_offsets": true,
            "add_prefix_space": false}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Prepend", "prepend": "é"}),
        json!({"type": "WordPiece", "prefix": "", "cleanup": true}),
        json!({"type": "Punctuation", "behavior": "MergedWithNext"}),
        json!({"type": "NFKD"}),
        json!({"type": "StripAccents"}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
        json!({"type": "WhitespaceSplit"}),
    ];
    let list = |key: &str, a: &Value, b: &Value| json!({"type": "Sequence", key: [a, b]});
    let all = [json!([]), json!({}), json!(null), json!("x"), json!(7), json!([["a", -1.0]])];
    let whole = random(12) == 0;
    *value = match &mut *value {
        _ if whole => all[random(all.len())].clone(),
        Value::Bool(b) => json!(!*b),
        Value::Number(_) => numbers[random(numbers.len())].clone(),
        Value::String(_) => json!(texts[random(texts.len())]),
        Value::Array(items) if !items.is_empty() => {
            let (i, k) = (random(items.len()), random(items.len()));
            match random(3) {
                0 => drop(items.remove(i)),
                1 => items.swap(i, k),
                _ => items.insert(i, items[k].clone()),
            }
            return;
        }
        Value::Object(map) if !map.contains_key("type") && !map.is_empty() => {
            let key = map.keys().nth(random(map.len())).unwrap().clone();
            map.remove(&key);
            return;
        }
        _ => {
            let (a, b) = (steps[random(steps.len())].clone(), &steps[random(steps.len())]);
            let keys = ["normalizers", "pretokenizers", "processors", "decoders"];
            if random(4) == 0 { list(keys[random(4)], &a, b) } else { a }
        }
    };
}

#[test]
fn no_file_makes_it_panic() {
    let rounds: usize = std::env::var("VIT_GPU_MUTATIONS").map_or(100, |n| n.parse().unwrap());
    let texts = ["", "The [MASK] fox's é e\u{301} 日本 <extra_id_0>\r\n", "\0 \u{feff}▁##<s> </s> aaaa  12"];
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let (mut opened, mut refused) = (0, 0);
    for name in ["bert", "gpt2", "roberta", "t5"] {
        let folder = copy(name, "json");
        let path = folder.path().join("tokenizer.json");
        let original = load(&path);
        for round in 0..rounds {
            let mut file = original.clone();
            for _ in 0..=random(2) {
                // The vocabulary is most of the file; the rest is where the ways to go wrong are.
                let part =
                    ["model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"];
                let part = part[random(part.len())];
                mutate(&mut file[part], &mut random);
            }
            std::fs::write(&path, file.to_string()).unwrap();
            let said = match Tokenizer::open(folder.path(), name) {
                Ok(tokenizer) => {
                    opened += 1;
                    let run = |text: &str| {
                        let found = tokenizer.encode(text)?;
                        tokenizer.encode_pair(text, texts[1])?;
                        tokenizer.decode(&found.ids, true);
                        tokenizer.decode(&found.ids, false);
                        tokenizer.decode(&[0, 3, 70_000, u32::MAX], true);
                        Ok::<_, Error>(())
                    };
                    texts.iter().filter_map(|text| run(text).err()).map(|e| e.to_string()).collect()
                }
                Err(e) => {
                    refused += 1;
                    e.to_string()
                }
            };
            let kept = || {
                let path = std::env::temp_dir().join("vit_gpu_tokenizer.json");
                std::fs::write(&path, file.to_string()).unwrap();
                path.display().to_string()
            };
            assert!(!said.contains("damaged in a way"), "{name} {round}: {said}: {}", kept());
        }
    }
    let folder = copy("t5", "files");
    let path = folder.path().join("spiece.model");
    let original = std::fs::read(&path).unwrap();
    for round in 0..rounds {
        let mut file = original.clone();
        for _ in 0..=random(3) {
            // Half of the changes in the table of rewrites and what surrounds it, at the end.
            let at = if random(2) == 0 { random(file.len()) } else { file.len() - 1 - random(4000) };
            file[at] ^= 1 << random(8);
        }
        file.truncate(file.len() - random(2) * random(100));
        std::fs::write(&path, &file).unwrap();
        let Ok(tokenizer) = Tokenizer::open(folder.path(), "t5") else { continue };
        for text in texts {
            let said = tokenizer.encode(text).map_or_else(|e| e.to_string(), |_| String::new());
            assert!(!said.contains("damaged in a way"), "spiece {round}: {said}");
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > rounds / 2 && refused > rounds / 2, "{opened} opened, {refused} refused");
}
