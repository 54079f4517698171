//! Pictures of 16 kinds of flat shapes, drawn on the fly: the data set `builtin:shapes`.
//!
//! Every picture holds one *filled* shape (at times with a border line around it, never an outline alone: an
//! outlined circle would be a ring) of any colour, size, rotation and place, entirely inside the picture, on a
//! plain, graded, blotchy or grainy background. The colours of shape and background are always far enough
//! apart for a person to see the shape. Proportions vary inside each kind (corner rounding, aspect,
//! thickness, number of star points, forms of hearts and arrows), and half of the pictures are drawn at a
//! size from 48 to 256 pixels and then resized to the wanted one the way a loader does (bilinear,
//! antialiased).
//!
//! Kinds that touch each other: a rotated square is a square; squares and circles are stretched by at most
//! 6 %, rectangles and ellipses by at least 50 %; a plus turned by 45 degrees is a cross; a notched dart
//! without a shaft is an arrow; stars have 4, 5 or 6 points.
//!
//! The distribution is that of `tools/train/shapes.py`, which drew the training pictures of the embedded
//! classifier `builtin:shapes`; the pictures are not the same, since the random numbers are not. Three
//! things differ by less than a pixel: polygons are sampled at exact places, where Pillow rounds their
//! corners to samples and fattens them by half a sample; border lines have round joints however thin; and
//! blurs and compression are computed without bytes and files between.

mod blur;
mod colours;
mod cornered;
mod coverage;
mod geometry;
mod jpeg;
mod kinds;
mod names;
mod paint;
mod round;

use crate::random::Random;
use kinds::KINDS;

/// Names of the kinds, in the order of their labels.
pub const LABELS: [&str; 16] = {
    let mut labels = [""; 16];
    let mut label = 0;
    while label < labels.len() {
        labels[label] = KINDS[label].0;
        label += 1;
    }
    labels
};

/// A picture and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The kind: an index of [`LABELS`].
    pub label: usize,
    /// The name of the colour that the shape is filled with (its mean, for a gradient), a border line apart; None
    /// where another name is as good, or where there are no pixels.
    pub colour: Option<&'static str>,
    /// (side, side, 3) bytes: R, G, B.
    pub pixels: Vec<u8>,
}

/// A picture of a kind drawn at random, all alike often: a pure function of `seed`, `index` and `side`. A
/// seed is a data set of 2^64 pictures, by index.
///
/// `side`: rows and columns in pixels. What is wanted smaller than 16 or larger than 256 is drawn at those
/// and resized; 0 gives no bytes.
///
/// The same bits on one machine. Another's mathematics library may round a sine the other way and so move a
/// level by one.
pub fn picture(seed: u64, index: u64, side: usize) -> Picture {
    let mut random = Random::of(&[seed, index]);
    let label = random.below(KINDS.len());
    let (pixels, colour) = paint::picture(&mut random, label, side);
    Picture { label, colour, pixels }
}

/// As [`picture`], of a given kind; the same picture where [`picture`] draws that kind.
///
/// # Panics
/// If `label` is no index of [`LABELS`].
pub fn picture_of(seed: u64, index: u64, label: usize, side: usize) -> Picture {
    assert!(label < KINDS.len(), "label {label} of {} kinds of shapes", KINDS.len());
    let mut random = Random::of(&[seed, index]);
    random.below(KINDS.len());
    let (pixels, colour) = paint::picture(&mut random, label, side);
    Picture { label, colour, pixels }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_bits_twice_and_other_ones_elsewhere() {
        let first = picture(1, 2, 32);
        assert_eq!(first, picture(1, 2, 32));
        assert_eq!(first, picture_of(1, 2, first.label, 32));
        for (seed, index) in [(1, 3), (2, 2), (2, 1), (0, 0), (u64::MAX, u64::MAX)] {
            assert_ne!(first.pixels, picture_of(seed, index, first.label, 32).pixels);
        }
    }

    #[test]
    fn every_side_works() {
        for side in [0, 1, 2, 15, 16, 17, 48, 64, 81, 129, 255, 256, 300] {
            for index in 0..12 {
                let label = index as usize % 16;
                assert_eq!(picture_of(3, index, label, side).pixels.len(), side * side * 3);
            }
        }
    }

    #[test]
    fn labels_are_about_even_and_named() {
        let mut counts = [0usize; 16];
        (0..8000).for_each(|index| counts[picture(4, index, 0).label] += 1);
        // 500 each, and four deviations.
        assert!(counts.iter().all(|count| (414..587).contains(count)), "{counts:?}");
        assert_eq!([LABELS[0], LABELS[10], LABELS[15]], ["circle", "star", "bolt"]);
    }

    #[test]
    fn three_colours_of_four_have_a_clear_name() {
        let mut counts = BTreeMap::new();
        (0..1500).for_each(|index| *counts.entry(picture(5, index, 16).colour).or_insert(0) += 1);
        // 3000 pictures of `tools/train/colour_names.py`: 25.5 % have none, 16.1 % are white.
        assert_eq!(counts.len(), 13, "{counts:?}");
        assert!((300..480).contains(&counts[&None]), "{counts:?}");
        assert!((190..300).contains(&counts[&Some("white")]), "{counts:?}");
        assert_eq!(picture(5, 0, 0).colour, None);
    }

    #[test]
    #[should_panic(expected = "label 16 of 16 kinds")]
    fn a_label_that_is_none_is_refused() {
        picture_of(0, 0, 16, 16);
    }
}
