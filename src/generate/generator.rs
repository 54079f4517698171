//! A generative checkpoint made ready: its decoder, its codec, and what runs them.

use super::codec::{self, PatchCodec};
use crate::error::Result;
use crate::labels::Labels;
use crate::models::sequence::{GeneratorInfo, ImageDecoder};
use crate::models::{self, AnyModel};
use crate::plan::Precision;
use crate::session::{DeviceInfo, ModelFiles, ModelSource, Options, Runtime};
use crate::textfile;

/// Stands for a token that is not drawn yet.
pub const NOT_DRAWN: u32 = u32::MAX;

/// A generative checkpoint made ready.
pub struct Generator {
    pub(super) decoder: Box<dyn ImageDecoder>,
    pub(super) codec: Box<dyn PatchCodec>,
    labels: Labels,
    pub(super) runtime: Runtime,
}

impl Generator {
    /// Opens a generative model on a device. Weights are uploaded by the first use.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for anything wrong with the files, [`crate::Error::NoDevice`] for the device.
    pub fn open(source: &ModelSource, options: &Options) -> Result<Self> {
        Self::from_files(source.read(options.mmap)?, options)
    }

    /// Makes files that were read ready on a device.
    ///
    /// # Errors
    /// As [`Generator::open`].
    pub fn from_files(mut files: ModelFiles, options: &Options) -> Result<Self> {
        let decoder = models::from_config(&files.config, files.checkpoint.index(), picture_size(&files))
            .and_then(AnyModel::generator)
            .map_err(|e| e.within(&files.name))?;
        let info = decoder.info();
        let labels = Labels::from_config(&files.config, info.classes.unwrap_or(0));
        let mut warnings = info.warnings.clone();
        warnings.append(&mut files.warnings);
        if info.classes.is_some() {
            warnings.extend(labels.warnings.iter().cloned());
        }
        let codec = codec::read(&mut files, info).map_err(|e| e.within(&files.name))?;
        let runtime = Runtime::open(files.name, files.checkpoint, warnings, options)?;
        let codec = codec.ready(&runtime);
        Ok(Self { decoder, codec, labels, runtime })
    }

    /// What the model is.
    pub fn info(&self) -> &GeneratorInfo {
        self.decoder.info()
    }

    /// What scores the next token.
    pub(crate) fn decoder(&self) -> &dyn ImageDecoder {
        &*self.decoder
    }

    /// The folder, file or builtin name the model was opened from.
    pub fn name(&self) -> &str {
        &self.runtime.name
    }

    /// Names of the classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The device that works.
    pub fn device(&self) -> &DeviceInfo {
        &self.runtime.device
    }

    /// Storage types in use.
    pub fn precision(&self) -> Precision {
        self.runtime.precision
    }

    /// What a user should hear, as far as known now.
    pub fn warnings(&self) -> Vec<String> {
        self.runtime.warnings()
    }
}

/// Height and width that the preprocessor states, if it does so plainly.
fn picture_size(files: &ModelFiles) -> Option<[usize; 2]> {
    let json = textfile::json(files.preprocessor.as_ref()?.1.as_bytes()).ok()?;
    let side = |v: &serde_json::Value| {
        v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=8192).contains(n))
    };
    let size = json.get("size")?;
    match side(size) {
        Some(side) => Some([side, side]),
        None => Some([side(size.get("height")?)?, side(size.get("width")?)?]),
    }
}
