//! Entities among tags, and how many of them are found: as `seqeval` counts them, which goes by `conlleval` (Tjong Kim
//! Sang & De Meulder 2003). `B-` begins an entity, `I-` goes on with one of its kind or begins one, `O` is outside; of
//! tags without these, neighbors that are equal are one.

const OUTSIDE: &str = "O";

/// Entities that are right, that were found, and that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) right: usize,
    pub(super) found: usize,
    pub(super) there: usize,
}

impl Counts {
    /// Adds a sentence by its tags, as they were found and as they are.
    pub(super) fn add(&mut self, found: &[&str], there: &[&str]) {
        let [found, there] = [entities(found), entities(there)];
        self.right += found.iter().filter(|entity| there.contains(entity)).count();
        self.found += found.len();
        self.there += there.len();
    }

    /// Twice the right ones by all that were found and that there are; 0 where there are none.
    pub(super) fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (self.found + self.there).max(1) as f64
    }
}

/// Kind, first and last word of each entity.
fn entities<'a>(tags: &[&'a str]) -> Vec<(&'a str, usize, usize)> {
    let mut all: Vec<(&str, usize, usize)> = Vec::new();
    let mut open = false;
    for (i, tag) in tags.iter().enumerate() {
        let (begins, kind) = match (tag.strip_prefix("B-"), tag.strip_prefix("I-")) {
            (Some(kind), _) => (true, kind),
            (None, Some(kind)) => (false, kind),
            (None, None) => (false, *tag),
        };
        if *tag == OUTSIDE {
            open = false;
            continue;
        }
        match all.last_mut().filter(|last| open && !begins && last.0 == kind) {
            Some(last) => last.2 = i,
            None => all.push((kind, i, i)),
        }
        open = true;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_by_their_tags() {
        let tags = ["B-PER", "I-PER", "O", "I-LOC", "I-LOC", "B-LOC", "I-PER", "O"];
        assert_eq!(entities(&tags), [("PER", 0, 1), ("LOC", 3, 4), ("LOC", 5, 5), ("PER", 6, 6)]);
        assert_eq!(entities(&["NOUN", "NOUN", "VERB"]), [("NOUN", 0, 1), ("VERB", 2, 2)]);
        assert_eq!(entities(&["O", "O"]), []);
        let mut counts = Counts::default();
        // One of two is found whole, and another is none.
        counts.add(&["B-PER", "I-PER", "O", "B-LOC", "B-LOC"], &["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]);
        assert_eq!(counts, Counts { right: 1, found: 3, there: 2 });
        assert_eq!(counts.f1(), 0.4);
        assert_eq!(Counts::default().f1(), 0.0);
    }
}
