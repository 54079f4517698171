//! README.md and `docs/transformers.md` show what their commands really print: each is run, on the reference, and its
//! output compared; numbers may differ in their last digits, as they do between adapters.

use std::fs;
use std::path::Path;

use crate::harness::{Ran, go, run, scratch, vit_gpu};

/// A command of a document, and what follows it there.
struct Shown {
    arguments: Vec<String>,
    output: String,
}

/// What stands after `$ vit-gpu` in blocks of ```console.
fn commands(document: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    for block in document.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        let mut lines = block.lines();
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                let shown = found.last_mut().expect("a block begins with a command");
                shown.output.push_str(line);
                shown.output.push('\n');
                continue;
            };
            let mut whole = command.to_owned();
            while let Some(begin) = whole.strip_suffix('\\') {
                whole = begin.to_owned() + lines.next().expect("the command goes on").trim_start();
            }
            found.push(Shown { arguments: arguments(&whole), output: String::new() });
        }
    }
    found
}

/// Words as a shell splits them; of quotes only double ones, and nothing in them is special.
fn arguments(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in command.split('"').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    assert_eq!(words.remove(0), "vit-gpu", "{command}");
    words
}

/// Whether two outputs are equal, but for the last digits of numbers.
fn alike(a: &str, b: &str) -> bool {
    let number = |word: &str| word.trim_matches(['%', ',', '(', ')']).parse::<f64>().ok();
    a.lines().count() == b.lines().count()
        && a.lines().zip(b.lines()).all(|(a, b)| {
            let (a, b): (Vec<&str>, Vec<&str>) =
                (a.split_whitespace().collect(), b.split_whitespace().collect());
            a.len() == b.len()
                && a.iter().zip(&b).all(|(a, b)| match (number(a), number(b)) {
                    (Some(x), Some(y)) => (x - y).abs() <= 2e-3 + 1e-3 * y.abs(),
                    _ => a == b,
                })
        })
}

/// What a person sees: answers, or why there are none.
fn seen(ran: &Ran) -> String {
    if ran.code == 0 { ran.out.clone() } else { ran.err.clone() }
}

#[test]
fn every_command_prints_what_the_document_says() {
    let documents =
        ["README.md", "docs/transformers.md"].map(|d| fs::read_to_string(d).expect("the document"));
    let commands: Vec<Shown> = documents.iter().flat_map(|d| commands(d)).collect();
    assert!(commands.len() >= 12, "{} commands", commands.len());
    let folder = scratch();
    let mut wrong = Vec::new();
    for Shown { arguments, output } in &commands {
        // Images go elsewhere, and must be those of the document.
        let mut more = arguments.clone();
        let picture = more.iter().position(|word| word.starts_with("docs/"));
        let mut copy = None;
        if let Some(at) = picture {
            let path = folder.path().join("image.svg");
            copy = Some((more[at].clone(), path.clone()));
            more[at] = path.display().to_string();
        }
        let ran = run(vit_gpu(&more).env("VIT_GPU_DEVICE", "reference"));
        let printed = seen(&ran);
        if !alike(&printed, output) {
            wrong.push(format!("{arguments:?}\nprints\n{printed}\nand the document says\n{output}"));
        }
        if let Some((shown, drawn)) = copy {
            assert_eq!(ran.code, 0, "{ran:?}");
            let [shown, drawn] =
                [Path::new(&shown), &drawn].map(|p| fs::read_to_string(p).expect("an image"));
            let words = |svg: &str| {
                svg.lines().filter(|l| l.starts_with("<text")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(words(&shown), words(&drawn), "{arguments:?}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Commands that are not run here, because they need a download, are at least ones that the program has.
#[test]
fn commands_that_are_not_run_are_well_formed() {
    let document = fs::read_to_string("docs/transformers.md").expect("the document");
    let mut count = 0;
    for block in document.split("```sh\n").skip(1) {
        let block = block.split("```").next().expect("a block ends").replace("\\\n", " ");
        for line in block.lines().filter(|line| line.starts_with("vit-gpu ")) {
            let line = line.split(" #").next().expect("a command").replace("~/", "");
            let arguments = [arguments(&line), vec!["--offline".to_owned()]].concat();
            let ran = run(vit_gpu(&arguments).env("HF_HOME", scratch().path()));
            // The command line is understood; the model is not there.
            assert!([3, 7].contains(&ran.code), "{arguments:?}: {ran:?}");
            count += 1;
        }
    }
    assert!(count >= 6, "{count} commands");
    assert_eq!(arguments("vit-gpu a --b \"c  d\" e").len(), 4);
    assert!(alike("1.000% x", "1.001%  x") && !alike("1.0 x", "1.1 x") && !alike("a", "a\nb"));
    go(["--version"]).code(0);
}
