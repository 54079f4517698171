//! Questions with the places of their answers in a context: SQuAD's own JSON (Rajpurkar et al. 2016, 2018), its
//! records as the `datasets` library has them, and tables with the columns `question`, `context`, `answer` and, where
//! the answer stands there more than once, `answer_start`.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::lists::{self, both, field};
use crate::error::{Error, Result};
use crate::printable::printable;
use crate::textfile;

/// Largest file of SQuAD's JSON, in bytes.
const MAX_JSON: u64 = 1 << 30;
const CONTEXT: &[&str] = &["context", "passage", "paragraph"];

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub question: String,
    /// Where the answer is looked for.
    pub context: String,
    /// Answers that count as right, each with its place in the context in bytes; none if the context has none.
    pub answers: Vec<(String, usize)>,
}

/// Questions to train on, and to validate on: of a folder with `train.*` and `validation.*`, else of one file, of
/// which a share `split`, chosen by `seed`, is kept for validation.
///
/// # Errors
/// [`Error::Input`] for a file that cannot be read, a record that lacks a field, and an answer that does not stand in
/// its context where it is said to.
pub fn read_questions(path: &Path, split: f64, seed: u64) -> Result<[Vec<Question>; 2]> {
    both(path, split, seed, &|path| match lists::extension(path).as_str() {
        "json" => squad(path),
        "jsonl" | "ndjson" => lists::objects(path)?
            .into_iter()
            .map(|(line, object)| record(&object).map_err(|what| wrong(path, &format!("line {line}"), what)))
            .collect(),
        _ => table(path),
    })
}

fn wrong(path: &Path, place: &str, what: String) -> Error {
    let help = "an answer is its text and answer_start, the character of the context that it begins at";
    Error::input(path.display(), format!("{place}: {what}"), help)
}

/// SQuAD's own files: `data`, in it `paragraphs`, in them `context` and `qas`.
fn squad(path: &Path) -> Result<Vec<Question>> {
    let json =
        textfile::read_json(path, MAX_JSON).map_err(|e| Error::input(path.display(), e.what, e.help))?;
    let json = json.unwrap_or_default();
    let Some(articles) = json["data"].as_array() else {
        let help = "SQuAD's files are {\"data\": [{\"paragraphs\": [{\"context\": …, \"qas\": […]}]}]}";
        return Err(Error::input(path.display(), "there is no list `data`", help));
    };
    let list = |json: &Json| json.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for paragraph in articles.iter().flat_map(|article| list(&article["paragraphs"])) {
        for question in list(&paragraph["qas"]) {
            let mut object = question.as_object().cloned().unwrap_or_default();
            object.insert("context".to_owned(), paragraph["context"].clone());
            // What the second version offers as plausible is not right.
            if object.get("is_impossible") == Some(&Json::Bool(true)) {
                object.insert("answers".to_owned(), Json::Array(vec![]));
            }
            let id = object.get("id").map(|id| printable(&id.to_string())).unwrap_or_default();
            all.push(record(&object).map_err(|what| wrong(path, &format!("question {id}"), what))?);
        }
    }
    Ok(all)
}

/// A question by its fields: `answers` as a list of objects, or as an object of lists, or one `answer`.
fn record(object: &Map<String, Json>) -> Result<Question, String> {
    let text = |names: &[&str]| {
        let found = field(object, names).and_then(Json::as_str).map(str::to_owned);
        found.ok_or_else(|| format!("there is no text `{}`", names[0]))
    };
    let (question, context) = (text(&["question"])?, text(CONTEXT)?);
    let texts_and_starts: Vec<(Json, Json)> = match field(object, &["answers"]) {
        Some(Json::Array(list)) => {
            list.iter().map(|answer| (answer["text"].clone(), answer["answer_start"].clone())).collect()
        }
        Some(Json::Object(lists)) => {
            let list = |name: &str| lists.get(name).and_then(Json::as_array).cloned();
            let texts = list("text").ok_or("`answers` has no list `text`")?;
            let starts = list("answer_start").unwrap_or_default();
            texts
                .into_iter()
                .enumerate()
                .map(|(i, text)| (text, starts.get(i).cloned().unwrap_or_default()))
                .collect()
        }
        Some(_) => return Err("`answers` is no list".to_owned()),
        None => {
            let answer = field(object, &["answer"]).ok_or("there is no field `answers`")?;
            vec![(answer.clone(), field(object, &["answer_start", "start"]).cloned().unwrap_or_default())]
        }
    };
    let answers = texts_and_starts.into_iter().map(|(text, start)| {
        let text = text.as_str().ok_or("an answer is no text")?;
        placed(&context, text, start.as_u64().map(|start| start as usize))
    });
    // An empty answer is none.
    let answers = answers.collect::<Result<Vec<_>, String>>()?.into_iter().flatten().collect();
    Ok(Question { question, context, answers })
}

fn table(path: &Path) -> Result<Vec<Question>> {
    let records = lists::records(path, &["question", "context"], &["answer", "answer_start"])?;
    let questions = records.into_iter().map(|record| {
        let place = format!("line {}", record.line);
        let mut fields = record.fields.into_iter();
        let mut field = || fields.next().flatten();
        let [question, context] = [field(), field()].map(Option::unwrap_or_default);
        let (answer, start) = (field().unwrap_or_default(), field().filter(|start| !start.trim().is_empty()));
        let start = start
            .map(|start| start.trim().parse().map_err(|_| format!("answer_start `{start}` is no number")));
        let answer = start.transpose().and_then(|start| placed(&context, &answer, start));
        let answers = answer.map_err(|what| wrong(path, &place, what))?.into_iter().collect();
        Ok(Question { question, context, answers })
    });
    questions.collect()
}

/// An answer and its place in bytes: at a character, or where it stands first; `None` for an empty one.
fn placed(context: &str, text: &str, start: Option<usize>) -> Result<Option<(String, usize)>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let at = match start {
        Some(start) => context.char_indices().nth(start).map(|(at, _)| at),
        None => context.find(text),
    };
    let found = at.filter(|at| context[*at..].starts_with(text)).map(|at| (text.to_owned(), at));
    let place = || start.map_or(String::new(), |start| format!(" at character {start}"));
    found
        .map(Some)
        .ok_or_else(|| format!("the answer `{}` does not stand in the context{}", printable(text), place()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Question>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(format!("train.{name}")), text).unwrap();
        std::fs::write(folder.path().join("val.csv"), "question,context,answer\nq,c,c\n").unwrap();
        read_questions(folder.path(), 0.0, 1).map(|[train, _]| train).map_err(|e| e.message())
    }

    #[test]
    fn every_form_is_the_same_question() {
        let want = |answers: &[(&str, usize)]| Question {
            question: "Who?".to_owned(),
            context: "Où? Ann and Ann.".to_owned(),
            answers: answers.iter().map(|(text, at)| ((*text).to_owned(), *at)).collect(),
        };
        // By hand: `Où? ` is 4 characters and 5 bytes; the second `Ann` is at character 12.
        let squad = "{\"data\": [{\"paragraphs\": [{\"context\": \"Où? Ann and Ann.\", \"qas\": [
            {\"id\": \"1\", \"question\": \"Who?\", \"answers\": [{\"text\": \"Ann\", \"answer_start\": 12}]},
            {\"id\": \"2\", \"question\": \"Who?\", \"is_impossible\": true, \"answers\": [],
             \"plausible_answers\": [{\"text\": \"Ann\", \"answer_start\": 4}]}]}]}]}";
        assert_eq!(read("json", squad).unwrap(), [want(&[("Ann", 13)]), want(&[])]);
        let start = "{\"question\": \"Who?\", \"context\": \"Où? Ann and Ann.\", ";
        for (rest, answers) in [
            (
                "\"answers\": {\"text\": [\"Ann\", \"and\"], \"answer_start\": [12, 8]}}",
                &[("Ann", 13), ("and", 9)][..],
            ),
            ("\"answers\": {\"text\": [], \"answer_start\": []}}", &[]),
            ("\"answers\": [{\"text\": \"Ann\", \"answer_start\": 4}]}", &[("Ann", 5)]),
            ("\"answer\": \"Ann\"}", &[("Ann", 5)]),
        ] {
            assert_eq!(read("jsonl", &format!("{start}{rest}\n")).unwrap(), [want(answers)], "{rest}");
        }
        let table = "question\tcontext\tanswer\tanswer_start\nWho?\tOù? Ann and Ann.\tAnn\t12\nWho?\tOù? Ann and Ann.\t\t\n";
        assert_eq!(read("tsv", table).unwrap(), [want(&[("Ann", 13)]), want(&[])]);
    }

    #[test]
    fn answers_that_do_not_stand_there() {
        let start = "{\"question\": \"q\", \"context\": \"a b\", ";
        for (rest, why) in [
            ("\"answer\": \"c\"}", "line 1: the answer `c` does not stand in the context"),
            ("\"answers\": [{\"text\": \"b\", \"answer_start\": 1}]}", "the context at character 1"),
            ("\"answers\": 7}", "`answers` is no list"),
            ("\"x\": 7}", "there is no field `answers`"),
        ] {
            let got = read("jsonl", &format!("{start}{rest}\n")).unwrap_err();
            assert!(got.contains(why), "{got}");
        }
        assert!(read("json", "{}").unwrap_err().contains("there is no list `data`"));
    }
}
