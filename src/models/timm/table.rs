//! What timm's architecture names stand for: the table `assets/timm_vit_archs.tsv`, which was
//! written by instantiating every `VisionTransformer` of timm 1.0.31, and the names that are
//! refused because they stand for something else.

use crate::error::{Error, Result};
use crate::models::fields::{FILE, Fields};
use crate::models::names::Names;
use crate::ops::Act;

const TABLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/timm_vit_archs.tsv"));

pub(crate) const CONVOLUTIONS: &str = "this convolution stem is not supported; those of vit_base_mci_224 and \
                                       vit_tiny_r_s16_p8 are";
const ROTARY: &str = "it rotates queries and keys (RoPE), which is not supported yet";
const RELATIVE: &str = "its attention has relative positions, which is not supported for timm yet";
const PARALLEL: &str = "its attention and MLP run in parallel, which is not supported";
const POST_NORM: &str = "its norms stand behind the branches (post-norm), which is not supported";
const DIFFERENTIAL: &str = "it has differential attention, which is not supported";

/// Fragments of names whose architectures the plain pre-norm encoder does not cover, and why.
const REFUSED: &[(&str, &str)] = &[
    ("relpos", RELATIVE),
    ("_rpn_", POST_NORM),
    ("_18x2_", PARALLEL),
    ("_xp_", PARALLEL),
    ("vit_pwee_", PARALLEL),
    ("vit_dpwee_", PARALLEL),
    ("vit_dwee_", DIFFERENTIAL),
    ("vit_dlittle_", DIFFERENTIAL),
    ("_r26_", CONVOLUTIONS),
    ("_r50_", CONVOLUTIONS),
    ("_resnet26d", CONVOLUTIONS),
    ("_resnet50d", CONVOLUTIONS),
    ("vitamin", CONVOLUTIONS),
    ("_rope_", ROTARY),
    ("dinov3", ROTARY),
    ("eva02", ROTARY),
    ("vit_pe_", ROTARY),
    ("sapiens2", ROTARY),
    ("lingbot", ROTARY),
];

/// Endings that timm itself has given up; what is left in front is today's name.
const DEPRECATED: &[&str] = &["_miil_in21k", "_in21k", "_sam", "_dino"];

/// Widest token and patch that are believed of an unknown architecture.
const MAX_SIDE: usize = 1 << 20;

/// Which multilayer perceptron a block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mlp {
    /// fc2(act(fc1(x))).
    Plain,
    /// fc1 yields gate and value: fc2(act(gate) · value).
    PackedGlu,
    /// fc2(act(fc1_g(x)) · fc1_x(x)).
    SplitGlu,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arch {
    pub(crate) image_size: [usize; 2],
    pub(crate) patch: usize,
    pub(crate) hidden: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    pub(crate) mlp_hidden: usize,
    pub(crate) act: Act,
    pub(crate) mlp: Mlp,
    pub(crate) rms_norm: bool,
    pub(crate) eps: f32,
    pub(crate) qkv_bias: bool,
    pub(crate) layer_scale: bool,
    pub(crate) pre_norm: bool,
    pub(crate) class_token: bool,
    pub(crate) registers: usize,
    pub(crate) no_embed_class: bool,
    pub(crate) pool: &'static str,
    pub(crate) pool_prefix: bool,
    pub(crate) final_norm: bool,
    pub(crate) fc_norm: bool,
}

/// Why an architecture is refused, or `None` if it is not known to be unsuitable.
pub(crate) fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(fragment, _)| name.contains(fragment)).map(|(_, why)| *why)
}

/// The name without the weights' tag (`vit_base_patch16_224.augreg_in21k`) and without endings
/// that timm has given up.
pub(crate) fn base_name(name: &str) -> &str {
    let name = name.split('.').next().unwrap_or(name);
    DEPRECATED.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Names of all rows.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.lines().skip(1).filter_map(|line| line.split('\t').next())
}

/// The row of an architecture.
pub(crate) fn find(name: &str) -> Option<Arch> {
    let header: Vec<&str> = TABLE.lines().next()?.split('\t').collect();
    let row: Vec<&'static str> =
        TABLE.lines().skip(1).map(|l| l.split('\t').collect::<Vec<_>>()).find(|r| r[0] == name)?;
    let text = |column: &str| header.iter().position(|h| *h == column).map_or("", |i| row[i]);
    let number = |column: &str| text(column).parse().expect("a test reads every number of the table");
    let flag = |column: &str| text(column) == "1";
    let (h, w) = text("img").split_once('x').expect("a test reads every size of the table");
    let side = |s: &str| s.parse().expect("a test reads every size of the table");
    Some(Arch {
        image_size: [side(h), side(w)],
        patch: number("patch"),
        hidden: number("embed"),
        depth: number("depth"),
        heads: number("heads"),
        mlp_hidden: number("mlp_hidden"),
        act: match text("act") {
            "GELUTanh" => Act::GeluTanh,
            "QuickGELU" => Act::QuickGelu,
            "SiLU" => Act::Silu,
            _ => Act::Gelu,
        },
        mlp: match text("swiglu") {
            "GluMlp" => Mlp::PackedGlu,
            "SwiGLU" => Mlp::SplitGlu,
            _ => Mlp::Plain,
        },
        rms_norm: [text("norm"), text("fc_norm")].contains(&"RmsNorm"),
        eps: text("block_eps").parse().expect("a test reads every number of the table"),
        qkv_bias: flag("qkv_bias"),
        layer_scale: flag("ls"),
        pre_norm: flag("pre_norm"),
        class_token: flag("cls"),
        registers: number("reg"),
        no_embed_class: flag("no_embed_class"),
        pool: text("global_pool"),
        pool_prefix: flag("pool_incl_prefix"),
        final_norm: text("norm") != "Identity",
        fc_norm: text("fc_norm") != "Identity",
    })
}

/// The row of a name that is not in the table, if tensors and name leave no doubt.
pub(crate) fn guess(stated: &str, args: &Fields, w: &Names, warnings: &mut Vec<String>) -> Result<Arch> {
    let name = base_name(stated);
    let doubt = |what: &str| {
        Err(Error::model(
            FILE,
            format!("timm architecture `{stated}` is not known{what}"),
            format!(
                "known are {} vision transformers of timm 1.0.31, such as vit_base_patch16_224",
                names().count()
            ),
        ))
    };
    if !name.starts_with("vit_") && !name.starts_with("deit") {
        return doubt("");
    }
    let (Some(&[hidden @ 1..=MAX_SIDE, _, patch @ 1..=MAX_SIDE, _]), Some(fc1), Some(fc2)) = (
        w.dims("patch_embed.proj.weight"),
        w.dims("blocks.0.mlp.fc1.weight").and_then(|d| d.first()),
        w.dims("blocks.0.mlp.fc2.weight").and_then(|d| d.get(1)),
    ) else {
        return doubt(", and its tensors are not those of a plain ViT");
    };
    if name.contains("siglip") && args.get("act_layer").is_none() {
        return doubt(", and SigLIP models differ in activation: add `act_layer` to `model_args`");
    }
    let by_norm = w.dims("blocks.0.attn.q_norm.weight").and_then(|d| d.first().copied());
    let head_width = by_norm.filter(|&d| d > 0).unwrap_or(64);
    if hidden % head_width != 0 && args.get("num_heads").is_none() {
        return doubt(&format!(", and width {hidden} does not split into heads of {head_width}"));
    }
    let depth = w.layers("blocks.");
    if depth > 1024 {
        return doubt(&format!(", and {depth} blocks are not believed"));
    }
    let clip = name.contains("clip");
    let act = if name.contains("quickgelu") { Act::QuickGelu } else { Act::Gelu };
    let mlp = if *fc1 == 2 * fc2 { Mlp::PackedGlu } else { Mlp::Plain };
    warnings.push(format!(
        "timm architecture `{stated}` is not in the table: heads of width {head_width}, {act:?} and epsilon {} \
         are assumed",
        if clip { "1e-5" } else { "1e-6" }
    ));
    Ok(Arch {
        image_size: [224, 224],
        patch,
        hidden,
        depth,
        heads: (hidden / head_width).max(1),
        mlp_hidden: *fc1,
        act: if mlp == Mlp::PackedGlu { Act::Silu } else { act },
        mlp,
        rms_norm: !w.has("blocks.0.norm1.bias"),
        eps: if clip { 1e-5 } else { 1e-6 },
        qkv_bias: false,
        layer_scale: false,
        pre_norm: false,
        class_token: false,
        registers: 0,
        no_embed_class: false,
        pool: if w.has("attn_pool.latent") {
            "map"
        } else if w.has("cls_token") {
            "token"
        } else {
            "avg"
        },
        pool_prefix: false,
        final_norm: true,
        fc_norm: w.has("fc_norm.weight"),
    })
}
