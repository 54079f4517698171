//! From text to token ids and back, as the checkpoint's own tokenizer does it.
//!
//! The arithmetic is the `tokenizers` crate's; what is here decides which files describe the
//! tokenizer (`tokenizer/files.rs`), brings all of them into the one form the crate reads, checks
//! that form before the crate sees it (`tokenizer/check.rs`: the crate trusts its files and may
//! panic on wrong ones), and hands out plain numbers. Padding and truncation that a file asks for
//! are switched off: both depend on the model, and are done where batches are made.
//!
//! Offsets are byte ranges of the text as passed in, always on character boundaries.
//!
//! It refuses files whose parts contradict each other, and components that none of the known
//! families needs: a token id that is off by one gives fluent nonsense, not an error.

mod charsmap;
mod check;
mod class;
mod disk;
mod files;
mod spiece;
mod stream;
mod template;
mod towers;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub use stream::Stream;

use crate::error::{Error, Result};
use crate::printable::printable;

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file it came from, for messages.
    name: String,
    special: Special,
    vocabulary: usize,
    limit: Option<usize>,
    cuts_left: bool,
    pads_left: bool,
    /// A decoder of the file that is not known.
    decoder: Option<String>,
}

/// Token ids of one text or pair, with where each came from. All four lists have one entry a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types (segments): for BERT 0 for the first text, 1 for the second.
    pub types: Vec<u32>,
    /// Byte range of each token's source in its text; `0..0` for special tokens that were added.
    pub offsets: Vec<Range<usize>>,
    /// Which of the texts (0 or 1) a token is of; `None` for special tokens that were added.
    pub sequence: Vec<Option<u8>>,
}

/// Ids of the tokens that have a role; `None` where the checkpoint has no such token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Special {
    /// Opens a text of an encoder: `[CLS]`, `<s>`.
    pub cls: Option<u32>,
    /// Ends a text or separates two: `[SEP]`, `</s>`.
    pub sep: Option<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
    /// Stands for what the vocabulary cannot express.
    pub unk: Option<u32>,
    /// The place to be filled in: `[MASK]`, `<mask>`.
    pub mask: Option<u32>,
    /// Opens a text of a decoder.
    pub bos: Option<u32>,
    /// Ends what a decoder writes.
    pub eos: Option<u32>,
}

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint folder. `family` is the model's: `bert`, `distilbert`,
    /// `roberta`, `modernbert`, `gpt2` or `t5`. Unless the folder names the tokenizer's class, it says which files to
    /// look for beside `tokenizer.json`, and what the special tokens are called where no file says so.
    ///
    /// # Errors
    /// [`Error::Model`] that names the file: none there, not readable, too large, or contradictory.
    pub fn open(folder: &Path, family: &str) -> Result<Self> {
        Self::of(files::read(folder, family)?)
    }

    /// A tokenizer of the form of `tokenizer.json` that is no file: `name` stands for it in messages. Its special
    /// tokens are called as those of the family are.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_json(name: &str, json: &str, family: &str) -> Result<Self> {
        Self::of(files::in_memory(name, json, family)?)
    }

    fn of(source: files::Source) -> Result<Self> {
        let vocabulary = check::check(&source.name, &source.tokenizer)?;
        let added = source.added()?;
        let files::Source { name, tokenizer, names, limit, cuts_left, pads_left, decoder } = source;
        let inner: tokenizers::Tokenizer = guarded(&name, "read this tokenizer", || {
            serde_json::from_value(tokenizer).map_err(|e| e.to_string())
        })?;
        for (token, id) in added {
            let got = inner.token_to_id(&token);
            if got != Some(id) {
                let got = got.map_or_else(|| "none".to_owned(), |got| got.to_string());
                let what =
                    format!("added token `{}` is listed with id {id} but gets {got}", printable(&token));
                return Err(Error::model(&name, what, disk::AGAIN));
            }
        }
        let id = |role: &Option<String>| role.as_ref().and_then(|token| inner.token_to_id(token));
        let special = Special {
            cls: id(&names.cls),
            sep: id(&names.sep),
            pad: id(&names.pad),
            unk: id(&names.unk),
            mask: id(&names.mask),
            bos: id(&names.bos),
            eos: id(&names.eos),
        };
        Ok(Self { inner, name, special, vocabulary, limit, cuts_left, pads_left, decoder })
    }

    /// Ids of one text, with the special tokens that the original adds.
    ///
    /// # Errors
    /// [`Error::Model`] when the tokenizer has no way to express the text.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        self.run(text, None, true)
    }

    /// Ids of a pair of texts, with the special tokens that the original puts around and between.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pair(&self, a: &str, b: &str) -> Result<Encoding> {
        self.run(a, Some(b), true)
    }

    /// Ids of one text and nothing else.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Encoding> {
        self.run(text, None, false)
    }

    /// Ids of a text that is to be gone on with: the special tokens that open it, none that end it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_open(&self, text: &str) -> Result<Encoding> {
        let mut found = self.encode(text)?;
        while found.ids.len() > 1 && found.sequence.last() == Some(&None) {
            found.ids.pop();
            found.types.pop();
            found.offsets.pop();
            found.sequence.pop();
        }
        Ok(found)
    }

    /// The text that ids stand for; ids beyond the vocabulary stand for nothing. Bytes that are not
    /// UTF-8 become U+FFFD. Spaces are as the tokenizer's own decoder puts them.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> String {
        // A decoder fails only where it cannot join tokens; joined plainly they are still readable.
        let text = guarded(&self.name, "decode", || {
            self.inner.decode(ids, !keep_special).map_err(|e| e.to_string())
        })
        .unwrap_or_else(|_| ids.iter().filter_map(|&id| self.token(id)).collect());
        match self.word_end() {
            Some(end) => text.replace(end, " ").trim().to_owned(),
            None => text,
        }
    }

    /// What ends a word, where the decoder leaves it standing: CLIP's `</w>`, as CLIPTokenizer removes it.
    fn word_end(&self) -> Option<&str> {
        use tokenizers::models::ModelWrapper;
        match self.inner.get_model() {
            ModelWrapper::BPE(model) => model.end_of_word_suffix.as_deref().filter(|end| !end.is_empty()),
            _ => None,
        }
    }

    /// Fails if texts cannot be made of ids as the original makes them.
    ///
    /// # Errors
    /// [`Error::Model`] naming the decoder that is not known.
    pub fn writes(&self) -> Result<&Self> {
        let Some(decoder) = &self.decoder else { return Ok(self) };
        let what = format!("the decoder `{decoder}` is not supported, so no text can be written");
        Err(Error::model(&self.name, what, disk::AGAIN))
    }

    /// The file it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, spelt as in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the highest id, added tokens included: what an embedding table must reach.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Ids of the tokens that have a role.
    pub fn special(&self) -> &Special {
        &self.special
    }

    /// The longest input the tokenizer's configuration names, in tokens, if it names one.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Whether tokens that go on with a word are spelled with a mark (`##`).
    pub fn marks_parts(&self) -> bool {
        use tokenizers::models::ModelWrapper;
        match self.inner.get_model() {
            ModelWrapper::WordPiece(model) => !model.continuing_subword_prefix.is_empty(),
            ModelWrapper::BPE(model) => {
                model.continuing_subword_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty())
            }
            _ => false,
        }
    }

    /// Tokens as the vocabulary spells them, joined to a text.
    pub fn joined(&self, tokens: Vec<String>) -> String {
        use tokenizers::Decoder as _;
        let plain = tokens.join(" ");
        let Some(decoder) = self.inner.get_decoder().filter(|_| !tokens.is_empty()) else { return plain };
        guarded(&self.name, "decode", || decoder.decode(tokens).map_err(|e| e.to_string())).unwrap_or(plain)
    }

    /// Whether a text that is too long loses its beginning, not its end.
    pub fn cuts_left(&self) -> bool {
        self.cuts_left
    }

    /// Whether padding stands before a text, where a model reads padding.
    pub fn pads_left(&self) -> bool {
        self.pads_left
    }

    fn run(&self, a: &str, b: Option<&str>, special: bool) -> Result<Encoding> {
        let found = guarded(&self.name, "tokenize this text", || {
            let input = match b {
                Some(b) => tokenizers::EncodeInput::Dual(a.into(), b.into()),
                None => tokenizers::EncodeInput::Single(a.into()),
            };
            self.inner.encode(input, special).map_err(|e| e.to_string())
        })?;
        let added = found.get_special_tokens_mask();
        let sequence: Vec<Option<u8>> = found
            .get_sequence_ids()
            .into_iter()
            .zip(added)
            .map(|(sequence, added)| match (sequence, added) {
                (Some(0), _) | (None, 0) => Some(0),
                (Some(_), _) => Some(1),
                (None, _) => None,
            })
            .collect();
        let offsets = found
            .get_offsets()
            .iter()
            .zip(&sequence)
            .map(|(&(start, end), sequence)| match sequence {
                Some(0) => whole(a, start, end),
                Some(_) => whole(b.unwrap_or(a), start, end),
                None => 0..0,
            })
            .collect();
        Ok(Encoding {
            ids: found.get_ids().to_vec(),
            types: found.get_type_ids().to_vec(),
            offsets,
            sequence,
        })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("name", &self.name)
            .field("vocabulary", &self.vocabulary)
            .field("special", &self.special)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The range, widened to whole characters of `text`.
fn whole(text: &str, start: usize, end: usize) -> Range<usize> {
    let mut start = start.min(text.len());
    let mut end = end.clamp(start, text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Runs the crate's code. What is known to make it panic is checked for beforehand; should a file
/// find another way, the user still gets a message with the file's name, and the process lives.
fn guarded<T>(name: &str, doing: &str, f: impl FnOnce() -> Result<T, String>) -> Result<T> {
    let why = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(why)) => printable(&why),
        Err(_) => "it is damaged in a way that the reader does not know".to_owned(),
    };
    Err(Error::model(name, format!("cannot {doing}: {why}"), disk::AGAIN))
}
