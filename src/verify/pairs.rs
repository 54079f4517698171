//! Recorded outputs of models of two towers: vectors of texts and images at length 1, and what they say of each
//! other. Texts are `in.input_ids`, images `in.pixel_values`: (B,3,H,W), or rows of pixels (B,N,P·P·3) whose grids are
//! `in.spatial_shapes` (SigLIP 2 NaFlex).

use super::compare::{Tolerance, Verdict, compare};
use super::{images, texts};
use crate::checkpoint::Checkpoint;
use crate::dual::{DualEncoder, IMAGE_EMBEDS, unit};
use crate::error::Result;
use crate::models::text::ReadAt;
use crate::tensor::{HostTensor, Shape};

const IMAGES: &str = "in.pixel_values";
const TEXTS: &str = "in.input_ids";
const GRIDS: &str = "in.spatial_shapes";

/// Rows of numbers, or why there are none.
type Rows = std::result::Result<Vec<Vec<f32>>, String>;

/// One verdict for each recorded output.
///
/// # Errors
/// A file that cannot be read; device errors.
pub fn verdicts(model: &DualEncoder, file: &Checkpoint, tolerance: Tolerance) -> Result<Vec<Verdict>> {
    if !file.contains(TEXTS) {
        return images::verdicts(model.images(), file, tolerance);
    }
    let of_texts = of_texts(model, file)?;
    let of_images = of_images(model, file)?;
    let mut names: Vec<&str> =
        file.index().keys().map(String::as_str).filter(|name| name.starts_with("out.")).collect();
    names.sort_by_key(|name| name.contains("logits"));
    let matching = model.matching();
    let logits = |a: &Rows, b: &Rows| -> Rows {
        let (a, b) = (a.clone()?, b.clone()?);
        let dot =
            |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let logit = |x, y| (dot(x, y) * f64::from(matching.scale) + f64::from(matching.bias)) as f32;
        Ok(a.iter().map(|x| b.iter().map(|y| logit(x, y)).collect()).collect())
    };
    names
        .into_iter()
        .map(|name| {
            let made = match name {
                "out.text_embeds" => of_texts.clone(),
                "out.image_embeds" => of_images.clone(),
                "out.logits_per_image" => logits(&of_images, &of_texts),
                "out.logits_per_text" => logits(&of_texts, &of_images),
                other => Err(format!("this model does not produce `{}`", &other["out.".len()..])),
            };
            let want = file.read(name)?;
            Ok(match made {
                Ok(rows) => {
                    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
                    compare(name, &HostTensor::f32(Shape::new(&shape), rows.concat()), &want, tolerance)
                }
                Err(reason) => Verdict {
                    name: name.to_owned(),
                    shape: want.shape().dims().to_vec(),
                    reason: Some(reason),
                    missing: true,
                    ..Verdict::default()
                },
            })
        })
        .collect()
}

fn of_texts(model: &DualEncoder, file: &Checkpoint) -> Result<Rows> {
    let session = model.texts();
    let read = session.info().tower.as_ref().map(|tower| tower.read);
    let mut passages = match texts::passages(session, file)? {
        Ok(passages) => passages,
        Err(reason) => return Ok(Err(reason)),
    };
    for passage in &mut passages {
        passage.places.clear();
        // What is read at the last place is recorded with its padding.
        if let Some(read) = read.filter(|read| *read != ReadAt::LastPlace) {
            session.place(passage, read);
        }
    }
    let made = session.run(&passages, &[crate::dual::TEXT_EMBEDS])?;
    Ok(Ok(made.iter().map(|row| unit(&row[0].to_f32())).collect()))
}

fn of_images(model: &DualEncoder, file: &Checkpoint) -> Result<Rows> {
    if !file.contains(IMAGES) {
        return Ok(Err(format!("the file has no {IMAGES}")));
    }
    let pixels = file.read(IMAGES)?;
    let images = match (pixels.shape().dims(), file.contains(GRIDS)) {
        ([_, _, _, _], _) => vec![pixels],
        (&[batch, _, _], true) => {
            let grids = file.ids(GRIDS)?;
            let grids = grids.as_u32().unwrap_or_default();
            let info = model.images().info();
            let made = (0..batch).map(|i| {
                let rows = &pixels.to_f32()[i * pixels.shape().elements() / batch..];
                let grid = [grids[2 * i] as usize, grids[2 * i + 1] as usize];
                planes(rows, grid, info.patch, info.channels)
            });
            match made.collect::<Option<Vec<_>>>() {
                Some(made) => made,
                None => return Ok(Err(format!("{GRIDS} does not fit {IMAGES}"))),
            }
        }
        _ => return Ok(Err(format!("{IMAGES} has shape {}, expected (B,3,H,W)", pixels.shape()))),
    };
    let mut all = Vec::new();
    for image in &images {
        let made = model.images().run_tensor(image, &[IMAGE_EMBEDS])?;
        all.extend(made[0].to_f32().chunks(model.matching().width).map(unit));
    }
    Ok(Ok(all))
}

/// An image (1,Ch,H,W) of its patches (N,P·P·Ch), channels innermost; `None` if there are too few.
fn planes(rows: &[f32], grid: [usize; 2], patch: [usize; 2], channels: usize) -> Option<HostTensor> {
    let [h, w] = [grid[0] * patch[0], grid[1] * patch[1]];
    let rows = rows.get(..h * w * channels).filter(|rows| !rows.is_empty())?;
    let mut image = vec![0.0; rows.len()];
    for (at, x) in rows.iter().enumerate() {
        let (channel, pixel) = (at % channels, at / channels);
        let (within, number) = (pixel % (patch[0] * patch[1]), pixel / (patch[0] * patch[1]));
        let y = number / grid[1] * patch[0] + within / patch[1];
        image[(channel * h + y) * w + number % grid[1] * patch[1] + within % patch[1]] = *x;
    }
    Some(HostTensor::f32([1, channels, h, w], image))
}
