//! Arguments of `attention`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, ImageArgs, ModelArgs, first};
use crate::cli::sink::SinkArgs;

pub(crate) const ATTENTION_HELP: &str = "\
Examples:
    vit-gpu attention -m FOLDER --text \"The cat sat.\" -o bert.svg
    vit-gpu attention -m FOLDER --text \"The cat sat.\" --layer 0 --head 2 -o gpt2.png
    vit-gpu attention -m FOLDER --text \"Who sat? The cat sat.\" --answer \"the cat\" -o t5.svg
    vit-gpu attention -m FOLDER photo.jpg -o vit.png

Rows are queries, columns keys: a row for each token that attends, a column for each that it
attends to. The weights of a row sum to 1. What the architecture masks is hatched: nothing in BERT
and in T5's encoder, what follows a token in GPT-2 and in T5's decoder. T5 has three maps side by
side: its encoder, its decoder, and the decoder attending to what the encoder has read.

JSON is {\"attention\": [{\"look\": \"…\", \"causal\": …, \"layers\": […], \"queries\": […], \"keys\": […],
\"weights\": [[…], …]}]} with model and device.";

#[derive(Debug, Args)]
pub(crate) struct AttentionArgs {
    /// An image file, or - for standard input, of a vision model
    #[arg(value_name = "IMAGE")]
    pub input: Option<OsString>,
    /// The text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// The second text of a pair
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub pair: Option<String>,
    /// What T5 has answered so far [default: what it answers]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub answer: Option<String>,
    /// Cut a text that is too long for the model, of a pair the longer, instead of refusing it
    #[arg(long)]
    pub truncate: bool,
    /// One layer instead of the mean of all; counted from 0
    #[arg(long, value_name = "N")]
    pub layer: Option<usize>,
    /// One head instead of the mean of all (of the last layer unless one is named); from 0
    #[arg(long, value_name = "N")]
    pub head: Option<usize>,
    #[command(flatten)]
    pub sink: SinkArgs<Weights>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub image: ImageArgs,
}

impl AttentionArgs {
    /// The first flag for texts that was given.
    pub(crate) fn of_texts(&self) -> Option<&'static str> {
        first(&[
            ("--text", self.text.is_some()),
            ("--pair", self.pair.is_some()),
            ("--answer", self.answer.is_some()),
            ("--truncate", self.truncate),
        ])
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// The weights
    #[default]
    Json,
    /// A vector image
    Svg,
    /// A raster image, for a file
    Png,
}
