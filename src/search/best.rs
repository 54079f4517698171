//! The highest of many scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::error::{Error, Result};

/// A row and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which row.
    pub row: usize,
    /// Its score; of rows of length 1 the cosine.
    pub score: f32,
}

/// A hit by rank: the greater, the worse, so that a heap has the worst at its top.
#[derive(Debug)]
struct Ranked(Hit);

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

/// The best of the rows that were offered so far.
#[derive(Debug)]
pub struct Best {
    most: usize,
    kept: BinaryHeap<Ranked>,
}

impl Best {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new() }
    }

    /// Takes the scores of rows from `first` on; `wanted` says which of them count.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a score that is none, whether it counts or not.
    pub fn offer(&mut self, first: usize, scores: &[f32], wanted: &dyn Fn(usize) -> bool) -> Result<()> {
        let count = scores.iter().filter(|x| !x.is_finite()).count();
        if count > 0 {
            let what = format!("scores of the rows from {first} on");
            return Err(Error::NonFinite { what, count, total: scores.len() });
        }
        for (i, &score) in scores.iter().enumerate() {
            // Of equal scores the first row wins, so a later one must be better than the worst.
            let full = self.kept.len() >= self.most;
            if full && self.kept.peek().is_none_or(|worst| score <= worst.0.score) {
                continue;
            }
            let row = first + i;
            if wanted(row) {
                if full {
                    self.kept.pop();
                }
                // Zeros of both signs are equal.
                self.kept.push(Ranked(Hit { row, score: score + 0.0 }));
            }
        }
        Ok(())
    }

    /// The hits, best first; of equal scores the first row first.
    pub fn hits(self) -> Vec<Hit> {
        self.kept.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rows(most: usize, blocks: &[&[f32]], wanted: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let (mut best, mut first) = (Best::new(most), 0);
        for scores in blocks {
            best.offer(first, scores, wanted).unwrap();
            first += scores.len();
        }
        best.hits().iter().map(|hit| hit.row).collect()
    }

    #[test]
    fn best_first_and_ties_by_row() {
        let blocks: [&[f32]; 3] = [&[0.1, 0.9, 0.5], &[0.9, -1.0, 0.9], &[0.0, -0.0, 0.5]];
        let all = |_: usize| true;
        assert_eq!(rows(4, &blocks, &all), [1, 3, 5, 2]);
        assert_eq!(rows(9, &blocks, &all), [1, 3, 5, 2, 8, 0, 6, 7, 4]);
        assert_eq!(rows(99, &blocks, &all).len(), 9);
        assert_eq!(rows(2, &blocks, &|row| row % 2 == 0), [2, 8]);
        assert!(rows(0, &blocks, &all).is_empty());
    }

    #[test]
    fn the_same_as_sorting() {
        let scores: Vec<f32> = (0..500).map(|i| ((i * 7919) % 101) as f32 / 50.0 - 1.0).collect();
        let mut sorted: Vec<usize> = (0..scores.len()).collect();
        sorted.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let blocks: Vec<&[f32]> = scores.chunks(37).collect();
        for most in [1, 7, 100, 500] {
            assert_eq!(rows(most, &blocks, &|_| true), sorted[..most]);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let e = Best::new(1).offer(0, &[0.5, bad], &|row| row == 0).unwrap_err();
            assert!(matches!(e, Error::NonFinite { count: 1, total: 2, .. }), "{e}");
        }
    }
}
