//! What a checkpoint's preprocessing is, as plain data.

use crate::image::resize::{Filter, PillowCompat};

/// Largest side that a model input may have, in pixels.
pub const MAX_MODEL_SIDE: usize = 8192;

/// Whose conventions to follow where the three disagree: resampling arithmetic, where a crop
/// larger than the image puts it, and the order of f32 roundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// transformers with Pillow and numpy (the "slow" processors of 4.x, `*Pil` of 5.x).
    Pil,
    /// transformers with torchvision tensors (`*Fast` of 4.x, the default of 5.x where
    /// torchvision is installed).
    Torchvision,
    /// timm's evaluation transform on a Pillow image.
    Timm,
    /// As torchvision, of a processor that rescales first and then resizes floats (DINOv3): what comes out is
    /// no bytes.
    TorchvisionFloats,
}

/// How transformers resizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resize {
    /// Not at all.
    None,
    /// To these sides, ignoring the aspect ratio.
    Exact {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// The short side to `edge`, keeping the aspect ratio.
    ShortestEdge {
        /// Length of the short side in pixels.
        edge: usize,
        /// Upper bound of the long side, to which `edge` gives way.
        longest: Option<usize>,
    },
    /// As large as fits, keeping the aspect ratio.
    Within {
        /// Most rows.
        height: usize,
        /// Most columns.
        width: usize,
    },
    /// To whole patches, as many as are allowed, nearly keeping the aspect ratio (SigLIP 2 NaFlex).
    Patches {
        /// Rows and columns of pixels in a patch.
        patch: usize,
        /// Most patches.
        most: usize,
    },
}

/// timm's `crop_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CropMode {
    /// Aspect kept, the image covers the resized square, borders are cut off.
    #[default]
    Center,
    /// Aspect given up, then the centre is cut out.
    Squash,
    /// Aspect kept, the image fits into the resized square, padded with the mean colour.
    Border,
}

/// The geometric steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Geometry {
    /// transformers: a resize, then a centre crop.
    Hf {
        /// The resize.
        resize: Resize,
        /// Height and width of the centre crop; missing pixels are black.
        crop: Option<(usize, usize)>,
    },
    /// timm: resize to `floor(side / crop_pct)`, then a centre crop of the model's size.
    Timm {
        /// Rows of the result.
        height: usize,
        /// Columns of the result.
        width: usize,
        /// Side of the crop / side of the resized image.
        crop_pct: f64,
        /// What happens to the aspect ratio.
        mode: CropMode,
    },
}

/// An image as a model takes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// (H,W,3) bytes, which the device normalises.
    Bytes(Vec<u8>),
    /// (3,H,W) floats, normalised: of preprocessing that bytes cannot hold.
    Floats(Vec<f32>),
}

/// A checkpoint's preprocessing. Fields may be changed after reading; what the parsers check
/// (sides of 1 to [`MAX_MODEL_SIDE`], deviations above 0) is then up to who changes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// The processor class, or `timm`: for messages and `vit-gpu inspect`.
    pub processor: String,
    /// Conventions to follow.
    pub backend: Backend,
    /// Resize and crop.
    pub geometry: Geometry,
    /// Resampling filter.
    pub filter: Filter,
    /// Whose order of passes, for the backends that resize with Pillow.
    pub pillow: PillowCompat,
    /// Factor on the bytes before normalising (usually 1/255), if any.
    pub rescale: Option<f64>,
    /// Mean and standard deviation per channel R, G, B, in units after rescaling, if any.
    pub mean_std: Option<([f64; 3], [f64; 3])>,
}
