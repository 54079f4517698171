//! Circles between files: each uses something of the next, and the last of the first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::reading::{Module, Named, Source, names};

/// What each module re-exports: a name, and the path it stands for.
type Exports = BTreeMap<Module, BTreeMap<String, Vec<String>>>;

/// The file that a path reaches, through re-exports; nothing if the path is a module alone, from which
/// nothing is taken yet.
fn reached(path: &[String], modules: &BTreeSet<Module>, exports: &Exports) -> Option<Module> {
    let mut path = path.to_vec();
    // A circle of re-exports would not compile; the bound only makes this end on any text.
    for _ in 0..100 {
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let known = (0..=path.len()).rev().find(|n| modules.contains(&path[..*n]))?;
        let (module, rest) = (&path[..known], &path[known..]);
        // A name may be that of a module and of what the module above takes from it.
        let (above, name) = match (rest, module) {
            ([name, ..], _) => (module, name),
            ([], [above @ .., name]) => (above, name),
            ([], []) => return None,
        };
        match exports.get(above).and_then(|names| names.get(name)).filter(|to| to[..] != path[..]) {
            Some(to) => path = to.iter().chain(rest.get(1..).unwrap_or_default()).cloned().collect(),
            None if rest.is_empty() => return None,
            None => return Some(module.to_vec()),
        }
    }
    None
}

/// Which file uses which, by which path. A `pub use` and a `mod` are no use, unit tests do not count.
fn edges(sources: &[Source]) -> BTreeMap<Module, BTreeMap<Module, String>> {
    let modules: BTreeSet<Module> = sources.iter().map(|(module, _)| module.clone()).collect();
    let named: Vec<(&Module, Vec<Named>)> =
        sources.iter().map(|(module, text)| (module, names(module, text, &modules))).collect();
    let mut exports = Exports::new();
    for (module, named) in &named {
        for Named { path, exported, .. } in named {
            if let Some(name) = exported {
                exports.entry((*module).clone()).or_default().insert(name.clone(), path.clone());
            }
        }
    }
    let mut edges: BTreeMap<Module, BTreeMap<Module, String>> = BTreeMap::new();
    for (module, named) in named {
        for Named { path, .. } in named.into_iter().filter(|n| n.exported.is_none() && !n.in_tests) {
            let to = reached(&path, &modules, &exports).filter(|to| to != module);
            if let Some(to) = to {
                edges.entry(module.clone()).or_default().entry(to).or_insert(path.join("::"));
            }
        }
    }
    edges
}

/// Every shortest circle: `a -> b (a::b::C) -> a (a::D)`. Edges between the modules of a pair are not
/// followed.
pub fn circles(sources: &[Source], pairs: &[[&str; 2]]) -> Vec<String> {
    let edges = edges(sources);
    let top = |module: &Module| module.first().cloned().unwrap_or_default();
    let follow = |from: &Module, to: &Module| {
        let (from, to) = (top(from), top(to));
        let pair = pairs.iter().any(|p| p.contains(&from.as_str()) && p.contains(&to.as_str()));
        from == to || !pair
    };
    let next = |from: &Module| {
        let from = from.clone();
        edges.get(&from).into_iter().flatten().filter(move |(to, _)| follow(&from, to))
    };
    let mut found = BTreeSet::new();
    for start in edges.keys() {
        let mut came: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut open = VecDeque::from([start]);
        'search: while let Some(from) = open.pop_front() {
            for (to, _) in next(from) {
                if to == start {
                    let mut circle = vec![from];
                    while circle.last() != Some(&start) {
                        circle.push(came[circle[circle.len() - 1]]);
                    }
                    circle.reverse();
                    found.insert(printed(&circle, &edges));
                    break 'search;
                }
                if !came.contains_key(to) {
                    came.insert(to, from);
                    open.push_back(to);
                }
            }
        }
    }
    found.into_iter().collect()
}

/// A circle that begins with its first name in alphabetical order, so that it is printed once.
fn printed(circle: &[&Module], edges: &BTreeMap<Module, BTreeMap<Module, String>>) -> String {
    let first = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or(0);
    let turned: Vec<&Module> = (0..=circle.len()).map(|i| circle[(first + i) % circle.len()]).collect();
    let steps = turned.windows(2).map(|w| format!(" -> {} ({})", w[1].join("::"), edges[w[0]][w[1]]));
    turned[0].join("::") + &steps.collect::<String>()
}
