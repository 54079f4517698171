//! Shapes, element types and host tensors. Everything is row-major and dense;
//! there are no strides and no views, so a tensor is its shape and its elements.

use std::fmt;

use half::f16;
use serde::Serialize;

/// Rows and columns of pixels. As data it is the pair [height, width].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "[usize; 2]")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// So many rows and columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Whole patches (or tokens) in a column and a row, of a patch's height and width.
    pub const fn grid(self, patch: [usize; 2]) -> [usize; 2] {
        [self.height / patch[0], self.width / patch[1]]
    }

    /// As many rows as columns.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }
}

impl From<[usize; 2]> for Size {
    /// From height and width.
    fn from([height, width]: [usize; 2]) -> Self {
        Self { height, width }
    }
}

impl From<Size> for [usize; 2] {
    fn from(size: Size) -> Self {
        [size.height, size.width]
    }
}

/// `HEIGHTxWIDTH`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

/// Element types a tensor can have on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; storage only, arithmetic is f32.
    F16,
    /// Unsigned 32-bit integers: token ids, positions.
    U32,
    /// Bytes, four packed in a `u32` on the device: image samples.
    U8,
}

impl DType {
    /// Size of one element in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 => 2,
            DType::U8 => 1,
        }
    }

    /// The WGSL type of one array element that holds this dtype (bytes travel packed in `u32`).
    pub const fn wgsl(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::U32 | DType::U8 => "u32",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::U32 => "u32",
            DType::U8 => "u8",
        })
    }
}

/// Up to four dimensions, outermost first. A shape of no dimensions is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    dims: [usize; 4],
    rank: u8,
}

impl Shape {
    /// A shape from its dimensions.
    ///
    /// # Panics
    /// If there are more than four; shapes from files go through [`Shape::checked`].
    pub fn new(dims: &[usize]) -> Self {
        Self::checked(dims).expect("shapes built in code have at most four dimensions and fit usize")
    }

    /// A shape from untrusted dimensions: `None` beyond four, or if their product overflows, zeros
    /// left out: so the product of any of the dimensions fits, too.
    pub fn checked(dims: &[usize]) -> Option<Self> {
        if dims.len() > 4 {
            return None;
        }
        dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))?;
        let mut out = [1; 4];
        out[..dims.len()].copy_from_slice(dims);
        Some(Self { dims: out, rank: dims.len() as u8 })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }

    /// The innermost dimension (1 for a scalar).
    pub fn width(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// All dimensions but the innermost, multiplied: the tensor seen as rows of [`Shape::width`].
    pub fn rows(&self) -> usize {
        let dims = self.dims();
        dims[..dims.len().saturating_sub(1)].iter().product()
    }

    /// The same rows with another innermost dimension.
    pub fn with_width(&self, width: usize) -> Self {
        let mut out = *self;
        if out.rank == 0 {
            out.rank = 1;
        }
        out.dims[out.rank as usize - 1] = width;
        out
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.dims().iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape::new(&dims)
    }
}

/// Element type and shape: all that a graph knows of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorDesc {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
}

impl TensorDesc {
    /// A tensor of the given type and shape.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// An f32 tensor.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::F32, shape)
    }

    /// Size in bytes, without padding.
    pub fn bytes(&self) -> usize {
        self.shape.elements() * self.dtype.bytes()
    }
}

impl fmt::Display for TensorDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

/// Elements of a host tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// f32 elements.
    F32(Vec<f32>),
    /// f16 elements.
    F16(Vec<f16>),
    /// u32 elements.
    U32(Vec<u32>),
    /// Bytes.
    U8(Vec<u8>),
}

/// A dense tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Shape,
    elements: Elements,
}

impl HostTensor {
    /// A tensor from its elements.
    ///
    /// # Panics
    /// If the number of elements does not match the shape.
    pub fn new(shape: impl Into<Shape>, elements: Elements) -> Self {
        let shape = shape.into();
        let count = match &elements {
            Elements::F32(v) => v.len(),
            Elements::F16(v) => v.len(),
            Elements::U32(v) => v.len(),
            Elements::U8(v) => v.len(),
        };
        assert_eq!(count, shape.elements(), "elements do not fill shape {shape}");
        Self { shape, elements }
    }

    /// A tensor of zeros.
    pub fn zeros(desc: TensorDesc) -> Self {
        let n = desc.shape.elements();
        let elements = match desc.dtype {
            DType::F32 => Elements::F32(vec![0.0; n]),
            DType::F16 => Elements::F16(vec![f16::ZERO; n]),
            DType::U32 => Elements::U32(vec![0; n]),
            DType::U8 => Elements::U8(vec![0; n]),
        };
        Self::new(desc.shape, elements)
    }

    /// An f32 tensor.
    pub fn f32(shape: impl Into<Shape>, data: Vec<f32>) -> Self {
        Self::new(shape, Elements::F32(data))
    }

    /// A u32 tensor.
    pub fn u32(shape: impl Into<Shape>, data: Vec<u32>) -> Self {
        Self::new(shape, Elements::U32(data))
    }

    /// A byte tensor.
    pub fn u8(shape: impl Into<Shape>, data: Vec<u8>) -> Self {
        Self::new(shape, Elements::U8(data))
    }

    /// Type and shape.
    pub fn desc(&self) -> TensorDesc {
        TensorDesc::new(self.dtype(), self.shape)
    }

    /// Dimensions.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.elements {
            Elements::F32(_) => DType::F32,
            Elements::F16(_) => DType::F16,
            Elements::U32(_) => DType::U32,
            Elements::U8(_) => DType::U8,
        }
    }

    /// The elements.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// The elements as f32, if that is what they are.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.elements {
            Elements::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements as u32, if that is what they are.
    pub fn as_u32(&self) -> Option<&[u32]> {
        match &self.elements {
            Elements::U32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements converted to f32 (exact for every type but large u32).
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.elements {
            Elements::F32(v) => v.clone(),
            Elements::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Elements::U32(v) => v.iter().map(|&x| x as f32).collect(),
            Elements::U8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        }
    }

    /// As [`HostTensor::to_f32`], without a copy where they are f32 already.
    pub fn into_f32(self) -> Vec<f32> {
        match self.elements {
            Elements::F32(v) => v,
            _ => self.to_f32(),
        }
    }

    /// The elements as raw little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.elements {
            Elements::F32(v) => bytemuck::cast_slice(v),
            Elements::F16(v) => bytemuck::cast_slice(v),
            Elements::U32(v) => bytemuck::cast_slice(v),
            Elements::U8(v) => v,
        }
    }

    /// The same elements under another shape of equal element count.
    ///
    /// # Panics
    /// If the counts differ.
    pub fn reshaped(self, shape: impl Into<Shape>) -> Self {
        Self::new(shape, self.elements)
    }

    /// Rounds to the given float type (f32 and f16 only; other types are returned unchanged).
    pub fn to_dtype(self, dtype: DType) -> Self {
        match (dtype, self.elements) {
            (DType::F16, Elements::F32(v)) => Self {
                shape: self.shape,
                elements: Elements::F16(v.iter().map(|&x| f16::from_f32(x)).collect()),
            },
            (DType::F32, Elements::F16(v)) => {
                Self { shape: self.shape, elements: Elements::F32(v.iter().map(|x| x.to_f32()).collect()) }
            }
            (_, elements) => Self { shape: self.shape, elements },
        }
    }
}
