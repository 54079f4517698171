//! Arguments of `generate` and `tokens`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::{COMMON, DeviceArgs, ModelArgs, Plain};
use crate::cli::texts::args::WriteArgs;
use crate::generate::recipe::{self, Keep, MAX_SCALE, MAX_TEMPERATURE};
use crate::generate::{self};

pub(crate) const GENERATE_HELP: &str = "\
Examples:
    vit-gpu generate --class star --seed 1 -o star.png
    vit-gpu generate --class star --class heart -n 8 -o both.png --animate growth.gif
    vit-gpu generate -m FOLDER --class 207 --init-image dog.jpg --keep-rows 0.5 -o other.png
    vit-gpu generate --reproduce star.png -o same.png
    vit-gpu generate -m gpt2 --prompt \"Once upon a time\" -n 40 --temperature 0.8 --top-k 50
    vit-gpu generate -m t5 --prompt \"translate English to German: The house is small.\"
    vit-gpu generate -m t5 --prompt \"The <extra_id_0> walks in <extra_id_1> park\" --keep-special

A text comes to standard output as it is written, without its prompt; -o FILE.txt or FILE.json
also writes a file when it is whole, and then -q keeps it off standard output. The likeliest token
is taken unless --temperature, --top-k or --top-p is given; a temperature that is not given is then
1. --format json prints what -o FILE.json holds.

The kind of an image file is told by its extension: png, jpg, webp, bmp, tiff, ppm or gif.
Several samples go into one file side by side, or with `-o FOLDER/` into a file each.

A sample depends on model, class, settings, seed and its own number, and not on the batch it is
generated in. PNG files hold all of these (the text chunk `vit-gpu`, as JSON), and --reproduce reads them:
the same file comes out on the same device; another adapter may round differently, and choose another
token now and then.

--tokens writes what `vit-gpu tokens` reads and writes:
    {\"model\": NAME, \"grid\": [ROWS, COLUMNS], \"vocabulary\": V, \"samples\": [
      {\"sample\": 0, \"class\": 10, \"name\": \"star\", \"seed\": 1, \"tokens\": [[ID, ...], ...]}]}
with a list of ids for each row of patches, from the top.";

pub(crate) const TOKENS_HELP: &str = "\
Examples:
    vit-gpu tokens cat.jpg -o cat.json --reconstruct back.png
    vit-gpu tokens --decode cat.json -o cat.png --original cat.jpg

A token file is JSON:
    {\"model\": NAME, \"grid\": [ROWS, COLUMNS], \"vocabulary\": V, \"samples\": [
      {\"tokens\": [[ID, ...], ...]}]}
with a list of ids for each row of patches, from the top; missing rows at the end become grey. Of
the rest, `grid` must be the model's, and what is omitted or unknown is ignored.

The signal-to-noise ratio is that of the image as the model takes it, cropped and resized.";

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub what: WhatArgs,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub files: FileArgs,
    /// Format of texts [default: by the extension of -o, else text]
    #[arg(long, value_enum)]
    pub format: Option<Plain>,
    /// Say how long the first token took and how many tokens a second; of images also the memory traffic
    #[arg(long)]
    pub stats: bool,
    /// Show the image as it grows, in terminals that can (kitty, iTerm2, WezTerm, Ghostty)
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub preview: When,
    #[command(flatten)]
    pub write: WriteArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// What is generated.
#[derive(Debug, Args)]
pub(crate) struct WhatArgs {
    /// Class by name, beginning of a name, or number; may be given several times [default: all in turn]
    #[arg(long, value_name = "NAME|INDEX", allow_negative_numbers = true)]
    pub class: Vec<String>,
    /// Samples, of each class that is named [default: 1; of a model with at most 16 classes, where none
    /// is named, one of each]; of a text the most new tokens [default: 64]
    #[arg(short = 'n', long, value_name = "COUNT", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub count: Option<u32>,
    /// Begin with the upper rows of this image
    #[arg(long, alias = "prime", value_name = "IMAGE", requires = "keep_rows")]
    pub init_image: Option<PathBuf>,
    /// How much of it: so many rows of patches, or a part of the image as 0.5 or 50%
    #[arg(long, alias = "keep", value_name = "ROWS|FRACTION", value_parser = keep, requires = "init_image", allow_negative_numbers = true)]
    pub keep_rows: Option<Keep>,
    /// Generate the samples of a PNG file again, by the model, seed and settings that it holds
    #[arg(long, alias = "again", value_name = "FILE.png", conflicts_with_all = ["class", "count", "init_image", "keep_rows", "HowArgs"])]
    pub reproduce: Option<PathBuf>,
}

/// How tokens are sampled; where nothing is said, as the model's authors did, or of a text the likeliest.
#[derive(Debug, Args)]
#[group(id = "HowArgs", multiple = true)]
pub(crate) struct HowArgs {
    /// Seed of all random numbers [default: another one each time]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Divides the logits: lower is more of the likely; 0 takes the likeliest token
    #[arg(long, value_name = "T", value_parser = temperature, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Only the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that make up this part of the probability; 1 for all
    #[arg(long, value_name = "P", value_parser = top_p, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Classifier-free guidance: how far to go from what the model generates without the class to what it
    /// generates with it, and beyond; 1 is none
    #[arg(long, value_name = "S", value_parser = cfg_scale, allow_negative_numbers = true)]
    pub cfg_scale: Option<f32>,
    /// Guidance from the first token to the last: constant, or linear from 1 to S; as the model suits
    /// where nothing is said
    #[arg(long, value_enum)]
    pub cfg_schedule: Option<Schedule>,
    /// Order of the patches: from the upper left row by row, or at random where a model can; what it
    /// was trained for where nothing is said
    #[arg(long, value_enum)]
    pub order: Option<Order>,
    /// Generate several patches at a time, all in so many steps, where a model can [default: one a step]
    #[arg(long, alias = "parallel", value_name = "STEPS", value_parser = clap::value_parser!(u32).range(2..=1_048_576), allow_negative_numbers = true)]
    pub num_steps: Option<u32>,
}

/// What is written, and where.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Image, or folder with `/` at the end for a file each; text as .txt or .json
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub output: Option<PathBuf>,
    /// A file for each sample beside -o: star.png becomes star-0.png, star-1.png, ...
    #[arg(long, requires = "output")]
    pub files: bool,
    /// Samples beside each other [default: so that the whole is nearly square]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub columns: Option<u32>,
    /// Enlarge images so many times, each pixel becoming a square [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub zoom: Option<u32>,
    /// Write the growth of the image as an animation
    #[arg(long, value_name = "FILE.gif|FILE.png")]
    pub animate: Option<PathBuf>,
    /// Write the growth of the image as PNG files, a frame each, into this folder
    #[arg(long, alias = "steps", value_name = "DIR")]
    pub frames_dir: Option<PathBuf>,
    /// Tokens from one frame to the next [default: so that there are at most 64 frames]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub every: Option<u32>,
    /// Plot how uncertain the model was of each patch, beside the image
    #[arg(long, value_name = "FILE.png")]
    pub entropy: Option<PathBuf>,
    /// Write the tokens as JSON
    #[arg(long, value_name = "FILE.json")]
    pub tokens: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokensArgs {
    /// Image to encode
    #[arg(value_name = "IMAGE", required_unless_present = "decode", conflicts_with = "decode")]
    pub input: Option<PathBuf>,
    /// Decode these tokens into an image instead
    #[arg(long, value_name = "FILE.json", requires = "output")]
    pub decode: Option<PathBuf>,
    /// Tokens as JSON [default: standard output]; with --decode the image, or DIR/ for a file each
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub output: Option<PathBuf>,
    /// Also write the image that the tokens stand for, and print how near it comes
    #[arg(long, value_name = "FILE", conflicts_with = "decode")]
    pub reconstruct: Option<PathBuf>,
    /// Print how near the decoded image comes to this one
    #[arg(long, value_name = "IMAGE", requires = "decode")]
    pub original: Option<PathBuf>,
    /// Samples beside each other [default: so that the whole is nearly square]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub columns: Option<u32>,
    /// Enlarge images so many times, each pixel becoming a square
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub zoom: u32,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub image: ReadArgs,
}

/// How images are read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ReadArgs {
    /// Ignore the EXIF orientation
    #[arg(long)]
    pub no_exif: bool,
    /// Refuse images of more pixels than this [default: 178956970]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pixels: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Schedule {
    /// The same for every token
    Constant,
    /// From 1 at the first token to the scale at the last
    Linear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Row by row from the upper left
    Raster,
    /// Anywhere, another order for each seed
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Where the terminal can
    Auto,
    /// Not even there
    Never,
    /// In kitty's way where nothing is known of the terminal
    Always,
}

impl From<Schedule> for recipe::Schedule {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant => recipe::Schedule::Constant,
            Schedule::Linear => recipe::Schedule::Linear,
        }
    }
}

impl From<Order> for generate::Order {
    fn from(order: Order) -> Self {
        match order {
            Order::Raster => generate::Order::Raster,
            Order::Random => generate::Order::Random,
        }
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=MAX_TEMPERATURE).contains(&x) => Ok(x),
        _ => Err(format!("a temperature is a number from 0 (the likeliest token) to {MAX_TEMPERATURE}")),
    }
}

fn top_p(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x > 0.0 && x <= 1.0 => Ok(x),
        _ => Err("a part of the probability is a number above 0, at most 1 (all tokens)".to_owned()),
    }
}

fn cfg_scale(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..=MAX_SCALE).contains(&x) => Ok(x),
        _ => Err(format!("a guidance scale is a number from 0 to {MAX_SCALE}; 1 is no guidance")),
    }
}

fn keep(text: &str) -> Result<Keep, String> {
    let wrong = || "rows are a number of 1 or more; a part is above 0 and below 1, as 0.5 or 50%".to_owned();
    let part = |x: f32| if x > 0.0 && x < 1.0 { Ok(Keep::Part(x)) } else { Err(wrong()) };
    if let Some(percent) = text.strip_suffix('%') {
        return part(percent.trim().parse::<f32>().map_err(|_| wrong())? / 100.0);
    }
    match text.parse::<usize>() {
        Ok(0) => Err(wrong()),
        Ok(rows) => Ok(Keep::Rows(rows)),
        Err(_) => part(text.parse::<f32>().map_err(|_| wrong())?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_their_ranges() {
        assert_eq!((temperature("0"), temperature("1.5")), (Ok(0.0), Ok(1.5)));
        for bad in ["-1", "NaN", "inf", "1e9", "hot", ""] {
            assert!(temperature(bad).is_err() && cfg_scale(bad).is_err(), "{bad}");
        }
        assert_eq!(top_p("1"), Ok(1.0));
        for bad in ["0", "-0.5", "1.01", "nan", ""] {
            assert!(top_p(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rows_or_parts() {
        assert_eq!(
            (keep("3"), keep("0.5"), keep("25%")),
            (Ok(Keep::Rows(3)), Ok(Keep::Part(0.5)), Ok(Keep::Part(0.25)))
        );
        for bad in ["0", "-1", "0.0", "1.0", "1.5", "100%", "nan", "half", "NaN%"] {
            assert!(keep(bad).is_err(), "{bad}");
        }
    }
}
