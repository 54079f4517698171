//! A picture made of lines, discs, cells and words, as SVG or as PNG. The PNG is drawn here, dot by dot with
//! smooth edges, in letters of [`super::letters`]: the SVG leaves letters to whoever shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::canvas::Canvas;
pub use super::canvas::{At, Colour};
use super::letters;
use crate::error::Result;

/// Where a word stands from its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    /// Begins there.
    Start,
    /// Has its middle there.
    Middle,
    /// Ends there.
    End,
}

/// What a scene is made of.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A line.
    Line {
        /// One end.
        from: At,
        /// The other end.
        to: At,
        /// Width in pixels.
        width: f32,
        /// Color.
        colour: Colour,
        /// Whether it is dashed.
        dashed: bool,
    },
    /// A disc with a rim.
    Disc {
        /// Center.
        at: At,
        /// Radius in pixels, to the middle of the rim.
        radius: f32,
        /// Color inside.
        fill: Colour,
        /// Color of the rim.
        rim: Colour,
    },
    /// Rectangles row by row from the upper left corner.
    Cells {
        /// Upper left corner of the first.
        at: At,
        /// Pixels from one to the next, to the right and down.
        step: At,
        /// Pixels left free between two.
        gap: f32,
        /// Cells of a row.
        columns: usize,
        /// Color of each; `None` leaves one away.
        cells: Vec<Option<Colour>>,
    },
    /// Words on one line.
    Words {
        /// Their place on the baseline.
        at: At,
        /// What they say.
        text: String,
        /// Font size in pixels.
        size: f32,
        /// Color.
        colour: Colour,
        /// Where they stand from their place.
        anchor: Anchor,
        /// Degrees that they are turned by about their place, clockwise.
        angle: f32,
        /// Whether they are bold.
        bold: bool,
    },
}

/// A picture on white.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Columns of pixels.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// What is drawn, each over those before it.
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
    /// [`crate::Error::Write`] if it cannot be encoded.
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
