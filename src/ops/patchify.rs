//! From pixels to patch vectors: normalising bytes, and cutting patches so that the patch
//! embedding is a matmul. `plan::fuse` folds the first into the second.

use super::def::{OpDef, arity, dims, f32s};
use super::elementwise::LANES;
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, Elements, HostTensor, TensorDesc};

/// Bytes (B,H,W,3) to planes (B,3,H,W): byte · scale + offset, per channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    /// Factor of each channel.
    pub scale: [f32; 3],
    /// Added to each channel afterwards.
    pub offset: [f32; 3],
}

/// Planes (B,Ch,H,W) to patches (B, N, Ch·Ph·Pw): patches in raster order, elements of a patch in
/// the order channel, row, column; pixels beyond the last whole patch are left out, as a strided
/// convolution does. With `normalise` the operand is bytes (B,H,W,3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patchify {
    /// Height and width of a patch in pixels.
    pub patch: [usize; 2],
    /// Normalisation folded in; the operand is then bytes.
    pub normalise: Option<Normalise>,
}

params! {
    /// Parameters of the pixel kernels.
    struct PixelParams {
        count: u32, channels: u32, height: u32, width: u32, patch_height: u32, patch_width: u32,
        scale0: f32, scale1: f32, scale2: f32, offset0: f32, offset1: f32, offset2: f32,
    }
}

static NORMALISE: Kernel = Kernel {
    name: "normalise",
    source: shader!("lib/pixel_bytes.wgsl", "normalise.wgsl"),
    params: PixelParams::FIELDS,
};
static PATCHIFY: Kernel = Kernel {
    name: "patchify",
    source: shader!("lib/pixel_planes.wgsl", "patchify.wgsl"),
    params: PixelParams::FIELDS,
};
static PATCHIFY_BYTES: Kernel = Kernel {
    name: "patchify_bytes",
    source: shader!("lib/pixel_bytes.wgsl", "patchify.wgsl"),
    params: PixelParams::FIELDS,
};

impl Graph {
    /// Bytes (B,H,W,3) to normalised planes (B,3,H,W).
    pub fn normalise(&mut self, image: Value, scale: [f32; 3], offset: [f32; 3]) -> Value {
        self.push(Normalise { scale, offset }, vec![image])
    }

    /// Planes (B,Ch,H,W) to patches (B, N, Ch·Ph·Pw).
    pub fn patchify(&mut self, image: Value, patch: [usize; 2]) -> Value {
        self.push(Patchify { patch, normalise: None }, vec![image])
    }
}

impl Normalise {
    fn identity() -> Self {
        Self { scale: [1.0; 3], offset: [0.0; 3] }
    }

    fn params(&self, count: u32, size: [usize; 3], patch: [usize; 2]) -> PixelParams {
        let ([scale0, scale1, scale2], [offset0, offset1, offset2]) = (self.scale, self.offset);
        PixelParams {
            count,
            channels: size[0] as u32,
            height: size[1] as u32,
            width: size[2] as u32,
            patch_height: patch[0] as u32,
            patch_width: patch[1] as u32,
            scale0,
            scale1,
            scale2,
            offset0,
            offset1,
            offset2,
        }
    }
}

fn bytes_desc(image: &TensorDesc) -> Result<[usize; 4], String> {
    let [b, h, w, c] = dims("image", image)?;
    if image.dtype != DType::U8 || c != 3 {
        return Err(format!("image is {image}, expected u8 [B,H,W,3]"));
    }
    Ok([b, c, h, w])
}

impl OpDef for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        Ok(TensorDesc::f32(bytes_desc(&inputs[0])?))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let [_, c, h, w]: [usize; 4] = dims("out", out).expect("infer made it");
        let Elements::U8(x) = inputs[0].elements() else { unreachable!("checked by infer") };
        let pixel = |i: usize| {
            let (b, ci, yx) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            f32::from(x[(b * h * w + yx) * c + ci]) * self.scale[ci] + self.offset[ci]
        };
        HostTensor::f32(out.shape, (0..out.shape.elements()).map(pixel).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [_, c, h, w]: [usize; 4] = dims("out", &cx.output()).expect("infer made it");
        let count = cx.output().shape.elements();
        let variant = Variant::new().with_type("Y", cx.output().dtype).with_u32("WG", LANES);
        let params = self.params(to_u32("pixels", count)?, [c, h, w], [1, 1]);
        cx.dispatch(&NORMALISE, variant, params, vec![cx.operand(0), cx.result()], count.div_ceil(LANES))
    }
}

impl OpDef for Patchify {
    fn name(&self) -> &'static str {
        "patchify"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let [b, c, h, w] = match self.normalise {
            Some(_) => bytes_desc(&inputs[0])?,
            None => dims("image", &inputs[0])?,
        };
        let [ph, pw] = self.patch;
        if ph == 0 || pw == 0 || h < ph || w < pw {
            return Err(format!("an image of {h}x{w} holds no patch of {ph}x{pw}"));
        }
        Ok(TensorDesc::f32([b, (h / ph) * (w / pw), c * ph * pw]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        if let Some(normalise) = self.normalise {
            let planes = TensorDesc::f32(bytes_desc(&inputs[0].desc()).expect("checked by infer"));
            let planes = normalise.reference(inputs, &planes);
            return Patchify { normalise: None, ..*self }.reference(&[&planes], out);
        }
        let [_, c, h, w]: [usize; 4] = dims("image", &inputs[0].desc()).expect("checked by infer");
        let [ph, pw] = self.patch;
        let x = f32s(inputs[0]);
        let [_, n, k]: [usize; 3] = dims("out", out).expect("infer made it");
        let element = |i: usize| {
            let (b, patch, e) = (i / k / n, i / k % n, i % k);
            let (ci, py, px) = (e / (ph * pw), e / pw % ph, e % pw);
            let (y, xx) = (patch / (w / pw) * ph + py, patch % (w / pw) * pw + px);
            x[((b * c + ci) * h + y) * w + xx]
        };
        HostTensor::f32(out.shape, (0..out.shape.elements()).map(element).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        self.normalise.map_or(0, |_| 2 * out.shape.elements() as u64)
    }

    fn narrows(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let image = cx.input(0);
        let [_, c, h, w] = match self.normalise {
            Some(_) => bytes_desc(&image),
            None => dims("image", &image),
        }
        .expect("checked by infer");
        let count = cx.output().shape.elements();
        let variant = Variant::new().with_type("Y", cx.output().dtype).with_u32("WG", LANES);
        let (kernel, variant) = match self.normalise {
            Some(_) => (&PATCHIFY_BYTES, variant),
            None => (&PATCHIFY, variant.with_type("X", image.dtype)),
        };
        let normalise = self.normalise.unwrap_or(Normalise::identity());
        let params = normalise.params(to_u32("pixels", count)?, [c, h, w], self.patch);
        cx.dispatch(kernel, variant, params, vec![cx.operand(0), cx.result()], count.div_ceil(LANES))
    }
}
