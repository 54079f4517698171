//! A checkpoint made ready to answer: files -> model -> graph -> plan -> executor, cached
//! by shape. It knows no command line and prints nothing; what a user should hear is in
//! [`Session::warnings`].
//!
//! Batches above four are planned for the next of 6, 8, 12, 16, 24, ... and padded, so that a
//! directory of any size needs few plans. When the device runs out of memory the batch is halved
//! and the smaller size kept for the rest of the session.

mod batch;
mod device;
mod draw;
mod files;
pub mod measure;
mod run;
mod runtime;
mod token_loop;
mod tuning;

pub use crate::models::ModelKind;
pub(crate) use batch::padded_batch;
pub use device::DeviceInfo;
pub(crate) use device::open_device;
pub(crate) use draw::{ENTROPY, SETTINGS, STREAMS, draw_graph, score_graph};
pub use files::kind;
pub(crate) use files::{Files, read as read_files};
pub(crate) use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
pub(crate) use tuning::Tuning;

use crate::checkpoint::Checkpoint;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::gpu::{DeviceChoice, Gpu, Store, tune};
use crate::graph::{Graph, Value};
use crate::image::preprocess::Preprocess;
use crate::labels::Labels;
use crate::models::{self, AnyModel, Model, ModelInfo};
use crate::ops::Choices;
use crate::plan::{Plan, Precision};
use crate::selftest;
use crate::tensor::{DType, TensorDesc};
use measure::Opening;
pub use run::PendingPictures;
pub(crate) use runtime::Runtime;
pub(crate) use token_loop::TokenLoop;

/// Name of the embedded model, as `-m builtin:shapes`.
pub const BUILTIN: &str = "shapes";

/// Name of the embedded model that draws, as `-m builtin:shapes-gpt`.
pub const BUILTIN_GENERATOR: &str = "shapes-gpt";

/// What runs the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A GPU adapter.
    Gpu(DeviceChoice),
    /// The plain CPU reference: slow, and the oracle.
    Reference,
}

/// How a session runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What runs the graph.
    pub device: Device,
    /// Storage types; `None` takes f32.
    pub precision: Option<Precision>,
    /// Fuse the graph; off only to compare.
    pub fuse: bool,
    /// Map weight files instead of reading them.
    pub mmap: bool,
    /// Ways of computing ops that the user insists on.
    pub choices: Choices,
    /// Time that may go into measuring ways on first use; zero neither measures nor uses what was
    /// measured. Needs a cache folder.
    pub tuning_budget: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::Gpu(DeviceChoice::default()),
            precision: None,
            fuse: true,
            mmap: true,
            choices: Choices::default(),
            tuning_budget: Duration::ZERO,
        }
    }
}

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// Embedded in the library: [`BUILTIN`] or [`BUILTIN_GENERATOR`].
    Builtin(String),
    /// Random weights of a named size, made on the fly: `vit-b/16`, `llamagen-b`, `bert-base`.
    Synthetic(String),
    /// A folder with `config.json` and weights, or a weights file beside its `config.json`.
    Path(PathBuf),
}

/// What runs graphs, and the weights it holds.
pub(crate) enum Engine {
    Gpu { gpu: Arc<Gpu>, store: Store },
    Reference,
}

/// A checkpoint made ready to answer.
pub struct Session {
    model: Box<dyn Model>,
    labels: Labels,
    preprocess: Preprocess,
    opening: Opening,
    runtime: Runtime,
    /// The batch size that was found to fit.
    max_batch: Mutex<usize>,
}

impl Session {
    /// Opens a model on a device. Weights are uploaded by the first run.
    ///
    /// # Errors
    /// [`Error::Model`] for anything wrong with the files, [`Error::NoDevice`] for the device.
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        let start = Instant::now();
        let files = read_files(source, ModelKind::Vision, options.mmap)?;
        let config = &files.config;
        let model = models::from_config(config, files.checkpoint.index(), None)
            .and_then(AnyModel::vision)
            .map_err(|e| e.within(&files.name))?;
        let info = model.info();
        let labels = Labels::from_config(config, info.classes.unwrap_or(0));
        let preprocess = match &files.preprocessor {
            Some((name, text)) => Preprocess::from_json(name, text, Some(info.family))?,
            None => Preprocess::default_for(info.family, (info.image_size[0], info.image_size[1]))?,
        };
        let mut warnings = info.warnings.clone();
        if info.classes.is_some() {
            warnings.extend(labels.warnings.iter().cloned());
        }
        let read = Instant::now();
        let runtime = Runtime::open(files.name, files.checkpoint, warnings, options)?;
        let opening = Opening { files: (read - start).as_secs_f64(), device: read.elapsed().as_secs_f64() };
        Ok(Self { model, labels, preprocess, opening, runtime, max_batch: Mutex::new(usize::MAX) })
    }

    /// The folder, file or builtin name the model was opened from.
    pub fn name(&self) -> &str {
        &self.runtime.name
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// Names of the classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// How images become the model's input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The checkpoint behind the model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.runtime.checkpoint
    }

    /// The device that answers.
    pub fn device(&self) -> &DeviceInfo {
        &self.runtime.device
    }

    /// What it took to open it.
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// Storage types in use.
    pub fn precision(&self) -> Precision {
        self.runtime.precision
    }

    /// What a user should hear, as far as known now; weights add theirs when they are loaded.
    pub fn warnings(&self) -> Vec<String> {
        self.runtime.warnings()
    }

    /// Names of everything the model can produce for images of (height, width).
    ///
    /// # Errors
    /// If the model does not take that size.
    pub fn output_names(&self, size: [usize; 2]) -> Result<Vec<String>> {
        let graph = self.whole_graph(1, size, false)?;
        Ok(graph.outputs().iter().map(|(name, _)| name.clone()).collect())
    }

    /// The graph that yields the given outputs for a batch of u8 pictures of (height, width).
    ///
    /// # Errors
    /// If the model does not take that size or has no such output.
    pub fn graph(&self, batch: usize, size: [usize; 2], outputs: &[&str]) -> Result<Graph> {
        self.whole_graph(batch, size, true)?.select(outputs)
    }

    /// The plan of that graph on this session's device (WebGPU's default limits on the reference).
    ///
    /// # Errors
    /// As [`Session::graph`], and [`Error::Limit`].
    pub fn plan(&self, batch: usize, size: [usize; 2], outputs: &[&str]) -> Result<Plan> {
        self.runtime.plan(&self.graph(batch, size, outputs)?)
    }

    /// Measures the ways of computing a batch of pictures of (height, width), and keeps the fastest;
    /// `fresh` forgets what is known. `None` on the reference, which has one way.
    ///
    /// # Errors
    /// As [`Session::graph`], and device errors.
    pub fn tune(
        &self,
        batch: usize,
        size: [usize; 2],
        outputs: &[&str],
        budget: Duration,
        fresh: bool,
    ) -> Result<Option<tune::Report>> {
        self.runtime.tune(&self.graph(batch, size, outputs)?, budget, fresh)
    }

    /// Where measured choices are kept, if they are.
    pub fn tuning_file(&self) -> Option<PathBuf> {
        self.runtime.tuning_file()
    }

    /// Bytes of weights on the device so far.
    pub fn device_weight_bytes(&self) -> u64 {
        self.runtime.weight_bytes()
    }

    /// Every output for a batch of pictures, as bytes or as planes.
    fn whole_graph(&self, batch: usize, size: [usize; 2], bytes: bool) -> Result<Graph> {
        let mut g = Graph::new();
        let channels = self.info().channels;
        let image: Value = if bytes {
            if channels != 3 {
                let what = format!("the model takes {channels} channels, pictures have 3");
                return Err(Error::model(self.name(), what, "run it on a tensor"));
            }
            let image = g.input("image", TensorDesc::new(DType::U8, [batch, size[0], size[1], 3]));
            let (scale, offset) = self.preprocess.normalise();
            g.scope("pixels");
            g.normalise(image, scale, offset)
        } else {
            g.input("image", TensorDesc::f32([batch, channels, size[0], size[1]]))
        };
        self.model.build(&mut g, image).map_err(|e| e.within(self.name()))?;
        g.check()?;
        Ok(g)
    }
}

/// Runs every kernel on an adapter against the reference, on small awkward sizes.
///
/// # Errors
/// If the device cannot be opened or a kernel cannot run; wrong results are outcomes.
pub fn self_test(choice: &DeviceChoice) -> Result<Vec<selftest::Outcome>> {
    selftest::quick(&Arc::new(Gpu::open(choice)?))
}
