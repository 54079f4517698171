//! Who attends to whom: the softmax weights of layers and heads for one text, with its tokens, and which
//! places the architecture closes. The mean over layers and heads is made here, images are not.
//!
//! It refuses texts of which nobody could read an image: the weights grow with the square of the length.

use super::{Kind, Pair, TextSession, TooLong};
use crate::error::{Error, Result};
use crate::tensor::HostTensor;

/// Most tokens along a side.
pub const MOST_TOKENS: usize = 640;
/// Most weights that are made in one run: 64 MiB.
const WEIGHTS: usize = 16 << 20;
/// Most tokens that T5 answers where the answer is not given.
const ANSWER: usize = 32;

/// Whose tokens look at whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A text at itself, both ways (BERT, the encoder of T5).
    Encoder,
    /// A text at what came before (GPT-2, the decoder of T5).
    Decoder,
    /// What the decoder writes, at the text that the encoder has read.
    Cross,
}

/// Which layers of each stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layers {
    /// All.
    #[default]
    All,
    /// The last.
    Last,
    /// One, from 0.
    One(usize),
}

/// The attention of one stack.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMap {
    /// Whose tokens look at whose.
    pub look: Look,
    /// Tokens that look: rows, T of them.
    pub queries: Vec<String>,
    /// Tokens that are looked at: columns, S of them.
    pub keys: Vec<String>,
    /// Heads H of a layer.
    pub heads: usize,
    /// Number of each layer, and its weights (H,T,S).
    pub layers: Vec<(usize, Vec<f32>)>,
}

impl Look {
    /// Whether the architecture lets a query see a key, whatever the weights are.
    pub fn open(self, query: usize, key: usize) -> bool {
        self != Look::Decoder || key <= query
    }
}

impl AttentionMap {
    /// The mean over layers, and over heads or of one head: (T,S).
    pub fn mean(&self, head: Option<usize>) -> Vec<f32> {
        mean(self.layers.iter().map(|(_, weights)| weights.as_slice()), self.heads, head)
    }
}

/// The mean of weights (H,T,S) of some layers, over heads or of one head: (T,S).
pub fn mean<'a>(layers: impl Iterator<Item = &'a [f32]>, heads: usize, head: Option<usize>) -> Vec<f32> {
    let (mut sums, mut count) = (Vec::new(), 0usize);
    for weights in layers {
        let cells = weights.len() / heads.max(1);
        sums.resize(cells, 0.0f64);
        let (first, n) = head.map_or((0, heads), |head| (head, 1));
        for some in weights.chunks_exact(cells.max(1)).skip(first).take(n) {
            sums.iter_mut().zip(some).for_each(|(sum, &w)| *sum += f64::from(w));
            count += 1;
        }
    }
    sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
}

/// What is read of a model: a stack, the name its weights go by, and the tokens at both sides.
struct Side<'a> {
    look: Look,
    output: &'static str,
    count: usize,
    queries: &'a [u32],
    keys: &'a [u32],
}

impl TextSession {
    /// What attends to what in a text or a pair: one map for BERT and GPT-2, three for T5. `answer` is what
    /// T5's decoder has written; where it is not given, the model writes it.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty text, one of more than [`MOST_TOKENS`], a layer that there is not, an
    /// answer where there is no decoder to write it; as [`TextSession::encode`] and [`TextSession::run`].
    pub fn attention(
        &self,
        text: Pair,
        answer: Option<&str>,
        layers: Layers,
        too_long: TooLong,
    ) -> Result<Vec<AttentionMap>> {
        let info = self.info();
        let (mut passage, encoding) = self.encode(text, too_long)?;
        if !encoding.sequence.iter().any(Option::is_some) {
            return Err(Error::usage("the text is empty", "pass at least one word"));
        }
        if info.kind == Kind::EncoderDecoder {
            passage.written = self.written(&passage.ids, answer)?;
        } else if answer.is_some() {
            let what = format!("{} writes no answer to a text that it has read", info.architecture);
            return Err(Error::usage(what, "only T5 does"));
        }
        let longest = passage.ids.len().max(passage.written.len());
        if longest > MOST_TOKENS {
            let what = format!("a text has {longest} tokens, of which nobody could read an image");
            return Err(Error::usage(what, format!("pass one of {MOST_TOKENS} at most")));
        }
        let (read, written) = (&passage.ids[..], &passage.written[..]);
        let side = |look, output, count, queries, keys| Side { look, output, count, queries, keys };
        let sides = match info.kind {
            Kind::Encoder => vec![side(Look::Encoder, "attention", info.layers, read, read)],
            Kind::Decoder => vec![side(Look::Decoder, "attention", info.layers, read, read)],
            Kind::EncoderDecoder => vec![
                side(Look::Encoder, "attention", info.layers, read, read),
                side(Look::Decoder, "decoder_attention", info.decoder_layers, written, written),
                side(Look::Cross, "cross_attention", info.decoder_layers, written, read),
            ],
        };
        // All layers are looked for before any work is done.
        let numbers = sides.iter().map(|side| chosen(layers, side)).collect::<Result<Vec<_>>>()?;
        let mut maps = Vec::new();
        for (side, numbers) in sides.iter().zip(numbers) {
            let cells = info.heads * side.queries.len() * side.keys.len();
            let mut found = Vec::new();
            for some in numbers.chunks((WEIGHTS / cells).max(1)) {
                let names: Vec<String> = some.iter().map(|l| format!("{}.{l}", side.output)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let made = self.run(std::slice::from_ref(&passage), &names)?.remove(0);
                for (&layer, weights) in some.iter().zip(made) {
                    found.push((layer, self.without_padding(&weights, side)?));
                }
            }
            let spelt = |ids: &[u32]| ids.iter().map(|&id| self.spelt(id)).collect();
            maps.push(AttentionMap {
                look: side.look,
                queries: spelt(side.queries),
                keys: spelt(side.keys),
                heads: info.heads,
                layers: found,
            });
        }
        Ok(maps)
    }

    /// What the decoder of T5 reads: its start token and the answer, without the end.
    fn written(&self, read: &[u32], answer: Option<&str>) -> Result<Vec<u32>> {
        let mut answer = match answer {
            Some(answer) => self.tokenizer()?.encode_plain(answer)?.ids,
            None => self.greedy(read, ANSWER, false)?.0,
        };
        if answer.last().is_some_and(|id| self.ends().contains(id)) {
            answer.pop();
        }
        answer.insert(0, self.info().start.unwrap_or(0));
        Ok(answer)
    }

    /// Weights (H,T,S) of the tokens there are, of a tensor that was padded.
    fn without_padding(&self, weights: &HostTensor, side: &Side) -> Result<Vec<f32>> {
        let all = weights.to_f32();
        let &[heads, rows, columns] = weights.shape().dims() else {
            return Err(Error::model(self.name(), "attention weights of an unknown shape", ""));
        };
        let mut kept = Vec::with_capacity(heads * side.queries.len() * side.keys.len());
        for head in all.chunks_exact(rows * columns) {
            for row in head.chunks_exact(columns).take(side.queries.len()) {
                kept.extend_from_slice(&row[..side.keys.len()]);
            }
        }
        let count = kept.iter().filter(|w| !w.is_finite()).count();
        if count > 0 {
            let what = format!("attention of {}", self.name());
            return Err(Error::NonFinite { what, count, total: kept.len() });
        }
        Ok(kept)
    }

    /// A token as people read it; a space that belongs to it is ▁, as T5 writes it.
    fn spelt(&self, id: u32) -> String {
        let Ok(tokenizer) = self.tokenizer() else { return format!("#{id}") };
        let token = tokenizer.token(id).unwrap_or_else(|| format!("#{id}"));
        if !matches!(self.info().family, "gpt2" | "roberta") {
            return token;
        }
        // Their vocabularies have a letter for each byte; what is no whole character stays in these.
        let text = tokenizer.decode(&[id], true);
        let text = if text.is_empty() || text.contains('\u{fffd}') { token } else { text };
        text.replace(' ', "▁")
    }
}

fn chosen(layers: Layers, side: &Side) -> Result<Vec<usize>> {
    match layers {
        Layers::All => Ok((0..side.count).collect()),
        Layers::Last => Ok(vec![side.count - 1]),
        Layers::One(layer) if layer < side.count => Ok(vec![layer]),
        Layers::One(layer) => {
            let stack = if side.look == Look::Encoder { "encoder" } else { "decoder" };
            let what = format!("layer {layer}: the {stack} has {} layers", side.count);
            Err(Error::usage(what, format!("layers go from 0 to {}", side.count - 1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_over_layers_and_heads() {
        // Two layers, two heads, one query, two keys.
        let layers = [[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.25, 0.75]];
        let all = |head| mean(layers.iter().map(|l| l.as_slice()), 2, head);
        assert_eq!(all(None), [0.4375, 0.5625]);
        assert_eq!(all(Some(0)), [0.5, 0.5]);
        assert_eq!(all(Some(1)), [0.375, 0.625]);
        assert!(mean(std::iter::empty(), 2, None).is_empty());
    }

    #[test]
    fn only_decoders_close_what_follows() {
        assert!(Look::Decoder.open(2, 2) && Look::Decoder.open(2, 0) && !Look::Decoder.open(2, 3));
        assert!(Look::Encoder.open(0, 9) && Look::Cross.open(0, 9));
    }
}
