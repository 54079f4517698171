//! No GPU. A module of `src/` uses only modules of lower floors, as the table in `src/lib.rs` says;
//! only `gpu` names wgpu, only `kernel` names naga, and only `cli` prints.
//!
//! The sources are read as tokens: comments and strings are dropped, `crate::…`, `super::…` and
//! `use` groups are resolved to the top-level module they reach. Unit tests inside `src/` count too.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules of one floor that may use each other: a node stores an op, an op builds nodes.
const PAIRS: &[[&str; 2]] = &[["graph", "ops"]];

/// Crates and macros, and the modules that may name them.
const RESERVED: &[(&str, &[&str])] = &[
    ("wgpu", &["gpu"]),
    ("naga", &["kernel"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("ctrlc", &["cli"]),
    ("print", &["cli"]),
    ("println", &["cli"]),
    ("eprint", &["cli"]),
    ("eprintln", &["cli"]),
    ("dbg", &[]),
    ("todo", &[]),
];

// ---- the table

/// Floors as documented in `src/lib.rs`, lowest first: names in backticks, floors between bars.
fn floors(lib: &str) -> Vec<Vec<String>> {
    let docs: String =
        lib.lines().filter_map(|l| l.strip_prefix("//! ")).fold(String::new(), |s, l| s + l + " ");
    let (_, table) = docs.split_once("Floors, lowest first").expect("src/lib.rs documents the floors");
    let (_, table) = table.split_once("holds that:").expect("the table follows a colon");
    let (table, _) = table.split_once("Only `gpu`").expect("the table ends where `Only` begins");
    let names = |floor: &str| floor.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    table.split('|').map(names).collect()
}

/// Floor of every module.
fn floor_of(floors: &[Vec<String>]) -> BTreeMap<&str, usize> {
    floors.iter().enumerate().flat_map(|(i, names)| names.iter().map(move |n| (n.as_str(), i))).collect()
}

// ---- reading sources

/// Identifiers and punctuation of Rust source, without comments, strings and characters. `::` is
/// one token.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens: Vec<String> = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if c == 'r' && (at(i + 1) == '"' || (at(i + 1) == '#' && matches!(at(i + 2), '"' | '#'))) {
            let mut hashes = 0;
            while at(i + 1 + hashes) == '#' {
                hashes += 1;
            }
            i += 2 + hashes;
            while i < chars.len() && !(chars[i] == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                i += 1;
            }
            i += 1 + hashes;
        } else if c == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' && at(i + 1) == '\\' {
            i += 3;
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if c == '\'' && at(i + 2) == '\'' {
            i += 3;
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            tokens.push(chars[start..i].iter().collect());
        } else if c == ':' && at(i + 1) == ':' {
            tokens.push("::".to_owned());
            i += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            i += 1;
        }
    }
    tokens
}

/// First names of what follows a path prefix: one name, or those of a `{…}` group.
fn heads(tokens: &[String]) -> Vec<&str> {
    match tokens.first().map(String::as_str) {
        Some("{") => {
            let mut names = Vec::new();
            let mut depth = 0;
            let mut fresh = false;
            for token in tokens {
                match token.as_str() {
                    "{" => (depth, fresh) = (depth + 1, depth == 0),
                    "}" => depth -= 1,
                    "," => fresh = depth == 1,
                    name if fresh => {
                        names.push(name);
                        fresh = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        Some(name) => vec![name],
        None => vec![],
    }
}

/// Names that a file reaches at the root of the crate, and reserved names it mentions. `module` is
/// the file's path of modules.
fn reaches(module: &[String], source: &str) -> (Vec<String>, Vec<&'static str>) {
    let tokens = tokens(source);
    let (mut roots, mut reserved) = (Vec::new(), Vec::new());
    // Inline modules around the current token: name and the brace depth they close at.
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        let token = tokens[i].as_str();
        let next = tokens.get(i + 1).map_or("", String::as_str);
        let previous = if i == 0 { "" } else { tokens[i - 1].as_str() };
        match token {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            "mod" if tokens.get(i + 2).is_some_and(|t| t == "{") => inline.push(depth),
            "crate" | "vit_gpu" if next == "::" => {
                roots.extend(heads(&tokens[i + 2..]).into_iter().map(str::to_owned));
            }
            "super" if next == "::" && previous != "::" => {
                let mut up = 1;
                let mut end = i + 2;
                while tokens.get(end).is_some_and(|t| t == "super") {
                    (up, end) = (up + 1, end + 2);
                }
                let level = module.len() + inline.len();
                if up >= level {
                    roots.extend(heads(&tokens[end..]).into_iter().map(str::to_owned));
                }
                i = end - 1;
            }
            _ => {
                let named =
                    previous != "::" && previous != "." && (next == "::" || next == "!" || previous == "use");
                if let Some((name, _)) = RESERVED.iter().find(|(name, _)| *name == token && named) {
                    reserved.push(*name);
                }
            }
        }
        i += 1;
    }
    (roots, reserved)
}

/// Names that the crate's root re-exports, and the module each comes from.
fn reexports(lib: &str) -> BTreeMap<String, String> {
    let tokens = tokens(lib);
    let mut map = BTreeMap::new();
    for i in 0..tokens.len() {
        if tokens[i] == "pub" && tokens.get(i + 1).is_some_and(|t| t == "use") {
            let from = tokens[i + 2].clone();
            map.extend(heads(&tokens[i + 4..]).into_iter().map(|name| (name.to_owned(), from.clone())));
        }
    }
    map
}

/// A source file: the modules that lead to it, and its text.
type Source = (Vec<String>, String);

/// Every edge that runs upward or sideways, every reserved name in the wrong place.
fn violations(lib: &str, sources: &[Source]) -> Vec<String> {
    let floors = floors(lib);
    let floor_of = floor_of(&floors);
    let reexports = reexports(lib);
    let mut found = Vec::new();
    for (module, text) in sources {
        let Some(top) = module.first() else { continue };
        let place = module.join("::");
        let Some(&floor) = floor_of.get(top.as_str()) else {
            found.push(format!("`{top}` is on no floor of the table in src/lib.rs"));
            continue;
        };
        let (roots, reserved) = reaches(module, text);
        for root in roots {
            let used = reexports.get(&root).unwrap_or(&root).as_str();
            let Some(&used_floor) = floor_of.get(used) else {
                found.push(format!("{place} uses crate::{root}, which is on no floor"));
                continue;
            };
            let pair = PAIRS.iter().any(|p| p.contains(&top.as_str()) && p.contains(&used));
            if used != top && used_floor >= floor && !pair {
                found.push(format!("{place} (floor {floor}) uses {used} (floor {used_floor})"));
            }
        }
        for name in reserved {
            let (_, allowed) = RESERVED.iter().find(|(n, _)| *n == name).unwrap();
            if !allowed.contains(&top.as_str()) {
                found.push(format!("{place} names {name}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Every file under `src/` but `lib.rs` and `main.rs`.
fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inner = path.strip_prefix(&src).unwrap().with_extension("");
                let mut module: Vec<String> =
                    inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                if module.last().is_some_and(|last| last == "mod") {
                    module.pop();
                }
                if module != ["lib"] && module != ["main"] {
                    sources.push((module, std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    sources
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

// ---- the tests

#[test]
fn no_module_uses_a_higher_floor() {
    let sources = sources();
    assert!(sources.len() > 40, "{} files", sources.len());
    let found = violations(&read("src/lib.rs"), &sources);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_is_on_one_floor_and_every_floor_exists() {
    let lib = read("src/lib.rs");
    let floors = floors(&lib);
    assert!(floors.len() >= 6, "{floors:?}");
    let mut documented: Vec<String> = floors.concat();
    documented.sort();
    let tokens = tokens(&lib);
    let mut declared: Vec<String> =
        tokens.windows(2).filter(|w| w[0] == "mod").map(|w| w[1].clone()).collect();
    declared.sort();
    assert_eq!(documented, declared, "src/lib.rs: documented floors and `mod` lines");
}

#[test]
fn the_program_is_the_command_line_and_nothing_else() {
    let (roots, reserved) = reaches(&["main".to_owned()], &read("src/main.rs"));
    assert!(roots.iter().all(|r| r == "cli") && !roots.is_empty(), "{roots:?}");
    assert!(reserved.is_empty(), "{reserved:?}");
}

// ---- the checker can fail

const LIB: &str = "
//! Floors, lowest first; `tests/layering.rs` holds that:
//! `error` | `graph`, `ops` | `plan`, `models` |
//! `gpu` | `cli`. Only `gpu` names wgpu.
pub mod error; pub mod graph; pub mod ops; pub mod plan; pub mod models; pub mod gpu; mod cli;
pub use error::{Error, Result};
";

fn verdict(module: &str, text: &str) -> Vec<String> {
    violations(LIB, &[(module.split("::").map(str::to_owned).collect(), text.to_owned())])
}

#[test]
fn edges_that_run_downward_are_allowed() {
    for (module, text) in [
        ("plan", "use crate::graph::Graph; use crate::{Error, Result};"),
        ("plan::fuse", "use crate::graph::{Graph, Node}; use super::Plan; use super::super::ops::Op;"),
        ("graph", "use crate::ops::Op;"),
        ("ops", "use crate::graph::Graph;"),
        ("gpu::adapter", "use super::Gpu; fn f() { let _ = wgpu::Backends::VULKAN; }"),
        (
            "graph",
            "//! See [`crate::gpu`].\n/* crate::gpu /* wgpu:: */ */ fn f() { \"crate::gpu\"; r#\"wgpu::X\"#; '\"'; }",
        ),
        ("error", "mod tests { use super::*; fn f() { super::gpu::x(); } }"),
        ("cli", "fn f() { println!(\"{}\", crate::gpu::x()); }"),
        ("plan", "fn f() { self.print(); let eprintln = 1; }"),
    ] {
        assert_eq!(verdict(module, text), [""; 0], "{module}: {text}");
    }
}

#[test]
fn edges_that_run_upward_or_sideways_are_found() {
    for (module, text, expected) in [
        ("graph", "use crate::gpu::Gpu;", "uses gpu"),
        ("graph", "use crate::{error::Error, plan::{self, Plan}};", "uses plan"),
        ("graph", "fn f() -> crate::plan::Plan { todo() }", "uses plan"),
        ("graph", "use super::plan::Plan;", "uses plan"),
        ("ops::matmul", "use super::super::gpu::Gpu;", "uses gpu"),
        ("ops::matmul", "mod tests { use super::super::super::gpu::Gpu; }", "uses gpu"),
        ("error", "use crate::Error; use crate::graph;", "uses graph"),
        ("plan", "use crate::models::Model;", "uses models"),
        ("models", "#[cfg(test)] mod tests { use crate::plan; }", "uses plan"),
        ("gpu", "use crate::cli;", "uses cli"),
        ("plan", "fn f(b: wgpu::Buffer) {}", "names wgpu"),
        ("plan", "use wgpu;", "names wgpu"),
        ("graph", "use naga::Module;", "names naga"),
        ("gpu", "fn f() { eprintln!(\"x\"); }", "names eprintln"),
        ("graph", "use crate::nowhere::X;", "on no floor"),
        ("stray", "", "on no floor"),
        ("graph", "fn f() { let c = '\\''; } use crate::gpu::Gpu; // '", "uses gpu"),
    ] {
        let found = verdict(module, text).join("; ");
        assert!(found.contains(expected), "{module}: {text}: {found}");
    }
}
