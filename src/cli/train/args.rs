//! Arguments of `train`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use crate::cli::args::{DeviceArgs, ModelArgs};
use crate::train::Scope;
use crate::train::data::RandAugment;

pub(crate) const TRAIN_HELP: &str = "\
Examples:
    vit-gpu train -m google/vit-base-patch16-224 --data flowers -o flowers-vit --trainable last-4
    vit-gpu train -m FOLDER --data builtin:shapes -o shapes-vit --epochs 1 --epoch-size 256
    vit-gpu train --new vit_tiny_patch16_224 --model-args img_size=32 --data flowers -o small-vit
    vit-gpu train --resume small-vit
    vit-gpu train -m ./bert --data claims.tsv -o claims-bert --trainable head --val-split 0.5
    vit-gpu train -m ./vit-mae --data photos -o mae-run --epochs 2 -b 4
    vit-gpu train -m ./imagegpt --data photos -o gpt-run --epochs 2 -b 4 --hflip 0.5
    vit-gpu train -m ./clip --data captions.jsonl -o clip-run --val-split 0.5
    vit-gpu train -m ./gpt2 --data story.txt -o story-gpt2 --epochs 2 --val-split 0.4

The data is a folder as torchvision's ImageFolder takes it: DATA/train/CLASS/*.jpg with DATA/val/CLASS/*.jpg,
or DATA/CLASS/*.jpg, of which a share is kept for validation. If its classes are not the model's, the model
gets a new classifier. builtin:shapes is drawn on the fly, new pictures every epoch.

Texts are lists (.jsonl, .csv, .tsv), SQuAD's .json or plain .txt: train.* with validation.* in a folder,
or one file. What is learned follows from the model and the fields, or is said by --objective:
    text, label [pair]           classification of BERT or GPT-2; regression if asked for
    question, context, answers   question-answering of BERT
    tokens, tags                 token-classification of BERT (.jsonl)
    source, target               text-to-text of T5
    text alone, or a .txt        causal-lm of GPT-2, masked-lm of BERT, span-corruption of T5
There is no dropout. Running text is cut into pieces of --max-tokens.

CLIP and SigLIP learn which captions are true of an image, from a list with image and caption (.jsonl, .csv,
.tsv), or a folder with 1.txt beside 1.jpg; by --objective contrastive also from names of classes.

What is learned goes by the model. Most learn classes. A masked autoencoder (ViT-MAE) learns to paint
hidden patches: its images need no classes, and infer --reconstruct shows what it paints. A generator of
images (LlamaGen, ImageGPT) learns the next token of images that its codec turns into tokens once, by
class where it draws by class; generate draws with the result.

What is written:
    OUT/last/          the model, and what --resume needs
    OUT/best/          the model whose validation was best; infer -m OUT/best takes it, and so do
                       transformers and timm
    OUT/summary.csv    an epoch a row
    OUT/curve.svg      losses, and what else a validation finds
A folder is there whole or not at all. Ctrl-C saves and ends; --resume goes on with the same bits.

Where nothing is said, images of a folder are cropped, resized and mirrored at random as timm does;
--no-aug takes them as for inference. Weights are f32.";

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Images: a folder, by class where classes are learned, or builtin:shapes. Texts: .jsonl, .csv, .tsv, .json or
    /// .txt, or a folder of such
    #[arg(long, alias = "data-dir", value_name = "DATA", required_unless_present = "resume")]
    pub data: Option<OsString>,
    /// Folder to write
    #[arg(short, long, value_name = "OUT", required_unless_present = "resume")]
    pub output: Option<PathBuf>,
    /// Go on with the run in this folder, as it was asked for
    #[arg(long, value_name = "OUT", conflicts_with_all = ["data", "output", "new"])]
    pub resume: Option<PathBuf>,
    /// Write over a run that is there
    #[arg(long)]
    pub force: bool,
    /// What is learned from texts, where model and fields do not say it
    #[arg(long, value_enum, value_name = "NAME")]
    pub objective: Option<Objective>,
    /// Begin with random weights: a ViT by timm's name, or by the config.json of a ViT, ViT-MAE, BERT, GPT-2, T5,
    /// LlamaGen (with vq.safetensors beside it) or ImageGPT (with preprocessor_config.json)
    #[arg(long, value_name = "ARCH|CONFIG")]
    pub new: Option<String>,
    /// Begin with a classifier of random weights in the place of the model's own, for the same classes
    #[arg(long, conflicts_with_all = ["new", "resume"])]
    pub new_head: bool,
    /// Arguments of timm's class for --new: img_size=64 depth=6 pos_embed=none
    #[arg(long, value_name = "KEY=VALUE", num_args = 1.., requires = "new", value_parser = argument)]
    pub model_args: Vec<(String, Json)>,
    /// Folder of the tokenizer for --new [default: where its config.json lies]
    #[arg(long, value_name = "DIR", requires = "new")]
    pub tokenizer: Option<PathBuf>,
    /// What is trained: all, head, or last-N for the last N layers and the head
    #[arg(long, value_name = "WHAT", default_value = "all", value_parser = scope)]
    pub trainable: Scope,
    /// Train a LoRA adapter of this rank over all linear layers, and the classifier, instead of weights
    #[arg(long, value_name = "RANK", conflicts_with_all = ["trainable", "new"], value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub lora: Option<u32>,
    /// Alpha of the adapter: its product counts alpha / rank times [default: twice the rank]
    #[arg(long, value_name = "X", requires = "lora", value_parser = positive)]
    pub lora_alpha: Option<f32>,
    /// Endings of names of the layers that the adapter has, as PEFT's target_modules: q_proj,v_proj
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "lora")]
    pub lora_targets: Vec<String>,
    #[command(flatten)]
    pub course: CourseArgs,
    #[command(flatten)]
    pub feed: FeedArgs,
    /// Format of the rows that are written, an epoch each
    #[arg(long, value_enum, default_value_t)]
    pub format: Rows,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// How parameters move.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Optimizer")]
pub(crate) struct CourseArgs {
    /// Epochs
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub epochs: u32,
    /// Optimizer
    #[arg(long, value_enum, default_value_t)]
    pub opt: Opt,
    /// Highest learning rate [default: 1e-3 for a head, an adapter or a new model, else 1e-4; sgd 0.01, lion a third]
    #[arg(long, value_name = "X", value_parser = positive)]
    pub lr: Option<f32>,
    /// How the learning rate goes on behind the warm-up
    #[arg(long, value_enum, default_value_t)]
    pub sched: Sched,
    /// Epochs in which the learning rate rises [default: a twentieth of all]
    #[arg(long, value_name = "X", value_parser = not_negative)]
    pub warmup_epochs: Option<f32>,
    /// Last learning rate
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = not_negative)]
    pub min_lr: f32,
    /// Weight decay, of matrices
    #[arg(long, value_name = "X", default_value_t = 0.05, value_parser = not_negative)]
    pub weight_decay: f32,
    /// Momentum of sgd
    #[arg(long, value_name = "X", default_value_t = 0.9, value_parser = share)]
    pub momentum: f32,
    /// Largest norm of all gradients together; 0 for no limit
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = not_negative)]
    pub clip_grad: f32,
    /// Share of each label that is spread over all classes
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = share)]
    pub smoothing: f32,
    /// Batches whose gradients are added up to those of a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub grad_accum_steps: u32,
    /// Compute layers again on the way back instead of keeping what they computed: less memory, more time
    #[arg(long)]
    pub grad_checkpointing: bool,
    /// What the learning rate falls by from layer to layer, towards the first, as in 0.75 [default: 1]
    #[arg(long, value_name = "X", conflicts_with = "lora", value_parser = above_share)]
    pub layer_decay: Option<f32>,
    /// Decay of a moving average of the weights, as in 0.999: it is validated, and is what OUT/best holds [default: none]
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub model_ema_decay: Option<f32>,
    /// What order, variation and new weights are drawn by
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Save OUT/last every so many steps, too
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub save_every: u32,
}

/// How images come.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub(crate) struct FeedArgs {
    /// Images or texts of a step
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch_size: u32,
    /// Share of each class that is kept for validation, where there is no folder of such images
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = share)]
    pub val_split: f32,
    /// Pictures of an epoch of builtin:shapes; a quarter as many are for validation, at least 500 (64 of
    /// those that are drawn by token)
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub epoch_size: u32,
    /// Take images as for inference
    #[arg(long, conflicts_with_all = ["scale", "hflip", "aa", "color_jitter", "reprob"])]
    pub no_aug: bool,
    /// Least and greatest share of an image's area that a crop has [default: 0.08 1; of masked images 0.2 1]
    #[arg(long, value_names = ["MIN", "MAX"], num_args = 2, value_parser = share)]
    pub scale: Option<Vec<f32>>,
    /// Probability of being mirrored [default: 0.5; of images that are drawn by token 0]
    #[arg(long, value_name = "P", value_parser = share)]
    pub hflip: Option<f32>,
    /// RandAugment in timm's naming: rand-m9-mstd0.5-inc1
    #[arg(long, value_name = "NAME", value_parser = rand_augment)]
    pub aa: Option<RandAugment>,
    /// How far brightness, contrast and saturation may be from 1 [default: 0; timm's is 0.4]
    #[arg(long, value_name = "X", value_parser = share)]
    pub color_jitter: Option<f32>,
    /// Probability that a rectangle is filled with noise [default: 0]
    #[arg(long, value_name = "P", value_parser = share)]
    pub reprob: Option<f32>,
    /// Alpha of mixup; 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = not_negative)]
    pub mixup: f32,
    /// Alpha of CutMix; 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = not_negative)]
    pub cutmix: f32,
    /// Share of patches that a masked autoencoder does not see [default: as its configuration says]
    #[arg(long, value_name = "X", value_parser = share)]
    pub mask_ratio: Option<f32>,
    /// Probability that a generator does not hear an image's class, so that guidance works [default: 0.1]
    #[arg(long, value_name = "P", value_parser = share)]
    pub class_dropout: Option<f32>,
    /// Most tokens of a text, whose end is left away, and of a piece of running text [default: as many as the model
    /// takes]
    #[arg(long, alias = "max-length", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
}

/// What is learned from texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
pub(crate) enum Objective {
    /// Classes of texts or of pairs
    Classification,
    /// A number for a text or a pair: mean squared error
    Regression,
    /// The next token of running text
    CausalLm,
    /// Words behind masks: 15 % of the tokens, drawn anew each epoch
    MaskedLm,
    /// Where the answer to a question stands in a context
    QuestionAnswering,
    /// A tag for each word
    TokenClassification,
    /// A text for a text
    TextToText,
    /// What stood in the gaps of a text: 15 % of the tokens, in spans of three on average
    SpanCorruption,
    /// Which captions are true of an image: CLIP's or SigLIP's own loss
    Contrastive,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
pub(crate) enum Opt {
    /// Adam with decoupled weight decay
    #[default]
    Adamw,
    /// Stochastic gradient descent with momentum
    Sgd,
    /// Lion
    Lion,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
pub(crate) enum Sched {
    /// As it is
    Constant,
    /// Down in a line
    Linear,
    /// Down along half a cosine
    #[default]
    Cosine,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rows {
    /// For people
    #[default]
    Text,
    /// One object a line for each epoch
    Jsonl,
}

fn scope(text: &str) -> Result<Scope, String> {
    let layers = text.strip_prefix("last-").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    match (text, layers) {
        ("all", _) => Ok(Scope::All),
        ("head", _) => Ok(Scope::Head),
        (_, Some(n)) => Ok(Scope::Last(n)),
        _ => Err("it is all, head, or last-N, as in last-2".to_owned()),
    }
}

/// A value as JSON reads it, or the word itself.
fn argument(text: &str) -> Result<(String, Json), String> {
    let (key, value) = text.split_once('=').ok_or("an argument is KEY=VALUE, as in depth=6")?;
    let value = match value {
        "True" | "False" => Json::Bool(value == "True"),
        _ => serde_json::from_str(value).unwrap_or_else(|_| Json::from(value)),
    };
    Ok((key.to_owned(), value))
}

fn number(text: &str, fits: impl Fn(f32) -> bool, what: &str) -> Result<f32, String> {
    text.parse::<f32>().ok().filter(|x| x.is_finite() && fits(*x)).ok_or_else(|| what.to_owned())
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "it is a number above 0")
}

fn not_negative(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "it is a number of 0 or more")
}

fn below_one(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..1.0).contains(&x), "it is a number from 0 and below 1")
}

fn above_share(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0 && x <= 1.0, "it is a number above 0 and up to 1")
}

fn rand_augment(text: &str) -> Result<RandAugment, String> {
    RandAugment::parse(text).map_err(|e| e.message())
}

fn share(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "it is a number from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_arguments() {
        assert_eq!(scope("last-2"), Ok(Scope::Last(2)));
        assert!(scope("last-0").is_err() && scope("last").is_err() && scope("some").is_err());
        assert_eq!(argument("depth=6"), Ok(("depth".to_owned(), Json::from(6))));
        assert_eq!(argument("pos_embed=none"), Ok(("pos_embed".to_owned(), Json::from("none"))));
        assert_eq!(argument("class_token=False"), Ok(("class_token".to_owned(), Json::from(false))));
        assert!(argument("depth").is_err() && share("1.1").is_err() && positive("NaN").is_err());
    }
}
