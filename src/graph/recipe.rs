//! Weights as recipes: which tensors of a checkpoint, joined how, and what is done to them before.
//! Carried out by `checkpoint::materialise`, once, at load time and in f32.

use std::fmt;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::tensor::{HostTensor, Shape};

/// Recipe for a weight: parts of checkpoint tensors joined along the outermost dimension.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Weight {
    /// The parts, outermost rows first; together they fill the node's shape.
    pub parts: Vec<Part>,
}

/// One part of a [`Weight`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// A checkpoint tensor, seen as rows of the weight's inner dimensions (so a convolution kernel
    /// (C,3,P,P) serves as (C, 3·P·P) and a (1,T,C) table as (T,C)).
    Tensor {
        /// Name in the checkpoint.
        name: String,
        /// Which rows; `None` takes all.
        rows: Option<Range<usize>>,
        /// What is done to the tensor before rows are taken.
        transform: Transform,
    },
    /// Rows of zeros (a missing bias among present ones).
    Zeros {
        /// How many rows.
        rows: usize,
    },
    /// Cosines and sines that rotary positions turn by: computed, of no tensor.
    Rotary(RotaryTable),
    /// Rows of two weights of equal shape by turns: a0, b0, a1, b1, … (gate and value of a gated unit).
    Pairs(Box<Weight>, Box<Weight>),
    /// A convolution kernel (O,I,kh,kw) as [`Transform::Taps`] has it, with the batch norm that
    /// follows folded in.
    NormedTaps {
        /// Name of the kernel in the checkpoint.
        kernel: String,
        /// The batch norm.
        norm: BatchNorm,
    },
    /// What that batch norm adds: the bias (O) of the folded convolution, which has none of its own.
    NormedBias {
        /// The batch norm.
        norm: BatchNorm,
    },
}

/// A table (T,D) of the angles that [`crate::ops::Rotary`] turns by: cosine and sine of each of the D/2 pairs
/// of a head, place by place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RotaryTable {
    /// Where the tokens stand.
    pub places: Places,
    /// D.
    pub width: usize,
    /// The base of the frequencies, theta.
    pub base: Base,
}

/// Where the tokens of a [`RotaryTable`] stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Places {
    /// One after the other: pair i of token t turns by t·theta^(-2i/D) (Su et al. 2021).
    Line(usize),
    /// Tokens that are not turned, then the patches of an image (DINOv3): centres in [-1, 1], of which pairs
    /// below D/4 turn by the row's and the others by the column's, by 2π·centre·theta^(-4i/D).
    Grid {
        /// Class token and registers.
        prefix: usize,
        /// Rows and columns of patches.
        grid: [usize; 2],
    },
}

impl RotaryTable {
    /// T.
    pub fn rows(&self) -> usize {
        match self.places {
            Places::Line(tokens) => tokens,
            Places::Grid { prefix, grid } => prefix + grid[0] * grid[1],
        }
    }
}

/// A number that can be compared and hashed: the bits of an f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Base(u64);

impl Base {
    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for Base {
    fn from(x: f64) -> Self {
        Self(x.to_bits())
    }
}

/// A batch norm as it runs after training: an affine map a channel. Names in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchNorm {
    /// Factors (O).
    pub gain: String,
    /// Offsets (O).
    pub bias: String,
    /// Running means (O).
    pub mean: String,
    /// Running variances (O).
    pub variance: String,
    /// Added to the variance.
    pub eps: Epsilon,
}

/// A small number that can be compared and hashed: the bits of an f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epsilon(u32);

impl Epsilon {
    /// The number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl From<f32> for Epsilon {
    fn from(x: f32) -> Self {
        Self(x.to_bits())
    }
}

impl Part {
    /// Names of the checkpoint tensors it is made of.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Part::Tensor { name, .. } => vec![name],
            Part::Zeros { .. } | Part::Rotary(_) => vec![],
            Part::Pairs(a, b) => a.parts.iter().chain(&b.parts).flat_map(Part::names).collect(),
            Part::NormedTaps { kernel, norm } => vec![kernel, &norm.gain, &norm.variance],
            Part::NormedBias { norm } => vec![&norm.gain, &norm.bias, &norm.mean, &norm.variance],
        }
    }
}

/// What is done to a checkpoint tensor before it serves as (part of) a weight. Evaluated once at
/// load time, in f32, by `checkpoint::materialise`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Used as it is.
    None,
    /// (K, N) to (N, K): checkpoints with `Conv1D` layers store linear weights this way.
    Transpose,
    /// A position table (prefix + h·w, C) resampled to another grid; prefix rows are kept.
    Positions {
        /// Rows before the grid (class, distillation tokens that have positions).
        prefix: usize,
        /// Grid (rows, columns) in the checkpoint.
        from: [usize; 2],
        /// Grid (rows, columns) wanted.
        to: [usize; 2],
        /// How the original implementation resamples.
        filter: PositionFilter,
    },
    /// A relative position bias table ((2h-1)(2w-1)+3, H) expanded to (H, T, T), T = h·w + 1,
    /// where `to` may differ from the trained window (BEiT).
    RelativeBias {
        /// Trained window (rows, columns).
        from: [usize; 2],
        /// Window wanted.
        to: [usize; 2],
    },
    /// A table (buckets, H) of biases by bucketed distance (T5) spread to (H, columns): column `zero` is of
    /// a key in the query's own place, the columns before it are of keys before it.
    DistanceBias {
        /// Rows of the table.
        buckets: usize,
        /// Distances from here on share the last bucket.
        max_distance: usize,
        /// Keys behind the query have half of the buckets; else they count as near as can be.
        both_ways: bool,
        /// The column of distance 0.
        zero: usize,
        /// Columns.
        columns: usize,
    },
    /// A convolution kernel (O,I,kh,kw) to (O, kh·kw·I): the places of the kernel row by row, the
    /// channels innermost.
    Taps,
    /// The same after weight standardisation: each output channel brought to mean 0 and variance 1,
    /// with this added to the variance.
    StandardTaps(Epsilon),
    /// Rows over patches (O, kh·kw·I), the channels innermost, to (O, I·kh·kw): what [`Transform::Taps`] does, undone.
    FromTaps {
        /// I.
        channels: usize,
    },
    /// Each row of a matrix divided by its length.
    UnitRows,
    /// (V,D) to (V): half of the square of each row's length.
    HalfSquares {
        /// D.
        width: usize,
    },
}

/// Bicubic resampling as PyTorch's `interpolate(mode="bicubic", align_corners=False)` does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PositionFilter {
    /// Kernel parameter a = -0.75, no antialiasing (Hugging Face ViT, DeiT, DINOv2).
    Bicubic,
    /// a = -0.5 with antialiasing: the support grows when scaling down (timm, DINOv2 with registers).
    BicubicAntialias,
    /// Linear in both directions, no antialiasing (BEiT bias tables, FlexiViT).
    Bilinear,
    /// The same with antialiasing (SigLIP 2 NaFlex).
    BilinearAntialias,
}

impl Weight {
    /// Holds a tensor that was loaded for this weight against the shape it must fill.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has another number of elements.
    pub(crate) fn filled_by(&self, shape: Shape, tensor: &HostTensor) -> Result<()> {
        let found = tensor.desc().shape;
        if found.elements() == shape.elements() {
            return Ok(());
        }
        let what = format!("weight {self} was loaded as {found}, the graph takes {shape}");
        Err(Error::usage(what, "load as many elements as the shape that is asked for holds"))
    }

    /// The whole of one checkpoint tensor.
    pub fn tensor(name: impl Into<String>) -> Self {
        Self::transformed(name, Transform::None)
    }

    /// The whole of one checkpoint tensor after a transform.
    pub fn transformed(name: impl Into<String>, transform: Transform) -> Self {
        Self { parts: vec![Part::Tensor { name: name.into(), rows: None, transform }] }
    }

    /// Some outermost rows of one checkpoint tensor.
    pub fn rows(name: impl Into<String>, rows: Range<usize>) -> Self {
        Self { parts: vec![Part::Tensor { name: name.into(), rows: Some(rows), transform: Transform::None }] }
    }

    /// Rows of zeros.
    pub fn zeros(rows: usize) -> Self {
        Self { parts: vec![Part::Zeros { rows }] }
    }

    /// The angles of rotary positions.
    pub fn rotary(table: RotaryTable) -> Self {
        Self { parts: vec![Part::Rotary(table)] }
    }

    /// Rows of two weights of equal shape by turns.
    pub fn pairs(a: Weight, b: Weight) -> Self {
        Self { parts: vec![Part::Pairs(Box::new(a), Box::new(b))] }
    }

    /// Several weights of equal inner dimensions, one after the other along the outermost.
    pub fn joined(weights: impl IntoIterator<Item = Weight>) -> Self {
        Self { parts: weights.into_iter().flat_map(|w| w.parts).collect() }
    }
}

/// The whole of the tensor of that name.
impl From<&str> for Weight {
    fn from(name: &str) -> Self {
        Self::tensor(name)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                f.write_str("+")?;
            }
            match part {
                Part::Tensor { name, rows, transform } => {
                    f.write_str(name)?;
                    if let Some(r) = rows {
                        write!(f, "[{}..{}]", r.start, r.end)?;
                    }
                    match transform {
                        Transform::None => {}
                        Transform::Transpose => f.write_str("ᵀ")?,
                        Transform::Positions { to, .. } => write!(f, "@{}x{}", to[0], to[1])?,
                        Transform::RelativeBias { to, .. } => write!(f, "@{}x{}", to[0], to[1])?,
                        Transform::DistanceBias { zero, columns, .. } => write!(f, "@{zero}/{columns}")?,
                        Transform::Taps => f.write_str(":taps")?,
                        Transform::FromTaps { .. } => f.write_str(":from taps")?,
                        Transform::StandardTaps(_) => f.write_str(":standard")?,
                        Transform::UnitRows => f.write_str(":unit")?,
                        Transform::HalfSquares { .. } => f.write_str(":half_squares")?,
                    }
                }
                Part::Zeros { rows } => write!(f, "0[{rows}]")?,
                Part::Rotary(table) => match table.places {
                    Places::Line(tokens) => write!(f, "rotary:{}@{tokens}", table.base.get())?,
                    Places::Grid { grid: [h, w], .. } => write!(f, "rotary:{}@{h}x{w}", table.base.get())?,
                },
                Part::Pairs(a, b) => write!(f, "({a}|{b})")?,
                Part::NormedTaps { kernel, norm } => write!(f, "{kernel}·{}", norm.gain)?,
                Part::NormedBias { norm } => write!(f, "{}:folded", norm.bias)?,
            }
        }
        Ok(())
    }
}
