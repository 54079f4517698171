//! What came of one text, in every form: classes, words, answers, likelihoods. Places in a text
//! are counted in characters (Unicode scalar values), as Python counts them.

use crate::printable::escaped;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::output::{Printed, field};
use crate::cli::texts::shown;
use crate::labels::{Ranked, Score};
use crate::text::{Answers, Choice, Entity, Filled, Likelihood};

/// One text.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Its line in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    /// The text, or the question.
    pub(super) input: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pair: Option<String>,
    #[serde(flatten)]
    pub(super) content: Content,
}

/// What the model said of it.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Classes {
        predictions: Vec<Ranked>,
        /// Scores of all classes, if asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        logits: Option<Vec<f32>>,
    },
    Entities {
        entities: Vec<Tagged>,
    },
    Masks {
        masks: Vec<Mask>,
    },
    Answers {
        answers: Vec<Found>,
        /// If asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        no_answer: Option<Nothing>,
    },
    Choices {
        predictions: Vec<Weighed>,
    },
    Perplexity {
        tokens: usize,
        log_likelihood: f64,
        perplexity: f64,
    },
    Failed {
        error: String,
        /// Columns of CSV, of which the error is the last.
        #[serde(skip)]
        columns: usize,
    },
}

/// A token or an entity, in the words of transformers' pipeline.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tagged {
    #[serde(flatten)]
    label: Tag,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    word: String,
    start: usize,
    end: usize,
}

/// The class of a token, or of several.
#[derive(Debug, Clone, Serialize)]
enum Tag {
    #[serde(rename = "entity")]
    One(String),
    #[serde(rename = "entity_group")]
    Several(String),
}

impl Tag {
    fn name(&self) -> &str {
        let (Tag::One(name) | Tag::Several(name)) = self;
        name
    }
}

/// What may stand behind one mask.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Mask {
    start: usize,
    end: usize,
    tokens: Vec<Word>,
}

#[derive(Debug, Clone, Serialize)]
struct Word {
    id: u32,
    token: String,
    probability: f32,
}

/// An answer and its place in the context.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Found {
    answer: String,
    start: usize,
    end: usize,
    probability: f64,
    score: f64,
}

/// That the context holds no answer: above 0 the margin over the best answer says so.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Nothing {
    probability: f64,
    score: f64,
    /// Absent if there is no answer to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
}

impl Nothing {
    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "  {:>7.3}%  (no answer)  score {:.3}", self.probability * 100.0, self.score)
    }
}

/// A label and its likelihood.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Weighed {
    #[serde(flatten)]
    class: Ranked,
    tokens: usize,
    log_likelihood: f64,
}

impl Content {
    /// The best classes, and the scores of all if they are asked for.
    pub(super) fn classes(predictions: Vec<Ranked>, logits: Option<Vec<f32>>) -> Self {
        Content::Classes { predictions, logits }
    }

    pub(super) fn entities(text: &str, all: Vec<Entity>, grouped: bool) -> Self {
        let characters = |end: usize| text[..end].chars().count();
        let tagged = |e: Entity| Tagged {
            label: if grouped { Tag::Several(e.label) } else { Tag::One(e.label) },
            score: e.score,
            index: e.index,
            word: e.word,
            start: characters(e.range.start),
            end: characters(e.range.end),
        };
        Content::Entities { entities: all.into_iter().map(tagged).collect() }
    }

    pub(super) fn masks(text: &str, filled: Vec<Filled>) -> Self {
        let characters = |end: usize| text[..end].chars().count();
        let word = |(token, id, probability)| Word { id, token, probability };
        let mask = |f: Filled| Mask {
            start: characters(f.range.start),
            end: characters(f.range.end),
            tokens: f.tokens.into_iter().map(word).collect(),
        };
        Content::Masks { masks: filled.into_iter().map(mask).collect() }
    }

    pub(super) fn answers(context: &str, answers: Answers, top: usize) -> Self {
        let found = answers.best.into_iter().map(|a| Found {
            answer: context[a.bytes].to_owned(),
            start: a.characters.start,
            end: a.characters.end,
            probability: a.probability,
            score: a.score,
        });
        let no_answer = answers.none.map(|n| Nothing {
            probability: n.probability,
            score: n.score,
            margin: Some(n.margin).filter(|m| m.is_finite()),
        });
        let top = if top == 0 { usize::MAX } else { top };
        Content::Answers { answers: found.take(top).collect(), no_answer }
    }

    pub(super) fn choices(choices: Vec<Choice>, top: usize) -> Self {
        let n = choices.len();
        let weighed = choices.into_iter().enumerate().map(|(index, choice)| Weighed {
            class: Ranked { index, label: choice.label, score: Score::Probability(choice.probability) },
            tokens: choice.likelihood.tokens,
            log_likelihood: choice.likelihood.log,
        });
        let mut predictions: Vec<Weighed> = weighed.collect();
        predictions.sort_by(|a, b| b.log_likelihood.total_cmp(&a.log_likelihood));
        predictions.truncate(if top == 0 { n } else { top });
        Content::Choices { predictions }
    }

    pub(super) fn perplexity(likelihood: Likelihood) -> Self {
        Content::Perplexity {
            tokens: likelihood.tokens,
            log_likelihood: likelihood.log,
            perplexity: likelihood.perplexity(),
        }
    }
}

impl Printed for Row {
    fn text(&self, out: &mut impl Write, logits: bool) -> io::Result<()> {
        write!(out, "{}", shown(&self.input))?;
        self.pair.as_ref().map_or(Ok(()), |pair| write!(out, " | {}", shown(pair)))?;
        writeln!(out)?;
        match &self.content {
            Content::Classes { predictions, logits: scores } => {
                predictions.iter().try_for_each(|p| p.text(out, scores.as_deref().filter(|_| logits)))
            }
            Content::Entities { entities } if entities.is_empty() => writeln!(out, "  no entities"),
            Content::Entities { entities } => entities.iter().try_for_each(|e| {
                let (percent, name, word) =
                    (f64::from(e.score) * 100.0, escaped(e.label.name()), escaped(&e.word));
                writeln!(out, "  {percent:>7.3}%  {name}  {word}  (characters {} to {})", e.start, e.end)
            }),
            Content::Masks { masks } => {
                for (i, mask) in masks.iter().enumerate() {
                    if masks.len() > 1 {
                        writeln!(out, "  mask {}, character {}", i + 1, mask.start)?;
                    }
                    for word in &mask.tokens {
                        let percent = f64::from(word.probability) * 100.0;
                        writeln!(out, "  {percent:>7.3}%  {}  ({})", escaped(&word.token), word.id)?;
                    }
                }
                Ok(())
            }
            Content::Answers { answers, no_answer } => {
                let first = no_answer.as_ref().filter(|n| n.margin.is_none_or(|m| m > 0.0));
                first.map_or(Ok(()), |n| n.text(out))?;
                for a in answers {
                    let (share, text) = (a.probability * 100.0, escaped(&a.answer));
                    let Found { start, end, score, .. } = a;
                    writeln!(
                        out,
                        "  {share:>7.3}%  {text}  (characters {start} to {end})  score {score:.3}"
                    )?;
                }
                let last = no_answer.as_ref().filter(|_| first.is_none());
                last.map_or(Ok(()), |n| n.text(out))
            }
            Content::Choices { predictions } => predictions.iter().try_for_each(|w| {
                let Ranked { index, label, score } = &w.class;
                let percent = f64::from(score.value()) * 100.0;
                let log = w.log_likelihood;
                writeln!(out, "  {percent:>7.3}%  {}  ({index})  log likelihood {log:.3}", escaped(label))
            }),
            Content::Perplexity { tokens, log_likelihood, perplexity } => {
                writeln!(
                    out,
                    "  perplexity {perplexity:.3}  (log likelihood {log_likelihood:.3} of {tokens} tokens)"
                )
            }
            Content::Failed { error, .. } => writeln!(out, "  failed: {}", escaped(error)),
        }
    }

    fn csv(&self, out: &mut impl Write, logits: bool) -> io::Result<()> {
        let (name, pair) = (field(&self.input), self.pair.as_deref().map(field).unwrap_or_default());
        match &self.content {
            Content::Classes { predictions, logits: scores } => {
                for (rank, p) in predictions.iter().enumerate() {
                    write!(out, "{name},{pair},{},", rank + 1)?;
                    p.csv(out, scores.as_deref().filter(|_| logits))?;
                    write!(out, ",\r\n")?;
                }
                Ok(())
            }
            Content::Entities { entities } => entities.iter().try_for_each(|e| {
                let (label, word) = (field(e.label.name()), field(&e.word));
                write!(out, "{name},{label},{},{},{word},{},\r\n", e.start, e.end, e.score)
            }),
            Content::Masks { masks } => {
                for (i, mask) in masks.iter().enumerate() {
                    for (rank, Word { id, token, probability }) in mask.tokens.iter().enumerate() {
                        let token = field(token);
                        write!(out, "{name},{},{},{id},{token},{probability},\r\n", i + 1, rank + 1)?;
                    }
                }
                Ok(())
            }
            Content::Answers { answers, no_answer } => {
                for (rank, a) in answers.iter().enumerate() {
                    let Found { answer, start, end, probability, score } = a;
                    let answer = field(answer);
                    write!(out, "{name},{},{start},{end},{answer},{probability},{score},\r\n", rank + 1)?;
                }
                // An answer without a place is that there is none.
                no_answer
                    .as_ref()
                    .map_or(Ok(()), |n| write!(out, "{name},,,,,{},{},\r\n", n.probability, n.score))
            }
            Content::Choices { predictions } => {
                for (rank, w) in predictions.iter().enumerate() {
                    write!(out, "{name},{pair},{},", rank + 1)?;
                    w.class.csv(out, None)?;
                    write!(out, ",{},{},\r\n", w.tokens, w.log_likelihood)?;
                }
                Ok(())
            }
            Content::Perplexity { tokens, log_likelihood, perplexity } => {
                write!(out, "{name},{tokens},{log_likelihood},{perplexity},\r\n")
            }
            Content::Failed { error, columns } => {
                write!(out, "{name}{}{}\r\n", ",".repeat(columns - 1), field(error))
            }
        }
    }
}
