//! Classes of single tokens (named entities, parts of speech), and whole entities made of them, as
//! `TokenClassificationPipeline` of transformers has both.

use std::ops::Range;

use super::tasks::not_finite;
use super::{Passage, Task, TextSession, TooLong};
use crate::error::Result;
use crate::labels::Scoring;

/// How tokens become entities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// They do not: each token stands for itself.
    #[default]
    None,
    /// Neighbors of one class are one entity; `B-` begins another.
    Simple,
    /// So are words, each of the class of its first token.
    First,
    /// So are words, each of the class that is best on the average of its tokens.
    Average,
    /// So are words, each of the class of its surest token.
    Max,
}

/// A token or an entity, and what the model takes it for.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// The class; of entities without `B-` and `I-`.
    pub label: String,
    /// How probable it is; of several tokens the mean.
    pub score: f32,
    /// Which token of the text it is, special ones counted; `None` for entities.
    pub index: Option<usize>,
    /// Its tokens, joined as the tokenizer joins them.
    pub word: String,
    /// Its place in the text, in bytes.
    pub range: Range<usize>,
}

/// The class of what lies outside of all entities, which is omitted.
const OUTSIDE: &str = "O";

/// A token and its scores.
struct Token {
    word: String,
    index: usize,
    range: Range<usize>,
    /// Softmax over the classes.
    scores: Vec<f32>,
    /// Whether it goes on with the word of the token before it.
    inside: bool,
}

impl TextSession {
    /// What the model takes tokens, or entities, of texts for; those outside (`O`) are omitted.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the model has no such head; as [`TextSession::encode`] and
    /// [`TextSession::run`].
    pub fn tag(&self, texts: &[&str], aggregate: Aggregate, too_long: TooLong) -> Result<Vec<Vec<Entity>>> {
        self.need(Task::Tag)?;
        let encoded = texts.iter().map(|text| self.encode((text, None), too_long));
        let encoded = encoded.collect::<Result<Vec<_>>>()?;
        let passages: Vec<Passage> = encoded.iter().map(|(passage, _)| passage.clone()).collect();
        let outputs = self.outputs(passages, "logits")?;
        let tokenizer = self.tokenizer()?;
        let names = &self.labels().names;
        let mut all = Vec::new();
        for ((text, (_, encoding)), logits) in texts.iter().zip(&encoded).zip(&outputs) {
            let (width, logits) = (logits.shape().width(), logits.to_f32());
            let logits = &logits[..encoding.ids.len() * width];
            if logits.iter().any(|l| !l.is_finite()) {
                return Err(not_finite(self.name(), logits));
            }
            let token = |(index, scores): (usize, &[f32])| {
                encoding.sequence[index]?;
                let (id, range) = (encoding.ids[index], encoding.offsets[index].clone());
                let unknown = tokenizer.special().unk == Some(id);
                let part = &text[range.clone()];
                let spelled = tokenizer.token(id).filter(|_| !unknown).unwrap_or_else(|| part.to_owned());
                let inside = !unknown && goes_on(text, &range, &spelled, tokenizer.marks_parts());
                Some(Token { word: spelled, index, range, scores: Scoring::Softmax.apply(scores), inside })
            };
            let tokens: Vec<Token> = logits.chunks(width).enumerate().filter_map(token).collect();
            let mut found = entities(&tokens, aggregate, names, &|words| tokenizer.joined(words));
            found.retain(|entity| entity.label != OUTSIDE);
            all.push(found);
        }
        Ok(all)
    }
}

/// Whether a token goes on with a word: its spelling has a mark of parts that the text has not, or, of
/// tokenizers without such marks, no space stands at its beginning.
fn goes_on(text: &str, range: &Range<usize>, spelled: &str, marks: bool) -> bool {
    if marks {
        return spelled.chars().count() != text[range.clone()].chars().count();
    }
    let before = text[..range.start].chars().next_back();
    let first = text[range.start..].chars().next();
    before.is_some() && before != Some(' ') && first != Some(' ')
}

/// Entities of tokens; `join` makes a text of spellings.
fn entities(
    tokens: &[Token],
    aggregate: Aggregate,
    names: &[String],
    join: &dyn Fn(Vec<String>) -> String,
) -> Vec<Entity> {
    let label = |class: usize| names.get(class).cloned().unwrap_or_else(|| format!("LABEL_{class}"));
    let single = |token: &Token| {
        let (class, score) = best(&token.scores);
        let (word, range) = (token.word.clone(), token.range.clone());
        Entity { label: label(class), score, index: Some(token.index), word, range }
    };
    let word = |tokens: &[Token]| {
        let (class, score) = match aggregate {
            Aggregate::Average => best(&average(tokens)),
            Aggregate::Max => {
                let sure = tokens.iter().map(|token| best(&token.scores));
                sure.reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap_or((0, 0.0))
            }
            _ => best(&tokens[0].scores),
        };
        let range = tokens[0].range.start..tokens[tokens.len() - 1].range.end;
        let word = join(tokens.iter().map(|token| token.word.clone()).collect());
        Entity { label: label(class), score, index: None, word, range }
    };
    match aggregate {
        Aggregate::None => tokens.iter().map(single).collect(),
        Aggregate::Simple => groups(tokens.iter().map(single).collect(), join),
        _ => groups(tokens.chunk_by(|_, next| next.inside).map(word).collect(), join),
    }
}

/// Neighbors of one class as one: `I-` goes on, `B-` begins another; classes without either go on.
fn groups(parts: Vec<Entity>, join: &dyn Fn(Vec<String>) -> String) -> Vec<Entity> {
    let tag = |label: &str| {
        let tag = label.strip_prefix("B-").or_else(|| label.strip_prefix("I-"));
        tag.unwrap_or(label).to_owned()
    };
    let same = |a: &Entity, b: &Entity| tag(&a.label) == tag(&b.label) && !b.label.starts_with("B-");
    let group = |parts: &[Entity]| {
        let label = &parts[0].label;
        let label = label.split_once('-').map_or(label.as_str(), |(_, tag)| tag).to_owned();
        let sum: f64 = parts.iter().map(|part| f64::from(part.score)).sum();
        let range = parts[0].range.start..parts[parts.len() - 1].range.end;
        let word = join(parts.iter().map(|part| part.word.clone()).collect());
        Entity { label, score: (sum / parts.len() as f64) as f32, index: None, word, range }
    };
    parts.chunk_by(same).map(group).collect()
}

/// The best class and its score; of equal ones the first.
fn best(scores: &[f32]) -> (usize, f32) {
    let all = scores.iter().copied().enumerate();
    all.reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap_or((0, 0.0))
}

/// The mean of the scores of tokens.
fn average(tokens: &[Token]) -> Vec<f32> {
    let mean = |class: usize| tokens.iter().map(|t| t.scores[class]).sum::<f32>() / tokens.len() as f32;
    (0..tokens[0].scores.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"];

    /// `Jo ##hn Smith in Paris`: the first word is of two tokens that disagree.
    fn tokens() -> Vec<Token> {
        let token = |index, word: &str, range, scores: [f32; 5]| Token {
            word: word.to_owned(),
            index,
            range,
            scores: scores.to_vec(),
            inside: word.starts_with('#'),
        };
        vec![
            token(1, "jo", 0..2, [0.1, 0.5, 0.1, 0.3, 0.0]),
            token(2, "##hn", 2..4, [0.1, 0.0, 0.1, 0.7, 0.1]),
            token(3, "smith", 5..10, [0.1, 0.0, 0.8, 0.1, 0.0]),
            token(4, "in", 11..13, [0.9, 0.1, 0.0, 0.0, 0.0]),
            token(5, "paris", 14..19, [0.1, 0.1, 0.1, 0.1, 0.6]),
        ]
    }

    fn found(aggregate: Aggregate) -> Vec<(String, String, Range<usize>, f32)> {
        let names: Vec<String> = NAMES.map(str::to_owned).to_vec();
        let join = |words: Vec<String>| words.join(" ").replace(" ##", "");
        let all = entities(&tokens(), aggregate, &names, &join);
        all.into_iter().map(|e| (e.label, e.word, e.range, e.score)).collect()
    }

    fn close(found: &[(String, String, Range<usize>, f32)], expected: &[(&str, &str, Range<usize>, f32)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, (label, word, range, score)) in found.iter().zip(expected) {
            assert_eq!((found.0.as_str(), found.1.as_str(), &found.2), (*label, *word, range));
            assert!((found.3 - score).abs() < 1e-6, "{found:?} {score}");
        }
    }

    #[test]
    fn every_way_of_making_entities() {
        // By the rules of `TokenClassificationPipeline`, worked by hand.
        close(&found(Aggregate::None)[..2], &[("B-PER", "jo", 0..2, 0.5), ("B-LOC", "##hn", 2..4, 0.7)]);
        let rest = [("O", "in", 11..13, 0.9), ("LOC", "paris", 14..19, 0.6)];
        let with = |first: &[(&'static str, &'static str, Range<usize>, f32)]| [first, &rest[..]].concat();
        close(
            &found(Aggregate::Simple),
            &with(&[("PER", "jo", 0..2, 0.5), ("LOC", "##hn", 2..4, 0.7), ("PER", "smith", 5..10, 0.8)]),
        );
        close(&found(Aggregate::First), &with(&[("PER", "john smith", 0..10, 0.65)]));
        let apart = |score| [("LOC", "john", 0..4, score), ("PER", "smith", 5..10, 0.8)];
        // (0.3 + 0.7) / 2 is more than (0.5 + 0) / 2.
        close(&found(Aggregate::Average), &with(&apart(0.5)));
        close(&found(Aggregate::Max), &with(&apart(0.7)));
    }

    #[test]
    fn parts_of_words() {
        let text = "I'm New York";
        assert!(goes_on(text, &(4..6), "##ne", true) && !goes_on(text, &(4..7), "new", true));
        assert!(!goes_on(text, &(0..1), "I", false) && goes_on(text, &(1..3), "'m", false));
        // A range may begin with the space before the word, or behind it.
        assert!(!goes_on(text, &(3..7), "ĠNew", false) && !goes_on(text, &(4..7), "New", false));
    }
}
