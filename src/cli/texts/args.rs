//! Arguments of everything that reads or writes texts.

use std::path::PathBuf;

use crate::cli::args::first;
use crate::text::Aggregate;
use clap::{Args, ValueEnum};

/// Texts by flag or from a file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub(crate) struct TextsArgs {
    /// A text; may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "input", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// Many from a .jsonl, .csv or .tsv file by the names of its fields (text, pair, question, context, and
    /// as data sets call them), or - for JSON lines on standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Cut texts that are too long for the model, of a pair the longer, instead of refusing them
    #[arg(long)]
    pub truncate: bool,
}

impl TextsArgs {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--text", !self.text.is_empty()),
            ("--input", self.input.is_some()),
            ("--truncate", self.truncate),
        ])
    }
}

/// What is asked about texts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub(crate) struct AskArgs {
    #[command(flatten)]
    pub texts: TextsArgs,
    /// The second text of a pair, one for each --text
    #[arg(long, value_name = "TEXT", requires = "text", allow_hyphen_values = true)]
    pub pair: Vec<String>,
    /// Tell whether the second text follows the first, where a model can do that besides
    #[arg(long, conflicts_with_all = ["question", "labels", "perplexity"])]
    pub next_sentence: bool,
    /// Find the answer to this in a context
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["text", "input"], allow_hyphen_values = true)]
    pub question: Option<String>,
    /// Where to look for the answer
    #[arg(
        long,
        value_name = "TEXT",
        requires = "question",
        conflicts_with = "context_file",
        allow_hyphen_values = true
    )]
    pub context: Option<String>,
    /// A file to look in, or - for standard input
    #[arg(long, value_name = "FILE", requires = "question")]
    pub context_file: Option<PathBuf>,
    /// Also say how likely it is that the context holds no answer, for models of SQuAD 2.0
    #[arg(long, conflicts_with = "text")]
    pub no_answer: bool,
    /// Of models that give tokens classes: make entities of tokens, as transformers' pipeline does
    /// [default: none]
    #[arg(long, value_enum, conflicts_with_all = ["question", "labels", "perplexity", "next_sentence", "pair"])]
    pub aggregate: Option<Entities>,
    /// Choose among these, or the lines of @FILE, without training: for images by CLIP or SigLIP, for texts by their
    /// likelihood under a generative model
    #[arg(long, value_name = "LABEL,...", value_delimiter = ',', allow_hyphen_values = true)]
    pub labels: Vec<String>,
    /// What a label is put into. Images: "a photo of a {}."; several are averaged, `imagenet` stands for CLIP's 80.
    /// Texts: "{text} Question: {pair}? Answer: {label}"
    #[arg(long, value_name = "TEXT", requires = "labels", allow_hyphen_values = true)]
    pub template: Vec<String>,
    /// Score texts: how uncertain a generative model is of the next token
    #[arg(long, conflicts_with_all = ["labels", "pair", "question"])]
    pub perplexity: bool,
}

impl AskArgs {
    /// Whether images are asked about labels: there are labels, and no texts.
    pub(crate) fn labels_images(&self) -> bool {
        !self.labels.is_empty() && self.texts.text.is_empty() && self.texts.input.is_none()
    }

    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        self.texts.given().or_else(|| {
            first(&[
                ("--pair", !self.pair.is_empty()),
                ("--next-sentence", self.next_sentence),
                ("--question", self.question.is_some()),
                ("--no-answer", self.no_answer),
                ("--aggregate", self.aggregate.is_some()),
                ("--labels", !self.labels.is_empty()),
                ("--perplexity", self.perplexity),
            ])
        })
    }
}

/// How tokens become entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Entities {
    /// Each token stands for itself
    None,
    /// Neighbors of one class are one entity
    Simple,
    /// So are words, each of the class of its first token
    First,
    /// So are words, each of the class that is best on average
    Average,
    /// So are words, each of the class of its surest token
    Max,
}

impl Entities {
    /// As texts know it.
    pub(crate) fn of_texts(self) -> Aggregate {
        match self {
            Entities::None => Aggregate::None,
            Entities::Simple => Aggregate::Simple,
            Entities::First => Aggregate::First,
            Entities::Average => Aggregate::Average,
            Entities::Max => Aggregate::Max,
        }
    }
}

/// What is written to a prompt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub(crate) struct WriteArgs {
    /// Generate: what GPT-2 continues, or T5 answers; -n is then the number of tokens
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// The prompt from a file, or - for standard input; one line end at its end is omitted
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,
    /// So many texts for one prompt [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub samples: Option<u32>,
    /// Search for the likeliest text among so many at a time, instead of token by token; --samples shows the
    /// best of them
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=32))]
    #[arg(conflicts_with_all = ["temperature", "top_k", "top_p", "seed", "stop"])]
    pub beams: Option<u32>,
    /// Of texts found by --beams: above 0 longer ones are preferred, below 0 shorter ones [default: 1]
    #[arg(long, value_name = "X", requires = "beams", allow_negative_numbers = true, value_parser = penalty)]
    pub length_penalty: Option<f32>,
    /// Divide the scores of tokens that are there already by this, 1 for not
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = repetition)]
    pub repetition_penalty: Option<f32>,
    /// Let no so many tokens come twice in the same order, 0 for any
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub no_repeat_ngram: Option<u32>,
    /// End no text before it has so many new tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub min_tokens: Option<u32>,
    /// End a text before this; may be given several times; \n, \t, \r and \\ are what they are in most
    /// languages
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = unescaped)]
    pub stop: Vec<String>,
    /// Show special tokens: the end, <extra_id_0>
    #[arg(long)]
    pub keep_special: bool,
    /// Cut the beginning of a prompt that leaves no room
    #[arg(long)]
    pub truncate: bool,
}

impl WriteArgs {
    /// The first of these flags that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--prompt", self.prompt.is_some()),
            ("--prompt-file", self.prompt_file.is_some()),
            ("--samples", self.samples.is_some()),
            ("--beams", self.beams.is_some()),
            ("--repetition-penalty", self.repetition_penalty.is_some()),
            ("--no-repeat-ngram", self.no_repeat_ngram.is_some()),
            ("--min-tokens", self.min_tokens.is_some()),
            ("--stop", !self.stop.is_empty()),
            ("--keep-special", self.keep_special),
            ("--truncate", self.truncate),
        ])
    }
}

fn repetition(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x > 0.0 && x <= 1e6 => Ok(x),
        _ => Err("a penalty is a number above 0, at most 1000000; 1 is none".to_owned()),
    }
}

/// A text with its escapes replaced; a backslash before anything else stays.
#[allow(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('\\') | None => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
        }
    }
    Ok(out)
}

fn penalty(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() && x.abs() <= 100.0 => Ok(x),
        _ => Err("a penalty is a number from -100 to 100; 1 is usual".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_a_stop_text() {
        let read = |text| unescaped(text).expect("any text will do");
        assert_eq!(read(r"a\n\tb"), "a\n\tb");
        assert_eq!(read(r"a\\n"), r"a\n");
        assert_eq!(read("a\nb"), "a\nb");
        assert_eq!(read(r"C:\d\"), r"C:\d\");
    }
}
