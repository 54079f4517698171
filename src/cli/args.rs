//! The command line as plain data. Doc comments here are the help text and the man page;
//! nothing is opened or checked against the machine before `run`.

use crate::tensor::Size;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

/// Heading of what is the same in many commands: model, device, images.
pub(crate) const COMMON: &str = "Common options";

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = COMMON)]
pub(crate) struct TalkArgs {
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say what is done, and how long it took
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ModelArgs {
    /// Model: folder or .safetensors file, hub name `org/name[@revision]`, or `builtin:NAME`
    /// [default: builtin:shapes, to generate builtin:shapes-gpt]
    #[arg(short, long, value_name = "MODEL", env = "VIT_GPU_MODEL", hide_env_values = true)]
    pub model: Option<OsString>,
    /// LoRA adapter to lay over the model: a folder in PEFT's form. Such a folder as -m brings its own model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Never go online; models come from the cache
    #[arg(long)]
    pub offline: bool,
    /// Read weight files instead of mapping them into memory
    #[arg(long)]
    pub no_mmap: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = COMMON)]
pub(crate) struct DeviceArgs {
    /// Adapter: auto, a number or part of a name from `vit-gpu devices`, `cpu` for the first adapter that
    /// computes on the CPU, or `reference` for plain loops [default: auto]
    #[arg(long, value_name = "DEVICE", env = "VIT_GPU_DEVICE", hide_env_values = true)]
    pub device: Option<String>,
    /// Only adapters of these backends: vulkan, metal, dx12
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        env = "VIT_GPU_BACKEND",
        hide_env_values = true
    )]
    pub backend: Vec<String>,
    /// Features not to use, where an adapter has a broken one
    #[arg(long, value_enum, value_name = "FEATURE,...", value_delimiter = ',')]
    pub disable: Vec<Feature>,
    /// Dtype that weights and activations are stored in; auto is f32
    #[arg(long, value_enum, default_value_t = DtypeArg::Auto, env = "VIT_GPU_DTYPE", hide_env_values = true)]
    pub dtype: DtypeArg,
    /// Kernel variant of an op, wherever it can be used: matmul=tile64; `vit-gpu tune --list` shows all
    #[arg(long, value_name = "OP=NAME")]
    pub variant: Vec<String>,
    /// Neither measure kernel variants on first use (at most 2 s) nor use what was measured
    #[arg(long)]
    pub no_tune: bool,
    /// Keep bounds checks in shaders: slower, for doubtful drivers
    #[arg(long, env = "VIT_GPU_CHECKED", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub checked: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = COMMON)]
pub(crate) struct ImageArgs {
    /// Run at another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<Size>,
    /// Ignore the EXIF orientation
    #[arg(long)]
    pub no_exif: bool,
    /// Refuse images of more pixels than this [default: 178956970]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pixels: Option<u64>,
    /// Accept JPEG files that are cut off; what is missing is gray
    #[arg(long)]
    pub allow_truncated: bool,
    /// Lay this color under transparent pixels; otherwise alpha is dropped, as Pillow does
    #[arg(long, value_name = "RRGGBB", value_parser = colour)]
    pub background: Option<[u8; 3]>,
}

impl ImageArgs {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--image-size", self.image_size.is_some()),
            ("--no-exif", self.no_exif),
            ("--max-pixels", self.max_pixels.is_some()),
            ("--allow-truncated", self.allow_truncated),
            ("--background", self.background.is_some()),
        ])
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One object with model, device, results and timing
    Json,
    /// One object a line for each input
    Jsonl,
    /// One row for each class of each input
    Csv,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plain {
    /// For people
    #[default]
    Text,
    /// One object
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    /// f32
    Auto,
    /// Everything in f32
    F32,
    /// Matrix weights and activations in f16, arithmetic in f32
    F16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Feature {
    /// f16 storage
    F16,
    /// Subgroup operations
    Subgroups,
    /// Timestamp queries
    Timestamps,
    /// Cooperative matrices: tensor cores
    Matrices,
}

/// The first flag that was given.
pub(crate) fn first(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag)
}

pub(crate) fn image_size(text: &str) -> Result<Size, String> {
    let side = |s: &str| match s.parse::<usize>() {
        Ok(n) if (1..=8192).contains(&n) => Ok(n),
        _ => Err(format!("`{s}` is not a side of 1 to 8192 pixels")),
    };
    match text.split_once(['x', 'X']) {
        Some((height, width)) => Ok(Size::new(side(height)?, side(width)?)),
        None => side(text).map(Size::square),
    }
}

pub(crate) fn colour(text: &str) -> Result<[u8; 3], String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let wrong = || "a color is six hexadecimal digits: ffffff".to_owned();
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let value = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let [_, r, g, b] = value.to_be_bytes();
    Ok([r, g, b])
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 86_400.0 => Ok(x),
        _ => Err("seconds are a number above 0, at most 86400".to_owned()),
    }
}

pub(crate) fn tolerance(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err("a tolerance is a number of 0 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_colours_and_tolerances() {
        assert_eq!(image_size("384"), Ok(Size::square(384)));
        assert_eq!(image_size("28x56"), Ok(Size::new(28, 56)));
        assert!(image_size("0").is_err() && image_size("3x").is_err() && image_size("99999").is_err());
        assert_eq!(colour("#ff8000"), Ok([255, 128, 0]));
        assert!(colour("fff").is_err() && colour("+12345").is_err() && colour("é1234").is_err());
        assert_eq!(tolerance("1e-3"), Ok(1e-3));
        assert!(tolerance("NaN").is_err() && tolerance("-1").is_err() && tolerance("inf").is_err());
    }
}
