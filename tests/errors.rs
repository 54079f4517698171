//! No GPU. The library words no advice for the command line: outside `src/cli` no string has a flag of
//! `vit-gpu` or one of its commands in it, because each front end names its options itself.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The program's commands, which a message may not tell people to run.
const COMMANDS: &[&str] = &[
    "infer",
    "embed",
    "search",
    "generate",
    "tokens",
    "attention",
    "train",
    "devices",
    "inspect",
    "verify",
    "merge",
    "tune",
    "profile",
    "bench",
    "doctor",
    "completions",
    "man",
];

/// The program's short flags; `-c` and `-i` of a message are other programs'.
const SHORT: &str = "bfhkmnoqrvV";

/// String literals of Rust source, as they are written, each with its line.
fn strings(source: &str) -> Vec<(usize, &str)> {
    let bytes = source.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let find = |from: usize, what: &str| source[from..].find(what).map_or(bytes.len(), |n| from + n);
    let width = |i: usize| source[i..].chars().next().map_or(0, char::len_utf8);
    let mut strings = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let named = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
        let hashes = bytes[i + 1..].iter().take_while(|b| **b == b'#').count();
        let (start, end, next) = match (bytes[i], at(i + 1)) {
            (b'/', b'/') => {
                i = find(i, "\n");
                continue;
            }
            (b'/', b'*') => {
                i = find(i, "*/") + 2;
                continue;
            }
            // `'"'` and `'\''`; a lifetime has no quote behind its first letter.
            (b'\'', b'\\') => {
                i = find(i + 3, "'") + 1;
                continue;
            }
            (b'\'', _) if at(i + 1 + width(i + 1)) == b'\'' => {
                i += 2 + width(i + 1);
                continue;
            }
            (b'r', b'"' | b'#') if !named && at(i + 1 + hashes) == b'"' => {
                let start = i + 2 + hashes;
                let end = find(start, &format!("\"{}", "#".repeat(hashes)));
                (start, end, end + 1 + hashes)
            }
            (b'"', _) => {
                let mut end = i + 1;
                while end < bytes.len() && bytes[end] != b'"' {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                (i + 1, end, end + 1)
            }
            _ => {
                i += 1;
                continue;
            }
        };
        strings.push((1 + source[..start].matches('\n').count(), &source[start..end]));
        i = next;
    }
    strings
}

/// The first flag or command of this program in a text. Commands of other programs, as in
/// `` `jpegtran -optimize FILE` ``, are none.
fn flag(text: &str) -> Option<&str> {
    let foreign =
        |span: &str| span.starts_with(|c: char| c.is_ascii_alphabetic()) && !span.contains("vit-gpu");
    let spans = text.split('`').enumerate().filter(|(i, span)| i % 2 == 0 || !foreign(span));
    spans.into_iter().find_map(|(_, span)| {
        let words = span.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
        words.clone().zip(words.skip(1).chain([""])).find_map(|(word, next)| {
            let long =
                word.strip_prefix("--").is_some_and(|w| w.starts_with(|c: char| c.is_ascii_alphabetic()));
            let short = word.len() == 2 && word.starts_with('-') && SHORT.contains(&word[1..]);
            (long || short || (word == "vit-gpu" && COMMANDS.contains(&next))).then_some(word)
        })
    })
}

/// Every `.rs` file under a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

#[test]
fn the_library_names_no_flags() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (cli, library): (Vec<_>, Vec<_>) =
        sources(&src).into_iter().partition(|path| path.starts_with(src.join("cli")));
    let mut found = Vec::new();
    let mut read = 0;
    for path in &library {
        let text = fs::read_to_string(path).unwrap();
        for (line, string) in strings(&text) {
            read += 1;
            if let Some(flag) = flag(string) {
                found.push(format!("{}:{line}: `{flag}` in \"{string}\"", path.display()));
            }
        }
    }
    assert!(library.len() > 40 && read > 1000, "{} files, {read} strings", library.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
    // The same reading finds those of the command line.
    let texts = cli.iter().map(|path| fs::read_to_string(path).unwrap());
    let flags: usize =
        texts.map(|text| strings(&text).iter().filter(|(_, string)| flag(string).is_some()).count()).sum();
    assert!(flags > 50, "{flags} strings of src/cli have flags");
}

#[test]
fn every_command_and_short_flag_is_looked_for() {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let text = fs::read_to_string(cli.join("command.rs")).unwrap();
    let (_, commands) = text.split_once("pub(crate) enum Command {").unwrap();
    let (commands, _) = commands.split_once("\n}").unwrap();
    // A variant stands one level in, its fields two.
    let variants = commands.lines().filter_map(|line| {
        let line = line.strip_prefix("    ").filter(|l| l.starts_with(|c: char| c.is_ascii_uppercase()))?;
        line.split(|c: char| !c.is_ascii_alphabetic()).next().map(str::to_lowercase)
    });
    assert_eq!(variants.collect::<Vec<_>>(), COMMANDS);
    for path in sources(&cli) {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.trim().starts_with("#[arg(short")) {
            let letter = match line.split_once("short = '") {
                Some((_, rest)) => &rest[..1],
                None => {
                    let field = lines[i..].iter().map(|l| l.trim()).find(|l| !l.starts_with("#[")).unwrap();
                    &field.trim_start_matches("pub ").trim_start_matches("pub(super) ")[..1]
                }
            };
            assert!(SHORT.contains(letter), "{}:{}: -{letter}", path.display(), i + 1);
        }
    }
}

#[test]
fn the_checker_tells_flags_from_other_words() {
    let found =
        |source: &str| strings(source).into_iter().find_map(|(_, text)| flag(text)).map(str::to_owned);
    for (source, expected) in [
        (r#"("pass a smaller --batch-size")"#, "--batch-size"),
        (r#"("leave `--offline` away")"#, "--offline"),
        (r#"("--class {n}: there is none")"#, "--class"),
        (r#"("a folder with -m")"#, "-m"),
        (r#"("`-o FOLDER/`")"#, "-o"),
        (r#"("run `vit-gpu doctor`")"#, "vit-gpu"),
        (r#"("pipe it: `... | vit-gpu infer -`")"#, "vit-gpu"),
        (r#"("`cat x | vit-gpu infer -`")"#, "vit-gpu"),
        ("f('\"', \"try --dtype f32\", '\\'')", "--dtype"),
        ("['ä', '\"', 'b', '\"', \"--one\"]", "--one"),
        ("f::<'a>(r#\"a \"quoted\" --flag\"#)", "--flag"),
        ("/* \" */ f(\"one\\\" \\\n   --two\")", "--two"),
    ] {
        assert_eq!(found(source).as_deref(), Some(expected), "{source}");
    }
    for source in [
        r#"("take a smaller batch")"#,
        r#"("recode it: `jpegtran -optimize --copy FILE > out.jpg`")"#,
        r#"("convert it: python -c \"import torch\"")"#,
        r#"("vit-gpu pipelines 1\n")"#,
        r#"("a -- b, `--`, x-m, 1-m, {x}--{y}")"#,
        "// \"--flag\"\nf('\"') /* \"--flag\" */ // \"--flag\"",
    ] {
        assert_eq!(found(source), None, "{source}");
    }
}
