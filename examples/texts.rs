//! Reads and writes texts with the library alone: `cargo run --release --example texts -- FOLDER TEXT [PAIR]`,
//! where FOLDER is a checkpoint of BERT, GPT-2 or T5 with its tokenizer. What is done with the text is what
//! the checkpoint has a head for.
#![allow(missing_docs, reason = "an example")]

use std::io::Write as _;

use vit_gpu::text::{GenerateOptions, Pool, Task, TooLong};
use vit_gpu::{Error, ModelSource, Options, TextSession};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, text, rest @ ..] = args.as_slice() else {
        return Err("usage: texts FOLDER TEXT [PAIR]".into());
    };
    let pair = rest.first().map(String::as_str);
    let session = TextSession::open(&ModelSource::named(folder), &Options::default())?;
    let info = session.info();
    if info.can(Task::Classify) {
        let scored = session.classify(&[(text, pair)], TooLong::Refuse)?;
        for (label, probability) in session.labels().names.iter().zip(&scored[0].scores) {
            println!("{label:<20} {probability:.4}");
        }
    } else if let (true, Some(question)) = (info.can(Task::Answer), pair) {
        let answers = session.answer(question, text, false)?;
        for answer in answers.best.iter().take(3) {
            println!("{:.4}  {}", answer.probability, &text[answer.bytes.clone()]);
        }
    } else if info.can(Task::Generate) {
        let writing = GenerateOptions { tokens: Some(40), ..GenerateOptions::new(text) };
        session.generate(&writing, &mut |piece| {
            print!("{}", piece.text);
            std::io::stdout().flush().map_err(|e| Error::input("standard output", e.to_string(), ""))
        })?;
        println!();
    } else if info.can(Task::FillMask) && text.contains('[') {
        for mask in session.fill(text, 3, TooLong::Refuse)? {
            let words: Vec<String> =
                mask.tokens.iter().map(|(word, _, probability)| format!("{word} {probability:.3}")).collect();
            println!("{}", words.join(", "));
        }
    } else {
        let vectors = session.embed(&[(text, pair)], Pool::Mean, true, TooLong::Refuse)?;
        println!("{:?}", vectors[0]);
    }
    Ok(())
}
