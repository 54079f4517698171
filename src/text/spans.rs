//! Extractive question answering, as SQuAD's own programs do it: from a question and a
//! long context to windows a model can read, and from its start and end scores to answers.
//!
//! Pure functions over token positions; no tokenizer and no model. A context that does not fit is
//! read in windows that start every [`STRIDE`] tokens, each after the whole question. A token that
//! several windows show counts only in the one where it has the most context around it. The method
//! is that of `run_squad.py`: of each window the 20 best starts and ends, pairs of at most 30
//! tokens, the 20 best pairs of all windows with different texts, and a softmax over those.
//! For models of SQuAD 2.0 "no answer" is one more candidate, scored at `[CLS]`; of several windows
//! the least sure one counts.
//!
//! Offsets are given twice: in bytes, to slice with, and in Unicode scalar values ("characters"),
//! which is how Python and the data sets count.

use std::ops::Range;

use crate::error::{Error, Result};

/// Tokens from the start of one window to the start of the next.
pub const STRIDE: usize = 128;

/// How many candidates are kept, of each window and in the end.
pub const BEST: usize = 20;

/// Longest answer in tokens.
pub const LONGEST: usize = 30;

/// Where question and context lie in the tokens of the whole pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Tokens before the context: the question and the special tokens around it.
    pub head: usize,
    /// Tokens of the context.
    pub context: usize,
    /// Special tokens after the context.
    pub tail: usize,
}

/// A part of the context, read with the whole question before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Which of the context's tokens it shows, counted from the context's first.
    pub context: Range<usize>,
    /// Tokens before them.
    pub head: usize,
    /// Tokens after them.
    pub tail: usize,
}

/// A model's scores for one window, one of each a token.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// That the answer starts here.
    pub start: &'a [f32],
    /// That it ends here.
    pub end: &'a [f32],
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its place in the context, in bytes.
    pub bytes: Range<usize>,
    /// Its place in the context, in Unicode scalar values.
    pub characters: Range<usize>,
    /// Its share of the probability of all that were kept, from 0 to 1.
    pub probability: f64,
    /// Start and end scores added.
    pub score: f64,
}

/// What there is to say about a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Best first; none if the model points outside the context everywhere.
    pub best: Vec<Answer>,
    /// That the context holds no answer, if the model can say so.
    pub none: Option<NoAnswer>,
}

/// The case that the context holds no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct NoAnswer {
    /// Its share of the probability.
    pub probability: f64,
    /// Start and end scores at `[CLS]` added, of the window where they are least.
    pub score: f64,
    /// By how much it exceeds the best answer's score. Above 0 (or the threshold that a model was
    /// published with), "no answer" is the answer.
    pub margin: f64,
}

impl Layout {
    /// From which text (0 the question, 1 the context) each token of the pair is; `None` for
    /// special tokens.
    ///
    /// # Errors
    /// [`Error::Input`] if no token is of the context.
    pub fn of(sequence: &[Option<u8>]) -> Result<Self> {
        let empty = || Error::input("context", "it is empty: there is nothing to find an answer in", "");
        let head = sequence.iter().position(|s| *s == Some(1)).ok_or_else(empty)?;
        let last = sequence.iter().rposition(|s| *s == Some(1)).ok_or_else(empty)?;
        Ok(Self { head, context: last + 1 - head, tail: sequence.len() - last - 1 })
    }

    /// Windows of at most `longest` tokens that together show the whole context.
    ///
    /// # Errors
    /// [`Error::Input`] if the question leaves no room for any context.
    pub fn windows(&self, longest: usize, stride: usize) -> Result<Vec<Window>> {
        let around = self.head + self.tail;
        let Some(room) = longest.checked_sub(around).filter(|room| *room > 0) else {
            let what = format!("with its special tokens it takes {around} tokens, the model reads {longest}");
            return Err(Error::input("question", what, "ask a shorter question"));
        };
        let mut windows = Vec::new();
        let mut start = 0;
        loop {
            let end = (start + room).min(self.context);
            windows.push(Window { context: start..end, head: self.head, tail: self.tail });
            if end == self.context {
                return Ok(windows);
            }
            start += stride.clamp(1, room);
        }
    }
}

impl Window {
    /// Tokens in the window.
    pub fn tokens(&self) -> usize {
        self.head + self.context.len() + self.tail
    }

    /// The window's part of a list with one entry for each token of the whole pair.
    pub fn of<T: Clone>(&self, pair: &[T]) -> Vec<T> {
        let tail = pair.len() - self.tail;
        let context = &pair[self.head + self.context.start..self.head + self.context.end];
        [&pair[..self.head], context, &pair[tail..]].concat()
    }
}

/// The best answers. `offsets` are the byte ranges in `context` of the context's tokens, `scores`
/// those of each window, `no_answer` whether the model was trained on questions without answer.
///
/// # Panics
/// If windows, offsets and scores do not belong together.
pub fn answers(
    context: &str,
    offsets: &[Range<usize>],
    windows: &[Window],
    scores: &[Scores<'_>],
    no_answer: bool,
) -> Answers {
    assert_eq!(windows.len(), scores.len(), "one set of scores a window");
    let mut pairs = candidates(windows, scores, false);
    if pairs.is_empty() {
        // The original gives up where no window ranks the context high enough; a user still wants
        // to see what the model would say.
        pairs = candidates(windows, scores, true);
    }
    pairs.sort_by(|a, b| b.score.total_cmp(&a.score));

    let none = scores.iter().map(|s| sum(s.start[0], s.end[0])).min_by(f64::total_cmp).filter(|_| no_answer);
    let mut best: Vec<Answer> = Vec::new();
    for pair in pairs {
        // "No answer" takes one of the places if it ranks before this pair.
        if best.len() + usize::from(none.is_some_and(|none| none > pair.score)) >= BEST {
            break;
        }
        let bytes = trimmed(context, offsets[pair.first].start..offsets[pair.last].end);
        let text = &context[bytes.clone()];
        if text.is_empty() || best.iter().any(|known| context[known.bytes.clone()] == *text) {
            continue;
        }
        let before = context[..bytes.start].chars().count();
        let characters = before..before + text.chars().count();
        best.push(Answer { bytes, characters, probability: 0.0, score: pair.score });
    }
    let all = || best.iter().map(|a| a.score).chain(none);
    let highest = all().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = all().map(|score| (score - highest).exp()).sum();
    let share = |score: f64| (score - highest).exp() / total;
    let none = none.map(|score| NoAnswer {
        probability: share(score),
        score,
        margin: best.first().map_or(f64::INFINITY, |a| score - a.score),
    });
    for answer in &mut best {
        answer.probability = share(answer.score);
    }
    Answers { best, none }
}

/// A possible answer: first and last of its tokens, counted in the context.
struct Pair {
    first: usize,
    last: usize,
    score: f64,
}

/// Pairs of the best starts and ends of each window. `inside` ranks only the context's tokens; the
/// original ranks all and drops those outside.
fn candidates(windows: &[Window], scores: &[Scores<'_>], inside: bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (w, (window, scores)) in windows.iter().zip(scores).enumerate() {
        assert_eq!([scores.start.len(), scores.end.len()], [window.tokens(); 2], "a score a token");
        let place = |i: usize| {
            let at = i.checked_sub(window.head)?;
            (at < window.context.len()).then_some(window.context.start + at)
        };
        let ranked = |scores: &[f32]| -> Vec<(usize, f32)> {
            let mut all: Vec<usize> = (0..scores.len()).filter(|&i| !inside || place(i).is_some()).collect();
            // Stable: of equal scores the first counts.
            all.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            all.iter().take(BEST).filter_map(|&i| Some((place(i)?, scores[i]))).collect()
        };
        let ends = ranked(scores.end);
        for (first, start) in ranked(scores.start) {
            if most_context(windows, first) != w {
                continue;
            }
            let fits = ends.iter().filter(|(last, _)| (first..first + LONGEST).contains(last));
            pairs.extend(fits.map(|&(last, end)| Pair { first, last, score: sum(start, end) }));
        }
    }
    pairs
}

fn sum(start: f32, end: f32) -> f64 {
    f64::from(start) + f64::from(end)
}

/// The window that shows the most context around a token: the smaller side counts, and a little the
/// window's length; of equal ones the first.
fn most_context(windows: &[Window], token: usize) -> usize {
    let mut best = (f64::NEG_INFINITY, 0);
    for (w, window) in windows.iter().enumerate().filter(|(_, w)| w.context.contains(&token)) {
        let around = (token - window.context.start).min(window.context.end - 1 - token);
        let score = around as f64 + 0.01 * window.context.len() as f64;
        if score > best.0 {
            best = (score, w);
        }
    }
    best.1
}

/// The range without white space at its ends.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let found = &text[range.start..range.end.max(range.start)];
    let start = range.start + (found.len() - found.trim_start().len());
    start..start + found.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layout of a question of `question` tokens and a context, BERT's way.
    fn layout(question: usize, context: usize) -> Layout {
        let sequence: Vec<Option<u8>> =
            [vec![None], vec![Some(0); question], vec![None], vec![Some(1); context]]
                .concat()
                .into_iter()
                .chain([None])
                .collect();
        Layout::of(&sequence).expect("a context")
    }

    /// Scores of a window: 0 but where said.
    fn scores(window: &Window, set: &[(usize, f32)]) -> Vec<f32> {
        let mut all = vec![0.0; window.tokens()];
        for &(i, score) in set {
            all[i] = score;
        }
        all
    }

    /// One-letter tokens of a context, each a byte, and their offsets.
    fn letters(n: usize) -> (String, Vec<Range<usize>>) {
        let text: String = (0..n).map(|i| char::from_u32(0x4e00 + i as u32).expect("a character")).collect();
        (text, (0..n).map(|i| 3 * i..3 * i + 3).collect())
    }

    #[test]
    fn windows_cover_the_context_and_start_every_stride() {
        assert_eq!(layout(3, 10), Layout { head: 5, context: 10, tail: 1 });
        let one = layout(3, 10).windows(16, 128).expect("fits");
        assert_eq!(one, [Window { context: 0..10, head: 5, tail: 1 }]);
        let ranges = |l: Layout, longest, stride| -> Vec<Range<usize>> {
            l.windows(longest, stride).expect("fits").into_iter().map(|w| w.context).collect()
        };
        assert_eq!(ranges(layout(3, 11), 16, 128), [0..10, 10..11]);
        assert_eq!(ranges(layout(3, 11), 16, 4), [0..10, 4..11]);
        assert_eq!(ranges(layout(7, 600), 384, 128), [0..374, 128..502, 256..600]);
        // Room for less than the stride: nothing is skipped.
        assert_eq!(ranges(layout(3, 5), 8, 128), [0..2, 2..4, 4..5]);
        let window = &layout(1, 4).windows(6, 2).expect("fits")[1];
        assert_eq!(window.of(&[0, 1, 2, 10, 11, 12, 13, 3]), [0, 1, 2, 12, 13, 3]);
        assert_eq!(window.tokens(), 6);
    }

    #[test]
    fn long_questions_and_empty_contexts_are_refused() {
        let why = layout(60, 5).windows(63, 128).expect_err("no room").to_string();
        assert!(why.contains("takes 63 tokens, the model reads 63"), "{why}");
        assert!(layout(60, 5).windows(64, 128).is_ok());
        let why = Layout::of(&[None, Some(0), None, None]).expect_err("no context").to_string();
        assert!(why.contains("context"), "{why}");
    }

    #[test]
    fn the_best_pair_wins_and_offsets_count_characters() {
        let context = "Où? Im Süden.";
        let offsets = [0..3, 3..4, 5..7, 8..14, 14..15];
        let windows = layout(2, 5).windows(20, 128).expect("fits");
        // Context tokens are 4..9: the best start is "Im" (6), the best end "Süden" (7).
        let start = scores(&windows[0], &[(6, 5.0), (4, 1.0), (1, 9.0)]);
        let end = scores(&windows[0], &[(7, 4.0), (4, 3.0), (0, 9.0)]);
        let found = answers(context, &offsets, &windows, &[Scores { start: &start, end: &end }], false);
        let best = &found.best[0];
        assert_eq!(&context[best.bytes.clone()], "Im Süden");
        assert_eq!((best.bytes.clone(), best.characters.clone()), (5..14, 4..12));
        assert_eq!(best.score, 9.0);
        assert_eq!(found.none, None);
        // The end at 4 lies before the start at 6: never the pair 5 + 3.
        assert_eq!(found.best[1].score, 5.0);
        let total: f64 = found.best.iter().map(|a| a.probability).sum();
        assert!((total - 1.0).abs() < 1e-12 && best.probability > 0.9, "{total}");
    }

    #[test]
    fn answers_are_at_most_thirty_tokens() {
        let (context, offsets) = letters(40);
        let windows = layout(1, 40).windows(100, 128).expect("fits");
        let start = scores(&windows[0], &[(3, 10.0)]);
        for (end, expected) in [(3 + 29, 30), (3 + 30, 0)] {
            let end = scores(&windows[0], &[(end, 10.0)]);
            let found = answers(&context, &offsets, &windows, &[Scores { start: &start, end: &end }], false);
            let best = &found.best[0];
            assert_eq!(best.score == 20.0, expected == 30);
            assert!(expected == 0 || best.characters == (0..expected));
        }
    }

    #[test]
    fn a_token_counts_where_it_has_most_context() {
        let (context, offsets) = letters(14);
        let windows = layout(1, 14).windows(14, 4).expect("fits");
        assert_eq!(windows.iter().map(|w| w.context.clone()).collect::<Vec<_>>(), [0..10, 4..14]);
        // By hand: token 6 has min(6, 3) in the first window, min(2, 7) in the second; 7 has 2 and 3.
        assert_eq!([5, 6, 7, 8].map(|t| most_context(&windows, t)), [0, 0, 1, 1]);
        // Token 6 is a bad start in the first window; its high score in the second does not count.
        let first = scores(&windows[0], &[(3 + 6, 1.0)]);
        let second = scores(&windows[1], &[(3 + 2, 9.0)]);
        let both = [Scores { start: &first, end: &first }, Scores { start: &second, end: &second }];
        let found = answers(&context, &offsets, &windows, &both, false);
        assert!(found.best.iter().all(|a| a.characters.start != 6 || a.score < 9.0), "{found:?}");
        // As an end of a pair that starts earlier, it counts in both.
        assert!(found.best.iter().any(|a| a.score == 2.0 && a.characters == (6..7)));
    }

    #[test]
    fn the_same_text_is_named_once() {
        let context = "red blue red";
        let offsets = [0..3, 4..8, 9..12];
        let windows = layout(1, 3).windows(20, 128).expect("fits");
        let start = scores(&windows[0], &[(3, 4.0), (5, 5.0)]);
        let found = answers(context, &offsets, &windows, &[Scores { start: &start, end: &start }], false);
        let texts: Vec<&str> = found.best.iter().map(|a| &context[a.bytes.clone()]).collect();
        assert_eq!(texts, ["red", "red blue red", "blue red", "red blue", "blue"]);
        assert_eq!(found.best[0].bytes, 9..12);
    }

    #[test]
    fn no_answer_is_the_least_sure_window() {
        let (context, offsets) = letters(12);
        let windows = layout(1, 12).windows(14, 4).expect("fits");
        let first = scores(&windows[0], &[(0, 3.0), (4, 2.0)]);
        let second = scores(&windows[1], &[(0, 1.0)]);
        let both = [Scores { start: &first, end: &first }, Scores { start: &second, end: &second }];
        let found = answers(&context, &offsets, &windows, &both, true);
        let none = found.none.expect("asked for");
        assert_eq!((none.score, found.best[0].score, none.margin), (2.0, 4.0, -2.0));
        let total = none.probability + found.best.iter().map(|a| a.probability).sum::<f64>();
        assert!((total - 1.0).abs() < 1e-12);
        assert!(none.probability < found.best[0].probability);
    }

    #[test]
    fn a_model_that_points_at_the_question_still_answers() {
        let (context, offsets) = letters(5);
        let windows = layout(40, 5).windows(60, 128).expect("fits");
        let start: Vec<f32> =
            (0..windows[0].tokens()).map(|i| if i < 42 { 9.0 } else { i as f32 / 100.0 }).collect();
        let found = answers(&context, &offsets, &windows, &[Scores { start: &start, end: &start }], false);
        assert_eq!(found.best[0].characters, 4..5);
        assert_eq!(found.best.len(), 15);
    }
}
