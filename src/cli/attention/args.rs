//! Arguments of `attention`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cli::args::{DeviceArgs, ImageArgs, ModelArgs, first};

pub(crate) const ATTENTION_HELP: &str = "\
Examples:
    vit-gpu attention -m FOLDER --text \"The cat sat.\" -o bert.svg
    vit-gpu attention -m FOLDER --text \"The cat sat.\" --layer 0 --head 2 -o gpt2.png
    vit-gpu attention -m FOLDER --text \"Who sat? The cat sat.\" --answer \"the cat\" -o t5.svg
    vit-gpu attention -m FOLDER photo.jpg -o vit.png

A row for each token that looks, a column for each that it looks at; the weights of a row sum to 1. What
the architecture closes is hatched: nothing in BERT and in T5's encoder, what follows a token in GPT-2 and
in T5's decoder. T5 has three pictures side by side: its encoder, its decoder, and the decoder looking at
what the encoder has read.

JSON is {\"attention\": [{\"look\": \"…\", \"causal\": …, \"layers\": […], \"queries\": […], \"keys\": […],
\"weights\": [[…], …]}]} with model and device.";

#[derive(Debug, Args)]
pub(crate) struct AttentionArgs {
    /// An image file, or - for standard input, of a model that looks at images
    #[arg(value_name = "IMAGE")]
    pub input: Option<OsString>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
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
    #[command(flatten)]
    pub image: ImageArgs,
    /// One layer instead of the mean of all; counted from 0
    #[arg(long, value_name = "N")]
    pub layer: Option<usize>,
    /// One head instead of the mean of all (of the last layer unless one is named); from 0
    #[arg(long, value_name = "N")]
    pub head: Option<usize>,
    /// The picture to write, or json for the weights on standard output
    #[arg(short, long, value_name = "FILE.svg|FILE.png|FILE.json|json", value_parser = picture, default_value = "json")]
    pub output: PictureSink,
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

/// Where weights go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PictureSink {
    /// As JSON to standard output.
    Print,
    /// To a file, in a form that its name says.
    File(PathBuf, PictureForm),
}

/// Forms of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PictureForm {
    Svg,
    Png,
    Json,
}

fn picture(text: &str) -> Result<PictureSink, String> {
    if text == "json" {
        return Ok(PictureSink::Print);
    }
    let lower = text.to_ascii_lowercase();
    let forms = [(".svg", PictureForm::Svg), (".png", PictureForm::Png), (".json", PictureForm::Json)];
    let form = forms.into_iter().find(|(end, _)| lower.ends_with(end));
    let (_, form) = form.ok_or("a picture is a .svg or .png file; json prints the weights")?;
    Ok(PictureSink::File(text.into(), form))
}
