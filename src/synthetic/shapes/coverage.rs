//! How much of each pixel a shape covers, by counting samples: a square grid of them in each pixel.

use super::geometry::{Point, Polygon};

/// Coverage 0..1 (side, side) of what is inside of an odd number of the polygons. `polygons` in pixels;
/// `oversampling` samples, 1 to 4, along each side of a pixel: 1 is no antialiasing.
pub(super) fn filled(polygons: &[Polygon], side: usize, oversampling: usize) -> Vec<f32> {
    let mut samples = Samples::new(side, oversampling);
    let mut crossings = vec![Vec::new(); samples.lines];
    for [a, b] in edges(polygons, samples.oversampling) {
        let slope = (b[0] - a[0]) / (b[1] - a[1]);
        // Every line belongs to one of two edges that meet there, so crossings come in pairs.
        for line in samples.within(a[1].min(b[1]), a[1].max(b[1])) {
            crossings[line].push(a[0] + (line as f64 + 0.5 - a[1]) * slope);
        }
    }
    for (line, crossings) in crossings.iter_mut().enumerate() {
        crossings.sort_unstable_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            samples.mark(line, pair[0], pair[1]);
        }
    }
    samples.means()
}

/// Coverage 0..1 (side, side) of a line of `width` pixels along the polygons' edges, with round joints. No
/// line is thinner than a sample.
pub(super) fn bordered(polygons: &[Polygon], side: usize, oversampling: usize, width: f64) -> Vec<f32> {
    let mut samples = Samples::new(side, oversampling);
    let radius = (width * samples.oversampling as f64).round().max(1.0) / 2.0;
    for [a, b] in edges(polygons, samples.oversampling) {
        let length = (b[0] - a[0]).hypot(b[1] - a[1]);
        let normal = [(a[1] - b[1]) * radius / length, (b[0] - a[0]) * radius / length];
        for line in samples.within(a[1].min(b[1]) - radius, a[1].max(b[1]) + radius) {
            let y = line as f64 + 0.5;
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            // The stroke is convex: its part of a line runs between the outermost of its discs and sides.
            for end in [a, b] {
                // NaN where the line misses the disc; `min` and `max` pass over that.
                let reach = (radius * radius - (y - end[1]) * (y - end[1])).sqrt();
                (low, high) = (low.min(end[0] - reach), high.max(end[0] + reach));
            }
            for side in [1.0, -1.0] {
                let part = (y - a[1] - side * normal[1]) / (b[1] - a[1]);
                if (0.0..=1.0).contains(&part) {
                    let x = a[0] + side * normal[0] + part * (b[0] - a[0]);
                    (low, high) = (low.min(x), high.max(x));
                }
            }
            samples.mark(line, low, high);
        }
    }
    samples.means()
}

/// The edges of closed polygons, in samples.
fn edges(polygons: &[Polygon], oversampling: usize) -> impl Iterator<Item = [Point; 2]> {
    let ends = |polygon: &Polygon| {
        let next = polygon.iter().skip(1).chain(polygon.first()).copied().collect::<Vec<_>>();
        polygon.clone().into_iter().zip(next)
    };
    polygons.iter().flat_map(ends).map(move |(a, b)| [a, b].map(|p| p.map(|at| at * oversampling as f64)))
}

/// The samples of a picture, 1 where a shape is.
struct Samples {
    oversampling: usize,
    /// Rows, and samples of a row.
    lines: usize,
    marks: Vec<u8>,
}

impl Samples {
    fn new(side: usize, oversampling: usize) -> Self {
        let oversampling = oversampling.clamp(1, 4);
        let lines = side * oversampling;
        Self { oversampling, lines, marks: vec![0; lines * lines] }
    }

    /// The samples whose centres lie in [low, high), along one axis.
    fn within(&self, low: f64, high: f64) -> std::ops::Range<usize> {
        // Casts of floats saturate, and take NaN for 0.
        let [start, end] = [low, high].map(|at| ((at - 0.5).ceil() as usize).min(self.lines));
        start..end.max(start)
    }

    fn mark(&mut self, line: usize, low: f64, high: f64) {
        let range = self.within(low, high);
        self.marks[line * self.lines..][range].fill(1);
    }

    /// The part of each pixel's samples that are marked.
    fn means(&self) -> Vec<f32> {
        match self.oversampling {
            1 => self.means_of::<1>(),
            2 => self.means_of::<2>(),
            3 => self.means_of::<3>(),
            _ => self.means_of::<4>(),
        }
    }

    fn means_of<const N: usize>(&self) -> Vec<f32> {
        let scale = 1.0 / (N * N) as f32;
        let mut sums = vec![0u8; self.lines];
        let mut means = Vec::with_capacity(self.marks.len() / (N * N));
        for rows in self.marks.chunks_exact(self.lines * N) {
            sums.fill(0);
            for row in rows.chunks_exact(self.lines) {
                sums.iter_mut().zip(row).for_each(|(sum, mark)| *sum += mark);
            }
            let (pixels, _) = sums.as_chunks::<N>();
            means.extend(pixels.iter().map(|sums| f32::from(sums.iter().sum::<u8>()) * scale));
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: [Point; 4] = [[1.0, 1.0], [3.5, 1.0], [3.5, 3.0], [1.0, 3.0]];

    #[test]
    fn a_rectangle_with_a_hole_covers_what_it_should() {
        let hole = vec![[2.0, 1.5], [3.0, 1.5], [3.0, 2.5], [2.0, 2.5]];
        let got = filled(&[SQUARE.to_vec(), hole], 4, 4);
        let want = [
            [0.0, 0.0, 0.0, 0.0], //
            [0.0, 1.0, 0.5, 0.5],
            [0.0, 1.0, 0.5, 0.5],
            [0.0, 0.0, 0.0, 0.0],
        ];
        assert_eq!(got, want.concat());
    }

    #[test]
    fn without_antialiasing_pixels_are_whole() {
        let triangle = [vec![[0.2, 0.3], [7.7, 2.1], [3.3, 7.6]]];
        let (hard, soft) = (filled(&triangle, 8, 1), filled(&triangle, 8, 4));
        assert!(hard.iter().all(|&c| c == 0.0 || c == 1.0));
        assert!(soft.iter().any(|&c| c > 0.0 && c < 1.0));
        // Half of the cross product of two edges.
        let area: f32 = (7.5 * 7.3 - 1.8 * 3.1) / 2.0;
        assert!((soft.iter().sum::<f32>() - area).abs() < 0.3);
        assert!((hard.iter().sum::<f32>() - area).abs() < 2.0);
    }

    #[test]
    fn a_border_is_as_wide_as_asked_and_round_at_the_corners() {
        let square = vec![[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]];
        let line = bordered(&[square], 40, 4, 4.0);
        // Both sides of four edges, quarter discs outside of the corners, squares inside of them.
        let want = 4.0 * 20.0 * 4.0 - 4.0 * 4.0 + 4.0 * std::f32::consts::PI;
        assert!((line.iter().sum::<f32>() - want).abs() < 1.0, "{} {want}", line.iter().sum::<f32>());
        assert_eq!(
            [line[20 * 40 + 8], line[20 * 40 + 11], line[20 * 40 + 12], line[20 * 40 + 7]],
            [1.0, 1.0, 0.0, 0.0]
        );
        assert_eq!(line[8 * 40 + 20], 1.0);
        assert!(line[8 * 40 + 8] < 1.0);
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let all = filled(&[vec![[-5.0, -5.0], [9.0, -5.0], [9.0, 9.0], [-5.0, 9.0]]], 4, 2);
        assert_eq!(all, [1.0; 16]);
        assert_eq!(filled(&[vec![], vec![[1.0, 1.0]]], 2, 2), [0.0; 4]);
        assert!(
            bordered(&[vec![[1.0, 1.0]], vec![[f64::NAN; 2]; 3]], 2, 2, 1.0).iter().all(|c| c.is_finite())
        );
    }
}
