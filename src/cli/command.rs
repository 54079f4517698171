//! The commands there are, and the help of the program as a whole.

use clap::{Parser, Subcommand};

use super::args::TalkArgs;
use super::attention::args::{ATTENTION_HELP, AttentionArgs};
use super::bench::args::{BENCH_HELP, BenchArgs};
use super::devices::DevicesArgs;
use super::doctor::DoctorArgs;
use super::embed::args::{EMBED_HELP, EmbedArgs};
use super::generate::args::{GENERATE_HELP, GenerateArgs, TOKENS_HELP, TokensArgs};
use super::infer::args::{INFER_HELP, InferArgs};
use super::inspect::args::{INSPECT_HELP, InspectArgs};
use super::merge::{MERGE_HELP, MergeArgs};
use super::profile::args::{PROFILE_HELP, ProfileArgs};
use super::search::args::{SEARCH_HELP, SearchArgs};
use super::train::args::{TRAIN_HELP, TrainArgs};
use super::tune::{TUNE_HELP, TuneArgs};
use super::verify::{VERIFY_HELP, VerifyArgs};

/// Shown under `vit-gpu --help` and in the man page; tests compare it with `outcome::exit_code`.
const AFTER_HELP: &str = "\
Data goes to standard output, everything else to standard error. Nothing ever prompts.

Exit codes:
    0    all went well (also when the reader of a pipe has had enough)
    1    some or all inputs failed, an output could not be written, or a check did not pass
    2    the command line is wrong
    3    the model was not found or cannot be used
    4    no adapter is supported, or the adapter's limits are too small
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
    https_proxy, http_proxy, all_proxy, no_proxy
                       proxies on the way to a hub: http, https, socks4, socks5, socks5h
    NO_COLOR           no colors in help texts";

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Classify images or texts, answer questions, fill masks, show attention
    #[command(after_help = INFER_HELP)]
    Infer(Box<InferArgs>),
    /// Make embeddings of texts or images
    #[command(after_help = EMBED_HELP)]
    Embed(Box<EmbedArgs>),
    /// Find images by words or by an image, through an index of their embeddings
    #[command(after_help = SEARCH_HELP)]
    Search(Box<SearchArgs>),
    /// Generate texts, or images patch by patch, token by token
    #[command(after_help = GENERATE_HELP)]
    Generate(Box<GenerateArgs>),
    /// Encode an image into tokens, or decode tokens into an image
    #[command(after_help = TOKENS_HELP)]
    Tokens(Box<TokensArgs>),
    /// Plot which tokens of a text or an image attend to which
    #[command(after_help = ATTENTION_HELP)]
    Attention(Box<AttentionArgs>),
    /// Train a model on images or texts by class: all of it, its last layers, or a new classifier
    #[command(after_help = TRAIN_HELP)]
    Train(Box<TrainArgs>),
    /// List the adapters of this machine and whether they are supported
    Devices(DevicesArgs),
    /// Show a model: architecture, parameters, memory, work, graph and plan
    #[command(after_help = INSPECT_HELP)]
    Inspect(Box<InspectArgs>),
    /// Compare a model's outputs with recorded ones
    #[command(after_help = VERIFY_HELP)]
    Verify(Box<VerifyArgs>),
    /// Merge a LoRA adapter into its model, as a folder of its own
    #[command(after_help = MERGE_HELP)]
    Merge(Box<MergeArgs>),
    /// Measure the kernel variants of a model's ops on this adapter, and keep the fastest
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
