//! Arguments of `search`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, Format, ImageArgs, ModelArgs};
use crate::cli::sink::SinkArgs;

pub(crate) const SEARCH_HELP: &str = "\
Examples:
    vit-gpu search --image photo.jpg photos
    vit-gpu search --image photo.jpg photos -n 3 --format json --sheet nearest.png
    vit-gpu search --index-only photos -r --index photos.index
    vit-gpu search --image photo.jpg --index photos.index
    vit-gpu search \"a red star\" photos
    vit-gpu search \"a red car at night\" photos -m openai/clip-vit-base-patch32

Words are for models that know words (CLIP, SigLIP); --image is for every model of images. Scores are
cosines: 1 is the same direction, 0 has nothing to do with it.

An index is made of the images that are named, and brought up to date each time: only files that are new or
changed are embedded (by length and time, then by content), moved ones are known again, and those
that are gone are left out. Ctrl-C loses nothing that is done; the same command goes on. Without
--index it lies in the cache, one for each model and the images named. With --index and no images the
index is searched as it is, by the model that made it.

INDEX is a folder that other programs can read: `embeddings.safetensors` with a tensor `embeddings` (N,E)
of f32, rows of length 1, and `images.jsonl` with a line for each row: path, bytes, modified_us, sha256.

JSON is {\"results\": [{\"query\": \"…\", \"rank\": 1, \"score\": …, \"path\": \"…\"}]} with model, device and times.";

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Words to look for, in quotation marks, unless --image or --index-only is there; then images to search in:
    /// files, directories, globs, @LIST files
    #[arg(value_name = "WORDS|IMAGES")]
    pub arguments: Vec<OsString>,
    /// Look for images like this one, a file or - for standard input, instead of words
    #[arg(long, value_name = "FILE")]
    pub image: Option<OsString>,
    /// Take images from subdirectories too
    #[arg(short, long)]
    pub recursive: bool,
    /// How many images to show, best first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = count)]
    pub count: usize,
    /// Only images of this score or more
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = score)]
    pub min_score: Option<f32>,
    /// Write the images found, best first, with their scores on one sheet
    #[arg(long, value_name = "FILE.png")]
    pub sheet: Option<PathBuf>,
    /// Folder of the index: made if it is not there [default: one in the cache]
    #[arg(long, value_name = "DIR")]
    pub index: Option<PathBuf>,
    /// Make the index, or bring it up to date, and look for nothing
    #[arg(long, conflicts_with_all = ["image", "min_score", "sheet"])]
    pub index_only: bool,
    /// Embed all images anew, in place of what the index has
    #[arg(long)]
    pub rebuild: bool,
    #[command(flatten)]
    pub sink: SinkArgs<Listing>,
    /// Images embedded at a time
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub decoding: ImageArgs,
}

/// Forms of what is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listing {
    /// For people
    #[default]
    Text,
    /// One object with model, device, results and timing
    Json,
    /// One object a line for each image found
    Jsonl,
    /// One row for each image found
    Csv,
}

impl Listing {
    /// As reports know it.
    pub(super) fn format(self) -> Format {
        match self {
            Listing::Text => Format::Text,
            Listing::Json => Format::Json,
            Listing::Jsonl => Format::Jsonl,
            Listing::Csv => Format::Csv,
        }
    }
}

fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=1_000_000).contains(n));
    number.ok_or_else(|| "it is a number from 1 to 1000000".to_owned())
}

fn score(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|x| (-1.0..=1.0).contains(x));
    number.ok_or_else(|| "a score is a number from -1 to 1".to_owned())
}
