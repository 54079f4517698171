//! What a source file names: its tokens, and the paths among them.

use std::collections::{BTreeMap, BTreeSet};

/// A module: the names that lead to it from the crate's root.
pub type Module = Vec<String>;

/// A source file: its module, and its text.
pub type Source = (Module, String);

/// A path that a file names, from the root of the crate or from `std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Its parts; `*` and `self` may be the last.
    pub path: Vec<String>,
    /// Whether it stands in a `use`.
    pub imported: bool,
    /// Whether that is a `pub use`, by which others reach it; under which name.
    pub exported: Option<String>,
    /// Whether it stands in a `mod tests`.
    pub in_tests: bool,
}

/// Identifiers and punctuation of Rust source, without comments, strings and characters. `::` is
/// one token.
pub fn tokens(source: &str) -> Vec<String> {
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

/// Reads one path or a tree of them that begins at token `i`; each with the name it has afterward. Yields
/// the token behind it.
fn tree(tokens: &[String], mut i: usize, before: &[String], found: &mut Vec<(Vec<String>, String)>) -> usize {
    let at = |i: usize| tokens.get(i).map_or("", String::as_str);
    let mut path = before.to_vec();
    loop {
        match at(i) {
            "{" => {
                i += 1;
                while !matches!(at(i), "}" | "") {
                    i = tree(tokens, i, &path, found);
                    if at(i) == "," {
                        i += 1;
                    }
                }
                return i + 1;
            }
            name => {
                path.push(name.to_owned());
                i += 1;
            }
        }
        let goes_on = at(i + 1) == "{" || at(i + 1) == "*" || is_name(at(i + 1));
        if at(i) != "::" || !goes_on {
            break;
        }
        i += 1;
    }
    let parts = if path.last().is_some_and(|l| l == "self") { &path[..path.len() - 1] } else { &path[..] };
    let mut name = parts.last().cloned().unwrap_or_default();
    if at(i) == "as" {
        name = at(i + 1).to_owned();
        i += 2;
    }
    found.push((path, name));
    i
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Every path that a file names: after `crate`, `super`, `self` and `std`, of modules below it, and of what
/// it has imported. `modules` are those that have a file.
pub fn names(module: &[String], source: &str, modules: &BTreeSet<Module>) -> Vec<Named> {
    let tokens = tokens(source);
    let at = |i: usize| tokens.get(i).map_or("", String::as_str);
    let mut named: Vec<Named> = Vec::new();
    // Names that the file has imported, and what they stand for; heads of paths that may be such names.
    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut later: Vec<(usize, bool)> = Vec::new();
    // Inline modules around the current token: name and the brace depth they close at.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut i) = (0, 0);
    while i < tokens.len() {
        let (token, next, previous) = (at(i), at(i + 1), if i == 0 { "" } else { at(i - 1) });
        match token {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inline.last().is_some_and(|(_, at)| *at == depth) {
                    inline.pop();
                }
            }
            "mod" if at(i + 2) == "{" => inline.push((next.to_owned(), depth)),
            _ => {}
        }
        let here = || module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone()));
        let below = || here().chain([token.to_owned()]).collect::<Module>();
        let starts = !matches!(previous, "::" | ".") && (next == "::" || previous == "use");
        let in_tests = inline.iter().any(|(name, _)| name == "tests");
        let start: Option<(Module, usize)> = match token {
            _ if !starts => None,
            "crate" | "vit_gpu" if next == "::" => Some((vec![], i + 2)),
            "std" => Some((vec![], i)),
            "super" | "self" if next == "::" => {
                let mut up = usize::from(token == "super");
                let mut end = i + 2;
                while at(end) == "super" {
                    (up, end) = (up + 1, end + 2);
                }
                let mut base: Module = here().collect();
                base.truncate(base.len().saturating_sub(up));
                Some((base, end))
            }
            _ if modules.contains(&below()) => Some((here().collect(), i)),
            _ => {
                if is_name(token) && next == "::" {
                    later.push((i, in_tests));
                }
                None
            }
        };
        let Some((base, begin)) = start else {
            i += 1;
            continue;
        };
        let imported = previous == "use";
        let exported = imported && i >= 2 && matches!(at(i - 2), "pub" | ")");
        let mut found = Vec::new();
        i = tree(&tokens, begin, &base, &mut found).max(i + 1);
        for (path, name) in found {
            if imported {
                imports.insert(name.clone(), path.clone());
            }
            let exported = (exported && inline.is_empty()).then_some(name);
            named.push(Named { path, imported, exported, in_tests });
        }
    }
    for (i, in_tests) in later {
        if let Some(path) = imports.get(at(i)) {
            let mut found = Vec::new();
            let whole = path.last().is_some_and(|l| l == "self");
            tree(&tokens, i + 2, &path[..path.len() - usize::from(whole)], &mut found);
            let more = |(path, _)| Named { path, imported: false, exported: None, in_tests };
            named.extend(found.into_iter().map(more));
        }
    }
    named
}
