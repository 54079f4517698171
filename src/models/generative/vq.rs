//! LlamaGen's image tokenizer (Sun et al. 2024, after Esser et al. 2021, VQGAN): a convolutional
//! encoder, a codebook of short vectors, and a convolutional decoder. One token stands for a square
//! of 2^(levels - 1) pixels a side: 16 for VQ-16, 8 for VQ-8.
//!
//! Not a [`Model`](crate::models::Model): it classifies nothing. A generator decodes its tokens with
//! [`Vq::decode`], and [`Vq::encode`] turns an image into tokens. Images are (B,H,W,3) in about
//! [-1, 1]. Files that hold the decoder alone can only decode.

use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::graph::{Graph, TensorIndex, Transform, Value, Weight};
use crate::models::fields;
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::naming::Naming;
use crate::ops::{Act, Scores, Window};
use crate::tensor::{DType, TensorDesc};

/// Group norm everywhere: groups, and what is added to the variance.
const GROUPS: usize = 32;
const EPS: f32 = 1e-6;
/// Left aside: a count that training kept.
const ASIDE: &[&str] = &["quantize.codebook_used"];
/// Most levels, and most blocks a level, that are believed.
const MAX_LEVELS: usize = 8;
const MAX_BLOCKS: usize = 64;

/// A tokenizer of images.
pub struct Vq {
    names: Names,
    /// Codes in the codebook: tokens are below.
    pub codes: usize,
    /// Elements of all tensors it uses.
    pub parameters: u64,
    /// Things worth telling the user.
    pub warnings: Vec<String>,
    code_width: usize,
    /// Codes count by direction only.
    unit_codes: bool,
    /// Width of the latent pixels between the codebook and the convolutions.
    latent: usize,
    /// Channels of each level, finest first.
    widths: Vec<usize>,
    /// Channels of the encoder's first convolution.
    stem: usize,
    /// Residual blocks of an encoder level; the decoder has one more.
    blocks: usize,
    encoder: bool,
}

impl Vq {
    /// Reads the configuration (`codebook_embed_dim`, `codebook_l2_norm`, `ch`, `ch_mult`,
    /// `z_channels`, `vocab_size`, `num_res_blocks`) and checks it against the checkpoint.
    ///
    /// # Errors
    /// [`Error::Model`] naming the field or the tensors that do not fit.
    pub fn open(config: &Json, index: &TensorIndex) -> Result<Self> {
        let fields = Fields::new(config)?;
        let mut vq = Self::read(&fields, Names::new(index, &Naming { ignored: ASIDE, ..Naming::PLAIN }))?;
        let mut g = Graph::new();
        let ids = g.input("ids", TensorDesc::new(DType::U32, [1, 1]));
        let picture = vq.decode(&mut g, ids, [1, 1]);
        let built = if vq.encoder { vq.encode(&mut g, picture).map(drop) } else { Ok(()) };
        (vq.parameters, vq.warnings) = vq.names.check_graph(&g, built, &fields)?;
        Ok(vq)
    }

    /// The tokenizer of a configuration with no checkpoint: for weights made up, as benchmarks do.
    ///
    /// # Errors
    /// [`Error::Model`] naming the field that does not fit.
    pub fn of_config(config: &Json) -> Result<Self> {
        let names = Names::new(&TensorIndex::new(), &Naming::PLAIN);
        Ok(Self { encoder: true, ..Self::read(&Fields::new(config)?, names)? })
    }

    fn read(fields: &Fields, names: Names) -> Result<Self> {
        let stem = fields.width("ch", 128)?;
        let factors = levels(fields)?;
        let widths = factors.iter().map(|f| stem.checked_mul(*f).filter(|w| *w <= 1 << 20));
        let widths = widths.collect::<Option<Vec<_>>>();
        let widths =
            widths.ok_or_else(|| Error::model(fields::FILE, "`ch` times `ch_mult` is absurdly large", ""))?;
        if let Some(odd) = [stem].iter().chain(&widths).find(|w| !w.is_multiple_of(GROUPS)) {
            let what = format!("a level has {odd} channels, which do not divide into {GROUPS} groups");
            return Err(Error::model(fields::FILE, what, "`ch` must be a multiple of 32"));
        }
        let rows = names.dims(CODEBOOK).and_then(|dims| dims.first().copied());
        Ok(Self {
            codes: fields.width("vocab_size", rows.unwrap_or(16_384))?,
            parameters: 0,
            warnings: Vec::new(),
            code_width: fields.width("codebook_embed_dim", 8)?,
            unit_codes: fields.switch("codebook_l2_norm", true)?,
            latent: fields.width("z_channels", 256)?,
            widths,
            stem,
            blocks: fields.optional("num_res_blocks", 1, MAX_BLOCKS)?.unwrap_or(2),
            encoder: names.has_any("encoder."),
            names,
        })
    }

    /// Pixels a side of the square that one token stands for.
    pub fn patch(&self) -> usize {
        1 << (self.widths.len() - 1)
    }

    /// False if the file holds the decoder alone.
    pub fn has_encoder(&self) -> bool {
        self.encoder
    }

    /// Bytes of the largest tensor on the way from tokens to one image, in f32: what an adapter must
    /// be able to bind, and by which a batch is cut. Three of them are live at once.
    pub fn largest_tensor_bytes(&self, grid: [usize; 2]) -> u64 {
        let bytes = |level: usize| {
            let coarser = self.widths.get(level + 1).copied().unwrap_or(0);
            let pixels = (grid[0] * grid[1]) as u64 * (self.patch() as u64 >> level).pow(2);
            // The upsampling of the coarser level still has its width.
            4 * pixels * self.widths[level].max(coarser) as u64
        };
        (0..self.widths.len()).map(bytes).max().unwrap_or(0)
    }

    /// Images from tokens. ids: (B, h·w) u32 in raster order; returns (B, h·P, w·P, 3).
    pub fn decode(&self, g: &mut Graph, ids: Value, grid: [usize; 2]) -> Value {
        g.scope("vq.codes");
        let batch = g.shape(ids).dims()[0];
        let codebook = self.codebook(g);
        let x = g.gather(codebook, ids); // (B, h·w, D)
        let x = self.linear(g, x, "post_quant_conv", self.latent);
        let x = g.reshape(x, [batch, grid[0], grid[1], self.latent]);

        let deepest = self.widths.len() - 1;
        let x = self.conv(g, x, "decoder.conv_in", self.widths[deepest]);
        let mut x = self.mid(g, x, "decoder");
        for (block, level) in (0..self.widths.len()).rev().enumerate() {
            x = self.level(g, x, &format!("decoder.conv_blocks.{block}"), level, self.blocks + 1);
            if level > 0 {
                let name = format!("decoder.conv_blocks.{block}.upsample.conv");
                g.scope(format!("vq.{name}"));
                let (w, b) = self.kernel(g, x, &name, self.widths[level]);
                x = g.conv2d_up(x, w, Some(b), Window::same(3));
            }
        }
        self.out(g, x, "decoder", 3)
    }

    /// Tokens of images. image: (B,H,W,3) with sides that are multiples of [`Vq::patch`]; returns
    /// (B, h·w) u32 in raster order.
    ///
    /// # Errors
    /// [`Error::Usage`] if the file holds no encoder or the image's sides do not fit.
    pub fn encode(&self, g: &mut Graph, picture: Value) -> Result<Value> {
        if !self.encoder {
            return Err(Error::usage(
                "this tokenizer holds no encoder",
                "use a file with the `encoder.` tensors to turn images into tokens",
            ));
        }
        let shape = g.shape(picture);
        let patch = self.patch();
        let &[batch, h, w, 3] = shape.dims() else {
            return Err(Error::usage(format!("an image has shape {shape}, expected [batch, h, w, 3]"), ""));
        };
        if h == 0 || w == 0 || !h.is_multiple_of(patch) || !w.is_multiple_of(patch) {
            return Err(Error::usage(
                format!("an image of {h}x{w} pixels does not divide into tokens of {patch}x{patch}"),
                format!("resize it to multiples of {patch}"),
            ));
        }
        g.scope("vq.encoder");
        let mut x = self.conv(g, picture, "encoder.conv_in", self.stem);
        for level in 0..self.widths.len() {
            let block = format!("encoder.conv_blocks.{level}");
            x = self.level(g, x, &block, level, self.blocks);
            if level + 1 < self.widths.len() {
                let name = format!("{block}.downsample.conv");
                g.scope(format!("vq.{name}"));
                let (w, b) = self.kernel(g, x, &name, self.widths[level]);
                let window = Window { pad: [0, 0, 1, 1], ..Window::strided(3, 2) };
                x = g.conv2d(x, w, Some(b), window);
            }
        }
        let x = self.mid(g, x, "encoder");
        let x = self.out(g, x, "encoder", self.latent);

        g.scope("vq.codes");
        let x = self.linear(g, x, "quant_conv", self.code_width);
        let offsets = if self.unit_codes {
            Weight::zeros(self.codes)
        } else {
            let width = self.code_width;
            Weight::transformed(self.names.in_file(CODEBOOK), Transform::HalfSquares { width })
        };
        let (codebook, offsets) = (self.codebook(g), g.weight(offsets, [self.codes]));
        let ids = g.nearest_code(x, codebook, offsets); // (B,h,w)
        Ok(g.reshape(ids, [batch, h / patch * (w / patch)]))
    }

    /// (V,D).
    fn codebook(&self, g: &mut Graph) -> Value {
        let transform = if self.unit_codes { Transform::UnitRows } else { Transform::None };
        let codes = Weight::transformed(self.names.in_file(CODEBOOK), transform);
        g.weight(codes, [self.codes, self.code_width])
    }

    /// Weight and bias of a 3x3 convolution of x: (out, 9·C) and (out).
    fn kernel(&self, g: &mut Graph, x: Value, name: &str, out: usize) -> (Value, Value) {
        let inner = 9 * g.shape(x).width();
        let weight = self.names.in_file(&format!("{name}.weight"));
        let weight = g.weight(Weight::transformed(weight, Transform::Taps), [out, inner]);
        (weight, self.names.value(g, &format!("{name}.bias"), [out]))
    }

    /// 3x3 convolution that leaves the size. x: (B,H,W,C); returns (B,H,W,out).
    fn conv(&self, g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
        let (w, b) = self.kernel(g, x, name, out);
        g.conv2d(x, w, Some(b), Window::same(3))
    }

    /// 1x1 convolution. x: (…, C); returns (…, out).
    fn linear(&self, g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
        self.names.linear(g, x, name, out, true)
    }

    /// Group norm, and SiLU after it if asked. x: (B,H,W,C).
    fn norm(&self, g: &mut Graph, x: Value, name: &str, act: Option<Act>) -> Value {
        let width = g.shape(x).width();
        let [gain, bias] =
            ["weight", "bias"].map(|part| self.names.value(g, &format!("{name}.{part}"), [width]));
        g.group_norm(x, gain, bias, GROUPS, EPS, act)
    }

    /// Residual blocks of a level, each with attention behind it on the coarsest. x: (B,H,W,C).
    fn level(&self, g: &mut Graph, mut x: Value, name: &str, level: usize, blocks: usize) -> Value {
        for r in 0..blocks {
            x = self.residual(g, x, &format!("{name}.res.{r}"), self.widths[level]);
            if level + 1 == self.widths.len() {
                x = self.attention(g, x, &format!("{name}.attn.{r}"));
            }
        }
        x
    }

    /// Residual block, attention, residual block. x: (B,H,W,C).
    fn mid(&self, g: &mut Graph, x: Value, coder: &str) -> Value {
        let width = g.shape(x).width();
        let x = self.residual(g, x, &format!("{coder}.mid.0"), width);
        let x = self.attention(g, x, &format!("{coder}.mid.1"));
        self.residual(g, x, &format!("{coder}.mid.2"), width)
    }

    /// Norm, SiLU and the last convolution. x: (B,H,W,C); returns (B,H,W,out).
    fn out(&self, g: &mut Graph, x: Value, coder: &str, out: usize) -> Value {
        g.scope(format!("vq.{coder}.out"));
        let h = self.norm(g, x, &format!("{coder}.norm_out"), Some(Act::Silu));
        self.conv(g, h, &format!("{coder}.conv_out"), out)
    }

    /// x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution on the shortcut where the
    /// width changes. x: (B,H,W,C); returns (B,H,W,out).
    fn residual(&self, g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
        g.scope(format!("vq.{name}"));
        let h = self.norm(g, x, &format!("{name}.norm1"), Some(Act::Silu));
        let h = self.conv(g, h, &format!("{name}.conv1"), out);
        let h = self.norm(g, h, &format!("{name}.norm2"), Some(Act::Silu));
        let h = self.conv(g, h, &format!("{name}.conv2"), out);
        let shortcut = if g.shape(x).width() == out {
            x
        } else {
            self.linear(g, x, &format!("{name}.nin_shortcut"), out)
        };
        g.add(h, shortcut)
    }

    /// Attention of every pixel to every pixel, one head. x: (B,H,W,C).
    fn attention(&self, g: &mut Graph, x: Value, name: &str) -> Value {
        g.scope(format!("vq.{name}"));
        let shape = g.shape(x);
        let &[batch, h, w, c] = shape.dims() else { return x };
        let normed = self.norm(g, x, &format!("{name}.norm"), None);
        let tokens = g.reshape(normed, [batch, h * w, c]);
        let qkv = ["q", "k", "v"].map(|part| {
            let y = self.linear(g, tokens, &format!("{name}.{part}"), c);
            g.split_heads(y, 1) // (B,1,h·w,C)
        });
        let a = g.attention(qkv, Scores::scaled((1.0 / (c as f64).sqrt()) as f32));
        let a = self.linear(g, a, &format!("{name}.proj_out"), c);
        let x = g.reshape(x, [batch, h * w, c]);
        let x = g.add(a, x);
        g.reshape(x, [batch, h, w, c])
    }
}

/// Canonical name of the codebook.
const CODEBOOK: &str = "quantize.embedding.weight";

/// Factors on `ch` of the levels, finest first.
fn levels(fields: &Fields) -> Result<Vec<usize>> {
    const KEY: &str = "ch_mult";
    let Some(value) = fields.get(KEY) else { return Ok(vec![1, 1, 2, 2, 4]) };
    let factor = |v: &Json| {
        let n = v.as_u64().and_then(|n| usize::try_from(n).ok());
        n.filter(|n| (1..=64).contains(n))
    };
    let factors = value.as_array().and_then(|a| a.iter().map(factor).collect::<Option<Vec<_>>>());
    let factors = factors.filter(|f| (1..=MAX_LEVELS).contains(&f.len()));
    factors.ok_or_else(|| fields::wrong(KEY, value, &format!("1 to {MAX_LEVELS} whole numbers from 1 to 64")))
}
