//! Images in, tensors out: batches cut to what fits, an executor for each shape, and runs that are
//! waited for later, so that the host prepares one batch while the device works on another.

use std::ops::Range;
use std::sync::MutexGuard;

use super::batch::{Images, first_of_batch, join_batches, padded_batch};
use super::vision::Session;
use crate::error::{Error, Result};
use crate::gpu::Running;
use crate::graph::Graph;
use crate::image::preprocess::Pixels;
use crate::tensor::{HostTensor, Size};

/// Images that the device works on, or has answered already. It owns what it needs to run them in parts, if
/// the device turns out too small for the batch.
pub struct Pending<'a> {
    session: &'a Session,
    images: Vec<Pixels>,
    size: Size,
    outputs: Vec<String>,
    state: State,
}

enum State {
    Running(Started),
    Done(Vec<HostTensor>),
}

impl Pending<'_> {
    /// The images, as [`Session::start`] was given them.
    pub fn images(&self) -> &[Pixels] {
        &self.images
    }

    /// Waits for the answers: one tensor per output, batch first.
    ///
    /// # Errors
    /// As [`Session::run_pixels`].
    pub fn wait(self) -> Result<Vec<HostTensor>> {
        let started = match self.state {
            State::Done(results) => return Ok(results),
            State::Running(started) => started,
        };
        let (session, count) = (self.session, self.images.len());
        let results = session.runtime.fitting(started.wait(), count, &mut session.max_batch(), "")?;
        results.map_or_else(
            || {
                let images: Vec<&Pixels> = self.images.iter().collect();
                let outputs: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
                session.run(&images, self.size, &outputs)
            },
            Ok,
        )
    }
}

/// A batch under way: `count` images, padded to `batch`.
struct Started {
    running: Running,
    count: usize,
    batch: usize,
}

impl Started {
    fn wait(self) -> Result<Vec<HostTensor>> {
        let results = self.running.wait()?.into_iter();
        Ok(results.map(|t| first_of_batch(t, self.count, self.batch)).collect())
    }
}

impl Session {
    /// Runs images of one size. `pixels`: each (H,W,3) bytes of `size` = (height, width), as
    /// [`pixels`](crate::image::preprocess::Preprocess::pixels) gives them. Returns one tensor per output,
    /// batch first.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown output or images of another size; device errors.
    pub fn run_pixels(
        &self,
        pixels: &[&[u8]],
        size: impl Into<Size>,
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        let size = size.into();
        check_pixels(pixels, size)?;
        self.run_batch(&Images::Bytes(pixels), size, outputs)
    }

    /// Runs images of one size, as [`prepare`](crate::image::preprocess::Preprocess::prepare) gives them.
    /// Returns one tensor per output, batch first.
    ///
    /// # Errors
    /// As [`Session::run_pixels`].
    pub fn run(
        &self,
        images: &[&Pixels],
        size: impl Into<Size>,
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        let size = size.into();
        of_one_kind(images, size, |images| self.run_batch(images, size, outputs))
    }

    /// As [`Session::run`], but comes back as soon as the device has the work, so that the next
    /// images can be brought to it meanwhile. At most two batches should be under way, since each holds
    /// memory for its results.
    ///
    /// # Errors
    /// As [`Session::run_pixels`].
    pub fn start(&self, images: Vec<Pixels>, size: impl Into<Size>, outputs: &[&str]) -> Result<Pending<'_>> {
        let size = size.into();
        let (all, count): (Vec<&Pixels>, usize) = (images.iter().collect(), images.len());
        let state = of_one_kind(&all, size, |all| {
            let mut running = None;
            if count > 0 && !outputs.is_empty() && self.runtime.gpu().is_some() {
                let mut most = self.max_batch();
                if count <= *most {
                    let started = self.start_part(*most, all, 0..count, size, outputs);
                    running = self.runtime.fitting(started, count, &mut most, "")?;
                }
            }
            Ok(match running {
                Some(started) => State::Running(started),
                None => State::Done(self.run_batch(all, size, outputs)?),
            })
        })?;
        let outputs = outputs.iter().map(|&name| name.to_owned()).collect();
        Ok(Pending { session: self, images, size, outputs, state })
    }

    /// Runs a batch of normalised images. `image`: (B,Ch,H,W) f32. Returns one tensor per
    /// output, batch first.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown output or an image that is not f32 of rank 4; device errors.
    pub fn run_tensor(&self, image: &HostTensor, outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let (&[_, channels, h, w], Some(data)) = (image.shape().dims(), image.as_f32()) else {
            let what = format!("image is {}, expected f32 [B,Ch,H,W]", image.desc());
            return Err(Error::usage(what, "normalise it as the model's preprocessing says"));
        };
        if channels != self.info().channels {
            let what = format!("image has {channels} channels, the model takes {}", self.info().channels);
            return Err(Error::usage(what, "pass planes in the order the model was trained with"));
        }
        let planes: Vec<&[f32]> = data.chunks((channels * h * w).max(1)).collect();
        self.run_batch(&Images::Planes(&planes), Size { height: h, width: w }, outputs)
    }

    fn run_batch(&self, pictures: &Images, size: Size, outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let total = pictures.count();
        if total == 0 || outputs.is_empty() {
            return Err(Error::usage("nothing to run", "pass at least one image and one output name"));
        }
        let mut most = self.max_batch();
        let mut parts: Vec<Vec<HostTensor>> = Vec::new();
        let mut first = 0;
        while first < total {
            let n = (total - first).min(*most);
            let results = self.run_part(*most, pictures, first..first + n, size, outputs);
            if let Some(results) = self.runtime.fitting(results, n, &mut most, "")? {
                parts.push(results);
                first += n;
            }
        }
        Ok(join_batches(parts))
    }

    fn max_batch(&self) -> MutexGuard<'_, usize> {
        self.max_batch.lock().expect("no panic happens while this lock is held")
    }

    fn run_part(
        &self,
        most: usize,
        pictures: &Images,
        range: Range<usize>,
        size: Size,
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        if self.runtime.gpu().is_some() {
            return self.start_part(most, pictures, range, size, outputs)?.wait();
        }
        let image = pictures.tensor(range.clone(), range.len(), size, self.info().channels);
        self.runtime.run(&(), || self.graph_of(pictures, range.len(), size, outputs), &[("image", image)])
    }

    fn start_part(
        &self,
        most: usize,
        pictures: &Images,
        range: Range<usize>,
        size: Size,
        outputs: &[&str],
    ) -> Result<Started> {
        let count = range.len();
        let batch = padded_batch(count).min(most.max(count));
        let image = pictures.tensor(range, batch, size, self.info().channels);
        let key = (image.desc(), outputs);
        let graph = || self.graph_of(pictures, batch, size, outputs);
        let running = self.runtime.with_executor(&key, graph, |e| e.start(&[("image", &image)]))?;
        Ok(Started { running, count, batch })
    }

    fn graph_of(&self, pictures: &Images, batch: usize, size: Size, outputs: &[&str]) -> Result<Graph> {
        self.whole_graph(batch, size, matches!(pictures, Images::Bytes(_)))?.select(outputs)
    }
}

/// Does `run` for images that are all bytes, or all floats.
fn of_one_kind<T>(images: &[&Pixels], size: Size, run: impl FnOnce(&Images) -> Result<T>) -> Result<T> {
    let (mut bytes, mut planes): (Vec<&[u8]>, Vec<&[f32]>) = (Vec::new(), Vec::new());
    for image in images {
        match image {
            Pixels::Bytes(one) => bytes.push(one),
            Pixels::Floats(one) => planes.push(one),
        }
    }
    if planes.is_empty() {
        check_pixels(&bytes, size)?;
        return run(&Images::Bytes(&bytes));
    }
    let wrong = planes.iter().any(|one| one.len() != 3 * size.height * size.width);
    if wrong || !bytes.is_empty() {
        let what = format!("the images are not all bytes, or all floats, of {size}");
        return Err(Error::usage(what, "pass what Preprocess::prepare returns"));
    }
    run(&Images::Planes(&planes))
}

fn check_pixels(pixels: &[&[u8]], size: Size) -> Result<()> {
    let bytes = size.height * size.width * 3;
    match pixels.iter().find(|p| p.len() != bytes) {
        None => Ok(()),
        Some(bad) => {
            let what = format!("an image has {} bytes, {size} RGB has {bytes}", bad.len());
            Err(Error::usage(what, "pass what Preprocess::pixels returns"))
        }
    }
}
