//! Answers to a question, found in a context of any length: read in windows, each with the whole question,
//! all of them in one batch. The arithmetic is [`crate::text::spans`].

use super::{Passage, Task, TextSession};
use crate::error::{Error, Result};
use crate::text::spans;
use crate::text::spans::{Answers, Layout, STRIDE, Scores, Window};

/// Most tokens of a window, as SQuAD's own programs have it; models that take less have smaller ones.
pub const WINDOW: usize = 384;

impl TextSession {
    /// The best answers to a question, with their places in the context. `no_answer` says that the model
    /// was trained on questions without answer (SQuAD 2.0).
    ///
    /// # Errors
    /// [`Error::Usage`] if the model does not answer, [`Error::Input`] for an empty context or a question
    /// that leaves no room for one; as [`TextSession::run`].
    pub fn answer(&self, question: &str, context: &str, no_answer: bool) -> Result<Answers> {
        self.need(Task::Answer)?;
        if question.trim().is_empty() {
            return Err(Error::input("question", "it is empty", "ask something"));
        }
        let encoding = self.tokenizer()?.encode_pair(question, context)?;
        let layout = Layout::of(&encoding.sequence)?;
        let longest = self.limit().map_or(WINDOW, |limit| limit.min(WINDOW));
        let windows = layout.windows(longest, STRIDE)?;
        let types = self.info().types > 1;
        let passages: Vec<Passage> = windows
            .iter()
            .map(|window| Passage {
                ids: window.of(&encoding.ids),
                types: if types { window.of(&encoding.types) } else { vec![] },
                ..Passage::default()
            })
            .collect();
        let results = self.run(&passages, &["start_logits", "end_logits"])?;
        let cut = |window: &Window, scores: &crate::tensor::HostTensor| {
            let mut scores = scores.to_f32();
            scores.truncate(window.tokens());
            scores
        };
        let found: Vec<[Vec<f32>; 2]> =
            windows.iter().zip(&results).map(|(w, r)| [cut(w, &r[0]), cut(w, &r[1])]).collect();
        let broken = found.iter().flatten().flatten().filter(|s| !s.is_finite()).count();
        if broken > 0 {
            let what = format!("scores of {}", self.name());
            return Err(Error::NonFinite { what, count: broken, total: windows.len() * longest * 2 });
        }
        let scores: Vec<Scores> = found.iter().map(|[start, end]| Scores { start, end }).collect();
        let offsets = &encoding.offsets[layout.head..layout.head + layout.context];
        Ok(spans::answers(context, offsets, &windows, &scores, no_answer))
    }
}
