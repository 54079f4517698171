//! Changes the scores of the next token by what a checkpoint's generation configuration asks for, on the
//! device, between the head and the draw: transformers' logits processors.
//!
//! Source: transformers 5.23, `generation/logits_process.py`; the repetition penalty is that of Keskar et al.
//! 2019 (CTRL).

use super::def::{OpDef, arity, dims, f32s};
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// What is asked of the next token. Lengths count all tokens of a sequence: the prompt's, or the start token
/// that an encoder-decoder begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitsRules {
    /// Scores of tokens that the sequence holds are divided by this, negative ones multiplied; 1 for none.
    pub repetition_penalty: f32,
    /// No so many tokens come twice in this order; 0 for any.
    pub no_repeat_ngram: u32,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// None of them comes before a sequence has this length.
    pub ends_from: u32,
    /// Tokens that never come.
    pub suppressed: Vec<u32>,
    /// Tokens that do not come first: behind a sequence of [`LogitsRules::first`].
    pub suppressed_first: Vec<u32>,
    /// Length of a sequence before anything is drawn.
    pub first: u32,
    /// The token behind a sequence of length 1.
    pub forced_first: Option<u32>,
    /// Length at which a sequence may take one more token, and what that is.
    pub forced_last: Option<(u32, u32)>,
    /// Tokens that do not come one after the other; one alone never comes.
    pub bad_words: Vec<Vec<u32>>,
}

impl Default for LogitsRules {
    /// Nothing is asked.
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            ends: Vec::new(),
            ends_from: 0,
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
            first: 0,
            forced_first: None,
            forced_last: None,
            bad_words: Vec::new(),
        }
    }
}

/// Stands for no token.
const NONE: u32 = u32::MAX;
/// The score of a token that may not come.
const LOWEST: f32 = -3.0e38;

impl LogitsRules {
    /// True if logits stay as they are.
    pub fn is_empty(&self) -> bool {
        let lengths = Self { ends: vec![], ends_from: 0, first: 0, ..self.clone() } == Self::default();
        lengths && (self.ends.is_empty() || self.ends_from <= self.first)
    }

    /// The rules as the device holds them: ten words, the lists, the bad words each behind its length, a 0.
    pub fn tensor(&self) -> HostTensor {
        let (last, forced_last) = self.forced_last.unwrap_or((NONE, NONE));
        let lists = [&self.ends, &self.suppressed, &self.suppressed_first];
        let mut words = vec![
            self.repetition_penalty.to_bits(),
            self.no_repeat_ngram,
            self.ends_from,
            self.first,
            self.forced_first.unwrap_or(NONE),
            last,
            forced_last,
        ];
        words.extend(lists.iter().map(|list| list.len() as u32));
        words.extend(lists.into_iter().flatten());
        for word in self.bad_words.iter().filter(|word| !word.is_empty()) {
            words.push(word.len() as u32);
            words.extend(word);
        }
        words.push(0);
        HostTensor::u32([words.len()], words)
    }

    fn from_words(w: &[u32]) -> Self {
        let some = |word: u32| (word != NONE).then_some(word);
        let mut rest = &w[10..];
        let mut take = |count: u32| {
            let (list, left) = rest.split_at(count as usize);
            rest = left;
            list.to_vec()
        };
        let [ends, suppressed, suppressed_first] = [w[7], w[8], w[9]].map(&mut take);
        let mut bad_words = Vec::new();
        loop {
            match take(1)[0] {
                0 => break,
                count => bad_words.push(take(count)),
            }
        }
        Self {
            repetition_penalty: f32::from_bits(w[0]),
            no_repeat_ngram: w[1],
            ends,
            ends_from: w[2],
            suppressed,
            suppressed_first,
            first: w[3],
            forced_first: some(w[4]),
            forced_last: some(w[6]).map(|id| (w[5], id)),
            bad_words,
        }
    }

    /// Changes the scores (V) of what comes behind the tokens of a sequence.
    pub fn apply(&self, logits: &mut [f32], sequence: &[u32]) {
        let before = logits.to_vec();
        let mut put = |id: u32, value: f32| {
            if let Some(l) = logits.get_mut(id as usize) {
                *l = value;
            }
        };
        if self.repetition_penalty != 1.0 {
            for &id in sequence {
                let Some(&l) = before.get(id as usize) else { continue };
                put(id, if l < 0.0 { l * self.repetition_penalty } else { l / self.repetition_penalty });
            }
        }
        let ngram = self.no_repeat_ngram as usize;
        if ngram > 0 && sequence.len() >= ngram {
            let last = &sequence[sequence.len() + 1 - ngram..];
            for window in sequence.windows(ngram).filter(|window| window[..ngram - 1] == *last) {
                put(window[ngram - 1], LOWEST);
            }
        }
        let length = sequence.len() as u32;
        let lists = [
            (length < self.ends_from, &self.ends),
            (true, &self.suppressed),
            (length == self.first, &self.suppressed_first),
        ];
        for (_, list) in lists.into_iter().filter(|(holds, _)| *holds) {
            list.iter().for_each(|&id| put(id, LOWEST));
        }
        for word in &self.bad_words {
            if let Some((&id, before)) = word.split_last()
                && sequence.ends_with(before)
            {
                put(id, LOWEST);
            }
        }
        let first = self.forced_first.filter(|_| length == 1);
        let last = self.forced_last.filter(|(at, _)| length == *at).map(|(_, id)| id);
        if let Some(forced) = last.or(first) {
            for (id, l) in (0..).zip(logits) {
                *l = if id == forced { 0.0 } else { LOWEST };
            }
        }
    }
}

/// Scores of the next token by [`LogitsRules`]. Operands: logits (B,V); rules u32; step (4) u32, of which the
/// first is the place; tokens (B,S) u32. Result (B,V).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLogits {
    /// Tokens that this run adds: a sequence has so many more than the step's place.
    pub advance: usize,
}

params! {
    /// Parameters of the kernel.
    struct ProcessParams { sequences: u32, vocabulary: u32, places: u32, advance: u32 }
}

static PROCESS: Kernel =
    Kernel { name: "process_logits", source: shader!("process_logits.wgsl"), params: ProcessParams::FIELDS };

impl Graph {
    /// Logits (B,V) changed by rules, for the tokens (B,S) that stand there before the step is moved on by
    /// `advance`.
    pub fn process_logits(&mut self, logits: Value, others: [Value; 3], advance: usize) -> Value {
        self.push(ProcessLogits { advance }, [&[logits], &others[..]].concat())
    }
}

impl OpDef for ProcessLogits {
    fn name(&self) -> &'static str {
        "process_logits"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 4)?;
        let [rows, vocabulary] = dims("logits", &inputs[0])?;
        let [sequences, places] = dims("tokens", &inputs[3])?;
        if inputs[1..].iter().any(|d| d.dtype != DType::U32) {
            return Err("rules, step and tokens are u32".to_owned());
        }
        if rows != sequences || vocabulary == 0 || places == 0 || inputs[2].shape.elements() != 4 {
            return Err(format!("{rows} rows of logits for {sequences} sequences of {places} places"));
        }
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let words = |i: usize| inputs[i].as_u32().expect("checked by infer");
        let rules = LogitsRules::from_words(words(1));
        let [_, places]: [usize; 2] = dims("tokens", &inputs[3].desc()).expect("checked by infer");
        let vocabulary = out.shape.width();
        let length = (words(2)[0] as usize + self.advance).min(places);
        let mut logits = f32s(inputs[0]).to_vec();
        for (row, tokens) in logits.chunks_mut(vocabulary).zip(words(3).chunks(places)) {
            rules.apply(row, &tokens[..length]);
        }
        HostTensor::f32(out.shape, logits)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        inputs[0].shape.elements() as u64
    }

    fn wide_operands(&self) -> &[usize] {
        &[0]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, vocabulary]: [usize; 2] = dims("logits", &cx.input(0)).expect("checked by infer");
        let [sequences, places]: [usize; 2] = dims("tokens", &cx.input(3)).expect("checked by infer");
        let lanes = if cx.target.cpu { 16 } else { cx.target.max_invocations.min(256) };
        let variant = Variant::new().with_type("L", cx.input(0).dtype).with_u32("WG", 1 << lanes.ilog2());
        to_u32("logits", cx.input(0).shape.elements())?;
        let params = ProcessParams {
            sequences: to_u32("sequences", sequences)?,
            vocabulary: vocabulary as u32,
            places: to_u32("tokens", sequences * places)? / sequences as u32,
            advance: to_u32("tokens", self.advance)?,
        };
        let binds = (0..4).map(|i| cx.operand(i)).chain([cx.result()]).collect();
        cx.dispatch(&PROCESS, variant, params, binds, sequences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_by_hand() {
        let scored = |rules: &LogitsRules, sequence: &[u32]| {
            let mut logits = vec![2.0, -2.0, 1.0, 0.5];
            rules.apply(&mut logits, sequence);
            logits
        };
        let none = LogitsRules::default();
        assert!(none.is_empty());
        assert_eq!(scored(&none, &[0, 1]), [2.0, -2.0, 1.0, 0.5]);
        let penalty = LogitsRules { repetition_penalty: 4.0, ..none.clone() };
        assert_eq!(scored(&penalty, &[0, 1, 0, 9]), [0.5, -8.0, 1.0, 0.5]);
        let ngram = LogitsRules { no_repeat_ngram: 2, ..none.clone() };
        assert_eq!(scored(&ngram, &[3, 2, 0, 3]), [2.0, -2.0, LOWEST, 0.5]);
        assert_eq!(scored(&ngram, &[3]), [2.0, -2.0, 1.0, 0.5]);
        let once = LogitsRules { no_repeat_ngram: 1, ..none.clone() };
        assert_eq!(scored(&once, &[3]), [2.0, -2.0, 1.0, LOWEST]);
        let ends = LogitsRules { ends: vec![0], ends_from: 3, ..none.clone() };
        assert!(!ends.is_empty());
        assert_eq!((scored(&ends, &[3, 3])[0], scored(&ends, &[3, 3, 3])[0]), (LOWEST, 2.0));
        let first = LogitsRules { suppressed: vec![3], suppressed_first: vec![2], first: 1, ..none.clone() };
        assert_eq!(scored(&first, &[0]), [2.0, -2.0, LOWEST, LOWEST]);
        assert_eq!(scored(&first, &[0, 0]), [2.0, -2.0, 1.0, LOWEST]);
        let bad = LogitsRules { bad_words: vec![vec![1], vec![3, 2, 0]], ..none.clone() };
        assert_eq!(scored(&bad, &[3, 2]), [LOWEST, LOWEST, 1.0, 0.5]);
        assert_eq!(scored(&bad, &[2]), [2.0, LOWEST, 1.0, 0.5]);
        let forced = LogitsRules { forced_first: Some(1), forced_last: Some((3, 2)), ..none };
        assert_eq!(scored(&forced, &[0]), [LOWEST, 0.0, LOWEST, LOWEST]);
        assert_eq!(scored(&forced, &[0, 0]), [2.0, -2.0, 1.0, 0.5]);
        assert_eq!(scored(&forced, &[0, 0, 0]), [LOWEST, LOWEST, 0.0, LOWEST]);
    }

    #[test]
    fn words_and_back() {
        let rules = LogitsRules {
            repetition_penalty: 1.5,
            no_repeat_ngram: 3,
            ends: vec![1, 2],
            ends_from: 7,
            suppressed: vec![9],
            suppressed_first: vec![4, 5, 6],
            first: 2,
            forced_first: Some(0),
            forced_last: Some((8, 1)),
            bad_words: vec![vec![3], vec![1, 2, 3]],
        };
        for rules in [rules, LogitsRules::default()] {
            let tensor = rules.tensor();
            assert_eq!(LogitsRules::from_words(tensor.as_u32().unwrap_or_default()), rules);
        }
    }
}
