//! Arguments of `profile`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, ModelArgs, image_size};
use crate::cli::sink::SinkArgs;
use crate::tensor::Size;

pub(crate) const PROFILE_HELP: &str = "\
Examples:
    vit-gpu profile -m FOLDER -b 8 --roofline roofline.svg
    vit-gpu profile --synthetic vit-b/16 --trace trace.json --format md
    vit-gpu profile --synthetic vit-ti/16 --train -b 8
    vit-gpu profile --generate -m FOLDER --dtype f16

Launches are timed by timestamps that the device writes around each, if it has them and they pass
a test against the wall clock; else each is submitted and waited for alone, and the output says
wall clock. Nothing is taken from data sheets: peaks are measured on the adapter by small programs
that copy or multiply and do nothing else, and kept beside the compiled pipelines.

  share      part of the sum of all launches
  median us, p95 us
             of one launch, over all iterations and all launches of that kind
  GFLOP/s    multiply-adds count two
  GB/s       each operand counted once, so caches can bring more than memory does
  roofline   time the lower peak would take, as part of the time taken
  bound by   memory or compute, the lower peak; launch, where an empty one takes half as long

Random weights take as long as trained ones: --synthetic takes the sizes vit-ti, vit-s, vit-b,
vit-l, vit-h and vit-g with patches of 8, 14, 16, 28 or 32 pixels, as in vit-l/16.

With --train a step of AdamW over all weights of a classifier is measured, its gradients clipped:
launches of the backward half carry the layer's name and .backward, the optimizer's update.TENSOR.

With --generate the model is one that generates images (-m FOLDER, or --synthetic llamagen-b, -l, -xl,
-xxl, -3b, with /384 for the larger image), and three parts are measured one after the other: the
prompt, one token in the middle of an image (guided where the model can be, so two rows a sample),
and the decoding of the image. --trace and --roofline FILE write FILE-prompt, FILE-token and
FILE-image.";

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// Random weights of a named size instead of a model: vit-b/16, with --generate llamagen-b
    #[arg(long, value_name = "NAME", conflicts_with = "adapter")]
    pub synthetic: Option<String>,
    /// Profile generation: prompt, one token, and decoding of the image apart
    #[arg(long, conflicts_with = "image_size")]
    pub generate: bool,
    /// Profile a step of training all weights: forward, backward, optimizer
    #[arg(long, conflicts_with_all = ["image_size", "generate"])]
    pub train: bool,
    /// Images computed at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    /// Another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<Size>,
    /// Iterations after the warm-up; each runs the model three times
    #[arg(short, long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub runs: u32,
    /// Measure the adapter's peaks again
    #[arg(long)]
    pub fresh: bool,
    /// Write every iteration as a trace for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Plot kernels under the measured peaks
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub roofline: Option<PathBuf>,
    #[command(flatten)]
    pub sink: SinkArgs<Tabular>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tabular {
    /// For people
    #[default]
    Text,
    /// One object, with every sample
    Json,
    /// One row for each kernel, shape and layer
    Csv,
    /// Markdown tables
    Md,
}
