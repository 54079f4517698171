//! A vision checkpoint made ready: files -> model -> graph.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::device::DeviceInfo;
use super::files::ModelFiles;
use super::measure::{Opening, Prepared};
use super::options::{ModelSource, Options};
use super::runtime::Runtime;
use crate::checkpoint::Checkpoint;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, States, tune};
use crate::graph::{Graph, Value};
use crate::image::preprocess::Preprocess;
use crate::labels::Labels;
use crate::models::{self, AnyModel, Model, ModelInfo};
use crate::plan::{Plan, Precision};
use crate::tensor::{DType, HostTensor, Size, TensorDesc};

/// A checkpoint made ready to answer.
pub struct Session {
    pub(super) model: Box<dyn Model>,
    pub(super) labels: Labels,
    pub(super) preprocess: Preprocess,
    pub(super) opening: Opening,
    pub(super) runtime: Runtime,
    /// The batch size that was found to fit.
    pub(super) max_batch: Mutex<usize>,
}

impl Session {
    /// Opens a model on a device. Weights are uploaded by the first run.
    ///
    /// # Errors
    /// [`Error::Model`] for anything wrong with the files, [`Error::NoDevice`] for the device.
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        let start = Instant::now();
        let mut session = Self::from_files(source.read(options.mmap)?, options)?;
        session.opening.files = start.elapsed().as_secs_f64() - session.opening.device;
        Ok(session)
    }

    /// Makes files that were read ready on a device.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn from_files(files: ModelFiles, options: &Options) -> Result<Self> {
        let start = Instant::now();
        let config = &files.config;
        let model = models::from_config(config, files.checkpoint.index(), None)
            .and_then(AnyModel::vision)
            .map_err(|e| e.within(&files.name))?;
        let info = model.info();
        let labels = Labels::from_config(config, info.classes.unwrap_or(0));
        let mut warnings = info.warnings.clone();
        warnings.extend(files.warnings);
        let preprocess = match &files.preprocessor {
            Some((name, text)) if info.channels == 3 => Preprocess::from_json(name, text, Some(info.family))?,
            stated => {
                let usual = Preprocess::default_for(info.family, info.image_size)?;
                if files.folder.is_some() && stated.is_none() {
                    warnings.push(format!(
                        "there is no preprocessor_config.json: images are prepared as {} does where nothing is \
                         said, which may not be how the model was trained",
                        usual.processor
                    ));
                }
                usual
            }
        };
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
    pub fn output_names(&self, size: impl Into<Size>) -> Result<Vec<String>> {
        let graph = self.whole_graph(1, size.into(), false)?;
        Ok(graph.outputs().iter().map(|(name, _)| name.clone()).collect())
    }

    /// The graph that yields the given outputs for a batch of u8 images of (height, width).
    ///
    /// # Errors
    /// If the model does not take that size or has no such output.
    pub fn graph(&self, batch: usize, size: impl Into<Size>, outputs: &[&str]) -> Result<Graph> {
        self.whole_graph(batch, size.into(), true)?.select(outputs)
    }

    /// The plan of that graph on this session's device (WebGPU's default limits on the reference).
    ///
    /// # Errors
    /// As [`Session::graph`], and [`Error::Limit`].
    pub fn plan(&self, batch: usize, size: impl Into<Size>, outputs: &[&str]) -> Result<Plan> {
        self.runtime.plan(&self.graph(batch, size, outputs)?)
    }

    /// Measures the kernel variants for a batch of images of (height, width), and keeps the fastest;
    /// `fresh` forgets what is known. `None` on the reference, which has one way.
    ///
    /// # Errors
    /// As [`Session::graph`], and device errors.
    pub fn tune(
        &self,
        batch: usize,
        size: impl Into<Size>,
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

    /// Every output for a batch of images, as bytes or as planes.
    pub(super) fn whole_graph(&self, batch: usize, size: Size, bytes: bool) -> Result<Graph> {
        let mut g = Graph::new();
        let channels = self.info().channels;
        let image: Value = if bytes {
            if channels != 3 {
                let what =
                    format!("the model takes images of {channels} channels, and 3 (RGB) are what is made");
                return Err(Error::model(self.name(), what, "run it on a tensor"));
            }
            let image = g.input("image", TensorDesc::new(DType::U8, [batch, size.height, size.width, 3]));
            let (scale, offset) = self.preprocess.normalise();
            g.scope("pixels");
            g.normalise(image, scale, offset)
        } else {
            g.input("image", TensorDesc::f32([batch, channels, size.height, size.width]))
        };
        self.model.build(&mut g, image).map_err(|e| e.within(self.name()))?;
        g.check()?;
        Ok(g)
    }

    /// The same images on the same device by what `wrap` makes of the model, with these classes; `tensors` are what
    /// it needs besides those of the checkpoint.
    pub(crate) fn wrapped(
        self,
        wrap: impl FnOnce(Box<dyn Model>) -> Box<dyn Model>,
        labels: Labels,
        tensors: &Checkpoint,
    ) -> Self {
        let checkpoint = self.runtime.checkpoint.with(tensors);
        let runtime = self.runtime.beside(self.runtime.name.clone(), checkpoint);
        Self { model: wrap(self.model), labels, runtime, ..self }
    }

    /// The model, for what runs it in ways of its own.
    pub(crate) fn model(&self) -> &dyn Model {
        &*self.model
    }

    /// What runs its graphs.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The device, unless it is the reference.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.runtime.gpu()
    }

    /// Makes everything ready to run images: `batch` of (height, width) made of noise, as bytes.
    ///
    /// # Errors
    /// [`Error::Usage`] on the reference, for a batch of none, and for unknown outputs;
    /// [`Error::OutOfMemory`] and [`Error::Limit`] where the batch does not fit: nothing is halved.
    pub fn prepare(&self, batch: usize, size: impl Into<Size>, outputs: &[&str]) -> Result<Prepared> {
        if batch == 0 {
            return Err(Error::usage("a batch of no images", "take at least one"));
        }
        let (begun, size) = (Instant::now(), size.into());
        let graph = self.graph(batch, size, outputs)?;
        let inputs = vec![("image".to_owned(), noise(batch, size))];
        self.runtime.prepare(&graph, &States::new(), inputs, begun)
    }
}

/// Images (B,H,W,3) of noise, the same every time.
fn noise(batch: usize, Size { height, width }: Size) -> HostTensor {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    HostTensor::u8([batch, height, width, 3], (0..batch * height * width * 3).map(|_| next()).collect())
}
