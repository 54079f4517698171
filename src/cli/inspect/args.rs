//! Arguments of `inspect`.

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, ModelArgs, Plain, image_size};
use crate::cli::sink::SinkArgs;
use crate::tensor::Size;

pub(crate) const INSPECT_HELP: &str = "\
Examples:
    vit-gpu inspect -m FOLDER
    vit-gpu inspect -m FOLDER --plan -b 8
    vit-gpu inspect --graph dot -o graph.dot";

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Images computed, or samples generated, at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    /// Another resolution than trained: a side, or HEIGHTxWIDTH, in pixels
    #[arg(long, value_name = "N|HxW", value_parser = image_size)]
    pub image_size: Option<Size>,
    /// Outputs to plan for, by name; `vit-gpu inspect` lists them [default: what `infer` needs]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub outputs: Vec<String>,
    /// Print the graph instead (of a generative model, of one token): as text, or for Graphviz
    #[arg(long, value_enum, value_name = "text|dot", conflicts_with = "plan")]
    pub graph: Option<GraphForm>,
    /// Print the plan instead: a line for each launch
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub sink: SinkArgs<Plain>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphForm {
    /// A line for each operation
    Text,
    /// Graphviz
    Dot,
}
