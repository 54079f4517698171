//! The roofline picture (Williams, Waterman and Patterson 2009): how fast kernels compute over how much
//! they compute for each byte, under the roofs measured on this adapter. Both scales are logarithmic.

use super::table::{bytes, flops, rate};
use super::{Profile, Row};
use crate::render::letters;
use crate::render::plot::{Anchor, At, Colour, Scene, Shape};

const WIDTH: f32 = 1200.0;
const HEIGHT: f32 = 760.0;
/// Left, right, top and bottom of the plot.
const PLOT: [f32; 4] = [92.0, 1168.0, 84.0, 650.0];

const INK: Colour = [34, 39, 46];
const FAINT: Colour = [228, 231, 235];
const GREY: Colour = [110, 118, 129];
/// Roofs that no launch here can reach.
const PALE: Colour = [170, 176, 184];
/// One for each kernel, told apart by hue and lightness.
const COLOURS: [Colour; 10] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [86, 100, 190],
    [166, 118, 29],
    [86, 180, 233],
    [150, 40, 60],
    [102, 166, 30],
    [90, 90, 90],
];

/// Size of labels.
const LABEL: f32 = 14.0;

/// From amounts to pixels.
struct Scales {
    /// Exponents of ten at the left, right, bottom and top.
    x: [f64; 2],
    y: [f64; 2],
}

impl Scales {
    /// A little beyond the points and the ridge.
    fn around(rows: &[&Row], ridge: f64, roofs: &[f64]) -> Self {
        let intensities = rows.iter().map(|r| r.intensity).chain([ridge]);
        let rates = rows.iter().map(|r| r.gflops).chain(roofs.iter().copied());
        // Exponents at a half or a whole decade.
        let around = |values: &mut dyn Iterator<Item = f64>, below: f64, above: f64| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            [((low * below).log10() * 2.0).floor() / 2.0, ((high * above).log10() * 2.0).ceil() / 2.0]
        };
        let mut x = around(&mut intensities.into_iter(), 0.6, 2.5);
        x[1] = x[1].max(x[0] + 2.0);
        let mut y = around(&mut rates.into_iter(), 0.6, 1.4);
        y[0] = y[0].max(y[1] - 6.0);
        Self { x, y }
    }

    fn place(&self, intensity: f64, gflops: f64) -> At {
        let part = |v: f64, [low, high]: [f64; 2]| (v.max(1e-30).log10() - low) / (high - low);
        let [left, right, top, bottom] = PLOT;
        let (u, v) = (part(intensity, self.x) as f32, part(gflops, self.y) as f32);
        [left + u * (right - left), bottom - v * (bottom - top)]
    }
}

impl Profile {
    /// The picture. `model` and `device` are its title.
    pub fn roofline(&self, model: &str, device: &str) -> Scene {
        let kernels = self.kernels();
        let (computing, moving): (Vec<&Row>, Vec<&Row>) =
            kernels.iter().partition(|r| r.intensity > 0.0 && r.gflops > 0.0);
        let copy = self.ceilings.copy() / 1e9;
        let roofs: Vec<(&str, f64)> = [
            ("f32", Some(self.ceilings.f32)),
            ("f16", self.ceilings.f16),
            ("cooperative matrices", self.ceilings.matrix),
        ]
        .into_iter()
        .filter_map(|(name, roof)| Some((name, roof? / 1e9)))
        .collect();
        // Which roof launches compute under.
        let reached = |roof: f64| self.launches.iter().any(|l| (l.roof / 1e9 - roof).abs() < 1e-6 * roof);
        let heights: Vec<f64> = roofs.iter().map(|(_, roof)| *roof).collect();
        let highest = heights.iter().copied().fold(0.0, f64::max);
        let scales = Scales::around(&computing, highest / copy, &heights);

        let mut shapes = Vec::new();
        let mut taken = Taken::default();
        axes(&scales, &mut shapes);
        title(&mut shapes, model, device, self);
        draw_roofs(&scales, copy, &roofs, &reached, &mut shapes, &mut taken);
        let mut points = Vec::new();
        for (row, colour) in computing.iter().zip(COLOURS.iter().cycle()) {
            let at = scales.place(row.intensity, row.gflops);
            for part in row.parts.iter().filter(|p| p.intensity > 0.0 && p.gflops > 0.0) {
                let small = scales.place(part.intensity, part.gflops);
                shapes.push(thin(at, small, *colour));
                shapes.push(Shape::Disc { at: small, radius: 3.5, fill: [255; 3], rim: *colour });
                taken.boxes.push(Area::around(small, 5.0));
            }
            let radius = 5.0 + 11.0 * (row.share.clamp(0.0, 1.0) as f32).sqrt();
            taken.boxes.push(Area::around(at, radius + 1.5));
            points.push((row, at, radius, *colour));
        }
        for (row, at, radius, colour) in points {
            shapes.push(Shape::Disc { at, radius, fill: colour, rim: [255; 3] });
            let text = format!("{}  {}", row.name, percent(row.share));
            label(at, radius, &text, colour, &mut shapes, &mut taken);
        }
        footer(&moving, &mut shapes);
        Scene { width: WIDTH as u32, height: HEIGHT as u32, shapes }
    }
}

fn thin(from: At, to: At, [r, g, b]: Colour) -> Shape {
    let pale = |c: u8| 255 - (255 - c) / 3;
    Shape::Line { from, to, width: 1.0, colour: [pale(r), pale(g), pale(b)], dashed: false }
}

fn words(at: At, text: impl Into<String>, size: f32, colour: Colour, anchor: Anchor) -> Shape {
    Shape::Words { at, text: text.into(), size, colour, anchor, angle: 0.0, bold: false }
}

fn title(shapes: &mut Vec<Shape>, model: &str, device: &str, profile: &Profile) {
    let [left, ..] = PLOT;
    shapes.push(Shape::Words {
        at: [left, 38.0],
        text: format!("{model}, batch {}, on {device}", profile.batch),
        size: 20.0,
        colour: INK,
        anchor: Anchor::Start,
        angle: 0.0,
        bold: true,
    });
    let text = format!(
        "Roofs measured on this adapter; launches by {}. Discs: kernels, larger with their share of the \
         time; rings: their shapes.",
        profile.clock.name()
    );
    shapes.push(words([left, 62.0], text, 13.0, GREY, Anchor::Start));
}

/// Grid, numbers and names of the axes.
fn axes(scales: &Scales, shapes: &mut Vec<Shape>) {
    let [left, right, top, bottom] = PLOT;
    let line = |from, to, colour, width| Shape::Line { from, to, width, colour, dashed: false };
    // Every 1 to 9 of every decade that lies on an axis; ones get a grid line and a number.
    let marks = |[low, high]: [f64; 2]| {
        (low.floor() as i32..=high.floor() as i32)
            .flat_map(|i| (1..10).map(move |digit| (i, digit, f64::from(digit) * 10f64.powi(i))))
            .filter(move |(.., v)| (low - 1e-9..=high + 1e-9).contains(&v.log10()))
    };
    for (i, digit, value) in marks(scales.x) {
        let [x, _] = scales.place(value, 1.0);
        if digit > 1 {
            shapes.push(line([x, bottom], [x, bottom + 4.0], GREY, 1.0));
            continue;
        }
        shapes.push(line([x, top], [x, bottom], FAINT, 1.2));
        shapes.push(words([x, bottom + 22.0], power(i), 13.0, INK, Anchor::Middle));
    }
    for (i, digit, value) in marks(scales.y) {
        let [_, y] = scales.place(1.0, value);
        if digit > 1 {
            shapes.push(line([left - 4.0, y], [left, y], GREY, 1.0));
            continue;
        }
        shapes.push(line([left, y], [right, y], FAINT, 1.2));
        shapes.push(words([left - 10.0, y + 4.5], power(i), 13.0, INK, Anchor::End));
    }
    shapes.push(line([left, bottom], [right, bottom], INK, 1.5));
    shapes.push(line([left, top], [left, bottom], INK, 1.5));
    let middle = [f32::midpoint(left, right), bottom + 48.0];
    shapes.push(words(middle, "operations for each byte moved (FLOP/byte)", 14.0, INK, Anchor::Middle));
    shapes.push(Shape::Words {
        at: [30.0, f32::midpoint(top, bottom)],
        text: "billions of operations a second (GFLOP/s)".to_owned(),
        size: 14.0,
        colour: INK,
        anchor: Anchor::Middle,
        angle: -90.0,
        bold: false,
    });
}

fn percent(share: f64) -> String {
    if share < 0.001 { "< 0.1%".to_owned() } else { format!("{:.1}%", share * 100.0) }
}

/// A power of ten as people write it.
fn power(i: i32) -> String {
    match i {
        -3..=4 => format!("{}", 10f64.powi(i)),
        _ => format!("1e{i}"),
    }
}

/// The memory roof up to the highest ceiling, and each ceiling from where memory allows it.
fn draw_roofs(
    scales: &Scales,
    copy: f64,
    roofs: &[(&str, f64)],
    reached: &dyn Fn(f64) -> bool,
    shapes: &mut Vec<Shape>,
    taken: &mut Taken,
) {
    let (most_x, least_y) = (10f64.powf(scales.x[1]), 10f64.powf(scales.y[0]));
    let highest = roofs.iter().map(|(_, roof)| *roof).fold(0.0, f64::max);
    let start = 10f64.powf(scales.x[0]).max(least_y / copy);
    let (from, to) = (scales.place(start, start * copy), scales.place(highest / copy, highest));
    shapes.push(Shape::Line { from, to, width: 2.5, colour: INK, dashed: false });
    taken.lines.push([from, to]);
    let angle = (to[1] - from[1]).atan2(to[0] - from[0]);
    // Near the line's middle, on its upper side.
    let place = [from[0] + (to[0] - from[0]) * 0.42, from[1] + (to[1] - from[1]) * 0.42];
    let above = [place[0] + 9.0 * angle.sin(), place[1] - 9.0 * angle.cos()];
    let text = format!("copy {}", bytes(copy * 1e9));
    taken.along(above, angle, letters::width(&text, LABEL));
    shapes.push(Shape::Words {
        at: above,
        text,
        size: LABEL,
        colour: INK,
        anchor: Anchor::Middle,
        angle: angle.to_degrees(),
        bold: true,
    });
    let mut sorted = roofs.to_vec();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut lowest_label = f32::MIN;
    for (name, roof) in sorted {
        let (from, to) = (scales.place(roof / copy, roof), scales.place(most_x, roof));
        let used = reached(roof);
        let colour = if used { INK } else { PALE };
        shapes.push(Shape::Line { from, to, width: if used { 2.5 } else { 1.5 }, colour, dashed: !used });
        taken.lines.push([from, to]);
        let text = format!("{name} {}", flops(roof * 1e9));
        let width = letters::width(&text, LABEL);
        // Above its line, unless the label of a higher roof is there: then below.
        let y = if to[1] - 8.0 - LABEL < lowest_label { to[1] + 6.0 + LABEL } else { to[1] - 8.0 };
        lowest_label = lowest_label.max(y + 3.0);
        taken.boxes.push(Area { low: [to[0] - width - 6.0, y - LABEL], high: [to[0], y + 4.0] });
        let colour = if used { INK } else { GREY };
        shapes.push(Shape::Words {
            at: [to[0] - 4.0, y],
            text,
            size: LABEL,
            colour,
            anchor: Anchor::End,
            angle: 0.0,
            bold: used,
        });
    }
}

/// What moves data and computes nothing has no place on a logarithmic axis.
fn footer(moving: &[&Row], shapes: &mut Vec<Shape>) {
    if moving.is_empty() {
        return;
    }
    let each: Vec<String> = moving
        .iter()
        .take(4)
        .map(|r| {
            format!(
                "{} {} at {} GB/s ({:.0}% of the copy roof)",
                r.name,
                percent(r.share),
                rate(r.gbytes),
                r.roofline * 100.0
            )
        })
        .collect();
    let text = format!("No arithmetic: {}", each.join("; "));
    shapes.push(words([PLOT[0], HEIGHT - 22.0], text, 13.0, GREY, Anchor::Start));
}

/// A rectangle that is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    low: At,
    high: At,
}

impl Area {
    fn around([x, y]: At, radius: f32) -> Self {
        Self { low: [x - radius, y - radius], high: [x + radius, y + radius] }
    }

    fn meets(&self, other: &Self) -> bool {
        (0..2).all(|k| self.low[k] < other.high[k] && other.low[k] < self.high[k])
    }

    fn crossed_by(&self, [from, to]: [At; 2]) -> bool {
        let steps = 200;
        (0..=steps).any(|i| {
            let t = i as f32 / steps as f32;
            (0..2).all(|k| {
                let v = from[k] + (to[k] - from[k]) * t;
                v > self.low[k] && v < self.high[k]
            })
        })
    }
}

/// What later labels must not cover.
#[derive(Default)]
struct Taken {
    boxes: Vec<Area>,
    lines: Vec<[At; 2]>,
}

impl Taken {
    /// Words along a slanted line take many small boxes.
    fn along(&mut self, [x, y]: At, angle: f32, width: f32) {
        for i in 0..12 {
            let d = (i as f32 / 11.0 - 0.5) * width;
            let at = [x + d * angle.cos() + 5.0 * angle.sin(), y + d * angle.sin() - 5.0 * angle.cos()];
            self.boxes.push(Area::around(at, 9.0));
        }
    }

    fn free(&self, candidate: &Area) -> bool {
        let [left, right, top, bottom] = PLOT;
        let inside = candidate.low[0] > left
            && candidate.high[0] < right
            && candidate.low[1] > top
            && candidate.high[1] < bottom;
        inside
            && !self.boxes.iter().any(|b| b.meets(candidate))
            && !self.lines.iter().any(|l| candidate.crossed_by(*l))
    }
}

/// Puts a label near its point where nothing else is; with a line to the point if it is not beside it.
fn label(at: At, radius: f32, text: &str, colour: Colour, shapes: &mut Vec<Shape>, taken: &mut Taken) {
    let (width, height) = (letters::width(text, LABEL), LABEL);
    let dark = colour.map(|c| (f32::from(c) * 0.75) as u8);
    // Rings around the point, nearest first; on each the right, the left, then above and below.
    for ring in 0..24 {
        let far = radius + 7.0 + ring as f32 * 11.0;
        for turn in [0.0f32, 180.0, 330.0, 30.0, 210.0, 150.0, 300.0, 60.0, 240.0, 120.0, 270.0, 90.0] {
            let (sin, cos) = turn.to_radians().sin_cos();
            let near = [at[0] + far * cos, at[1] + far * sin];
            let left = near[0] - width * f32::midpoint(1.0, -cos);
            let middle = near[1] + 0.5 * height * sin;
            let candidate = Area {
                low: [left - 4.0, middle - 0.62 * height],
                high: [left + width + 4.0, middle + 0.62 * height],
            };
            if taken.free(&candidate) {
                if ring > 0 {
                    let edge = [at[0] + (radius + 2.0) * cos, at[1] + (radius + 2.0) * sin];
                    shapes.push(Shape::Line { from: edge, to: near, width: 1.0, colour, dashed: false });
                    taken.lines.push([edge, near]);
                }
                taken.boxes.push(candidate);
                shapes.push(words([left, middle + 0.36 * height], text, LABEL, dark, Anchor::Start));
                return;
            }
        }
    }
    // More points than room: the table has them all.
}
