//! Arguments of `bench`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use crate::cli::args::{DtypeArg, Feature, image_size};
use crate::cli::sink::SinkArgs;
use crate::tensor::Size;

pub(crate) const BENCH_HELP: &str = "\
Examples:
    vit-gpu bench --synthetic vit-b/16 -b 1,8 --dtype f32,f16
    vit-gpu bench -m FOLDER -o bench.json

Each combination of model, dtype, device and batch is a row: mean and standard deviation of
-r runs after the warm-up, from pixels on the host to results on the host, by wall clock. JSON
holds every sample.

Two more rows for each model, dtype and device tell how long a process of its own takes from
its start to its first answer: cold, with nothing kept on disk (no compiled pipelines, no measured
choices, and the driver's own cache moved away where Mesa or NVIDIA let it), and warm, with what
the cold one left. What the operating system keeps of files that were read is not touched.

device MB is what is allocated there: weights, activations, inputs, results. host MB is the most
memory that the process had (Linux); a software adapter's device memory is part of it.

The commit is shown if the build was told:
    VIT_GPU_COMMIT=$(git rev-parse --short HEAD) cargo build --release

Exit code 1 if a row could not be measured, for example because its batch does not fit.";

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Models, as `infer` takes them; may be given several times [default: $VIT_GPU_MODEL, else
    /// builtin:shapes]
    #[arg(short, long, value_name = "MODEL")]
    pub model: Vec<OsString>,
    /// LoRA adapter to lay over each of these models: a folder in PEFT's form
    #[arg(long, value_name = "DIR", conflicts_with = "synthetic")]
    pub adapter: Option<PathBuf>,
    /// Random weights of named sizes: vit-b/16,vit-l/16
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub synthetic: Vec<String>,
    /// Never go online; models come from the cache
    #[arg(long)]
    pub offline: bool,
    /// Read weight files instead of mapping them into memory
    #[arg(long)]
    pub no_mmap: bool,
    /// Adapters: auto, numbers or parts of names from `vit-gpu devices` [default: auto]
    #[arg(
        long,
        value_name = "DEVICE,...",
        value_delimiter = ',',
        env = "VIT_GPU_DEVICE",
        hide_env_values = true
    )]
    pub device: Vec<String>,
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
    /// Dtypes that weights and activations are stored in
    #[arg(
        long,
        value_enum,
        value_name = "TYPE,...",
        value_delimiter = ',',
        default_value = "f32",
        env = "VIT_GPU_DTYPE",
        hide_env_values = true
    )]
    pub dtype: Vec<DtypeArg>,
    /// Kernel variant of an op, wherever it can be used: matmul=tile64; `vit-gpu tune --list` shows all
    #[arg(long, value_name = "OP=NAME")]
    pub variant: Vec<String>,
    /// Neither measure kernel variants on first use (at most 2 s) nor use what was measured
    #[arg(long)]
    pub no_tune: bool,
    /// Keep bounds checks in shaders: slower, for doubtful drivers
    #[arg(long, env = "VIT_GPU_CHECKED", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub checked: bool,
    /// Batch sizes
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: Vec<u32>,
    /// Another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<Size>,
    /// Runs that count
    #[arg(short, long, value_name = "R", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Runs before those; on a GPU, 0.3 s of unbroken work follow, in which its clocks rise. With 0, neither
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub warmup: u32,
    /// Pairs of a cold and a warm start; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub starts: u32,
    #[command(flatten)]
    pub sink: SinkArgs<Rows>,
    /// Answer once and tell how long it took: what a start is measured with
    #[arg(long, value_name = "UNIX_NANOSECONDS", hide = true)]
    pub answer_once: Option<u64>,
    /// Where such a process keeps its caches
    #[arg(long, value_name = "DIR", hide = true, requires = "answer_once")]
    pub cache_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rows {
    /// Markdown tables, a row as soon as it is measured
    #[default]
    Md,
    /// One object, with every sample
    Json,
    /// One object a line for each row
    Jsonl,
    /// One line for each row
    Csv,
}
