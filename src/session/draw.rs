//! The graph of a token loop: a decoder over its cache, then the draw of what comes next. Images and
//! texts are made by the same one.

use crate::error::Result;
use crate::graph::{Graph, Storage};
use crate::models::sequence::{Extent, New, Sequence, TokenDecoder};
use crate::ops::{Sample, Sampling};
use crate::tensor::{DType, Shape, TensorDesc};

/// Settings of the draw; see [`Sampling::tensor`].
pub(crate) const SETTINGS: &str = "settings";
/// What is asked of the next token; see [`crate::ops::LogitsRules::tensor`].
pub(crate) const RULES: &str = "rules";
/// The number of each sequence's random stream.
pub(crate) const STREAMS: &str = "streams";
/// Entropy of each draw (B,N+1).
pub(crate) const ENTROPY: &str = "entropy";

/// Scores of what comes after the new tokens: (R·n,V) for n tokens that are to be drawn.
fn scores(
    g: &mut Graph,
    decoder: &dyn TokenDecoder,
    sequence: &Sequence,
    new: New,
) -> Result<crate::graph::Value> {
    let x = decoder.build(g, sequence, new)?;
    let shape = g.shape(x);
    let [rows, scored, width] = *shape.dims() else { unreachable!("decoders return three dimensions") };
    let draws = new.next();
    let last = if draws < scored { g.slice_tokens(x, scored - draws..scored) } else { x };
    let x = g.reshape(last, [rows * draws, width]);
    let logits = decoder.head(g, x);
    if sequence.rows == sequence.caches {
        return Ok(logits);
    }
    // What comes after a prompt that all share is the same for all.
    let wide = g.concat_tokens(sequence.caches, &[logits]);
    let vocabulary = g.shape(logits).width();
    Ok(g.reshape(wide, [sequence.caches * draws, vocabulary]))
}

/// The graph that scores what comes after the new tokens: `logits` (R·n,V).
///
/// # Errors
/// If the model does not build.
pub(crate) fn score_graph(decoder: &dyn TokenDecoder, extent: Extent, new: New) -> Result<Graph> {
    let mut g = Graph::new();
    let sequence = Sequence::declare(&mut g, extent, new);
    let logits = scores(&mut g, decoder, &sequence, new)?;
    g.output("logits", logits);
    g.select(&["logits"])
}

/// The graph that draws what comes after the new tokens: `ids`; `rules` is how many words of [`RULES`] change
/// the scores, 0 for none.
///
/// # Errors
/// If the model does not build.
pub(crate) fn draw_graph(
    decoder: &dyn TokenDecoder,
    extent: Extent,
    new: New,
    rules: usize,
) -> Result<Graph> {
    let mut g = Graph::new();
    let sequence = Sequence::declare(&mut g, extent, new);
    let mut logits = scores(&mut g, decoder, &sequence, new)?;
    g.scope("sample");
    if rules > 0 {
        let rules = g.state(RULES, TensorDesc::new(DType::U32, Shape::new(&[rules])), Storage::AsDeclared);
        logits = g.process_logits(logits, [rules, sequence.step, sequence.tokens], new.count());
    }
    let words = |n: usize| TensorDesc::new(DType::U32, Shape::new(&[n]));
    let declared = Storage::AsDeclared;
    let settings = g.state(SETTINGS, words(Sampling::WORDS), declared);
    let streams = g.state(STREAMS, words(extent.samples), declared);
    let shape = g.shape(sequence.tokens);
    let entropy = g.state(ENTROPY, TensorDesc::f32(shape), declared);
    let op = Sample { guided: extent.guided, advance: new.count(), draws: new.next() };
    let others = [settings, streams, sequence.step, sequence.tokens, entropy];
    let ids = g.sample(op, logits, others);
    g.output("ids", ids);
    g.select(&["ids"])
}
