//! Which of several kernel variants computes an op. An op that has more than one lists those that can do
//! it on a target, best first by a static estimate ([`Candidates`]); a measurement made on the very
//! adapter, or the user, may prefer another of the list ([`Choices`]). Every variant on a list is exact
//! within the tolerance of the storage types in use, so that a choice can change speed only.

use std::collections::BTreeMap;

use super::candidates::Candidates;

/// Preferences made beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    pub(super) forced: BTreeMap<String, String>,
    tuned: BTreeMap<String, String>,
}

/// Why a way was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// First by the static estimate.
    Estimate,
    /// Fastest when measured on this adapter.
    Measured,
    /// The user said so.
    Forced,
}

/// What was chosen for a launch, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What has the variants: the op, as a user names it in `OP=NAME`.
    pub op: &'static str,
    /// The list it was chosen from.
    pub candidates: Candidates,
    /// The way taken.
    pub name: &'static str,
    /// Why.
    pub reason: Reason,
}

impl Choices {
    /// True if the user has decided for this op.
    pub fn is_forced(&self, op: &str) -> bool {
        self.forced.contains_key(op)
    }

    /// Settings of the user: (op, name).
    pub fn forced_names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.forced.iter().map(|(op, name)| (op.as_str(), name.as_str()))
    }

    /// Records the fastest of a list.
    pub fn prefer(&mut self, key: impl Into<String>, name: impl Into<String>) {
        self.tuned.insert(key.into(), name.into());
    }

    /// Drops every measurement; what the user forced stays.
    pub fn forget(&mut self) {
        self.tuned.clear();
    }

    /// Records that the estimate must do for a list: there was no time to measure it.
    pub fn settle(&mut self, key: impl Into<String>) {
        self.tuned.entry(key.into()).or_default();
    }

    /// What was measured, and what was settled (with an empty name): (key, name).
    pub fn measured(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tuned.iter().map(|(key, name)| (key.as_str(), name.as_str()))
    }

    /// Whether a list has been measured; `Some(false)` if it was settled without.
    pub fn knows(&self, key: &str) -> Option<bool> {
        self.tuned.get(key).map(|name| !name.is_empty())
    }

    /// Chooses from a list: the user's way if it is on it, else the measured one, else the first.
    pub fn choose(&self, op: &'static str, candidates: Candidates) -> Choice {
        let on_list = |name: Option<&String>| {
            name.and_then(|n| candidates.names.iter().copied().find(|c| *c == n.as_str()))
        };
        let (name, reason) = match (on_list(self.forced.get(op)), on_list(self.tuned.get(&candidates.key))) {
            (Some(name), _) => (name, Reason::Forced),
            (None, Some(name)) => (name, Reason::Measured),
            (None, None) => (candidates.names[0], Reason::Estimate),
        };
        Choice { op, candidates, name, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::Estimate;
    use super::*;

    fn list() -> Candidates {
        let estimate = |time| Estimate { time, speed: 1.0 };
        let able = [("tile64", estimate(3.0)), ("lanes16", estimate(2.0)), ("rows", estimate(9.0))];
        Candidates::ranked("k".to_owned(), false, able.into_iter())
    }

    #[test]
    fn the_fastest_by_the_estimate_is_first_and_the_hopeless_are_no_contenders() {
        assert_eq!((list().names, list().contenders), (vec!["lanes16", "tile64", "rows"], 2));
    }

    #[test]
    fn the_user_wins_over_the_measurement_and_both_over_the_estimate() {
        let mut choices = Choices::default();
        assert_eq!(choices.choose("matmul", list()).name, "lanes16");
        choices.settle("k");
        assert_eq!((choices.choose("matmul", list()).name, choices.knows("k")), ("lanes16", Some(false)));
        choices.prefer("k", "tile64");
        choices.settle("k");
        assert_eq!(choices.choose("matmul", list()).reason, Reason::Measured);
        choices.force("matmul=lanes16").expect("it is a name");
        let choice = choices.choose("matmul", list());
        assert_eq!((choice.name, choice.reason), ("lanes16", Reason::Forced));
    }

    #[test]
    fn what_is_not_on_the_list_is_not_taken() {
        let mut choices = Choices::forced(["matmul=quads64"]).expect("it is a name");
        choices.prefer("k", "gone");
        assert_eq!(choices.choose("matmul", list()).reason, Reason::Estimate);
    }

    #[test]
    fn a_wrong_setting_is_told_what_there_is() {
        for (setting, hint) in [("matmul", "OP=NAME"), ("norm=x", "matmul"), ("matmul=x", "tile64")] {
            let e = Choices::forced([setting]).expect_err(setting);
            let said = e.to_string();
            assert!(said.contains(hint), "{said}");
        }
    }
}
