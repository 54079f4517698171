//! What to try after an error, as data: a library user reads its `Display`, which names no flag, and a
//! front end words it with the names of its own options.

use std::fmt;

/// What to try. `Display` words it for whoever uses the library.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Advice {
    /// There is nothing to try that the message does not say.
    #[default]
    Nothing,
    /// Words that need no option: the same in every front end.
    Text(String),
    /// Run less at a time, or in f16: the device ran out of memory.
    LessMemory,
    /// Run less at a time: the device did not answer.
    SmallerBatch,
    /// Run in f16, on a smaller image or on another device: the adapter cannot hold it.
    LessOrOtherDevice,
    /// Run in f32, and look where the numbers begin to differ.
    WiderType,
    /// Run in f32, or on another device: this one has no f16.
    WiderTypeOrOtherDevice,
    /// Take another device of those there are: this one will not open.
    OtherDevice,
    /// Take a GPU: the reference does not do this.
    Adapter,
    /// Install a driver or run on the reference: there is no adapter.
    InstallDriver,
    /// Check this machine: the device was lost.
    CheckMachine,
    /// Update the driver, take another adapter, or leave special kernels away.
    PlainerKernels,
    /// Name a model's folder: there is no place for a cache.
    ModelFolder,
    /// Fetch the weights of a clone, or name the model on the hub.
    FetchWeights,
    /// Allow going online.
    GoOnline {
        /// The model that would be downloaded, where one is looked for.
        model: Option<String>,
    },
    /// Read files in pieces and map none: there is no room for maps.
    NoMmap,
    /// Allow more open files: a checkpoint has more parts than may be open.
    MoreOpenFiles,
    /// Fetch an image again, or allow one that is cut short.
    AllowTruncated,
    /// Pass the bytes of an image that is no regular file.
    PassBytes,
    /// Take a smaller image, or allow more pixels.
    MorePixels,
    /// Write one file an image, or make the sheet smaller.
    SmallerSheet,
    /// Shorten a text, or allow it to be cut at its beginning.
    CutBeginning,
    /// Shorten a text, or allow it to be cut at its end.
    CutEnd,
    /// Write fewer tokens, or allow the prompt to be cut.
    FewerTokens {
        /// The most that fit behind the prompt.
        room: usize,
    },
    /// Give a second text exactly where the template has a place for it.
    PairAndTemplate,
    /// Give labels: this model can only weigh answers.
    Labels,
    /// Fetch the model again, or say how to pool.
    NamePooling,
    /// Pool in a plain way: what the author's embeddings are made by is not known.
    PoolPlainly,
    /// Pool by the mean.
    PoolMean,
    /// Make embeddings: the model has no head for anything else.
    Embed,
    /// Make an index first, or name the folder that holds one.
    IndexFolder,
    /// Go on with an index that is not done.
    IndexMore,
    /// Make an index anew: it is damaged.
    IndexAnew,
    /// Take the model that made an index, another index, or make it anew.
    IndexOther,
}

impl From<String> for Advice {
    /// Words; none are [`Advice::Nothing`].
    fn from(text: String) -> Self {
        if text.is_empty() { Advice::Nothing } else { Advice::Text(text) }
    }
}

impl From<&str> for Advice {
    /// Words; none are [`Advice::Nothing`].
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Advice::Nothing => "",
            Advice::Text(text) => text,
            Advice::LessMemory => "take a smaller batch, or run in f16",
            Advice::SmallerBatch => "the GPU may be busy or hung; try a smaller batch",
            Advice::LessOrOtherDevice => "try f16, a smaller image, or another device",
            Advice::WiderType => {
                "try f32; comparing with recorded outputs shows the first tensor that differs"
            }
            Advice::WiderTypeOrOtherDevice => "run in f32, or choose another device",
            Advice::OtherDevice => "choose another adapter of this machine",
            Advice::Adapter => "choose a GPU adapter",
            Advice::InstallDriver => {
                "there is none; install a driver (on Linux without a GPU: mesa-vulkan-drivers), or run on the \
                 reference"
            }
            Advice::CheckMachine => "run the selftest; if it repeats, update the GPU driver",
            Advice::PlainerKernels => {
                "update the driver, try another adapter, or disable its matrices and f16"
            }
            Advice::ModelFolder => "set HF_HUB_CACHE to a folder, or name a model folder",
            Advice::FetchWeights => {
                "run `git lfs install && git lfs pull` in that repository, or give the hub name `org/name`"
            }
            Advice::GoOnline { model: None } => "unset HF_HUB_OFFLINE, or allow going online",
            Advice::GoOnline { model: Some(model) } => {
                return write!(f, "unset HF_HUB_OFFLINE (or allow going online) to download {model}");
            }
            Advice::MoreOpenFiles => "allow more open files: each part of a checkpoint is one",
            Advice::NoMmap => "read the weights in pieces instead of mapping them",
            Advice::AllowTruncated => {
                "download or copy it again, or allow truncated images to use what is there"
            }
            Advice::PassBytes => "read it and pass its bytes instead",
            Advice::MorePixels => "scale it down, or raise the limit of pixels",
            Advice::SmallerSheet => "write a file each, or take a smaller zoom or fewer samples",
            Advice::CutBeginning => "shorten it, or allow its beginning to be omitted",
            Advice::CutEnd => "shorten it, or allow its end to be omitted",
            Advice::FewerTokens { room } => {
                return write!(f, "ask for {room} at most, or allow the prompt to be shortened");
            }
            Advice::PairAndTemplate => "give a second text and write {pair}, or neither",
            Advice::Labels => "give labels to weigh answers",
            Advice::NamePooling => "download it again, or choose a pooling",
            Advice::PoolPlainly => "choose a pooling; its vectors will be others than the author's",
            Advice::PoolMean => "pool by the mean",
            Advice::Embed => "it has no head; it makes embeddings",
            Advice::IndexFolder => "make an index of some images first, or name the folder that holds one",
            Advice::IndexMore => "bring it up to date; what is done is kept",
            Advice::IndexAnew => "make the index anew",
            Advice::IndexOther => "take the model that made it, or another index, or make it anew",
        })
    }
}
