//! A model of any kind, made ready.

use crate::dual::DualEncoder;
use crate::error::Result;
use crate::generate::Generator;
use crate::session::{ModelFiles, ModelKind, ModelSource, Options, Session};
use crate::text::TextSession;

/// A model made ready, by what it does.
#[allow(clippy::large_enum_variant, reason = "there is one of it, and it lives long")]
pub enum AnySession {
    /// It looks at images.
    Vision(Session),
    /// It generates images token by token.
    Generator(Generator),
    /// It reads and writes texts.
    Text(TextSession),
    /// It brings images and texts into one space.
    Dual(DualEncoder),
}

impl AnySession {
    /// Makes files that were read ready on a device.
    ///
    /// # Errors
    /// As [`open`].
    pub fn from_files(files: ModelFiles, options: &Options) -> Result<Self> {
        Ok(match files.kind() {
            Some(ModelKind::Vision) if files.has_words() => {
                Self::Dual(DualEncoder::from_files(files, options)?)
            }
            // Of a model that is none of these, opening it says what is known.
            None | Some(ModelKind::Vision) => Self::Vision(Session::from_files(files, options)?),
            Some(ModelKind::Generator) => Self::Generator(Generator::from_files(files, options)?),
            Some(ModelKind::Text) => Self::Text(TextSession::from_files(files, options)?),
        })
    }
}

/// Opens a model on a device: a folder, a name on the hub, an embedded or a made-up one. Its files are read
/// once, and say what it is; weights are uploaded by the first use.
///
/// # Errors
/// [`crate::Error::Model`] for anything wrong with the files, [`crate::Error::NoDevice`] for the device,
/// [`crate::Error::Hub`] where the hub cannot deliver.
pub fn open(source: &ModelSource, options: &Options) -> Result<AnySession> {
    AnySession::from_files(source.read(options.mmap)?, options)
}
