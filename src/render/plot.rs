//! A picture made of lines, discs, cells and words, as SVG or as PNG. The PNG is drawn here, dot by dot with
//! smooth edges, in letters of [`super::letters`]: the SVG leaves letters to whoever shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use image::{ExtendedColorType, ImageEncoder as _};

use super::letters;
use crate::error::{Error, Result};

/// Red, green, blue.
pub type Colour = [u8; 3];

/// A place in pixels from the upper left corner.
pub type At = [f32; 2];

/// Where a word stands from its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// What a scene is made of. Lengths and places are in pixels.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "a variant's line says what its fields are")]
pub enum Shape {
    /// A line from here to there.
    Line { from: At, to: At, width: f32, colour: Colour, dashed: bool },
    /// A disc with a rim.
    Disc { at: At, radius: f32, fill: Colour, rim: Colour },
    /// Rectangles row by row from the upper left corner, so many beside each other, `step` apart, with a gap
    /// between them; `None` leaves one away.
    Cells { at: At, step: At, gap: f32, columns: usize, cells: Vec<Option<Colour>> },
    /// Words on one line, turned by `angle` (degrees, clockwise) about their place on the baseline.
    Words { at: At, text: String, size: f32, colour: Colour, anchor: Anchor, angle: f32, bold: bool },
}

/// A picture on white.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What is drawn, the first at the bottom.
    pub shapes: Vec<Shape>,
}

/// Dots of the PNG for each pixel of the scene along a side.
const ZOOM: u32 = 2;

impl Scene {
    /// The picture as SVG.
    pub fn svg(&self) -> String {
        let mut out = String::new();
        let (w, h) = (self.width, self.height);
        let mut put = |line: String| {
            out.push_str(&line);
            out.push('\n');
        };
        put(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">"
        ));
        put(format!("<rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>"));
        for shape in &self.shapes {
            put(match shape {
                Shape::Line { from: [x1, y1], to: [x2, y2], width, colour, dashed } => {
                    let dashes = if *dashed { " stroke-dasharray=\"6 5\"" } else { "" };
                    format!(
                        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{}\" \
                         stroke-width=\"{width}\" stroke-linecap=\"round\"{dashes}/>",
                        hex(*colour)
                    )
                }
                Shape::Disc { at: [x, y], radius, fill, rim } => format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{}\" stroke=\"{}\" \
                     stroke-width=\"1.5\"/>",
                    hex(*fill),
                    hex(*rim)
                ),
                Shape::Cells { at, step, gap, columns, cells } => paths(*at, *step, *gap, *columns, cells),
                Shape::Words { at: [x, y], text, size, colour, anchor, angle, bold } => {
                    let anchor = match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    };
                    let mut more = String::new();
                    if *bold {
                        more.push_str(" font-weight=\"bold\"");
                    }
                    if *angle != 0.0 {
                        _ = write!(more, " transform=\"rotate({angle:.1} {x:.1} {y:.1})\"");
                    }
                    format!(
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{}\" \
                         text-anchor=\"{anchor}\"{more}>{}</text>",
                        hex(*colour),
                        escaped(text)
                    )
                }
            });
        }
        out.push_str("</svg>\n");
        out
    }

    /// The picture as PNG.
    ///
    /// # Errors
    /// [`Error::Write`] if it cannot be encoded.
    pub fn png(&self) -> Result<Vec<u8>> {
        let mut canvas = Canvas::new(self.width * ZOOM, self.height * ZOOM);
        let zoom = ZOOM as f32;
        let up = |[x, y]: At| [x * zoom, y * zoom];
        for shape in &self.shapes {
            match shape {
                Shape::Line { from, to, width, colour, dashed: false } => {
                    canvas.line(up(*from), up(*to), width * zoom, *colour);
                }
                Shape::Line { from, to, width, colour, .. } => {
                    for [a, b] in dashes(*from, *to) {
                        canvas.line(up(a), up(b), width * zoom, *colour);
                    }
                }
                Shape::Disc { at, radius, fill, rim } => {
                    canvas.disc(up(*at), (radius + 0.75) * zoom, *rim);
                    canvas.disc(up(*at), (radius - 0.75) * zoom, *fill);
                }
                Shape::Cells { at, step, gap, columns, cells } => {
                    for (i, colour) in cells.iter().enumerate() {
                        let Some(colour) = colour else { continue };
                        let [low, high] = cell(*at, *step, *gap, i % columns, i / columns);
                        canvas.area(up(low), up(high), *colour);
                    }
                }
                Shape::Words { at, text, size, colour, anchor, angle, bold } => {
                    let back = letters::width(text, *size)
                        * match anchor {
                            Anchor::Start => 0.0,
                            Anchor::Middle => 0.5,
                            Anchor::End => 1.0,
                        };
                    let (sin, cos) = angle.to_radians().sin_cos();
                    let place = |[x, y]: At| {
                        let x = x - back;
                        up([at[0] + x * cos - y * sin, at[1] + x * sin + y * cos])
                    };
                    let pen = size * if *bold { 0.13 } else { 0.085 } * zoom;
                    for stroke in letters::strokes(text, *size) {
                        for pair in stroke.windows(2) {
                            canvas.line(place(pair[0]), place(pair[1]), pen, *colour);
                        }
                    }
                }
            }
        }
        canvas.png()
    }
}

/// Two corners of a cell.
fn cell(at: At, step: At, gap: f32, column: usize, row: usize) -> [At; 2] {
    let low = [at[0] + column as f32 * step[0], at[1] + row as f32 * step[1]];
    [low, [low[0] + step[0] - gap, low[1] + step[1] - gap]]
}

/// Cells as SVG: one path for each colour, and where there is no gap one rectangle for a run of cells.
fn paths(at: At, step: At, gap: f32, columns: usize, cells: &[Option<Colour>]) -> String {
    let mut paths: BTreeMap<Colour, String> = BTreeMap::new();
    for (row, line) in cells.chunks(columns.max(1)).enumerate() {
        let mut column = 0;
        while column < line.len() {
            let same = line[column..].iter().take_while(|c| **c == line[column]).count();
            let run = if gap > 0.0 { 1 } else { same };
            if let Some(colour) = line[column] {
                let [[x, y], _] = cell(at, step, gap, column, row);
                let (w, h) = (step[0] * run as f32 - gap, step[1] - gap);
                let path = paths.entry(colour).or_default();
                _ = write!(path, "M{} {}h{}v{}h-{}z", short(x), short(y), short(w), short(h), short(w));
            }
            column += run;
        }
    }
    let edges = if gap > 0.0 { "" } else { " shape-rendering=\"crispEdges\"" };
    let path =
        |(colour, d): (&Colour, &String)| format!("<path fill=\"{}\"{edges} d=\"{d}\"/>", hex(*colour));
    paths.iter().map(path).collect::<Vec<_>>().join("\n")
}

/// A number of pixels in tenths.
fn short(x: f32) -> String {
    ((x * 10.0).round() / 10.0).to_string()
}

/// The drawn parts of a dashed line.
fn dashes([x0, y0]: At, [x1, y1]: At) -> Vec<[At; 2]> {
    let length = (x1 - x0).hypot(y1 - y0).max(1e-3);
    let at = |d: f32| [x0 + (x1 - x0) * d / length, y0 + (y1 - y0) * d / length];
    let starts = (0..).map(|i| i as f32 * 11.0).take_while(|d| *d < length);
    starts.map(|d| [at(d), at((d + 6.0).min(length))]).collect()
}

fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text as XML takes it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() => out.push(' '),
            // No characters of XML.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Dots, and how to draw on them: each covers what lies beneath by how much of it is covered.
struct Canvas {
    width: u32,
    height: u32,
    dots: Vec<u8>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        Self { width, height, dots: vec![255; (width * height * 3) as usize] }
    }

    fn line(&mut self, [x0, y0]: At, [x1, y1]: At, width: f32, colour: Colour) {
        let (dx, dy) = (x1 - x0, y1 - y0);
        let square = (dx * dx + dy * dy).max(1e-9);
        let distance = |x: f32, y: f32| {
            let along = (((x - x0) * dx + (y - y0) * dy) / square).clamp(0.0, 1.0);
            (x - x0 - along * dx).hypot(y - y0 - along * dy)
        };
        let reach = width / 2.0 + 1.0;
        let low = [x0.min(x1) - reach, y0.min(y1) - reach];
        let high = [x0.max(x1) + reach, y0.max(y1) + reach];
        self.cover(low, high, colour, |x, y| width / 2.0 + 0.5 - distance(x, y));
    }

    fn disc(&mut self, [cx, cy]: At, radius: f32, colour: Colour) {
        let reach = radius + 1.0;
        self.cover([cx - reach, cy - reach], [cx + reach, cy + reach], colour, |x, y| {
            radius + 0.5 - (x - cx).hypot(y - cy)
        });
    }

    fn area(&mut self, low: At, high: At, colour: Colour) {
        // How much of a dot lies inside, along a side.
        let part = |v: f32, k: usize| ((v + 0.5).min(high[k]) - (v - 0.5).max(low[k])).clamp(0.0, 1.0);
        self.cover(low, high, colour, |x, y| part(x, 0) * part(y, 1));
    }

    fn cover(&mut self, low: At, high: At, colour: Colour, covered: impl Fn(f32, f32) -> f32) {
        let clip = |v: f32, most: u32| v.clamp(0.0, most as f32) as u32;
        let (left, right) = (clip(low[0], self.width), clip(high[0] + 1.0, self.width));
        let (top, bottom) = (clip(low[1], self.height), clip(high[1] + 1.0, self.height));
        for y in top..bottom {
            for x in left..right {
                let part = covered(x as f32 + 0.5, y as f32 + 0.5).clamp(0.0, 1.0);
                if part > 0.0 {
                    let at = ((y * self.width + x) * 3) as usize;
                    for (dot, new) in self.dots[at..at + 3].iter_mut().zip(colour) {
                        *dot = (f32::from(*dot) * (1.0 - part) + f32::from(new) * part).round() as u8;
                    }
                }
            }
        }
    }

    fn png(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut out);
        let encoded = encoder.write_image(&self.dots, self.width, self.height, ExtendedColorType::Rgb8);
        encoded.map_err(|e| Error::Write { path: "the picture".to_owned(), what: e.to_string() })?;
        Ok(out)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_there_in_both_forms() {
        let words = |text: &str| Shape::Words {
            at: [10.0, 60.0],
            text: text.to_owned(),
            size: 14.0,
            colour: [0, 0, 200],
            anchor: Anchor::Start,
            angle: 0.0,
            bold: false,
        };
        let scene = Scene {
            width: 100,
            height: 80,
            shapes: vec![
                Shape::Line {
                    from: [0.0, 10.0],
                    to: [99.0, 10.0],
                    width: 3.0,
                    colour: [255, 0, 0],
                    dashed: false,
                },
                Shape::Disc { at: [50.0, 40.0], radius: 8.0, fill: [0, 160, 0], rim: [0, 0, 0] },
                words("a<b & c"),
                Shape::Cells {
                    at: [70.0, 20.0],
                    step: [10.0, 10.0],
                    gap: 2.0,
                    columns: 2,
                    cells: vec![Some([9, 9, 9]), None, Some([9, 9, 9]), Some([1, 2, 3])],
                },
            ],
        };
        assert!(scene.svg().contains("a&lt;b &amp; c"));
        let picture = image::load_from_memory(&scene.png().unwrap()).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (200, 160));
        assert_eq!(picture.get_pixel(100, 20).0, [255, 0, 0]);
        assert_eq!(picture.get_pixel(100, 80).0, [0, 160, 0]);
        assert!(scene.svg().contains("<path fill=\"#090909\" d=\"M70 20h8v8h-8zM70 30h8v8h-8z\"/>"));
        assert_eq!(picture.get_pixel(148, 48).0, [9, 9, 9]);
        assert_eq!(picture.get_pixel(157, 48).0, [255, 255, 255], "a gap, and a hole behind it");
        assert_eq!(picture.get_pixel(172, 72).0, [1, 2, 3]);
        assert!(picture.pixels().filter(|p| p.0[2] > p.0[0].saturating_add(60)).count() > 50, "letters");
        // Nothing outside the picture disturbs it.
        let far = Scene {
            shapes: vec![Shape::Disc { at: [-9e3, 9e3], radius: 5.0, fill: [0; 3], rim: [0; 3] }],
            ..scene
        };
        assert!(far.png().is_ok());
        let row = vec![Some([0; 3]), Some([0; 3]), Some([1; 3]), Some([0; 3])];
        let runs = paths([0.0; 2], [1.5, 2.0], 0.0, 4, &row);
        assert!(runs.contains("d=\"M0 0h3v2h-3zM4.5 0h1.5v2h-1.5z\""), "{runs}");
    }
}
