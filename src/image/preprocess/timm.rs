//! timm's `config.json`: the `pretrained_cfg` that describes evaluation inputs.
//!
//! Source: timm 1.0.31, `models/_hub.py` (`_parse_model_cfg`), `data/config.py`
//! (`resolve_data_config`), `data/transforms_factory.py` (`transforms_imagenet_eval`) and
//! `data/transforms.py` (`ResizeKeepRatio`). transformers' `TimmWrapperImageProcessor` runs the
//! same code. `test_input_size` and `test_crop_pct` are not used, as timm does not by default.

use serde_json::Value;

use super::fields::Fields;
use super::hf::IMAGENET;
use super::spec::{Backend, CropMode, Geometry, MAX_MODEL_SIDE, Preprocess};
use crate::error::Result;
use crate::image::resize::{Filter, PillowCompat};

const CROP_PCT: f64 = 0.875;

/// Whether a file is timm's: it has a `pretrained_cfg`, or is one itself as older hub files are.
pub(super) fn is_timm(fields: &Fields) -> bool {
    fields.object("pretrained_cfg").is_some()
        || (fields.get("image_processor_type").is_none()
            && (fields.get("architecture").is_some() || fields.get("input_size").is_some()))
}

/// What timm does when a configuration says nothing.
pub(super) fn default_for((height, width): (usize, usize)) -> Preprocess {
    let [mean, std] = IMAGENET;
    Preprocess {
        processor: "timm".to_owned(),
        backend: Backend::Timm,
        geometry: Geometry::Timm { height, width, crop_pct: CROP_PCT, mode: CropMode::Center },
        filter: Filter::Bicubic,
        pillow: PillowCompat::default(),
        rescale: Some(1.0 / 255.0),
        mean_std: Some((mean, std)),
    }
}

/// Reads a `config.json`.
pub(super) fn parse(fields: &Fields) -> Result<Preprocess> {
    let cfg = fields.object("pretrained_cfg").unwrap_or(*fields);
    let args = fields.object("model_args");
    let (mut height, mut width) = match cfg.get("input_size") {
        None => (224, 224),
        Some(value) => size(&cfg, "input_size", value)?,
    };
    if let Some(args) = args {
        if let Some(channels) = args.get("in_chans").filter(|v| v.as_f64() != Some(3.0)) {
            return Err(fields.unexpected("model_args.in_chans", channels, "3 (RGB images)"));
        }
        let dynamic = args.flag("dynamic_img_size", false)?
            || !args.flag("strict_img_size", true)?
            || args.flag("use_naflex", false)?;
        if let Some(value) = args.get("img_size").filter(|_| !dynamic)
            && cfg.flag("fixed_input_size", false)?
        {
            (height, width) = size(fields, "model_args.img_size", value)?;
        }
    }
    let filter = match cfg.string("interpolation")?.filter(|s| !s.is_empty()) {
        None => Filter::Bicubic,
        Some(name) => Filter::from_name(name).ok_or_else(|| {
            let expected = format!("one of {}", Filter::ALL.map(Filter::name).join(", "));
            cfg.unexpected("interpolation", &name.into(), &expected)
        })?,
    };
    let mode = match cfg.string("crop_mode")?.unwrap_or("center") {
        "" | "center" => CropMode::Center,
        "squash" => CropMode::Squash,
        "border" => CropMode::Border,
        other => return Err(cfg.unexpected("crop_mode", &other.into(), "center, squash or border")),
    };
    // timm takes 0 for absent.
    let crop_pct = cfg.number("crop_pct")?.filter(|pct| *pct != 0.0).unwrap_or(CROP_PCT);
    let grown = |side: usize| scaled(side, crop_pct);
    if !(crop_pct > 0.0 && [height, width].into_iter().all(|s| (1..=2 * MAX_MODEL_SIDE).contains(&grown(s))))
    {
        let expected = format!("a part such as 0.9 of the resized image (of {height}x{width} pixels)");
        return Err(cfg.unexpected("crop_pct", &crop_pct.into(), &expected));
    }
    Ok(Preprocess {
        geometry: Geometry::Timm { height, width, crop_pct, mode },
        filter,
        mean_std: Some(cfg.mean_std(["mean", "std"], IMAGENET, true)?),
        ..default_for((height, width))
    })
}

/// A side, `[H, W]` or `[3, H, W]`, as (height, width).
fn size(fields: &Fields, key: &str, value: &Value) -> Result<(usize, usize)> {
    match value.as_array().map(Vec::as_slice) {
        None => fields.side(key, value).map(|side| (side, side)),
        Some([h, w]) => Ok((fields.side(key, h)?, fields.side(key, w)?)),
        Some([c, h, w]) if c.as_f64() == Some(3.0) => Ok((fields.side(key, h)?, fields.side(key, w)?)),
        Some(_) => Err(fields.unexpected(key, value, "[3, height, width]")),
    }
}

/// `floor(side / crop_pct)`.
fn scaled(side: usize, crop_pct: f64) -> usize {
    (side as f64 / crop_pct) as usize
}

/// Size (W, H) after the resize for a crop of `to` = (W, H). A side that would become 0 becomes 1.
pub(super) fn resized(
    (w, h): (usize, usize),
    to: (usize, usize),
    crop_pct: f64,
    mode: CropMode,
) -> (usize, usize) {
    let to = (scaled(to.0, crop_pct).max(1), scaled(to.1, crop_pct).max(1));
    if mode == CropMode::Squash {
        return to;
    }
    let (wide, tall) = (w as f64, h as f64);
    if mode == CropMode::Center && to.0 == to.1 {
        // torchvision's Resize(int): the short side, the other truncated.
        let long = (to.0 as f64 * wide.max(tall) / wide.min(tall)) as usize;
        return if w <= h { (to.0, long) } else { (long, to.0) };
    }
    let (ratio_w, ratio_h) = (wide / to.0 as f64, tall / to.1 as f64);
    let ratio = if mode == CropMode::Border { ratio_w.max(ratio_h) } else { ratio_w.min(ratio_h) };
    let side = |n: f64| ((n / ratio).round_ties_even() as usize).max(1);
    (side(wide), side(tall))
}
