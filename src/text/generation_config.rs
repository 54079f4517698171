//! What a checkpoint says of how it is to be sampled: `generation_config.json`, or the same keys of
//! `config.json` in older folders. What is followed goes into [`super::GenerateOptions::by`]; what is not becomes a warning.
//!
//! Source: transformers 5.23, `generation/configuration_utils.py`.

use serde::Serialize;
use serde_json::Value;

use crate::ops::{LogitsRules, Sampling};
use crate::printable::printable;

/// Most tokens or sequences of tokens in one list.
const MOST: usize = 100_000;

/// Settings of transformers that change what is written and are not followed here, each with the values that
/// change nothing.
const NOT_FOLLOWED: &[(&str, &[f64])] = &[
    ("penalty_alpha", &[0.0]),
    ("typical_p", &[1.0]),
    ("epsilon_cutoff", &[0.0]),
    ("eta_cutoff", &[0.0]),
    ("min_p", &[0.0]),
    ("top_h", &[]),
    ("num_beam_groups", &[1.0]),
    ("diversity_penalty", &[0.0]),
    ("encoder_repetition_penalty", &[1.0]),
    ("encoder_no_repeat_ngram_size", &[0.0]),
    ("guidance_scale", &[1.0]),
    ("sequence_bias", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("watermarking_config", &[]),
];

/// Most sequences of one search.
pub(super) const MAX_BEAMS: usize = 32;

/// How a checkpoint is to be sampled.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationConfig {
    /// Ids that end a text, if it names them.
    pub ends: Option<Vec<u32>>,
    /// Id that the decoder of an encoder-decoder begins with.
    pub start: Option<u32>,
    /// Most new tokens.
    pub max_new_tokens: Option<usize>,
    /// Most tokens with those of the prompt.
    pub max_length: Option<usize>,
    /// How tokens are drawn, with seed 0; `None` for the likeliest.
    pub sampling: Option<Sampling>,
    /// A search for the likeliest text, in place of the likeliest token each time.
    pub search: Option<Search>,
    /// Texts that end a sample.
    pub stop: Vec<String>,
    /// What is asked of tokens.
    pub constraints: Constraints,
    /// What is not followed or not understood.
    pub warnings: Vec<String>,
}

/// How the likeliest text is searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// Sequences that go on at a time.
    pub beams: usize,
    /// The score of a finished text is the logarithm of its probability over its length to this power: above
    /// 0 longer texts are preferred, below 0 shorter ones.
    pub length_penalty: f32,
    /// End as soon as `beams` texts are finished, whatever others might become.
    pub early: bool,
}

/// What is asked of the tokens that are written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Constraints {
    /// Scores of tokens that are there already are divided by this, negative ones multiplied; 1 for none.
    pub repetition_penalty: f32,
    /// No so many tokens come twice in the same order; 0 for any.
    pub no_repeat_ngram: u32,
    /// No end before so many new tokens.
    pub min_new_tokens: u32,
    /// No end before so many tokens with those of the prompt.
    pub min_length: u32,
    /// Tokens that never come.
    pub suppressed: Vec<u32>,
    /// Tokens that do not come first.
    pub suppressed_first: Vec<u32>,
    /// The token behind a sequence of one token: what an encoder-decoder writes first.
    pub forced_first: Option<u32>,
    /// The last token of a text of full length.
    pub forced_last: Option<u32>,
    /// Tokens that do not come one after the other; one alone never comes.
    pub bad_words: Vec<Vec<u32>>,
}

impl Default for Constraints {
    /// None.
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            min_new_tokens: 0,
            min_length: 0,
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
            forced_first: None,
            forced_last: None,
            bad_words: Vec::new(),
        }
    }
}

impl Constraints {
    /// The rules for sequences that begin with `first` tokens and get `tokens` new ones at most.
    pub(super) fn rules(&self, ends: &[u32], first: usize, tokens: usize) -> LogitsRules {
        let first = first as u32;
        LogitsRules {
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram: self.no_repeat_ngram,
            ends: ends.to_vec(),
            ends_from: self.min_length.max(first.saturating_add(self.min_new_tokens)),
            suppressed: self.suppressed.clone(),
            suppressed_first: self.suppressed_first.clone(),
            first,
            forced_first: self.forced_first,
            forced_last: self.forced_last.map(|id| (first + tokens as u32 - 1, id)),
            bad_words: self.bad_words.clone(),
        }
    }
}

/// One configuration being read.
struct Reader<'a> {
    json: &'a Value,
    vocabulary: usize,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    fn ignore(&mut self, key: &str, what: &str) {
        let value = self.json.get(key).map(Value::to_string).unwrap_or_default();
        let value: String = printable(&value).chars().take(60).collect();
        self.warnings
            .push(format!("the generation configuration's `{key}` is {value}, {what}; it is ignored"));
    }

    /// What `read` makes of a value, if there is one; a value of which it makes nothing is told.
    fn read<T>(&mut self, key: &str, want: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let found = read(self.get(key)?);
        if found.is_none() {
            self.ignore(key, &format!("expected {want}"));
        }
        found
    }

    fn count(&mut self, key: &str) -> Option<usize> {
        self.read(key, "a whole number", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn number(&mut self, key: &str, good: fn(f32) -> bool) -> Option<f32> {
        self.read(key, "a number in its range", |v| v.as_f64().map(|n| n as f32).filter(|n| good(*n)))
    }

    /// An id, or several of them.
    fn ids(&mut self, key: &str) -> Option<Vec<u32>> {
        let most = self.vocabulary;
        self.read(key, "tokens of the model", |v| id(v, most).map(|id| vec![id]).or_else(|| ids(v, most)))
    }

    fn one(&mut self, key: &str) -> Option<u32> {
        self.ids(key)?.first().copied()
    }

    /// A search, which goes together with neither chance nor texts that end a sample.
    fn search(&mut self, chance: bool, stops: bool) -> Option<Search> {
        let beams = self.count("num_beams").filter(|n| *n > 1)?;
        let against = match (beams, chance, stops) {
            (_, true, _) => Some("which is not followed together with `do_sample`"),
            (_, _, true) => Some("which is not followed together with `stop_strings`"),
            (n, ..) if n > MAX_BEAMS => Some("more than 32"),
            _ => None,
        };
        if let Some(why) = against {
            self.ignore("num_beams", why);
            return None;
        }
        Some(Search {
            beams,
            length_penalty: self.number("length_penalty", |p| p.abs() <= 100.0).unwrap_or(1.0),
            early: self.read("early_stopping", "true or false", Value::as_bool).unwrap_or(false),
        })
    }
}

fn id(value: &Value, vocabulary: usize) -> Option<u32> {
    value.as_u64().filter(|id| *id < vocabulary as u64).map(|id| id as u32)
}

fn ids(value: &Value, vocabulary: usize) -> Option<Vec<u32>> {
    let list = value.as_array().filter(|list| list.len() <= MOST)?;
    list.iter().map(|value| id(value, vocabulary)).collect()
}

impl GenerationConfig {
    /// Reads a parsed `generation_config.json`, or a `config.json`, of a model of so many tokens.
    pub fn from_json(json: &Value, vocabulary: usize) -> Self {
        let mut r = Reader { json, vocabulary, warnings: Vec::new() };
        for (key, neutral) in NOT_FOLLOWED {
            let Some(value) = r.get(key) else { continue };
            if !value.as_f64().is_some_and(|n| neutral.contains(&n)) {
                r.ignore(key, "which is not followed here");
            }
        }
        let chance = r.read("do_sample", "true or false", Value::as_bool).unwrap_or(false);
        let sampling = chance.then(|| Sampling {
            temperature: r.number("temperature", |t| t > 0.0 && t <= 1e6).unwrap_or(1.0),
            // What transformers takes where nothing is said.
            top_k: r.count("top_k").map_or(50, |n| u32::try_from(n).unwrap_or(0)),
            top_p: r.number("top_p", |p| p > 0.0 && p <= 1.0).unwrap_or(1.0),
            ..Sampling::greedy()
        });
        let stop = r.read("stop_strings", "texts", |v| {
            let one = v.as_str().map(|text| vec![text.to_owned()]);
            one.or_else(|| v.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect())
        });
        let stop: Vec<String> =
            stop.unwrap_or_default().into_iter().filter(|text| !text.is_empty()).collect();
        let search = r.search(chance, !stop.is_empty());
        let bad_words = r.read("bad_words_ids", "lists of tokens of the model", |v| {
            let list = v.as_array().filter(|list| list.len() <= MOST)?;
            list.iter().map(|word| ids(word, vocabulary)).collect::<Option<Vec<_>>>()
        });
        let ends = r.ids("eos_token_id");
        let small = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let constraints = Constraints {
            repetition_penalty: r.number("repetition_penalty", |p| p > 0.0 && p <= 1e6).unwrap_or(1.0),
            no_repeat_ngram: small(r.count("no_repeat_ngram_size")),
            min_new_tokens: small(r.count("min_new_tokens")),
            min_length: small(r.count("min_length")),
            suppressed: r.ids("suppress_tokens").unwrap_or_default(),
            suppressed_first: r.ids("begin_suppress_tokens").unwrap_or_default(),
            forced_first: r.one("forced_bos_token_id"),
            forced_last: r.one("forced_eos_token_id"),
            // As in transformers, a ban of the end alone bans nothing.
            bad_words: bad_words
                .unwrap_or_default()
                .into_iter()
                .filter(|word| {
                    !word.is_empty() && !matches!(word[..], [id] if ends.iter().flatten().any(|e| *e == id))
                })
                .collect(),
        };
        Self {
            start: r.one("decoder_start_token_id"),
            max_new_tokens: r.count("max_new_tokens").filter(|n| *n > 0),
            max_length: r.count("max_length").filter(|n| *n > 0),
            stop,
            ends,
            sampling,
            search,
            constraints,
            warnings: r.warnings,
        }
    }

    /// New tokens behind `first` tokens where nobody says how many.
    pub(super) fn usual(&self, first: usize) -> Option<usize> {
        let whole = self.max_length.map(|length| length.saturating_sub(first).max(1));
        // As in transformers, the number of new tokens comes first.
        self.max_new_tokens.or(whole)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_followed() {
        let said = GenerationConfig::from_json(
            &json!({
                "do_sample": true, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5, "max_length": 20,
                "eos_token_id": [9, 3], "decoder_start_token_id": 0, "repetition_penalty": 1.5,
                "no_repeat_ngram_size": 2, "min_length": 4, "suppress_tokens": [1], "forced_bos_token_id": 7,
                "forced_eos_token_id": [3], "bad_words_ids": [[3], [4], [5, 6]], "num_beams": 1, "pad_token_id": 2,
                "stop_strings": "\n",
            }),
            10,
        );
        assert_eq!(said.warnings, Vec::<String>::new());
        let sampling = said.sampling.unwrap_or_else(Sampling::greedy);
        assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.7, 50, 0.9));
        assert_eq!((said.ends.clone(), said.start, said.usual(3)), (Some(vec![9, 3]), Some(0), Some(5)));
        assert_eq!(said.constraints.bad_words, [vec![4], vec![5, 6]]);
        let rules = said.constraints.rules(&[9], 3, 5);
        assert_eq!((rules.ends_from, rules.forced_last, rules.forced_first), (4, Some((7, 3)), Some(7)));
        let greedy = GenerationConfig::from_json(&json!({"temperature": 0.7, "max_length": 20}), 10);
        assert_eq!((greedy.sampling, greedy.usual(3), greedy.usual(30)), (None, Some(17), Some(1)));
        let search = json!({"num_beams": 4, "length_penalty": 0.6, "early_stopping": true});
        let search = GenerationConfig::from_json(&search, 10);
        assert_eq!(search.search, Some(Search { beams: 4, length_penalty: 0.6, early: true }));
        assert!(search.warnings.is_empty() && greedy.search.is_none());
        assert!(greedy.constraints.rules(&[1], 3, 5).is_empty());
    }

    #[test]
    fn what_is_not_followed_is_said() {
        for (json, says) in [
            (
                json!({"num_beams": 4, "do_sample": true}),
                "`num_beams` is 4, which is not followed together with",
            ),
            (json!({"num_beams": 4, "stop_strings": ["."]}), "together with `stop_strings`"),
            (json!({"num_beams": 33}), "more than 32"),
            (json!({"num_beams": 4, "early_stopping": "never"}), "early_stopping"),
            (json!({"num_beam_groups": 2}), "num_beam_groups"),
            (json!({"sequence_bias": [[[1], 2.0]]}), "sequence_bias"),
            (json!({"eos_token_id": 10}), "expected tokens of the model"),
            (json!({"repetition_penalty": -1}), "repetition_penalty"),
            (json!({"do_sample": "yes"}), "expected true or false"),
            (json!({"max_new_tokens": 2.5}), "a whole number"),
        ] {
            let said = GenerationConfig::from_json(&json, 10);
            assert!(said.warnings.len() == 1 && said.warnings[0].contains(says), "{:?}", said.warnings);
        }
    }
}
