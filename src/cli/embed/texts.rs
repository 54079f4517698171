//! Embeddings of texts.

use std::path::Path;
use std::time::Instant;

use super::answers::Answers;
use crate::cli::args::first;
use crate::cli::embed::args::{EmbedArgs, Pooling, Vector};
use crate::cli::open;
use crate::cli::outcome::{Outcome, Stop};
use crate::cli::output::millis;
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::cli::texts::{self, BATCH, Opened, on_line};
use crate::error::{Error, Result};
use crate::session::ModelSource;
use crate::text::TooLong;
use crate::text::sentence::{Sentence, SentencePooling};

/// A text, and its line if it is of a file.
type Item = (Option<usize>, String);

/// Runs the command on a text model and yields its exit code.
pub(super) fn run(
    args: &EmbedArgs,
    (id, source): (String, &ModelSource),
    talk: Talk,
    out: &mut Sink<'_, Vector>,
) -> Outcome {
    let begun = Instant::now();
    let image = first(&[("an image", !args.inputs.is_empty()), ("--recursive", args.recursive)]);
    texts::without(image.or_else(|| args.image.given()), &id)?;
    if args.texts.text.is_empty() && args.texts.input.is_none() {
        return Err(Error::usage("there is nothing to read", "pass --text or --input").into());
    }
    let folder = open::folder(source).unwrap_or(Path::new("."));
    out.spare(&args.texts.input.iter().map(AsRef::as_ref).collect::<Vec<_>>(), Some(folder))?;
    let (pool, normalize, limit) = settings(args, folder)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let mut opened = Opened::new(id.clone(), source, &options, talk)?;
    if let Some(limit) = limit {
        opened.shorten(limit);
    }
    let mut items = items(args)?;
    let mut answers = Answers::new(normalize, &mut *out, begun, talk);
    let outcome = embed_all(args, &mut opened, pool, &mut items, &mut answers);
    let name = match pool {
        Pooling::Cls => "cls",
        Pooling::Mean => "mean",
        Pooling::Pooler => "pooler",
    };
    if args.texts.input.is_none() {
        // What was typed can be typed again: there is no row for it.
        outcome?;
        return answers.end((opened.model, name), &opened.device, Ok(()), &id);
    }
    answers.end((opened.model, name), &opened.device, outcome, &id)
}

/// Pooling, length 1, and the longest text, by flags and by the folder's files.
fn settings(args: &EmbedArgs, folder: &Path) -> Result<(Pooling, bool, Option<usize>)> {
    // Flags that say it all must work beside files that cannot be read.
    let said = match Sentence::read(folder) {
        Err(_) if args.pool.is_some() => None,
        said => said?,
    };
    let pool = match (args.pool, said.as_ref().map(|s| &s.pooling)) {
        (Some(pool), _) => pool,
        (None, Some(SentencePooling::Cls)) => Pooling::Cls,
        (None, Some(SentencePooling::Mean) | None) => Pooling::Mean,
        (None, Some(SentencePooling::Other(mode))) => {
            let what = format!("its embeddings are made by `{mode}`, which is not known here");
            return Err(Error::model(folder.display(), what, "choose --pool mean or cls"));
        }
    };
    // How it was trained to be compared goes with the way it is pooled.
    let own = said.as_ref().filter(|_| args.pool.is_none());
    let normalize = args.normalize || own.is_some_and(|s| s.normalize);
    Ok((pool, normalize, said.and_then(|s| s.limit)))
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
    pool: Pooling,
    items: &mut dyn Iterator<Item = Result<Item>>,
    answers: &mut Answers<'_, '_>,
) -> Result<(), Stop> {
    let batch = args.batch_size.unwrap_or(BATCH) as usize;
    let too_long = if args.texts.truncate { TooLong::Cut } else { TooLong::Refuse };
    loop {
        let (chunk, broken) = texts::chunk(items, batch);
        let more = chunk.len() == batch;
        let begun = Instant::now();
        let vectors = vectors(opened, &chunk, pool, too_long);
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

/// A vector of each text, or why there is none.
fn vectors(
    opened: &Opened,
    items: &[Item],
    pool: Pooling,
    too_long: TooLong,
) -> Result<Vec<Result<Vec<f32>>>> {
    let session = &opened.session;
    texts::each(items, &|(_, text)| session.encode((text, None), too_long).map(|_| ()), &|items| {
        let texts: Vec<_> = items.iter().map(|(_, text)| (text.as_str(), None)).collect();
        session.embed(&texts, pool.of_texts(), false, too_long)
    })
}
