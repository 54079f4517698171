//! Answers to questions, found in a context (Rajpurkar et al. 2016): their first and last tokens. A context that does
//! not fit is read in windows, as in inference; in windows that do not show the whole answer, and where there is none,
//! both point at the token that opens a text, as in transformers' `run_qa.py`. Unlike there, padding has no share of the
//! softmax, so that a loss does not depend on how long other texts are.

use std::ops::Range;

use super::lesson::{Example, Lesson, Reading, Tally, Told, longest, of_text, reader};
use super::squad::exact_and_f1;
use super::task::Texts;
use crate::error::Result;
use crate::models::text::{Task, TextSizes};
use crate::session::ModelFiles;
use crate::tensor::HostTensor;
use crate::text::spans::{self, Layout, STRIDE, Scores, Window};
use crate::text::{Passage, TextSession, WINDOW};
use crate::train::data::Question;
use crate::train::fit::Metric;
use crate::train::head::{self, Head};
use crate::train::objective::TextObjective;

const METRICS: &[Metric] = &[Metric::share("f1"), Metric::share("exact_match"), Metric::loss("loss")];

struct Questions {
    /// Windows of all questions, and where the answer stands in each.
    sets: [Vec<(Passage, [u32; 2])>; 2],
    held_out: Vec<HeldOut>,
    /// Whether there are questions without an answer.
    no_answer: bool,
}

/// A question of the validation, to make answers of scores.
struct HeldOut {
    question: Question,
    /// Bytes of the context's tokens.
    offsets: Vec<Range<usize>>,
    windows: Vec<Window>,
}

/// Makes a model ready for questions. If it does not answer any yet, it gets a new head.
///
/// # Errors
/// [`crate::Error::Model`] for a model that takes no such head; [`crate::Error::Usage`] for a question that leaves no
/// room for its context.
pub fn answers(files: ModelFiles, sets: [Vec<Question>; 2], reading: &Reading) -> Result<Texts> {
    let mut files = files;
    let mut session = reader(&files)?;
    let new_head = !session.info().can(Task::Answer);
    if new_head {
        files = head::with_head(&files, &Head::Answers, reading.seed)?;
        session = reader(&files)?;
    }
    session.shorten(reading.longest.unwrap_or(WINDOW).min(session.limit().unwrap_or(WINDOW)));
    let no_answer = sets.iter().flatten().any(|question| question.answers.is_empty());
    let [training, validation] = sets;
    let mut windows = Vec::new();
    for (i, question) in training.iter().enumerate() {
        windows.extend(cut(&session, question).map_err(of_text(i))?.0);
    }
    let (mut others, mut held_out) = (Vec::new(), Vec::new());
    for (i, question) in validation.into_iter().enumerate() {
        let (own, (offsets, windows)) = cut(&session, &question).map_err(of_text(i))?;
        held_out.push(HeldOut { question, offsets, windows });
        others.extend(own);
    }
    let lesson = Questions { sets: [windows, others], held_out, no_answer };
    Ok(Texts::new(files, session, Box::new(lesson), reading, new_head))
}

/// Windows of a question with the answer's place in each; bytes of the context's tokens, and the windows' places.
type Cut = (Vec<(Passage, [u32; 2])>, (Vec<Range<usize>>, Vec<Window>));

fn cut(session: &TextSession, question: &Question) -> Result<Cut> {
    let encoding = session.tokenizer()?.encode_pair(&question.question, &question.context)?;
    let layout = Layout::of(&encoding.sequence)?;
    let windows = layout.windows(session.limit().unwrap_or(WINDOW), STRIDE)?;
    let offsets = encoding.offsets[layout.head..layout.head + layout.context].to_vec();
    let types = session.info().types > 1;
    let opens = session.tokenizer()?.special().cls;
    let none = encoding.ids.iter().position(|id| Some(*id) == opens).unwrap_or(0) as u32;
    let answer = question.answers.first().map(|(text, at)| *at..at + text.len());
    let cut = windows.iter().map(|window| {
        let ids = window.of(&encoding.ids);
        let types = if types { window.of(&encoding.types) } else { vec![] };
        let place = answer.as_ref().and_then(|answer| place(window, &offsets, answer));
        (Passage { ids, types, ..Passage::default() }, place.unwrap_or([none; 2]))
    });
    Ok((cut.collect(), (offsets, windows)))
}

/// First and last token of an answer in a window, if that shows all of it.
fn place(window: &Window, offsets: &[Range<usize>], answer: &Range<usize>) -> Option<[u32; 2]> {
    let shown = &offsets[window.context.clone()];
    let (first, last) = (shown.first()?, shown.last()?);
    if first.start > answer.start || last.end < answer.end {
        return None;
    }
    let start = shown.iter().rposition(|token| token.start <= answer.start)?;
    let end = shown.iter().position(|token| token.end >= answer.end)?;
    Some([start, end].map(|at| (window.head + at) as u32))
}

impl Lesson for Questions {
    fn objective(&self) -> TextObjective {
        TextObjective::Answer
    }

    fn sizes(&self) -> TextSizes {
        let passages = self.sets.iter().flatten().map(|(passage, _)| passage);
        TextSizes { batch: 0, tokens: longest(passages), written: 0, places: 1 }
    }

    fn counts(&self) -> [usize; 2] {
        self.sets.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, _: u64) -> Example {
        let (passage, answer) = &self.sets[set][i];
        Example { passage: passage.clone(), told: Told::Answer(*answer) }
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn tally(&self) -> Box<dyn Tally + '_> {
        Box::new(Answered { lesson: self, scores: vec![], asked: 0, sums: [0.0; 2] })
    }
}

/// Answers that were given so far.
struct Answered<'a> {
    lesson: &'a Questions,
    /// Scores of the windows of the question under way.
    scores: Vec<[Vec<f32>; 2]>,
    /// Questions that are answered.
    asked: usize,
    sums: [f64; 2],
}

impl Tally for Answered<'_> {
    fn add(&mut self, examples: &[Example], scores: &[HostTensor]) {
        let width = scores[0].shape().width();
        for (i, example) in examples.iter().enumerate() {
            let from = i * width;
            let own = [0, 1].map(|k| {
                let all = scores[k].as_f32().unwrap_or_default();
                all[from..from + example.passage.ids.len()].to_vec()
            });
            self.scores.push(own);
            self.answer();
        }
    }

    fn numbers(&self, loss: f64) -> Vec<(String, f64)> {
        let [exact, f1] = self.sums.map(|sum| sum / self.asked.max(1) as f64);
        let all = [("f1", f1), ("exact_match", exact), ("loss", loss)];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

impl Answered<'_> {
    /// Answers the question under way, once the scores of all of its windows are there.
    fn answer(&mut self) {
        let Some(HeldOut { question, offsets, windows }) = self.lesson.held_out.get(self.asked) else {
            return;
        };
        if self.scores.len() < windows.len() {
            return;
        }
        let scores: Vec<Scores> = self.scores.iter().map(|[start, end]| Scores { start, end }).collect();
        let found = spans::answers(&question.context, offsets, windows, &scores, self.lesson.no_answer);
        let none = found.none.is_some_and(|none| none.margin > 0.0);
        let best = found.best.first().filter(|_| !none);
        let given = best.map_or("", |answer| &question.context[answer.bytes.clone()]);
        let right: Vec<&str> = question.answers.iter().map(|(text, _)| text.as_str()).collect();
        let [exact, f1] = exact_and_f1(given, &right);
        self.sums = [self.sums[0] + exact, self.sums[1] + f1];
        self.asked += 1;
        self.scores.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::session::ModelSource;

    fn asked(context: &str, answer: &str) -> Question {
        let answers = context.find(answer).filter(|_| !answer.is_empty()).map(|at| (answer.to_owned(), at));
        Question {
            question: "Who has it?".to_owned(),
            context: context.to_owned(),
            answers: answers.into_iter().collect(),
        }
    }

    #[test]
    fn answers_are_first_and_last_token_or_what_opens_the_text() {
        let files = ModelSource::Path("tests/toys/bert-toy-squad".into()).read(false).unwrap();
        let mut session = reader(&files).unwrap();
        let context = "Anna took the red ball. Emma has a black box in the park.";
        // [CLS] who has it ? [SEP] is 3 words, 2 letters of `it` that is none of the vocabulary's, and so on.
        let (windows, (offsets, _)) = cut(&session, &asked(context, "black box")).unwrap();
        assert_eq!(windows.len(), 1);
        let (passage, [first, last]) = &windows[0];
        let word = |at: u32| session.tokenizer().unwrap().token(passage.ids[at as usize]).unwrap();
        assert_eq!((word(*first), word(*last)), ("black".to_owned(), "box".to_owned()));
        assert_eq!(cut(&session, &asked(context, "")).unwrap().0[0].1, [0, 0]);
        // Windows that show a part of the answer point at [CLS].
        let head = passage.ids.len() - offsets.len() - 1;
        session.shorten(head + 4 + 1);
        let (windows, (_, places)) = cut(&session, &asked(context, "black box")).unwrap();
        assert!(windows.len() > 3);
        let shown = |window: &Window| {
            let covers = |text: &str| {
                let at = context.find(text).unwrap();
                offsets[window.context.clone()].iter().any(|token| token.start == at)
            };
            covers("black") && covers("box")
        };
        for ((_, place), window) in windows.iter().zip(&places) {
            assert_eq!(*place != [0, 0], shown(window), "{window:?}");
        }
        assert!(places.iter().any(shown) && !places.iter().all(shown));
    }

    #[test]
    fn tokens_that_are_larger_than_the_answer_are_its_ends() {
        let window = Window { context: 1..4, head: 5, tail: 1 };
        let offsets = [0..2, 2..6, 6..9, 9..12, 12..13];
        assert_eq!(place(&window, &offsets, &(3..8)), Some([5, 6]));
        assert_eq!(place(&window, &offsets, &(1..8)), None);
        assert_eq!(place(&window, &offsets, &(9..13)), None);
        assert_eq!(place(&window, &offsets, &(2..12)), Some([5, 7]));
    }
}
