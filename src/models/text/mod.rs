//! Models that read and write text: encoders (BERT), decoders (GPT-2), both (T5), text towers (CLIP, SigLIP). A [`TextModel`] makes
//! everything that one pass over whole texts can give; those that write have a [`TokenDecoder`] besides,
//! over the same weights. What a token says is the business of a tokenizer.
//!
//! Beside what a [`Task`] is read from, all give `last_hidden_state` (B,T,C), `mean` (B,C) and for each layer
//! `attention.N` (B,H,T,T); T5 also `decoder_attention.N` (B,H,U,U) and `cross_attention.N` (B,H,U,T).
//!
//! Texts of a batch are padded to one length T. What stands behind a text's end reaches nothing: attention
//! counts keys by [`Text::lengths`], and outputs are taken at places.

pub(crate) mod bert;
pub(crate) mod clip;
pub(crate) mod gpt2;
pub(crate) mod modernbert;
pub(crate) mod siglip;
pub(crate) mod t5;

use super::sequence::TokenDecoder;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::tensor::{DType, Shape, TensorDesc};

/// A network over texts that knows its tensors and can write itself into a graph.
pub trait TextModel: Send + Sync {
    /// What it is.
    fn info(&self) -> &TextInfo;

    /// Writes one pass over whole texts.
    ///
    /// # Errors
    /// The first shape error of the graph.
    fn build(&self, g: &mut Graph, text: &Text) -> Result<()>;

    /// The token loop, of models that write.
    fn decoder(&self) -> Option<&dyn TokenDecoder> {
        None
    }
}

/// How a model reads and writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Reads both ways, writes nothing.
    #[default]
    Encoder,
    /// Reads from left to right and goes on writing.
    Decoder,
    /// Reads one text both ways and writes another.
    EncoderDecoder,
}

/// What a checkpoint was made to do, by the heads it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Scores of classes: `logits` (B,K).
    Classify,
    /// Scores of classes for each token: `logits` (B,T,K).
    Tag,
    /// Where an answer begins and ends: `start_logits`, `end_logits` (B,T).
    Answer,
    /// Tokens behind a mask: `prediction_logits` (B,M,V) at places.
    FillMask,
    /// Whether one text follows another: `seq_relationship_logits` (B,2).
    NextSentence,
    /// The next token: `logits` (B,M,V) at places, and the token loop.
    Generate,
}

/// What a text model is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextInfo {
    /// Family, one of [`crate::models::FAMILIES`].
    pub family: &'static str,
    /// Class as the checkpoint names it.
    pub architecture: String,
    /// How it reads and writes.
    pub kind: Kind,
    /// What it can do.
    pub tasks: Vec<Task>,
    /// Vocabulary V.
    pub vocabulary: usize,
    /// Tokens of the longest text; `None` if positions are no limit.
    pub positions: Option<usize>,
    /// Positions count tokens other than padding, and begin behind its id (RoBERTa).
    pub counted_positions: bool,
    /// Kinds of segments; 0 or 1 if it knows none.
    pub types: usize,
    /// Width C.
    pub hidden: usize,
    /// Layers; of an encoder-decoder those of the encoder.
    pub layers: usize,
    /// Layers of the decoder of an encoder-decoder.
    pub decoder_layers: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Classes of the head.
    pub classes: Option<usize>,
    /// Has a pooled output.
    pub pooled: bool,
    /// How it makes one vector of a text in the space of images, if it is a text tower.
    pub tower: Option<Tower>,
    /// Id of padding, where the configuration names one.
    pub pad: Option<u32>,
    /// Id that the decoder of an encoder-decoder begins with.
    pub start: Option<u32>,
    /// Ids that end a text.
    pub ends: Vec<u32>,
    /// Elements of all tensors it uses.
    pub parameters: u64,
    /// Things worth telling the user.
    pub warnings: Vec<String>,
}

/// How a text tower makes `text_embeds`, and how those are compared with images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tower {
    /// Numbers in it, E.
    pub width: usize,
    /// Where it is read.
    pub read: ReadAt,
    /// The tensor whose power of e is the factor of a cosine.
    pub logit_scale: String,
    /// The tensor that is added, if there is one.
    pub logit_bias: Option<String>,
    /// Each text has a chance of its own (a sigmoid), not a share (a softmax).
    pub independent: bool,
}

/// The place at which a text tower is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    /// The first token that ends a text: the first of [`Text::places`].
    End,
    /// The first of the largest ids, as CLIPs of old configurations have it.
    LargestId,
    /// The last place; texts are padded to the full length, and padding is read like any token.
    LastPlace,
}

impl TextInfo {
    /// True if it can do a task.
    pub fn can(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }
}

/// Texts as a graph sees them, all u32.
pub struct Text {
    /// Batch size B.
    pub batch: usize,
    /// Ids (B,T).
    pub ids: Value,
    /// Positions (B,T), of models with learned positions.
    pub positions: Value,
    /// Segments (B,T).
    pub types: Value,
    /// Tokens that count (B).
    pub lengths: Value,
    /// What the decoder of an encoder-decoder has written (B,U), from its start token on.
    pub written: Option<Value>,
    /// Where scores of the vocabulary are wanted (B,M): in the text, or in what was written.
    pub places: Value,
    /// Ids whose probability is wanted (B·T, or B·U): behind each token of what is written.
    pub targets: Value,
}

/// Sizes of a batch of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextSizes {
    /// Texts B.
    pub batch: usize,
    /// Tokens T.
    pub tokens: usize,
    /// Tokens U that the decoder of an encoder-decoder has written; 0 for other models.
    pub written: usize,
    /// Places M at which scores of the vocabulary are wanted.
    pub places: usize,
}

impl Text {
    /// Declares the inputs of a graph.
    pub fn declare(g: &mut Graph, sizes: TextSizes) -> Self {
        let TextSizes { batch, tokens, written, places } = sizes;
        let mut words =
            |name: &str, dims: &[usize]| g.input(name, TensorDesc::new(DType::U32, Shape::new(dims)));
        Self {
            batch,
            ids: words("ids", &[batch, tokens]),
            positions: words("positions", &[batch, tokens]),
            types: words("types", &[batch, tokens]),
            lengths: words("lengths", &[batch]),
            written: (written > 0).then(|| words("written", &[batch, written])),
            places: words("places", &[batch, places]),
            targets: words("targets", &[batch * if written > 0 { written } else { tokens }]),
        }
    }
}
