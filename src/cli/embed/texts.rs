//! Embeddings of texts.

use std::path::Path;
use std::time::Instant;

use super::answers::Answers;
use crate::cli::args::first;
use crate::cli::embed::args::{EmbedArgs, Pooling, Vector};
use crate::cli::locate::Found;
use crate::cli::open;
use crate::cli::outcome::{Outcome, Stop};
use crate::cli::outfile;
use crate::cli::output::millis;
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::cli::texts::{self, BATCH, Opened, on_line};
use crate::error::{Error, Result};
use crate::printable::escaped;
use crate::text::TooLong;
use crate::text::sentence::Sentence;

/// A text, and its line if it is of a file.
type Item = (Option<usize>, String);

/// Runs the command on a text model and yields its exit code.
pub(super) fn run(args: &EmbedArgs, found: Found, talk: Talk, out: &mut Sink<'_, Vector>) -> Outcome {
    let begun = Instant::now();
    let image = first(&[("an image", !args.inputs.is_empty()), ("--recursive", args.recursive)]);
    texts::without(image.or_else(|| args.image.given()), &found.id)?;
    if args.texts.text.is_empty() && args.texts.input.is_none() {
        return Err(Error::usage("there is nothing to read", "pass --text or --input").into());
    }
    let folder = found.files.folder.as_deref().unwrap_or(Path::new("."));
    args.texts.input.as_deref().map_or(Ok(()), outfile::protect)?;
    let mut way = Way::new(args, folder, talk)?;
    let id = found.id.clone();
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let mut opened = Opened::new(found, &options, talk)?;
    way.tower = args.pool.is_none() && opened.session.info().tower.is_some();
    if let Some(limit) = way.said.as_ref().and_then(|said| said.limit) {
        opened.shorten(limit);
    }
    let mut items = items(args)?;
    let mut answers = Answers::new(way.normalize, &mut *out, begun, talk);
    let outcome = embed_all(args, &mut opened, &way, &mut items, &mut answers, talk);
    let name = way.name();
    if args.texts.input.is_none() {
        // What was typed can be typed again: there is no row for it.
        outcome?;
        return answers.end((opened.model, &name), &opened.device, Ok(()), &id);
    }
    answers.end((opened.model, &name), &opened.device, outcome, &id)
}

/// How embeddings are made, by flags and by the folder's files.
struct Way {
    /// What the folder says; all of it counts unless a pooling is named, then what it says of texts.
    said: Option<Sentence>,
    pool: Option<Pooling>,
    /// A text tower's own vector, in the space of images.
    tower: bool,
    normalize: bool,
}

impl Way {
    fn new(args: &EmbedArgs, folder: &Path, talk: Talk) -> Result<Self> {
        // Flags that say it all must work beside files that cannot be read.
        let mut said = match Sentence::read(folder) {
            Err(_) if args.pool.is_some() => None,
            said => said?,
        };
        match (&mut said, &args.prompt_name) {
            (Some(said), Some(name)) => said.choose_prompt(name)?,
            (None, Some(name)) => {
                let what = format!("--prompt-name {name}: the folder has no prompts");
                return Err(Error::usage(what, "leave it away"));
            }
            (_, None) => {}
        }
        let prompt = said.as_ref().and_then(|said| Some((said.prompt.as_ref()?, said)));
        if let Some((name, said)) = prompt.filter(|(name, said)| !said.prompts[*name].is_empty()) {
            let (name, text) = (escaped(name), texts::shown(&said.prompts[name]));
            talk.note(format_args!("each text is read behind the prompt `{name}`: \"{text}\""));
        }
        // How it was trained to be compared goes with the way it is pooled.
        let own = said.as_ref().filter(|_| args.pool.is_none());
        let normalize = args.normalize || own.is_some_and(Sentence::normalized);
        Ok(Self { said, pool: args.pool, tower: false, normalize })
    }

    /// What pooling is called.
    fn name(&self) -> String {
        match (self.pool, &self.said) {
            _ if self.tower => "embedding".to_owned(),
            (Some(Pooling::Cls), _) => "cls".to_owned(),
            (Some(Pooling::Pooler), _) => "pooler".to_owned(),
            (None, Some(said)) => said.pooling_name(),
            (Some(Pooling::Mean), _) | (None, None) => "mean".to_owned(),
        }
    }

    /// A text as the model reads it.
    fn prepared(&self, text: &str) -> String {
        self.said.as_ref().map_or_else(|| text.to_owned(), |said| said.prepared(text))
    }
}

fn items(args: &EmbedArgs) -> Result<Box<dyn Iterator<Item = Result<Item>>>> {
    if let Some(path) = &args.texts.input {
        let records = texts::records(path, &["text"], &[])?;
        return Ok(Box::new(records.map(|record| {
            let record = record?;
            Ok((Some(record.line), record.fields.into_iter().next().flatten().unwrap_or_default()))
        })));
    }
    Ok(Box::new(args.texts.text.clone().into_iter().map(|text| Ok((None, text)))))
}

fn embed_all(
    args: &EmbedArgs,
    opened: &mut Opened,
    way: &Way,
    items: &mut dyn Iterator<Item = Result<Item>>,
    answers: &mut Answers<'_, '_>,
    talk: Talk,
) -> Result<(), Stop> {
    let batch = args.batch_size.unwrap_or(BATCH) as usize;
    // A limit that the folder states is how its embeddings are made, as sentence-transformers makes them.
    let stated = way.said.as_ref().and_then(|said| said.limit).filter(|_| !args.texts.truncate);
    let too_long = if args.texts.truncate || stated.is_some() { TooLong::Cut } else { TooLong::Refuse };
    let mut told = false;
    loop {
        let (chunk, broken) = texts::chunk(items, batch);
        let more = chunk.len() == batch;
        let begun = Instant::now();
        if let Some(limit) = stated.filter(|_| !told && longer(opened, &chunk, way)) {
            talk.note(format_args!(
                "texts of more than {limit} tokens are cut there, as the model's folder says"
            ));
            told = true;
        }
        let vectors = vectors(opened, &chunk, way, too_long);
        answers.timing.run += millis(begun.elapsed());
        opened.say_warnings();
        for ((line, text), vector) in chunk.into_iter().zip(vectors?) {
            match (vector, line, &args.texts.input) {
                (Ok(vector), ..) => answers.good(line, text, vector)?,
                (Err(e), Some(at), Some(file)) => {
                    answers.bad(line, text, e.message(), &on_line(&e, file, at))?;
                }
                (Err(e), ..) => return Err(e.into()),
            }
        }
        match broken {
            Some(e) => return Err(e.into()),
            None if !more => return Ok(()),
            None => {}
        }
    }
}

/// Whether one of these texts is longer than the model takes.
fn longer(opened: &Opened, items: &[Item], way: &Way) -> bool {
    let fits = |text: &str, too_long| opened.session.encode((text, None), too_long).is_ok();
    let mut texts = items.iter().map(|(_, text)| way.prepared(text));
    texts.any(|text| !fits(&text, TooLong::Refuse) && fits(&text, TooLong::Cut))
}

/// A vector of each text, or why there is none.
fn vectors(opened: &Opened, items: &[Item], way: &Way, too_long: TooLong) -> Result<Vec<Result<Vec<f32>>>> {
    let session = &opened.session;
    let check = |(_, text): &Item| session.encode((&way.prepared(text), None), too_long).map(|_| ());
    texts::each(items, &check, &|items| match (way.pool, &way.said) {
        _ if way.tower => {
            let texts: Vec<&str> = items.iter().map(|(_, text)| text.as_str()).collect();
            session.embed_in_space(&texts, false, too_long)
        }
        (None, Some(said)) => {
            let texts: Vec<&str> = items.iter().map(|(_, text)| text.as_str()).collect();
            session.embed_sentences(&texts, said, too_long)
        }
        (pool, _) => {
            let texts: Vec<String> = items.iter().map(|(_, text)| way.prepared(text)).collect();
            let texts: Vec<_> = texts.iter().map(|text| (text.as_str(), None)).collect();
            session.embed(&texts, pool.unwrap_or(Pooling::Mean).of_texts(), false, too_long)
        }
    })
}
