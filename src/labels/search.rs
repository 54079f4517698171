//! From what the user calls a class to its number.

use super::Labels;
use crate::error::{Error, Result};

/// Names shown where many would fit.
const SHOWN: usize = 6;

impl Labels {
    /// The class that is meant: by its name, by one of its names where commas part several, by its number,
    /// or by the beginning of a name that only one class has. Capitals, `-` and `_` make no difference.
    ///
    /// # Errors
    /// [`Error::Usage`] if none is meant, or several are.
    pub fn find(&self, text: &str) -> Result<usize> {
        find(self, text)
    }
}

fn find(labels: &Labels, text: &str) -> Result<usize> {
    let wanted = plain(text);
    let by = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
        let named = |i: &usize| spellings(&labels.names[*i]).any(|name| fits(&name));
        (0..labels.names.len()).filter(named).collect()
    };
    if wanted.is_empty() {
        return Err(Error::usage("an empty text names no class", listed(labels)));
    }
    let exact = by(&|name| name == wanted);
    if let [only] = exact.as_slice() {
        return Ok(*only);
    }
    if exact.is_empty()
        && let Ok(index) = text.trim().parse::<i64>()
    {
        let count = labels.names.len();
        return usize::try_from(index).ok().filter(|i| *i < count).ok_or_else(|| {
            let what = format!("class {index}: the model has {count} classes");
            Error::usage(what, format!("classes go from 0 to {}", count.saturating_sub(1)))
        });
    }
    let fitting = if exact.is_empty() { by(&|name| name.starts_with(&wanted)) } else { exact };
    match fitting.as_slice() {
        [only] => Ok(*only),
        [] => Err(Error::usage(format!("`{text}`: the model has no class of this name"), {
            let near = nearest(labels, &wanted);
            if near.is_empty() { listed(labels) } else { format!("did you mean {}?", list(labels, &near)) }
        })),
        several => Err(Error::usage(
            format!("`{text}` fits {} classes", several.len()),
            format!("name one, or pass its number: {}", list(labels, several)),
        )),
    }
}

/// A name as it is compared.
fn plain(text: &str) -> String {
    text.trim().to_lowercase().replace(['-', '_'], " ")
}

/// A class's full name, and each of its names.
fn spellings(name: &str) -> impl Iterator<Item = String> {
    let parts = name.contains(',').then(|| name.split(',').map(plain).collect::<Vec<_>>());
    std::iter::once(plain(name)).chain(parts.into_iter().flatten())
}

fn list(labels: &Labels, classes: &[usize]) -> String {
    let shown = classes.iter().take(SHOWN).map(|&i| format!("{} ({i})", labels.names[i]));
    let more = if classes.len() > SHOWN { ", ..." } else { "" };
    shown.collect::<Vec<_>>().join(", ") + more
}

fn listed(labels: &Labels) -> String {
    let all: Vec<usize> = (0..labels.names.len()).collect();
    if all.len() <= 20 {
        let names: Vec<&str> = labels.names.iter().map(String::as_str).collect();
        return format!("there are {}", names.join(", "));
    }
    format!("there are {} classes: {}", all.len(), list(labels, &all))
}

/// Classes whose names differ from `wanted` by few letters, or hold it, nearest first.
fn nearest(labels: &Labels, wanted: &str) -> Vec<usize> {
    let most = (wanted.chars().count() / 3).max(1);
    let score = |i: usize| {
        let name = &labels.names[i];
        let near = spellings(name).map(|s| strsim::osa_distance(&s, wanted)).min().unwrap_or(usize::MAX);
        let holds = wanted.len() > 2 && plain(name).contains(wanted);
        if near <= most { Some(near) } else { holds.then_some(most + 1) }
    };
    let mut near: Vec<(usize, usize)> =
        (0..labels.names.len()).filter_map(|i| score(i).map(|s| (s, i))).collect();
    near.sort_unstable();
    near.into_iter().map(|(_, i)| i).take(SHOWN).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::labels::{LabelSource, Scoring};

    fn labels(names: &[&str]) -> Labels {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        Labels { names, source: LabelSource::Config, scoring: Scoring::Softmax, warnings: vec![] }
    }

    #[test]
    fn names_beginnings_and_numbers() {
        let shapes = labels(&["circle", "semicircle", "cross", "Star", "great_white shark, man-eater"]);
        for (text, class) in [
            ("circle", 0),
            ("STAR", 3),
            ("st", 3),
            ("semi", 1),
            ("2", 2),
            ("great-white shark", 4),
            ("man eater", 4),
            ("Great White Shark, Man Eater", 4),
            (" cross ", 2),
        ] {
            assert_eq!(find(&shapes, text), Ok(class), "{text}");
        }
    }

    #[test]
    fn unknown_ones_get_a_hint() {
        let shapes = labels(&["circle", "semicircle", "cross", "star", "crane"]);
        let hint =
            |text: &str| find(&shapes, text).unwrap_err().hint().map(ToString::to_string).unwrap_or_default();
        assert_eq!(hint("satr"), "did you mean star (3)?");
        assert_eq!(hint("icircle"), "did you mean circle (0), semicircle (1)?");
        assert_eq!(hint("cr"), "name one, or pass its number: cross (2), crane (4)");
        assert!(hint("zebra").starts_with("there are circle, semicircle,"));
        assert_eq!(hint("5"), "classes go from 0 to 4");
        assert_eq!(hint("-1"), hint("5"));
        assert!(find(&shapes, "").is_err() && find(&shapes, "  ").is_err());
        let twins = labels(&["crane", "crane"]);
        assert!(find(&twins, "crane").unwrap_err().to_string().contains("fits 2 classes"));
    }

    #[test]
    fn numbers_may_be_names() {
        let digits = labels(&["9", "8", "7"]);
        assert_eq!(find(&digits, "8"), Ok(1));
        assert_eq!(find(&digits, "0"), Ok(0), "no name, so a number");
    }
}
