//! Text from ids that come one at a time, as a model writes them.
//!
//! A token may be part of a character (byte-level vocabularies) and may change how the one before
//! it is spelt (spaces). So text is given out only when it can no longer change: never half a
//! character, and the pieces joined are what decoding all ids at once gives.

use super::Tokenizer;

/// Tokens held back for a character that never ends: the longest UTF-8 character has 4 bytes, and
/// a vocabulary needs at most one token a byte.
const HELD: usize = 8;

/// Decodes ids one by one; made by [`Tokenizer::stream`].
#[derive(Debug)]
pub struct Stream<'t> {
    tokenizer: &'t Tokenizer,
    keep_special: bool,
    /// Ids whose text is still needed: those given out last, for their effect on the next, then
    /// those held back.
    ids: Vec<u32>,
    /// How many of `ids` have been given out.
    given: usize,
}

impl Tokenizer {
    /// Decodes ids one by one.
    pub fn stream(&self) -> Stream<'_> {
        Stream { tokenizer: self, keep_special: false, ids: Vec::new(), given: 0 }
    }
}

impl Stream<'_> {
    /// Whether special tokens (`</s>`, `<extra_id_0>`) are shown; they are not, unless asked for.
    #[must_use]
    pub fn keep_special(mut self, keep: bool) -> Self {
        self.keep_special = keep;
        self
    }

    /// The text that `id` completes, if it completes any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.ids.push(id);
        let text = self.fresh();
        let whole = !text.ends_with('\u{fffd}') || self.ids.len() - self.given > HELD;
        if text.is_empty() || !whole {
            return None;
        }
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Some(text)
    }

    /// What is still held back, to be called when no more ids come. An unfinished character shows
    /// as U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let text = self.fresh();
        self.ids.clear();
        self.given = 0;
        (!text.is_empty()).then_some(text)
    }

    /// Text of the ids that have not been given out.
    fn fresh(&self) -> String {
        let before = self.tokenizer.decode(&self.ids[..self.given], self.keep_special);
        let all = self.tokenizer.decode(&self.ids, self.keep_special);
        // A decoder that tidies up spaces may shorten what came before; then nothing is taken back.
        let common = before.char_indices().zip(all.chars()).find(|((_, a), b)| a != b);
        let at = common.map_or(before.len().min(all.len()), |((at, _), _)| at);
        all[at..].to_owned()
    }
}
