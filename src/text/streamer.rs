//! Tokens to text as they come, up to a text that stops.

use crate::tokenizer::Stream;

/// Turns tokens to text and holds back what may be the beginning of a stop text.
pub(super) struct TextStreamer<'a> {
    stream: Stream<'a>,
    stop: &'a [String],
    held: String,
    /// All of the text that was shown.
    pub(super) told: String,
    /// The stop text that came.
    pub(super) stopped: Option<String>,
}

impl<'a> TextStreamer<'a> {
    pub(super) fn new(stream: Stream<'a>, stop: &'a [String]) -> Self {
        Self { stream, stop, held: String::new(), told: String::new(), stopped: None }
    }

    /// New text that can be shown; `last` says that no tokens follow these.
    pub(super) fn hear(&mut self, ids: impl Iterator<Item = u32>, last: bool) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        for id in ids {
            self.held.extend(self.stream.push(id));
        }
        if last {
            self.held.extend(self.stream.finish());
        }
        let first = self.stop.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop))).min();
        let out = match first {
            Some((at, stop)) => {
                self.stopped = Some(stop.clone());
                self.held[..at].to_owned()
            }
            None => {
                let keep = if last { 0 } else { self.undecided() };
                self.held.drain(..self.held.len() - keep).collect()
            }
        };
        self.told.push_str(&out);
        out
    }

    /// Bytes at the end of what is held that a stop text may begin with.
    fn undecided(&self) -> usize {
        let begins = |from: usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[from..]));
        let from = self.held.char_indices().map(|(at, _)| at).find(|&at| begins(at));
        from.map_or(0, |from| self.held.len() - from)
    }
}
