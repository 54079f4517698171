//! timm's convolution stems in place of the patch embedding: the three convolutions of
//! `vit_base_mci_224` (MobileCLIP's image tower), and the first layers of a ResNet in front of 8x8
//! patches of `vit_tiny_r_s16_p8_*`. What follows normalises a convolution at load time: batch norm is
//! folded into the kernels, weights are standardised once.
//!
//! The other hybrids stand on whole residual networks and are refused by name in
//! [`timm_table`](crate::models::timm::table).

use crate::error::{Error, Result};
use crate::graph::{BatchNorm, Graph, Part, Transform, Value, Weight};
use crate::models::fields::{FILE, Fields};
use crate::models::names::Names;
use crate::models::timm::table;
use crate::models::timm::table::Arch;
use crate::ops::{Act, Window};

/// What batch norm and group norm add to the variance, and weight standardisation.
const NORM_EPS: f32 = 1e-5;
const STANDARD_EPS: f32 = 1e-8;
/// Groups of the group norm.
const GROUPS: usize = 32;

/// Which stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stem {
    /// 4x4, 2x2 and 2x2 convolutions without overlap; batch norm and GELU after the first two.
    Convolutions,
    /// 7x7 convolution of stride 2, group norm, ReLU, 3x3 max pooling of stride 2; then 8x8 patches.
    Resnet,
}

/// The stem of an architecture and what else its name stands for, if it has one that is known.
pub(crate) fn find(name: &str) -> Option<(Stem, Arch)> {
    let base = |name: &str| table::find(name).expect("the table has the plain models");
    match name {
        "vit_base_mci_224" => {
            let arch = Arch { no_embed_class: true, ..base("vit_base_patch16_224") };
            Some((Stem::Convolutions, arch))
        }
        "vit_tiny_r_s16_p8_224" | "vit_tiny_r_s16_p8_384" => {
            let side = if name.ends_with("384") { 384 } else { 224 };
            let plain = base("vit_tiny_patch16_224");
            Some((Stem::Resnet, Arch { image_size: [side; 2], patch: 32, ..plain }))
        }
        _ => None,
    }
}

impl Stem {
    /// Kernels of the first convolution, which sees the image, and of the last, which makes tokens.
    pub(crate) fn kernels(self) -> [&'static str; 2] {
        match self {
            Stem::Convolutions => {
                ["patch_embed.backbone.0.conv.weight", "patch_embed.backbone.2.conv.weight"]
            }
            Stem::Resnet => ["patch_embed.backbone.conv.weight", "patch_embed.proj.weight"],
        }
    }

    /// Fails if the arguments ask for another patch size than the stem has.
    pub(crate) fn check_patch(self, args: &Fields) -> Result<()> {
        let own = match self {
            Stem::Convolutions => 1,
            Stem::Resnet => 8,
        };
        match args.optional_size("patch_size")? {
            Some(size) if size != [own; 2] => Err(Error::model(
                FILE,
                format!("`patch_size` is {}x{}, this stem has {own}x{own}", size[0], size[1]),
                "",
            )),
            _ => Ok(()),
        }
    }

    /// Tokens in raster order. image: (B,Ch,H,W), normalised; returns (B,N,hidden).
    ///
    /// # Errors
    /// [`Error::Usage`] for an image whose tokens would not be those of its whole patches.
    pub(crate) fn tokens(self, g: &mut Graph, w: &Names, image: Value, hidden: usize) -> Result<Value> {
        let &[batch, channels, height, width] = g.shape(image).dims() else {
            return Err(Error::usage("an image has four dimensions", ""));
        };
        let pixels = g.patchify(image, [1, 1]);
        let x = g.reshape(pixels, [batch, height, width, channels]);
        let x = match self {
            Stem::Convolutions => {
                let x = self.normed(g, w, x, 0, Window::strided(4, 4));
                let x = self.normed(g, w, x, 1, Window::strided(2, 2));
                conv(g, w, x, "patch_embed.backbone.2.conv", hidden, Window::strided(2, 2))
            }
            Stem::Resnet => {
                if !height.is_multiple_of(32) || !width.is_multiple_of(32) {
                    let what = format!("an image of {height}x{width} pixels does not divide into 32x32");
                    return Err(Error::usage(what, "use sides that are multiples of 32"));
                }
                let kernel = w.in_file("patch_embed.backbone.conv.weight");
                let out = rows(w, "patch_embed.backbone.conv.weight");
                let kernel = Weight::transformed(kernel, Transform::StandardTaps(STANDARD_EPS.into()));
                let kernel = g.weight(kernel, [out, 7 * 7 * channels]);
                let x = g.conv2d(x, kernel, None, Window::strided(7, 2).pad_same([height, width]));
                let [gain, bias] = ["weight", "bias"]
                    .map(|part| w.value(g, &format!("patch_embed.backbone.norm.{part}"), [out]));
                let x = g.group_norm(x, gain, bias, GROUPS, NORM_EPS, Some(Act::Relu));
                let x = g.max_pool(x, Window::strided(3, 2).pad_same([height / 2, width / 2]));
                conv(g, w, x, "patch_embed.proj", hidden, Window::strided(8, 8))
            }
        };
        let n = g.shape(x).rows() / batch.max(1);
        Ok(g.reshape(x, [batch, n, hidden]))
    }

    /// Convolution `i` with its batch norm folded in, and GELU. x: (B,H,W,C).
    fn normed(self, g: &mut Graph, w: &Names, x: Value, i: usize, window: Window) -> Value {
        let stage = format!("patch_embed.backbone.{i}");
        let name = |part: &str| w.in_file(&format!("{stage}.{part}"));
        let norm = BatchNorm {
            gain: name("bn.weight"),
            bias: name("bn.bias"),
            mean: name("bn.running_mean"),
            variance: name("bn.running_var"),
            eps: NORM_EPS.into(),
        };
        let kernel =
            Weight { parts: vec![Part::NormedTaps { kernel: name("conv.weight"), norm: norm.clone() }] };
        let bias = Weight { parts: vec![Part::NormedBias { norm }] };
        let (out, inner) = (rows(w, &format!("{stage}.conv.weight")), inner(g, x, window));
        let kernel = g.weight(kernel, [out, inner]);
        let bias = g.weight(bias, [out]);
        let x = g.conv2d(x, kernel, Some(bias), window);
        g.act(x, Act::Gelu)
    }
}

/// Output channels of a kernel of the file; one that is missing is reported with all others.
fn rows(w: &Names, kernel: &str) -> usize {
    w.dims(kernel).and_then(|dims| dims.first().copied()).unwrap_or(GROUPS)
}

/// Width of a convolution's weight: the places of its window times the channels of x.
fn inner(g: &Graph, x: Value, window: Window) -> usize {
    window.size[0] * window.size[1] * g.shape(x).width()
}

/// Plain convolution with a bias. x: (B,H,W,C); returns (B,Ho,Wo,out).
fn conv(g: &mut Graph, w: &Names, x: Value, name: &str, out: usize, window: Window) -> Value {
    let kernel = Weight::transformed(w.in_file(&format!("{name}.weight")), Transform::Taps);
    let inner = inner(g, x, window);
    let kernel = g.weight(kernel, [out, inner]);
    let bias = w.value(g, &format!("{name}.bias"), [out]);
    g.conv2d(x, kernel, Some(bias), window)
}
