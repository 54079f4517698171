//! The course of a training run: losses of training and validation, and what else a validation finds, by epoch.

use super::plot::{Anchor, At, Colour, Scene, Shape};
use crate::train::Metric;
use crate::train::save::Row;

const INK: Colour = [40, 44, 52];
const FAINT: Colour = [214, 218, 224];
const TRAIN: Colour = [120, 130, 146];
const HELD_OUT: Colour = [31, 98, 189];
const RIGHT: Colour = [22, 128, 76];

/// Pixels: the whole, and the inner part of a panel.
const SIZE: [u32; 2] = [760, 320];
/// Width where there are losses alone.
const NARROW: u32 = 390;
const PANEL: At = [300.0, 220.0];

/// A line of numbers, one an epoch.
struct Line<'a> {
    name: &'a str,
    colour: Colour,
    values: Vec<f64>,
}

/// The picture of a run's epochs, whose validations found these numbers: beside the losses shares of what is right,
/// or else the others.
pub fn draw(log: &[Row], metrics: &[Metric]) -> Scene {
    let found = |name: &str| -> Vec<f64> {
        let of = |row: &Row| row.found.iter().find(|(n, _)| n == name).map(|(_, value)| *value);
        log.iter().filter_map(of).collect()
    };
    let train = log.iter().map(|row| row.train_loss).collect();
    let losses = [
        Line { name: "training", colour: TRAIN, values: train },
        Line { name: "validation", colour: HELD_OUT, values: found("loss") },
    ];
    let shares = metrics.iter().any(|metric| metric.share);
    let others = metrics.iter().filter(|metric| metric.share == shares && metric.name != "loss");
    let factor = if shares { 100.0 } else { 1.0 };
    let names: Vec<(String, &str)> =
        others.map(|m| (m.name.replace('_', " ").replace("top", "top-"), m.name)).collect();
    let line = |((name, key), colour): (&'_ (String, &str), Colour)| -> (String, Colour, Vec<f64>) {
        (name.clone(), colour, found(key).iter().map(|x| factor * x).collect())
    };
    let found_lines: Vec<_> = names.iter().zip([RIGHT, TRAIN]).map(line).collect();
    let right: Vec<Line> = found_lines
        .iter()
        .map(|(name, colour, values)| Line { name, colour: *colour, values: values.clone() })
        .collect();
    let mut shapes = Vec::new();
    let greatest = |lines: &[Line]| {
        lines.iter().flat_map(|l| &l.values).copied().filter(|x| x.is_finite()).fold(0.0, f64::max)
    };
    let most = greatest(&losses);
    panel(&mut shapes, [56.0, 44.0], "loss", &losses, rounded_up(most));
    if names.is_empty() {
        return Scene { width: NARROW, height: SIZE[1], shapes };
    }
    let (title, top) = if shares { ("right, %", 100.0) } else { ("", rounded_up(greatest(&right))) };
    panel(&mut shapes, [434.0, 44.0], title, &right, top);
    Scene { width: SIZE[0], height: SIZE[1], shapes }
}

/// The next 1, 2 or 5 times a power of ten.
fn rounded_up(most: f64) -> f64 {
    let unit = 10f64.powf(most.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * unit).find(|top| *top >= most).unwrap_or(1.0)
}

fn panel(shapes: &mut Vec<Shape>, [left, top]: At, title: &str, lines: &[Line], most: f64) {
    let [width, height] = PANEL;
    let words = |at: At, text: String, colour, anchor, bold| Shape::Words {
        at,
        text,
        size: 12.0,
        colour,
        anchor,
        angle: 0.0,
        bold,
    };
    shapes.push(words([left, top - 18.0], title.to_owned(), INK, Anchor::Start, true));
    for step in 0..=4 {
        let y = top + height - height * step as f32 / 4.0;
        let (from, to) = ([left, y], [left + width, y]);
        shapes.push(Shape::Line { from, to, width: 1.0, colour: FAINT, dashed: false });
        let text = format!("{:.3}", most * f64::from(step) / 4.0);
        let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
        shapes.push(words([left - 8.0, y + 4.0], text, INK, Anchor::End, false));
    }
    let epochs = lines.iter().map(|line| line.values.len()).max().unwrap_or(0).max(1);
    let across = |i: usize| match epochs {
        1 => left + width / 2.0,
        n => left + width * i as f32 / (n - 1) as f32,
    };
    for (i, anchor) in [(0, Anchor::Start), (epochs - 1, Anchor::End)].into_iter().take(epochs.min(2)) {
        shapes.push(words([across(i), top + height + 20.0], format!("epoch {}", i + 1), INK, anchor, false));
    }
    let mut right = left + width;
    for line in lines.iter().rev() {
        let up = |value: f64| top + height - height * (value / most).clamp(0.0, 1.0) as f32;
        let points: Vec<At> = line.values.iter().enumerate().map(|(i, v)| [across(i), up(*v)]).collect();
        for pair in points.windows(2) {
            shapes.push(Shape::Line {
                from: pair[0],
                to: pair[1],
                width: 2.0,
                colour: line.colour,
                dashed: false,
            });
        }
        if let Some(&at) = points.last() {
            shapes.push(Shape::Disc { at, radius: 3.0, fill: line.colour, rim: line.colour });
        }
        shapes.push(words([right, top - 18.0], line.name.to_owned(), line.colour, Anchor::End, true));
        right -= 8.0 * line.name.len() as f32 + 14.0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::train::fit::CLASSES;

    #[test]
    fn every_epoch_is_a_point() {
        let row = |epoch: usize| Row {
            epoch,
            step: 10 * epoch as u32,
            train_loss: 2.0 / epoch as f64,
            rate: 1e-3,
            found: vec![("top1".to_owned(), 0.3), ("top5".to_owned(), 0.6), ("loss".to_owned(), 1.5)],
        };
        let lines = |n: usize| {
            let scene = draw(&(1..=n).map(row).collect::<Vec<_>>(), CLASSES);
            let of = |colour| {
                scene
                    .shapes
                    .iter()
                    .filter(|s| matches!(s, Shape::Line { colour: c, .. } if *c == colour))
                    .count()
            };
            assert!(scene.svg().contains("validation") && scene.png().is_ok());
            [of(HELD_OUT), of(RIGHT)]
        };
        assert_eq!((lines(0), lines(1), lines(5)), ([0, 0], [0, 0], [4, 4]));
        let scene = draw(&[row(1)], &[Metric::loss("loss")]);
        assert_eq!(scene.width, NARROW);
        assert!(scene.svg().contains("validation") && !scene.svg().contains("right, %"));
        assert_eq!([0.9, 1.2, 3.0, 6.0].map(rounded_up), [1.0, 2.0, 5.0, 10.0]);
    }
}
