//! Models that make an image or a text token by token. A [`TokenDecoder`] turns the tokens of a sequence
//! into scores for the next one; what a token looks like is the business of a codec (see
//! [`GeneratorInfo::codec`]) or of a tokenizer, so that a further decoder or a further codec is one file.
//!
//! Places in a sequence: place 0 is the class or the start token, places 1 to N are the tokens of the
//! image in the order they are drawn. The token at the last place is never fed back, so a cache has N
//! places. A model that draws in any order has an instruction before each token, and 2N places. A text
//! without a start token begins at place 0 itself.

use crate::error::Result;
use crate::graph::{Graph, Storage, Value};
use crate::ops::Cache;
use crate::tensor::{DType, HostTensor, Shape, Size, TensorDesc};

/// A network that scores the next token of sequences.
pub trait TokenDecoder: Send + Sync {
    /// Writes the embedding of new tokens and all blocks over the cache. Returns the places whose scores
    /// draw tokens, (R,S,C), for [`TokenDecoder::head`]: of a prompt one for each token of it and one
    /// behind, of a step those of [`New::next`].
    ///
    /// # Errors
    /// The first shape error of the graph.
    fn build(&self, g: &mut Graph, sequence: &Sequence, new: New) -> Result<Value>;

    /// Scores of the next token. x: (…,C); returns (…,V).
    fn head(&self, g: &mut Graph, x: Value) -> Value;
}

/// One whose tokens are patches of an image.
pub trait ImageDecoder: TokenDecoder {
    /// What it is.
    fn info(&self) -> &GeneratorInfo;

    /// What state [`ROTARY`] begins with, in models that have it, where the i-th token is drawn at place
    /// `order[i]` of the raster.
    fn rotary(&self, _order: &[u32]) -> Option<HostTensor> {
        None
    }
}

/// What a generative model is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeneratorInfo {
    /// Family: `llamagen`, `imagegpt`, `randar`.
    pub family: &'static str,
    /// Class or architecture, for people.
    pub architecture: String,
    /// Rows and columns of tokens.
    pub grid: [usize; 2],
    /// Tokens of an image N.
    pub tokens: usize,
    /// Tokens that can be drawn V.
    pub vocabulary: usize,
    /// Classes that can be asked for.
    pub classes: Option<usize>,
    /// True if it knows the absence of a class, so that guidance works.
    pub guided: bool,
    /// True if an instruction before each token says its position: patches can be drawn in any order,
    /// and several a step.
    pub any_order: bool,
    /// The token at place 0, of models without classes.
    pub start: u32,
    /// Height and width of the image in pixels.
    pub image_size: Size,
    /// Width C.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Elements of all tensors of the decoder.
    pub parameters: u64,
    /// How tokens become pixels.
    pub codec: Codec,
    /// Settings that suit it.
    pub defaults: Defaults,
    /// Things worth telling the user.
    pub warnings: Vec<String>,
}

/// How tokens become pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Codec {
    /// A token is a colour of a palette; a patch is a pixel.
    #[default]
    Palette,
    /// A token is a code of a VQ tokenizer.
    Vq,
}

/// Sampling settings that suit a model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Defaults {
    /// Divides the logits.
    pub temperature: f32,
    /// Likeliest tokens kept, 0 for all.
    pub top_k: u32,
    /// Probability kept, 1 for all.
    pub top_p: f32,
    /// Guidance scale, 1 for none.
    pub cfg_scale: f32,
    /// Guidance rises from 1 at the first token to the scale at the last.
    pub rising: bool,
}

impl GeneratorInfo {
    /// Sequences of one image each.
    pub fn extent(&self, samples: usize, guided: bool) -> Extent {
        let positions = if self.any_order { 2 * self.tokens } else { self.tokens };
        let placed = self.any_order;
        Extent {
            samples,
            guided,
            tokens: self.tokens + 1,
            positions,
            placed,
            source: [0, 0],
            shared: false,
            tree: false,
        }
    }
}

/// Names of the states that every sequence has.
pub const STEP: &str = "step";
/// Tokens (B,N+1) u32.
pub const TOKENS: &str = "tokens";
/// Classes (R) u32; those of the rows without condition are the number of classes.
pub const CLASSES: &str = "classes";
/// Rotary table; its first rows are of the places in the cache.
pub const ROTARY: &str = "rotary";
/// Where the first new row stands in the cache (1) u32, in models of any order.
pub const PLACE: &str = "place";

/// Tokens (B',S) u32 of the texts that an encoder reads.
pub const SOURCE: &str = "source";
/// How many of them count (B') u32.
pub const SOURCE_LENGTHS: &str = "source_lengths";
/// How many of its text's tokens count for each row (R) u32.
pub const LENGTHS: &str = "lengths";

/// Whose row of a cache holds a place of a sequence (R,P) u32, where sequences split.
pub const TREE: &str = "tree";

/// How many sequences there are, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Sequences B.
    pub samples: usize,
    /// Twice as many rows, half of them without the condition.
    pub guided: bool,
    /// Places for tokens, N+1.
    pub tokens: usize,
    /// Places of the cache.
    pub positions: usize,
    /// Rows in the cache are no tokens alone, so that their place is a state of its own.
    pub placed: bool,
    /// Texts B' that an encoder reads, and places S of each; B is a multiple of B'.
    pub source: [usize; 2],
    /// All sequences begin with one prompt, which is read once for all of them.
    pub shared: bool,
    /// Sequences split and share what they had in common, as beams do.
    pub tree: bool,
}

/// Sequences in the making, as a graph sees them.
pub struct Sequence {
    /// Sequences B.
    pub samples: usize,
    /// Rows R: B, or 2·B with guidance; 1 for a prompt that all share.
    pub rows: usize,
    /// Rows of caches: B, or 2·B with guidance.
    pub caches: usize,
    /// Places of the cache.
    pub positions: usize,
    /// (4) u32; the first word is the place of the first new token.
    pub step: Value,
    /// u32: where the first new row stands in the cache; the step, if tokens are all that stands there.
    pub place: Value,
    /// (B,N+1) u32.
    pub tokens: Value,
    /// Texts B' that an encoder reads, and places S of each.
    pub source: [usize; 2],
    /// Whose row of a cache holds a place: (R,P) u32.
    pub tree: Option<Value>,
}

/// Which tokens are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum New {
    /// Place 0 and so many tokens of the image; the cache is empty.
    Prompt(usize),
    /// The tokens drawn last.
    Step {
        /// How many they are.
        drawn: usize,
        /// How many are to be drawn after them.
        next: usize,
    },
}

impl New {
    /// One token after another.
    pub const LAST: Self = Self::Step { drawn: 1, next: 1 };

    /// New tokens, with place 0 in a prompt.
    pub fn count(self) -> usize {
        match self {
            New::Prompt(tokens) => 1 + tokens,
            New::Step { drawn, .. } => drawn,
        }
    }

    /// Tokens that are drawn after them.
    pub fn next(self) -> usize {
        match self {
            New::Prompt(_) => 1,
            New::Step { next, .. } => next,
        }
    }

    /// True if the cache is empty.
    pub fn prompt(self) -> bool {
        matches!(self, New::Prompt(_))
    }
}

impl Sequence {
    /// Declares what sequences of a model share.
    pub fn declare(g: &mut Graph, extent: Extent, new: New) -> Self {
        let Extent { samples, guided, tokens, positions, placed, source, shared, tree } = extent;
        let step = g.state(STEP, words(&[4]), Storage::AsDeclared);
        let tokens = g.state(TOKENS, words(&[samples, tokens]), Storage::AsDeclared);
        let place = if placed { g.state(PLACE, words(&[1]), Storage::AsDeclared) } else { step };
        let caches = if guided { 2 * samples } else { samples };
        let rows = if shared && new.prompt() { 1 } else { caches };
        let split = tree && !new.prompt();
        let tree = split.then(|| g.state(TREE, words(&[caches, positions]), Storage::AsDeclared));
        Self { samples, rows, caches, positions, step, place, tokens, source, tree }
    }

    /// What an encoder reads: ids (B',S) u32 of each text, and how many of them count (B').
    pub fn source(&self, g: &mut Graph) -> [Value; 2] {
        let ids = g.state(SOURCE, words(&self.source), Storage::AsDeclared);
        [ids, g.state(SOURCE_LENGTHS, words(&self.source[..1]), Storage::AsDeclared)]
    }

    /// Classes of the rows: (R) u32.
    pub fn classes(&self, g: &mut Graph) -> Value {
        g.state(CLASSES, words(&[self.rows]), Storage::AsDeclared)
    }

    /// Attention of a layer over its cache, which new tokens join. qkv: (R,H,T,D), bias: (H,P) by distance,
    /// that of a token to itself last; returns (R,T,H·D).
    pub fn attention(
        &self,
        g: &mut Graph,
        layer: usize,
        qkv: [Value; 3],
        new: New,
        bias: Option<Value>,
        scale: f32,
    ) -> Value {
        let shape = g.shape(qkv[0]);
        let &[_, heads, _, width] = shape.dims() else { return qkv[0] };
        let shape = crate::ops::cache_shape(self.caches, heads, self.positions, width);
        let kv = g.state(&format!("kv.{layer}"), TensorDesc::f32(shape), Storage::AsActivations);
        g.cached_attention(qkv, Cache { kv, step: self.place, rows: self.tree }, new.prompt(), bias, scale)
    }

    /// Attention of a layer to the texts that an encoder reads, whose keys and values (B',H,S,D) are
    /// entered with the prompt. q: (R,H,T,D); returns (R,T,H·D).
    pub fn source_attention(
        &self,
        g: &mut Graph,
        layer: usize,
        q: Value,
        kv: Option<[Value; 2]>,
        scale: f32,
    ) -> Value {
        let shape = g.shape(q);
        let &[_, heads, _, width] = shape.dims() else { return q };
        let shape = crate::ops::cache_shape(self.caches, heads, self.source[1], width);
        let cache = g.state(&format!("kv.source.{layer}"), TensorDesc::f32(shape), Storage::AsActivations);
        let lengths = g.state(LENGTHS, words(&[self.caches]), Storage::AsDeclared);
        g.cross_attention(q, kv, [cache, lengths], scale)
    }
}

fn words(n: &[usize]) -> TensorDesc {
    TensorDesc::new(DType::U32, Shape::new(n))
}
