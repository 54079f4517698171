//! A generator measured: the plans of a prompt, of one token and of an image's decoding, ready to be
//! timed like any other plan.

use std::sync::Arc;

use super::generator::Generator;
use crate::checkpoint::Checkpoint;
use crate::clock::Instant;
use crate::error::{Advice, Error, Result};
use crate::gpu::{Gpu, States};
use crate::graph::Graph;
use crate::models::sequence::{CLASSES, New, ROTARY, STEP, TOKENS};
use crate::ops::{Guidance, Sampling};
use crate::plan::Plan;
use crate::session::measure::Prepared;
use crate::session::{ENTROPY, Engine, SETTINGS, STREAMS};
use crate::tensor::HostTensor;

impl Generator {
    /// The device, unless it is the reference.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.runtime.gpu()
    }

    /// The decoder's tensors.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.runtime.checkpoint
    }

    /// The graph that decodes so many images, and the file of its tensors; `None` if the host decodes.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn picture_graph(&self, pictures: usize) -> Result<Option<(Graph, &Checkpoint)>> {
        Ok(self
            .codec
            .decoding(self.info(), pictures)?
            .map(|(graph, _, runtime)| (graph, &runtime.checkpoint)))
    }

    /// The plan of one of this model's graphs on its device (WebGPU's default limits on the reference).
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn plan_of(&self, graph: &Graph) -> Result<Plan> {
        self.runtime.plan(graph)
    }

    /// Makes everything ready to time a prompt of no tokens, one token in the middle of an image, and
    /// the decoding of an image (if that is the device's work): their names, and what runs.
    ///
    /// # Errors
    /// [`Error::Usage`] on the reference; [`Error::OutOfMemory`] and [`Error::Limit`] where the samples
    /// do not fit: nothing is halved.
    pub fn prepare(&self, samples: usize) -> Result<Vec<(&'static str, Prepared)>> {
        let Engine::Gpu { gpu, .. } = &self.runtime.engine else {
            let what = "the reference has no launches to measure";
            return Err(Error::usage(what, Advice::Adapter));
        };
        if samples == 0 {
            return Err(Error::usage("no samples", "take at least one"));
        }
        let guided = self.info().guided;
        let states = States::new();
        let mut parts = Vec::new();
        for (name, new) in [("prompt", New::Prompt(0)), ("token", New::LAST)] {
            let begun = Instant::now();
            let graph = self.graph(samples, guided, new)?;
            parts.push((name, self.runtime.prepare(&graph, &states, Vec::new(), begun)?));
        }
        self.fill(gpu, &states, samples, guided)?;
        let begun = Instant::now();
        if let Some((graph, input, runtime)) = self.codec.decoding(self.info(), samples)? {
            let inputs = vec![("x".to_owned(), input)];
            parts.push(("image", runtime.prepare(&graph, &States::new(), inputs, begun)?));
        }
        Ok(parts)
    }

    /// Sequences that are half drawn.
    fn fill(&self, gpu: &Gpu, states: &States, samples: usize, guided: bool) -> Result<()> {
        let info = self.info();
        let (rows, length) = (if guided { 2 * samples } else { samples }, info.tokens + 1);
        let scale = info.defaults.cfg_scale;
        let sampling = Sampling {
            seed: 1,
            temperature: info.defaults.temperature,
            top_k: info.defaults.top_k,
            top_p: info.defaults.top_p,
            guidance: Guidance { first: scale, last: scale, places: 1 },
        };
        let half = (info.tokens / 2) as u32;
        states.write(gpu, STEP, HostTensor::u32([4], vec![half, 0, 0, 0]))?;
        states.write(gpu, TOKENS, HostTensor::u32([samples, length], vec![0; samples * length]))?;
        states.write(gpu, SETTINGS, sampling.tensor())?;
        states.write(gpu, STREAMS, HostTensor::u32([samples], (0..samples as u32).collect()))?;
        states.write(gpu, ENTROPY, HostTensor::f32([samples, length], vec![0.0; samples * length]))?;
        if info.classes.is_some() {
            states.write(gpu, CLASSES, HostTensor::u32([rows], vec![0; rows]))?;
        }
        let raster: Vec<u32> = (0..info.tokens as u32).collect();
        self.decoder.rotary(&raster).map_or(Ok(()), |table| states.write(gpu, ROTARY, table))
    }
}
