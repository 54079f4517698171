//! `preprocessor_config.json` of transformers: processor classes, their defaults for
//! keys that a file leaves out, and every form that `size` has had since 4.0.
//!
//! Source: transformers 5.23, `models/*/image_processing_*.py`, `image_processing_utils.py`
//! (`get_size_dict`) and `image_transforms.py` (sizes with aspect ratio).

use serde_json::Value;

use super::fields::Fields;
use super::spec::{Backend, Geometry, Preprocess, Resize};
use crate::error::Result;
use crate::image::resize::{Filter, PillowCompat};

/// Mean and deviation of ImageNet.
pub(super) const IMAGENET: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
const STANDARD: [[f64; 3]; 2] = [[0.5; 3]; 2];
const CLIP: [[f64; 3]; 2] = [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]];

/// A processor class: its name without `ImageProcessor` and its defaults.
#[derive(Clone, Copy)]
struct Class {
    name: &'static str,
    resize: Resize,
    /// Whether it crops by default, and the side.
    crop: (bool, usize),
    filter: Filter,
    mean_std: [[f64; 3]; 2],
    /// What a bare number as `size` means: both sides, or the short one.
    square: bool,
}

const fn squash(side: usize) -> Resize {
    Resize::Exact { height: side, width: side }
}

const fn shortest(edge: usize) -> Resize {
    Resize::ShortestEdge { edge, longest: None }
}

#[rustfmt::skip]
const CLASSES: [Class; 9] = [
    Class { name: "ViT", resize: squash(224), crop: (false, 224), filter: Filter::Bilinear, mean_std: STANDARD, square: true },
    Class { name: "DeiT", resize: squash(256), crop: (true, 224), filter: Filter::Bicubic, mean_std: STANDARD, square: true },
    Class { name: "Bit", resize: shortest(224), crop: (true, 224), filter: Filter::Bicubic, mean_std: CLIP, square: false },
    Class { name: "CLIP", resize: shortest(224), crop: (true, 224), filter: Filter::Bicubic, mean_std: CLIP, square: false },
    Class { name: "Siglip", resize: squash(224), crop: (false, 224), filter: Filter::Bicubic, mean_std: STANDARD, square: false },
    Class { name: "Siglip2", resize: Resize::Patches { patch: 16, most: 256 }, crop: (false, 224), filter: Filter::Bilinear, mean_std: STANDARD, square: false },
    Class { name: "Beit", resize: squash(224), crop: (false, 224), filter: Filter::Bicubic, mean_std: STANDARD, square: true },
    Class { name: "ImageGPT", resize: squash(256), crop: (false, 224), filter: Filter::Bilinear, mean_std: STANDARD, square: true },
    // It resizes after rescaling, in floats.
    Class { name: "DINOv3ViT", resize: squash(224), crop: (false, 224), filter: Filter::Bilinear, mean_std: IMAGENET, square: true },
];

/// The class whose processor resizes floats.
const OF_FLOATS: &str = "DINOv3ViT";

/// The class that transformers pairs with a `model_type`.
fn class_of_family(family: &str) -> Option<Class> {
    let name = match family {
        "vit" | "vit_mae" | "vit_msn" | "ijepa" => "ViT",
        "deit" => "DeiT",
        "dinov2" | "dinov2_with_registers" | "bit" => "Bit",
        "dinov3_vit" => "DINOv3ViT",
        "clip" | "clip_vision_model" => "CLIP",
        "siglip" | "siglip_vision_model" => "Siglip",
        "siglip2" | "siglip2_vision_model" => "Siglip2",
        "beit" | "data2vec-vision" => "Beit",
        "imagegpt" => "ImageGPT",
        _ => return None,
    };
    CLASSES.into_iter().find(|c| c.name == name)
}

/// The usual preprocessing of a family, at 224 pixels.
pub(super) fn default_for(family: &str) -> Option<Preprocess> {
    let mut class = class_of_family(family)?;
    if class.name == "Bit" {
        // What DINOv2's files say; the class itself defaults to CLIP's numbers.
        (class.resize, class.mean_std) = (shortest(256), IMAGENET);
    }
    if class.name == "DeiT" {
        class.mean_std = IMAGENET;
    }
    let [mean, std] = class.mean_std;
    Some(Preprocess {
        processor: format!("{}ImageProcessor", class.name),
        backend: if class.name == OF_FLOATS { Backend::TorchvisionFloats } else { Backend::Pil },
        geometry: Geometry::Hf {
            resize: class.resize,
            crop: class.crop.0.then_some((class.crop.1, class.crop.1)),
        },
        filter: class.filter,
        pillow: PillowCompat::default(),
        rescale: Some(1.0 / 255.0),
        mean_std: Some((mean, std)),
    })
}

/// Reads a `preprocessor_config.json`.
pub(super) fn parse(fields: &Fields, family: Option<&str>) -> Result<Preprocess> {
    let (class, fast) = class(fields, family)?;
    if fields.flag("do_pad", false)? {
        let what = "`do_pad` is true, which is not supported".to_owned();
        return Err(fields.error(what, "set `do_pad` to false; images of one model size need no padding"));
    }
    let resize = if !fields.flag("do_resize", true)? {
        Resize::None
    } else if class.name == "CLIP" && fields.flag("use_square_size", false)? {
        squash(224)
    } else {
        match fields.get("size") {
            _ if matches!(class.resize, Resize::Patches { .. }) => patches(fields)?,
            None => class.resize,
            Some(value) => size(fields, "size", value, fields.flag("default_to_square", class.square)?)?,
        }
    };
    let crop = if fields.flag("do_center_crop", class.crop.0)? {
        match fields.get("crop_size").map(|v| (v, size(fields, "crop_size", v, true))) {
            None => Some((class.crop.1, class.crop.1)),
            Some((_, Ok(Resize::Exact { height, width }))) => Some((height, width)),
            Some((value, Ok(_))) => {
                return Err(fields.unexpected("crop_size", value, "a number, or `height` and `width`"));
            }
            Some((_, Err(e))) => return Err(e),
        }
    } else {
        None
    };
    let filter = match fields.get("resample") {
        None => class.filter,
        Some(value) => value.as_i64().and_then(Filter::from_code).ok_or_else(|| {
            let codes = "0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming";
            fields.unexpected("resample", value, codes)
        })?,
    };
    let rescale = fields.flag("do_rescale", true)?.then(|| match fields.number("rescale_factor")? {
        None => Ok(1.0 / 255.0),
        Some(factor) if factor as f32 != 0.0 => Ok(factor),
        Some(factor) => Err(fields.unexpected("rescale_factor", &factor.into(), "a number other than 0")),
    });
    let rescale: Option<f64> = rescale.transpose()?;
    let backend = match (class.name == OF_FLOATS, fast) {
        // Without rescaling they are bytes still.
        (true, _) if rescale.is_some() => Backend::TorchvisionFloats,
        (true, _) | (false, true) => Backend::Torchvision,
        (false, false) => Backend::Pil,
    };
    if backend == Backend::TorchvisionFloats && !matches!(filter, Filter::Bilinear | Filter::Bicubic) {
        let what =
            format!("{} resizes floats by the filter {}, which is not supported", class.name, filter.name());
        return Err(fields.error(what, "bilinear (2) and bicubic (3) are"));
    }
    let normalise = fields.flag("do_normalize", true)?;
    let mean_std = normalise.then(|| fields.mean_std(["image_mean", "image_std"], class.mean_std, false));
    Ok(Preprocess {
        processor: format!("{}ImageProcessor", class.name),
        backend,
        geometry: Geometry::Hf { resize, crop },
        filter,
        pillow: PillowCompat::default(),
        rescale,
        mean_std: mean_std.transpose()?,
    })
}

/// The budget of SigLIP 2 NaFlex.
fn patches(fields: &Fields) -> Result<Resize> {
    let side = |key: &str, default| fields.get(key).map_or(Ok(default), |value| fields.side(key, value));
    Ok(Resize::Patches { patch: side("patch_size", 16)?, most: side("max_num_patches", 256)? })
}

/// The class that a file names, or its family's, or ViT; and whether it is a "fast" one.
fn class(fields: &Fields, family: Option<&str>) -> Result<(Class, bool)> {
    let named = match fields.string("image_processor_type")? {
        Some(name) => Some(name),
        None => fields.string("feature_extractor_type")?,
    };
    let Some(name) = named else {
        // Files of 2021 name no class; those of ViT and DeiT are the ones in use.
        return Ok((family.and_then(class_of_family).unwrap_or(CLASSES[0]), false));
    };
    let fast = name.ends_with("Fast");
    let short = name.trim_end_matches("Fast").trim_end_matches("Pil");
    let short = short.trim_end_matches("ImageProcessor").trim_end_matches("FeatureExtractor");
    match CLASSES.into_iter().find(|c| c.name == short) {
        Some(class) => Ok((class, fast)),
        None => Err(fields.error(
            format!("image processor {name:?} is not supported"),
            format!(
                "supported: {} (each with ImageProcessor), and timm's config.json",
                CLASSES.map(|c| c.name).join(", ")
            ),
        )),
    }
}

/// `get_size_dict`: a number, a list (height, width), or one of four sets of keys.
fn size(fields: &Fields, key: &str, value: &Value, square: bool) -> Result<Resize> {
    let expected = "a number, [height, width], {height, width}, {shortest_edge}, \
                    {shortest_edge, longest_edge} or {max_height, max_width}";
    match value {
        Value::Number(_) => {
            let side = fields.side(key, value)?;
            Ok(if square { squash(side) } else { shortest(side) })
        }
        Value::Array(list) => match list.as_slice() {
            [h, w] => Ok(Resize::Exact { height: fields.side(key, h)?, width: fields.side(key, w)? }),
            _ => Err(fields.unexpected(key, value, expected)),
        },
        Value::Object(map) => {
            let mut keys: Vec<&str> =
                map.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str()).collect();
            keys.sort_unstable();
            let side = |inner: &str| fields.side(&format!("{key}.{inner}"), &map[inner]);
            match keys.as_slice() {
                ["height", "width"] => Ok(Resize::Exact { height: side("height")?, width: side("width")? }),
                ["shortest_edge"] => Ok(shortest(side("shortest_edge")?)),
                ["longest_edge", "shortest_edge"] => Ok(Resize::ShortestEdge {
                    edge: side("shortest_edge")?,
                    longest: Some(side("longest_edge")?),
                }),
                ["max_height", "max_width"] => {
                    Ok(Resize::Within { height: side("max_height")?, width: side("max_width")? })
                }
                _ => Err(fields.unexpected(key, value, expected)),
            }
        }
        other => Err(fields.unexpected(key, other, expected)),
    }
}

/// Size (W, H) after the resize. Divisions and truncations are Python's; a side that would
/// become 0 (transformers fails) becomes 1.
pub(super) fn resized(resize: Resize, width: usize, height: usize) -> (usize, usize) {
    let (w, h) = (width as f64, height as f64);
    let (to_w, to_h) = match resize {
        Resize::None => (width, height),
        Resize::Exact { height, width } => (width, height),
        Resize::Within { height: max_height, width: max_width } => {
            let scale = (max_height as f64 / h).min(max_width as f64 / w);
            ((w * scale) as usize, (h * scale) as usize)
        }
        Resize::Patches { patch, most } => {
            let (rows, columns) = grid([height, width], patch, most);
            (columns * patch, rows * patch)
        }
        Resize::ShortestEdge { edge, longest: None } => {
            let long = (edge as f64 * w.max(h) / w.min(h)) as usize;
            if width <= height { (edge, long) } else { (long, edge) }
        }
        Resize::ShortestEdge { edge, longest: Some(longest) } => {
            // The long side's bound lowers the short side; unrounded for the other side.
            let (low, high) = (w.min(h), w.max(h));
            let raw = (high / low * edge as f64 > longest as f64).then(|| longest as f64 * low / high);
            let short = raw.map_or(edge, |raw| raw.round_ties_even() as usize);
            let exact = raw.unwrap_or(short as f64);
            if low as usize == short {
                (width, height)
            } else if width < height {
                (short, (exact * h / w) as usize)
            } else {
                ((exact * w / h) as usize, short)
            }
        }
    };
    (to_w.max(1), to_h.max(1))
}

/// Rows and columns of patches for an image (height, width): `get_image_size_for_max_num_patches`, which looks for
/// the largest scale by halving, and stops where the bounds are near enough.
fn grid(image: [usize; 2], patch: usize, most: usize) -> (usize, usize) {
    const NEAR: f64 = 1e-5;
    let at = |scale: f64, side: usize| ((side as f64 * scale / patch as f64).ceil() as usize).max(1);
    let (mut low, mut high) = (NEAR / 10.0, 100.0);
    while high - low >= NEAR {
        let scale = (low + high) / 2.0;
        let fits = at(scale, image[0]).saturating_mul(at(scale, image[1])) <= most;
        *(if fits { &mut low } else { &mut high }) = scale;
    }
    (at(low, image[0]), at(low, image[1]))
}
