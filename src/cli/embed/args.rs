//! Arguments of `embed`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, ImageArgs, ModelArgs};
use crate::cli::sink::SinkArgs;
use crate::cli::texts::args::TextsArgs;
use crate::text::Pool;

pub(crate) const EMBED_HELP: &str = "\
Examples:
    vit-gpu embed -m FOLDER --text \"A cat sleeps.\" --text \"Eine Katze schläft.\"
    vit-gpu embed -m FOLDER --input sentences.jsonl -o sentences.safetensors
    vit-gpu embed -m FOLDER photos -r -o photos.safetensors

JSON is {\"results\": [{\"input\": \"…\", \"embedding\": […]}]} with model, device and times; a
safetensors file holds `embeddings` (N,E) and `inputs`, the bytes of a JSON list. An input that failed has
`error` in place of its embedding, and is not in the file.

Without --pool texts become vectors as the folder's sentence-transformers files say (modules.json and
what it lists, with prompts, length limits and small letters), else by the mean. With --pool only what
those say of texts counts. Images without --pool are what the model's own head reads.";

#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Image files, directories, globs, @LIST files, or - for standard input
    #[arg(value_name = "IMAGE")]
    pub inputs: Vec<OsString>,
    /// Take images from subdirectories too
    #[arg(short, long)]
    pub recursive: bool,
    /// How the vectors of tokens, or of patches, become one
    #[arg(long, value_enum)]
    pub pool: Option<Pooling>,
    /// Read texts behind this prompt of the folder's config_sentence_transformers.json instead of its default;
    /// "" takes none
    #[arg(long, value_name = "NAME")]
    pub prompt_name: Option<String>,
    /// Bring embeddings to length 1
    #[arg(long)]
    pub normalize: bool,
    #[command(flatten)]
    pub sink: SinkArgs<Vector>,
    /// Images or texts computed at a time [default: 8 images, 64 texts]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: Option<u32>,
    #[command(flatten)]
    pub texts: TextsArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub image: ImageArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vector {
    /// One object with model, device, embeddings and timing
    #[default]
    Json,
    /// One object a line for each input
    Jsonl,
    /// A tensor `embeddings` (N,E), for a file
    Safetensors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pooling {
    /// The first token: [CLS]
    Cls,
    /// The mean of all tokens of a text, special ones included; of all patches of an image
    Mean,
    /// What the checkpoint's own pooler makes of the first token
    Pooler,
}

impl Pooling {
    /// As texts know it.
    pub(crate) fn of_texts(self) -> Pool {
        match self {
            Pooling::Cls => Pool::Cls,
            Pooling::Mean => Pool::Mean,
            Pooling::Pooler => Pool::Pooler,
        }
    }
}
