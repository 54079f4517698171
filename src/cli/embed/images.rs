//! Embeddings of images: what the model's head reads, token 0, or the mean of the patches.

use crate::printable::escaped;
use std::time::Instant;

use rayon::prelude::*;

use super::answers::Answers;
use crate::cli::embed::args::{EmbedArgs, Pooling, Vector};
use crate::cli::inputs::Input;
use crate::cli::locate::Found;
use crate::cli::open::{self, Opened};
use crate::cli::outcome::{Outcome, Stop};
use crate::cli::output::millis;
use crate::cli::pixels::{Ready, decode, decode_options, of_one_size, preprocess};
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::image::preprocess::{Pixels, Preprocess};
use crate::models::ModelInfo;
use crate::session::Session;
use crate::tensor::Size;

/// Images computed at a time where nothing is said.
const BATCH: u32 = 8;

/// Runs the command on a model of images and yields its exit code.
pub(super) fn run(
    args: &EmbedArgs,
    found: Found,
    inputs: &[Input],
    talk: Talk,
    out: &mut Sink<'_, Vector>,
) -> Outcome {
    let begun = Instant::now();
    let id = found.id.clone();
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let opened = open::open(found, &options, talk)?;
    let preprocess = preprocess(&args.image, &opened, talk)?;
    let decoding = decode_options(&args.image);
    let size = preprocess.size().unwrap_or(opened.session.info().image_size);
    let pooled = Pooled::new(args.pool, &opened, size)?;
    let mut answers = Answers::new(args.normalize, &mut *out, begun, talk);
    let mut said = 0;
    let mut answer = || {
        for chunk in inputs.chunks(args.batch_size.unwrap_or(BATCH) as usize) {
            let mut ready: Vec<Ready> =
                chunk.par_iter().map(|input| decode(input, &decoding, &preprocess)).collect();
            let begun = Instant::now();
            let vectors = pooled.of(&mut ready, &opened.session, &preprocess);
            answers.timing.run += millis(begun.elapsed());
            let warnings = opened.session.warnings();
            warnings.iter().skip(said).for_each(|w| talk.warn(w));
            said = warnings.len();
            for (ready, vector) in ready.into_iter().zip(vectors?) {
                answers.timing.decode += millis(ready.took);
                for note in &ready.notes {
                    talk.detail(format_args!("{}: {note}", escaped(&ready.name)));
                }
                match vector {
                    Ok(vector) => answers.good(None, ready.name, vector)?,
                    Err(e) => {
                        let what = match &e {
                            Error::Input { what, .. } => what.clone(),
                            other => other.message(),
                        };
                        answers.bad(None, ready.name, what, &e)?;
                    }
                }
            }
        }
        Ok::<(), Stop>(())
    };
    let outcome = answer();
    answers.end((opened.model, pooled.name), &opened.device, outcome, &id)
}

/// Which output is taken, and what becomes of it.
pub(in crate::cli) struct Pooled {
    name: &'static str,
    output: &'static str,
    /// Tokens of the output that are averaged: from here on.
    from: Option<usize>,
    /// Or the one that is taken.
    only: Option<usize>,
}

impl Pooled {
    /// An output that is a vector of each image already.
    pub(in crate::cli) fn output(output: &'static str) -> Self {
        Self { name: output, output, from: None, only: None }
    }

    /// # Errors
    /// [`Error::Usage`] if the model does not have what is asked for.
    fn new(pool: Option<Pooling>, opened: &Opened, size: Size) -> Result<Self> {
        let info: &ModelInfo = opened.session.info();
        let (name, output, from, only) = match pool {
            None => ("embedding", "embedding", None, None),
            Some(Pooling::Pooler) => ("pooler", "pooler_output", None, None),
            Some(Pooling::Mean) => ("mean", "last_hidden_state", Some(info.prefix_tokens), None),
            Some(Pooling::Cls) if info.cls_token => ("cls", "last_hidden_state", None, Some(0)),
            Some(Pooling::Cls) => {
                let what = format!("{} has no class token", opened.model.id);
                return Err(Error::usage(what, "take --pool mean, or leave --pool away"));
            }
        };
        if !opened.session.output_names(size)?.iter().any(|n| n == output) {
            let what = format!("{} has no `{output}` to take", opened.model.id);
            return Err(Error::usage(what, "choose another --pool, or leave it away"));
        }
        Ok(Self { name, output, from, only })
    }

    /// A vector of each image, or why there is none.
    ///
    /// # Errors
    /// Those that are not an image's own: device errors.
    pub(in crate::cli) fn of(
        &self,
        ready: &mut [Ready],
        session: &Session,
        preprocess: &Preprocess,
    ) -> Result<Vec<Result<Vec<f32>>>> {
        let mut vectors: Vec<Result<Vec<f32>>> = Vec::new();
        let mut sizes: Vec<Size> = Vec::new();
        for r in ready.iter() {
            match &r.picture {
                Ok(picture) if !sizes.contains(&picture.size) => sizes.push(picture.size),
                _ => {}
            }
            vectors.push(r.picture.as_ref().map(|_| Vec::new()).map_err(Clone::clone));
        }
        for size in sizes {
            let of_size = |r: &Ready| r.picture.as_ref().is_ok_and(|p| p.size == size);
            let members: Vec<usize> = (0..ready.len()).filter(|&i| of_size(&ready[i])).collect();
            let pictures = ready.iter().filter(|r| of_size(r)).filter_map(|r| r.picture.as_ref().ok());
            let pixels: Vec<&Pixels> = pictures.map(|p| &p.pixels).collect();
            let made = match session.run(&pixels, size, &[self.output]) {
                Ok(made) => made,
                Err(e) if of_one_size(&e, preprocess) => {
                    for i in members {
                        ready[i].refuse(&e);
                        vectors[i] = ready[i].picture.as_ref().map(|_| Vec::new()).map_err(Clone::clone);
                    }
                    continue;
                }
                Err(e) => return Err(e),
            };
            let all = made[0].as_f32().unwrap_or_default();
            let each = all.len() / members.len();
            let width = made[0].shape().width();
            for (row, &i) in all.chunks(each).zip(&members) {
                let broken = row.iter().filter(|x| !x.is_finite()).count();
                vectors[i] = if broken > 0 {
                    let what = format!("{} for {}", self.output, ready[i].name);
                    Err(Error::NonFinite { what, count: broken, total: row.len() })
                } else {
                    Ok(self.pool(row, width))
                };
            }
        }
        Ok(vectors)
    }

    /// One vector of tokens of a width.
    fn pool(&self, row: &[f32], width: usize) -> Vec<f32> {
        if let Some(at) = self.only {
            return row[at * width..(at + 1) * width].to_vec();
        }
        let Some(from) = self.from else { return row.to_vec() };
        let tokens = row.chunks(width).skip(from);
        let count = tokens.len().max(1) as f64;
        let mut sums = vec![0.0f64; width];
        for token in tokens {
            sums.iter_mut().zip(token).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        sums.into_iter().map(|sum| (sum / count) as f32).collect()
    }
}
