//! Words behind masks (Devlin et al. 2019): of the tokens of words 15 % are to be told; of these 80 % are masked, 10 %
//! are another token, 10 % stay. As in BERT's own `create_pretraining_data.py` the share is exact in every text; as in
//! RoBERTa (Liu et al. 2019) the draw is another one in every epoch.

use super::lesson::{Example, Lesson, Reading, Told, need, reader};
use super::running::{around, joined, length, pieces};
use super::task::Texts;
use super::tied;
use crate::error::{Error, Result};
use crate::models::text::{Task, TextSizes};
use crate::random::Random;
use crate::session::ModelFiles;
use crate::text::Passage;
use crate::train::objective::TextObjective;

/// Share of the tokens of words that are to be told.
const SHARE: f64 = 0.15;
/// Share of those that are masked, and that are masked or another token.
const MASKED: f64 = 0.8;
const CHANGED: f64 = 0.9;

struct MaskedWords {
    /// Without what stands around every text.
    pieces: [Vec<Vec<u32>>; 2],
    around: [Vec<u32>; 2],
    masks: Masks,
    seed: u64,
}

/// How words are masked.
struct Masks {
    mask: u32,
    /// Ids of tokens that are no words.
    special: Vec<u32>,
    /// Ids that may stand for another token are below this.
    vocabulary: usize,
}

/// Makes a model that fills masks ready for running text.
///
/// # Errors
/// [`Error::Usage`] for a model without such a head, a tokenizer without a mask, and too little text.
pub fn masked_words(files: ModelFiles, documents: [Vec<String>; 2], reading: &Reading) -> Result<Texts> {
    let files = tied::told_apart(files)?;
    let session = reader(&files)?;
    need(
        &session,
        Task::FillMask,
        "masked words",
        "take a checkpoint of pretraining, such as bert-base-uncased",
    )?;
    let tokenizer = session.tokenizer()?;
    let special = tokenizer.special();
    let mask = special.mask.ok_or_else(|| {
        Error::usage("the tokenizer has no mask token", "its tokenizer_config.json should name `mask_token`")
    })?;
    let all = [special.cls, special.sep, special.pad, special.unk, special.mask, special.bos, special.eos];
    let vocabulary = tokenizer.vocabulary().min(session.info().vocabulary);
    let masks = Masks { mask, special: all.into_iter().flatten().collect(), vocabulary };
    let around = around(&session)?;
    let special = around.concat().len();
    let length = length(&session, reading.longest, special + 1)? - special;
    let [training, held_out] =
        documents.each_ref().map(|documents| joined(&session, documents, special_end(&around)));
    let pieces = pieces([training?, held_out?], length, 1)?;
    let lesson = MaskedWords { pieces, around, masks, seed: reading.seed };
    Ok(Texts::new(files, session, Box::new(lesson), reading, false))
}

/// What parts documents: the token that ends a text.
fn special_end(around: &[Vec<u32>; 2]) -> Option<u32> {
    around[1].first().copied()
}

impl Masks {
    /// How many tokens of a piece are to be told.
    fn count(&self, piece: &[u32]) -> usize {
        let words = piece.iter().filter(|id| !self.special.contains(id)).count();
        ((words as f64 * SHARE).round_ties_even() as usize).max(1).min(words)
    }

    /// Masks a piece; which places are to be told, in order.
    fn apply(&self, piece: &mut [u32], random: &mut Random) -> Vec<usize> {
        let count = self.count(piece);
        let mut places: Vec<usize> =
            (0..piece.len()).filter(|&i| !self.special.contains(&piece[i])).collect();
        random.shuffle(&mut places);
        places.truncate(count);
        places.sort_unstable();
        for &place in &places {
            let drawn = random.unit();
            let other = random.below(self.vocabulary) as u32;
            if drawn < MASKED {
                piece[place] = self.mask;
            } else if drawn < CHANGED {
                piece[place] = other;
            }
        }
        places
    }
}

impl Lesson for MaskedWords {
    fn objective(&self) -> TextObjective {
        TextObjective::Tokens
    }

    fn sizes(&self) -> TextSizes {
        let pieces = || self.pieces.iter().flatten();
        let longest = pieces().map(Vec::len).max().unwrap_or(1) + self.around.concat().len();
        let places = pieces().map(|piece| self.masks.count(piece)).max().unwrap_or(1);
        TextSizes { batch: 0, tokens: longest, written: 0, places: places.max(1) }
    }

    fn rows(&self, sizes: TextSizes) -> usize {
        sizes.places
    }

    fn counts(&self) -> [usize; 2] {
        self.pieces.each_ref().map(Vec::len)
    }

    fn example(&self, set: usize, i: usize, epoch: u64) -> Example {
        let mut piece = self.pieces[set][i].clone();
        let mut random = Random::of(&[self.seed, epoch, i as u64, 1]);
        let places = self.masks.apply(&mut piece, &mut random);
        let labels = places.iter().map(|&place| self.pieces[set][i][place]).collect();
        let [before, behind] = &self.around;
        let places = places.into_iter().map(|place| before.len() + place).collect();
        let ids = [&before[..], &piece, behind].concat();
        Example { passage: Passage { ids, places, ..Passage::default() }, told: Told::Labels(labels) }
    }

    fn has_head(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::texts::lesson::VALIDATION;

    fn masks() -> Masks {
        Masks { mask: 4, special: vec![0, 1, 2, 3, 4], vocabulary: 1000 }
    }

    #[test]
    fn fifteen_of_a_hundred_are_told_and_most_are_masked() {
        let masks = masks();
        let mut counts = [0; 3];
        for draw in 0..400 {
            let piece: Vec<u32> = (0..105).map(|i| if i < 5 { i } else { 500 + i }).collect();
            let mut masked = piece.clone();
            let places = masks.apply(&mut masked, &mut Random::of(&[draw]));
            // Of 100 words; special tokens (0..5) never.
            assert!(places.len() == 15 && places.iter().all(|place| *place >= 5));
            assert!(places.windows(2).all(|two| two[0] < two[1]));
            let same = |i: &usize| places.contains(i) || masked[*i] == piece[*i];
            assert!((0..105).all(|i| same(&i)), "nothing else changes");
            for place in places {
                counts[usize::from(masked[place] != 4) + usize::from(masked[place] == piece[place])] += 1;
            }
        }
        // Of 6000: 4800, 600 and 600 are expected; five deviations are 155 and 116.
        let near = |got: usize, want: usize, far: usize| got.abs_diff(want) < far;
        assert!(
            near(counts[0], 4800, 155) && near(counts[1], 600, 116) && near(counts[2], 600, 116),
            "{counts:?}"
        );
    }

    #[test]
    fn short_pieces_have_one_and_special_ones_none() {
        let masks = masks();
        assert_eq!([&[7, 8][..], &[7, 2, 8, 9], &[2, 3], &[]].map(|piece| masks.count(piece)), [1, 1, 0, 0]);
        assert_eq!(masks.count(&[9; 10]), 2, "1.5 is rounded up");
        assert_eq!(masks.apply(&mut [2, 3], &mut Random::new(1)), [0; 0]);
    }

    #[test]
    fn epochs_differ_and_repeat() {
        let lesson = MaskedWords {
            pieces: [vec![(100..140).collect()], vec![(100..140).collect()]],
            around: [vec![2], vec![3]],
            masks: masks(),
            seed: 1,
        };
        let drawn = |epoch| {
            let Example { passage, told } = lesson.example(0, 0, epoch);
            let Told::Labels(labels) = told else { return (vec![], vec![]) };
            let back = passage.places.iter().zip(&labels).all(|(place, label)| *label == 99 + *place as u32);
            assert!(back && passage.ids.len() == 42 && passage.ids[0] == 2 && passage.ids[41] == 3);
            (passage.ids, labels)
        };
        assert_eq!(drawn(0), drawn(0));
        assert_ne!(drawn(0), drawn(1));
        assert_eq!(lesson.example(1, 0, VALIDATION).passage, lesson.example(1, 0, VALIDATION).passage);
        assert_eq!((lesson.sizes().places, lesson.sizes().tokens), (6, 42));
    }
}
