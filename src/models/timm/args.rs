//! timm's configuration: an architecture name, optional `model_args`, and `pretrained_cfg`.
//!
//! A property is what `model_args` says; else what the table says of the name, together with what
//! the tensors show. Only heads, activation, epsilon and pooling cannot be seen in tensors. Names
//! that are not in the table are accepted if nothing about them is ambiguous, with a warning.

use serde_json::Value as Json;

use super::stem;
use crate::error::{Error, Result};
use crate::graph::PositionFilter;
use crate::models::fields;
use crate::models::fields::Fields;
use crate::models::names::Names;
use crate::models::timm::stem::Stem;
use crate::models::timm::table;
use crate::models::timm::table::{Arch, Mlp};
use crate::ops::Act;

/// `model_args` that change how a model trains, loads or is exported, but not what it computes.
const HARMLESS: &[&str] = &[
    "drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "drop_path_rate",
    "weight_init",
    "fix_init",
    "strict_img_size",
    "scriptable",
    "exportable",
    "no_jit",
    "pretrained_strict",
    "cache_dir",
    "out_indices",
];

/// How tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Not at all.
    None,
    /// The class token.
    Token,
    /// The mean of the patches.
    Average,
    /// Attention of a learned query.
    Map,
}

/// Everything that decides what a timm ViT computes.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) architecture: String,
    pub(crate) image_size: [usize; 2],
    pub(crate) patch: [usize; 2],
    /// Convolutions that make the tokens, in place of one over patches.
    pub(crate) stem: Option<Stem>,
    pub(crate) channels: usize,
    pub(crate) hidden: usize,
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    /// Rows of `fc1`: twice the hidden width for a packed GLU.
    pub(crate) fc1: usize,
    pub(crate) mlp: Mlp,
    pub(crate) act: Act,
    pub(crate) rms_norm: bool,
    pub(crate) eps: f32,
    pub(crate) qkv_bias: bool,
    pub(crate) proj_bias: bool,
    pub(crate) qk_norm: bool,
    pub(crate) scale_attn_norm: bool,
    pub(crate) scale_mlp_norm: bool,
    pub(crate) layer_scale: bool,
    pub(crate) embed_norm: bool,
    pub(crate) pre_norm: bool,
    pub(crate) class_token: bool,
    pub(crate) distilled: bool,
    pub(crate) registers: usize,
    /// Grid of the position table; `None` without one.
    pub(crate) table_grid: Option<[usize; 2]>,
    /// Prefix tokens have no positions.
    pub(crate) no_embed_class: bool,
    /// How positions are resampled; `None` if the original has its own way.
    pub(crate) filter: Option<PositionFilter>,
    pub(crate) final_norm: bool,
    pub(crate) fc_norm: bool,
    pub(crate) pool: Pool,
    pub(crate) pool_prefix: bool,
    pub(crate) classes: Option<usize>,
    pub(crate) warnings: Vec<String>,
}

impl Spec {
    /// Tokens in front of the patches.
    pub(crate) fn prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distilled) + self.registers
    }

    /// Hidden width of the MLP.
    pub(crate) fn mlp_width(&self) -> usize {
        if self.mlp == Mlp::PackedGlu { self.fc1 / 2 } else { self.fc1 }
    }
}

/// Reads the configuration `top`, whose `model_args` are `args`.
pub(crate) fn resolve(top: &Fields, args: &Fields, w: &Names) -> Result<Spec> {
    let stated = top.text("architecture")?.unwrap_or_default();
    let name = table::base_name(stated);
    let stem = stem::find(name);
    if stem.is_none() && w.has_any("patch_embed.backbone.") {
        return Err(refused(stated, table::CONVOLUTIONS));
    }
    if let Some(why) = table::refusal(name) {
        return Err(refused(stated, why));
    }
    check_args(stated, args)?;
    let mut warnings = Vec::new();
    let (stem, arch) = stem.map_or((None, table::find(name)), |(stem, arch)| (Some(stem), Some(arch)));
    let arch = match arch {
        Some(arch) => arch,
        None => table::guess(stated, args, w, &mut warnings)?,
    };

    let [first, last] = stem.map_or(["patch_embed.proj.weight"; 2], Stem::kernels).map(|name| {
        let kernel = w.dims(name).and_then(|dims| <[usize; 4]>::try_from(dims).ok());
        kernel.filter(|k| k.iter().all(|d| (1..=1 << 20).contains(d)))
    });
    let patch = match (stem, args.optional_size("patch_size")?) {
        (Some(stem), _) => stem.check_patch(args).map(|()| [arch.patch; 2])?,
        (None, Some(patch)) => patch,
        (None, None) => first.map_or([arch.patch; 2], |[_, _, h, w]| [h, w]),
    };
    let channels = match args.optional("in_chans", 1, 1024)? {
        Some(channels) => channels,
        None => first.map_or(3, |k| k[1]),
    };
    let hidden = args.width("embed_dim", last.map_or(arch.hidden, |k| k[0]))?;
    let heads = match args.optional("num_heads", 1, 1024)? {
        Some(heads) => heads,
        None if hidden == arch.hidden => arch.heads,
        None => {
            return Err(Error::model(
                fields::FILE,
                format!(
                    "{stated} has width {}, the weights have {hidden}, and `num_heads` is not given",
                    arch.hidden
                ),
                "add `num_heads` to `model_args`",
            ));
        }
    };
    fields::check_heads(("embed_dim", hidden), ("num_heads", heads))?;
    let depth = args.depth("depth", arch.depth)?;
    let in_file = w.layers("blocks.");
    if in_file > depth {
        return Err(Error::model(
            fields::FILE,
            format!("{stated} has depth {depth}, but the checkpoint has {in_file} blocks"),
            "set `depth` in `model_args`",
        ));
    }
    let fc1_rows = ["fc1", "fc1_g"].iter().find_map(|n| w.dims(&format!("blocks.0.mlp.{n}.weight")));
    let fc1 = match args.get("mlp_ratio") {
        Some(_) => args.scaled(hidden, "mlp_ratio", 4.0)?,
        None => fc1_rows.and_then(|dims| dims.first().copied()).unwrap_or(arch.mlp_hidden),
    };

    // A part is there if the arguments say so; else if the name or the tensors do.
    let part = |key: &str, by_name: bool, tensor: &str| -> Result<bool> {
        Ok(args.optional_switch(key)?.unwrap_or(by_name || w.has(tensor)))
    };
    let class_token = part("class_token", arch.class_token, "cls_token")?;
    let distilled = name.contains("distilled") || w.has("dist_token");
    let registers = match args.optional("reg_tokens", 0, 4096)? {
        Some(registers) => registers,
        None => {
            w.dims("reg_token").map_or(arch.registers, |dims| dims.iter().rev().nth(1).copied().unwrap_or(1))
        }
    };
    let norm_of_args = norm_layer(args)?;
    let pool = pool(top, args, &arch)?;
    let (final_norm, fc_norm) = norms(args, &arch, pool, w)?;

    let mut spec = Spec {
        architecture: stated.to_owned(),
        image_size: arch.image_size,
        patch,
        stem,
        channels,
        hidden,
        depth,
        heads,
        fc1,
        mlp: arch.mlp,
        act: if args.get("act_layer").is_some() { args.act("act_layer", "gelu")? } else { arch.act },
        rms_norm: norm_of_args.unwrap_or(arch.rms_norm),
        eps: if norm_of_args.is_some() { 1e-6 } else { arch.eps },
        qkv_bias: part("qkv_bias", arch.qkv_bias, "blocks.0.attn.qkv.bias")?,
        proj_bias: part("proj_bias", arch.mlp != Mlp::SplitGlu, "blocks.0.attn.proj.bias")?,
        qk_norm: part("qk_norm", false, "blocks.0.attn.q_norm.weight")?,
        scale_attn_norm: part("scale_attn_norm", name.starts_with("beit3"), "blocks.0.attn.norm.weight")?,
        scale_mlp_norm: part("scale_mlp_norm", name.starts_with("beit3"), "blocks.0.mlp.norm.weight")?,
        layer_scale: match args.get("init_values") {
            Some(_) => args.number("init_values", 0.0)? != 0.0,
            None => arch.layer_scale || w.has("blocks.0.ls1.gamma"),
        },
        embed_norm: name.starts_with("aimv2") || w.has("patch_embed.norm.weight"),
        pre_norm: part("pre_norm", arch.pre_norm, "norm_pre.weight")?,
        class_token,
        distilled,
        registers,
        table_grid: None,
        no_embed_class: args.switch("no_embed_class", arch.no_embed_class)?,
        filter: filter(name, args)?,
        final_norm,
        fc_norm,
        pool,
        pool_prefix: args.switch("pool_include_prefix", arch.pool_prefix)?,
        classes: None,
        warnings,
    };
    place(&mut spec, top, args, &arch, w)?;
    head(&mut spec, top, args, w)?;
    Ok(spec)
}

fn refused(name: &str, why: &str) -> Error {
    Error::model(fields::FILE, format!("timm architecture `{name}`: {why}"), "")
}

/// Refuses arguments that are not known: they might change what the model computes.
fn check_args(name: &str, args: &Fields) -> Result<()> {
    const KNOWN: &[&str] = &[
        "act_layer",
        "attn_layer",
        "class_token",
        "depth",
        "dynamic_img_pad",
        "dynamic_img_size",
        "embed_dim",
        "fc_norm",
        "final_norm",
        "global_pool",
        "img_size",
        "in_chans",
        "init_values",
        "mlp_ratio",
        "no_embed_class",
        "norm_layer",
        "num_classes",
        "num_heads",
        "patch_size",
        "pool_include_prefix",
        "pos_embed",
        "pre_norm",
        "proj_bias",
        "qk_norm",
        "qkv_bias",
        "reg_tokens",
        "scale_attn_norm",
        "scale_mlp_norm",
        "use_naflex",
    ];
    if let Some(key) = args.keys().find(|key| !KNOWN.contains(key) && !HARMLESS.contains(key)) {
        return Err(refused(name, &format!("`model_args` has `{key}`, which is not supported")));
    }
    for key in ["use_naflex", "dynamic_img_pad"] {
        if args.switch(key, false)? {
            return Err(refused(name, &format!("`{key}` is not supported")));
        }
    }
    match args.text("attn_layer")? {
        None | Some("" | "attn") => Ok(()),
        Some(other) => Err(refused(name, &format!("`attn_layer` {other} is not supported"))),
    }
}

/// True for RMS norm; `None` if the arguments do not say.
fn norm_layer(args: &Fields) -> Result<Option<bool>> {
    let Some(name) = args.text("norm_layer")? else { return Ok(None) };
    match name.replace('_', "").to_lowercase().as_str() {
        "" | "layernorm" | "layernormfp32" => Ok(Some(false)),
        "rmsnorm" | "rmsnormfp32" => Ok(Some(true)),
        _ => Err(Error::model(
            fields::FILE,
            format!("`norm_layer` is `{name}`, which is not supported"),
            "supported: layernorm, rmsnorm",
        )),
    }
}

fn pool(top: &Fields, args: &Fields, arch: &Arch) -> Result<Pool> {
    let given = match args.text("global_pool")? {
        Some(pool) => Some(pool),
        None => top.text("global_pool")?,
    };
    match given.unwrap_or(arch.pool) {
        "" => Ok(Pool::None),
        "token" => Ok(Pool::Token),
        "avg" => Ok(Pool::Average),
        "map" => Ok(Pool::Map),
        other => Err(Error::model(
            fields::FILE,
            format!("`global_pool` is `{other}`, which is not supported"),
            "supported: token, avg, map",
        )),
    }
}

/// Whether there is a norm before pooling, and one after. The tensors show it; timm's rule (after
/// the mean, else before) says which one is missing if neither is there.
fn norms(args: &Fields, arch: &Arch, pool: Pool, w: &Names) -> Result<(bool, bool)> {
    if !args.switch("final_norm", arch.final_norm || arch.fc_norm)? {
        return Ok((false, false));
    }
    let seen = (w.has("norm.weight"), w.has("fc_norm.weight"));
    if seen != (false, false) {
        return Ok(seen);
    }
    let after = args.optional_switch("fc_norm")?.unwrap_or(match pool {
        Pool::Average => arch.fc_norm || arch.pool != "avg",
        _ => false,
    });
    Ok((!after, after))
}

/// The filter timm uses for position tables when a checkpoint is loaded at another size.
fn filter(name: &str, args: &Fields) -> Result<Option<PositionFilter>> {
    Ok(if args.switch("dynamic_img_size", false)? {
        Some(PositionFilter::BicubicAntialias)
    } else if name.contains("radio") {
        None
    } else if name.contains("flexi") {
        Some(PositionFilter::Bilinear)
    } else {
        Some(PositionFilter::BicubicAntialias)
    })
}

/// Image size, and the grid of the position table.
fn place(spec: &mut Spec, top: &Fields, args: &Fields, arch: &Arch, w: &Names) -> Result<()> {
    let pretrained = top.nested("pretrained_cfg")?;
    let input_size = pretrained.as_ref().unwrap_or(top).get("input_size").and_then(Json::as_array);
    let input_size = input_size.and_then(|sides| {
        let side = |i: usize| sides.get(i).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        Some([side(1)?, side(2)?]).filter(|[h, w]| (1..=1 << 20).contains(h) && (1..=1 << 20).contains(w))
    });
    let sizes = [args.optional_size("img_size")?, input_size, Some(arch.image_size)];
    let sizes: Vec<[usize; 2]> = sizes.into_iter().flatten().collect();
    spec.image_size = sizes[0];
    fields::check_patch(spec.image_size, spec.patch)?;

    match args.text("pos_embed")? {
        Some("" | "none") => return Ok(()),
        None | Some("learn") => {}
        Some(other) => return Err(refused(&spec.architecture, &format!("`pos_embed` is `{other}`"))),
    }
    let grids: Vec<[usize; 2]> = sizes.iter().map(|s| [s[0] / spec.patch[0], s[1] / spec.patch[1]]).collect();
    let Some(&[.., rows, _]) = w.dims("pos_embed") else {
        spec.table_grid = Some(grids[0]);
        return Ok(()); // the missing tensor is reported with all others
    };
    // Whether prefix tokens have positions shows in the table's length, if a size accounts for it.
    let prefix = spec.prefix_tokens();
    let patches = |no_embed_class: bool| rows.checked_sub(if no_embed_class { 0 } else { prefix });
    let fits = |no_embed_class: bool| {
        grids.iter().copied().find(|g| g[0].checked_mul(g[1]) == patches(no_embed_class))
    };
    let as_stated = fits(spec.no_embed_class);
    let grid = match (as_stated, fits(!spec.no_embed_class)) {
        (None, Some(grid)) => {
            spec.no_embed_class = !spec.no_embed_class;
            Some(grid)
        }
        _ => as_stated,
    };
    let square = || {
        let n = patches(spec.no_embed_class)?;
        let side = n.isqrt();
        (side > 0 && side * side == n).then_some([side, side])
    };
    spec.table_grid = Some(grid.or_else(square).ok_or_else(|| {
        Error::model(
            fields::FILE,
            format!(
                "tensor `pos_embed` has {rows} rows, which no image of {}x{} with {prefix} prefix tokens and \
                 patches of {}x{} has",
                spec.image_size[0], spec.image_size[1], spec.patch[0], spec.patch[1]
            ),
            "set `img_size` in `model_args`",
        )
    })?);
    Ok(())
}

/// Rows of the head, if the file has one and the configuration does not deny it.
fn head(spec: &mut Spec, top: &Fields, args: &Fields, w: &Names) -> Result<()> {
    let stated = match args.optional("num_classes", 0, 1 << 20)? {
        Some(n) => Some(n),
        None => top.optional("num_classes", 0, 1 << 20)?,
    };
    let rows = w.dims("head.weight").and_then(|dims| dims.first().copied()).filter(|&rows| rows > 0);
    spec.classes = match (stated, rows) {
        (Some(0), _) | (None, None) => None,
        (Some(n), Some(rows)) if n != rows => {
            return Err(Error::model(
                fields::FILE,
                format!("`num_classes` is {n}, but `{}` has {rows} rows", w.in_file("head.weight")),
                "the head belongs to another configuration",
            ));
        }
        (Some(n), None) => {
            spec.warnings.push(format!(
                "`num_classes` is {n}, but the checkpoint has no head; only features are computed"
            ));
            None
        }
        (_, rows) => rows,
    };
    if spec.pool == Pool::None && spec.classes.is_some() {
        return Err(refused(&spec.architecture, "a head without pooling is not supported"));
    }
    Ok(())
}
