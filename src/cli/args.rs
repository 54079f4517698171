//! Floor 6. The command line as plain data. Doc comments here are the help text and the man page;
//! nothing is opened or checked against the machine before `run`.

mod attention;
mod generate;
mod infer;
mod measure;
mod text;

pub(crate) use attention::{ATTENTION_HELP, AttentionArgs, PictureForm, PictureSink};
pub(crate) use generate::{
    FileArgs, GENERATE_HELP, GenerateArgs, HowArgs, Keep, MAX_SCALE, MAX_TEMPERATURE, Order, Schedule,
    TOKENS_HELP, TokensArgs, WhatArgs, When,
};
pub(crate) use infer::{INFER_HELP, InferArgs};
pub(crate) use measure::{BENCH_HELP, BenchArgs, PROFILE_HELP, ProfileArgs, Rows, Tabular};
pub(crate) use text::{AskArgs, EMBED_HELP, EmbedArgs, Pooling, Sink, WriteArgs, first};

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Shown under `vit-gpu --help` and in the man page; tests compare it with `Error::exit_code`.
const AFTER_HELP: &str = "\
Data goes to standard output, everything else to standard error. Nothing ever prompts.

Exit codes:
    0    all went well (also when the reader of a pipe has had enough)
    1    some or all inputs failed, an output could not be written, or a check did not pass
    2    the command line is wrong
    3    the model was not found or cannot be used
    4    no adapter will do, or the adapter's limits are too small
    5    the device ran out of memory, was lost, or did not answer in time
    6    the model produced NaN or infinity
    7    a model hub or its cache could not deliver
  130    interrupted (Ctrl-C); no half-written output is left

Environment:
    VIT_GPU_MODEL, VIT_GPU_DEVICE, VIT_GPU_BACKEND, VIT_GPU_DTYPE, VIT_GPU_CHECKED
                       stand for the flags of these names; a flag wins
    WGPU_BACKEND, WGPU_ADAPTER_NAME, WGPU_POWER_PREF
                       are followed where neither a flag nor a VIT_GPU_ variable speaks
    HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN
                       where models from a hub are kept and fetched
    NO_COLOR           no colours in help texts";

const VERIFY_HELP: &str = "\
The golden file holds `in.pixel_values` (B,3,H,W) and any of `out.logits`, `out.hidden.N`,
`out.attention.N`, `out.last_hidden_state`, `out.pooler_output`, `out.image_embeds`, `out.features`,
`out.cls_logits`, `out.distillation_logits`, `out.embedding`. Pictures of another size are
`in.pixel_values.SUFFIX` with `out.interpolated.SUFFIX`.

max rel is taken over the elements whose expected size is above the absolute tolerance. For logits,
the first class must agree too, unless the expected first two are closer than the tolerance.

Exit code 0 if every output agrees, 1 if one does not or cannot be produced.";

const TUNE_HELP: &str = "\
What is measured is kept beside the compiled pipelines, by adapter and driver, and used by every later
run; other runs measure on first use, for at most 2 seconds. A choice changes speed, never a result
beyond the tolerance: `vit-gpu doctor` checks every way.";

/// Transformers on any GPU, from plain WGSL
#[derive(Debug, Parser)]
#[command(name = "vit-gpu", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub talk: TalkArgs,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TalkArgs {
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say what is done, and how long it took
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Classify images or texts, answer questions, fill masks, show attention
    #[command(after_help = INFER_HELP)]
    Infer(Box<InferArgs>),
    /// Make embeddings of texts or images
    #[command(after_help = EMBED_HELP)]
    Embed(Box<EmbedArgs>),
    /// Write texts, or draw pictures patch by patch, token by token
    #[command(after_help = GENERATE_HELP)]
    Generate(Box<GenerateArgs>),
    /// Make tokens of a picture, or a picture of tokens
    #[command(after_help = TOKENS_HELP)]
    Tokens(Box<TokensArgs>),
    /// Draw which tokens of a text or an image attend to which
    #[command(after_help = ATTENTION_HELP)]
    Attention(Box<AttentionArgs>),
    /// List the adapters of this machine and whether they will do
    Devices(DevicesArgs),
    /// Show a model: architecture, parameters, memory, work, graph and plan
    Inspect(Box<InspectArgs>),
    /// Compare a model's outputs with recorded ones
    #[command(after_help = VERIFY_HELP)]
    Verify(Box<VerifyArgs>),
    /// Measure the ways of computing a model's ops on this adapter, and keep the fastest
    #[command(after_help = TUNE_HELP)]
    Tune(Box<TuneArgs>),
    /// Show where the time of a forward pass goes, kernel by kernel and layer by layer
    #[command(after_help = PROFILE_HELP)]
    Profile(Box<ProfileArgs>),
    /// Measure how fast whole models are, and how fast they start
    #[command(after_help = BENCH_HELP)]
    Bench(Box<BenchArgs>),
    /// Check this machine: adapters, kernels against the reference, paths, caches
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print a man page
    Man {
        /// The page of one command, instead of the program's
        command: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// Model: folder or .safetensors file, hub name `org/name[@revision]`, or `builtin:NAME`
    /// [default: builtin:shapes, to draw builtin:shapes-gpt]
    #[arg(short, long, value_name = "MODEL", env = "VIT_GPU_MODEL", hide_env_values = true)]
    pub model: Option<OsString>,
    /// Never go online; models come from the cache
    #[arg(long)]
    pub offline: bool,
    /// Read weight files instead of mapping them into memory
    #[arg(long)]
    pub no_mmap: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// Adapter: auto, a number or part of a name from `vit-gpu devices`, or `reference` for plain
    /// loops on the CPU [default: auto]
    #[arg(long, value_name = "DEVICE", env = "VIT_GPU_DEVICE", hide_env_values = true)]
    pub device: Option<String>,
    /// Only adapters of these back ends: vulkan, metal, dx12
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
    /// Storage type of weights and activations; auto is f32
    #[arg(long, value_enum, default_value_t = DtypeArg::Auto, env = "VIT_GPU_DTYPE", hide_env_values = true)]
    pub dtype: DtypeArg,
    /// Compute an op in this way wherever it can be: matmul=tile64; `vit-gpu tune` lists the ways
    #[arg(long, value_name = "OP=NAME")]
    pub variant: Vec<String>,
    /// Neither measure the ways of computing an op on first use (at most 2 s) nor use what was measured
    #[arg(long)]
    pub no_tune: bool,
    /// Keep bounds checks in shaders: slower, for doubtful drivers
    #[arg(long, env = "VIT_GPU_CHECKED", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub checked: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImageArgs {
    /// Run at another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Ignore the EXIF orientation
    #[arg(long)]
    pub no_exif: bool,
    /// Refuse images of more pixels than this [default: 178956970]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pixels: Option<u64>,
    /// Accept JPEG files that are cut off; what is missing is grey
    #[arg(long)]
    pub allow_truncated: bool,
    /// Lay this colour under transparent pixels; otherwise alpha is dropped, as Pillow does
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

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Only adapters of these back ends: vulkan, metal, dx12
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        env = "VIT_GPU_BACKEND",
        hide_env_values = true
    )]
    pub backend: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Plain::Text)]
    pub output: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Images computed, or samples drawn, at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    /// Another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Outputs to plan for, by name; `vit-gpu inspect` lists them [default: what `infer` needs]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub outputs: Vec<String>,
    /// Print the graph instead (of a model that draws, of one token): as text, or for Graphviz
    #[arg(long, value_enum, value_name = "text|dot", conflicts_with_all = ["plan", "output"])]
    pub graph: Option<GraphForm>,
    /// Print the plan instead: a line for each launch
    #[arg(long, conflicts_with = "output")]
    pub plan: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Plain::Text)]
    pub output: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Recorded inputs and outputs [default: golden.safetensors in the model's folder]
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// Absolute tolerance [default: 1e-4, with --dtype f16 2e-2]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub atol: Option<f32>,
    /// Tolerance relative to the expected value [default: 1e-4, with --dtype f16 2e-2]
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub rtol: Option<f32>,
    /// Pass over outputs that the model cannot produce
    #[arg(long)]
    pub allow_missing: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Plain::Text)]
    pub output: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tune for random weights of a named size instead of a model: vit-b/16
    #[arg(long, value_name = "NAME")]
    pub synthetic: Option<String>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Batch sizes to tune for
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: Vec<u32>,
    /// Another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Seconds to spend on each batch size at most [default: as long as it takes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub budget: Option<f64>,
    /// Measure again what is known
    #[arg(long)]
    pub fresh: bool,
    /// Print the ways there are, as --variant takes them, and measure nothing
    #[arg(long)]
    pub list: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Plain::Text)]
    pub output: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One object with model, device, results and timing
    Json,
    /// One object a line for each input
    Jsonl,
    /// One row for each class of each input
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plain {
    /// For people
    Text,
    /// One object
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphForm {
    /// A line for each operation
    Text,
    /// Graphviz
    Dot,
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

fn image_size(text: &str) -> Result<[usize; 2], String> {
    let side = |s: &str| match s.parse::<usize>() {
        Ok(n) if (1..=8192).contains(&n) => Ok(n),
        _ => Err(format!("`{s}` is not a side of 1 to 8192 pixels")),
    };
    match text.split_once(['x', 'X']) {
        Some((height, width)) => Ok([side(height)?, side(width)?]),
        None => Ok([side(text)?; 2]),
    }
}

fn colour(text: &str) -> Result<[u8; 3], String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let wrong = || "a colour is six hexadecimal digits: ffffff".to_owned();
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let value = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let [_, r, g, b] = value.to_be_bytes();
    Ok([r, g, b])
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 86_400.0 => Ok(x),
        _ => Err("seconds are a number above 0, at most 86400".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err("a tolerance is a number of 0 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_colours_and_tolerances() {
        assert_eq!(image_size("384"), Ok([384, 384]));
        assert_eq!(image_size("28x56"), Ok([28, 56]));
        assert!(image_size("0").is_err() && image_size("3x").is_err() && image_size("99999").is_err());
        assert_eq!(colour("#ff8000"), Ok([255, 128, 0]));
        assert!(colour("fff").is_err() && colour("+12345").is_err() && colour("é1234").is_err());
        assert_eq!(tolerance("1e-3"), Ok(1e-3));
        assert!(tolerance("NaN").is_err() && tolerance("-1").is_err() && tolerance("inf").is_err());
    }
}
