//! The few pieces of a forward pass that every family shares: patches, position tables, attention
//! over heads, the class count of a head, how likely a text is. What their layers share is in `block`.

use super::ModelInfo;
use super::fields::{FILE, Fields};
use super::names::Names;
use crate::error::{Error, Result};
use crate::graph::{Graph, PositionFilter, Transform, Value, Weight};
use crate::ops::Scores;

/// Most patches, and most numbers in a patch, that are believed: keeps the element count of every
/// tensor of a graph within `usize`.
const MAX_PATCHES: usize = 1 << 20;
const MAX_PATCH_ELEMENTS: usize = 1 << 24;

/// Batch size, rows and columns of pixels of a (B,Ch,H,W) image, and the grid of whole patches.
pub(crate) struct Picture {
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
    pub(crate) grid: [usize; 2],
}

/// Reads the image's shape and checks that it fits the model.
///
/// # Errors
/// [`Error::Usage`] for another number of channels, or if not even one patch fits.
pub(crate) fn picture(g: &Graph, image: Value, info: &ModelInfo) -> Result<Picture> {
    let shape = g.shape(image);
    let &[batch, channels, h, w] = shape.dims() else {
        return Err(Error::usage(
            format!("an image has shape {shape}, expected [batch, channels, h, w]"),
            "",
        ));
    };
    if channels != info.channels {
        return Err(Error::usage(
            format!("the image has {channels} channels, the model needs {}", info.channels),
            "",
        ));
    }
    let [ph, pw] = info.patch;
    let grid = [h / ph, w / pw];
    if grid[0] * grid[1] == 0 {
        return Err(Error::usage(
            format!("an image of {h}x{w} pixels holds no patch of {ph}x{pw}"),
            format!("use {}, the size the model was trained at", info.image_size),
        ));
    }
    check_patches("the image", grid)?;
    Ok(Picture { batch, size: [h, w], grid })
}

/// Fails for absurdly many patches, or absurdly large ones.
pub(crate) fn check_sizes(info: &ModelInfo) -> Result<()> {
    let [h, w] = info.patch;
    let elements = h.checked_mul(w).and_then(|n| n.checked_mul(info.channels));
    if elements.is_none_or(|n| n > MAX_PATCH_ELEMENTS) {
        let what = format!("patch_size {h}x{w} with {} channels is absurdly large", info.channels);
        return Err(Error::model(FILE, what, ""));
    }
    check_patches("image_size", info.grid())
}

fn check_patches(what: &str, grid: [usize; 2]) -> Result<()> {
    if grid[0].checked_mul(grid[1]).is_some_and(|n| n <= MAX_PATCHES) {
        return Ok(());
    }
    Err(Error::model(
        FILE,
        format!("{what} has {}x{} patches, at most {MAX_PATCHES} are possible", grid[0], grid[1]),
        "",
    ))
}

/// Embedded patches in raster order, by the convolution `name` whose stride is its size. Pixels
/// beyond the last whole patch are left out, as a convolution without padding does.
/// image: (B,Ch,H,W); returns (B,N,C).
pub(crate) fn patch_tokens(
    g: &mut Graph,
    w: &Names,
    name: &str,
    image: Value,
    info: &ModelInfo,
    bias: bool,
) -> Result<Value> {
    picture(g, image, info)?;
    let patches = g.patchify(image, info.patch); // (B, N, Ch·Ph·Pw)
    Ok(w.linear(g, patches, name, info.hidden, bias))
}

/// Fails unless the patch kernel of the file fits the configured width, channels and patch size.
pub(crate) fn check_patch_kernel(w: &Names, name: &str, info: &ModelInfo, fields: &Fields) -> Result<()> {
    let want = [info.hidden, info.channels, info.patch[0], info.patch[1]];
    w.expect(&format!("{name}.weight"), &want, fields)
}

/// A learned position table and how its original resamples it.
pub(crate) struct PositionTable<'a> {
    /// Canonical name of the (1, prefix + h·w, C) or (prefix + h·w, C) tensor.
    pub(crate) name: &'a str,
    /// Rows before the grid.
    pub(crate) prefix: usize,
    /// Image size at which the table is taken as it is, whatever its grid.
    pub(crate) trained: Option<[usize; 2]>,
    /// Resampling filter.
    pub(crate) filter: PositionFilter,
}

impl PositionTable<'_> {
    /// Fails unless the table of the file has a row for each prefix token and patch.
    pub(crate) fn check(&self, w: &Names, info: &ModelInfo, fields: &Fields) -> Result<()> {
        let grid = info.grid();
        let want = self.prefix + grid[0] * grid[1];
        match w.dims(self.name) {
            Some(dims @ [.., rows, _]) if *rows != want => Err(Error::model(
                FILE,
                format!(
                    "tensor `{}` has shape {dims:?}, but image_size {} and patch_size {}x{} need {want} \
                     positions",
                    w.in_file(self.name),
                    info.image_size,
                    info.patch[0],
                    info.patch[1],
                ),
                fields.hint(&[info.image_size.height, info.patch[0]]),
            )),
            _ => Ok(()),
        }
    }

    /// The table for an image, by the rule all Hugging Face models share: as it is for a square
    /// image of as many patches (and for the trained size); otherwise resampled from a *square*
    /// grid, whatever the trained image was. Returns (prefix + N, C).
    pub(crate) fn square(&self, g: &mut Graph, w: &Names, picture: &Picture, info: &ModelInfo) -> Value {
        let trained = info.grid();
        let n = trained[0] * trained[1];
        let same_count = picture.grid[0] * picture.grid[1] == n;
        let side = n.isqrt();
        let from = if self.trained == Some(picture.size) || (same_count && picture.size[0] == picture.size[1])
        {
            picture.grid
        } else if side * side == n {
            [side, side]
        } else {
            trained
        };
        self.resampled(g, w, from, picture.grid, info.hidden)
    }

    /// The table resampled from one grid to another. Returns (prefix + h·w, C).
    pub(crate) fn resampled(
        &self,
        g: &mut Graph,
        w: &Names,
        from: [usize; 2],
        to: [usize; 2],
        hidden: usize,
    ) -> Value {
        let transform = if from == to {
            Transform::None
        } else {
            Transform::Positions { prefix: self.prefix, from, to, filter: self.filter }
        };
        let weight = Weight::transformed(w.in_file(self.name), transform);
        g.weight(weight, [self.prefix + to[0] * to[1], hidden])
    }
}

/// Softmax attention of one layer; declares its weights as `attention.{layer}`.
/// q, k, v: (B,H,T,D), bias: (H,T,T); returns (B,T,C).
pub(crate) fn self_attention(
    g: &mut Graph,
    [q, k, v]: [Value; 3],
    bias: Option<Value>,
    layer: usize,
) -> Value {
    let scores = Scores { bias, ..Scores::scaled(attention_scale(g.shape(q).width())) };
    let weights = g.attention_weights([q, k], scores);
    g.output(format!("attention.{layer}"), weights);
    g.attention([q, k, v], scores)
}

/// Most scores of a vocabulary that are made at a time.
const SCORES: usize = 16 << 20;

/// Logarithms of the probabilities of tokens, some rows at a time, since the scores of all would not fit a
/// binding. x: (B,T,C), targets: (B·T) u32; `head` makes (N,V) of (N,C); returns (B,T).
pub(crate) fn log_probabilities(
    g: &mut Graph,
    x: Value,
    targets: Value,
    vocabulary: usize,
    head: impl Fn(&mut Graph, Value) -> Value,
) -> Value {
    let shape = g.shape(x);
    let &[batch, tokens, c] = shape.dims() else { return x };
    let rows = batch * tokens;
    let most = (SCORES / vocabulary.max(1)).clamp(1, rows);
    let all = g.reshape(x, [1, rows, c]);
    let mut parts = Vec::new();
    for first in (0..rows).step_by(most) {
        let n = most.min(rows - first);
        let some = if n < rows { g.slice_tokens(all, first..first + n) } else { all };
        let some = g.reshape(some, [n, c]);
        let logits = head(g, some); // (n,V)
        let logs = g.log_probability(logits, targets, first);
        parts.push(g.reshape(logs, [1, n, 1]));
    }
    let joined = if parts.len() == 1 { parts[0] } else { g.concat_tokens(1, &parts) };
    g.reshape(joined, [batch, tokens])
}

/// 1/sqrt(D).
pub(crate) fn attention_scale(head_width: usize) -> f32 {
    (1.0 / (head_width as f64).sqrt()) as f32
}

/// Rows of a classification head, or `None` if the file has none. `num_labels`, where a
/// configuration states it, must agree; `id2label` need not, because it is often left out.
pub(crate) fn classes(w: &Names, head: &str, fields: &Fields) -> Result<Option<usize>> {
    let name = format!("{head}.weight");
    let rows = w.dims(&name).and_then(|dims| dims.first().copied());
    let Some(rows) = rows.filter(|&rows| rows > 0) else { return Ok(None) };
    for key in ["num_labels", "_num_labels"] {
        if fields.optional(key, 0, MAX_PATCHES)?.is_some_and(|n| n != rows) {
            return Err(Error::model(
                FILE,
                format!(
                    "`{key}` is {}, but `{}` has {rows} rows",
                    fields.get(key).map(ToString::to_string).unwrap_or_default(),
                    w.in_file(&name)
                ),
                "the head belongs to another configuration",
            ));
        }
    }
    Ok(Some(rows))
}

/// The warning for a classifier without a head, if that is what it is.
pub(crate) fn headless(info: &ModelInfo) -> Option<String> {
    let classifier = info.architecture.contains("ForImageClassification");
    (classifier && info.classes.is_none()).then(|| {
        format!("{}: the checkpoint has no classifier; only features are computed", info.architecture)
    })
}
