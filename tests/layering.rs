//! No GPU. A module of `src/` uses only modules of lower floors, as the table in `src/lib.rs` says; no
//! file uses one that uses it in turn, over however many others; only `gpu` names wgpu, only `kernel` names
//! naga, only `cli` prints; files, clocks, threads and waiting have their places.
//!
//! The sources are read as tokens: comments and strings are dropped, paths are resolved to the module that
//! they reach. Unit tests inside `src/` count for floors and crates, not for circles and `std`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/reading.rs"]
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use circles::circles;
use reading::{Module, Source, names, tokens};

/// Modules of one floor that may use each other: a node stores an op, an op builds nodes.
const PAIRS: &[[&str; 2]] = &[["graph", "ops"]];

/// Crates, macros and parts of `std`, and the modules that may name them, with those below.
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
    // What a build for the web replaces.
    ("pollster", &["gpu::wait"]),
    ("rayon", &["ops", "image", "profile", "cli", "gpu::parallel", "train::data"]),
    (
        "std::fs",
        &[
            "checkpoint",
            "cli",
            "exchange",
            "generate::recipe",
            "generate::tokenfile",
            "gpu::kept",
            "hub",
            "image",
            "search::disk",
            "search::folder",
            "search::update",
            "session::folder",
            "synthetic::folder",
            "textfile",
            "tokenizer",
            "train::data",
            "train::save",
        ],
    ),
    ("std::time::Instant", &["clock", "cli", "hub"]),
    ("std::time::SystemTime", &["cli", "hub"]),
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

/// Every module that has a file, and those that the crate's root declares.
fn modules(lib: &str, sources: &[Source]) -> BTreeSet<Module> {
    let tokens = tokens(lib);
    let declared = tokens.windows(2).filter(|w| w[0] == "mod").map(|w| vec![w[1].clone()]);
    declared.chain(sources.iter().map(|(module, _)| module.clone())).collect()
}

/// Reserved names that a file mentions.
fn reserved(module: &[String], text: &str, modules: &BTreeSet<Module>) -> Vec<&'static str> {
    let of_std = |name: &str, path: &[String]| {
        let parts: Vec<&str> = name.split("::").collect();
        parts.len() > 1 && path.len() >= parts.len() && path.iter().zip(&parts).all(|(a, b)| a == b)
    };
    let named = names(module, text, modules);
    let paths = named
        .iter()
        .filter(|n| !n.in_tests)
        .flat_map(|n| RESERVED.iter().map(|(name, _)| *name).filter(move |name| of_std(name, &n.path)));
    let tokens = tokens(text);
    let alone = (0..tokens.len()).filter_map(|i| {
        let next = tokens.get(i + 1).map_or("", String::as_str);
        let previous = if i == 0 { "" } else { tokens[i - 1].as_str() };
        let named = !matches!(previous, "::" | ".") && (matches!(next, "::" | "!") || previous == "use");
        RESERVED.iter().map(|(name, _)| *name).find(|name| named && *name == tokens[i])
    });
    paths.chain(alone).collect()
}

/// Every edge that runs upward or sideways, every reserved name in the wrong place.
fn violations(lib: &str, sources: &[Source]) -> Vec<String> {
    let floors = floors(lib);
    let floor_of = floor_of(&floors);
    let modules = modules(lib, sources);
    let reexports: BTreeMap<String, String> = names(&[], lib, &modules)
        .into_iter()
        .filter_map(|n| Some((n.exported?, n.path.first()?.clone())))
        .collect();
    let mut found = Vec::new();
    for (module, text) in sources {
        let Some(top) = module.first() else { continue };
        let place = module.join("::");
        let Some(&floor) = floor_of.get(top.as_str()) else {
            found.push(format!("`{top}` is on no floor of the table in src/lib.rs"));
            continue;
        };
        let roots = names(module, text, &modules).into_iter().filter_map(|n| n.path.into_iter().next());
        for root in roots.filter(|root| root != "std") {
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
        for name in reserved(module, text, &modules) {
            let (_, allowed) = RESERVED.iter().find(|(n, _)| *n == name).unwrap();
            let may = |a: &&str| {
                a.split("::").zip(module).all(|(a, m)| a == m) && a.split("::").count() <= module.len()
            };
            if !allowed.iter().any(may) {
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
fn no_files_go_in_a_circle() {
    let mut sources = sources();
    sources.push((vec![], read("src/lib.rs")));
    let found = circles(&sources, PAIRS);
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
    let (main, text) = ([String::from("main")], read("src/main.rs"));
    let modules = modules(&read("src/lib.rs"), &[]);
    let named = names(&main, &text, &modules);
    let roots: Vec<&String> = named.iter().map(|n| &n.path[0]).filter(|root| *root != "std").collect();
    assert!(roots.iter().all(|r| *r == "cli") && !roots.is_empty(), "{roots:?}");
    assert!(reserved(&main, &text, &modules).is_empty());
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
        ("gpu::kept", "fn f() { std::fs::read(x); }"),
        ("plan", "use std::{fmt, time::Duration}; mod tests { fn f() { std::fs::read(x); } }"),
        ("gpu::wait", "fn f() { pollster::block_on(x) }"),
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
        ("plan", "fn f() { std::fs::read(x); }", "names std::fs"),
        ("plan", "use std::{fmt, fs::{self, File}};", "names std::fs"),
        ("gpu::store", "use std::{io, fs};", "names std::fs"),
        ("gpu", "use std::time::{Duration, Instant};", "names std::time::Instant"),
        ("gpu", "use std::time; fn f() { time::Instant::now(); }", "names std::time::Instant"),
        ("gpu::timer", "fn f() { pollster::block_on(x) }", "names pollster"),
        ("graph", "use rayon::prelude::*;", "names rayon"),
        ("graph", "use crate::nowhere::X;", "on no floor"),
        ("stray", "", "on no floor"),
        ("graph", "fn f() { let c = '\\''; } use crate::gpu::Gpu; // '", "uses gpu"),
    ] {
        let found = verdict(module, text).join("; ");
        assert!(found.contains(expected), "{module}: {text}: {found}");
    }
}

/// The circles of files that are given as module and text.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let source = |(module, text): &(&str, &str)| {
        let parts = module.split("::").filter(|p| !p.is_empty()).map(str::to_owned);
        (parts.collect(), (*text).to_owned())
    };
    circles(&files.iter().map(source).collect::<Vec<_>>(), PAIRS)
}

#[test]
fn files_that_use_one_another_are_found() {
    let two =
        [("a::x", "use super::y::Y; struct X;"), ("a::y", "fn f() { crate::a::x::X; }"), ("a", "mod x;")];
    assert_eq!(circles_of(&two), ["a::x -> a::y (a::y::Y) -> a::x (a::x::X)"]);
    // Of three: one step leads through the folder's door, under another name.
    let three = [
        ("a", "mod x; mod y; mod z; pub(crate) use self::y::{Y as Why, Other};"),
        ("a::x", "use super::Why;"),
        ("a::y", "use super::z; pub struct Y(z::Z);"),
        ("a::z", "fn f() { super::x::g() }"),
    ];
    assert_eq!(circles_of(&three), ["a::x -> a::y (a::Why) -> a::z (a::z::Z) -> a::x (a::x::g)"]);
    // Parent and child.
    for parent in [
        "mod child; use child::C;",
        "mod child; fn f() { child::C }",
        "mod child; use self::child as c; fn f() { c::C }",
    ] {
        let found = circles_of(&[("p", parent), ("p::child", "use super::P;")]);
        assert_eq!(found, ["p -> p::child (p::child::C) -> p (p::P)"], "{parent}");
    }
    // Within one of a pair, and through the crate's root.
    let within = [("ops", "mod x; use x::X;"), ("ops::x", "use super::Op;"), ("graph", "")];
    assert_eq!(circles_of(&within).len(), 1);
    let root = [("", "pub use a::A;"), ("a", "use crate::b::B;"), ("b", "use crate::A;")];
    assert_eq!(circles_of(&root), ["a -> b (b::B) -> a (A)"]);
}

#[test]
fn doors_tests_and_pairs_make_no_circle() {
    for files in [
        [("p", "mod child; pub use child::C;"), ("p::child", "use super::P;")],
        [("p", "mod child;"), ("p::child", "use super::P; use crate::p;")],
        [("p", "mod child; #[cfg(test)] mod tests { use super::child::C; }"), ("p::child", "use super::P;")],
        [("p", "use crate::q;"), ("q", "use crate::p::P;")],
        [("p", "//! [`crate::q::Q`]\nfn f() { \"crate::q::Q\" }"), ("q", "use crate::p::P;")],
        [("graph", "use crate::ops::Op;"), ("ops", "use crate::graph::Graph;")],
    ] {
        assert_eq!(circles_of(&files), [""; 0], "{files:?}");
    }
}
