//! A generator measured: the plans of a prompt, of one token and of a picture's decoding, ready to be
//! timed like any other plan.

use std::time::Instant;

use super::Generator;
use crate::data::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::gpu::{Executor, Gpu, States};
use crate::graph::Graph;
use crate::models::sequence::{CLASSES, New, ROTARY, STEP, TOKENS};
use crate::ops::{Guidance, Sampling, Target};
use crate::plan::{self, Plan};
use crate::session::measure::{Preparation, Prepared};
use crate::session::{ENTROPY, Engine, SETTINGS, STREAMS};
use crate::tensor::HostTensor;
use std::sync::Arc;

impl Generator {
    /// The device, unless it is the reference.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.runtime.gpu()
    }

    /// The decoder's tensors.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.runtime.checkpoint
    }

    /// The graph that decodes so many pictures, and the file of its tensors; `None` if the host decodes.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn picture_graph(&self, pictures: usize) -> Result<Option<(Graph, &Checkpoint)>> {
        Ok(self.codec.decoding(self, pictures)?.map(|(graph, _, checkpoint)| (graph, checkpoint)))
    }

    /// The plan of one of this model's graphs on its device (WebGPU's default limits on the reference).
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn plan_of(&self, graph: &Graph) -> Result<Plan> {
        let target = self.gpu().map_or_else(Target::portable, |gpu| gpu.target().clone());
        plan::compile(graph, &target, self.runtime.plan_options())
    }

    /// Makes everything ready to time a prompt of no tokens, one token in the middle of a picture, and
    /// the decoding of a picture (if that is the device's work): their names, and what runs.
    ///
    /// # Errors
    /// [`Error::Usage`] on the reference; [`Error::OutOfMemory`] and [`Error::Limit`] where the samples
    /// do not fit: nothing is halved.
    pub fn prepare(&self, samples: usize) -> Result<Vec<(&'static str, Prepared)>> {
        let Engine::Gpu { gpu, .. } = &self.runtime.engine else {
            let what = "the reference has no launches to measure";
            return Err(Error::usage(what, "choose an adapter of `vit-gpu devices`"));
        };
        if samples == 0 {
            return Err(Error::usage("no samples", "take at least one"));
        }
        let guided = self.info().guided;
        let states = States::new();
        let mut parts = Vec::new();
        for (name, new) in [("prompt", New::Prompt(0)), ("token", New::LAST)] {
            let graph = self.graph(samples, guided, new)?;
            parts.push((name, self.ready(&graph, &states, Vec::new(), |w, s| self.runtime.weight(w, s))?));
        }
        self.fill(gpu, &states, samples, guided)?;
        if let Some((graph, input, checkpoint)) = self.codec.decoding(self, samples)? {
            let load = |w: &_, s| crate::data::materialise::materialise(w, s, checkpoint);
            parts.push(("picture", self.ready(&graph, &States::new(), vec![("x".to_owned(), input)], load)?));
        }
        Ok(parts)
    }

    fn ready(
        &self,
        graph: &Graph,
        states: &States,
        inputs: Vec<(String, HostTensor)>,
        load: impl Fn(&crate::graph::Weight, crate::tensor::Shape) -> Result<HostTensor> + Sync,
    ) -> Result<Prepared> {
        let Engine::Gpu { gpu, store } = &self.runtime.engine else {
            return Err(Error::usage("the reference has no plans", "choose an adapter"));
        };
        let start = Instant::now();
        // Before the lock is taken: the options are read under it.
        let options = self.runtime.plan_options();
        self.runtime.tuning().learn(gpu, graph, options)?;
        let tuned = Instant::now();
        let plan = plan::compile(graph, gpu.target(), self.runtime.plan_options())?;
        let planned = Instant::now();
        store.load(gpu, &plan, &load)?;
        let uploaded = Instant::now();
        let executor = Executor::with_states(gpu.clone(), plan, store, states)?;
        let preparation = Preparation {
            tune: (tuned - start).as_secs_f64(),
            plan: (planned - tuned).as_secs_f64(),
            upload: (uploaded - planned).as_secs_f64(),
            pipelines: uploaded.elapsed().as_secs_f64(),
        };
        Ok(Prepared::new(executor, inputs, preparation))
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
