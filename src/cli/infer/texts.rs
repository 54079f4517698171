//! `vit-gpu infer` on texts: what is asked follows from the flags and from what the checkpoint
//! was made to do. Texts of a file are computed in batches and answered in their order.

use std::io::Write;
use std::time::Instant;

use super::labels::labels;
use super::rows::{Content, Row};
use super::tally::Tally;
use crate::cli::args::{Format, first};
use crate::cli::infer::args::InferArgs;
use crate::cli::locate::Found;
use crate::cli::open;
use crate::cli::outcome::{Outcome, Stop};
use crate::cli::outfile;
use crate::cli::output::{Report, millis};
use crate::cli::sink::Sink;
use crate::cli::talk::{self, Talk};
use crate::cli::texts::args::{AskArgs, Entities};
use crate::cli::texts::{self, BATCH, Opened, on_line};
use crate::error::{Error, Result};
use crate::labels::{LabelSource, Labels, Scoring};
use crate::records::Record;
use crate::text::{Aggregate, Kind, Scored, Task, Template, TextInfo, TooLong};

/// What is asked of every text.
pub(super) enum Question {
    /// Classes of the head.
    Classes,
    /// Classes of tokens, or entities made of them.
    Tags(Aggregate),
    /// Words behind masks.
    Masks,
    /// Whether the second text follows the first.
    Follows,
    /// Answers from a context.
    Answers,
    /// The likeliest of labels.
    Choose(Vec<String>, Template),
    /// How likely a text is.
    Perplexity,
}

/// One thing to be answered: a text and perhaps a second; for [`Question::Answers`] question and context.
struct Item {
    line: Option<usize>,
    first: String,
    second: Option<String>,
}

/// Runs the command on a text model and yields its exit code.
pub(super) fn run(args: &InferArgs, found: Found, talk: Talk, out: &mut Sink<'_, Format>) -> Outcome {
    let start = Instant::now();
    texts::without(image_flag(args), &found.id)?;
    let ask = &args.ask;
    pairs_fit(ask)?;
    [&ask.texts.input, &ask.context_file].into_iter().flatten().try_for_each(|p| outfile::protect(p))?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let opened = Opened::new(found, &options, talk)?;
    let question = question(ask, opened.session.info(), opened.session.name())?;
    let mut work = Work { args, format: out.format, opened, question };
    let mut items = items(ask, &work.question)?;
    let mut tally = Tally::default();
    tally.timing.load = millis(start.elapsed());
    let format = out.format;
    let mut report = Report::new(&mut *out, format, args.logits);
    report.begin(&work.columns())?;

    let outcome = work.answer_all(&mut items, &mut report, &mut tally);
    if let Err(Stop::Stdout(e)) = outcome {
        return Err(e.into());
    }
    tally.timing.total = millis(start.elapsed());
    // Also after a fatal error: what was answered is not lost, and JSON is whole.
    if ask.texts.input.is_some() || outcome.is_ok() {
        report.end(&work.opened.model, &work.opened.device, tally.timing)?;
    }
    outcome?;
    tally.say(talk);
    Ok(tally.exit_code())
}

/// The first flag for images that was given.
fn image_flag(args: &InferArgs) -> Option<&'static str> {
    first(&[
        ("an image", !args.inputs.is_empty()),
        ("--recursive", args.recursive),
        ("--embeddings (see `vit-gpu embed`)", args.embeddings.is_some()),
        ("--attention", args.attention.is_some()),
    ])
    .or_else(|| args.image.given())
}

fn pairs_fit(ask: &AskArgs) -> Result<()> {
    let (texts, pairs) = (ask.texts.text.len(), ask.pair.len());
    if pairs != 0 && pairs != texts {
        let what = format!("there are {texts} of --text and {pairs} of --pair");
        return Err(Error::usage(what, "pass a --pair for each --text"));
    }
    if ask.question.is_some() && ask.context.is_none() && ask.context_file.is_none() {
        return Err(Error::usage("there is no context to answer from", "pass --context or --context-file"));
    }
    if ask.next_sentence && ask.texts.input.is_none() && pairs == 0 {
        return Err(Error::usage("--next-sentence needs two texts", "pass --text and --pair"));
    }
    Ok(())
}

/// What the flags ask, or else the first thing that the model can do with what there is.
fn question(ask: &AskArgs, info: &TextInfo, name: &str) -> Result<Question> {
    let writes = |flag: &str| {
        if info.can(Task::Generate) {
            return Ok(());
        }
        let what = format!("{flag} is for models that write, and {name} is a {}", info.architecture);
        Err(Error::usage(what, can(info)))
    };
    if ask.texts.input.is_none() && ask.texts.text.is_empty() && ask.question.is_none() {
        return Err(Error::usage("there is nothing to read", can(info)));
    }
    if !ask.labels.is_empty() {
        writes("--labels")?;
        let [template] = &ask.template[..] else {
            let what =
                format!("--labels of texts takes one --template, and there are {}", ask.template.len());
            return Err(Error::usage(what, "pass one, as in \"{text} Is it true? {label}\""));
        };
        return Ok(Question::Choose(labels(ask)?, Template::new(template)?));
    }
    if ask.perplexity {
        writes("--perplexity")?;
        return Ok(Question::Perplexity);
    }
    let asked = if ask.question.is_some() || ask.no_answer {
        Some(("--question", Task::Answer))
    } else if ask.next_sentence {
        Some(("--next-sentence", Task::NextSentence))
    } else if ask.aggregate.is_some() {
        Some(("--aggregate", Task::Tag))
    } else {
        None
    };
    let of = |task: Task| match task {
        Task::Classify => Some(Question::Classes),
        Task::FillMask => Some(Question::Masks),
        Task::NextSentence => Some(Question::Follows),
        Task::Answer => Some(Question::Answers),
        Task::Tag => Some(Question::Tags(ask.aggregate.map(Entities::of_texts).unwrap_or_default())),
        Task::Generate => None,
    };
    if let Some((flag, task)) = asked {
        let what = || format!("{flag} asks for a head that {name}, a {}, does not have", info.architecture);
        let question = of(task).filter(|_| info.can(task));
        return question.ok_or_else(|| Error::usage(what(), can(info)));
    }
    let file = ask.texts.input.is_some();
    let paired = !ask.pair.is_empty();
    let fits = |task: &&Task| match task {
        Task::Classify => true,
        Task::FillMask | Task::Tag => file || !paired,
        Task::NextSentence => file || paired,
        Task::Answer => file,
        Task::Generate => false,
    };
    let found = info.tasks.iter().find(fits).and_then(|&task| of(task));
    found.ok_or_else(|| {
        let given = if paired { "two texts" } else { "a text" };
        let what = format!("{name} is a {}: it does nothing with {given} alone", info.architecture);
        Error::usage(what, can(info))
    })
}

/// What a model can do, by flags.
fn can(info: &TextInfo) -> String {
    let all = info.tasks.iter().flat_map(|task| -> &[&str] {
        match task {
            Task::Classify => &["--text T [--pair P] (classes)"],
            Task::Answer => &["--question Q --context C (answers)"],
            Task::FillMask => &["--text \"… [MASK] …\" (words for masks)"],
            Task::NextSentence => &["--text A --pair B --next-sentence"],
            Task::Tag => &["--text T [--aggregate …] (classes of tokens)"],
            Task::Generate if info.kind == Kind::Decoder => {
                &["--labels L,… --template T", "--perplexity --text T", "`vit-gpu generate --prompt T`"]
            }
            Task::Generate => &["--labels L,… --template T", "`vit-gpu generate --prompt T`"],
        }
    });
    let all: Vec<&str> = all.copied().chain(["`vit-gpu embed`"]).collect();
    format!("it takes {}", all.join(", "))
}

impl Question {
    /// Columns of CSV.
    fn columns(&self, scoring: Scoring, logits: bool) -> String {
        let logit = if logits { ",logit" } else { "" };
        match self {
            Question::Classes => format!("input,pair,rank,index,label,{}{logit},error", scoring.noun()),
            Question::Follows => format!("input,pair,rank,index,label,probability{logit},error"),
            Question::Tags(_) => "input,entity,start,end,word,score,error".to_owned(),
            Question::Masks => "input,mask,rank,id,token,probability,error".to_owned(),
            Question::Answers => "input,rank,start,end,answer,probability,score,error".to_owned(),
            Question::Choose(..) => {
                "input,pair,rank,index,label,probability,tokens,log_likelihood,error".to_owned()
            }
            Question::Perplexity => "input,tokens,log_likelihood,perplexity,error".to_owned(),
        }
    }

    /// Fields that a record must have, and those it may have.
    fn fields(&self) -> [&'static [&'static str]; 2] {
        match self {
            Question::Classes => [&["text"], &["pair"]],
            Question::Choose(_, template) if !template.has_pair() => [&["text"], &[]],
            Question::Masks | Question::Tags(_) | Question::Perplexity => [&["text"], &[]],
            Question::Follows | Question::Choose(..) => [&["text", "pair"], &[]],
            Question::Answers => [&["question", "context"], &[]],
        }
    }
}

/// Everything to be answered, in order.
fn items(ask: &AskArgs, question: &Question) -> Result<Box<dyn Iterator<Item = Result<Item>>>> {
    if let Some(path) = &ask.texts.input {
        let [need, may] = question.fields();
        let records = texts::records(path, need, may)?;
        return Ok(Box::new(records.map(|record| {
            let Record { line, fields } = record?;
            let mut fields = fields.into_iter();
            let (first, second) = (fields.next().flatten().unwrap_or_default(), fields.next().flatten());
            Ok(Item { line: Some(line), first, second })
        })));
    }
    if let Some(question) = &ask.question {
        let context = match (&ask.context, &ask.context_file) {
            (Some(context), _) => context.clone(),
            (None, Some(path)) => texts::read(path, "--context-file")?,
            (None, None) => String::new(),
        };
        let item = Item { line: None, first: question.clone(), second: Some(context) };
        return Ok(Box::new(std::iter::once(Ok(item))));
    }
    let seconds = ask.pair.clone().into_iter().map(Some).chain(std::iter::repeat(None));
    let items = ask.texts.text.clone().into_iter().zip(seconds);
    Ok(Box::new(items.map(|(first, second)| Ok(Item { line: None, first, second }))))
}

/// What is asked of the model.
struct Work<'a> {
    args: &'a InferArgs,
    format: Format,
    opened: Opened,
    question: Question,
}

impl Work<'_> {
    fn answer_all(
        &mut self,
        items: &mut dyn Iterator<Item = Result<Item>>,
        report: &mut Report<impl Write, Row>,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let batch = self.args.batch_size.unwrap_or(BATCH) as usize;
        loop {
            let (chunk, broken) = texts::chunk(items, batch);
            let more = chunk.len() == batch;
            let begun = Instant::now();
            let answers = self.answer(&chunk);
            tally.timing.run += millis(begun.elapsed());
            self.opened.say_warnings();
            for (item, answer) in chunk.into_iter().zip(answers?) {
                tally.inputs += 1;
                let (content, failed) = match (answer, item.line, &self.args.ask.texts.input) {
                    (Ok(content), _, _) => (content, None),
                    (Err(e), Some(line), Some(file)) => {
                        let what =
                            if let Error::Usage { what, .. } = &e { what.clone() } else { e.message() };
                        (self.failed(what), Some(on_line(&e, file, line)))
                    }
                    // What was typed can be typed again.
                    (Err(e), _, _) => return Err(e.into()),
                };
                if let Some(e) = &failed {
                    talk::error(e);
                    tally.failed(e);
                }
                if failed.is_none() || self.format != Format::Text {
                    report.row(Row {
                        line: item.line,
                        input: item.first,
                        pair: self.shown(item.second),
                        content,
                    })?;
                }
                if failed.is_some() && self.args.fail_fast {
                    return Ok(());
                }
            }
            match broken {
                Some(e) => return Err(e.into()),
                None if !more => return Ok(()),
                None => {}
            }
        }
    }

    /// Columns of CSV.
    fn columns(&self) -> String {
        self.question.columns(self.opened.session.labels().scoring, self.args.logits)
    }

    /// In place of an answer.
    fn failed(&self, error: String) -> Content {
        let columns = self.columns().split(',').count();
        Content::Failed { error, columns }
    }

    /// The second text in a row; a context is too long to be shown.
    fn shown(&self, second: Option<String>) -> Option<String> {
        second.filter(|_| !matches!(self.question, Question::Answers))
    }

    /// Answers of some, each or its error.
    fn answer(&self, items: &[Item]) -> Result<Vec<Result<Content>>> {
        if !matches!(self.question, Question::Classes | Question::Follows | Question::Tags(_)) {
            // These make batches of their own of one text.
            let alone = |item: &Item| texts::each(&[item], &|_| Ok(()), &|_| self.ask(&[item]));
            return items.iter().map(|item| alone(item).map(|mut one| one.remove(0))).collect();
        }
        let encode = |item: &Item| {
            let text = (item.first.as_str(), item.second.as_deref());
            self.opened.session.encode(text, self.too_long()).map(|_| ())
        };
        texts::each(items, &encode, &|items| self.ask(items))
    }

    fn too_long(&self) -> TooLong {
        if self.args.ask.texts.truncate { TooLong::Cut } else { TooLong::Refuse }
    }

    /// Answers of all of these.
    fn ask(&self, items: &[&Item]) -> Result<Vec<Content>> {
        let (session, too_long, top) = (&self.opened.session, self.too_long(), self.args.top_k);
        let logits = self.args.logits;
        match &self.question {
            Question::Classes => {
                let texts: Vec<_> = items.iter().map(|i| (i.first.as_str(), i.second.as_deref())).collect();
                let scored = session.classify(&texts, too_long)?;
                Ok(ranked(session.labels(), scored, top, logits))
            }
            Question::Follows => {
                let pairs: Vec<_> = items
                    .iter()
                    .map(|i| (i.first.as_str(), i.second.as_deref().unwrap_or_default()))
                    .collect();
                let scored = session.next_sentence(&pairs, too_long)?;
                // As in the pre-training of Devlin et al.: class 0 is the sentence that follows.
                let names = vec!["IsNext".to_owned(), "NotNext".to_owned()];
                let (source, scoring) = (LabelSource::Config, Scoring::Softmax);
                let labels = Labels { names, source, scoring, warnings: Vec::new() };
                Ok(ranked(&labels, scored, top, logits))
            }
            Question::Tags(aggregate) => {
                let texts: Vec<&str> = items.iter().map(|i| i.first.as_str()).collect();
                let found = session.tag(&texts, *aggregate, too_long)?;
                let grouped = *aggregate != Aggregate::None;
                Ok(texts.iter().zip(found).map(|(text, all)| Content::entities(text, all, grouped)).collect())
            }
            Question::Masks => items
                .iter()
                .map(|item| {
                    let filled = session.fill(&item.first, top, too_long)?;
                    Ok(Content::masks(&item.first, filled))
                })
                .collect(),
            Question::Choose(labels, template) => items
                .iter()
                .map(|item| {
                    let text = (item.first.as_str(), item.second.as_deref());
                    Ok(Content::choices(session.choose(text, labels, template, too_long)?, top))
                })
                .collect(),
            Question::Perplexity => {
                items.iter().map(|item| Ok(Content::perplexity(session.likelihood(&item.first)?))).collect()
            }
            Question::Answers => items
                .iter()
                .map(|item| {
                    let context = item.second.as_deref().unwrap_or_default();
                    let answers = session.answer(&item.first, context, self.args.ask.no_answer)?;
                    Ok(Content::answers(context, answers, top))
                })
                .collect(),
        }
    }
}

/// The best classes of each text, and the scores of all if they are asked for.
fn ranked(labels: &Labels, scored: Vec<Scored>, top: usize, logits: bool) -> Vec<Content> {
    let content = |s: Scored| {
        let predictions = labels.ranked(&s.logits, top);
        Content::classes(predictions, logits.then_some(s.logits))
    };
    scored.into_iter().map(content).collect()
}
