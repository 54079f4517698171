//! How well an answer is given, by the definitions of SQuAD's own `evaluate-v2.0.py` (Rajpurkar et al. 2018): exact
//! match and F1 of words, without case, punctuation and articles, against the nearest of the right answers.

use std::collections::HashMap;

const ARTICLES: &[&str] = &["a", "an", "the"];

/// Exact match and F1 (both of 0 to 1) of an answer against the right ones; none of those means that there is no
/// answer, which an empty one says.
pub(super) fn exact_and_f1(given: &str, right: &[&str]) -> [f64; 2] {
    let given = words(given);
    let right: Vec<Vec<String>> =
        right.iter().map(|text| words(text)).filter(|words| !words.is_empty()).collect();
    let none = [vec![]];
    let right = if right.is_empty() { &none[..] } else { &right };
    let most = |of: &dyn Fn(&[String]) -> f64| right.iter().map(|words| of(words)).fold(0.0, f64::max);
    [most(&|words| f64::from(u8::from(*words == *given))), most(&|words| f1(&given, words))]
}

/// Words of a text: in lower case, without punctuation of ASCII, without articles.
fn words(text: &str) -> Vec<String> {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::new();
    let mut rest = &plain[..];
    // `\b(a|an|the)\b`: what stands around an article need not be a space.
    while let Some(c) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let end = if end == 0 { c.len_utf8() } else { end };
        let part = &rest[..end];
        kept.push_str(if ARTICLES.contains(&part) { " " } else { part });
        rest = &rest[end..];
    }
    kept.split_whitespace().map(str::to_owned).collect()
}

fn f1(given: &[String], right: &[String]) -> f64 {
    if given.is_empty() || right.is_empty() {
        return f64::from(u8::from(given == right));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    right.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut same = 0.0;
    for word in given {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            same += 1.0;
        }
    }
    if same == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (same / given.len() as f64, same / right.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_as_squad_does() {
        // What `compute_exact` and `compute_f1` of evaluate-v2.0.py give, the greatest over the right answers.
        for (given, right, exact, f1) in [
            ("The Red Ball!", &["red ball"][..], 1.0, 1.0),
            ("in the box", &["the box"], 0.0, 2.0 / 3.0),
            ("a b b", &["b b b c"], 0.0, 2.0 / 3.0),
            ("red", &["blue", "dark red"], 0.0, 2.0 / 3.0),
            ("", &[], 1.0, 1.0),
            ("red", &[], 0.0, 0.0),
            ("", &["red"], 0.0, 0.0),
            ("the", &["a"], 1.0, 1.0),
            ("the–end", &["–end"], 1.0, 1.0),
            ("U.S.", &["us"], 1.0, 1.0),
            ("theatre", &["atre"], 0.0, 0.0),
        ] {
            let [got_exact, got_f1] = exact_and_f1(given, right);
            assert_eq!(got_exact, exact, "{given} {right:?}");
            assert!((got_f1 - f1).abs() < 1e-12, "{given} {right:?}: {got_f1}");
        }
    }
}
