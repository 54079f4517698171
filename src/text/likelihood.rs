//! How likely a language model finds a text, and what follows from it without any training: the label that
//! makes a text likeliest (Radford et al. 2019, section 3; Brown et al. 2020).

use super::{Kind, Passage, Task, TextSession, TooLong};
use crate::error::{Advice, Error, Result};
use crate::labels::Scoring;

/// How likely a text is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Tokens that were weighed: all but the first, which nothing comes before.
    pub tokens: usize,
    /// Sum of the logarithms of their probabilities, in nats.
    pub log: f64,
}

impl Likelihood {
    /// exp of the mean of the negative logarithms.
    pub fn perplexity(self) -> f64 {
        (-self.log / self.tokens.max(1) as f64).exp()
    }
}

/// A label of a text and how likely it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The label.
    pub label: String,
    /// How likely it is, with all that the template puts behind it.
    pub likelihood: Likelihood,
    /// Its share among the labels: softmax of [`Likelihood::log`].
    pub probability: f32,
}

/// Where text, pair and label stand: `{text} Question: {pair}? Answer: {label}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
    pair: bool,
}

impl Template {
    /// Reads a template. `{text}` and `{label}` must be in it, `{label}` once; `{pair}` may be.
    ///
    /// # Errors
    /// [`Error::Usage`] saying what is missing.
    pub fn new(template: &str) -> Result<Self> {
        let help = "write e.g. \"{text} Question: {pair} True, False or Neither? Answer: {label}\"";
        let Some((before, after)) = template.split_once("{label}") else {
            return Err(Error::usage("the template has no {label}", help));
        };
        if after.contains("{label}") {
            return Err(Error::usage("the template has more than one {label}", help));
        }
        if !template.contains("{text}") {
            return Err(Error::usage("the template has no {text}", help));
        }
        let pair = template.contains("{pair}");
        Ok(Self { before: before.to_owned(), after: after.to_owned(), pair })
    }

    /// Whether it has a `{pair}`.
    pub fn has_pair(&self) -> bool {
        self.pair
    }

    /// What stands before the label and behind it.
    fn fill(&self, text: &str, pair: Option<&str>) -> Result<[String; 2]> {
        if self.pair != pair.is_some() {
            let what = if self.pair {
                "the template has a {pair}, but there is none"
            } else {
                "the template has no {pair}"
            };
            return Err(Error::usage(what, Advice::PairAndTemplate));
        }
        // One pass, so that braces in a text stay what they are.
        let put = |part: &str| {
            let mut out = String::new();
            let mut rest = part;
            while let Some(at) = rest.find('{') {
                out.push_str(&rest[..at]);
                rest = &rest[at..];
                if let Some(tail) = rest.strip_prefix("{text}") {
                    out.push_str(text);
                    rest = tail;
                } else if let Some(tail) = rest.strip_prefix("{pair}") {
                    out.push_str(pair.unwrap_or_default());
                    rest = tail;
                } else {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
            out.push_str(rest);
            out
        };
        Ok([put(&self.before), put(&self.after)])
    }
}

impl TextSession {
    /// How likely a text is to a model that goes on with texts. One that is longer than the model takes is
    /// weighed by windows that overlap by half, each token by the window that shows most before it.
    ///
    /// # Errors
    /// [`Error::Usage`] for other models, and for a text of less than two tokens.
    pub fn likelihood(&self, text: &str) -> Result<Likelihood> {
        self.need(Task::Generate)?;
        if self.info().kind != Kind::Decoder {
            let what =
                format!("{} writes answers to a text; it has no likelihood of its own", self.info().family);
            return Err(Error::usage(what, Advice::Labels));
        }
        let ids = self.tokenizer()?.encode_open(text)?.ids;
        if ids.len() < 2 {
            return Err(Error::usage(
                "the text has less than two tokens",
                "nothing comes before the first token",
            ));
        }
        let limit = self.limit().unwrap_or(usize::MAX).min(ids.len());
        let (mut windows, mut from, mut done) = (Vec::new(), 0, 1);
        while done < ids.len() {
            let end = (from + limit).min(ids.len());
            windows.push((from, done - from, end));
            done = end;
            from = end.saturating_sub(limit / 2);
        }
        let passages: Vec<Passage> = windows
            .iter()
            .map(|&(from, _, end)| Passage {
                ids: ids[from..end].to_vec(),
                targets: ids[from + 1..end].to_vec(),
                ..Passage::default()
            })
            .collect();
        let logs = self.run(&passages, &["log_probability"])?;
        let mut sum = Likelihood { tokens: 0, log: 0.0 };
        for (&(from, first, end), logs) in windows.iter().zip(&logs) {
            // The token at place i is foretold at place i - 1.
            let some = &logs[0].to_f32()[first - 1..end - from - 1];
            sum = Likelihood { tokens: sum.tokens + some.len(), log: sum.log + total(some) };
        }
        self.finite(sum)
    }

    /// How likely each label is for a text: GPT-2 reads the whole template, T5 what stands before the label
    /// and answers with the label.
    ///
    /// # Errors
    /// [`Error::Usage`] for models that do not write, no labels, a text that is too long.
    pub fn choose(
        &self,
        (text, pair): (&str, Option<&str>),
        labels: &[String],
        template: &Template,
        too_long: TooLong,
    ) -> Result<Vec<Choice>> {
        self.need(Task::Generate)?;
        if labels.is_empty() || labels.iter().any(|label| label.trim().is_empty()) {
            return Err(Error::usage("a label is empty", "name labels apart by commas: \"yes,no\""));
        }
        let [before, after] = template.fill(text, pair)?;
        let decoder = self.info().kind == Kind::Decoder;
        if !decoder && !after.trim().is_empty() {
            let what = "this model answers with the label alone, so nothing may stand behind it";
            return Err(Error::usage(what, "end the template with {label}"));
        }
        let passages = labels.iter().map(|label| match decoder {
            true => self.continued(&before, &format!("{label}{after}"), too_long),
            false => self.answered(&before, label, too_long),
        });
        let passages = passages.collect::<Result<Vec<(Passage, usize)>>>()?;
        let texts: Vec<Passage> = passages.iter().map(|(passage, _)| passage.clone()).collect();
        let logs = self.run(&texts, &["log_probability"])?;
        let likelihoods = passages.iter().zip(&logs).map(|((passage, first), logs)| {
            let some = &logs[0].to_f32()[*first..passage.targets.len()];
            self.finite(Likelihood { tokens: some.len(), log: total(some) })
        });
        let likelihoods = likelihoods.collect::<Result<Vec<Likelihood>>>()?;
        let sums: Vec<f32> = likelihoods.iter().map(|l| l.log as f32).collect();
        let each = labels.iter().zip(likelihoods).zip(Scoring::Softmax.apply(&sums));
        Ok(each
            .map(|((label, likelihood), probability)| Choice {
                label: label.clone(),
                likelihood,
                probability,
            })
            .collect())
    }

    /// A text that goes on, and which target the continuation begins with.
    fn continued(&self, before: &str, on: &str, too_long: TooLong) -> Result<(Passage, usize)> {
        let whole = format!("{before}{on}");
        let encoding = self.tokenizer()?.encode_open(&whole)?;
        // A space before the label is of the label's token.
        let begin = before.trim_end().len();
        let first = encoding.offsets.iter().position(|range| range.end > begin).unwrap_or(0).max(1);
        let mut ids = encoding.ids;
        if ids.len() < 2 {
            return Err(Error::usage("the template makes no text", "write words before {label}"));
        }
        let mut first = first;
        if let Some(limit) = self.limit().filter(|&limit| ids.len() > limit) {
            let excess = ids.len() - limit;
            if too_long == TooLong::Refuse || excess >= first {
                let what = format!("a text has {} tokens with its label, the model takes {limit}", ids.len());
                return Err(Error::usage(what, Advice::CutBeginning));
            }
            ids.drain(..excess);
            first -= excess;
        }
        let targets = ids[1..].to_vec();
        Ok((Passage { ids, targets, ..Passage::default() }, first - 1))
    }

    /// A text and its answer.
    fn answered(&self, before: &str, label: &str, too_long: TooLong) -> Result<(Passage, usize)> {
        let (passage, _) = self.encode((before, None), too_long)?;
        let targets = self.tokenizer()?.encode(label)?.ids;
        let start = self.info().start.unwrap_or(0);
        let written = [&[start], &targets[..targets.len().saturating_sub(1)]].concat();
        Ok((Passage { written, targets, ..passage }, 0))
    }

    fn finite(&self, likelihood: Likelihood) -> Result<Likelihood> {
        if likelihood.log.is_finite() {
            return Ok(likelihood);
        }
        let what = format!("scores of {}", self.name());
        Err(Error::NonFinite { what, count: 1, total: likelihood.tokens })
    }
}

fn total(logs: &[f32]) -> f64 {
    logs.iter().map(|&l| f64::from(l)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_once() {
        let template = Template::new("{text}? {label}, {pair} {x}").expect("it is whole");
        let [before, after] = template.fill("a {pair}", Some("{text}")).expect("there is a pair");
        assert_eq!((before.as_str(), after.as_str()), ("a {pair}? ", ", {text} {x}"));
        assert!(template.fill("a", None).is_err());
        for wrong in ["{text}", "{label}", "{text}{label}{label}", ""] {
            assert!(Template::new(wrong).is_err(), "{wrong}");
        }
    }
}
