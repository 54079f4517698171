//! What the library advises after an error, in the words of the command line.

use crate::error::{Advice, Error};

/// An advice with the names of flags and commands.
pub(super) fn worded(advice: &Advice) -> String {
    let words = match advice {
        Advice::Nothing | Advice::Text(_) => return advice.to_string(),
        Advice::LessMemory => "pass a smaller --batch-size, or --dtype f16",
        Advice::SmallerBatch => "the GPU may be busy or hung; try a smaller --batch-size",
        Advice::LessOrOtherDevice => "try --dtype f16, a smaller image, or another --device",
        Advice::WiderType => "try --dtype f32; `vit-gpu verify` shows the first tensor that differs",
        Advice::WiderTypeOrOtherDevice => "leave --dtype away to run in f32, or choose another --device",
        Advice::OtherDevice => "run `vit-gpu devices` and pass another --device",
        Advice::Adapter => "choose an adapter of `vit-gpu devices`",
        Advice::InstallDriver => {
            "there is none; install a driver (on Linux without a GPU: mesa-vulkan-drivers), or pass --device \
             reference; `vit-gpu doctor` says more"
        }
        Advice::CheckMachine => "run `vit-gpu doctor`; if it repeats, update the GPU driver",
        Advice::PlainerKernels => {
            "update the driver, or try --device with another adapter, or --disable matrices,f16"
        }
        Advice::ModelFolder => "set HF_HUB_CACHE to a folder, or pass a model folder with -m",
        Advice::FetchWeights => {
            "run `git lfs install && git lfs pull` in that repository, or pass the hub name `org/name` to -m"
        }
        Advice::GoOnline { model: None } => "unset HF_HUB_OFFLINE, or leave --offline away",
        Advice::GoOnline { model: Some(model) } => {
            return format!("unset HF_HUB_OFFLINE (or leave --offline away) to download {model}");
        }
        Advice::MoreOpenFiles => "allow more open files (`ulimit -n 4096`): each part of a checkpoint is one",
        Advice::NoMmap => "pass --no-mmap, which reads the weights in pieces; or raise `ulimit -v`",
        Advice::AllowTruncated => "download or copy it again, or pass --allow-truncated to use what is there",
        Advice::PassBytes => "pipe it in instead: `... | vit-gpu infer -`",
        Advice::MorePixels => "scale it down, or raise the limit with --max-pixels",
        Advice::SmallerSheet => "write a file each with `-o FOLDER/`, or take a smaller --zoom or -n",
        Advice::CutBeginning => "shorten it, or pass --truncate to leave away its beginning",
        Advice::CutEnd => "shorten it, or pass --truncate to leave away its end",
        Advice::FewerTokens { room } => {
            return format!("ask for {room} at most, or pass --truncate to shorten the prompt");
        }
        Advice::PairAndTemplate => "pass --pair and write {pair}, or neither",
        Advice::Labels => "pass --labels to weigh answers",
        Advice::NamePooling => "download it again, or pass --pool",
        Advice::PoolPlainly => "pass --pool mean or cls; the vectors will be others than the author's",
        Advice::PoolMean => "take --pool mean",
        Advice::Embed => "it has no head; it makes embeddings (`vit-gpu embed`)",
        Advice::IndexFolder => "name the folder of images too, to make an index of them",
        Advice::IndexMore => "name the folder of images again to go on; what is done is kept",
        Advice::IndexAnew => "name the folder of images, and pass --rebuild to make the index anew",
        Advice::IndexOther => {
            "leave -m away to search by the model that made it, name another --index, or pass --rebuild with the \
             folder of images"
        }
    };
    words.to_owned()
}

/// An error about an option's value, which names the option by its flag: `prefix` goes in front of the
/// library's name.
pub(super) fn with_flag(prefix: &str, e: Error) -> Error {
    match e {
        Error::Usage { what, help } => Error::Usage { what: format!("{prefix}{what}"), help },
        other => other,
    }
}
