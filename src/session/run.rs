//! Pictures in, tensors out: batches cut to what fits, an executor for each shape, and runs that are
//! waited for later, so that the host prepares one batch while the device works on another.

use std::ops::Range;
use std::sync::Arc;

use super::batch::{Pictures, bucket, first_of_batch, join_batches};
use super::{Engine, Key, MAX_EXECUTORS, Session, State};
use crate::error::{Error, Result};
use crate::gpu::{Executor, Gpu, Running, Store};
use crate::reference;
use crate::tensor::HostTensor;

/// Pictures that the device works on, or has answered already.
pub struct PendingPictures(Pending);

enum Pending {
    Running(Started),
    Done(Vec<HostTensor>),
}

/// A batch under way: `count` pictures, padded to `batch`.
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
    /// Runs pictures of one size. `pixels`: each (H,W,3) bytes of `size` = (height, width), as
    /// [`pixels`](crate::data::preprocess::Preprocess::pixels) gives them. Returns one tensor per output,
    /// batch first.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown output or pictures of another size; device errors.
    pub fn run_pixels(
        &self,
        pixels: &[&[u8]],
        size: [usize; 2],
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        check_pixels(pixels, size)?;
        self.run_batch(&Pictures::Bytes(pixels), size, outputs)
    }

    /// As [`Session::run_pixels`], but comes back as soon as the device has the work, so that the
    /// next pictures can be brought to it meanwhile. [`Session::finish_pixels`] waits; at most two
    /// batches should be under way, since each holds memory for its results.
    ///
    /// # Errors
    /// As [`Session::run_pixels`].
    pub fn start_pixels(
        &self,
        pixels: &[&[u8]],
        size: [usize; 2],
        outputs: &[&str],
    ) -> Result<PendingPictures> {
        check_pixels(pixels, size)?;
        let pictures = Pictures::Bytes(pixels);
        let count = pixels.len();
        if count > 0 && !outputs.is_empty() && matches!(self.engine, Engine::Gpu { .. }) {
            let mut state = self.state.lock().expect("no panic happens while this lock is held");
            if count <= state.max_batch {
                match self.start_part(&mut state, &pictures, 0..count, size, outputs) {
                    Ok(started) => return Ok(PendingPictures(Pending::Running(started))),
                    Err(Error::OutOfMemory { .. } | Error::Limit { .. }) if count > 1 => {
                        self.halve(&mut state, count);
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(PendingPictures(Pending::Done(self.run_batch(&pictures, size, outputs)?)))
    }

    /// Waits for pictures that [`Session::start_pixels`] was given; they are passed again so that a
    /// batch for which the device turned out too small can be run in parts.
    ///
    /// # Errors
    /// As [`Session::run_pixels`].
    pub fn finish_pixels(
        &self,
        pending: PendingPictures,
        pixels: &[&[u8]],
        size: [usize; 2],
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        let started = match pending.0 {
            Pending::Done(results) => return Ok(results),
            Pending::Running(started) => started,
        };
        match started.wait() {
            Err(Error::OutOfMemory { .. }) if pixels.len() > 1 => {
                let mut state = self.state.lock().expect("no panic happens while this lock is held");
                self.halve(&mut state, pixels.len());
                drop(state);
                self.run_batch(&Pictures::Bytes(pixels), size, outputs)
            }
            results => results,
        }
    }

    /// Runs a batch of normalised pictures. `image`: (B,Ch,H,W) f32. Returns one tensor per
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
        self.run_batch(&Pictures::Planes { data, per_picture: channels * h * w }, [h, w], outputs)
    }

    fn run_batch(&self, pictures: &Pictures, size: [usize; 2], outputs: &[&str]) -> Result<Vec<HostTensor>> {
        let total = pictures.count();
        if total == 0 || outputs.is_empty() {
            return Err(Error::usage("nothing to run", "pass at least one picture and one output name"));
        }
        let mut state = self.state.lock().expect("no panic happens while this lock is held");
        let mut parts: Vec<Vec<HostTensor>> = Vec::new();
        let mut first = 0;
        while first < total {
            let n = (total - first).min(state.max_batch);
            match self.run_part(&mut state, pictures, first..first + n, size, outputs) {
                Ok(results) => {
                    parts.push(results);
                    first += n;
                }
                Err(Error::OutOfMemory { .. } | Error::Limit { .. }) if n > 1 => {
                    self.halve(&mut state, n);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(join_batches(parts))
    }

    /// Goes on with half of a batch that did not fit.
    fn halve(&self, state: &mut State, n: usize) {
        state.executors.clear();
        state.max_batch = n / 2;
        self.warn(format!("a batch of {n} does not fit the device; going on with {}", n / 2));
    }

    fn run_part(
        &self,
        state: &mut State,
        pictures: &Pictures,
        range: Range<usize>,
        size: [usize; 2],
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        if matches!(self.engine, Engine::Gpu { .. }) {
            return self.start_part(state, pictures, range, size, outputs)?.wait();
        }
        let bytes = matches!(pictures, Pictures::Bytes(_));
        let graph = self.whole_graph(range.len(), size, bytes)?.select(outputs)?;
        let image = pictures.tensor(range.clone(), range.len(), size, self.info().channels);
        reference::run(&graph, &|w, s| self.weight(w, s), &[("image", image)])
    }

    fn start_part(
        &self,
        state: &mut State,
        pictures: &Pictures,
        range: Range<usize>,
        size: [usize; 2],
        outputs: &[&str],
    ) -> Result<Started> {
        let Engine::Gpu { gpu, store } = &self.engine else {
            return Err(Error::usage("the reference computes at once", "call run_pixels"));
        };
        let count = range.len();
        let batch = bucket(count).min(state.max_batch.max(count));
        let bytes = matches!(pictures, Pictures::Bytes(_));
        let names: Vec<String> = outputs.iter().map(|&o| o.to_owned()).collect();
        let key = Key { bytes, batch, size, outputs: names };
        let executor = self.ready(gpu, store, state, &key)?;
        let image = pictures.tensor(range, batch, size, self.info().channels);
        Ok(Started { running: executor.start(&[("image", &image)])?, count, batch })
    }

    /// The executor for a key, made if there is none.
    fn ready<'s>(
        &self,
        gpu: &Arc<Gpu>,
        store: &Store,
        state: &'s mut State,
        key: &Key,
    ) -> Result<&'s mut Executor> {
        if !state.executors.iter().any(|(k, _)| k == key) {
            if state.executors.len() >= MAX_EXECUTORS {
                state.executors.remove(0);
            }
            let outputs: Vec<&str> = key.outputs.iter().map(String::as_str).collect();
            let graph = self.whole_graph(key.batch, key.size, key.bytes)?.select(&outputs)?;
            let plan = self.compile(gpu, &graph)?;
            store.load(gpu, &plan, &|w, s| self.weight(w, s))?;
            state.executors.push((key.clone(), Executor::new(gpu.clone(), plan, store)?));
        }
        let found = state.executors.iter_mut().find(|(k, _)| k == key);
        Ok(&mut found.expect("it was pushed above if it was not there").1)
    }
}

fn check_pixels(pixels: &[&[u8]], size: [usize; 2]) -> Result<()> {
    let bytes = size[0] * size[1] * 3;
    match pixels.iter().find(|p| p.len() != bytes) {
        None => Ok(()),
        Some(bad) => {
            let what = format!("a picture has {} bytes, {}x{} RGB has {bytes}", bad.len(), size[1], size[0]);
            Err(Error::usage(what, "pass what Preprocess::pixels returns"))
        }
    }
}
