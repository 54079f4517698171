//! The next token of running text (Radford et al. 2019), as transformers' `run_clm.py` trains it: documents joined by
//! the token that ends one, in pieces of one length, every token told from those before it.

use super::lesson::{Example, Lesson, Reading, Told, need, reader};
use super::running::{joined, length, pieces};
use super::task::Texts;
use super::tied;
use crate::error::{Error, Result};
use crate::models::text::{Kind, Task, TextSizes};
use crate::session::ModelFiles;
use crate::text::Passage;
use crate::train::objective::TextObjective;

struct NextToken {
    pieces: [Vec<Vec<u32>>; 2],
    length: usize,
}

/// Makes a model that writes ready for running text. Unlike `run_clm.py` it leaves no tokens out but a single one at
/// the end: the last piece is filled up.
///
/// # Errors
/// [`Error::Usage`] for a model that does not go on with texts, a length that it does not take, and too little text.
pub fn next_token(files: ModelFiles, documents: [Vec<String>; 2], reading: &Reading) -> Result<Texts> {
    let files = tied::told_apart(files)?;
    let session = reader(&files)?;
    need(&session, Task::Generate, "the next token", "take a model that writes, such as GPT-2")?;
    if session.info().kind != Kind::Decoder {
        let what = format!("{} writes answers to a text, and does not go on with one", session.info().family);
        return Err(Error::usage(what, "train it on sources and targets, or to mend text"));
    }
    let length = length(&session, reading.longest, 2)?;
    let end = session.ends().first().copied();
    let [training, held_out] = documents.each_ref().map(|documents| joined(&session, documents, end));
    let lesson = NextToken { pieces: pieces([training?, held_out?], length, 2)?, length };
    Ok(Texts::new(files, session, Box::new(lesson), reading, false))
}

fn example(piece: &[u32]) -> Example {
    let places = (0..piece.len() - 1).collect();
    let passage = Passage { ids: piece.to_vec(), places, ..Passage::default() };
    Example { passage, told: Told::Labels(piece[1..].to_vec()) }
}

impl Lesson for NextToken {
    fn objective(&self) -> TextObjective {
        TextObjective::Tokens
    }

    fn sizes(&self) -> TextSizes {
        let longest = self.pieces.iter().flatten().map(Vec::len).max().unwrap_or(self.length);
        TextSizes { batch: 0, tokens: longest, written: 0, places: longest - 1 }
    }

    fn rows(&self, sizes: TextSizes) -> usize {
        sizes.places
    }

    fn counts(&self) -> [usize; 2] {
        self.pieces.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, _: u64) -> Example {
        example(&self.pieces[set][i])
    }

    fn has_head(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_told_from_those_before_it() {
        let Example { passage, told } = example(&[7, 8, 9]);
        assert_eq!((passage.ids, passage.places), (vec![7, 8, 9], vec![0, 1]));
        assert_eq!(told, Told::Labels(vec![8, 9]));
    }
}
