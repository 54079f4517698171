//! Arguments of `infer`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cli::args::{DeviceArgs, Format, ImageArgs, ModelArgs};
use crate::cli::sink::SinkArgs;
use crate::cli::texts::args::AskArgs;

pub(crate) const INFER_HELP: &str = "\
Examples:
    vit-gpu infer photo.jpg
    vit-gpu infer photos -r -m google/vit-base-patch16-224 -o classes.csv
    vit-gpu infer photo.jpg -m openai/clip-vit-base-patch32 --labels \"a cat,a dog\"
    vit-gpu infer -m FOLDER --text \"What a day!\" --format json
    vit-gpu infer photo.jpg -m vit-mae --reconstruct painted.png --mask-ratio 0.6 --seed 3

Inputs:
    FILE      an image: PNG, JPEG, GIF, WebP, BMP, TIFF or PNM, recognised by content
    DIR       the images in it by extension, hidden files left out; with -r, also below it
    'GLOB'    files that match, where no file has that very name
    @LIST     files and directories named in a text file, one a line (or NUL-separated)
    -         one image on standard input
Files from one directory, glob or list entry come in natural order (img2 before img10).

A failed input has `error` in place of its answer, the rest go on, and the exit code is 1.

Images in words of your own (CLIP, SigLIP):
    --labels \"a cat,a dog\"               or --labels @FILE, one a line
    --labels cat,dog --template \"a photo of a {}.\"
CLIP shares one probability among the labels, SigLIP gives each its own.

Texts, by what the checkpoint was made to do:
    --text T [--pair P]                   classes of a text or a pair
    --text T [--aggregate simple]         classes of tokens, or entities made of them
    --text \"The [MASK] sat.\"              words for every mask
    --text A --pair B --next-sentence     whether B follows A
    --question Q --context C              answers, and where they stand in characters
and by generative models, without training:
    --labels yes,no --template \"{text} Is it true? {label}\" --text T
    --perplexity --text T
Many at once come from --input FILE.

CSV fields that start with `=`, `+`, `-` or `@` are written as they are: a spreadsheet may take them
for formulas.";

#[derive(Debug, Args)]
pub(crate) struct InferArgs {
    /// Image files, directories, globs, @LIST files, or - for standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<OsString>,
    /// Take images from subdirectories too
    #[arg(short, long)]
    pub recursive: bool,
    /// How many classes, words or answers to show, best first; 0 shows all
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5, allow_negative_numbers = true)]
    pub top_k: usize,
    #[command(flatten)]
    pub sink: SinkArgs<Format>,
    /// Also give raw class scores, before the softmax (JSON: of all classes; CSV, text: of those shown)
    #[arg(long)]
    pub logits: bool,
    /// Write pooled features to a safetensors file: `embedding`, a row for each image that worked
    #[arg(long, value_name = "FILE.safetensors")]
    pub embeddings: Option<PathBuf>,
    /// Write where the model looks (attention rollout over the preprocessed image) as PNG;
    /// for several images a directory
    #[arg(long, value_name = "FILE.png")]
    pub attention: Option<PathBuf>,
    /// Show one layer's attention instead of the rollout; counted from 0
    #[arg(long, value_name = "N", requires = "attention")]
    pub attention_layer: Option<usize>,
    /// Show one head instead of the mean of all (of the last layer unless one is named); from 0
    #[arg(long, value_name = "N", requires = "attention")]
    pub attention_head: Option<usize>,
    /// Hide patches of the image, and write the image, what a masked autoencoder sees of it and what it paints
    /// beside each other as PNG; for several images a directory
    #[arg(long, value_name = "FILE.png", conflicts_with_all = ["embeddings", "attention", "logits", "labels"])]
    pub reconstruct: Option<PathBuf>,
    /// Write the features of the image's patches as PNG, red, green and blue by their three leading principal
    /// components; for several images a directory, and the same colours for the same features
    #[arg(long, value_name = "FILE.png", conflicts_with_all = ["embeddings", "attention", "logits", "reconstruct"])]
    pub features_pca: Option<PathBuf>,
    /// Share of patches that is hidden [default: as in the model's training]
    #[arg(long, value_name = "X", requires = "reconstruct", value_parser = ratio)]
    pub mask_ratio: Option<f32>,
    /// What the hidden patches are drawn by
    #[arg(long, value_name = "N", requires = "reconstruct", default_value_t = 0)]
    pub seed: u64,
    /// Images or texts computed at a time, halved by itself where memory does not suffice [default: 8
    /// images, 64 texts]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: Option<u32>,
    /// Stop at the first input that fails
    #[arg(long)]
    pub fail_fast: bool,
    #[command(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub image: ImageArgs,
}

fn ratio(text: &str) -> Result<f32, String> {
    let ratio = text.parse().ok().filter(|x| (0.0..1.0).contains(x));
    ratio.ok_or_else(|| "it is a number from 0 to below 1".to_owned())
}
