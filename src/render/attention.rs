//! Attention as an image: a square for each pair of tokens, darker with its weight, hatched where
//! the architecture lets nothing through. SVG and PNG come from the same drawing.

use serde::Serialize;

use crate::printable::escaped;
use crate::render::letters;
use crate::render::plot::{Anchor, At, Colour, Scene, Shape};
use crate::text::Look;

/// One image of weights.
#[derive(Debug, Serialize)]
pub struct Panel {
    /// Which attention it is: `image`, or one of a text's ([`Look`]).
    #[serde(rename = "look")]
    pub name: &'static str,
    /// The same in words, for its heading.
    #[serde(skip)]
    pub about: &'static str,
    /// Whether a token sees only those before it and itself.
    pub causal: bool,
    /// Layers that the weights are the mean of.
    pub layers: Vec<usize>,
    /// The tokens that look, one a row.
    pub queries: Vec<String>,
    /// The tokens looked at, one a column.
    pub keys: Vec<String>,
    /// A row for each query.
    pub weights: Vec<Vec<f32>>,
    /// Heads of a layer.
    #[serde(skip)]
    pub heads: usize,
}

impl Panel {
    /// Whether the architecture lets a query see a key, both by position.
    pub fn open(&self, query: usize, key: usize) -> bool {
        !self.causal || Look::Decoder.open(query, key)
    }

    /// Whether any cell is closed.
    pub fn closes(&self) -> bool {
        self.causal && self.queries.len() > 1
    }
}

const INK: Colour = [34, 39, 46];
const GREY: Colour = [97, 105, 116];
/// Lines between cells.
const LINES: Colour = [214, 219, 226];
/// From no weight to the most.
const WEIGHTS: [[f32; 3]; 3] = [[255.0, 255.0, 255.0], [92.0, 160.0, 209.0], [8.0, 48.0, 107.0]];
/// Steps between colours: few enough that equal ones share a path.
const STEPS: f32 = 48.0;
/// Cells that the architecture closes, and their hatching.
const CLOSED: Colour = [232, 226, 216];
const HATCH: Colour = [186, 174, 156];

/// Sides of the largest and the smallest cell, and of the panel that they should fill.
const CELLS: [f32; 2] = [26.0, 1.0];
const PANEL: f32 = 900.0;
/// Cells from this side on have lines between them; from the other on, hatching.
const LINED: f32 = 6.0;
const HATCHED: f32 = 8.0;
/// Size of labels, and of those of small cells.
const LABELS: [f32; 2] = [12.0, 9.0];
/// Most characters of a label.
const LABEL: usize = 16;
const MARGIN: f32 = 20.0;
/// Between panels, and between a label and its cell.
const APART: f32 = 34.0;
const NEAR: f32 = 6.0;
/// Height of the title and the line below it; of a panel's name; of the legend.
const TITLE: f32 = 66.0;
const NAME: f32 = 44.0;
const LEGEND: f32 = 64.0;

/// Where a panel's parts are.
struct Place {
    /// Upper left corner of the cells.
    cells: At,
    /// Left end of the panel.
    left: f32,
    side: f32,
    label: f32,
}

/// Draws panels side by side.
pub fn draw(title: &str, about: &str, panels: &[Panel]) -> Scene {
    let longest = panels.iter().map(|p| p.queries.len().max(p.keys.len())).max().unwrap_or(1);
    let side = (PANEL / longest as f32).floor().clamp(CELLS[1], CELLS[0]);
    let label = if side >= 12.0 { LABELS[0] } else { LABELS[1] };
    let widest = |tokens: &[String]| {
        tokens.iter().map(|t| letters::width(&short(t), label) * 1.08).fold(0.0, f32::max)
    };
    let above = panels.iter().map(|p| widest(&p.keys)).fold(0.0, f32::max);
    let top = TITLE + NAME + above + NEAR;
    let most = panels.iter().flat_map(|p| p.weights.iter().flatten()).copied().fold(0.0, f32::max);

    let (title, about) = (escaped(title), escaped(about));
    let mut shapes = vec![
        words([MARGIN, 32.0], title.clone(), 17.0, INK, true),
        words([MARGIN, 52.0], about.clone(), 12.0, GREY, false),
    ];
    let (mut left, mut bottom) = (MARGIN, top);
    let mut width = letters::width(&title, 17.0).max(letters::width(&about, 12.0)) * 1.08 + 2.0 * MARGIN;
    for panel in panels {
        let place = Place { cells: [left + widest(&panel.queries) + NEAR, top], left, side, label };
        panel_shapes(panel, &place, most, &mut shapes);
        let right = place.cells[0] + panel.keys.len() as f32 * side;
        let named = left + letters::width(panel.name, 14.0).max(letters::width(panel.about, 11.0)) * 1.08;
        bottom = bottom.max(top + panel.queries.len() as f32 * side);
        left = right.max(named) + APART;
    }
    width = width.max(left - APART + MARGIN);
    legend([MARGIN, bottom + 24.0], most, panels, &mut shapes);
    width = width.max(MARGIN * 2.0 + 470.0);
    Scene { width: width.ceil() as u32, height: (bottom + LEGEND).ceil() as u32, shapes }
}

fn panel_shapes(panel: &Panel, place: &Place, most: f32, shapes: &mut Vec<Shape>) {
    let ([x, y], side) = (place.cells, place.side);
    let (rows, columns) = (panel.queries.len(), panel.keys.len());
    shapes.push(words([place.left, TITLE + 16.0], panel.name.to_owned(), 14.0, INK, true));
    shapes.push(words([place.left, TITLE + 32.0], panel.about.to_owned(), 11.0, GREY, false));
    // As many labels as there is room for.
    let every = (place.label * 1.05 / side).ceil().max(1.0) as usize;
    for (i, token) in panel.queries.iter().enumerate().step_by(every) {
        let middle = y + (i as f32 + 0.5) * side + place.label * 0.33;
        shapes.push(label([x - NEAR, middle], token, place.label, Anchor::End, 0.0));
    }
    for (i, token) in panel.keys.iter().enumerate().step_by(every) {
        let middle = x + (i as f32 + 0.5) * side + place.label * 0.33;
        shapes.push(label([middle, y - NEAR], token, place.label, Anchor::Start, -90.0));
    }
    let gap = if side >= LINED { 1.0 } else { 0.0 };
    // What shows between the cells.
    shapes.push(Shape::Cells {
        at: [x - 1.0, y - 1.0],
        step: [columns as f32 * side + 2.0 - gap, rows as f32 * side + 2.0 - gap],
        gap: 0.0,
        columns: 1,
        cells: vec![Some(LINES)],
    });
    let open = |i: usize| panel.open(i / columns, i % columns);
    let cell = |(i, &w): (usize, &f32)| Some(if open(i) { colour(w, most) } else { CLOSED });
    let cells = panel.weights.iter().flatten().enumerate().map(cell).collect();
    shapes.push(Shape::Cells { at: [x, y], step: [side, side], gap, columns, cells });
    if side >= HATCHED {
        for i in (0..rows * columns).filter(|&i| !open(i)) {
            let corner = [x + (i % columns) as f32 * side, y + (i / columns) as f32 * side];
            shapes.push(hatch(corner, side));
        }
    }
}

fn hatch([x, y]: At, side: f32) -> Shape {
    let (near, far) = (side * 0.2, side * 0.8 - 1.0);
    Shape::Line {
        from: [x + near, y + far],
        to: [x + far, y + near],
        width: 1.0,
        colour: HATCH,
        dashed: false,
    }
}

fn legend([x, y]: At, most: f32, panels: &[Panel], shapes: &mut Vec<Shape>) {
    const BAR: usize = 48;
    let step = [3.0, 14.0];
    let at = |i: usize| ((i as f32 + 0.5) / BAR as f32).powi(2) * most;
    let cells = (0..BAR).map(|i| Some(colour(at(i), most))).collect();
    let right = x + BAR as f32 * step[0];
    let edge = [x - 1.0, y - 1.0];
    let rim = [right - x + 2.0, step[1] + 2.0];
    shapes.push(Shape::Cells { at: edge, step: rim, gap: 0.0, columns: 1, cells: vec![Some(LINES)] });
    shapes.push(Shape::Cells { at: [x, y], step, gap: 0.0, columns: BAR, cells });
    for (part, place) in [(0.0, x), (0.25, f32::midpoint(x, right)), (1.0, right)] {
        let text = if part == 0.0 { "0".to_owned() } else { number(part * most) };
        shapes.push(label([place, y + step[1] + 14.0], &text, 11.0, Anchor::Middle, 0.0));
    }
    shapes.push(words([right + 14.0, y + 11.0], "weight".to_owned(), 12.0, INK, false));
    if panels.iter().any(Panel::closes) {
        let x = right + 90.0;
        let closed = vec![Some(CLOSED)];
        shapes.push(Shape::Cells { at: [x, y], step: [14.0, 14.0], gap: 0.0, columns: 1, cells: closed });
        shapes.push(hatch([x, y], 14.0));
        let text = "closed by the architecture, weight 0".to_owned();
        shapes.push(words([x + 22.0, y + 11.0], text, 12.0, INK, false));
    }
}

/// Two digits that count.
fn number(x: f32) -> String {
    let digits = (1.0 - x.max(1e-6).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The square root of the weight, so that small ones are seen beside the largest.
fn colour(weight: f32, most: f32) -> Colour {
    let part = (weight / most.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0).sqrt();
    let at = (part * STEPS).round() / STEPS * (WEIGHTS.len() - 1) as f32;
    let i = (at as usize).min(WEIGHTS.len() - 2);
    let t = at - i as f32;
    std::array::from_fn(|c| (WEIGHTS[i][c] * (1.0 - t) + WEIGHTS[i + 1][c] * t).round() as u8)
}

fn words(at: At, text: String, size: f32, colour: Colour, bold: bool) -> Shape {
    Shape::Words { at, text, size, colour, anchor: Anchor::Start, angle: 0.0, bold }
}

fn label(at: At, token: &str, size: f32, anchor: Anchor, angle: f32) -> Shape {
    Shape::Words { at, text: short(token), size, colour: INK, anchor, angle, bold: false }
}

/// A token on one line of bounded length, without what could change how its neighbours are shown.
pub fn short(token: &str) -> String {
    let text = escaped(token);
    match text.char_indices().nth(LABEL) {
        Some(_) => text.chars().take(LABEL - 1).chain(['…']).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_numbers_too() {
        assert_eq!(short("a\nb"), "a\\nb");
        assert_eq!(short(&"ä".repeat(17)), format!("{}…", "ä".repeat(15)));
        assert_eq!(short(&"ä".repeat(16)), "ä".repeat(16));
        assert_eq!(
            [1.0, 0.25, 0.0626, 0.5, 0.00123].map(number),
            ["1", "0.25", "0.063", "0.5", "0.0012"].map(str::to_owned)
        );
    }

    #[test]
    fn colours_darken_with_the_weight() {
        let light = |w: f32| colour(w, 0.5).map(u32::from).iter().sum::<u32>();
        assert_eq!((colour(0.0, 0.5), colour(0.5, 0.5)), ([255; 3], [8, 48, 107]));
        assert!(light(0.01) > light(0.1) && light(0.1) > light(0.3));
        assert_eq!(colour(0.0, 0.0), [255; 3], "an image without weights");
    }
}
