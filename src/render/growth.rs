//! Images as they grow: shown while the engine reports, and kept as tokens from which the frames of an
//! animation are made when all is done.

use std::ops::Range;

use image::RgbImage;

use super::sheet::Sheet;
use crate::error::Result;
use crate::generate::{GeneratedImage, Generator, NOT_DRAWN, Progress};
use crate::tensor::Size;

/// Most frames where the user does not say how far they are apart.
pub const FRAMES: usize = 64;

/// Images that are decoded in one go, about.
const AT_ONCE: usize = 32;

/// How much of the samples was drawn at some time.
struct Moment {
    samples: Range<usize>,
    tokens: Vec<Vec<u32>>,
}

/// Called with every new state of the sheet.
pub type Show<'a> = Box<dyn FnMut(&RgbImage) + 'a>;

/// Images as they grow.
pub struct Growth<'a> {
    generator: &'a Generator,
    sheet: Option<Sheet>,
    /// What every sample begins as.
    begun: Vec<GeneratedImage>,
    shown: Vec<GeneratedImage>,
    show: Option<Show<'a>>,
    moments: Option<Vec<Moment>>,
}

impl<'a> Growth<'a> {
    /// Begins with `count` images of which `prime` is given. Without a sheet nothing is decoded; `show` is
    /// called with it as it grows, and `record` keeps what frames need.
    ///
    /// # Errors
    /// Of the device.
    pub fn new(
        generator: &'a Generator,
        (count, prime): (usize, &[u32]),
        sheet: Option<Sheet>,
        show: Option<Show<'a>>,
        record: bool,
    ) -> Result<Self> {
        let mut begun = Vec::new();
        if sheet.is_some() {
            let Size { height, width } = generator.info().image_size;
            let first = match prime {
                [] => GeneratedImage { height, width, pixels: vec![128; height * width * 3] },
                prime => unfinished(generator, &[prime.to_vec()])?.remove(0),
            };
            begun = vec![first; count];
        }
        let moments = record.then(Vec::new);
        Ok(Self { generator, sheet, shown: begun.clone(), begun, show, moments })
    }

    /// Whether images are needed at the end.
    pub fn is_drawn(&self) -> bool {
        self.sheet.is_some()
    }

    /// What the engine says.
    ///
    /// # Errors
    /// Of the device.
    pub fn report(&mut self, progress: &Progress<'_>) -> Result<()> {
        if progress.tokens.is_empty() {
            return Ok(());
        }
        if let (Some(show), Some(sheet)) = (&mut self.show, &self.sheet) {
            put(&mut self.shown, &progress.samples, unfinished(self.generator, progress.tokens)?);
            show(&sheet.draw(&self.shown));
        }
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { samples: progress.samples.clone(), tokens: progress.tokens.to_vec() });
        }
        Ok(())
    }

    /// The last image, where it was watched.
    pub fn end(&mut self, pictures: &[GeneratedImage]) {
        if let (Some(mut show), Some(sheet)) = (self.show.take(), &self.sheet) {
            show(&sheet.draw(pictures));
        }
    }

    /// Sheets from nothing to `last`; `thin` leaves some out where there are many.
    ///
    /// # Errors
    /// Of the device.
    pub fn frames(&mut self, last: &[GeneratedImage], thin: bool) -> Result<Vec<RgbImage>> {
        let Some(sheet) = &self.sheet else { return Ok(Vec::new()) };
        let moments = self.moments.take().unwrap_or_default();
        let count = moments.len();
        let apart = if thin { count.div_ceil(FRAMES - 2).max(1) } else { 1 };
        let batch = |i: usize| moments.get(i).map(|m| m.samples.start);
        // The last of a batch stays in all later frames.
        let kept = |i: &usize| (i + 1).is_multiple_of(apart) || batch(*i) != batch(i + 1);
        let kept: Vec<usize> = (0..count).filter(kept).collect();
        let mut pictures = std::mem::take(&mut self.begun);
        let mut frames = vec![sheet.draw(&pictures)];
        for some in kept.chunks((AT_ONCE / pictures.len().max(1)).max(1)) {
            let tokens: Vec<Vec<u32>> = some.iter().flat_map(|&i| moments[i].tokens.clone()).collect();
            let mut decoded = unfinished(self.generator, &tokens)?.into_iter();
            for moment in some.iter().map(|&i| &moments[i]) {
                put(&mut pictures, &moment.samples, decoded.by_ref().take(moment.samples.len()));
                frames.push(sheet.draw(&pictures));
            }
        }
        let end = sheet.draw(last);
        if frames.last() != Some(&end) {
            frames.push(end);
        }
        Ok(frames)
    }
}

/// Images of which some tokens are there, grey where none are.
///
/// A codec that sees the whole image at once lets what is not drawn yet tint what is: so that the colours
/// are already those that the model means, each column goes on as it ends.
fn unfinished(generator: &Generator, tokens: &[Vec<u32>]) -> Result<Vec<GeneratedImage>> {
    let info = generator.info();
    let whole: Vec<Vec<u32>> = tokens.iter().map(|t| continued(t, info.grid)).collect();
    let mut pictures = generator.decode(&whole)?;
    for (picture, tokens) in pictures.iter_mut().zip(tokens) {
        grey(picture, info.grid, tokens);
    }
    Ok(pictures)
}

/// The token at a place, if it is drawn.
fn drawn(tokens: &[u32], place: usize) -> Option<u32> {
    tokens.get(place).copied().filter(|&id| id != NOT_DRAWN)
}

/// A whole sequence: what is missing in the first row repeats the token on its left, in the others the
/// token above.
fn continued(tokens: &[u32], [rows, columns]: [usize; 2]) -> Vec<u32> {
    let some = (0..tokens.len()).find_map(|i| drawn(tokens, i)).unwrap_or(0);
    let mut whole = Vec::with_capacity(rows * columns);
    for i in 0..rows * columns {
        let from = if i < columns { i.checked_sub(1) } else { i.checked_sub(columns) };
        whole.push(drawn(tokens, i).unwrap_or_else(|| from.map_or(some, |from| whole[from])));
    }
    whole
}

/// Greys the patches that are not drawn.
fn grey(picture: &mut GeneratedImage, [rows, columns]: [usize; 2], tokens: &[u32]) {
    let (height, width) = (picture.height / rows.max(1), picture.width / columns.max(1));
    for patch in (0..rows * columns).filter(|&i| drawn(tokens, i).is_none()) {
        let (top, left) = (patch / columns * height, patch % columns * width);
        for y in top..top + height {
            let from = (y * picture.width + left) * 3;
            picture.pixels[from..from + width * 3].fill(128);
        }
    }
}

fn put(
    pictures: &mut [GeneratedImage],
    samples: &Range<usize>,
    new: impl IntoIterator<Item = GeneratedImage>,
) {
    for (i, picture) in samples.clone().zip(new) {
        if let Some(place) = pictures.get_mut(i) {
            *place = picture;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_go_on_as_they_end() {
        assert_eq!(continued(&[], [2, 2]), [0; 4]);
        assert_eq!(continued(&[7], [2, 3]), [7; 6]);
        assert_eq!(continued(&[1, 2, 3, 4], [3, 3]), [1, 2, 3, 4, 2, 3, 4, 2, 3]);
        assert_eq!(continued(&[1, 2, 3, 4], [2, 2]), [1, 2, 3, 4]);
        assert_eq!(continued(&[NOT_DRAWN, 5, NOT_DRAWN, NOT_DRAWN, 6, 7], [2, 3]), [5, 5, 5, 5, 6, 7]);
    }

    #[test]
    fn patches_that_are_missing_are_grey() {
        let mut picture = GeneratedImage { height: 4, width: 4, pixels: vec![9; 48] };
        grey(&mut picture, [2, 2], &[1, NOT_DRAWN, 3]);
        let at = |y: usize, x: usize| picture.pixels[(y * 4 + x) * 3];
        assert_eq!([at(1, 1), at(1, 2), at(3, 1), at(3, 3)], [9, 128, 9, 128]);
    }
}
