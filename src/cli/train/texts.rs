//! What is learned from texts, by the model and the fields of the data, or as it was asked for.

use std::path::Path;

use clap::ValueEnum;

use super::args::Objective;
use super::asked::Asked;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::models::text::Kind;
use crate::models::{self, AnyModel};
use crate::session::ModelFiles;
use crate::train::data::{self, Fields};
use crate::train::texts::{self, Texts};

/// What is learned from texts.
pub(super) struct Learned {
    pub(super) task: Texts,
    objective: Objective,
}

impl Learned {
    /// And few digits by which the data is known again.
    pub(super) fn new(files: ModelFiles, path: &Path, asked: &Asked, talk: Talk) -> Result<(Self, String)> {
        let (split, seed) = asked.split();
        let reading = asked.reading();
        let objective = match asked.objective {
            Some(objective) => objective,
            None => meant(&files, data::fields_of(path)?)?,
        };
        let mut of_classes = String::new();
        let (task, data) = match objective {
            Objective::Classification => {
                let sets = data::read_texts(path, split, seed)?;
                of_classes = format!(" of {} classes", sets[0].classes.len());
                let data = sets.each_ref().map(data::TextSet::digest).concat();
                (texts::classes(files, sets, &reading)?, data)
            }
            Objective::Regression => {
                let sets = data::read_rated(path, split, seed)?;
                let data = data::digest_of(&sets);
                (texts::regression(files, sets, &reading)?, data)
            }
            Objective::QuestionAnswering => {
                let sets = data::read_questions(path, split, seed)?;
                let data = data::digest_of(&sets);
                (texts::answers(files, sets, &reading)?, data)
            }
            Objective::TokenClassification => {
                let sets = data::read_tagged(path, split, seed)?;
                let data = data::digest_of(&sets);
                (texts::tags(files, sets, &reading)?, data)
            }
            Objective::TextToText => {
                let sets = data::read_pairs(path, split, seed)?;
                let data = data::digest_of(&sets);
                (texts::text_to_text(files, sets, &reading)?, data)
            }
            Objective::Contrastive => {
                let what = format!("{} learns from texts alone", files.name);
                return Err(Error::usage(what, "images with captions are for a whole CLIP or SigLIP"));
            }
            Objective::CausalLm | Objective::MaskedLm | Objective::SpanCorruption => {
                let sets = data::read_documents(path, split, seed)?;
                let data = data::digest_of(&sets);
                let begin = match objective {
                    Objective::CausalLm => texts::next_token,
                    Objective::MaskedLm => texts::masked_words,
                    _ => texts::span_corruption,
                };
                (begin(files, sets, &reading)?, data)
            }
        };
        let learned = Self { task, objective };
        let ([train, held_out], units) = (learned.task.counts(), learned.units());
        talk.note(format_args!(
            "{}: {train} {units}{of_classes} to train on, {held_out} to validate on",
            name(objective)
        ));
        if learned.task.new_head() {
            talk.note(match objective {
                Objective::Classification => "the classes are not the model's: it gets a new classifier",
                Objective::TokenClassification => "the tags are not the model's: it gets a new classifier",
                _ => "the model has no head for that: it gets a new one",
            });
        }
        Ok((learned, data))
    }

    /// What examples are.
    fn units(&self) -> &'static str {
        match self.objective {
            Objective::Classification | Objective::Regression => "texts",
            Objective::TokenClassification => "sentences",
            Objective::QuestionAnswering => "windows",
            Objective::TextToText => "pairs",
            Objective::CausalLm | Objective::MaskedLm | Objective::SpanCorruption => "pieces of text",
            Objective::Contrastive => "images",
        }
    }

    /// The command that tries the model, and what it takes.
    pub(super) fn example(&self) -> (&'static str, &'static str) {
        match self.objective {
            Objective::Classification | Objective::Regression | Objective::TokenClassification => {
                ("infer", "--text TEXT")
            }
            Objective::MaskedLm => ("infer", "--text \"TEXT WITH [MASK]\""),
            Objective::QuestionAnswering => ("infer", "--question QUESTION --context CONTEXT"),
            Objective::CausalLm
            | Objective::TextToText
            | Objective::SpanCorruption
            | Objective::Contrastive => ("generate", "--prompt TEXT"),
        }
    }
}

/// The name of an objective on the command line.
fn name(objective: Objective) -> String {
    objective.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

/// What a model is to learn from texts with these fields.
///
/// # Errors
/// [`Error::Usage`] where it can learn nothing from them.
fn meant(files: &ModelFiles, fields: Fields) -> Result<Objective> {
    let model = models::from_config(&files.config, files.checkpoint.index(), None);
    let model = model.and_then(AnyModel::text).map_err(|e| e.within(&files.name))?;
    let takes = match (fields, model.info().kind) {
        (Fields::Text, Kind::Encoder) => return Ok(Objective::MaskedLm),
        (Fields::Text, Kind::Decoder) => return Ok(Objective::CausalLm),
        (Fields::Text, Kind::EncoderDecoder) => return Ok(Objective::SpanCorruption),
        (Fields::Labelled, Kind::Encoder | Kind::Decoder) => {
            let number = files.config["problem_type"] == "regression";
            return Ok(if number { Objective::Regression } else { Objective::Classification });
        }
        (Fields::Questions, Kind::Encoder) => return Ok(Objective::QuestionAnswering),
        (Fields::Tagged, Kind::Encoder) => return Ok(Objective::TokenClassification),
        (Fields::Pairs, Kind::EncoderDecoder) => return Ok(Objective::TextToText),
        (_, Kind::Encoder) => {
            "it learns from text and label; question, context and answers; tokens and tags; text alone"
        }
        (_, Kind::Decoder) => "it learns from text and label, and from text alone",
        (_, Kind::EncoderDecoder) => "it learns from source and target, and from text alone",
    };
    let what = format!("{} does not learn from {}", files.name, fields.named());
    Err(Error::usage(what, takes))
}
