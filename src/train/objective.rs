//! What is to become small: a loss behind the forward pass of each kind of model.
//!
//! Every loss is a weighted sum over rows: of the cross entropy of the scores of classes or tokens, or of the
//! squared error of patches. The weights are an input, so that means, padding, accumulation over micro-batches
//! and mixtures are all the caller's numbers: the mean over what counts is a weight of 1/n for each row that
//! counts and 0 for the others.

use super::sequences;
use crate::dual::{IMAGE_EMBEDS, Matching, TEXT_EMBEDS};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::image::preprocess::Preprocess;
use crate::labels::Scoring;
use crate::models::sequence::{ImageDecoder, New, ROTARY, Sequence};
use crate::models::text::{Kind, Task, Text, TextModel, TextSizes};
use crate::models::{MaskedAutoencoder, Model, ModelInfo};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// A loss behind a forward pass, and what its graph reads besides inputs and weights.
pub struct Objective {
    /// The graph; its outputs are [`LOSS`], and what a validation looks at: `logits` of classes.
    pub graph: Graph,
    /// States that never change, and what they hold: a rotary table.
    pub constants: Vec<(String, HostTensor)>,
}

/// Name of the output that is the loss, and of the inputs that every loss reads.
pub const LOSS: &str = "loss";
/// Labels (N) u32; one beyond the classes is ignored.
pub const LABELS: &str = "labels";
/// A label that is no class, as -100 is PyTorch's.
pub const IGNORED: u32 = u32::MAX;
/// Weight of each row in the loss (N) f32.
pub const WEIGHTS: &str = "weights";
/// Which patches are seen (B,K) u32, and where each patch is to be found among them (B,N) u32.
pub const MASK: [&str; 2] = ["kept", "restore"];
/// What is to come out, in f32: pixels that are to be painted (B·N,P·P·Ch), numbers of texts (B,1).
pub const TARGET: &str = "target";
/// Images (B,H,W,3) u8, before they are normalised.
pub const PIXELS: &str = "pixels";
/// Second labels (B) u32 of images that are mixed, and the weights (B) f32 of their losses.
pub const OTHERS: [&str; 2] = ["others", "weights of others"];
/// Output: scores of classes (B,K).
pub const LOGITS: &str = "logits";
/// Outputs: that an answer begins, and ends, at a token (B,T).
pub const SCORES_OF_ANSWERS: [&str; 2] = ["start_logits", "end_logits"];
/// What is added to both (B,T) f32: 0 for tokens that count, [`HIDDEN`] for those that have no share of the softmax.
pub const SHOWN: &str = "shown";
/// What hides a token.
pub const HIDDEN: f32 = -1e30;
/// First and last tokens of answers (B) u32.
pub const ANSWERS: [&str; 2] = ["start", "end"];

/// Cross entropy of a vision model's classes. Inputs: `image` (B,Ch,H,W) f32, normalised, `labels`, `weights` (B).
///
/// # Errors
/// If the model has no classes; shape errors of the graph.
pub fn classes_of_images(model: &dyn Model, batch: usize, smoothing: f32) -> Result<Objective> {
    let info = model.info();
    let mut g = Graph::new();
    let (height, width) = (info.image_size.height, info.image_size.width);
    let image = g.input("image", TensorDesc::f32([batch, info.channels, height, width]));
    model.build(&mut g, image)?;
    let logits = output(&g, LOGITS)?;
    let loss = cross_entropy(&mut g, logits, smoothing);
    finished(g, loss, &[LOGITS])
}

/// As [`classes_of_images`], of bytes that are normalised as the model's images are, and with a second label for
/// each image where they are `mixed`. Inputs: `pixels` (B,H,W,3) u8, `labels`, `weights` (B), and for mixed ones
/// those of [`OTHERS`].
///
/// # Errors
/// As [`classes_of_images`]; for a model of other than three channels.
pub fn classes_of_pixels(
    model: &dyn Model,
    preprocess: &Preprocess,
    batch: usize,
    smoothing: f32,
    mixed: bool,
) -> Result<Objective> {
    let mut g = Graph::new();
    let image = normalised(&mut g, model.info(), preprocess, batch)?;
    model.build(&mut g, image)?;
    let logits = output(&g, LOGITS)?;
    let mut loss = cross_entropy(&mut g, logits, smoothing);
    if mixed {
        let labels = g.input(OTHERS[0], TensorDesc::new(DType::U32, [batch]));
        let weights = g.input(OTHERS[1], TensorDesc::f32([batch]));
        let losses = g.cross_entropy(logits, labels, smoothing);
        let other = g.weighted_sum(losses, weights);
        loss = g.add(loss, other);
    }
    finished(g, loss, &[LOGITS])
}

/// Bytes as an input, and the model's image of them: (B,3,H,W).
fn normalised(g: &mut Graph, info: &ModelInfo, preprocess: &Preprocess, batch: usize) -> Result<Value> {
    if info.channels != 3 {
        let what = format!("{} takes images of {} channels, not of 3", info.architecture, info.channels);
        return Err(Error::usage(what, "train it on tensors of your own"));
    }
    let (height, width) = (info.image_size.height, info.image_size.width);
    let pixels = g.input(PIXELS, TensorDesc::new(DType::U8, [batch, height, width, 3]));
    let (scale, offset) = preprocess.normalise();
    g.scope("pixels");
    Ok(g.normalise(pixels, scale, offset))
}

/// How well images and texts find each other in a batch, by the loss that the towers were trained with: the mean of
/// both cross entropies (CLIP), or the sum of the losses of all pairs by image (SigLIP). Inputs: `pixels` (B,H,W,3) u8,
/// those of [`Text`], and of CLIP `labels` (B), `weights` (B), which count in both directions, and `shown` (B,B), 0 or
/// [`HIDDEN`] for a text that is true of an image besides its own; of SigLIP `labels` (B·B), 0 for texts that are true
/// and 1 for others, and `weights` (B·B). Output: `logits` (B,B), a row an image. Scale and bias are the model's and
/// are not trained.
///
/// # Errors
/// For a model of other than three channels; shape errors of the graph.
pub fn images_and_texts(
    images: &dyn Model,
    texts: &dyn TextModel,
    matching: Matching,
    preprocess: &Preprocess,
    sizes: TextSizes,
) -> Result<Objective> {
    let (mut g, batch) = (Graph::new(), sizes.batch);
    let image = normalised(&mut g, images.info(), preprocess, batch)?;
    images.build(&mut g, image)?;
    let image = output(&g, IMAGE_EMBEDS)?;
    let text = Text::declare(&mut g, sizes);
    texts.build(&mut g, &text)?;
    let text = output(&g, TEXT_EMBEDS)?;
    g.scope(LOSS);
    let e = g.shape(image).width();
    let mut unit = |x: Value, length: f32| {
        let gain = g.fill([e], length / (e as f32).sqrt());
        g.rms_norm(x, gain, 0.0)
    };
    let (image, text) = (unit(image, 1.0), unit(text, matching.scale));
    let mut logits = g.product([image, text], [false, true]); // (B,B)
    let loss = if matching.scoring == Scoring::Sigmoid {
        let bias = g.fill([batch], matching.bias);
        logits = g.add(logits, bias);
        // The cross entropy of (z, 0) is -log sigmoid(z) for the first, -log sigmoid(-z) for the second.
        let pairs = batch * batch;
        let (rows, zero) = (g.reshape(logits, [pairs, 1, 1]), g.fill([pairs, 1, 1], 0.0));
        let both = g.concat_tokens(pairs, &[rows, zero]);
        let both = g.reshape(both, [pairs, 2]);
        cross_entropy(&mut g, both, 0.0)
    } else {
        let shown = g.input(SHOWN, TensorDesc::f32([batch, batch]));
        let turned = g.product([text, image], [false, true]);
        let labels = g.input(LABELS, TensorDesc::new(DType::U32, [batch]));
        let weights = g.input(WEIGHTS, TensorDesc::f32([batch]));
        let mut loss = None;
        for scores in [logits, turned] {
            let scores = g.add(scores, shown);
            let losses = g.cross_entropy(scores, labels, 0.0);
            let sum = g.weighted_sum(losses, weights);
            loss = Some(loss.map_or(sum, |other| g.add(other, sum)));
        }
        loss.expect("there are two")
    };
    g.output(LOGITS, logits);
    finished(g, loss, &[LOGITS])
}

/// Squared error of the hidden patches of a masked autoencoder, `keep` patches of each image being kept. Inputs:
/// `image` (B,Ch,H,W) f32, normalised, `kept` and `restore` as [`Mask`](crate::models::masked::Mask) has them,
/// `target` (B·N,P·P·Ch), and `weights` (B·N), 0 for the patches that are seen.
///
/// # Errors
/// If the model has no decoder; shape errors of the graph.
pub fn masked_patches(model: &dyn Model, batch: usize, keep: usize) -> Result<Objective> {
    let (info, masked) = (model.info(), masked(model)?);
    let mut g = Graph::new();
    let (height, width) = (info.image_size.height, info.image_size.width);
    let image = g.input("image", TensorDesc::f32([batch, info.channels, height, width]));
    let painted = painted(&mut g, model, masked, image, keep)?;
    let target = g.input(TARGET, g.desc(painted));
    patch_errors(g, painted, target)
}

/// As [`masked_patches`], of bytes that are normalised as the model's images are; what is to be painted is made of
/// them. Inputs: `pixels` (B,H,W,3) u8, `kept`, `restore`, `weights`.
///
/// # Errors
/// As [`masked_patches`]; for a model of other than three channels.
pub fn masked_pixels(
    model: &dyn Model,
    preprocess: &Preprocess,
    batch: usize,
    keep: usize,
) -> Result<Objective> {
    let (info, masked) = (model.info(), masked(model)?);
    let mut g = Graph::new();
    let image = normalised(&mut g, info, preprocess, batch)?;
    let painted = painted(&mut g, model, masked, image, keep)?;
    let [rows, elements] = [g.shape(painted).rows(), g.shape(painted).width()];
    let target = g.patchify(image, info.patch); // (B,N,Ch·P·P)
    // Channels innermost, as they are painted.
    let target = g.reshape(target, [rows, info.channels, elements / info.channels, 1]);
    let target = g.merge_heads(target); // (B·N,P·P,Ch)
    let mut target = g.reshape(target, [rows, elements]);
    if masked.normalised_pixels() {
        // The original estimates the variance by one less than there are.
        let share = (elements - 1) as f32 / elements as f32;
        let (gain, bias) = (g.fill([elements], share.sqrt()), g.fill([elements], 0.0));
        target = g.layer_norm(target, gain, bias, 1e-6 * share);
    }
    patch_errors(g, painted, target)
}

/// The model as a masked autoencoder.
///
/// # Errors
/// [`Error::Usage`] if it has no decoder.
pub(super) fn masked(model: &dyn Model) -> Result<&dyn MaskedAutoencoder> {
    model.masked().ok_or_else(|| {
        let what = format!("{} has no decoder that paints masked patches", model.info().architecture);
        Error::usage(what, "train its head, or take a checkpoint of pretraining")
    })
}

/// What a masked autoencoder paints: (B·N,P·P·Ch).
fn painted(
    g: &mut Graph,
    model: &dyn Model,
    masked: &dyn MaskedAutoencoder,
    image: Value,
    keep: usize,
) -> Result<Value> {
    let ([rows, columns], batch) = (model.info().grid(), g.shape(image).dims()[0]);
    let n = rows * columns;
    let kept = g.input(MASK[0], TensorDesc::new(DType::U32, [batch, keep]));
    let restore = g.input(MASK[1], TensorDesc::new(DType::U32, [batch, n]));
    let painted = masked.build_masked(g, image, kept, restore)?; // (B,N,P·P·Ch)
    g.scope(LOSS);
    let elements = g.shape(painted).width();
    Ok(g.reshape(painted, [batch * n, elements]))
}

fn patch_errors(mut g: Graph, painted: Value, target: Value) -> Result<Objective> {
    let weights = g.input(WEIGHTS, TensorDesc::f32([g.shape(painted).rows()]));
    let errors = g.squared_error(painted, target);
    let loss = g.weighted_sum(errors, weights);
    finished(g, loss, &[])
}

/// What a text model is trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextObjective {
    /// Classes of texts: rows are texts.
    Classes,
    /// Scores of the vocabulary at places: the next token, masked words, what a decoder writes. Rows are places.
    Tokens,
    /// Where an answer begins and ends: two rows a text, each weighed by `weights` (B).
    Answer,
    /// A number for each text: the squared error of the only class's score. Rows are texts.
    Score,
}

impl TextObjective {
    /// The outputs that the loss is made of.
    pub fn scores(self) -> &'static [&'static str] {
        match self {
            TextObjective::Answer => &SCORES_OF_ANSWERS,
            TextObjective::Classes | TextObjective::Tokens | TextObjective::Score => &[LOGITS],
        }
    }
}

/// The loss of a text model. Inputs are those of [`Text::declare`] that it reads, `weights`, and `labels`, or
/// `start`, `end` and `shown` of answers, or the `target` (B,1) of a number.
///
/// # Errors
/// If the model has no such head; shape errors of the graph.
pub fn texts(model: &dyn TextModel, sizes: TextSizes, objective: TextObjective) -> Result<Objective> {
    let mut g = Graph::new();
    let text = Text::declare(&mut g, sizes);
    model.build(&mut g, &text)?;
    let loss = match objective {
        TextObjective::Classes | TextObjective::Tokens => {
            let logits = output(&g, LOGITS)?;
            cross_entropy(&mut g, logits, 0.0)
        }
        TextObjective::Answer => answers(&mut g, sizes.batch)?,
        TextObjective::Score => score(&mut g, sizes.batch)?,
    };
    finished(g, loss, objective.scores())
}

/// What the heads of a text model are usually trained for.
pub fn usual(model: &dyn TextModel) -> TextObjective {
    let info = model.info();
    match (info.can(Task::Answer), info.can(Task::FillMask) || info.kind != Kind::Encoder) {
        (true, _) => TextObjective::Answer,
        (false, true) if info.classes.is_none() => TextObjective::Tokens,
        (false, _) => TextObjective::Classes,
    }
}

/// Cross entropy of the next token of an image, given its class or the start token. Inputs: `read` (B,S), the
/// tokens before the last (behind the start token, in models that have one), `classes` (B) in models that have
/// some, `labels` and `weights` (B·N).
///
/// # Errors
/// Shape errors of the graph; models that draw in any order, which have an objective of their own.
pub fn next_patch(model: &dyn ImageDecoder, batch: usize) -> Result<Objective> {
    let info = model.info();
    if info.any_order {
        let what = format!("{} draws in any order, which cannot be trained yet", info.architecture);
        return Err(Error::usage(what, "train a model that draws in the order of a raster"));
    }
    let mut g = Graph::new();
    let new = New::Prompt(info.tokens - 1);
    let sequence = Sequence::declare(&mut g, info.extent(batch, false), new);
    let x = model.build(&mut g, &sequence, new)?;
    let logits = model.head(&mut g, x); // (B,N,V)
    g.check()?;
    let loss = cross_entropy(&mut g, logits, 0.0);
    let graph = sequences::whole(&finished(g, loss, &[])?.graph)?;
    let order: Vec<u32> = (0..info.tokens as u32).collect();
    let rotary = model.rotary(&order).map(|table| (ROTARY.to_owned(), table));
    Ok(Objective { graph, constants: rotary.into_iter().collect() })
}

/// Rows of scores (…,V) against labels, weighed.
fn cross_entropy(g: &mut Graph, logits: Value, smoothing: f32) -> Value {
    let (rows, v) = (g.shape(logits).rows(), g.shape(logits).width());
    g.scope(LOSS);
    let logits = g.reshape(logits, [rows, v]);
    let labels = g.input(LABELS, TensorDesc::new(DType::U32, [rows]));
    let weights = g.input(WEIGHTS, TensorDesc::f32([rows]));
    let losses = g.cross_entropy(logits, labels, smoothing);
    g.weighted_sum(losses, weights)
}

fn answers(g: &mut Graph, batch: usize) -> Result<Value> {
    let [start, end] = SCORES_OF_ANSWERS;
    let scores = [output(g, start)?, output(g, end)?]; // (B,T)
    g.scope(LOSS);
    let weights = g.input(WEIGHTS, TensorDesc::f32([batch]));
    let shown = g.input(SHOWN, TensorDesc::f32(g.shape(scores[0])));
    let [start, end] = [0, 1].map(|i| {
        let labels = g.input(ANSWERS[i], TensorDesc::new(DType::U32, [batch]));
        let scores = g.add(scores[i], shown);
        let losses = g.cross_entropy(scores, labels, 0.0);
        g.weighted_sum(losses, weights)
    });
    Ok(g.add(start, end))
}

fn score(g: &mut Graph, batch: usize) -> Result<Value> {
    let logits = output(g, LOGITS)?; // (B,1)
    g.scope(LOSS);
    let target = g.input(TARGET, TensorDesc::f32([batch, 1]));
    let weights = g.input(WEIGHTS, TensorDesc::f32([batch]));
    let errors = g.squared_error(logits, target);
    Ok(g.weighted_sum(errors, weights))
}

fn output(g: &Graph, name: &str) -> Result<Value> {
    let found = g.outputs().iter().find(|(n, _)| n == name);
    found.map(|(_, v)| *v).ok_or_else(|| {
        Error::usage(
            format!("the model has no output `{name}` to train"),
            "it needs a head for what it is to learn",
        )
    })
}

fn finished(mut g: Graph, loss: Value, kept: &[&str]) -> Result<Objective> {
    g.output(LOSS, loss);
    Ok(Objective { graph: g.select(&[&[LOSS], kept].concat())?, constants: vec![] })
}
